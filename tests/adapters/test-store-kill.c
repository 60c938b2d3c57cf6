/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kill -9 and power cuts at any instant: what the engine acknowledged is there when it is opened again, once, in order.
 * A child writes numbered commands and says each acknowledged number through a pipe; the parent kills it after a random
 * time. Replay a failing run with --seed. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault-vfs.h"
#include "store-world.h"

#define ROUNDS 150U
#define POWER_CUTS 100U
#define IN_FLIGHT 8U
#define LIVES_US_MAX 15000

typedef struct Writing {
        Node *node;
        uint64_t next;
        int pipe_fd;
} Writing;

static void say(int fd, uint64_t number) {
        if (write(fd, &number, sizeof(number)) != (ssize_t) sizeof(number))
                _exit(1);
}

static void submit_next(Writing *writing);

static void on_done(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        Writing *writing = userdata;
        const char *last = strrchr(writing->node->state->str, ' ');

        if (outcome != RAFT_OUTCOME_DONE || !last)
                _exit(2);
        say(writing->pipe_fd, strtoull(last + 1, NULL, 10));
        submit_next(writing);
}

/* Commands of all sizes; the number stands at the end. */
static void submit_next(Writing *writing) {
        g_autofree char *filling = g_strnfill((gsize) g_random_int_range(0, 6000), 'x');
        g_autofree char *command = g_strdup_printf("%s %" G_GUINT64_FORMAT, filling, writing->next++);

        if (raft_engine_submit(writing->node->engine, command, strlen(command), on_done, writing, NULL) !=
            RAFT_SUBMIT_TAKEN)
                _exit(3);
        if (writing->next % 40 == 0)
                (void) raft_engine_take_snapshot(writing->node->engine, node_status(writing->node).applied_index,
                                                 writing->node->state->str, writing->node->state->len);
}

/* The last number of a state whose numbers must be 1, 2, 3, ...; 0 for an empty one. */
static uint64_t check_numbers(const char *state) {
        uint64_t expected = 0;

        for (const char *line = state; *line; line = strchr(line, '\n') + 1) {
                const char *number = strchr(line, ' ');
                g_assert_nonnull(number);
                g_assert_cmpuint(strtoull(number + 1, NULL, 10), ==, ++expected);
        }
        return expected;
}

static G_GNUC_NORETURN void live(const char *directory, guint32 seed, int pipe_fd) {
        World *world = world_new(1, directory);
        Writing writing = { .node = &world->nodes[0], .pipe_fd = pipe_fd };

        g_random_set_seed(seed);
        world->trailing = seed % 2 == 0 ? UINT_MAX : 20;
        node_up(writing.node);
        writing.next = check_numbers(writing.node->state->str) + 1;
        say(pipe_fd, 0);                        /* born, and open */
        for (unsigned i = 0; i < IN_FLIGHT; i++)
                submit_next(&writing);
        for (;;)
                if (sd_event_run(world->event, UINT64_MAX) < 0)
                        _exit(4);
}

static void wait_readable(int fd) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        g_assert_cmpint(poll(&poll_fd, 1, WORLD_DEADLINE_MS), ==, 1);
}

/* Kills after @lives_us from birth, or (@open) from when the child has its file open. Returns the highest number that
 * was acknowledged. */
static uint64_t kill_one(const char *directory, guint32 seed, gulong lives_us, bool open) {
        uint64_t number, highest = 0;
        int pipe_fds[2], status;

        g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
                live(directory, seed, pipe_fds[1]);
        (void) close(pipe_fds[1]);
        if (open)
                wait_readable(pipe_fds[0]);
        g_usleep(lives_us);             /* the instant is this test's random input, not a wait for anything */
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (!WIFSIGNALED(status))
                g_error("the child ended by itself with %d", WEXITSTATUS(status));

        while (read(pipe_fds[0], &number, sizeof(number)) == (ssize_t) sizeof(number))
                if (number > highest)
                        highest = number;
        (void) close(pipe_fds[0]);
        return highest;
}

