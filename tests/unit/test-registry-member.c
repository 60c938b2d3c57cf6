/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members: invitations, admission, keys, removal, the functional level. */

#include <stdio.h>

#include "chronicle.h"

#define LONG_AGO 1U

static const NodeRecord *member_told(const Chronicle *c, unsigned node) {
        NodeId id = NODE(node);
        return registry_find_node(c->registry, &id);
}

static Verdict tell_admitted(Chronicle *c, unsigned node, unsigned invite, const char *name) {
        Admission admission = admission_of(node, invite, name);
        return tell_admission(c, &admission);
}

/* NODE(1) "a" and its pool, and INVITE(1), open. */
static Chronicle chronicle_of_an_invite(void) {
        Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_invite(&c, 1, UINT64_MAX));
        return c;
}

/* ... by which NODE(2) "b" was admitted. */
static Chronicle chronicle_of_two(void) {
        Chronicle c = chronicle_of_an_invite();
        ASSERT_DONE(tell_admitted(&c, 2, 1, "b"));
        return c;
}

static const Event *last_event(const Chronicle *c) {
        return c->registry->events.items + c->registry->events.n - 1;
}

/* ---- invitations */

static void test_an_invitation_is_for_one_node(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        ASSERT_DONE(tell_admitted(&c, 2, 1, "b"));
        const NodeRecord *b = member_told(&c, 2);
        Hash key = KEY(2);
        InviteId invite = INVITE(1);
        g_assert_cmpstr(b->name, ==, "b");
        g_assert_cmpuint(b->incarnation, ==, 1);
        g_assert_cmpuint(b->joined_index, ==, c.index);
        g_assert_cmpstr(b->addresses.items[0], ==, "192.0.2.1:7411");
        g_assert_true(registry_find_node_key(c.registry, key.bytes) == b);
        g_assert_true(ID_EQUAL(&registry_find_invite(c.registry, &invite)->node, &b->id));
        g_assert_cmpstr(last_event(&c)->kind, ==, "node-joined");

        ASSERT_REFUSED(CONFLICT, tell_admitted(&c, 3, 1, "c"));
        g_assert_nonnull(strstr(c.sentence, "used already"));
}

static void test_a_joiner_that_asks_again_is_admitted_already(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        uint64_t joined = member_told(&c, 2)->joined_index, events = c.registry->next_event;
        ASSERT_DONE(tell_admitted(&c, 2, 1, "b"));
        g_assert_cmpuint(c.registry->nodes.n, ==, 2);
        g_assert_cmpuint(member_told(&c, 2)->joined_index, ==, joined);
        g_assert_cmpuint(c.registry->next_event, ==, events);

        /* With another key it is somebody else. */
        Admission other = admission_of(2, 1, "b");
        other.key = KEY(9);
        ASSERT_REFUSED(CONFLICT, tell_admission(&c, &other));
        /* By another invitation it is done as well, and that one stays open. */
        ASSERT_DONE(tell_invite(&c, 2, UINT64_MAX));
        ASSERT_DONE(tell_admitted(&c, 2, 2, "b"));
        ASSERT_DONE(tell_admitted(&c, 3, 2, "c"));
}

static void test_nobody_comes_in_without_an_invitation(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        ASSERT_REFUSED(NOT_FOUND, tell_admitted(&c, 2, 7, "b"));
        Admission wrong = admission_of(2, 1, "b");
        wrong.secret_hash = SECRET_HASH(7);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_admission(&c, &wrong));
        ASSERT_DONE(tell_invite_revoked(&c, 1));
        ASSERT_REFUSED(NOT_FOUND, tell_admitted(&c, 2, 1, "b"));
        ASSERT_REFUSED(NOT_FOUND, tell_invite_revoked(&c, 1));
        g_assert_cmpuint(c.registry->nodes.n, ==, 1);
}

