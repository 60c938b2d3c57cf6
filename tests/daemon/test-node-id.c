/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "daemon/node-id.h"

typedef struct Folder {
        char *path, *file, *new_file;
} Folder;

static Folder folder_new(void) {
        Folder folder = { .path = g_dir_make_tmp("gpupool-id-XXXXXX", NULL) };
        g_assert_nonnull(folder.path);
        folder.file = g_build_filename(folder.path, "node-id", NULL);
        folder.new_file = g_build_filename(folder.path, "node-id.new", NULL);
        return folder;
}

static void folder_clear(Folder *folder) {
        (void) g_unlink(folder->file);
        (void) g_unlink(folder->new_file);
        (void) g_rmdir(folder->path);
        g_free(folder->path);
        g_free(folder->file);
        g_free(folder->new_file);
}

static void test_there_is_none_at_first(void) {
        __attribute__((cleanup(folder_clear))) Folder folder = folder_new();
        NodeId id;
        g_assert_cmpint(node_id_read(folder.path, &id), ==, -ENOENT);
}

static void test_what_was_created_is_new_until_it_is_kept(void) {
        __attribute__((cleanup(folder_clear))) Folder folder = folder_new();
        NodeId created, read;
        g_assert_cmpint(node_id_create(folder.path, &created), ==, 0);
        g_assert_cmpint(node_id_read(folder.path, &read), ==, -ENOENT);
        g_assert_cmpint(node_id_read_new(folder.path, &read), ==, 0);
        g_assert_true(ID_EQUAL(&created, &read));

        g_assert_cmpint(node_id_keep(folder.path), ==, 0);
        g_assert_cmpint(node_id_read_new(folder.path, &read), ==, -ENOENT);
        g_assert_cmpint(node_id_read(folder.path, &read), ==, 0);
        g_assert_true(ID_EQUAL(&created, &read));
}

static void test_an_id_is_never_overwritten(void) {
        __attribute__((cleanup(folder_clear))) Folder folder = folder_new();
        NodeId first, second, read;
        g_assert_cmpint(node_id_create(folder.path, &first), ==, 0);
        g_assert_cmpint(node_id_create(folder.path, &second), ==, -EEXIST);
        g_assert_cmpint(node_id_keep(folder.path), ==, 0);
        g_assert_cmpint(node_id_create(folder.path, &second), ==, 0);
        g_assert_cmpint(node_id_keep(folder.path), ==, -EEXIST);
        g_assert_cmpint(node_id_read(folder.path, &read), ==, 0);
        g_assert_true(ID_EQUAL(&first, &read));
}

static void test_garbage_is_refused(void) {
        static const char *const contents[] = {
                "", "\n", "x", "00000000000000000000000000000000\n", "0123456789abcdef0123456789abcdef",
                "0123456789abcdef0123456789abcdeg\n", "0123456789abcdef0123456789abcdef\nmore",
        };
        __attribute__((cleanup(folder_clear))) Folder folder = folder_new();
        for (size_t i = 0; i < G_N_ELEMENTS(contents); i++) {
                NodeId id;
                g_assert_true(g_file_set_contents(folder.file, contents[i], -1, NULL));
                g_assert_cmpint(node_id_read(folder.path, &id), ==, -EBADMSG);
        }
}

static void test_a_link_is_not_followed(void) {
        __attribute__((cleanup(folder_clear))) Folder folder = folder_new();
        NodeId id;
        g_assert_cmpint(symlink("/etc/machine-id", folder.file), ==, 0);
        g_assert_cmpint(node_id_read(folder.path, &id), ==, -ELOOP);
}

static void test_the_engine_knows_it_by_a_number(void) {
        NodeId id = { .bytes = { 0, 0, 0, 0, 0, 0, 1, 2, 9 } }, null = {};
        g_assert_cmpuint(node_id_to_raft(&id), ==, 0x102);
        g_assert_cmpuint(node_id_to_raft(&null), ==, 1);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/node-id/there-is-none-at-first", test_there_is_none_at_first);
        g_test_add_func("/node-id/what-was-created-is-new-until-it-is-kept",
                        test_what_was_created_is_new_until_it_is_kept);
        g_test_add_func("/node-id/an-id-is-never-overwritten", test_an_id_is_never_overwritten);
        g_test_add_func("/node-id/garbage-is-refused", test_garbage_is_refused);
        g_test_add_func("/node-id/a-link-is-not-followed", test_a_link_is_not_followed);
        g_test_add_func("/node-id/the-engine-knows-it-by-a-number", test_the_engine_knows_it_by_a_number);
        return g_test_run();
}
