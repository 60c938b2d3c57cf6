/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks that fail and fill: nothing acknowledged is lost, nothing taken changes its place, and it heals by itself. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault-vfs.h"
#include "store-world.h"
#include "util/cleanup.h"

/* ---- the n-th write fails ---- */

static bool store_is_well(World *world, void *userdata) {
        const Node *node = userdata;
        return node->store_error == 0 && node_status(node).store_error == 0;
}

static bool store_is_ill(World *world, void *userdata) {
        const Node *node = userdata;
        return node->store_error < 0;
}

/* As a caller does who may wait: refused means not done, so it is safe to ask again. */
static void write_patiently(Node *node, const char *command) {
        Answer answer = {};
        int r;

        while ((r = raft_engine_submit(node->engine, command, strlen(command), answer_take, &answer, NULL)) ==
               RAFT_SUBMIT_STORE_FAILING) {
                fault_vfs_reset();
                world_until(node->world, store_is_well, node, "a store that works");
        }
        g_assert_cmpint(r, ==, RAFT_SUBMIT_TAKEN);
        while (!answer.here) {
                g_assert_cmpint(sd_event_run(node->world->event, G_USEC_PER_SEC), >=, 0);
                if (node->store_error < 0)
                        fault_vfs_reset();      /* there is room again */
        }
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
}

static void snapshot_patiently(Node *node) {
        int r;

        for (;;) {
                r = raft_engine_take_snapshot(node->engine, node_status(node).applied_index, node->state->str,
                                              node->state->len);
                if (r != RAFT_SNAPSHOT_STORE_FAILING)
                        break;
                fault_vfs_reset();
                world_until(node->world, store_is_well, node, "a store that works");
        }
        g_assert_cmpint(r, ==, RAFT_SNAPSHOT_TAKEN);
}

/* Returns how many operations on the disk it took. */
static unsigned work_with_faults(unsigned nth, unsigned how_many, int code) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        g_autofree char *large = g_strnfill(20000, 'L'), *expected = NULL;
        unsigned operations;

        node_up(node);
        node_down(node);
        fault_vfs_reset();
        fault_vfs_fail(nth, how_many, code);
        node_up(node);
        write_patiently(node, "one");
        write_patiently(node, large);
        snapshot_patiently(node);
        write_patiently(node, "three");
        write_patiently(node, "four");
        operations = fault_vfs_operations();
        fault_vfs_reset();
        expected = g_strdup_printf("one\n%s\nthree\nfour\n", large);
        g_assert_cmpstr(node->state->str, ==, expected);

        node_down(node);
        node_up(node);
        g_assert_cmpstr(node->state->str, ==, expected);
        return operations;
}

static void sweep(int code) {
        unsigned n = work_with_faults(UINT_MAX / 2, 1, code);

        g_assert_cmpuint(n, >, 20);
        for (unsigned nth = 1; nth <= n + 2; nth++) {
                g_test_message("code %d, operation %u of %u", code, nth, n);
                (void) work_with_faults(nth, 1, code);
        }
        for (unsigned nth = 1; nth <= n; nth += 3) {
                g_test_message("code %d, from operation %u of %u on", code, nth, n);
                (void) work_with_faults(nth, UINT_MAX, code);
        }
}

static void test_nothing_is_lost_when_a_write_finds_no_room(void) {
        sweep(SQLITE_FULL);
}

static void test_nothing_is_lost_when_a_write_fails(void) {
        sweep(SQLITE_IOERR_WRITE);
}

static void test_nothing_is_lost_when_a_sync_fails(void) {
        sweep(SQLITE_IOERR_FSYNC);
}