static void test_an_announcement_brings_nobody_in(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        NodeId id = NODE(2);
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.name = (char *) "b";
        m.incarnation = 1;
        m.level = LEVEL_SUPPORTED;
        ASSERT_REFUSED(NOT_FOUND, tell(&c, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m));
        g_assert_nonnull(strstr(c.sentence, "invite it"));
}

static void test_an_invitation_needs_an_id_and_a_hash(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__CreateInvite m = GPUPOOL1__CREATE_INVITE__INIT;
        uint8_t bytes[HASH_SIZE + 1] = { 1 }, null[ID_SIZE] = {};
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &m));
        m.invite = (ProtobufCBinaryData) { .len = ID_SIZE, .data = bytes };
        for (size_t n = 0; n <= HASH_SIZE + 1; n++) {
                m.secret_hash = (ProtobufCBinaryData) { .len = n, .data = bytes };
                if (n != HASH_SIZE)
                        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &m));
        }
        m.secret_hash.len = HASH_SIZE;
        m.invite.data = null;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &m));
        m.invite.data = bytes;
        ASSERT_DONE(tell(&c, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &m));
        ASSERT_REFUSED(EXISTS, tell(&c, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &m));
}

static void test_so_many_invitations_are_open_at_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        for (unsigned n = 1; n <= INVITES_MAX; n++)
                ASSERT_DONE(tell_invite(&c, n, UINT64_MAX));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_invite(&c, INVITES_MAX + 1, UINT64_MAX));
        ASSERT_DONE(tell_invite_revoked(&c, 1));
        ASSERT_DONE(tell_invite(&c, INVITES_MAX + 1, UINT64_MAX));
}

static bool is_known(const Chronicle *c, unsigned invite) {
        InviteId id = INVITE(invite);
        return registry_find_invite(c->registry, &id) != NULL;
}

static void test_a_spent_invitation_gives_way_before_one_that_expired(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_invite(&c, 1, LONG_AGO));
        ASSERT_DONE(tell_invite(&c, 2, UINT64_MAX));
        ASSERT_DONE(tell_invite(&c, 3, LONG_AGO));
        for (unsigned n = 4; n <= INVITES_MAX; n++)
                ASSERT_DONE(tell_invite(&c, n, UINT64_MAX));
        ASSERT_DONE(tell_admitted(&c, 2, 2, "b"));

        ASSERT_DONE(tell_invite(&c, 101, UINT64_MAX));
        g_assert_true(is_known(&c, 1) && !is_known(&c, 2) && is_known(&c, 3));
        ASSERT_DONE(tell_invite(&c, 102, UINT64_MAX));
        g_assert_true(!is_known(&c, 1) && is_known(&c, 3));
        ASSERT_DONE(tell_invite(&c, 103, UINT64_MAX));
        g_assert_true(!is_known(&c, 3));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_invite(&c, 104, UINT64_MAX));
}

/* ---- who may come in */

static void test_a_newcomer_is_told_from_every_member(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        ASSERT_DONE(tell_invite(&c, 3, UINT64_MAX));
        ASSERT_REFUSED(EXISTS, tell_admitted(&c, 3, 3, "a"));
        ASSERT_REFUSED(EXISTS, tell_admitted(&c, 3, 3, "b"));

        Admission same_key = admission_of(3, 3, "c");
        same_key.key = KEY(2);
        ASSERT_REFUSED(EXISTS, tell_admission(&c, &same_key));
        Admission same_number = admission_of(2, 3, "c");
        same_number.key = KEY(3);
        same_number.node.bytes[8] = 1;
        ASSERT_REFUSED(EXISTS, tell_admission(&c, &same_number));
        same_number.node.bytes[7] = 1;
        ASSERT_DONE(tell_admission(&c, &same_number));
}

