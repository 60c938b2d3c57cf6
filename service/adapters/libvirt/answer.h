/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Answer: what a thread brings back from libvirt. Owned by whoever has it; the loop lends it to a callback. */

#include "adapters/libvirt/hypervisor.h"

typedef struct Answer {
        HypervisorResult result;
        char *sentence;
        pid_t pid;
        int pidfd;                      /* -1: none */
        char *xml;                      /* CPUS */
        HypervisorDomain *domains;
        size_t n_domains;
} Answer;

#define ANSWER_NONE ((Answer) { .pidfd = -1 })

void answer_clear(Answer *answer);      /* back to ANSWER_NONE */

/* @sentence is copied. Keeps nothing of what the answer was before. */
void answer_set(Answer *answer, HypervisorResult result, const char *sentence);
