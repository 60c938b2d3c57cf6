/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the verbs of "vm" share. */

#include "ctl/request.h"

Status vm_load(Ctl *ctl, const char *typed, Objects **ret_objects, const VmObject **ret_vm);

/* With --json the VM as it is after a change. */
Status vm_answer_changed(Ctl *ctl, const char *path);
