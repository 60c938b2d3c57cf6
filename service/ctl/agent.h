/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Agent: polkit's question for a password, on the terminal where gpupoolctl runs. Like systemctl: pkttyagent is started
 * before the first call that polkit decides, if a person sits there and is not root, and ended with the program. */

#include <stdbool.h>
#include <sys/types.h>

typedef struct Agent {
        bool tried;
        pid_t pid;              /* 0: none runs */
} Agent;

/* Starts it, once, and waits until it listens. Does nothing where no one could answer or it is not installed. */
void agent_open(Agent *agent);
void agent_close(Agent *agent);
