/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Nodes that mean well: they find each other, keep one connection, and lose and find it again. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

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
                a->config.beat_us = b->config.beat_us = 10000;
                world_up(w);
                AWAIT(w, is_up(a, b));
                uint64_t beats = a->notes[1].beats;
                AWAIT(w, a->notes[1].beats >= beats + 3 && b->notes[0].beats >= 3);
                g_assert_cmpstr(a->notes[1].order->str, ==, "u");
                g_assert_cmpstr(b->notes[0].order->str, ==, "u");
        }
}


/* ---- a slow way between two nodes ---- */

#define DELAY_MOST_US 30000U

typedef struct Relay Relay;

/* One direction of one connection: bytes are read, kept for a random while, and written. */
typedef struct Pipe {
        Relay *relay;
        int from, to;
        sd_event_source *io, *timer;
        uint8_t bytes[4096];
        ssize_t n;
} Pipe;

struct Relay {
        PeerWorld *world;
        int fd;
        uint16_t port, target;
        sd_event_source *io;
        Pipe pipes[64];
        unsigned n_pipes;
};

static int on_pipe_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Pipe *pipe = userdata;
        if (pipe->n <= 0)
                (void) shutdown(pipe->to, SHUT_WR);
        else if (send(pipe->to, pipe->bytes, (size_t) pipe->n, MSG_NOSIGNAL) < 0)
                (void) shutdown(pipe->from, SHUT_RD);
        if (pipe->n > 0)
                (void) sd_event_source_set_enabled(pipe->io, SD_EVENT_ON);
        return 0;
}

static int on_pipe_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Pipe *pipe = userdata;
        pipe->n = recv(fd, pipe->bytes, sizeof(pipe->bytes), MSG_DONTWAIT);
        (void) sd_event_source_set_enabled(pipe->io, SD_EVENT_OFF);
        (void) sd_event_source_set_time_relative(pipe->timer, (uint64_t) g_test_rand_int_range(0, DELAY_MOST_US));
        (void) sd_event_source_set_enabled(pipe->timer, SD_EVENT_ONESHOT);
        return 0;
}

static void add_pipe(Relay *relay, int from, int to) {
        g_assert_cmpuint(relay->n_pipes, <, G_N_ELEMENTS(relay->pipes));
        Pipe *pipe = &relay->pipes[relay->n_pipes++];
        *pipe = (Pipe) { .relay = relay, .from = from, .to = to };
        sd_event *event = relay->world->event;
        g_assert_cmpint(sd_event_add_io(event, &pipe->io, from, EPOLLIN, on_pipe_io, pipe), ==, 0);
        g_assert_cmpint(sd_event_add_time(event, &pipe->timer, CLOCK_MONOTONIC, 0, 1, on_pipe_timer, pipe), ==, 0);
        g_assert_cmpint(sd_event_source_set_enabled(pipe->timer, SD_EVENT_OFF), ==, 0);
}

static int on_relay_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Relay *relay = userdata;
        int taken = accept4(fd, NULL, NULL, SOCK_CLOEXEC), other = raw_socket(relay->target);
        g_assert_cmpint(taken, >=, 0);
        add_pipe(relay, taken, other);
        add_pipe(relay, other, taken);
        return 0;
}

static void relay_begin(Relay *relay, PeerWorld *world, uint16_t target) {
        relay->world = world;
        relay->target = target;
        relay->fd = listen_anywhere(&relay->port);
        g_assert_cmpint(sd_event_add_io(world->event, &relay->io, relay->fd, EPOLLIN, on_relay_io, relay), ==, 0);
}

static void relay_end(Relay *relay) {
        for (unsigned i = 0; i < relay->n_pipes; i++) {
                sd_event_source_disable_unref(relay->pipes[i].io);
                sd_event_source_disable_unref(relay->pipes[i].timer);
                close(relay->pipes[i].from);
        }
        sd_event_source_disable_unref(relay->io);
        close(relay->fd);
}

static int on_meet(sd_event_source *source, uint64_t usec, void *userdata) {
        node_meet(userdata);
        return 0;
}

