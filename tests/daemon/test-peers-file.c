/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>

#include "core/names.h"
#include "daemon/peers-file.h"
#include "daemon/reset.h"

static char *make_directory(void) {
        g_autoptr(GError) error = NULL;
        char *path = g_dir_make_tmp("gpupool-test-XXXXXX", &error);
        g_assert_no_error(error);
        return path;
}

static void remove_directory(char *path) {
        g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
        for (const char *name; (name = g_dir_read_name(directory));) {
                g_autofree char *file = g_build_filename(path, name, NULL);
                g_assert_cmpint(g_unlink(file), ==, 0);
        }
        g_assert_cmpint(g_rmdir(path), ==, 0);
        g_free(path);
}

static void put(const char *directory, const char *name, const char *content, gssize size) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_assert_true(g_file_set_contents(path, content, size, NULL));
}

static bool has(const char *directory, const char *name) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void add_peer(PeersFile *file, uint8_t n, const char *name, bool member) {
        static char *addresses[] = { (char *) "10.0.0.1:7411", (char *) "[fd77::1]:7411" };
        uint8_t id[ID_SIZE] = { n }, key[PEER_KEY_SIZE] = { n, 1 };
        Gpupool1__PeerRecord record = GPUPOOL1__PEER_RECORD__INIT;
        record.node = (ProtobufCBinaryData) { .len = sizeof(id), .data = id };
        record.key = (ProtobufCBinaryData) { .len = sizeof(key), .data = key };
        record.name = (char *) name;
        record.addresses = addresses;
        record.n_addresses = G_N_ELEMENTS(addresses);
        record.member = member;
        g_assert_cmpint(peers_file_add(file, &record), ==, 0);
}

static void test_what_is_saved_is_loaded(void) {
        char *directory = make_directory();
        PeersFile file = { .cluster = { { 9 } }, .cluster_name = strdup("lab"), .joining = true }, back = {};
        add_peer(&file, 1, "a", true);
        add_peer(&file, 2, "b", false);
        g_assert_cmpint(peers_file_load(directory, &back), ==, -ENOENT);
        g_assert_cmpint(peers_file_save(directory, &file), ==, 0);
        g_assert_cmpint(peers_file_load(directory, &back), ==, 0);
        g_assert_true(ID_EQUAL(&file.cluster, &back.cluster));
        g_assert_cmpstr(back.cluster_name, ==, "lab");
        g_assert_true(back.joining);
        g_assert_false(back.removed);
        g_assert_cmpuint(back.peers.n, ==, 2);
        g_assert_cmpstr(back.peers.items[1].name, ==, "b");
        g_assert_cmpstr(back.peers.items[1].addresses.items[1], ==, "[fd77::1]:7411");
        g_assert_true(back.peers.items[0].member);
        g_assert_cmpuint(back.peers.items[1].key[0], ==, 2);
        peers_file_clear(&file);
        peers_file_clear(&back);
        remove_directory(directory);
}

/* Each byte of a good file turned, and each length: refused or read, never a crash. */
static void test_a_damaged_file_is_refused_or_read(void) {
        char *directory = make_directory();
        g_autofree char *path = g_build_filename(directory, PEERS_FILE, NULL), *bytes = NULL;
        PeersFile file = { .cluster = { { 9 } } };
        gsize size;
        add_peer(&file, 1, "a", true);
        g_assert_cmpint(peers_file_save(directory, &file), ==, 0);
        peers_file_clear(&file);
        g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
        for (gsize i = 0; i < size; i++) {
                PeersFile back = {};
                put(directory, PEERS_FILE, bytes, (gssize) i);
                g_assert_cmpint(peers_file_load(directory, &back), <=, 0);
                peers_file_clear(&back);
                bytes[i] ^= 0x55;
                put(directory, PEERS_FILE, bytes, (gssize) size);
                bytes[i] ^= 0x55;
                int r = peers_file_load(directory, &back);
                g_assert_true(r == 0 || r == -EBADMSG);
                peers_file_clear(&back);
        }
        remove_directory(directory);
}

static void test_what_is_no_peer_is_refused(void) {
        uint8_t id[ID_SIZE] = { 1 }, key[PEER_KEY_SIZE] = { 1 };
        PeersFile file = {};
        Gpupool1__PeerRecord record = GPUPOOL1__PEER_RECORD__INIT;
        record.node = (ProtobufCBinaryData) { .len = sizeof(id), .data = id };
        record.key = (ProtobufCBinaryData) { .len = sizeof(key) - 1, .data = key };
        record.name = (char *) "a";
        g_assert_cmpint(peers_file_add(&file, &record), ==, -EINVAL);
        record.key.len = sizeof(key);
        record.name = (char *) "no name";
        g_assert_cmpint(peers_file_add(&file, &record), ==, -EINVAL);
        char *addresses[ADDRESSES_MAX + 1];
        for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++)
                addresses[i] = (char *) "10.0.0.1:1";
        record.name = (char *) "a";
        record.addresses = addresses;
        record.n_addresses = G_N_ELEMENTS(addresses);
        g_assert_cmpint(peers_file_add(&file, &record), ==, -EINVAL);
        record.n_addresses--;
        g_assert_cmpint(peers_file_add(&file, &record), ==, 0);
        peers_file_clear(&file);
}

static void test_a_reset_takes_all_and_only_what_the_node_knew(void) {
        static const char *const known[] = { "node-id", "key.pem", "peers", "registry.db", "registry.db-wal" };
        char *directory = make_directory();
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                put(directory, known[i], "x", 1);
        put(directory, "notes", "x", 1);
        g_assert_cmpint(reset_finish(directory), ==, 0);
        g_assert_true(has(directory, "node-id"));
        g_assert_cmpint(reset_mark(directory), ==, 0);
        g_assert_cmpint(reset_mark(directory), ==, 0);
        g_assert_cmpint(reset_finish(directory), ==, 1);
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                g_assert_false(has(directory, known[i]));
        g_assert_true(has(directory, "notes"));
        g_assert_cmpint(reset_finish(directory), ==, 0);
        remove_directory(directory);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peers-file/what-is-saved-is-loaded", test_what_is_saved_is_loaded);
        g_test_add_func("/peers-file/a-damaged-file-is-refused-or-read", test_a_damaged_file_is_refused_or_read);
        g_test_add_func("/peers-file/what-is-no-peer-is-refused", test_what_is_no_peer_is_refused);
        g_test_add_func("/reset/takes-all-and-only-what-the-node-knew",
                        test_a_reset_takes_all_and_only_what_the_node_knew);
        return g_test_run();
}