static void test_a_newcomer_that_is_too_old_is_told_what_to_do(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        Admission old = admission_of(2, 1, "b");
        old.level = c.registry->level - 1;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_admission(&c, &old));
        g_assert_nonnull(strstr(c.sentence, "upgrade gpupool on b"));
        old.level = c.registry->level;
        ASSERT_DONE(tell_admission(&c, &old));
}

static void test_an_admission_with_a_bad_field_is_refused(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        Admission bad = admission_of(2, 1, "b b");
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_admission(&c, &bad));
        bad = admission_of(2, 1, "b");
        bad.boot_id = "\x1b[2J";
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_admission(&c, &bad));
        /* Its number in the consensus engine would be 0. */
        bad = admission_of(2, 1, "b");
        memset(bad.node.bytes, 0, 8);
        bad.node.bytes[9] = 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_admission(&c, &bad));

        Gpupool1__AdmitNode m = GPUPOOL1__ADMIT_NODE__INIT;
        Admission good = admission_of(2, 1, "b");
        m.invite = (ProtobufCBinaryData) { .len = ID_SIZE, .data = good.invite.bytes };
        m.secret_hash = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = good.secret_hash.bytes };
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = good.node.bytes };
        m.name = (char *) "b";
        m.level = LEVEL_SUPPORTED;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE, &m));
        m.key = (ProtobufCBinaryData) { .len = HASH_SIZE - 1, .data = good.key.bytes };
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE, &m));
        m.key.len = HASH_SIZE;
        m.secret_hash.len--;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell(&c, GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE, &m));
        m.secret_hash.len++;
        ASSERT_DONE(tell(&c, GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE, &m));
}

static void test_a_cluster_has_room_for_so_many_members(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        c.quick = true;
        for (unsigned n = 2; n <= NODES_MAX; n++) {
                char name[16];
                snprintf(name, sizeof(name), "n%u", n);
                ASSERT_DONE(tell_node(&c, n, name, 1, "boot"));
        }
        c.quick = false;
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_node(&c, NODES_MAX + 1, "late", 1, "boot"));
        InviteId open = c.registry->invites.items[c.registry->invites.n - 1].id;
        g_assert_true(id_is_null(registry_find_invite(c.registry, &open)->node.bytes));
}

/* ---- keys */

static Verdict tell_key(Chronicle *c, unsigned node, const char *name, const Hash *key) {
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        NodeId id = NODE(node);
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.name = (char *) name;
        m.incarnation = 2;
        m.boot_id = (char *) "boot-2";
        m.level = LEVEL_SUPPORTED;
        m.key = (ProtobufCBinaryData) { .len = key ? HASH_SIZE : 0, .data = key ? (uint8_t *) key->bytes : NULL };
        return tell(c, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m);
}

static void test_only_a_node_that_is_alone_may_take_another_key(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        Hash first = KEY(1), second = KEY(11), taken = KEY(2), third = KEY(12);
        uint64_t joined = member_told(&c, 1)->joined_index;
        g_assert_cmpuint(joined, >, 0);
        ASSERT_DONE(tell_key(&c, 1, "a", &first));
        ASSERT_DONE(tell_key(&c, 1, "a", &second));
        g_assert_cmpmem(member_told(&c, 1)->key, HASH_SIZE, second.bytes, HASH_SIZE);

        ASSERT_DONE(tell_admitted(&c, 2, 1, "b"));
        ASSERT_REFUSED(CONFLICT, tell_key(&c, 1, "a", &third));
        ASSERT_REFUSED(EXISTS, tell_key(&c, 1, "a", &taken));
        ASSERT_DONE(tell_key(&c, 1, "a", &second));
        /* Who does not say its key keeps it, and its place in the order of coming. */
        ASSERT_DONE(tell_key(&c, 1, "z", NULL));
        g_assert_true(member_told(&c, 1)->has_key);
        g_assert_cmpmem(member_told(&c, 1)->key, HASH_SIZE, second.bytes, HASH_SIZE);
        g_assert_cmpuint(member_told(&c, 1)->joined_index, ==, joined);
}