static void meet_later(PeerNode *node) {
        g_assert_cmpint(sd_event_add_time_relative(node->world->event, NULL, CLOCK_MONOTONIC,
                                                   (uint64_t) g_test_rand_int_range(0, 2 * DELAY_MOST_US), 1, on_meet,
                                                   node), ==, 0);
}

static void test_one_connection_stays_whatever_the_network_does(void) {
        for (unsigned i = 0; i < 100; i++) {
                g_autoptr(PeerWorld) w = peer_world_new(2);
                PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
                Relay relays[2] = {};
                a->config.beat_us = b->config.beat_us = 10000;
                node_up(a);
                node_up(b);
                for (unsigned n = 0; n < 2; n++) {
                        relay_begin(&relays[n], w, w->nodes[1 - n].port);
                        w->nodes[n].address_of[1 - n] = g_strdup_printf("127.0.0.1:%u", relays[n].port);
                        meet_later(&w->nodes[n]);
                }
                AWAIT(w, is_up(a, b));
                unsigned beats[] = { a->notes[1].beats, b->notes[0].beats };
                AWAIT(w, a->notes[1].beats >= beats[0] + 3 && b->notes[0].beats >= beats[1] + 3);
                if (a->notes[1].order->len > 1 || b->notes[0].order->len > 1)
                        g_error("a: %s (%s), b: %s (%s)", a->notes[1].order->str, a->notes[1].why,
                                b->notes[0].order->str, b->notes[0].why);
                relay_end(&relays[0]);
                relay_end(&relays[1]);
        }
}

/* ---- frames ---- */

static void test_many_frames_come_in_order(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        uint64_t sent = 0;
        while (sent < 3000) {
                int r = send_call(a, b, PEER_STREAM_CALL, sent + 1, (size_t) (sent * 37) % 9000);
                if (r == PEER_SEND_QUEUED)
                        sent++;
                else
                        g_assert_cmpint(r, ==, PEER_SEND_FULL);
                if (r == PEER_SEND_FULL)
                        world_turn(w);
        }
        AWAIT(w, b->notes[0].last_call == sent);
        g_assert_cmpuint(b->notes[0].frames - b->notes[0].beats, ==, sent);
}

static uint64_t next_call;

static void check_call_order(PeerNode *node, unsigned from, const Gpupool1__Frame *frame) {
        if (frame->body_case == GPUPOOL1__FRAME__BODY_CALL)
                g_assert_cmpuint(frame->call->id, ==, ++next_call);
}

static void test_a_refused_stream_is_told_when_there_is_room(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        b->on_frame = check_call_order;
        next_call = 0;
        world_up(w);
        AWAIT(w, is_up(a, b));
        uint64_t sent = 0;
        for (unsigned round = 1; round <= 3; round++) {
                while (send_call(a, b, PEER_STREAM_BULK, sent + 1, 60000) == PEER_SEND_QUEUED)
                        sent++;
                g_assert_cmpuint(a->notes[1].writable[PEER_STREAM_BULK], ==, round - 1);
                AWAIT(w, a->notes[1].writable[PEER_STREAM_BULK] == round);
        }
        g_assert_cmpuint(sent, >, 3 * 8);
        AWAIT(w, b->notes[0].last_call == sent);
        g_assert_cmpuint(peer_net_queued_bytes(a->net, &b->id), ==, 0);
}

static void test_what_cannot_be_sent_is_refused(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        node_up(a);
        node_up(b);
        g_assert_cmpint(send_call(a, b, PEER_STREAM_CALL, 1, 1), ==, PEER_SEND_NOT_CONNECTED);
        node_meet(a);
        node_meet(b);
        AWAIT(w, is_up(a, b));
        g_assert_cmpint(send_call(a, b, PEER_STREAM_CALL, 1, PEER_FRAME_SIZE_MAX), ==, PEER_SEND_TOO_LARGE);
        g_assert_cmpint(send_call(a, b, PEER_STREAM_CONTROL, 2, PEER_FRAME_SIZE_MAX - 30), ==, PEER_SEND_QUEUED);
        AWAIT(w, b->notes[0].last_call == 2);
}