static void test_a_birth_that_fails_can_be_repeated(void) {
        for (unsigned nth = 1;; nth++) {
                g_autoptr(World) world = world_new(1, NULL);
                RaftEngineConfig config = node_config(&world->nodes[0]);
                g_autofree char *sentence = NULL;
                RaftEngine *engine = NULL;

                fault_vfs_reset();
                fault_vfs_fail(nth, UINT_MAX, SQLITE_FULL);
                int r = raft_engine_open(&config, world->event, &engine, &sentence);
                raft_engine_free(engine);
                fault_vfs_reset();
                if (r == LOG_FILE_CREATED) {
                        g_assert_cmpuint(nth, >, 5);
                        return;
                }
                g_assert_cmpint(r, ==, -ENOSPC);
                g_assert_nonnull(sentence);
                node_up(&world->nodes[0]);
                node_write(&world->nodes[0], "x");
        }
}

/* Canonical's raft (up to 0.15) truncates here and gives X's index to Y. */
static void test_an_entry_that_cannot_be_written_keeps_its_place(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        Answer x, y = {};

        node_up(node);
        node_write(node, "w");
        fault_vfs_reset();
        fault_vfs_fail(1, UINT_MAX, SQLITE_FULL);
        node_submit(node, "x", &x);
        uint64_t index = node_status(node).last_index, term = node_status(node).term;
        world_until(world, store_is_ill, node, "a store that fails");
        g_assert_cmpint(node_status(node).store_error, ==, -ENOSPC);
        g_assert_cmpint(raft_engine_submit(node->engine, "y", 1, answer_take, &y, NULL), ==, RAFT_SUBMIT_STORE_FAILING);
        world_for(world, 200);
        g_assert_false(x.here);
        g_assert_true(node_status(node).is_leader);
        g_assert_cmpstr(node->state->str, ==, "w\n");

        fault_vfs_reset();
        world_wait_answer(world, &x);
        g_assert_cmpint(x.outcome, ==, RAFT_OUTCOME_DONE);
        g_assert_cmpuint(x.index, ==, index);
        g_assert_cmpuint(x.term, ==, term);
        g_assert_false(y.here);
        world_until(world, store_is_well, node, "a store that works");
        node_write(node, "y");
        g_assert_cmpstr(node->state->str, ==, "w\nx\ny\n");
}

static void test_the_term_is_confirmed_while_the_disk_is_full(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        Answer x, answer = {};

        node_up(node);
        node_write(node, "w");
        fault_vfs_reset();
        fault_vfs_fail(1, UINT_MAX, SQLITE_FULL);
        node_submit(node, "x", &x);
        world_until(world, store_is_ill, node, "a store that fails");
        g_assert_cmpint(raft_engine_confirm(node->engine, answer_take, &answer, NULL), ==, RAFT_SUBMIT_TAKEN);
        world_wait_answer(world, &answer);
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
        g_assert_false(x.here);
        fault_vfs_reset();
}

static void test_a_restart_on_a_full_disk_shows_what_was_kept_and_leads(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        Answer answer = {};

        node_up(node);
        node_write(node, "w");
        node_down(node);
        fault_vfs_reset();
        fault_vfs_fail(1, UINT_MAX, SQLITE_FULL);
        node_up(node);
        g_assert_cmpstr(node->state->str, ==, "w\n");
        world_until(world, store_is_ill, node, "a store that fails");
        g_assert_true(node_status(node).is_ready);
        g_assert_cmpint(raft_engine_confirm(node->engine, answer_take, &answer, NULL), ==, RAFT_SUBMIT_TAKEN);
        world_wait_answer(world, &answer);
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
        fault_vfs_reset();
        world_until(world, store_is_well, node, "a store that works");
        node_write(node, "x");
}

static void write_entry(LogFile *file, uint64_t index, const char *text) {
        LogEntry *entry = log_entry_new(1, LOG_ENTRY_COMMAND, text, strlen(text));
        LogWrite write = { .first_index = index, .entries = &entry, .n_entries = 1 };

        g_assert_cmpint(log_file_write(file, &write, 1), ==, 0);
        log_entry_unref(entry);
}

