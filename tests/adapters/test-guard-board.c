/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guard that is killed, and the next one, which goes on from its board: with no client, with real processes. Argument
 * 2 is guard-preload. */

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"
#include "util/array.h"

/* As in service/guard/main.c; read_board() notices if it is not. */
typedef struct Held {
        pid_t pid;
        uint64_t start;
        int pidfd;
        bool dead;
        GuardMessage request;
} Held;

typedef struct Board {
        uint64_t layout;
        uint64_t until_us, hold_us;
        Held guard;
        Held helds[GUARD_VMS_MAX];
} Board;

static const char *preload;

static void read_board(const World *w, Board *ret) {
        g_autofree char *bytes = NULL;
        gsize size;
        g_assert_true(g_file_get_contents(w->board_path, &bytes, &size, NULL));
        g_assert_cmpuint(size, ==, sizeof(*ret));
        memcpy(ret, bytes, sizeof(*ret));
}

static void write_bytes(const World *w, const void *bytes, size_t size) {
        _cleanup_close_ int fd = open(w->board_path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, bytes, size), ==, (ssize_t) size);
}

/* ---- what was held is held */

static void test_the_next_guard_holds_what_the_killed_one_held(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL), other = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 2, 8, other), ==, GUARD_CALL_OK);
        uint64_t until = in(HOUR);
        g_assert_cmpint(lease(&w, until, 5), ==, GUARD_CALL_OK);
        for (unsigned i = 0; i < 3; i++) {
                kill_guard(&w);
                g_assert_cmpuint(guard_state(&w).until_us, ==, until);  /* nobody has said anything else yet */
                g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_NOT_CONNECTED);
                start_next_guard(&w);
                g_assert_cmpuint(w.met.until_us, ==, until);
                g_assert_cmpuint(w.met.hold_us, ==, 5);
                g_assert_false(w.met.stopped || w.met.ended);
                g_assert_cmpuint(list(&w), ==, 2);
                VmId id = vm_id(1);
                g_assert_true(ID_EQUAL(&w.entries[0].vm, &id));
                g_assert_cmpuint(w.entries[0].epoch, ==, 7);
                g_assert_cmpuint(w.entries[1].epoch, ==, 8);
                g_assert_true(w.entries[0].alive && w.entries[1].alive);
        }
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);         /* it is the same process */
        g_assert_cmpint(hold(&w, 2, 8, vm), ==, GUARD_CALL_CONFLICT);
        g_assert_cmpint(pidfd_send_signal(w.entries[1].pidfd, SIGKILL, NULL, 0), ==, 0);
        await(&w, &w.n_died, 1);
        g_assert_true(is_dead(other));
        g_assert_cmpint(release(&w, 2, 8), ==, GUARD_CALL_OK);
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_true(is_dead(vm));
}

static void test_as_many_as_there_is_room_for_are_held_again(void) {
        WORLD;
        int vms[GUARD_VMS_MAX];
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++) {
                vms[i] = start_vm(&w, NULL);
                g_assert_cmpint(hold(&w, i, 7, vms[i]), ==, GUARD_CALL_OK);
        }
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, GUARD_VMS_MAX);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(w.n_died_at_end, ==, GUARD_VMS_MAX);
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++) {
                g_assert_true(is_dead(vms[i]));
                close(vms[i]);
        }
}

static void test_without_a_lease_it_is_held_and_nothing_happens(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_cmpuint(w.met.until_us, ==, 0);
        g_assert_cmpuint(list(&w), ==, 1);
        await_instant(&w, in(200 * MS));
        g_assert_false(is_dead(vm));
        g_assert_cmpuint(w.n_ended, ==, 0);
}

static void test_who_died_in_between_is_not_held(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, NULL), gone = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, gone), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 2, 7, vm), ==, GUARD_CALL_OK);
        kill_guard(&w);
        end_process(pid);
        w.vms.n--;                      /* the second is the first to be waited for */
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
        VmId id = vm_id(2);
        g_assert_true(ID_EQUAL(&w.entries[0].vm, &id));
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_NOT_HELD);
}

/* Nobody has waited for it yet: it has no memory any more, and is no thread of the kernel for that. */
static void test_who_died_and_is_still_there_is_told_as_dead(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        kill_guard(&w);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        await_death(vm);
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_false(w.entries[0].alive);
        g_assert_cmpint(release(&w, 1, 7), ==, GUARD_CALL_OK);
}