static void test_a_beat_can_be_asked_for(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->config.beat_us = b->config.beat_us = 3600ULL * 1000 * 1000;
        a->config.silence_us = b->config.silence_us = 3600ULL * 1000 * 1000;
        world_up(w);
        AWAIT(w, is_up(a, b));
        AWAIT(w, b->notes[0].beats == 1);       /* the first one comes by itself */
        peer_net_beat_now(a->net);
        peer_net_beat_now(a->net);
        g_assert_cmpuint(b->notes[0].beats, ==, 1);
        AWAIT(w, b->notes[0].beats == 2);
}

/* ---- who there is ---- */

static void test_who_is_removed_is_cut_off_and_told(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        a->removes[1] = true;
        node_meet(a);
        g_assert_cmpuint(a->notes[1].downs, ==, 0);             /* not from inside the call */
        g_assert_false(peer_net_is_up(a->net, &b->id));         /* but at once */
        g_assert_cmpint(send_call(a, b, PEER_STREAM_CALL, 1, 1), ==, PEER_SEND_NOT_CONNECTED);
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);
        g_assert_cmpuint(b->notes[0].removed, ==, 1);

        /* And told again when it asks again. */
        AWAIT(w, b->notes[0].removed == 2);
        g_assert_cmpstr(b->notes[0].why, ==, "this cluster has removed the node");
        g_assert_cmpuint(a->notes[1].ups, ==, 1);
        g_assert_cmpuint(b->notes[0].ups, ==, 1);
}

static void test_who_is_not_named_any_more_is_cut_off(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        g_assert_cmpint(peer_net_set_peers(a->net, NULL, 0), ==, 0);
        g_assert_false(peer_net_is_up(a->net, &b->id));
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);
        g_assert_nonnull(strstr(b->notes[0].why, "does not know it any more"));
        node_meet(a);
        AWAIT(w, is_up(a, b));
}

static void test_a_new_key_ends_the_old_connection(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1], *c = &w->nodes[2];
        node_up(a);
        node_up(b);
        node_meet(a);
        node_meet(b);
        AWAIT(w, is_up(a, b));
        /* b has c's key from now on, says a. */
        PeerKey *key = b->key;
        b->key = c->key;
        node_meet(a);
        b->key = key;
        g_assert_false(peer_net_is_up(a->net, &b->id));
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);

        node_down(b);
        b->config.key = c->key;
        node_up(b);
        b->key = c->key;
        node_meet(a);
        node_meet(b);
        b->key = key;
        AWAIT(w, is_up(a, b));
}

static void test_a_down_comes_before_the_next_up(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        for (unsigned i = 1; i <= 20; i++) {
                AWAIT(w, is_up(a, b));
                g_assert_cmpuint(a->notes[1].ups, ==, i);
                /* Forgotten and known again without a turn of the loop between. */
                g_assert_cmpint(peer_net_set_peers(a->net, NULL, 0), ==, 0);
                node_meet(a);
                node_meet(b);
        }
}

static void test_a_node_that_moved_is_found_at_its_new_address(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        b->wants[0] = false;
        node_meet(b);
        AWAIT(w, is_up(a, b));
        node_down(b);
        AWAIT(w, a->notes[1].downs == 1);
        node_up(b);                             /* draws another port */
        node_meet(b);
        node_meet(a);
        AWAIT(w, is_up(a, b));
}

static void await_by_addresses(PeerWorld *w, const char *const *addresses, size_t n) {
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        PeerInfo peer = { .node = b->id, .addresses = addresses, .n_addresses = n, .wanted = true };
        memcpy(peer.key, peer_key_pin(b->key), PEER_KEY_SIZE);
        g_assert_cmpint(peer_net_set_peers(a->net, &peer, 1), ==, 0);
        AWAIT(w, is_up(a, b));
}

static void begin_one_way(PeerWorld *w) {
        w->nodes[1].wants[0] = false;
        node_up(&w->nodes[0]);
        node_up(&w->nodes[1]);
        node_meet(&w->nodes[1]);
}

static void test_addresses_are_tried_in_turn(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        begin_one_way(w);
        g_autofree char *right = g_strdup_printf("127.0.0.1:%u", w->nodes[1].port);
        const char *const addresses[] = { "127.0.0.1:1", "nonsense:99999", "nowhere.invalid:7411", right };
        await_by_addresses(w, addresses, G_N_ELEMENTS(addresses));
}

