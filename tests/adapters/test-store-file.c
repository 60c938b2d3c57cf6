/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The registry's file: born whole, refused untouched, every byte of it vouched for. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/store/checksum.h"
#include "adapters/store/log-file.h"
#include "store-world.h"
#include "util/cleanup.h"

#define SERVER UINT64_C(0xfedcba9876543210)     /* does not fit a signed number */

static const LogFileBirth birth = { .cluster_id = "sixteen bytes id", .server_id = SERVER, .configuration = "members!",
                                    .configuration_size = 8 };

/* ---- building ---- */

static char *path_in(const char *directory) {
        return g_build_filename(directory, "registry.db", NULL);
}

static LogFile *open_good(const char *path, LogFileContent *content) {
        g_autofree char *sentence = NULL;
        LogFile *file = NULL;
        int r = log_file_open(path, &birth, &file, content, &sentence);

        if (r != LOG_FILE_OPENED && r != LOG_FILE_CREATED)
                g_error("%d %s", r, sentence);
        return file;
}

static LogWrite write_of(uint64_t first, uint64_t term, const char *const *texts) {
        LogWrite write = { .first_index = first, .committed = first - 1 };

        write.n_entries = g_strv_length((char **) texts);
        write.entries = calloc(write.n_entries, sizeof(*write.entries));
        for (size_t i = 0; i < write.n_entries; i++)
                write.entries[i] = log_entry_new(term, LOG_ENTRY_COMMAND, texts[i], strlen(texts[i]));
        return write;
}

static void write_now(LogFile *file, LogWrite write) {
        g_assert_cmpint(log_file_write(file, &write, 1), ==, 0);
        log_snapshot_free(write.snapshot);
        log_entries_unref(write.entries, write.n_entries);
}

#define TEXTS(...) ((const char *const[]) { __VA_ARGS__, NULL })

static void write_vote(LogFile *file, uint64_t term) {
        write_now(file, (LogWrite) { .set_vote = true, .vote = { .term = term, .voted_for = SERVER, .starts = 3 } });
}

/* What a file says, as text. */
static char *describe(const LogFileContent *content) {
        GString *out = g_string_new(NULL);

        g_string_append_printf(out, "server %" G_GUINT64_FORMAT " term %" G_GUINT64_FORMAT " vote %" G_GUINT64_FORMAT
                               " starts %" G_GUINT64_FORMAT "\n", content->server_id, content->vote.term,
                               content->vote.voted_for, content->vote.starts);
        if (content->snapshot)
                g_string_append_printf(out, "snapshot %" G_GUINT64_FORMAT "^%" G_GUINT64_FORMAT " %.*s\n",
                                       content->snapshot->index, content->snapshot->term,
                                       (int) content->snapshot->data_size, (const char *) content->snapshot->data);
        for (size_t i = 0; i < content->n_entries; i++)
                g_string_append_printf(out, "%zu^%" G_GUINT64_FORMAT " %d %.*s\n", content->first_index + i,
                                       content->entries[i]->term, content->entries[i]->type,
                                       (int) content->entries[i]->size, (const char *) content->entries[i]->data);
        return g_string_free(out, FALSE);
}

static char *describe_file(const char *path) {
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);
        char *text = describe(&content);

        log_file_content_clear(&content);
        log_file_close(file);
        return text;
}

/* Two terms, a snapshot with entries behind and before it, entries of many pages and of none. */
static void fill(LogFile *file) {
        g_autofree char *large = g_strnfill(9000, 'L');

        write_vote(file, 2);
        write_now(file, write_of(2, 2, TEXTS("two", "three", "", large, "six")));
        write_now(file, (LogWrite) { .snapshot = log_snapshot_new(5, 2, 1, "members!", 8, "state at five", 13),
                                     .keep_from = 4 });
        write_now(file, write_of(7, 2, TEXTS("seven")));
        write_now(file, write_of(8, 2, TEXTS("eight")));
        write_now(file, write_of(9, 2, TEXTS("nine")));
}

static char *new_directory(void) {
        char *directory = g_dir_make_tmp("gpupool-file-XXXXXX", NULL);
        g_assert_nonnull(directory);
        return directory;
}

static char *filled_file(const char *directory) {
        LogFileContent content = {};
        char *path = path_in(directory);
        _cleanup_(log_file_closep) LogFile *file = open_good(path, &content);

        fill(file);
        log_file_content_clear(&content);
        return path;
}

