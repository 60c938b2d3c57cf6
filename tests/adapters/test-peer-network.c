/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Networks that lose packets, and processes that stop: in a network namespace of its own, with nftables as the fault.
 * Needs root; without it only the process tests run. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "peer-world.h"

static bool has_network;                /* that we may break */

static bool shell(const char *command) {
        g_autoptr(GError) error = NULL;
        const char *argv[] = { "/bin/sh", "-c", command, NULL };
        int status = -1;
        if (!g_spawn_sync(NULL, (char **) argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                          NULL, NULL, NULL, &status, &error))
                return false;
        return status == 0;
}

static void drop(const char *match) {
        g_autofree char *command = g_strdup_printf("nft add rule inet fault in %s drop", match);
        g_assert_true(shell(command));
}

static void heal(void) {
        g_assert_true(shell("nft flush chain inet fault in"));
}

static bool make_network(void) {
        return unshare(CLONE_NEWNET) == 0 && shell("ip link set lo up") &&
               shell("nft add table inet fault && "
                     "nft 'add chain inet fault in { type filter hook input priority 0; }'");
}

/* It is silence that ends a connection; the kernel's own limit is far away. */
static PeerWorld *two_nodes(void) {
        PeerWorld *w = peer_world_new(2);
        w->nodes[0].config.connect_us = w->nodes[1].config.connect_us = 20ULL * 1000 * 1000;
        world_up(w);
        AWAIT(w, is_up(&w->nodes[0], &w->nodes[1]));
        return w;
}

static bool skip(void) {
        if (!has_network)
                g_test_skip("needs root and nftables");
        return !has_network;
}

static void test_a_network_that_is_gone_is_noticed_by_both(void) {
        if (skip())
                return;
        g_autoptr(PeerWorld) w = two_nodes();
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        gint64 begin = g_get_monotonic_time();
        drop("meta l4proto tcp");
        AWAIT(w, a->notes[1].downs == 1 && b->notes[0].downs == 1);
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, (gint64) (SILENCE_MS - 300) * 1000);
        g_assert_nonnull(strstr(a->notes[1].why, "nothing was heard"));
        heal();
        AWAIT(w, is_up(a, b));
}

static void test_a_network_that_is_gone_one_way_is_noticed_too(void) {
        if (skip())
                return;
        g_autoptr(PeerWorld) w = two_nodes();
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        for (unsigned way = 0; way < 2; way++) {
                unsigned downs = a->notes[1].downs, others = b->notes[0].downs;
                g_autofree char *match = g_strdup_printf("tcp %s %u", way ? "sport" : "dport", a->port);
                g_autofree char *other = g_strdup_printf("tcp %s %u", way ? "dport" : "sport", b->port);
                drop(match);
                drop(other);
                AWAIT(w, a->notes[1].downs > downs && b->notes[0].downs > others);
                heal();
                AWAIT(w, is_up(a, b));
        }
}

static void test_an_address_that_swallows_packets_does_not_block_the_next(void) {
        if (skip())
                return;
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1], *c = &w->nodes[2];
        drop("ip daddr 127.0.0.9");
        b->wants[0] = c->wants[0] = false;
        node_up(a);
        node_up(b);
        node_up(c);
        node_meet(b);
        node_meet(c);
        g_autofree char *of_b = g_strdup_printf("127.0.0.1:%u", b->port);
        g_autofree char *of_c = g_strdup_printf("127.0.0.1:%u", c->port);
        const char *const hard[] = { "127.0.0.9:7411", of_b }, *const easy[] = { of_c };
        PeerInfo peers[] = {
                { .node = b->id, .addresses = hard, .n_addresses = 2, .wanted = true },
                { .node = c->id, .addresses = easy, .n_addresses = 1, .wanted = true },
        };
        memcpy(peers[0].key, peer_key_pin(b->key), PEER_KEY_SIZE);
        memcpy(peers[1].key, peer_key_pin(c->key), PEER_KEY_SIZE);
        gint64 begin = g_get_monotonic_time();
        g_assert_cmpint(peer_net_set_peers(a->net, peers, 2), ==, 0);
        AWAIT(w, is_up(a, c));
        g_assert_false(is_up(a, b));
        AWAIT(w, is_up(a, b));
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, (gint64) (CONNECT_MS - 300) * 1000);

        /* What worked is tried first from now on. */
        node_down(b);
        AWAIT(w, a->notes[1].downs == 1);
        uint64_t back_us = world_now_us();
        b->listen = of_b;
        node_up(b);
        node_meet(b);
        AWAIT(w, is_up(a, b));
        g_assert_cmpuint(world_now_us() - back_us, <, CONNECT_MS * 1000U);
        heal();
}

/* The client's port of the one established connection to @port. */
static unsigned find_client_port(uint16_t port) {
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents("/proc/net/tcp", &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                unsigned local, remote, state;
                if (sscanf(*line, " %*d: %*x:%x %*x:%x %x", &local, &remote, &state) == 3 && remote == port &&
                    state == 1)
                        return local;
        }
        return 0;
}