/* Moving the write-ahead log into the file is what needs room in it. */
static void test_a_checkpoint_that_fails_costs_nothing(void) {
        g_autofree char *large = g_strnfill(50000, 'L');
        bool failed = true;

        for (unsigned nth = 1; failed; nth++) {
                g_autofree char *directory = g_dir_make_tmp("gpupool-faults-XXXXXX", NULL);
                g_autofree char *path = g_build_filename(directory, "registry.db", NULL);
                LogFileBirth birth = { .server_id = 1, .configuration = "members!", .configuration_size = 8 };
                LogFileContent content = {};
                LogFile *file = NULL;

                g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_CREATED);
                log_file_content_clear(&content);
                for (uint64_t i = 2; i < 30; i++)
                        write_entry(file, i, large);
                fault_vfs_reset();
                fault_vfs_fail(nth, UINT_MAX, SQLITE_FULL);
                int r = log_file_tidy(file, true);
                failed = r < 0;
                if (failed)
                        g_assert_cmpint(r, ==, -ENOSPC);
                fault_vfs_reset();
                write_entry(file, 30, "small");
                if (nth % 2 == 0)
                        g_assert_cmpint(log_file_tidy(file, true), ==, 0);
                write_entry(file, 31, large);
                log_file_close(file);
                g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_OPENED);
                g_assert_cmpuint(content.n_entries, ==, 31);
                log_file_content_clear(&content);
                log_file_close(file);
                directory_remove(directory);
                g_assert_true(nth > 50 || failed);
        }
}

/* ---- a disk that is really full ---- */

static void fill_disk(const char *path) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        static const char bytes[4096];

        g_assert_cmpint(fd, >=, 0);
        for (size_t size = sizeof(bytes); size > 0;)
                if (write(fd, bytes, size) < 0)
                        size /= 2;
        g_assert_cmpint(errno, ==, ENOSPC);
}

static bool mount_small(const char *directory, const char *size) {
        if (mount("tmpfs", directory, "tmpfs", 0, size) == 0)
                return true;
        g_test_skip("needs root: mounting a tmpfs");
        directory_remove(directory);
        return false;
}

static void test_a_full_disk_heals_when_there_is_room(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL), *large = g_strnfill(40000, 'L');
        unsigned written = 0, refused = 0;

        if (!mount_small(directory, "size=6m"))
                return;
        {
                g_autoptr(World) world = world_new(1, directory);
                Node *node = &world->nodes[0];
                Answer pending = {}, confirmed = {};

                node_up(node);
                node_write(node, large);
                written++;
                fill_disk(filler);
                /* The write-ahead log is reused for a while; at some point there is no more room. */
                for (;;) {
                        node_submit(node, large, &pending);
                        while (!pending.here && node->store_error == 0)
                                g_assert_cmpint(sd_event_run(world->event, G_USEC_PER_SEC), >=, 0);
                        if (!pending.here)
                                break;
                        written++;
                        g_assert_cmpuint(written, <, 1000);
                }
                g_assert_cmpint(node->store_error, ==, -ENOSPC);
                for (unsigned i = 0; i < 10; i++)
                        refused += raft_engine_submit(node->engine, "y", 1, NULL, NULL, NULL) ==
                                   RAFT_SUBMIT_STORE_FAILING;
                g_assert_cmpuint(refused, ==, 10);
                g_assert_cmpint(raft_engine_confirm(node->engine, answer_take, &confirmed, NULL), ==,
                                RAFT_SUBMIT_TAKEN);
                world_wait_answer(world, &confirmed);
                g_assert_false(pending.here);

                g_assert_cmpint(g_unlink(filler), ==, 0);
                world_wait_answer(world, &pending);
                g_assert_cmpint(pending.outcome, ==, RAFT_OUTCOME_DONE);
                written++;
                world_until(world, store_is_well, node, "a store that works");
                node_write(node, "y");
                g_assert_cmpuint(node->applied, ==, written + 1);
                g_autofree char *state = g_strdup(node->state->str);

                /* Full again, and stopped so; nothing is lost by that either. */
                fill_disk(filler);
                node_down(node);
                node_up(node);
                g_assert_cmpstr(node->state->str, ==, state);
                g_assert_cmpint(g_unlink(filler), ==, 0);
                world_for(world, 50);
                node_down(node);
                node_up(node);
                g_assert_cmpstr(node->state->str, ==, state);
        }
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static int write_large(LogFile *file, uint64_t index) {
        g_autofree char *large = g_strnfill(30000, 'L');
        LogEntry *entry = log_entry_new(1, LOG_ENTRY_COMMAND, large, 30000);
        LogWrite write = { .first_index = index, .entries = &entry, .n_entries = 1 };

        int r = log_file_write(file, &write, 1);
        log_entry_unref(entry);
        return r;
}