static void assert_refused(const char *directory, LogFileVerdict verdict, const char *word) {
        g_autofree char *before = directory_fingerprint(directory), *path = path_in(directory), *after = NULL;
        g_autofree char *sentence = NULL;
        LogFileContent content = {};
        LogFile *file = NULL;

        int r = log_file_open(path, &birth, &file, &content, &sentence);
        g_assert_null(file);
        g_assert_cmpint(r, ==, (int) verdict);
        g_assert_nonnull(sentence);
        g_assert_nonnull(strstr(sentence, path));
        g_assert_nonnull(strstr(sentence, word));
        after = directory_fingerprint(directory);
        g_assert_cmpstr(before, ==, after);
}

static void overwrite(const char *path, off_t offset, const void *bytes, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        g_assert_cmpint(pwrite(fd, bytes, size, offset), ==, (gssize) size);
}

/* ---- birth ---- */

static void test_a_new_file_begins_with_the_members(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *sentence = NULL;
        LogFileContent content = {};
        LogFile *file = NULL;
        struct stat st;

        g_assert_cmpint(log_file_open(path, &birth, &file, &content, &sentence), ==, LOG_FILE_CREATED);
        g_assert_cmpuint(content.n_entries, ==, 1);
        g_assert_cmpuint(content.first_index, ==, 1);
        g_assert_cmpint(content.entries[0]->type, ==, LOG_ENTRY_CHANGE);
        g_assert_cmpuint(content.vote.term, ==, 1);
        g_assert_cmpuint(content.server_id, ==, SERVER);
        g_assert_cmpmem(content.cluster_id, 16, birth.cluster_id, 16);
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
        log_file_content_clear(&content);
        log_file_close(file);
        directory_remove(directory);
}

static void test_a_file_for_a_joining_node_is_empty(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        LogFileBirth joining = birth;
        LogFileContent content = {};
        LogFile *file = NULL;

        joining.configuration = NULL;
        g_assert_cmpint(log_file_open(path, &joining, &file, &content, NULL), ==, LOG_FILE_CREATED);
        g_assert_cmpuint(content.n_entries, ==, 0);
        g_assert_cmpuint(content.first_index, ==, 1);
        g_assert_cmpuint(content.vote.term, ==, 0);
        log_file_close(file);
        directory_remove(directory);
}

static void test_a_missing_file_is_not_made_unasked(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *sentence = NULL;
        LogFileContent content = {};
        LogFile *file = NULL;

        g_assert_cmpint(log_file_open(path, NULL, &file, &content, &sentence), ==, -ENOENT);
        g_assert_nonnull(strstr(sentence, path));
        g_assert_cmpint(g_rmdir(directory), ==, 0);
}

static void test_a_birth_cut_short_is_begun_anew(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *rest = g_strconcat(path, ".new", NULL), *journal = g_strconcat(path, ".new-journal", NULL);

        g_assert_true(g_file_set_contents(rest, "half", -1, NULL));
        g_assert_true(g_file_set_contents(journal, "half", -1, NULL));
        g_autofree char *text = describe_file(path);
        g_assert_nonnull(strstr(text, "1^1 3 members!"));
        g_assert_false(g_file_test(rest, G_FILE_TEST_EXISTS));
        g_assert_false(g_file_test(journal, G_FILE_TEST_EXISTS));
        directory_remove(directory);
}

/* ---- what is written is read ---- */

static void test_all_that_was_written_is_read_again(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory), *text = describe_file(path);

        g_assert_nonnull(strstr(text, "term 2 vote 18364758544493064720 starts 3\nsnapshot 5^2 state at five\n"
                                      "4^2 1 \n5^2 1 LLL"));
        g_assert_true(g_str_has_suffix(text, "6^2 1 six\n7^2 1 seven\n8^2 1 eight\n9^2 1 nine\n"));
        directory_remove(directory);
}

static void test_after_closing_there_is_one_file_and_the_reserve(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        g_autofree char *reserve = g_strconcat(path, "-reserve", NULL);

        g_assert_cmpint(g_unlink(path), ==, 0);
        g_assert_cmpint(g_unlink(reserve), ==, 0);
        g_assert_cmpint(g_rmdir(directory), ==, 0);
}