/* The killed one had told it; the next one has no more to do with it. */
static void test_who_was_dead_already_costs_nothing(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_false(w.entries[0].alive);
        uint64_t before = processor_time(w.guard);
        await_instant(&w, in(500 * MS));
        g_assert_cmpuint(processor_time(w.guard) - before, <, 50 * 1000 * MS);
}

/* ---- the deadline goes on */

static void begin_without_client(World *w, uint64_t until_us, uint64_t hold_us, int vm) {
        g_assert_cmpint(hold(w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, until_us, hold_us), ==, GUARD_CALL_OK);
        w->link = guard_link_free(w->link);
        w->event = sd_event_unref(w->event);
}

static void test_without_a_client_the_next_guard_kills_at_the_deadline(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(700 * MS);
        begin_without_client(&w, until, 0, vm);
        kill_guard(&w);
        start_guard(&w);
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until);
}

static bool passed_in_between_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(time_us);
        begin_without_client(&w, until, 0, vm);
        kill_guard(&w);
        if (now_us() >= until)
                return false;
        sleep_until(until + 100 * MS);
        g_assert_false(is_dead(vm));
        start_guard(&w);
        await_death(vm);
        world_connect(&w);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(guard_state(&w).until_us, ==, until);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        return true;
}

static void test_a_deadline_that_passed_in_between_is_acted_on_at_once(void) {
        play(passed_in_between_within, 300 * MS);
}

static void test_a_guard_killed_at_the_end_of_many_leases_lets_nobody_live(void) {
        for (unsigned i = 0; i < 30; i++) {
                WORLD;
                _cleanup_close_ int vm = start_vm(&w, NULL);
                uint64_t until = in(40 * MS);
                begin_without_client(&w, until, 0, vm);
                sleep_until(until - 2 * MS + i * 150);          /* to about 2 ms after it */
                kill_guard(&w);
                start_guard(&w);
                await_death(vm);
                g_assert_cmpuint(now_us(), >=, until);
        }
}

static void test_a_guard_killed_while_it_kills_is_followed_by_one_that_kills(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, HOUR), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_true(w.met.ended);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_LEASE_ENDED);
        g_assert_cmpuint(list(&w), ==, 1);      /* without memory by now, and not dead */
        g_assert_true(w.entries[0].alive);
        g_assert_cmpuint(w.n_ended, ==, 0);
        let_die(pid);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(w.n_died_at_end, ==, 1);
}

static void test_an_end_that_was_said_is_said_by_the_next_one_too(void) {
        WORLD;
        g_assert_cmpint(lease(&w, in(100 * MS), 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        kill_guard(&w);
        start_next_guard(&w);
        await(&w, &w.n_ended, 2);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_false(guard_state(&w).ended);
}

/* ---- with a hold */

static void begin_stopped(World *w, pid_t *ret_pid, int *ret_vm) {
        *ret_vm = start_vm(w, ret_pid);
        g_assert_cmpint(hold(w, 1, 7, *ret_vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(*ret_pid);
        kill_guard(w);
}

static void test_what_a_killed_guard_has_stopped_goes_on_with_a_lease(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = -1;
        begin_stopped(&w, &pid, &vm);
        start_next_guard(&w);
        g_assert_true(w.met.stopped);
        g_assert_cmpuint(list(&w), ==, 1);
        int status;
        g_assert_cmpint(waitpid(pid, &status, WCONTINUED | WNOHANG), ==, 0);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        await_continuation(pid);
        g_assert_cmpuint(w.n_ended, ==, 0);
}

static bool stopped_and_left_within(uint64_t hold_us) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(200 * MS);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, until, hold_us), ==, GUARD_CALL_OK);
        if (!saw_stop(pid))
                return false;
        kill_guard(&w);
        start_next_guard(&w);
        if (now_us() >= until + hold_us)
                return false;           /* nobody was there to be told of the death */
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
        g_assert_cmpuint(now_us(), >=, until + hold_us);
        g_assert_cmpuint(w.n_died_at_end, ==, 1);
        return true;
}

static void test_what_a_killed_guard_has_stopped_is_killed_when_its_time_is_up(void) {
        play(stopped_and_left_within, 600 * MS);
}

static bool stopped_by_the_next_within(uint64_t hold_us) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(200 * MS);
        begin_without_client(&w, until, hold_us, vm);
        kill_guard(&w);
        sleep_until(until + 50 * MS);
        start_guard(&w);
        if (!saw_stop(pid))
                return false;
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until + hold_us);
        return true;
}

