/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Answers: the calls of other nodes, and what this node answers: as the leader from its own engine, else by asking the
 * leader for one that cannot reach it. */

#include "daemon/history.h"

typedef struct Asked Asked;

typedef struct Answers {
        PeerNet *net;                   /* borrowed; NULL: there is none at present */
        History *history;
        Calls *calls;
        Asked *asked;
        size_t n_asked;
} Answers;

/* Forgets all; nobody is answered. */
void answers_clear(Answers *answers);

/* Is it a call that a node in its senses makes? Nothing of it is trusted. */
bool answers_may_ask(const NodeId *from, const Gpupool1__Call *call);

void answers_asked(Answers *answers, const NodeId *from, const Gpupool1__Call *call);
/* Nobody is there any more to be answered. */
void answers_lost(Answers *answers, const NodeId *node);
