/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Worker: one thread with one connection to libvirt, which makes one call at a time. The loop gives it calls and hears
 * the answers through the exchange. When the loop leaves it, it ends as soon as it is back from libvirt, takes back a
 * start that came true meanwhile, and says MESSAGE_RETURNED. */

#include "adapters/libvirt/calls.h"

typedef struct Worker Worker;

/* @watches: its connection follows events. Returns 0 or a negative errno. */
int worker_new(Worker **ret, Exchange *exchange, const char *uri, uint64_t number, bool watches);

/* To an idle worker only. Takes over what @call owns. */
void worker_give(Worker *worker, uint64_t request, Call *call);

/* @worker is the thread's alone from now on. */
void worker_leave(Worker *worker);

/* A detached thread that takes no signals. 0 or a negative errno. */
int worker_start_thread(void *(*run)(void *), void *userdata);
