/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Beats: what each connected peer said last of itself: its term, who leads, how far it is. From that follows whom to
 * ask when something is to be decided. */

#include "core/id.h"
#include "peer.pb-c.h"
#include "util/array.h"

typedef struct HeardBeat {
        NodeId node;
        uint64_t term;
        NodeId leader;                  /* null: it knows none */
        bool ready;                     /* it is that leader and takes writes */
        bool hears_leader;              /* it is, or is connected with, a leader that is ready */
        bool member;
        uint64_t committed;
        uint64_t applied;
} HeardBeat;

typedef struct Beats {
        ARRAY(HeardBeat) all;           /* of connected peers, by node */
} Beats;

void beats_clear(Beats *beats);
/* Keeps what @beat says. 1 if others may see a difference (who leads, who may be followed), 0 if not, -EBADMSG for what
 * no peer says, or -ENOMEM. */
int beats_note(Beats *beats, const NodeId *node, const Gpupool1__Beat *beat);
void beats_forget(Beats *beats, const NodeId *node);
const HeardBeat *beats_find(const Beats *beats, const NodeId *node);

/* May this node lead, by what the asker knows? Else what is said of its lead does not count. */
typedef bool (*BeatsFit)(const NodeId *leader, void *userdata);

/* Of the peers that say "I lead and take writes" the one with the newest term, or NULL. */
const HeardBeat *beats_leader(const Beats *beats, BeatsFit fits, void *userdata);
/* Of those that hear a leader the one with the newest term: through it the leader can be asked. Or NULL. */
const HeardBeat *beats_way_to_leader(const Beats *beats, BeatsFit fits, void *userdata);
/* The greatest index that anybody knows to be committed; 0: nobody said. */
uint64_t beats_committed(const Beats *beats);