static void test_a_full_disk_has_room_for_votes_but_not_for_entries(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL);
        g_autofree char *path = g_build_filename(directory, "registry.db", NULL);
        LogFileBirth birth = { .server_id = 1, .configuration = "members!", .configuration_size = 8 };
        LogWrite vote = { .set_vote = true };
        LogFileContent content = {};
        LogFile *file = NULL;
        uint64_t index = 2;

        if (!mount_small(directory, "size=6m"))
                return;
        g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_CREATED);
        log_file_content_clear(&content);
        vote.vote = (LogFileVote) { .term = 1, .starts = 1 };
        g_assert_cmpint(log_file_write(file, &vote, 1), ==, 0);
        g_assert_cmpint(write_large(file, index++), ==, 0);
        fill_disk(filler);
        int r;
        while ((r = write_large(file, index)) == 0)
                g_assert_cmpuint(index++, <, 1000);
        g_assert_cmpint(r, ==, -ENOSPC);
        for (unsigned i = 0; i < 50; i++) {
                vote.vote.term++;
                g_assert_cmpint(log_file_write(file, &vote, 1), ==, 0);
                g_assert_cmpint(write_large(file, index), ==, -ENOSPC);
        }
        g_assert_cmpint(g_unlink(filler), ==, 0);
        g_assert_cmpint(write_large(file, index), ==, 0);
        log_file_close(file);
        g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_OPENED);
        g_assert_cmpuint(content.vote.term, ==, 51);
        g_assert_cmpuint(content.n_entries, ==, index);
        log_file_content_clear(&content);
        log_file_close(file);
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static gint64 size_of(const char *path) {
        struct stat st;
        return stat(path, &st) == 0 ? (gint64) st.st_blocks * 512 : 0;
}

static int write_of_type(LogFile *file, uint64_t index, LogEntryType type, size_t size, bool urgent) {
        g_autofree char *bytes = g_strnfill(size, 'x');
        LogEntry *entry = log_entry_new(1, type, bytes, size);
        LogWrite write = { .first_index = index, .entries = &entry, .n_entries = 1 };

        int r = urgent ? log_file_write_urgently(file, &write, 1) : log_file_write(file, &write, 1);
        log_entry_unref(entry);
        return r;
}

/* A registry on a small file system that is full, its next index, and its term. */
typedef struct FullDisk {
        char *directory, *filler, *path, *reserve;
        LogFile *file;
        uint64_t index, term;
} FullDisk;

static const LogFileBirth full_birth = { .server_id = 1, .configuration = "members!", .configuration_size = 8 };

static void full_open(FullDisk *disk, LogFileVerdict verdict) {
        LogFileContent content = {};
        g_assert_cmpint(log_file_open(disk->path, &full_birth, &disk->file, &content, NULL), ==, verdict);
        log_file_content_clear(&content);
}