static void test_a_key_that_was_not_known_is_learnt(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        Hash key = KEY(1);
        g_assert_false(member_told(&c, 1)->has_key);
        ASSERT_DONE(tell_key(&c, 1, "a", &key));
        g_assert_true(member_told(&c, 1)->has_key);
}

static void test_a_key_has_one_size(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        NodeId id = NODE(1);
        uint8_t key[HASH_SIZE + 1] = { 1 };
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.name = (char *) "a";
        m.incarnation = 2;
        m.level = LEVEL_SUPPORTED;
        for (size_t n = 0; n <= HASH_SIZE + 1; n++) {
                m.key = (ProtobufCBinaryData) { .len = n, .data = key };
                Verdict verdict = tell(&c, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m);
                g_assert_cmpint(verdict, ==, n == 0 || n == HASH_SIZE ? VERDICT_DONE : VERDICT_INVALID_ARGUMENT);
        }
}

/* ---- removal */

static void test_a_removed_node_takes_its_gpus_with_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        GpuIdentity gpu = GPU(2, 7), other = GPU(1, 1), b0 = GPU(2, 0);
        ASSERT_DONE(tell_pool(&c, "inference", 2, 3));
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        ASSERT_DONE(tell_quarantine(&c, &b0, "broken"));
        ASSERT_DONE(tell_quarantine(&c, &other, "broken"));
        ASSERT_DONE(tell_node_removed(&c, 2));
        g_assert_null(member_told(&c, 2));
        g_assert_cmpuint(registry_find_pool(c.registry, "inference")->gpus.n, ==, 0);
        g_assert_cmpuint(registry_find_pool(c.registry, "training")->gpus.n, ==, 4);
        g_assert_cmpuint(c.registry->quarantines.n, ==, 1);
        g_assert_nonnull(registry_find_quarantine(c.registry, &other));
        g_assert_cmpstr(last_event(&c)->kind, ==, "node-removed");
        g_assert_nonnull(strstr(last_event(&c)->message, "4 GPUs"));

        NodeId id = NODE(2);
        Hash key = KEY(2);
        const RemovedNode *removed = registry_find_removed(c.registry, &id);
        g_assert_cmpstr(removed->name, ==, "b");
        g_assert_true(removed->has_key);
        g_assert_cmpmem(removed->key, HASH_SIZE, key.bytes, HASH_SIZE);
        ASSERT_REFUSED(NOT_FOUND, tell_node_removed(&c, 2));
}

static void test_what_touches_members_can_be_told_from_the_rest(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        uint64_t before = c.registry->members_index;
        GpuIdentity gpu = GPU(1, 1);
        g_assert_cmpuint(before, <, c.index);
        ASSERT_DONE(tell_quarantine(&c, &gpu, "broken"));
        ASSERT_REFUSED(NOT_FOUND, tell_node_removed(&c, 2));
        g_assert_cmpuint(c.registry->members_index, ==, before);
        ASSERT_DONE(tell_admitted(&c, 2, 1, "b"));
        g_assert_cmpuint(c.registry->members_index, ==, c.index);
        ASSERT_DONE(tell_node_removed(&c, 2));
        g_assert_cmpuint(c.registry->members_index, ==, c.index);
}

static void test_a_node_with_vms_is_not_removed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_REFUSED(IN_USE, tell_node_removed(&c, 1));
        g_assert_nonnull(strstr(c.sentence, "bert"));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        ASSERT_DONE(tell_node_removed(&c, 1));
}

static void test_the_last_node_is_not_removed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        c.author = NODE(2);
        ASSERT_DONE(tell_node_removed(&c, 1));
        ASSERT_REFUSED(CONFLICT, tell_node_removed(&c, 2));
}