static void test_a_zombie_is_replaced_by_the_next_start(void) {
        if (skip())
                return;
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->config.silence_us = 3600ULL * 1000 * 1000;
        b->wants[0] = false;
        world_up(w);
        AWAIT(w, is_up(a, b));
        g_autofree char *from = g_strdup_printf("tcp sport %u", find_client_port(b->port));
        g_autofree char *to = g_strdup_printf("tcp dport %u", find_client_port(b->port));
        drop(from);
        drop(to);
        node_down(b);                   /* its goodbye is lost */
        node_up(b);
        b->wants[0] = true;
        node_meet(b);
        AWAIT(w, is_up(a, b) && a->notes[1].ups == 2);
        g_assert_cmpstr(a->notes[1].order->str, ==, "udu");
        g_assert_nonnull(strstr(a->notes[1].why, "newer"));
        heal();
}

/* ---- another process ---- */

static void run_node(PeerNode *node, int port_fd) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        node_up(node);
        if (write(port_fd, &node->port, sizeof(node->port)) != sizeof(node->port))
                _exit(1);
        node_meet(node);
        for (;;)
                if (sd_event_run(node->world->event, UINT64_MAX) < 0)
                        _exit(1);
}

/* Starts @node in a process of its own. */
static pid_t start_process(PeerNode *node) {
        int fds[2];
        g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                /* The loop belongs to the parent. */
                node->world->event = NULL;
                g_assert_cmpint(sd_event_new(&node->world->event), ==, 0);
                run_node(node, fds[1]);
        }
        close(fds[1]);
        g_assert_cmpint(read(fds[0], &node->port, sizeof(node->port)), ==, sizeof(node->port));
        close(fds[0]);
        return pid;
}

static void end_process(pid_t pid) {
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void test_a_process_that_stops_is_silent_and_comes_back(void) {
        g_autoptr(PeerWorld) w = peer_world_new_in_real_time(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        pid_t pid = start_process(b);
        node_up(a);
        node_meet(a);
        AWAIT(w, peer_net_is_up(a->net, &b->id));
        unsigned downs = a->notes[1].downs;
        g_assert_cmpint(kill(pid, SIGSTOP), ==, 0);
        AWAIT(w, a->notes[1].downs > downs);
        g_assert_nonnull(strstr(a->notes[1].why, "nothing was heard"));
        g_assert_cmpint(kill(pid, SIGCONT), ==, 0);
        AWAIT(w, peer_net_is_up(a->net, &b->id));
        downs = a->notes[1].downs;
        end_process(pid);
        AWAIT(w, a->notes[1].downs > downs);
}

static void test_who_starts_again_beside_its_zombie_is_taken(void) {
        g_autoptr(PeerWorld) w = peer_world_new_in_real_time(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->config.silence_us = 3600ULL * 1000 * 1000;
        pid_t zombie = start_process(b);
        node_up(a);
        node_meet(a);
        AWAIT(w, a->notes[1].ups == 1);
        g_assert_cmpint(kill(zombie, SIGSTOP), ==, 0);

        node_up(b);
        node_meet(b);
        AWAIT(w, is_up(a, b));
        g_assert_cmpstr(a->notes[1].order->str, ==, "udu");
        g_assert_nonnull(strstr(a->notes[1].why, "newer"));
        end_process(zombie);
}

/* It was us who slept: what the others said meanwhile is heard before anybody is given up. */
static void test_who_slept_itself_gives_nobody_up(void) {
        g_autoptr(PeerWorld) w = peer_world_new_in_real_time(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        b->config.silence_us = 3600ULL * 1000 * 1000;
        pid_t pid = start_process(b);
        node_up(a);
        node_meet(a);
        AWAIT(w, a->notes[1].beats >= 2);
        struct pollfd nothing = { .fd = -1 };
        (void) poll(&nothing, 1, (int) SILENCE_MS * 3 / 2);      /* the loop does not run */
        unsigned beats = a->notes[1].beats;
        AWAIT(w, a->notes[1].beats > beats + 2);
        g_assert_cmpuint(a->notes[1].downs, ==, 0);
        end_process(pid);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        has_network = make_network();
        g_test_add_func("/peer/network/a-network-that-is-gone-is-noticed-by-both",
                        test_a_network_that_is_gone_is_noticed_by_both);
        g_test_add_func("/peer/network/a-network-that-is-gone-one-way-is-noticed-too",
                        test_a_network_that_is_gone_one_way_is_noticed_too);
        g_test_add_func("/peer/network/an-address-that-swallows-packets-does-not-block-the-next",
                        test_an_address_that_swallows_packets_does_not_block_the_next);
        g_test_add_func("/peer/network/a-zombie-is-replaced-by-the-next-start",
                        test_a_zombie_is_replaced_by_the_next_start);
        g_test_add_func("/peer/network/a-process-that-stops-is-silent-and-comes-back",
                        test_a_process_that_stops_is_silent_and_comes_back);
        g_test_add_func("/peer/network/who-starts-again-beside-its-zombie-is-taken",
                        test_who_starts_again_beside_its_zombie_is_taken);
        g_test_add_func("/peer/network/who-slept-itself-gives-nobody-up", test_who_slept_itself_gives_nobody_up);
        return g_test_run();
}