/* @restarted: it was stopped before the disk was full, and started after. */
static bool full_disk_make(FullDisk *disk, bool restarted) {
        *disk = (FullDisk) { .directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL), .index = 2, .term = 1 };
        if (!mount_small(disk->directory, "size=6m"))
                return false;
        disk->filler = g_build_filename(disk->directory, "filler", NULL);
        disk->path = g_build_filename(disk->directory, "registry.db", NULL);
        disk->reserve = g_build_filename(disk->directory, "registry.db-reserve", NULL);
        full_open(disk, LOG_FILE_CREATED);
        g_assert_cmpint(write_of_type(disk->file, disk->index++, LOG_ENTRY_COMMAND, 100, false), ==, 0);
        g_assert_cmpint(log_file_tidy(disk->file, true), ==, 0);
        if (restarted)
                log_file_close(disk->file);
        fill_disk(disk->filler);
        if (restarted)
                full_open(disk, LOG_FILE_OPENED);
        int r;
        while ((r = write_of_type(disk->file, disk->index, LOG_ENTRY_COMMAND, 100, false)) == 0)
                g_assert_cmpuint(disk->index++, <, 1000);
        g_assert_cmpint(r, ==, -ENOSPC);
        return true;
}

static void full_disk_free(FullDisk *disk) {
        LogFileContent content = {};

        log_file_close(disk->file);
        /* All that was acknowledged is there. */
        g_assert_cmpint(log_file_open(disk->path, &full_birth, &disk->file, &content, NULL), ==, LOG_FILE_OPENED);
        g_assert_cmpuint(content.n_entries, ==, disk->index - 1);
        g_assert_cmpuint(content.vote.term, ==, disk->term);
        log_file_content_clear(&content);
        log_file_close(disk->file);
        g_assert_cmpint(umount(disk->directory), ==, 0);
        directory_remove(disk->directory);
        g_free(disk->directory);
        g_free(disk->filler);
        g_free(disk->path);
        g_free(disk->reserve);
}

static void write_barriers(FullDisk *disk, unsigned n) {
        LogWrite vote = { .set_vote = true };
        for (unsigned i = 0; i < n; i++) {
                vote.vote = (LogFileVote) { .term = ++disk->term, .starts = 1 };
                g_assert_cmpint(log_file_write(disk->file, &vote, 1), ==, 0);
                g_assert_cmpint(write_of_type(disk->file, disk->index++, LOG_ENTRY_BARRIER, 8, false), ==, 0);
                bool whole = size_of(disk->reserve) >= LOG_FILE_RESERVE;
                int r = write_of_type(disk->file, disk->index, LOG_ENTRY_COMMAND, 100, false);
                g_assert_true(r == -ENOSPC || (r == 0 && whole));
                disk->index += r == 0;
                (void) log_file_tidy(disk->file, true);
                if (i % 100 == 0)
                        fill_disk(disk->filler);        /* what is given back is gone */
        }
}

static void test_a_full_disk_has_room_for_thousands_of_barriers(void) {
        FullDisk disk;
        if (!full_disk_make(&disk, false))
                return;
        write_barriers(&disk, 3000);
        g_assert_cmpint(write_of_type(disk.file, disk.index++, LOG_ENTRY_CHANGE, 600, false), ==, 0);
        g_assert_cmpint(g_unlink(disk.filler), ==, 0);
        g_assert_cmpint(write_of_type(disk.file, disk.index++, LOG_ENTRY_COMMAND, 100000, false), ==, 0);
        full_disk_free(&disk);
}

static void test_after_a_start_on_a_full_disk_there_is_room_for_a_thousand_barriers(void) {
        FullDisk disk;
        if (!full_disk_make(&disk, true))
                return;
        write_barriers(&disk, 1000);
        full_disk_free(&disk);
}

