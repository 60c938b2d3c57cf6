/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The registry: cluster, members, request ids, the journal. Pools, VMs and assignments have tests of their own. */

#include <stdio.h>

#include "chronicle.h"

#define BORROW(id) ((ProtobufCBinaryData) { .len = ID_SIZE, .data = (id).bytes })

/* ---- the beginning */

static void test_nothing_is_said_before_the_cluster_begins(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        ASSERT_REFUSED(CONFLICT, tell_node(&c, 1, "a", 1, "boot-1"));
        ASSERT_REFUSED(CONFLICT, tell_pool_deleted(&c, "training"));
        ASSERT_DONE(tell_init(&c, "lab"));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
}

static void test_a_cluster_begins_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(EXISTS, tell_init(&c, "other"));
        g_assert_cmpstr(c.registry->name, ==, "lab");
        g_assert_cmpuint(c.registry->level, ==, LEVEL_OLDEST);
}

static void test_a_cluster_needs_an_id_and_a_name(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_init(&c, "-lab"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_init(&c, ""));

        Gpupool1__InitCluster m = GPUPOOL1__INIT_CLUSTER__INIT;
        m.name = (char *) "lab";
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER, &m));
        m.cluster = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t[ID_SIZE]) {} };
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER, &m));
        m.cluster = (ProtobufCBinaryData) { .len = ID_SIZE - 1, .data = (uint8_t[ID_SIZE]) { 1 } };
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER, &m));
        g_assert_true(id_is_null(c.registry->cluster.bytes));
}

static void test_a_command_above_the_level_of_the_cluster_is_refused(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.level = c.registry->level + 1;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_pool(&c, "other", 1, 0));
        c.level = c.registry->level;
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
}

/* ---- members */

static Gpupool1__AnnounceNode announcement(const NodeId *id) {
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) id->bytes };
        m.name = (char *) "b";
        m.incarnation = 1;
        m.boot_id = (char *) "boot";
        m.level = LEVEL_SUPPORTED;
        return m;
}

static Verdict announce(Chronicle *c, const Gpupool1__AnnounceNode *m) {
        return tell(c, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, m);
}

static void test_a_node_becomes_a_member_by_its_first_word(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_node(&c, 2, "b", 7, "boot-2"));
        NodeId id = NODE(2);
        const NodeRecord *node = registry_find_node(c.registry, &id);
        g_assert_cmpstr(node->name, ==, "b");
        g_assert_cmpuint(node->incarnation, ==, 7);
        g_assert_cmpstr(node->boot_id, ==, "boot-2");
        g_assert_cmpstr(node->addresses.items[0], ==, "192.0.2.1:7411");
}

static void test_an_announcement_with_a_bad_field_is_refused(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        NodeId id = NODE(2), null = {};
        g_autofree char *long_text = g_strnfill(256, 'x'), *long_boot = g_strnfill(NAME_LENGTH_MAX + 1, 'x');
        char *addresses[17], *one[] = { long_text }, *unprintable[] = { (char *) "192.0.2.1\n" };
        for (size_t i = 0; i < ELEMENTS(addresses); i++)
                addresses[i] = (char *) "192.0.2.1:7411";

        Gpupool1__AnnounceNode m = announcement(&null);
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.node.len = 4;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.name = (char *) "b b";
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.incarnation = 0;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.boot_id = long_boot;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.boot_id = (char *) "boot\x1b[2J";
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m = announcement(&id);
        m.addresses = addresses;
        m.n_addresses = 17;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m.addresses = one;
        m.n_addresses = 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        m.addresses = unprintable;
        ASSERT_REFUSED(INVALID_ARGUMENT, announce(&c, &m));
        g_assert_cmpuint(c.registry->nodes.n, ==, 1);
}

static void test_an_announcement_at_the_edge_of_its_limits_is_taken(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        NodeId id = NODE(1);
        g_autofree char *address = g_strnfill(255, 'x'), *name = g_strnfill(NAME_LENGTH_MAX, 'x');
        char *addresses[16];
        for (size_t i = 0; i < ELEMENTS(addresses); i++)
                addresses[i] = address;
        Gpupool1__AnnounceNode m = announcement(&id);
        m.incarnation = 2;
        m.name = m.boot_id = name;
        m.addresses = addresses;
        m.n_addresses = ELEMENTS(addresses);
        ASSERT_DONE(announce(&c, &m));
}

static void test_a_node_that_is_too_old_for_the_cluster_is_told_so(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        NodeId id = NODE(2);
        Gpupool1__AnnounceNode m = announcement(&id);
        m.level = c.registry->level - 1;
        ASSERT_REFUSED(LEVEL_TOO_LOW, announce(&c, &m));
}