static void test_a_removed_node_has_no_say(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        c.author = NODE(2);
        c.request = REQUEST(1);
        ASSERT_DONE(tell_node_removed(&c, 2));          /* it leaves */
        c.request = REQUEST(1);
        ASSERT_DONE(tell_node_removed(&c, 2));          /* ... and asks whether it did */
        ASSERT_REFUSED(CONFLICT, tell_pool_deleted(&c, "training"));
        c.author = NODE(1);
        ASSERT_DONE(tell_pool_deleted(&c, "training"));
}

static void test_a_removed_node_comes_back_as_another_only(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        ASSERT_DONE(tell_node_removed(&c, 2));
        ASSERT_DONE(tell_invite(&c, 2, UINT64_MAX));
        ASSERT_REFUSED(CONFLICT, tell_admitted(&c, 2, 2, "b"));
        g_assert_nonnull(strstr(c.sentence, "cluster reset"));
        ASSERT_REFUSED(CONFLICT, tell_admitted(&c, 2, 1, "b"));         /* by the invitation that it had, too */
        Admission same_key = admission_of(3, 2, "b");
        same_key.key = KEY(2);
        ASSERT_REFUSED(CONFLICT, tell_admission(&c, &same_key));
        ASSERT_DONE(tell_admitted(&c, 3, 2, "b"));
}

static void test_so_many_removed_nodes_are_remembered(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        NodeId first = NODE(2), second = NODE(3);
        c.quick = true;
        for (unsigned n = 0; n < REMOVED_MAX; n++) {
                ASSERT_DONE(tell_node(&c, 2 + n, "b", 1, "boot"));
                ASSERT_DONE(tell_node_removed(&c, 2 + n));
        }
        g_assert_nonnull(registry_find_removed(c.registry, &first));
        c.quick = false;
        ASSERT_DONE(tell_node(&c, 2 + REMOVED_MAX, "b", 1, "boot"));
        ASSERT_DONE(tell_node_removed(&c, 2 + REMOVED_MAX));
        g_assert_cmpuint(c.registry->removed.n, ==, REMOVED_MAX);
        g_assert_null(registry_find_removed(c.registry, &first));
        g_assert_nonnull(registry_find_removed(c.registry, &second));
}

/* ---- the functional level */

static void test_a_cluster_begins_at_the_level_that_it_is_told(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        ASSERT_DONE(tell_init_at(&c, "lab", LEVEL_SUPPORTED));
        g_assert_cmpuint(c.registry->level, ==, LEVEL_SUPPORTED);
}

static void test_a_level_that_this_build_does_not_know_is_not_guessed_at(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        (void) tell_init_at(&c, "lab", LEVEL_SUPPORTED + 1);
        g_assert_true(c.stopped);
        g_assert_true(id_is_null(c.registry->cluster.bytes));

        _cleanup_(chronicle_clear) Chronicle d = chronicle_of_an_invite();
        Admission newer = admission_of(2, 1, "b");
        newer.level = LEVEL_SUPPORTED + 1;
        ASSERT_DONE(tell_admission(&d, &newer));
        d.author = NODE(2);
        ASSERT_DONE(tell_node_removed(&d, 1));
        (void) tell_level(&d, LEVEL_SUPPORTED + 1);
        g_assert_true(d.stopped);
        g_assert_cmpuint(d.registry->level, ==, LEVEL_OLDEST);
}

static void test_the_level_is_raised_when_all_members_support_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        Admission old = admission_of(2, 1, "b");
        old.level = LEVEL_OLDEST;
        ASSERT_DONE(tell_admission(&c, &old));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_level(&c, LEVEL_SUPPORTED));
        g_assert_nonnull(strstr(c.sentence, "node b supports level 1"));
        _cleanup_(text_list_clear) TextList obstacles = {};
        g_assert_cmpint(registry_level_obstacles(c.registry, LEVEL_SUPPORTED, &obstacles), ==, 0);
        g_assert_cmpuint(obstacles.n, ==, 1);
        g_assert_cmpstr(obstacles.items[0], ==, c.sentence);

        ASSERT_DONE(tell_node_removed(&c, 2));
        ASSERT_DONE(tell_level(&c, LEVEL_SUPPORTED));
        g_assert_cmpuint(c.registry->level, ==, LEVEL_SUPPORTED);
        g_assert_cmpstr(last_event(&c)->kind, ==, "level-raised");
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_level(&c, LEVEL_SUPPORTED));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_level(&c, LEVEL_OLDEST));
}