/* As many as 256 KiB; and when there is no room for one more there still is for votes and barriers. */
static void test_a_full_disk_has_room_for_the_entries_before_a_barrier(void) {
        for (int restarted = 0; restarted < 2; restarted++) {
                FullDisk disk;
                size_t bytes = 0;
                int r;
                if (!full_disk_make(&disk, restarted))
                        return;
                for (; (r = write_of_type(disk.file, disk.index, LOG_ENTRY_COMMAND, 400, true)) == 0; bytes += 400) {
                        disk.index++;
                        (void) log_file_tidy(disk.file, true);
                        g_assert_cmpuint(bytes, <, 6U << 20);
                }
                g_assert_cmpint(r, ==, -ENOSPC);
                g_test_message("%zu bytes of entries", bytes);
                g_assert_cmpuint(bytes, >=, 256U << 10);
                write_barriers(&disk, 15);
                full_disk_free(&disk);
        }
}

static void test_after_a_start_on_a_full_disk_there_is_room_for_votes(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL);
        g_autofree char *path = g_build_filename(directory, "registry.db", NULL);
        g_autofree char *reserve = g_build_filename(directory, "registry.db-reserve", NULL);
        LogFileBirth birth = { .server_id = 1, .configuration = "members!", .configuration_size = 8 };
        LogWrite vote = { .set_vote = true, .vote = { .term = 1, .starts = 1 } };
        LogFileContent content = {};
        LogFile *file = NULL;

        if (!mount_small(directory, "size=6m"))
                return;
        g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_CREATED);
        log_file_content_clear(&content);
        g_assert_cmpint(log_file_write(file, &vote, 1), ==, 0);
        g_assert_cmpint(write_large(file, 2), ==, 0);
        g_assert_cmpint(log_file_tidy(file, true), ==, 0);
        g_assert_cmpint(size_of(reserve), ==, LOG_FILE_RESERVE);
        log_file_close(file);
        fill_disk(filler);

        g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_OPENED);
        log_file_content_clear(&content);
        g_assert_cmpint(write_large(file, 3), ==, -ENOSPC);
        for (unsigned i = 0; i < 200; i++) {            /* more than there is room for side by side */
                vote.vote.term++;
                g_assert_cmpint(log_file_write(file, &vote, 1), ==, 0);
        }
        g_assert_cmpint(size_of(reserve), <, LOG_FILE_RESERVE);
        g_assert_cmpint(write_large(file, 3), ==, -ENOSPC);
        g_assert_cmpint(g_unlink(filler), ==, 0);
        g_assert_cmpint(write_large(file, 3), ==, 0);
        g_assert_cmpint(log_file_tidy(file, true), ==, 0);
        g_assert_cmpint(size_of(reserve), ==, LOG_FILE_RESERVE);
        log_file_close(file);
        g_assert_cmpint(log_file_open(path, &birth, &file, &content, NULL), ==, LOG_FILE_OPENED);
        g_assert_cmpuint(content.vote.term, ==, 201);
        g_assert_cmpuint(content.n_entries, ==, 3);
        log_file_content_clear(&content);
        log_file_close(file);
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static bool reserves_are_whole(World *world, void *userdata) {
        for (size_t i = 0; i < world->n; i++) {
                g_autofree char *reserve = g_strconcat(world->nodes[i].path, "-reserve", NULL);
                if (size_of(reserve) < LOG_FILE_RESERVE)
                        return false;
        }
        return true;
}

/* What is held for a full disk is made behind the writes. */
static void wait_prepared(World *world) {
        world_until(world, reserves_are_whole, NULL, "room for a full disk");
        world_for(world, 200);
}

static bool is_confirmed(Node *node) {
        Answer confirmed = {};
        g_assert_cmpint(raft_engine_confirm(node->engine, answer_take, &confirmed, NULL), ==, RAFT_SUBMIT_TAKEN);
        world_wait_answer(node->world, &confirmed);
        return confirmed.outcome == RAFT_OUTCOME_DONE;
}