static void test_a_deadline_with_a_hold_that_passed_in_between_stops(void) {
        play(stopped_by_the_next_within, 700 * MS);
}

static void test_a_hold_that_is_over_kills_at_once(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&w, &pid);
        uint64_t until = in(100 * MS);
        begin_without_client(&w, until, 100 * MS, vm);
        kill_guard(&w);
        sleep_until(until + 250 * MS);
        start_guard(&w);
        await_death_throes(pid);
        let_die(pid);
        await_death(vm);
}

/* Its lease was taken, and it was killed before it said SIGCONT. */
static void test_what_was_to_go_on_goes_on(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = -1;
        begin_stopped(&w, &pid, &vm);
        Board board;
        read_board(&w, &board);
        board.until_us = in(HOUR);
        write_bytes(&w, &board, sizeof(board));
        start_guard(&w);
        await_continuation(pid);
}

/* ---- killed anywhere */

/* What it has acknowledged the next one knows, whenever the SIGKILL comes; and nothing that nobody asked for. */
static void test_killed_at_any_instant_it_leaves_what_it_has_acknowledged(void) {
        WORLD;
        int vms[16];
        bool asked[ELEMENTS(vms)], held[ELEMENTS(vms)];
        for (unsigned i = 0; i < ELEMENTS(vms); i++)
                vms[i] = start_vm(&w, NULL);
        for (unsigned round = 1; round <= 60; round++) {
                _cleanup_close_ int raw = connect_raw(&w);
                uint64_t until = in(HOUR) + round, acknowledged = 0;
                memset(asked, 0, sizeof(asked));
                memset(held, 0, sizeof(held));
                for (unsigned i = 0; i < ELEMENTS(vms); i++) {
                        VmId id = vm_id(round * 100 + i);
                        GuardMessage m = { .version = GUARD_VERSION, .type = GUARD_HOLD, .cookie = i + 1,
                                           .epoch = round };
                        memcpy(m.vm, id.bytes, sizeof(m.vm));
                        g_assert_cmpint(send_raw(raw, &m, sizeof(m), vms + i, 1), ==, sizeof(m));
                        m = (GuardMessage) { .version = GUARD_VERSION, .type = GUARD_LEASE, .cookie = 100 + i,
                                             .until_us = until + i, .hold_us = round };
                        g_assert_cmpint(send_raw(raw, &m, sizeof(m), NULL, 0), ==, sizeof(m));
                }
                g_usleep((gulong) g_test_rand_int_range(0, 1500));
                end_process(w.guard);
                for (GuardMessage m; recv(raw, &m, sizeof(m), MSG_DONTWAIT) == sizeof(m);) {
                        if (m.cookie == 0 || m.cookie > 100 + ELEMENTS(vms))
                                continue;
                        g_assert_cmpuint(m.answer, ==, GUARD_OK);
                        if (m.cookie >= 100)
                                acknowledged = m.until_us;
                        else
                                held[m.cookie - 1] = true;
                }
                unsigned anew = w.n_anew;
                start_guard(&w);
                await(&w, &w.n_anew, anew + 1);
                g_assert_cmpuint(w.met.until_us, >=, acknowledged);
                g_assert_cmpuint(w.met.until_us, <=, until + ELEMENTS(vms));
                (void) list(&w);
                for (unsigned i = 0; i < ELEMENTS(vms); i++)
                        for (size_t j = 0; j < w.n_entries; j++) {
                                VmId id = vm_id(round * 100 + i);
                                if (ID_EQUAL(&w.entries[j].vm, &id)) {
                                        g_assert_cmpuint(w.entries[j].epoch, ==, round);
                                        asked[i] = true;
                                }
                        }
                for (unsigned i = 0; i < ELEMENTS(vms); i++)
                        g_assert_true(asked[i] || !held[i]);
                g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
                /* The places are needed again: another board. */
                kill_guard(&w);
                g_assert_cmpint(unlink(w.board_path), ==, 0);
                start_next_guard(&w);
        }
        for (unsigned i = 0; i < ELEMENTS(vms); i++) {
                g_assert_false(is_dead(vms[i]));
                close(vms[i]);
        }
}

