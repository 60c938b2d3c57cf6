/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Nodes that mean well: they find each other, keep one connection, and lose and find it again. */

#include <string.h>

#include "peer-world.h"

static void test_two_nodes_meet_and_talk(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        world_up(w);
        AWAIT(w, is_up(&w->nodes[0], &w->nodes[1]));
        g_assert_cmpstr(w->nodes[0].notes[1].version, ==, "1.2.3");

        g_assert_cmpint(send_call(&w->nodes[0], &w->nodes[1], PEER_STREAM_CALL, 7, 100), ==, PEER_SEND_QUEUED);
        AWAIT(w, w->nodes[1].notes[0].last_call == 7);
        g_assert_cmpint(send_call(&w->nodes[1], &w->nodes[0], PEER_STREAM_CALL, 8, 200000), ==, PEER_SEND_QUEUED);
        AWAIT(w, w->nodes[0].notes[1].last_call == 8);
        AWAIT(w, w->nodes[0].notes[1].beats > 3 && w->nodes[1].notes[0].beats > 3);
        g_assert_cmpuint(peer_net_heard_us(w->nodes[0].net, &w->nodes[1].id), >, 0);
}

static void test_one_who_restarts_is_found_again(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        node_down(b);
        AWAIT(w, a->notes[1].downs == 1);
        g_assert_nonnull(strstr(a->notes[1].why, "the service stops"));

        b->wants[0] = false;
        node_up(b);
        node_meet(b);
        node_meet(a);
        AWAIT(w, is_up(a, b));
        g_assert_cmpstr(a->notes[1].order->str, ==, "udu");
}

static void test_both_dial_at_once_and_one_connection_stays(void) {
        for (unsigned i = 0; i < 100; i++) {
                g_autoptr(PeerWorld) w = peer_world_new(2);
                PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
                world_up(w);
                AWAIT(w, is_up(a, b));
                uint64_t beats = a->notes[1].beats;
                AWAIT(w, a->notes[1].beats >= beats + 3 && b->notes[0].beats >= 3);
                g_assert_cmpstr(a->notes[1].order->str, ==, "u");
                g_assert_cmpstr(b->notes[0].order->str, ==, "u");
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peer/link/two-nodes-meet-and-talk", test_two_nodes_meet_and_talk);
        g_test_add_func("/peer/link/one-who-restarts-is-found-again", test_one_who_restarts_is_found_again);
        g_test_add_func("/peer/link/both-dial-at-once-and-one-connection-stays",
                        test_both_dial_at_once_and_one_connection_stays);
        return g_test_run();
}