static void test_a_name_is_looked_up(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        begin_one_way(w);
        g_autofree char *right = g_strdup_printf("localhost:%u", w->nodes[1].port);
        const char *const addresses[] = { right };
        await_by_addresses(w, addresses, 1);
}

static void test_a_new_address_does_not_wait_for_the_old_one(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        begin_one_way(w);
        PeerNode *a = &w->nodes[0];
        /* A socket that listens and says nothing: connected in no time, TLS for ever. */
        a->config.connect_us = 3600ULL * 1000 * 1000;
        node_down(a);
        node_up(a);
        uint16_t port;
        int fd = listen_anywhere(&port);
        a->address_of[1] = g_strdup_printf("127.0.0.1:%u", port);
        node_meet(a);
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        AWAIT(w, poll(&poll_fd, 1, 0) == 1);
        g_clear_pointer(&a->address_of[1], g_free);
        node_meet(a);
        AWAIT(w, is_up(a, &w->nodes[1]));
        close(fd);
}

static void test_ipv6_works(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        w->nodes[1].listen = "[::1]:0";
        begin_one_way(w);
        g_autofree char *right = g_strdup_printf("[::1]:%u", w->nodes[1].port);
        const char *const addresses[] = { right };
        await_by_addresses(w, addresses, 1);
}

static void test_the_v6_wildcard_takes_v4_too(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        w->nodes[1].listen = "[::]:0";
        begin_one_way(w);
        g_autofree char *right = g_strdup_printf("127.0.0.1:%u", w->nodes[1].port);
        const char *const addresses[] = { right };
        await_by_addresses(w, addresses, 1);
}

static void test_an_address_that_is_not_there_yet_is_listened_to(void) {
        g_autoptr(PeerWorld) w = peer_world_new(1);
        w->nodes[0].listen = "192.0.2.77:0";
        node_up(&w->nodes[0]);
}

static void test_a_port_that_is_taken_is_said(void) {
        g_autoptr(PeerWorld) w = peer_world_new(1);
        PeerNode *a = &w->nodes[0];
        PeerNet *second = NULL;
        _cleanup_free_ char *sentence = NULL;
        node_up(a);
        g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", a->port);
        a->config.listen = (const char *const *) &listen;
        static const PeerCallbacks none;
        g_assert_cmpint(peer_net_new(&second, w->event, &a->config, &none, NULL, &sentence), ==, -EADDRINUSE);
        g_assert_nonnull(strstr(sentence, listen));
}

static void test_a_connection_that_neither_wants_ends(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        a->wants[1] = false;
        node_meet(a);
        unsigned beats = b->notes[0].beats;
        AWAIT(w, b->notes[0].beats >= beats + 3);
        g_assert_true(is_up(a, b));             /* b still wants it */
        b->wants[0] = false;
        node_meet(b);
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);

        b->wants[0] = true;
        node_meet(b);
        AWAIT(w, is_up(a, b));
}

/* ---- clusters ---- */

static void test_without_a_cluster_nobody_is_dialled_or_taken(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1], *c = &w->nodes[2];
        a->config.cluster = (ClusterId) {};
        world_up(w);
        AWAIT(w, is_up(b, c));
        AWAIT(w, b->notes[2].beats > 10);
        g_assert_cmpuint(a->notes[1].ups + b->notes[0].ups + c->notes[0].ups, ==, 0);

        peer_net_set_cluster(a->net, &w->cluster);
        AWAIT(w, is_up(a, b) && is_up(a, c));
}

static void test_another_cluster_is_refused(void) {
        g_autoptr(PeerWorld) w = peer_world_new_in_real_time(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        peer_net_set_cluster(a->net, &(ClusterId) { { 0xc2 } });
        g_assert_false(peer_net_is_up(a->net, &b->id));
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);
        /* Long enough for some tries; and neither goads the other on to more of them. */
        unsigned events = 0;
        for (uint64_t end = world_now_us() + 1000 * 1000; world_now_us() < end;)
                events += sd_event_run(w->event, 5000) > 0;
        g_test_message("%u events", events);
        g_assert_cmpuint(events, <, 300);
        g_assert_cmpuint(a->notes[1].ups + b->notes[0].ups, ==, 2);

        peer_net_set_cluster(b->net, &(ClusterId) { { 0xc2 } });
        AWAIT(w, is_up(a, b));
}

