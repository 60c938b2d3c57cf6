/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Peers and lives over a registry that the test writes: when there is something to tell, and what is forgotten. */

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>

#include "core/names.h"
#include "daemon/lives.h"
#include "daemon/peers.h"

typedef struct Fixture {
        char *folder;
        sd_event *event;
        History *history;
        ClusterFacts *facts;
        Peers peers;
        Lives lives;
} Fixture;

static void on_applied(uint64_t first_event, void *userdata) {
}

static void on_changed(void *userdata) {
}

static void on_fault(const char *sentence, void *userdata) {
        g_error("%s", sentence);
}

static const HistoryCallbacks callbacks = { .applied = on_applied, .changed = on_changed, .fault = on_fault };

static NodeId node_id(unsigned n) {
        return (NodeId) { .bytes = { 1, [6] = (uint8_t) (n >> 8), (uint8_t) n } };
}

/* The history has its own way to say this, which takes a write for each. */
static Registry *registry_of(Fixture *f) {
        return (Registry *) history_registry(f->history);
}

static void add_member(Fixture *f, unsigned n) {
        NodeRecord record = { .id = node_id(n), .has_key = true, .joined_index = 1, .incarnation = 1 };
        char name[16], address[32];
        memcpy(record.key, record.id.bytes, ID_SIZE);
        (void) snprintf(name, sizeof(name), "n%u", n);
        (void) snprintf(address, sizeof(address), "10.1.%u.%u:7411", n >> 8, n & 255U);
        g_assert_cmpint(text_set(&record.name, name), ==, 0);
        g_assert_cmpint(text_set(&record.boot_id, "boot"), ==, 0);
        g_assert_cmpint(text_list_add(&record.addresses, address), ==, 0);
        g_assert_cmpint(array_append(&registry_of(f)->nodes, &record), ==, 0);
        registry_of(f)->members_index++;
}

static Fixture *fixture_of(unsigned n) {
        Fixture *f = g_new0(Fixture, 1);
        f->folder = g_dir_make_tmp("gpupool-peers-XXXXXX", NULL);
        g_assert_nonnull(f->folder);
        g_assert_cmpint(sd_event_new(&f->event), ==, 0);
        _cleanup_free_ char *sentence = NULL;
        HistoryConfig config = { .state_directory = f->folder, .node = node_id(0), .call_timeout_us = 20000000,
                                 .snapshot_entries = 4096 };
        g_assert_cmpint(history_open(&f->history, f->event, &config, &callbacks, f, &sentence), ==, HISTORY_OPENED);
        g_assert_cmpint(history_start(f->history), ==, 0);
        while (!history_leads(f->history))
                g_assert_cmpint(sd_event_run(f->event, 10000000), >, 0);
        ClusterFactsConfig facts = { .node = node_id(0), .generation = 1, .changed = on_changed };
        g_assert_cmpint(cluster_facts_new(&f->facts, f->event, &facts), ==, 0);
        f->peers = (Peers) { .state_directory = f->folder, .node = node_id(0), .history = f->history,
                             .facts = f->facts };
        f->lives = (Lives) { .history = f->history, .facts = f->facts, .node = node_id(0) };
        for (unsigned i = 0; i < n; i++)
                add_member(f, i);
        return f;
}

static Fixture *fixture_free(Fixture *f) {
        peers_clear(&f->peers);
        lives_clear(&f->lives);
        cluster_facts_free(f->facts);
        history_stop(f->history);
        history_free(f->history);
        sd_event_unref(f->event);
        g_autoptr(GDir) directory = g_dir_open(f->folder, 0, NULL);
        for (const char *name; (name = g_dir_read_name(directory));) {
                g_autofree char *path = g_build_filename(f->folder, name, NULL);
                g_assert_cmpint(g_unlink(path), ==, 0);
        }
        g_assert_cmpint(g_rmdir(f->folder), ==, 0);
        g_free(f->folder);
        g_free(f);
        return NULL;
}
DEFINE_CLEANUP(Fixture *, fixture_free);

