/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bind client: asks gpupool-bind (bind/bind-protocol.h), without ever waiting for it. One question about a GPU at a
 * time; those about several GPUs go side by side, so that one that hangs holds up no other. A question that is not
 * answered in time is told as overdue and stays: its process may hang in the kernel, and until that is over the device
 * is in nobody's hands. */

#include <systemd/sd-event.h>

#include "core/bind.h"
#include "util/cleanup.h"

typedef struct BindClient BindClient;

typedef struct BindEvents {
        /* What came of it, late or in time. @sentence: printable, NULL: none. */
        void (*answered)(void *userdata, PciAddress gpu, BindVerb verb, BindResult result, const char *sentence);
        /* Once for a question: its time is over. */
        void (*overdue)(void *userdata, PciAddress gpu, BindVerb verb);
} BindEvents;

/* Texts are copied. No callback runs before the loop does. 0 or -errno. */
int bind_client_new(BindClient **ret, sd_event *event, const char *socket, uint64_t deadline_us,
                    const BindEvents *events, void *userdata);
BindClient *bind_client_free(BindClient *client);
DEFINE_CLEANUP(BindClient *, bind_client_free);

/* @card: of take, which one is meant. @functions: the GPU first. 0; -EBUSY: something is asked about this GPU already;
 * or -ENOMEM. Where gpupool-bind is not there, BIND_UNAVAILABLE is answered. */
int bind_client_ask(BindClient *client, BindVerb verb, const GpuIdentity *card, const PciAddress *functions, size_t n);

/* Reads a whole answer; bytes may be anything. What is none is BIND_UNAVAILABLE. *ret_sentence is printable, or NULL:
 * none. 0 or -ENOMEM. */
int bind_answer_parse(const char *text, size_t size, BindResult *ret, char **ret_sentence);
