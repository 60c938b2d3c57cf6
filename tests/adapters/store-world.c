/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-world.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <raft.h>
#include <string.h>
#include <sys/stat.h>

#include "loop-clock.h"

#define ELECTION_MS 150U
#define HEARTBEAT_MS 30U
#define INSTALL_MS 2000U
#define FOLLOW_MS 40U
#define WRITE_TRIES 1000U

/* ---- links ---- */

typedef struct Letter {
        RaftMessage message;
        struct raft_message core;
        char *address;
        char *leader_address;
} Letter;

static void letter_free(Letter *letter) {
        if (letter->message.core && letter->core.type == RAFT_APPEND_ENTRIES) {
                for (unsigned i = 0; i < letter->core.append_entries.n_entries; i++)
                        g_free(letter->core.append_entries.entries[i].buf.base);
                g_free(letter->core.append_entries.entries);
        }
        if (letter->message.core && letter->core.type == RAFT_INSTALL_SNAPSHOT) {
                raft_configuration_close(&letter->core.install_snapshot.conf);
                g_free(letter->core.install_snapshot.data.base);
        }
        g_free(letter->address);
        g_free(letter->leader_address);
        g_free(letter);
}

static void copy_members(const struct raft_configuration *from, struct raft_configuration *to) {
        raft_configuration_init(to);
        for (unsigned i = 0; i < from->n; i++)
                g_assert_cmpint(raft_configuration_add(to, from->servers[i].id, from->servers[i].address,
                                                       from->servers[i].role), ==, 0);
}

/* What a transport does: everything is copied, and the address on arrival is the sender's. */
static Letter *letter_new(const RaftMessage *message, const char *from_address) {
        Letter *letter = g_new0(Letter, 1);
        letter->message = *message;
        letter->address = g_strdup(from_address);
        letter->message.address = letter->address;
        letter->leader_address = g_strdup(message->leader_address);
        letter->message.leader_address = letter->leader_address;
        if (!message->core)
                return letter;

        letter->core = *message->core;
        letter->core.server_id = 0;
        letter->core.server_address = NULL;
        letter->message.core = &letter->core;
        if (letter->core.type == RAFT_APPEND_ENTRIES) {
                struct raft_append_entries *append = &letter->core.append_entries;
                append->entries = g_memdup2(append->entries, append->n_entries * sizeof(*append->entries));
                for (unsigned i = 0; i < append->n_entries; i++)
                        append->entries[i].buf.base = g_memdup2(append->entries[i].buf.base,
                                                                append->entries[i].buf.len);
        }
        if (letter->core.type == RAFT_INSTALL_SNAPSHOT) {
                struct raft_install_snapshot *install = &letter->core.install_snapshot;
                copy_members(&message->core->install_snapshot.conf, &install->conf);
                install->data.base = g_memdup2(install->data.base, install->data.len);
        }
        return letter;
}

static Node *find_node(World *world, uint64_t id) {
        for (size_t i = 0; i < world->n; i++)
                if (world->nodes[i].id == id)
                        return &world->nodes[i];
        return NULL;
}

static void ask_to_follow(Node *node) {
        Node *other = node->follows;
        RaftStatus status;

        if (!other || !node->engine || !other->engine || node->deaf || other->deaf)
                return;
        raft_engine_get_status(node->engine, &status);
        node->asked++;
        node->told = raft_engine_relay(other->engine, node->id, node->address, status.last_index, status.last_term,
                                       status.committed_index);
        g_assert_cmpint(node->told, >=, 0);
}

static int on_follow(sd_event_source *source, uint64_t at_us, void *userdata) {
        World *world = userdata;
        for (size_t i = 0; i < world->n; i++) {
                world->nodes[i].reminded++;
                ask_to_follow(&world->nodes[i]);
        }
        g_assert_cmpint(sd_event_source_set_time_relative(source, FOLLOW_MS * 1000), >=, 0);
        g_assert_cmpint(sd_event_source_set_enabled(source, SD_EVENT_ONESHOT), >=, 0);
        return 0;
}