static void turn(Fixture *f, uint64_t now_us) {
        uint64_t wake_us = 0;
        g_assert_cmpint(peers_turn(&f->peers, now_us, &wake_us), ==, 0);
        g_assert_cmpuint(wake_us, >, now_us);
}

/* Whether a turn looks at the nodes: what nobody said has changed is found only then. */
static bool looks(Fixture *f, uint64_t now_us) {
        uint64_t told = f->peers.told;
        registry_of(f)->nodes.items[1].key[HASH_SIZE - 1]++;
        turn(f, now_us);
        return f->peers.told != told;
}

/* ---- peers ---- */

static void test_where_nothing_changed_no_node_is_looked_at(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(12);
        turn(f, 1);
        g_assert_false(looks(f, 1));
        g_assert_false(looks(f, NEIGHBOURS_EPOCH_US - 1));
}

static void test_whatever_changes_is_looked_at(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(12);
        turn(f, 1);
        add_member(f, 12);
        g_assert_true(looks(f, 1));
        f->peers.connections++;
        g_assert_true(looks(f, 1));
        f->peers.file.removed = true;
        g_assert_true(looks(f, 1));
        g_assert_true(looks(f, NEIGHBOURS_EPOCH_US));
        peers_begin_anew(&f->peers);
        g_assert_true(looks(f, NEIGHBOURS_EPOCH_US));
        g_assert_false(looks(f, NEIGHBOURS_EPOCH_US));
}

static void test_the_file_follows_the_registry(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(2);
        turn(f, 1);
        g_assert_cmpuint(f->peers.file.peers.n, ==, 1);
        add_member(f, 2);
        turn(f, 1);
        g_assert_cmpuint(f->peers.file.peers.n, ==, 2);
        _cleanup_(peers_file_clear) PeersFile file = {};
        g_assert_cmpint(peers_file_load(f->folder, &file), ==, 0);
        g_assert_cmpuint(file.peers.n, ==, 2);
}

static void test_a_turn_among_a_thousand_nodes_costs_little(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(NODES_MAX < 1000 ? NODES_MAX : 1000);
        turn(f, 1);
        for (unsigned news = 0; news < 2; news++) {
                gint64 begin = g_get_monotonic_time();
                for (unsigned i = 0; i < 200; i++) {
                        f->peers.connections += news;
                        turn(f, 1);
                }
                g_test_message("%.1f us a turn %s", (double) (g_get_monotonic_time() - begin) / 200,
                               news ? "that looks at all nodes" : "without news");
        }
}

/* ---- lives ---- */

static void test_a_removed_node_is_forgotten(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(3);
        uint64_t wake_us;
        NodeId member = node_id(1), gone = node_id(7);
        g_assert_cmpint(lives_down(&f->lives, &member, 1), ==, 0);
        g_assert_cmpint(lives_down(&f->lives, &gone, 1), ==, 0);
        g_assert_cmpint(lives_turn(&f->lives, 2, &wake_us), >=, 0);
        g_assert_cmpuint(f->lives.down.n, ==, 2);       /* the members but this one */
        ARRAY_EACH(down, &f->lives.down)
                g_assert_false(ID_EQUAL(&down->node, &gone));
        g_assert_cmpuint(f->lives.down.items[0].since_us, ==, 1);
}

static void test_before_the_registry_is_here_nobody_is_forgotten(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_of(0);
        uint64_t wake_us;
        NodeId node = node_id(7);
        g_assert_cmpint(lives_down(&f->lives, &node, 1), ==, 0);
        g_assert_cmpint(lives_turn(&f->lives, 2, &wake_us), >=, 0);
        g_assert_cmpuint(f->lives.down.n, ==, 1);
}

#define TEST(name) g_test_add_func("/peers/" #name, test_##name)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        TEST(where_nothing_changed_no_node_is_looked_at);
        TEST(whatever_changes_is_looked_at);
        TEST(the_file_follows_the_registry);
        TEST(a_turn_among_a_thousand_nodes_costs_little);
        TEST(a_removed_node_is_forgotten);
        TEST(before_the_registry_is_here_nobody_is_forgotten);
        return g_test_run();
}