static void test_what_was_acknowledged_survives_kill_9(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-kill-XXXXXX", NULL);
        uint64_t acknowledged = 0, kept = 0;

        /* Where the disk is slow there are more rounds, and longer lives, until enough was acknowledged. */
        unsigned round = 0;
        gint32 lives_us_max = LIVES_US_MAX;
        for (; round < ROUNDS || round % 10 > 0 || (acknowledged <= 50 && round < 4 * ROUNDS); round++) {
                guint32 seed = (guint32) g_test_rand_int();
                if (round >= ROUNDS && round % 50 == 0)
                        lives_us_max *= 2;
                gulong lives_us = (gulong) g_test_rand_int_range(0, lives_us_max);
                uint64_t highest = kill_one(directory, seed, lives_us, round % 4 != 0);

                if (highest > acknowledged)
                        acknowledged = highest;
                if (round % 10 != 9)
                        continue;

                /* Looked at here as well, not only by the next child. */
                World *world = world_new(1, directory);
                node_up(&world->nodes[0]);
                kept = check_numbers(world->nodes[0].state->str);
                if (kept < acknowledged)
                        g_error("round %u: %" G_GUINT64_FORMAT " acknowledged, %" G_GUINT64_FORMAT " kept", round,
                                acknowledged, kept);
                world_leave(world);
        }
        g_test_message("%u rounds, %" G_GUINT64_FORMAT " commands acknowledged, %" G_GUINT64_FORMAT " kept", round,
                       acknowledged, kept);
        g_assert_cmpuint(acknowledged, >, 50);
        directory_remove(directory);
}

/* ---- power ---- */

/* Not even what the kernel was told is kept then, unless it was synced. */
static uint64_t cut_and_look(Node *node, uint64_t acknowledged) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-power-XXXXXX", NULL);
        uint64_t kept;

        fault_vfs_cut_power(directory);
        World *world = world_new(1, directory);
        node_up(&world->nodes[0]);
        kept = check_numbers(world->nodes[0].state->str);
        if (kept < acknowledged)
                g_error("%" G_GUINT64_FORMAT " acknowledged, %" G_GUINT64_FORMAT " kept", acknowledged, kept);
        world_free(world);
        return kept;
}

static void on_numbered(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        uint64_t *acknowledged = userdata;
        g_assert_cmpint(outcome, ==, RAFT_OUTCOME_DONE);
        (*acknowledged)++;
}

/* Commands of all sizes, so that the write-ahead log is moved into the file again and again. */
static void submit_numbered(Node *node, uint64_t number, uint64_t *acknowledged) {
        g_autofree char *filling = g_strnfill((gsize) g_test_rand_int_range(0, 16000), 'x');
        g_autofree char *command = g_strdup_printf("%s %" G_GUINT64_FORMAT, filling, number);

        g_assert_cmpint(raft_engine_submit(node->engine, command, strlen(command), on_numbered, acknowledged, NULL), ==,
                        RAFT_SUBMIT_TAKEN);
}

static void test_what_was_acknowledged_survives_a_power_cut(void) {
        uint64_t submitted = 0, acknowledged = 0, kept = 0;
        unsigned cut = 0;

        g_random_set_seed((guint32) g_test_rand_int());
        {
                g_autoptr(World) world = world_new(1, NULL);
                Node *node = &world->nodes[0];

                fault_vfs_record(world->directory);
                node_up(node);
                for (; cut < POWER_CUTS || (acknowledged <= POWER_CUTS && cut < 10 * POWER_CUTS); cut++) {
                        unsigned turns = (unsigned) g_test_rand_int_range(1, 5);
                        for (unsigned i = 0; i < turns; i++) {
                                while (submitted < acknowledged + IN_FLIGHT)
                                        submit_numbered(node, ++submitted, &acknowledged);
                                g_assert_cmpint(sd_event_run(world->event, G_USEC_PER_SEC), >=, 0);
                        }
                        if (cut % 20 == 19)
                                (void) raft_engine_take_snapshot(node->engine, node_status(node).applied_index,
                                                                 node->state->str, node->state->len);
                        g_usleep((gulong) g_test_rand_int_range(0, 1000));      /* into whatever the writer does then */
                        kept = cut_and_look(node, acknowledged);
                }
        }
        fault_vfs_record_end();
        g_test_message("%u power cuts, %" G_GUINT64_FORMAT " commands acknowledged, %" G_GUINT64_FORMAT " kept by the "
                       "last", cut, acknowledged, kept);
        g_assert_cmpuint(acknowledged, >, POWER_CUTS);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        fault_vfs_install();
        g_test_add_func("/store/kill/what_was_acknowledged_survives_a_power_cut",
                        test_what_was_acknowledged_survives_a_power_cut);
        g_test_add_func("/store/kill/what_was_acknowledged_survives_kill_9",
                        test_what_was_acknowledged_survives_kill_9);
        return g_test_run();
}