static void test_two_nodes_never_have_one_name(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(EXISTS, tell_node(&c, 2, "a", 1, "boot-2"));
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot-2"));
        ASSERT_REFUSED(EXISTS, tell_node(&c, 2, "a", 1, "boot-2"));
}

static void test_a_node_may_take_another_name(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_node(&c, 1, "z", 1, "boot-1"));
        g_assert_cmpstr(c.registry->nodes.items[0].name, ==, "z");
}

static void test_an_incarnation_never_goes_back(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_node(&c, 1, "a", 5, "boot-5"));
        ASSERT_REFUSED(CONFLICT, tell_node(&c, 1, "a", 4, "boot-6"));
        ASSERT_DONE(tell_node(&c, 1, "a", 5, "boot-5"));
}

static void test_a_new_boot_needs_a_new_incarnation(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(CONFLICT, tell_node(&c, 1, "a", 1, "boot-2"));
        ASSERT_DONE(tell_node(&c, 1, "a", 2, "boot-2"));
}

static void test_a_cluster_has_room_for_so_many_nodes(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        char name[16];
        c.quick = true;
        for (unsigned n = 2; n <= NODES_MAX; n++) {
                snprintf(name, sizeof(name), "n%u", n);
                ASSERT_DONE(tell_node(&c, n, name, 1, "boot"));
        }
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_node(&c, NODES_MAX + 1, "late", 1, "boot"));
        ASSERT_DONE(tell_node(&c, NODES_MAX, name, 2, "boot-2"));
        c.quick = false;
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_node(&c, NODES_MAX + 1, "late", 1, "boot"));
}

/* ---- request ids */

static void test_a_retry_gets_the_first_answer_and_changes_nothing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        size_t before_size, size;
        _cleanup_free_ uint8_t *before = state_bytes(c.registry, &before_size);
        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        _cleanup_free_ uint8_t *after = state_bytes(c.registry, &size);
        g_assert_cmpmem(before, before_size, after, size);
}

static void test_the_retry_of_a_refused_request_is_refused_with_the_same_words(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.request = REQUEST(1);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "other"));
        g_autofree char *first = g_strdup(c.sentence);
        /* By now it could be done; the answer that was given stands. */
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        c.request = REQUEST(1);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "other"));
        g_assert_cmpstr(c.sentence, ==, first);
        g_assert_nonnull(registry_find_pool(c.registry, "other"));
}

static void test_a_request_id_is_good_for_one_request(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        c.request = REQUEST(1);
        ASSERT_REFUSED(CONFLICT, tell_pool(&c, "another", 1, 0));
        g_assert_null(registry_find_pool(c.registry, "another"));
        /* The conflict itself is not remembered in place of the first answer. */
        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
}

static void test_a_null_request_id_is_none(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        ASSERT_REFUSED(EXISTS, tell_pool(&c, "other", 1, 0));
        g_assert_cmpuint(c.registry->requests.n, ==, 0);
}

static void test_old_request_ids_are_forgotten_by_the_half(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.quick = true;
        for (unsigned n = 1; n <= REQUESTS_MAX; n++) {
                c.request = REQUEST(n);
                ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
        }
        g_assert_cmpuint(c.registry->requests.n, ==, REQUESTS_MAX);
        c.request = REQUEST(1);
        ASSERT_REFUSED(CONFLICT, tell_pool(&c, "other", 1, 0));         /* still known */

        c.request = REQUEST(REQUESTS_MAX + 1);
        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
        g_assert_cmpuint(c.registry->requests.n, ==, REQUESTS_MAX - REQUESTS_MAX / 2 + 1);
        c.request = REQUEST(REQUESTS_MAX / 2 + 1);
        ASSERT_REFUSED(CONFLICT, tell_pool(&c, "other", 1, 0));         /* the oldest that is left */
        c.request = REQUEST(REQUESTS_MAX / 2);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));                      /* the youngest that is not */
}

static void test_request_ids_survive_a_snapshot(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        c.request = REQUEST(2);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "none"));

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        c.registry = registry_free(c.registry);
        g_assert_cmpint(registry_decode(bytes, size, &c.registry), ==, SNAPSHOT_GOOD);

        c.request = REQUEST(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        c.request = REQUEST(2);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "none"));
        g_assert_nonnull(c.sentence);
}

/* ---- retries that come late */

static void test_an_entry_is_taken_until_its_last_index(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.not_after = c.index + 1;
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        c.request = REQUEST(1);
        c.not_after = c.index;
        ASSERT_REFUSED(EXPIRED, tell_pool(&c, "another", 1, 0));
        g_assert_cmpstr(verdict_to_error(c.verdict), ==, ERROR_OUTCOME_UNKNOWN);
        /* It is not remembered: the same request with a later limit is a first try. */
        c.request = REQUEST(1);
        c.not_after = c.index + 1;
        ASSERT_DONE(tell_pool(&c, "another", 1, 0));
}