static void test_new_entries_replace_what_stood_there(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory), *text = NULL;
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);

        log_file_content_clear(&content);
        write_vote(file, 4);
        write_now(file, write_of(7, 4, TEXTS("other")));
        log_file_close(file);
        text = describe_file(path);
        g_assert_true(g_str_has_suffix(text, "6^2 1 six\n7^4 1 other\n"));
        directory_remove(directory);
}

static void test_a_foreign_snapshot_takes_all_entries_away(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);

        log_file_content_clear(&content);
        write_now(file, (LogWrite) { .snapshot = log_snapshot_new(90, 2, 1, "members!", 8, "", 0),
                                     .keep_from = UINT64_MAX });
        log_file_close(file);
        file = open_good(path, &content);
        g_assert_cmpuint(content.n_entries, ==, 0);
        g_assert_cmpuint(content.first_index, ==, 91);
        g_assert_cmpuint(content.snapshot->data_size, ==, 0);
        log_file_content_clear(&content);
        log_file_close(file);
        directory_remove(directory);
}

static void test_what_was_committed_is_remembered(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);

        g_assert_cmpuint(content.committed, ==, 8);     /* as known when 9 was written */
        log_file_content_clear(&content);
        log_file_close(file);
        directory_remove(directory);
}

static void test_the_write_ahead_log_does_not_grow_without_end(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL), *large = g_strnfill(60000, 'L');
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);
        struct stat st;

        log_file_content_clear(&content);
        for (uint64_t i = 2; i < 400; i++) {
                write_now(file, write_of(i, 1, TEXTS(large)));
                g_assert_cmpint(log_file_tidy(file, i % 2 == 0), ==, 0);
        }
        g_assert_cmpint(stat(wal, &st), ==, 0);
        g_assert_cmpint(st.st_size, <, 3 << 20);
        log_file_close(file);
        directory_remove(directory);
}

/* ---- refused, untouched ---- */

static void test_garbage_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory), *garbage = g_strnfill(20000, '?');

        g_assert_true(g_file_set_contents(path, garbage, 20000, NULL));
        assert_refused(directory, LOG_FILE_DAMAGED, "not a registry");
        directory_remove(directory);
}

static void test_a_truncated_file_is_refused(void) {
        static const off_t sizes[] = { 0, 1, 99, 100, 512, 4095, 4096, 8192, 12288, 16384, 20479 };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *directory = new_directory(), *path = filled_file(directory);
                struct stat st;
                g_assert_cmpint(stat(path, &st), ==, 0);
                g_assert_cmpint(st.st_size, >, sizes[i]);
                g_assert_cmpint(truncate(path, sizes[i]), ==, 0);
                assert_refused(directory, LOG_FILE_DAMAGED, sizes[i] < 100 ? "truncated" : "damaged");
                directory_remove(directory);
        }
}

static void test_a_newer_format_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);

        overwrite(path, 60, "\0\0\0\2", 4);
        assert_refused(directory, LOG_FILE_NEWER, "newer gpupool: format 2, this one knows 1");
        directory_remove(directory);
}

static void test_a_file_of_another_program_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);

        overwrite(path, 68, "MINE", 4);
        assert_refused(directory, LOG_FILE_FOREIGN, "another program");
        directory_remove(directory);
}

static void test_the_file_of_another_node_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory), *before = NULL, *after = NULL;
        g_autofree char *sentence = NULL;
        LogFileBirth other = birth;
        LogFileContent content = {};
        LogFile *file = NULL;

        other.server_id = 7;
        before = directory_fingerprint(directory);
        g_assert_cmpint(log_file_open(path, &other, &file, &content, &sentence), ==, LOG_FILE_FOREIGN);
        g_assert_nonnull(strstr(sentence, "another node"));
        after = directory_fingerprint(directory);
        g_assert_cmpstr(before, ==, after);
        directory_remove(directory);
}

static void test_a_trigger_in_the_file_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        sqlite3 *db = NULL;

        g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_exec(db, "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM meta; END", NULL,
                                     NULL, NULL), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
        assert_refused(directory, LOG_FILE_DAMAGED, "tables");
        directory_remove(directory);
}

static void test_a_hole_in_the_log_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        sqlite3 *db = NULL;

        g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_exec(db, "DELETE FROM entry WHERE idx = 8", NULL, NULL, NULL), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
        assert_refused(directory, LOG_FILE_DAMAGED, "entries are missing");
        directory_remove(directory);
}