/* ---- callbacks that turn everything over ---- */

static void forget_all(PeerNode *node, unsigned with) {
        g_assert_cmpint(peer_net_set_peers(node->net, NULL, 0), ==, 0);
}

static void forget_all_on_call(PeerNode *node, unsigned from, const Gpupool1__Frame *frame) {
        if (frame->body_case == GPUPOOL1__FRAME__BODY_CALL)
                forget_all(node, from);
}

static void test_everything_may_be_forgotten_in_a_callback(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->on_up = forget_all;
        world_up(w);
        AWAIT(w, a->notes[1].ups == 1 && a->notes[1].downs == 1);
        a->on_up = NULL;
        a->on_frame = forget_all_on_call;
        node_meet(a);
        AWAIT(w, is_up(a, b));
        /* Both in one record: the second is not told any more. */
        g_assert_cmpint(send_call(b, a, PEER_STREAM_CALL, 1, 1), ==, PEER_SEND_QUEUED);
        g_assert_cmpint(send_call(b, a, PEER_STREAM_CALL, 2, 1), ==, PEER_SEND_QUEUED);
        AWAIT(w, a->notes[1].downs == 2);
        g_assert_cmpuint(a->notes[1].last_call, ==, 1);
        a->on_frame = NULL;
        a->on_down = forget_all;
        node_meet(a);
        AWAIT(w, is_up(a, b));
        node_down(b);
        AWAIT(w, a->notes[1].downs == 3);
}

static void send_at_once(PeerNode *node, unsigned with) {
        g_assert_cmpint(send_call(node, &node->world->nodes[with], PEER_STREAM_CALL, 5, 10), ==, PEER_SEND_QUEUED);
}

static void test_frames_may_be_sent_in_up(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->on_up = b->on_up = send_at_once;
        world_up(w);
        AWAIT(w, a->notes[1].last_call == 5 && b->notes[0].last_call == 5);
}

static void test_a_net_may_end_in_any_state(void) {
        for (unsigned turns = 0; turns < 60; turns++) {
                g_autoptr(PeerWorld) w = peer_world_new(3);
                w->nodes[0].address_of[2] = g_strdup("localhost:1");
                world_up(w);
                for (unsigned i = 0; i < turns; i++)
                        world_turn(w);
                node_down(&w->nodes[turns % 3]);
                for (unsigned i = 0; i < turns % 7; i++)
                        world_turn(w);
        }
}

static void test_reconnects_leave_nothing_behind(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        world_up(w);
        AWAIT(w, is_up(a, b));
        unsigned descriptors = count_descriptors();
        for (unsigned i = 1; i <= 200; i++) {
                PeerNode *one = i % 2 ? a : b, *other = i % 2 ? b : a;
                g_assert_cmpint(peer_net_set_peers(one->net, NULL, 0), ==, 0);
                AWAIT(w, other->notes[i % 2 ? 0 : 1].downs == i);
                node_meet(one);
                AWAIT(w, is_up(a, b));
        }
        AWAIT(w, count_descriptors() <= descriptors);
}

static void test_eight_nodes_are_all_connected(void) {
        g_autoptr(PeerWorld) w = peer_world_new(8);
        for (unsigned i = 0; i < 8; i++)
                w->nodes[i].config.connect_us = 3600ULL * 1000 * 1000;  /* 56 handshakes at once, on a busy machine */
        world_up(w);
        for (unsigned i = 0; i < 8; i++)
                for (unsigned j = i + 1; j < 8; j++)
                        AWAIT(w, is_up(&w->nodes[i], &w->nodes[j]));
        for (unsigned i = 0; i < 8; i++)
                for (unsigned j = 0; j < 8; j++)
                        g_assert_cmpstr(w->nodes[i].notes[j].order->str, ==, i == j ? "" : "u");
}

