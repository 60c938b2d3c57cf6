/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Tried: a method that makes a job is only tried (--dry-run), and its job has ended with what it would do. */

#include "ctl/request.h"

/* Sends @request so, and shows the answer; @nothing: where nobody would move. Waits: one would have to stay. */
Status tried_show(Ctl *ctl, Request *request, const Objects *objects, const char *nothing);