static void test_three_with_full_disks_elect_another_leader(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL);

        if (!mount_small(directory, "size=16m"))
                return;
        {
                g_autoptr(World) world = world_new(3, directory);

                world_up(world);
                Node *leader = world_wait_leader(world);
                for (unsigned i = 0; i < 5; i++)
                        leader = world_write(world, "a");
                for (size_t i = 0; i < 3; i++)
                        node_wait_state(&world->nodes[i], leader->state->str);
                wait_prepared(world);
                fill_disk(filler);
                node_down(leader);
                fill_disk(filler);
                Node *second = world_wait_leader(world);
                g_assert_true(is_confirmed(second));
                g_assert_cmpint(g_unlink(filler), ==, 0);
                write_patiently(second, "b");
        }
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static bool all_are_ill(World *world, void *userdata) {
        for (size_t i = 0; i < world->n; i++)
                if (world->nodes[i].engine && world->nodes[i].store_error == 0)
                        return false;
        return true;
}

/* Entries that nobody could write stand in the log before the new leader's barrier; then before the next one's. */
static void test_leaders_follow_each_other_while_all_disks_are_full_and_entries_wait(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL);

        if (!mount_small(directory, "size=16m"))
                return;
        {
                g_autoptr(World) world = world_new(3, directory);
                g_autofree char *large = g_strnfill(20000, 'L');

                world_up(world);
                Node *leader = world_wait_leader(world);
                leader = world_write(world, "a");
                for (size_t i = 0; i < 3; i++)
                        node_wait_state(&world->nodes[i], leader->state->str);
                wait_prepared(world);
                fill_disk(filler);
                for (unsigned i = 0; i < 12; i++) {
                        /* Who leads may have room for more than the others: what is not committed is not waited for. */
                        while (!all_are_ill(world, NULL)) {
                                leader = world_leader(world);
                                RaftStatus status = leader ? node_status(leader) : (RaftStatus) {};
                                if (leader && status.store_error == 0 && status.persisted_index == status.last_index)
                                        (void) raft_engine_submit(leader->engine, large, strlen(large), NULL, NULL,
                                                                  NULL);
                                g_assert_cmpint(sd_event_run(world->event, 10000), >=, 0);
                        }
                        leader = world_wait_leader(world);      /* another one, if this one lost its patience */
                        g_assert_cmpuint(node_status(leader).persisted_index, <, node_status(leader).last_index);
                        node_down(leader);
                        g_assert_true(is_confirmed(world_wait_leader(world)));
                        node_up(leader);
                        fill_disk(filler);
                }
                g_assert_cmpint(g_unlink(filler), ==, 0);
                write_patiently(world_wait_leader(world), "b");
        }
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

/* The largest write of all is the likeliest to find no room first. */
static void test_an_own_snapshot_that_finds_no_room_is_in_no_leaders_way(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL);

        if (!mount_small(directory, "size=40m"))
                return;
        {
                g_autoptr(World) world = world_new(3, directory);
                g_autofree char *large = g_strnfill(60000, 'L');

                world_up(world);
                Node *leader = world_wait_leader(world);
                for (unsigned i = 0; i < 48; i++)
                        leader = world_write(world, large);
                for (size_t i = 0; i < 3; i++)
                        node_wait_state(&world->nodes[i], leader->state->str);
                wait_prepared(world);
                fill_disk(filler);
                for (size_t i = 0; i < 3; i++) {
                        Node *node = &world->nodes[i];
                        g_assert_cmpint(raft_engine_take_snapshot(node->engine, node_status(node).applied_index,
                                                                  node->state->str, node->state->len),
                                        ==, RAFT_SNAPSHOT_TAKEN);
                }
                world_until(world, all_are_ill, NULL, "full disks");
                const Node *restarted = NULL;
                for (;;) {
                        world_for(world, 4000); /* a snapshot is tried once a second by now, a vote at once */
                        leader = world_wait_leader(world);
                        uint64_t term = node_status(leader).term;
                        node_down(leader);
                        Node *second = world_wait_leader(world);
                        g_assert_true(is_confirmed(second));
                        if (node_status(second).term <= term + 8)
                                break;
                        g_assert_null(restarted);       /* a busy machine may be slow once */
                        restarted = leader;
                        node_up(leader);
                }
                g_assert_cmpint(g_unlink(filler), ==, 0);
                for (size_t i = 0; i < 3; i++) {
                        Node *node = &world->nodes[i];
                        if (!node->engine || node == restarted)
                                continue;       /* it has forgotten that it was to write one */
                        world_until(world, store_is_well, node, "a store that works");
                        g_assert_cmpuint(node_status(node).snapshot_index, >, 0);
                }
                (void) world_write(world, "b");
        }
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static bool leads(World *world, void *userdata) {
        return node_status(userdata).is_leader;
}

