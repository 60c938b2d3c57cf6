/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as a frame of a member, up to where the daemon acts on it: calls and the entries in them, beats, the peers
 * that an answer to a request to join names. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/peer/frame.h"
#include "daemon/answers.h"
#include "daemon/beats.h"
#include "daemon/peers-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_peers(const Gpupool1__JoinAnswer *answer) {
        PeersFile file = {};
        for (size_t i = 0; i < answer->n_peers; i++) {
                size_t before = file.peers.n;
                int r = peers_file_add(&file, answer->peers[i]);
                assert((r == 0) == (file.peers.n == before + 1));
        }
        peers_file_clear(&file);
}

static bool anybody(const NodeId *leader, void *userdata) {
        return true;
}

static void take_beat(const NodeId *from, const Gpupool1__Beat *beat) {
        Beats beats = {};
        (void) beats_note(&beats, from, beat);
        const HeardBeat *leader = beats_leader(&beats, anybody, NULL);
        assert(!leader || ID_EQUAL(&leader->leader, from));
        beats_clear(&beats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NodeId from = { .bytes = { 1 } };
        Gpupool1__Frame *frame = NULL;
        if (frame_decode(data, size, &frame) != FRAME_GOOD)
                return 0;
        if (frame->body_case == GPUPOOL1__FRAME__BODY_CALL)
                (void) answers_may_ask(&from, frame->call);
        if (frame->body_case == GPUPOOL1__FRAME__BODY_BEAT)
                take_beat(&from, frame->beat);
        if (frame->body_case == GPUPOOL1__FRAME__BODY_JOIN_ANSWER)
                take_peers(frame->join_answer);
        frame_free(frame);
        return 0;
}
