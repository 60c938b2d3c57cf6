/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Holder: what to do about a process of the host that has a GPU open, by its name. */

/* @name: as the kernel has it, cut after 15 bytes; or NULL. NULL: nothing better is known than to end it. */
const char *holder_remedy(const char *name);