static void test_a_rollback_journal_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        g_autofree char *journal = g_strconcat(path, "-journal", NULL);

        g_assert_true(g_file_set_contents(journal, "\xd9\xd5\x05\xf9 and so on", -1, NULL));
        assert_refused(directory, LOG_FILE_DAMAGED, "rollback journal");
        directory_remove(directory);
}

static void test_a_write_ahead_log_without_its_file_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL);

        g_assert_true(g_file_set_contents(wal, "of another life", -1, NULL));
        assert_refused(directory, LOG_FILE_DAMAGED, "is gone");
        directory_remove(directory);
}

static void test_what_is_not_a_file_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory), *real = NULL;

        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
        assert_refused(directory, LOG_FILE_DAMAGED, "not a file");
        g_assert_cmpint(g_rmdir(path), ==, 0);
        g_assert_cmpint(mkfifo(path, 0600), ==, 0);
        assert_refused(directory, LOG_FILE_DAMAGED, "not a file");
        g_assert_cmpint(g_unlink(path), ==, 0);
        real = g_build_filename(directory, "elsewhere", NULL);
        g_assert_cmpint(symlink(real, path), ==, 0);
        assert_refused(directory, LOG_FILE_DAMAGED, "symbolic link");
        directory_remove(directory);
}

static void test_a_file_in_use_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);

        assert_refused(directory, LOG_FILE_IN_USE, "in use");
        log_file_content_clear(&content);
        log_file_close(file);
        directory_remove(directory);
}

static void test_a_file_that_sqlite_holds_elsewhere_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        int ready[2], end[2];
        char byte;

        g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
        g_assert_cmpint(pipe2(end, O_CLOEXEC), ==, 0);
        pid_t pid = fork();
        if (pid == 0) {
                sqlite3 *db = NULL;
                bool held = sqlite3_open(path, &db) == SQLITE_OK &&
                            sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE", NULL, NULL, NULL) ==
                                    SQLITE_OK;
                (void) !write(ready[1], held ? "y" : "n", 1);
                (void) close(end[1]);
                (void) !read(end[0], &byte, 1);
                _exit(0);
        }
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        g_assert_cmpint(byte, ==, 'y');
        assert_refused(directory, LOG_FILE_IN_USE, "in use");
        (void) close(end[1]);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
        directory_remove(directory);
}

static bool mount_small(const char *directory, const char *options) {
        if (mount("tmpfs", directory, "tmpfs", 0, options) == 0)
                return true;
        g_test_skip("needs root: mounting a tmpfs");
        directory_remove(directory);
        return false;
}