static void test_every_member_that_is_in_the_way_is_named(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two();
        _cleanup_(text_list_clear) TextList obstacles = {};
        g_assert_cmpint(registry_level_obstacles(c.registry, LEVEL_SUPPORTED + 1, &obstacles), ==, 0);
        g_assert_cmpuint(obstacles.n, ==, 2);
}

static void test_a_level_is_of_members(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        ASSERT_DONE(tell_init(&c, "lab"));
        ASSERT_REFUSED(CONFLICT, tell_level(&c, LEVEL_SUPPORTED + 1));
}

/* ---- witnesses */

static void test_a_witness_needs_its_level(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_an_invite();
        Admission witness = admission_of(2, 1, "w");
        witness.witness = true;
        c.level = LEVEL_WITNESS;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_admission(&c, &witness));
        c.level = LEVEL_OLDEST;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_admission(&c, &witness));
        ASSERT_DONE(tell_level(&c, LEVEL_WITNESS));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_admission(&c, &witness));    /* it does not say what it needs */
        c.level = LEVEL_WITNESS;
        ASSERT_DONE(tell_admission(&c, &witness));
        g_assert_true(member_told(&c, 2)->witness);
}

static void test_a_witness_runs_nothing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_level(&c, LEVEL_WITNESS));
        ASSERT_DONE(tell_invite(&c, 1, UINT64_MAX));
        Admission witness = admission_of(2, 1, "w");
        witness.witness = true;
        c.level = LEVEL_WITNESS;
        ASSERT_DONE(tell_admission(&c, &witness));
        GpuIdentity gpu = GPU(2, 0);
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        Claim claim = claim_of(&c, 1, 2, 0, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        g_assert_nonnull(strstr(c.sentence, "witness"));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/member/" #name, test_##name)
        TEST(an_invitation_is_for_one_node);
        TEST(a_joiner_that_asks_again_is_admitted_already);
        TEST(nobody_comes_in_without_an_invitation);
        TEST(an_announcement_brings_nobody_in);
        TEST(an_invitation_needs_an_id_and_a_hash);
        TEST(so_many_invitations_are_open_at_once);
        TEST(a_spent_invitation_gives_way_before_one_that_expired);
        TEST(a_newcomer_is_told_from_every_member);
        TEST(a_newcomer_that_is_too_old_is_told_what_to_do);
        TEST(an_admission_with_a_bad_field_is_refused);
        TEST(a_cluster_has_room_for_so_many_members);
        TEST(only_a_node_that_is_alone_may_take_another_key);
        TEST(a_key_that_was_not_known_is_learnt);
        TEST(a_key_has_one_size);
        TEST(a_removed_node_takes_its_gpus_with_it);
        TEST(what_touches_members_can_be_told_from_the_rest);
        TEST(a_node_with_vms_is_not_removed);
        TEST(the_last_node_is_not_removed);
        TEST(a_removed_node_has_no_say);
        TEST(a_removed_node_comes_back_as_another_only);
        TEST(so_many_removed_nodes_are_remembered);
        TEST(a_cluster_begins_at_the_level_that_it_is_told);
        TEST(a_level_that_this_build_does_not_know_is_not_guessed_at);
        TEST(the_level_is_raised_when_all_members_support_it);
        TEST(every_member_that_is_in_the_way_is_named);
        TEST(a_level_is_of_members);
        TEST(a_witness_needs_its_level);
        TEST(a_witness_runs_nothing);
        return g_test_run();
}