/* ---- who hangs */

static void test_a_guard_that_hangs_is_ended_by_the_next_one(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(SECOND);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        pid_t hanging = w.guard;
        g_assert_cmpint(kill(hanging, SIGSTOP), ==, 0);
        g_assert_cmpint(waitpid(hanging, NULL, WUNTRACED), ==, hanging);
        start_guard(&w);
        int status;
        g_assert_cmpint(waitpid(hanging, &status, 0), ==, hanging);
        g_assert_true(WIFSIGNALED(status));
        await(&w, &w.n_connected, 2);
        g_assert_cmpuint(list(&w), ==, 1);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_true(is_dead(vm));
}

/* ---- a board that is not to be trusted */

static void begin_with_board(World *w, int *ret_vm, pid_t *ret_pid, Board *ret) {
        *ret_vm = start_vm(w, ret_pid);
        g_assert_cmpint(hold(w, 1, 7, *ret_vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, in(HOUR), 0), ==, GUARD_CALL_OK);
        kill_guard(w);
        read_board(w, ret);
        g_assert_cmpint(ret->helds[0].pid, ==, *ret_pid);
        ret->until_us = in(300 * MS);   /* as if it had been the lease's end */
}

static void test_a_number_that_is_another_process_s_by_now_is_not_touched(void) {
        for (unsigned i = 0; i < 3; i++) {
                WORLD;
                pid_t pid;
                _cleanup_close_ int vm = -1;
                Board board;
                begin_with_board(&w, &vm, &pid, &board);
                board.helds[0].start = i == 0 ? board.helds[0].start + 1 : i == 1 ? board.helds[0].start - 1 : 0;
                write_bytes(&w, &board, sizeof(board));
                sleep_until(board.until_us);
                start_next_guard(&w);
                await(&w, &w.n_ended, 1);
                g_assert_cmpuint(list(&w), ==, 0);
                g_assert_false(is_dead(vm));
        }
}

static uint64_t start_of(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%i/stat", pid);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) words = g_strsplit(strrchr(text, ')') + 2, " ", -1);
        return g_ascii_strtoull(words[22 - 3], NULL, 10);
}

static void test_what_can_be_no_vm_is_not_taken_over(void) {
        pid_t pids[] = { 1, 2, -1, 0, (pid_t) 0x7fffffff };
        for (unsigned i = 0; i < ELEMENTS(pids); i++) {
                WORLD;
                pid_t pid;
                _cleanup_close_ int vm = -1;
                Board board;
                begin_with_board(&w, &vm, &pid, &board);
                board.helds[0].pid = pids[i];
                board.until_us = in(HOUR);      /* nobody is to be killed, should it go wrong */
                if (pids[i] == 1 || (pids[i] == 2 && g_file_test("/proc/2/stat", G_FILE_TEST_EXISTS)))
                        board.helds[0].start = start_of(pids[i]);
                board.helds[5].dead = true;
                board.helds[6].pidfd = 1;
                write_bytes(&w, &board, sizeof(board));
                start_next_guard(&w);
                g_assert_cmpuint(list(&w), ==, 0);
                g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        }
}

/* A process gives itself its name. */
static void test_a_name_with_blanks_and_brackets_is_read_right(void) {
        WORLD;
        pid_t pid;
        g_assert_cmpint(prctl(PR_SET_NAME, "a) R 1 2 3 (b) "), ==, 0);  /* which its children have, too */
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(prctl(PR_SET_NAME, "test-guard"), ==, 0);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        Board board;
        read_board(&w, &board);
        g_assert_cmpuint(board.helds[0].start, ==, start_of(pid));
        kill_guard(&w);
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
}

static void expect_ignored(World *w, int vm) {
        start_next_guard(w);
        g_assert_cmpuint(w->met.until_us, ==, 0);
        g_assert_cmpuint(w->met.hold_us, ==, 0);
        g_assert_false(w->met.ended);
        g_assert_cmpuint(list(w), ==, 0);
        g_assert_false(is_dead(vm));
        g_assert_cmpint(hold(w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, in(HOUR), 0), ==, GUARD_CALL_OK);
        kill_guard(w);                  /* and it is its own from now on */
        start_next_guard(w);
        g_assert_cmpuint(list(w), ==, 1);
}