static void test_a_read_only_file_system_is_refused(void) {
        g_autofree char *directory = new_directory(), *path = NULL;

        if (!mount_small(directory, "size=4m"))
                return;
        path = filled_file(directory);
        g_assert_cmpint(mount(NULL, directory, NULL, MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
        assert_refused(directory, LOG_FILE_READ_ONLY, "Read-only file system");
        g_assert_cmpint(mount(NULL, directory, NULL, MS_REMOUNT, NULL), ==, 0);
        g_assert_cmpint(g_unlink(path), ==, 0);
        g_assert_cmpint(mount(NULL, directory, NULL, MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
        assert_refused(directory, LOG_FILE_READ_ONLY, "cannot be created");
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

static void test_files_of_somebody_else_are_refused(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory);
        int status;

        if (geteuid() != 0) {
                g_test_skip("needs root: becoming somebody else");
                directory_remove(directory);
                return;
        }
        g_assert_cmpint(chmod(directory, 0755), ==, 0);
        g_assert_cmpint(chmod(path, 0644), ==, 0);
        pid_t pid = fork();
        if (pid == 0) {
                g_assert_cmpint(setresuid(65534, 65534, 65534), ==, 0);
                assert_refused(directory, LOG_FILE_READ_ONLY, "Permission denied");
                _exit(0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        directory_remove(directory);
}

static void test_a_full_disk_at_birth_leaves_nothing(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory), *filler = NULL;
        g_autofree char *sentence = NULL;
        LogFileContent content = {};
        LogFile *file = NULL;

        if (!mount_small(directory, "size=64k"))
                return;
        filler = g_build_filename(directory, "filler", NULL);
        int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        while (write(fd, "full", 4) > 0)
                ;
        (void) close(fd);
        g_assert_cmpint(log_file_open(path, &birth, &file, &content, &sentence), ==, -ENOSPC);
        g_assert_nonnull(strstr(sentence, "No space left"));
        g_assert_cmpint(g_unlink(filler), ==, 0);
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        g_assert_null(g_dir_read_name(dir));
        g_clear_pointer(&dir, g_dir_close);
        g_assert_cmpint(umount(directory), ==, 0);
        directory_remove(directory);
}

/* ---- every byte is vouched for ---- */

/* Flips a bit of a copy: it is refused and not touched, or it says the same as before (@or_less: or what it said before
 * its last commit: one that is damaged cannot be told from one that was torn). Returns true if refused. */
static bool flip_one(const char *original, const char *name, off_t offset, int bit, const char *expected,
                     const char *or_less) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *wal = g_strconcat(original, "-wal", NULL), *wal_copy = g_strconcat(path, "-wal", NULL);
        g_autofree char *before = NULL, *after = NULL, *sentence = NULL, *said = NULL;
        LogFileContent content = {};
        LogFile *file = NULL;
        uint8_t byte;

        file_copy(original, path);
        if (g_file_test(wal, G_FILE_TEST_EXISTS))
                file_copy(wal, wal_copy);
        g_autofree char *victim = g_strconcat(path, name, NULL);
        int fd = open(victim, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
        byte ^= (uint8_t) (1 << bit);
        g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
        (void) close(fd);

        before = directory_fingerprint(directory);
        int r = log_file_open(path, &birth, &file, &content, &sentence);
        if (r == LOG_FILE_OPENED) {
                said = describe(&content);
                if (strcmp(said, expected) != 0 && (!or_less || strcmp(said, or_less) != 0))
                        g_error("bit %d of byte %ld of *%s flipped, and it says:\n%s", bit, (long) offset, name, said);
                log_file_content_clear(&content);
                log_file_close(file);
                directory_remove(directory);
                return false;
        }
        g_assert_cmpint(r, >=, LOG_FILE_READ_ONLY);
        after = directory_fingerprint(directory);
        if (strcmp(before, after) != 0)
                g_error("bit %d of byte %ld of *%s flipped: refused, but touched:\n%s%s", bit, (long) offset, name,
                        before, after);
        directory_remove(directory);
        return true;
}

static off_t size_of(const char *path) {
        struct stat st;
        g_assert_cmpint(stat(path, &st), ==, 0);
        return st.st_size;
}

static void test_a_flipped_bit_is_found_or_does_no_harm(void) {
        g_autofree char *directory = new_directory(), *path = filled_file(directory), *expected = NULL;
        unsigned refused = 0;

        expected = describe_file(path);
        for (off_t offset = 0; offset < 100; offset++)
                refused += flip_one(path, "", offset, g_test_rand_int_range(0, 8), expected, NULL);
        g_assert_cmpuint(refused, >, 30);
        for (unsigned i = 0; i < 1200; i++)
                refused += flip_one(path, "", g_test_rand_int_range(100, (int) size_of(path)),
                                    g_test_rand_int_range(0, 8), expected, NULL);
        g_assert_cmpuint(refused, >, 400);
        g_test_message("%u of 1300 flips refused, the others in unused bytes", refused);
        directory_remove(directory);
}

/* The file as a crash leaves it: all is still in the write-ahead log. */
static void test_a_flipped_bit_of_the_write_ahead_log_loses_at_most_what_a_crash_may(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory), *crashed = new_directory();
        g_autofree char *copy = path_in(crashed), *wal = g_strconcat(path, "-wal", NULL);
        g_autofree char *wal_copy = g_strconcat(copy, "-wal", NULL), *expected = NULL, *without_last = NULL;
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);
        unsigned refused = 0;

        log_file_content_clear(&content);
        fill(file);
        file_copy(path, copy);
        file_copy(wal, wal_copy);
        log_file_close(file);
        {
                g_autofree char *elsewhere = new_directory(), *look = path_in(elsewhere);
                g_autofree char *look_wal = g_strconcat(look, "-wal", NULL);
                file_copy(copy, look);
                file_copy(wal_copy, look_wal);
                expected = describe_file(look);
                directory_remove(elsewhere);
        }
        without_last = g_strndup(expected, strlen(expected) - strlen("9^2 1 nine\n"));
        g_assert_true(g_str_has_suffix(expected, "9^2 1 nine\n"));

        off_t size = size_of(wal_copy);
        for (off_t offset = 0; offset < 32; offset++)
                refused += flip_one(copy, "-wal", offset, g_test_rand_int_range(0, 8), expected, without_last);
        g_assert_cmpuint(refused, >=, 28);      /* all but the counter of checkpoints, which says nothing */
        for (off_t frame = 32; frame < size; frame += 24 + 4096)
                for (off_t offset = 0; offset < 24; offset++)
                        refused += flip_one(copy, "-wal", frame + offset, g_test_rand_int_range(0, 8), expected,
                                            without_last);
        for (unsigned i = 0; i < 500; i++)
                refused += flip_one(copy, "-wal", g_test_rand_int_range(32, (int) size), g_test_rand_int_range(0, 8),
                                    expected, without_last);
        g_assert_cmpuint(refused, >, 400);
        directory_remove(directory);
        directory_remove(crashed);
}

/* Cut anywhere, the write-ahead log gives what was there before some commit. */
static void test_a_torn_write_ahead_log_gives_a_whole_earlier_state(void) {
        g_autofree char *directory = new_directory(), *path = path_in(directory);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL);
        LogFileContent content = {};
        LogFile *file = open_good(path, &content);
        size_t last = 0;

        log_file_content_clear(&content);
        fill(file);
        for (off_t size = 0; size <= size_of(wal); size += 1373) {
                g_autofree char *crashed = new_directory(), *copy = path_in(crashed);
                g_autofree char *copy_wal = g_strconcat(copy, "-wal", NULL);
                file_copy(path, copy);
                file_copy(wal, copy_wal);
                g_assert_cmpint(truncate(copy_wal, size), ==, 0);
                LogFile *opened = open_good(copy, &content);
                size_t now = content.first_index + content.n_entries - 1;
                g_assert_cmpuint(now, >=, last);
                last = now;
                log_file_content_clear(&content);
                log_file_close(opened);
                directory_remove(crashed);
        }
        g_assert_cmpuint(last, >=, 8);
        log_file_close(file);
        directory_remove(directory);
}

static void test_the_checksum_is_castagnolis(void) {
        static const uint8_t zeros[32];

        g_assert_cmphex(checksum_add(0, "123456789", 9), ==, 0xe3069283);
        g_assert_cmphex(checksum_add(0, zeros, 32), ==, 0x8a9136aa);    /* RFC 3720, B.4 */
        g_assert_cmphex(checksum_add(checksum_add(0, "1234", 4), "56789", 5), ==, 0xe3069283);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/store/file/" #name, test_##name)
        TEST(the_checksum_is_castagnolis);
        TEST(a_new_file_begins_with_the_members);
        TEST(a_file_for_a_joining_node_is_empty);
        TEST(a_missing_file_is_not_made_unasked);
        TEST(a_birth_cut_short_is_begun_anew);
        TEST(all_that_was_written_is_read_again);
        TEST(after_closing_there_is_one_file_and_the_reserve);
        TEST(new_entries_replace_what_stood_there);
        TEST(a_foreign_snapshot_takes_all_entries_away);
        TEST(what_was_committed_is_remembered);
        TEST(the_write_ahead_log_does_not_grow_without_end);
        TEST(garbage_is_refused);
        TEST(a_truncated_file_is_refused);
        TEST(a_newer_format_is_refused);
        TEST(a_file_of_another_program_is_refused);
        TEST(the_file_of_another_node_is_refused);
        TEST(a_trigger_in_the_file_is_refused);
        TEST(a_hole_in_the_log_is_refused);
        TEST(a_rollback_journal_is_refused);
        TEST(a_write_ahead_log_without_its_file_is_refused);
        TEST(what_is_not_a_file_is_refused);
        TEST(a_file_in_use_is_refused);
        TEST(a_file_that_sqlite_holds_elsewhere_is_refused);
        TEST(a_read_only_file_system_is_refused);
        TEST(files_of_somebody_else_are_refused);
        TEST(a_full_disk_at_birth_leaves_nothing);
        TEST(a_flipped_bit_is_found_or_does_no_harm);
        TEST(a_flipped_bit_of_the_write_ahead_log_loses_at_most_what_a_crash_may);
        TEST(a_torn_write_ahead_log_gives_a_whole_earlier_state);
        return g_test_run();
}