static void test_a_retry_that_is_recognised_is_never_too_late(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.request = REQUEST(1);
        c.not_after = c.index + 1;
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        uint64_t limit = c.index;
        ASSERT_DONE(tell_pool_deleted(&c, "other"));
        c.request = REQUEST(1);
        c.not_after = limit;
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        g_assert_null(registry_find_pool(c.registry, "other"));
}

/* Whatever comes between: a write whose limit is the furthest that is allowed is applied once or not at all. */
static void test_a_retry_is_recognised_or_too_late_but_never_done_twice(void) {
        for (unsigned before = 0; before <= REQUESTS_MAX; before += REQUESTS_MAX / 4) {
                _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
                unsigned n = 2;
                c.quick = true;
                for (unsigned i = 0; i < before; i++) {
                        c.request = REQUEST(n++);
                        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
                }
                uint64_t limit = c.index + REQUESTS_MAX / 2;
                c.request = REQUEST(1);
                c.not_after = limit;
                ASSERT_DONE(tell_pool(&c, "other", 1, 0));
                ASSERT_DONE(tell_pool_deleted(&c, "other"));
                while (c.index <= limit + 1) {
                        c.request = REQUEST(1);
                        c.not_after = limit;
                        Verdict verdict = tell_pool(&c, "other", 1, 0);
                        g_assert_cmpint(verdict, ==, c.index <= limit ? VERDICT_DONE : verdict);
                        g_assert_true(verdict == VERDICT_DONE || verdict == VERDICT_EXPIRED);
                        g_assert_null(registry_find_pool(c.registry, "other"));
                        c.request = REQUEST(n++);
                        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
                }
        }
}

/* ---- the journal */

static void test_an_event_says_who_did_what_to_what(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        uint64_t next = c.registry->next_event;
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        const Event *event = c.registry->events.items + c.registry->events.n - 1;
        NodeId node = NODE(1);
        g_assert_cmpuint(event->sequence, ==, next);
        g_assert_cmpstr(event->kind, ==, "pool-created");
        g_assert_cmpint(event->object_kind, ==, OBJECT_KIND_POOL);
        g_assert_cmpstr(event->object, ==, "other");
        g_assert_cmpuint(event->uid, ==, 1000);
        g_assert_cmpstr(event->user, ==, "alice");
        g_assert_cmpstr(event->action, ==, ACTION_OPERATE_VM);
        g_assert_true(ID_EQUAL(&event->node, &node));
}

static void test_so_many_events_are_kept(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.quick = true;
        while (c.registry->events.n < EVENTS_MAX)
                ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
        g_assert_cmpuint(c.registry->events.items[0].sequence, ==, 1);
        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", ""));
        c.quick = false;
        g_assert_cmpuint(c.registry->events.n, ==, EVENTS_MAX);
        g_assert_cmpuint(c.registry->events.items[0].sequence, ==, 2);
        g_assert_cmpuint(c.registry->next_event, ==, EVENTS_MAX + 2);
}

static void test_every_verdict_but_done_has_an_error_name(void) {
        for (Verdict verdict = 0; verdict < VERDICT_COUNT; verdict++)
                g_assert_cmpint(verdict_to_error(verdict) == NULL, ==, verdict == VERDICT_DONE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/" #name, test_##name)
        TEST(nothing_is_said_before_the_cluster_begins);
        TEST(a_cluster_begins_once);
        TEST(a_cluster_needs_an_id_and_a_name);
        TEST(a_command_above_the_level_of_the_cluster_is_refused);
        TEST(a_node_becomes_a_member_by_its_first_word);
        TEST(an_announcement_with_a_bad_field_is_refused);
        TEST(an_announcement_at_the_edge_of_its_limits_is_taken);
        TEST(a_node_that_is_too_old_for_the_cluster_is_told_so);
        TEST(two_nodes_never_have_one_name);
        TEST(a_node_may_take_another_name);
        TEST(an_incarnation_never_goes_back);
        TEST(a_new_boot_needs_a_new_incarnation);
        TEST(a_cluster_has_room_for_so_many_nodes);
        TEST(a_retry_gets_the_first_answer_and_changes_nothing);
        TEST(the_retry_of_a_refused_request_is_refused_with_the_same_words);
        TEST(a_request_id_is_good_for_one_request);
        TEST(a_null_request_id_is_none);
        TEST(old_request_ids_are_forgotten_by_the_half);
        TEST(request_ids_survive_a_snapshot);
        TEST(an_entry_is_taken_until_its_last_index);
        TEST(a_retry_that_is_recognised_is_never_too_late);
        TEST(a_retry_is_recognised_or_too_late_but_never_done_twice);
        TEST(an_event_says_who_did_what_to_what);
        TEST(so_many_events_are_kept);
        TEST(every_verdict_but_done_has_an_error_name);
        return g_test_run();
}