void node_follow(Node *node, Node *other) {
        node->follows = other;
        ask_to_follow(node);
        g_assert_cmpint(sd_event_source_set_enabled(node->world->follow, SD_EVENT_ONESHOT), >=, 0);
}

/* The answer of a reader is not for the other's engine. */
static void deliver(Letter *letter, Node *from, Node *to) {
        if (letter->message.relayed && letter->core.type == RAFT_APPEND_ENTRIES_RESULT)
                ask_to_follow(from);
        else
                g_assert_cmpint(raft_engine_receive(to->engine, &letter->message), >=, -ESHUTDOWN);
}

static int on_deliver(sd_event_source *source, void *userdata) {
        World *world = userdata;
        Letter *letter = g_queue_pop_head(&world->links);

        if (letter) {
                Node *from = find_node(world, letter->message.from), *to = find_node(world, letter->message.to);
                if (from && to && to->engine && !from->deaf && !to->deaf)
                        deliver(letter, from, to);
                letter_free(letter);
        }
        if (!g_queue_is_empty(&world->links))
                g_assert_cmpint(sd_event_source_set_enabled(source, SD_EVENT_ONESHOT), >=, 0);
        return 0;
}

/* ---- a node's callbacks ---- */

static int on_restore(void *userdata, uint64_t index, const void *data, size_t size) {
        Node *node = userdata;
        g_string_truncate(node->state, 0);
        g_string_append_len(node->state, data, (gssize) size);
        node->restored++;
        return 0;
}

static int on_apply(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size) {
        Node *node = userdata;
        g_string_append_len(node->state, data, (gssize) size);
        g_string_append_c(node->state, '\n');
        node->applied++;
        return node->world->apply_error;
}

static void on_changed(void *userdata) {
        Node *node = userdata;
        if (node->world->on_changed)
                node->world->on_changed(node->world, node);
}

static void on_store_changed(void *userdata, int error) {
        Node *node = userdata;
        node->store_error = error;
}

static void on_send(void *userdata, const RaftMessage *message) {
        Node *node = userdata;
        node->sent++;
        if (node->world->on_send)
                node->world->on_send(node->world, node, message);
        g_queue_push_tail(&node->world->links, letter_new(message, node->address));
        g_assert_cmpint(sd_event_source_set_enabled(node->world->deliver, SD_EVENT_ONESHOT), >=, 0);
}

static void on_fault(void *userdata, const char *sentence) {
        Node *node = userdata;
        if (!node->world->fault_is_fine)
                g_error("node %" G_GUINT64_FORMAT " stopped: %s", node->id, sentence);
        g_free(node->fault);
        node->fault = g_strdup(sentence);
}

/* ---- the world ---- */

World *world_new(size_t n, const char *directory) {
        World *world = g_new0(World, 1);
        loop_clock_begin();
        world->directory = directory ? g_strdup(directory) : g_dir_make_tmp("gpupool-store-XXXXXX", NULL);
        world->n = world->n_first = n;
        world->seed = g_random_int();
        world->trailing = UINT_MAX;
        g_queue_init(&world->links);
        g_assert_cmpint(sd_event_new(&world->event), >=, 0);
        g_assert_cmpint(sd_event_add_defer(world->event, &world->deliver, on_deliver, world), >=, 0);
        g_assert_cmpint(sd_event_source_set_enabled(world->deliver, SD_EVENT_OFF), >=, 0);
        g_assert_cmpint(sd_event_add_time_relative(world->event, &world->follow, CLOCK_BOOTTIME, FOLLOW_MS * 1000, 1,
                                                   on_follow, world), >=, 0);
        g_assert_cmpint(sd_event_source_set_enabled(world->follow, SD_EVENT_OFF), >=, 0);
        for (size_t i = 0; i < n; i++)
                world->nodes[i] = (Node) {
                        .world = world,
                        .id = (UINT64_C(0xfedcba98) << 32) + i + 1,      /* real ids use all 64 bits */
                        .address = g_strdup_printf("node-%zu", i),
                        .path = g_strdup_printf("%s/node-%zu.db", world->directory, i),
                        .state = g_string_new(NULL),
                };
        return world;
}

