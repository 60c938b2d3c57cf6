/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/beats.h"

#include <errno.h>

void beats_clear(Beats *beats) {
        array_clear(&beats->all);
}

static int compare(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const HeardBeat *) item)->node);
}

static bool same_to_others(const HeardBeat *a, const HeardBeat *b) {
        return a->term == b->term && ID_EQUAL(&a->leader, &b->leader) && a->ready == b->ready &&
               a->hears_leader == b->hears_leader && a->member == b->member;
}

int beats_note(Beats *beats, const NodeId *node, const Gpupool1__Beat *beat) {
        if (beat->leader.len != 0 && beat->leader.len != ID_SIZE)
                return -EBADMSG;
        HeardBeat heard = { .node = *node, .term = beat->term, .ready = beat->ready, .member = beat->member,
                            .hears_leader = beat->ready || beat->hears_leader, .committed = beat->committed,
                            .applied = beat->applied };
        if (beat->leader.len == ID_SIZE)
                memcpy(heard.leader.bytes, beat->leader.data, ID_SIZE);
        if (heard.ready && !ID_EQUAL(&heard.leader, node))
                return -EBADMSG;

        size_t i;
        if (!array_find(&beats->all, node, compare, &i)) {
                int r = array_insert(&beats->all, i, &heard);
                return r < 0 ? r : 1;
        }
        bool same = same_to_others(beats->all.items + i, &heard);
        beats->all.items[i] = heard;
        return !same;
}

void beats_forget(Beats *beats, const NodeId *node) {
        size_t i;
        if (array_find(&beats->all, node, compare, &i))
                array_remove(&beats->all, i);
}

const HeardBeat *beats_find(const Beats *beats, const NodeId *node) {
        size_t i;
        return array_find(&beats->all, node, compare, &i) ? beats->all.items + i : NULL;
}

const HeardBeat *beats_leader(const Beats *beats, BeatsFit fits, void *userdata) {
        const HeardBeat *best = NULL;
        ARRAY_EACH(heard, &beats->all)
                if (heard->ready && fits(&heard->leader, userdata) && (!best || heard->term > best->term))
                        best = heard;
        return best;
}

const HeardBeat *beats_way_to_leader(const Beats *beats, BeatsFit fits, void *userdata) {
        const HeardBeat *best = NULL;
        ARRAY_EACH(heard, &beats->all)
                if (heard->hears_leader && !id_is_null(heard->leader.bytes) && fits(&heard->leader, userdata) &&
                    (!best || heard->term > best->term))
                        best = heard;
        return best;
}

uint64_t beats_committed(const Beats *beats) {
        uint64_t most = 0;
        ARRAY_EACH(heard, &beats->all)
                most = heard->committed > most ? heard->committed : most;
        return most;
}