/* It has entries that it cannot write, and libraft would let it believe in the leader that sent them for ever. */
static void test_a_voter_with_a_full_disk_votes_for_a_new_leader_and_catches_up_with_it(void) {
        g_autofree char *directory = g_dir_make_tmp("gpupool-full-XXXXXX", NULL);
        g_autofree char *filler = g_build_filename(directory, "filler", NULL), *large = g_strnfill(40000, 'L');

        if (!mount_small(directory, "size=6m"))
                return;
        {
                g_autoptr(World) world = world_new(3, NULL);
                Node *full = &world->nodes[2];

                g_free(full->path);
                full->path = g_build_filename(directory, "node-2.db", NULL);
                world_up(world);
                Node *leader = world_wait_leader(world);
                while (leader == full) {
                        (void) raft_engine_transfer(full->engine, 0);
                        world_for(world, 100);
                        leader = world_wait_leader(world);
                }
                leader = world_write(world, large);
                node_wait_state(full, leader->state->str);
                fill_disk(filler);
                while (full->store_error == 0)
                        leader = world_write(world, large);
                for (unsigned i = 0; i < 200; i++)
                        leader = world_write(world, "small");
                Node *well = leader == &world->nodes[0] ? &world->nodes[1] : &world->nodes[0];
                node_wait_state(well, leader->state->str);
                g_assert_cmpuint(node_status(full).persisted_index, <, node_status(full).last_index);

                node_down(leader);
                world_until(world, leads, well, "a leader with the vote of the one whose disk is full");
                /* Its confirmation needs the barrier on that disk, and so all that it has missed. */
                g_assert_true(world_wait_leader(world) == well);
                g_assert_true(is_confirmed(well));
                node_wait_state(full, well->state->str);
                g_assert_cmpint(g_unlink(filler), ==, 0);
                write_patiently(world_wait_leader(world), "b");
        }
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        fault_vfs_install();
#define TEST(name) g_test_add_func("/store/faults/" #name, test_##name)
        TEST(nothing_is_lost_when_a_write_finds_no_room);
        TEST(nothing_is_lost_when_a_write_fails);
        TEST(nothing_is_lost_when_a_sync_fails);
        TEST(a_birth_that_fails_can_be_repeated);
        TEST(an_entry_that_cannot_be_written_keeps_its_place);
        TEST(the_term_is_confirmed_while_the_disk_is_full);
        TEST(a_restart_on_a_full_disk_shows_what_was_kept_and_leads);
        TEST(a_checkpoint_that_fails_costs_nothing);
        TEST(a_full_disk_heals_when_there_is_room);
        TEST(a_full_disk_has_room_for_votes_but_not_for_entries);
        TEST(after_a_start_on_a_full_disk_there_is_room_for_votes);
        TEST(a_full_disk_has_room_for_thousands_of_barriers);
        TEST(after_a_start_on_a_full_disk_there_is_room_for_a_thousand_barriers);
        TEST(a_full_disk_has_room_for_the_entries_before_a_barrier);
        TEST(three_with_full_disks_elect_another_leader);
        TEST(leaders_follow_each_other_while_all_disks_are_full_and_entries_wait);
        TEST(an_own_snapshot_that_finds_no_room_is_in_no_leaders_way);
        TEST(a_voter_with_a_full_disk_votes_for_a_new_leader_and_catches_up_with_it);
        return g_test_run();
}