void node_down(Node *node) {
        node->engine = raft_engine_free(node->engine);
}

void world_leave(World *world) {
        for (size_t i = 0; i < world->n; i++) {
                node_down(&world->nodes[i]);
                g_string_free(world->nodes[i].state, TRUE);
                g_free(world->nodes[i].address);
                g_free(world->nodes[i].path);
                g_free(world->nodes[i].fault);
        }
        for (Letter *letter; (letter = g_queue_pop_head(&world->links));)
                letter_free(letter);
        sd_event_source_disable_unref(world->deliver);
        sd_event_source_disable_unref(world->follow);
        sd_event_unref(world->event);
        loop_clock_end();
        g_free(world->directory);
        g_free(world);
}

void world_free(World *world) {
        g_autofree char *directory = g_strdup(world->directory);
        world_leave(world);
        directory_remove(directory);
}

RaftEngineConfig node_config(Node *node) {
        World *world = node->world;

        for (size_t i = 0; i < world->n; i++)
                world->members[i] = (RaftMember) { world->nodes[i].id, world->nodes[i].address, RAFT_MEMBER_VOTER };
        return (RaftEngineConfig) {
                .path = node->path,
                .id = node->id,
                .address = node->address,
                .members = world->members,
                .n_members = world->n_first,
                .election_ms = world->election_ms ?: ELECTION_MS,
                .heartbeat_ms = world->heartbeat_ms ?: HEARTBEAT_MS,
                .install_ms = INSTALL_MS,
                .trailing = world->trailing,
                .random_seed = world->seed++,
                .callbacks = { on_restore, on_apply, on_changed, on_store_changed, on_send, on_fault },
                .userdata = node,
        };
}

static void up(Node *node, const RaftEngineConfig *config) {
        g_autofree char *sentence = NULL;

        g_string_truncate(node->state, 0);
        node->applied = node->restored = 0;
        node->store_error = 0;
        int r = raft_engine_open(config, node->world->event, &node->engine, &sentence);
        if (r != LOG_FILE_OPENED && r != LOG_FILE_CREATED)
                g_error("%s", sentence);
        g_assert_cmpint(raft_engine_start(node->engine), ==, 0);
}

void node_up(Node *node) {
        RaftEngineConfig config = node_config(node);
        up(node, &config);
}

void node_up_as_joining(Node *node) {
        RaftEngineConfig config = node_config(node);
        config.n_members = 0;
        up(node, &config);
}

void world_up(World *world) {
        for (size_t i = 0; i < world->n; i++)
                node_up(&world->nodes[i]);
}

void world_until(World *world, bool (*holds)(World *world, void *userdata), void *userdata, const char *what) {
        gint64 deadline = g_get_monotonic_time() + (gint64) WORLD_DEADLINE_MS * 1000;

        while (!holds(world, userdata)) {
                gint64 left = deadline - g_get_monotonic_time();
                if (left <= 0)
                        g_error("waited %u ms in vain: %s", WORLD_DEADLINE_MS, what);
                g_assert_cmpint(sd_event_run(world->event, (uint64_t) left), >=, 0);
        }
}

void world_for(World *world, unsigned ms) {
        gint64 end = g_get_monotonic_time() + (gint64) ms * 1000;
        for (gint64 left; (left = end - g_get_monotonic_time()) > 0;)
                g_assert_cmpint(sd_event_run(world->event, (uint64_t) left), >=, 0);
}

RaftStatus node_status(const Node *node) {
        RaftStatus status;
        raft_engine_get_status(node->engine, &status);
        return status;
}