/* What a second of beats costs: a few wakeups, no turning in circles. */
static void test_an_idle_connection_costs_next_to_nothing(void) {
        g_autoptr(PeerWorld) w = peer_world_new_in_real_time(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->config.beat_us = b->config.beat_us = 500 * 1000;
        world_up(w);
        AWAIT(w, is_up(a, b));
        unsigned beats = a->notes[1].beats, turns = 0;
        gint64 end = g_get_monotonic_time() + (gint64) PEER_WORLD_PATIENCE_US;
        while (a->notes[1].beats < beats + 2) {
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_assert_cmpint(sd_event_run(w->event, PEER_WORLD_PATIENCE_US), >=, 0);
                turns++;
        }
        g_test_message("%u turns of the loop for 2 beats each way", turns);
        g_assert_cmpuint(turns, <, 30);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peer/link/two-nodes-meet-and-talk", test_two_nodes_meet_and_talk);
        g_test_add_func("/peer/link/one-who-restarts-is-found-again", test_one_who_restarts_is_found_again);
        g_test_add_func("/peer/link/both-dial-at-once-and-one-connection-stays",
                        test_both_dial_at_once_and_one_connection_stays);
        g_test_add_func("/peer/link/one-connection-stays-whatever-the-network-does",
                        test_one_connection_stays_whatever_the_network_does);
        g_test_add_func("/peer/link/many-frames-come-in-order", test_many_frames_come_in_order);
        g_test_add_func("/peer/link/a-refused-stream-is-told-when-there-is-room",
                        test_a_refused_stream_is_told_when_there_is_room);
        g_test_add_func("/peer/link/what-cannot-be-sent-is-refused", test_what_cannot_be_sent_is_refused);
        g_test_add_func("/peer/link/a-beat-can-be-asked-for", test_a_beat_can_be_asked_for);
        g_test_add_func("/peer/link/who-is-removed-is-cut-off-and-told", test_who_is_removed_is_cut_off_and_told);
        g_test_add_func("/peer/link/who-is-not-named-any-more-is-cut-off", test_who_is_not_named_any_more_is_cut_off);
        g_test_add_func("/peer/link/a-new-key-ends-the-old-connection", test_a_new_key_ends_the_old_connection);
        g_test_add_func("/peer/link/a-down-comes-before-the-next-up", test_a_down_comes_before_the_next_up);
        g_test_add_func("/peer/link/a-node-that-moved-is-found-at-its-new-address",
                        test_a_node_that_moved_is_found_at_its_new_address);
        g_test_add_func("/peer/link/addresses-are-tried-in-turn", test_addresses_are_tried_in_turn);
        g_test_add_func("/peer/link/a-name-is-looked-up", test_a_name_is_looked_up);
        g_test_add_func("/peer/link/a-new-address-does-not-wait-for-the-old-one",
                        test_a_new_address_does_not_wait_for_the_old_one);
        g_test_add_func("/peer/link/ipv6-works", test_ipv6_works);
        g_test_add_func("/peer/link/the-v6-wildcard-takes-v4-too", test_the_v6_wildcard_takes_v4_too);
        g_test_add_func("/peer/link/an-address-that-is-not-there-yet-is-listened-to",
                        test_an_address_that_is_not_there_yet_is_listened_to);
        g_test_add_func("/peer/link/a-port-that-is-taken-is-said", test_a_port_that_is_taken_is_said);
        g_test_add_func("/peer/link/a-connection-that-neither-wants-ends", test_a_connection_that_neither_wants_ends);
        g_test_add_func("/peer/link/without-a-cluster-nobody-is-dialled-or-taken",
                        test_without_a_cluster_nobody_is_dialled_or_taken);
        g_test_add_func("/peer/link/another-cluster-is-refused", test_another_cluster_is_refused);
        g_test_add_func("/peer/link/everything-may-be-forgotten-in-a-callback",
                        test_everything_may_be_forgotten_in_a_callback);
        g_test_add_func("/peer/link/frames-may-be-sent-in-up", test_frames_may_be_sent_in_up);
        g_test_add_func("/peer/link/a-net-may-end-in-any-state", test_a_net_may_end_in_any_state);
        g_test_add_func("/peer/link/reconnects-leave-nothing-behind", test_reconnects_leave_nothing_behind);
        g_test_add_func("/peer/link/eight-nodes-are-all-connected", test_eight_nodes_are_all_connected);
        g_test_add_func("/peer/link/an-idle-connection-costs-next-to-nothing",
                        test_an_idle_connection_costs_next_to_nothing);
        return g_test_run();
}