static void test_a_board_that_is_none_of_this_layout_is_ignored(void) {
        typedef enum { SHORT, LONG, EMPTY, LAYOUT, ZERO, GARBAGE, LAST } Kind;
        for (Kind kind = SHORT; kind < LAST; kind++) {
                WORLD;
                pid_t pid;
                _cleanup_close_ int vm = -1;
                union {
                        Board board;
                        uint8_t bytes[sizeof(Board) + 1];
                } file = {};
                begin_with_board(&w, &vm, &pid, &file.board);
                if (kind == LAYOUT)
                        file.board.layout++;
                if (kind == ZERO)
                        file.board.layout = 0;
                for (size_t i = 0; kind == GARBAGE && i < sizeof(file.bytes); i++)
                        file.bytes[i] = (uint8_t) g_test_rand_int_range(0, 256);
                write_bytes(&w, &file, kind == SHORT   ? sizeof(Board) - 1
                                       : kind == LONG  ? sizeof(file)
                                       : kind == EMPTY ? 0
                                                       : sizeof(Board));
                expect_ignored(&w, vm);
        }
}

/* The layout is right, and all else is anything. */
static void test_any_bytes_kill_nobody(void) {
        for (unsigned round = 0; round < 20; round++) {
                WORLD;
                pid_t pid;
                _cleanup_close_ int vm = -1;
                Board board;
                begin_with_board(&w, &vm, &pid, &board);
                for (size_t i = sizeof(board.layout); i < sizeof(board); i++)
                        ((uint8_t *) &board)[i] = (uint8_t) g_test_rand_int_range(0, 256);
                for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                        board.helds[i].pid = g_test_rand_bit() ? getpid() : pid;
                write_bytes(&w, &board, sizeof(board));
                start_next_guard(&w);
                g_assert_cmpuint(list(&w), ==, 0);
                g_assert_false(is_dead(vm));
        }
}

static void test_the_board_is_its_owner_s_alone(void) {
        WORLD;
        struct stat st;
        g_assert_cmpint(stat(w.board_path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
        g_assert_cmpuint(st.st_uid, ==, getuid());
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        preload = guard_world_preload(argc, argv);
#define TEST(name) g_test_add_func("/guard-board/" #name, test_##name)
        TEST(the_next_guard_holds_what_the_killed_one_held);
        TEST(as_many_as_there_is_room_for_are_held_again);
        TEST(without_a_lease_it_is_held_and_nothing_happens);
        TEST(who_died_in_between_is_not_held);
        TEST(who_died_and_is_still_there_is_told_as_dead);
        TEST(who_was_dead_already_costs_nothing);
        TEST(without_a_client_the_next_guard_kills_at_the_deadline);
        TEST(a_deadline_that_passed_in_between_is_acted_on_at_once);
        TEST(a_guard_killed_at_the_end_of_many_leases_lets_nobody_live);
        TEST(a_guard_killed_while_it_kills_is_followed_by_one_that_kills);
        TEST(an_end_that_was_said_is_said_by_the_next_one_too);
        TEST(what_a_killed_guard_has_stopped_goes_on_with_a_lease);
        TEST(what_a_killed_guard_has_stopped_is_killed_when_its_time_is_up);
        TEST(a_deadline_with_a_hold_that_passed_in_between_stops);
        TEST(a_hold_that_is_over_kills_at_once);
        TEST(what_was_to_go_on_goes_on);
        TEST(killed_at_any_instant_it_leaves_what_it_has_acknowledged);
        TEST(a_guard_that_hangs_is_ended_by_the_next_one);
        TEST(a_number_that_is_another_process_s_by_now_is_not_touched);
        TEST(what_can_be_no_vm_is_not_taken_over);
        TEST(a_name_with_blanks_and_brackets_is_read_right);
        TEST(a_board_that_is_none_of_this_layout_is_ignored);
        TEST(any_bytes_kill_nobody);
        TEST(the_board_is_its_owner_s_alone);
#undef TEST
        return g_test_run();
}