/* Two may say so for a moment, when the older one does not know yet. */
Node *world_leader(World *world) {
        Node *leader = NULL;
        for (size_t i = 0; i < world->n; i++) {
                Node *node = &world->nodes[i];
                if (!node->engine || node->deaf || !node_status(node).is_ready)
                        continue;
                if (!leader || node_status(node).term > node_status(leader).term)
                        leader = node;
        }
        return leader;
}

static bool has_leader(World *world, void *userdata) {
        return world_leader(world) != NULL;
}

Node *world_wait_leader(World *world) {
        world_until(world, has_leader, NULL, "a leader");
        return world_leader(world);
}

void answer_take(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        Answer *answer = userdata;
        g_assert_false(answer->here);
        *answer = (Answer) { .here = true, .outcome = outcome, .index = index, .term = term };
}

static bool has_answer(World *world, void *userdata) {
        const Answer *answer = userdata;
        return answer->here;
}

void world_wait_answer(World *world, Answer *answer) {
        world_until(world, has_answer, answer, "an answer");
}

void node_submit(Node *node, const char *command, Answer *answer) {
        *answer = (Answer) {};
        g_assert_cmpint(raft_engine_submit(node->engine, command, strlen(command), answer_take, answer, NULL), ==,
                        RAFT_SUBMIT_TAKEN);
}

void node_write(Node *node, const char *command) {
        Answer answer;
        node_submit(node, command, &answer);
        world_wait_answer(node->world, &answer);
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
}

Node *world_write(World *world, const char *command) {
        for (unsigned tries = 0; tries < WRITE_TRIES; tries++) {
                Node *leader = world_wait_leader(world);
                Answer answer = {};
                if (raft_engine_submit(leader->engine, command, strlen(command), answer_take, &answer, NULL) ==
                    RAFT_SUBMIT_TAKEN) {
                        world_wait_answer(world, &answer);
                        if (answer.outcome == RAFT_OUTCOME_DONE)
                                return leader;
                }
                g_assert_cmpint(sd_event_run(world->event, 10000), >=, 0);
        }
        g_error("nobody leads for long enough to write");
}

typedef struct Wish {
        const Node *node;
        const char *state;
} Wish;

static bool has_state(World *world, void *userdata) {
        const Wish *wish = userdata;
        return strcmp(wish->node->state->str, wish->state) == 0;
}

void node_wait_state(Node *node, const char *state) {
        world_until(node->world, has_state, &(Wish) { node, state }, "the same state");
}

/* ---- files ---- */

void file_copy(const char *from, const char *to) {
        g_autofree char *bytes = NULL;
        gsize size;

        g_assert_true(g_file_get_contents(from, &bytes, &size, NULL));
        g_assert_true(g_file_set_contents_full(to, bytes, (gssize) size, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static void fingerprint_one(GString *out, const char *path, const char *name) {
        g_autofree char *bytes = NULL, *sum = NULL;
        gsize size = 0;
        struct stat st;

        g_assert_cmpint(lstat(path, &st), ==, 0);
        if (S_ISREG(st.st_mode) && g_file_get_contents(path, &bytes, &size, NULL))
                sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *) bytes, size);
        g_string_append_printf(out, "%s %o %zu %ld.%09ld %ld.%09ld %s\n", name, st.st_mode, size, st.st_mtim.tv_sec,
                               st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec, sum ? sum : "-");
}

static gint compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

char *directory_fingerprint(const char *directory) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        GString *out = g_string_new(NULL);
        const char *name;

        g_assert_nonnull(dir);
        while ((name = g_dir_read_name(dir)))
                g_ptr_array_add(names, g_strdup(name));
        g_ptr_array_sort(names, compare_names);
        fingerprint_one(out, directory, ".");
        for (guint i = 0; i < names->len; i++) {
                g_autofree char *path = g_build_filename(directory, names->pdata[i], NULL);
                fingerprint_one(out, path, names->pdata[i]);
        }
        return g_string_free(out, FALSE);
}

void directory_remove(const char *directory) {
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(directory, name, NULL);
                (void) g_remove(path);
        }
        (void) g_rmdir(directory);
}
