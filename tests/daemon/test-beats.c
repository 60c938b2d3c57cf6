/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>

#include "daemon/beats.h"

static NodeId node(uint8_t n) {
        return (NodeId) { .bytes = { n } };
}

static bool anybody(const NodeId *leader, void *userdata) {
        return true;
}

static bool only_two(const NodeId *leader, void *userdata) {
        return leader->bytes[0] == 2;
}

typedef struct Said {
        NodeId leader;
        Gpupool1__Beat beat;
} Said;

static Gpupool1__Beat *say(Said *said, uint64_t term, uint8_t leader, bool ready, bool hears) {
        said->leader = node(leader);
        said->beat = (Gpupool1__Beat) GPUPOOL1__BEAT__INIT;
        said->beat.term = term;
        said->beat.ready = ready;
        said->beat.hears_leader = hears;
        if (leader > 0)
                said->beat.leader = (ProtobufCBinaryData) { .len = ID_SIZE, .data = said->leader.bytes };
        return &said->beat;
}

static void note(Beats *beats, uint8_t from, uint64_t term, uint8_t leader, bool ready, bool hears) {
        Said said;
        NodeId id = node(from);
        g_assert_cmpint(beats_note(beats, &id, say(&said, term, leader, ready, hears)), >=, 0);
}

static void test_the_newest_of_those_that_lead_leads(void) {
        Beats beats = {};
        note(&beats, 1, 4, 1, true, true);
        note(&beats, 2, 5, 2, true, true);
        note(&beats, 3, 9, 0, false, false);
        g_assert_cmpuint(beats_leader(&beats, anybody, NULL)->node.bytes[0], ==, 2);
        NodeId gone = node(2);
        beats_forget(&beats, &gone);
        g_assert_cmpuint(beats_leader(&beats, anybody, NULL)->node.bytes[0], ==, 1);
        beats_clear(&beats);
}

static void test_a_leader_is_reached_through_one_that_hears_it(void) {
        Beats beats = {};
        note(&beats, 3, 5, 7, false, true);
        note(&beats, 4, 5, 7, false, false);
        g_assert_null(beats_leader(&beats, anybody, NULL));
        g_assert_cmpuint(beats_way_to_leader(&beats, anybody, NULL)->node.bytes[0], ==, 3);
        beats_clear(&beats);
}

static void test_who_knows_no_leader_is_no_way_to_one(void) {
        Beats beats = {};
        note(&beats, 3, 5, 0, false, true);
        g_assert_null(beats_way_to_leader(&beats, anybody, NULL));
        beats_clear(&beats);
}

static void test_who_cannot_lead_does_not_whatever_it_says(void) {
        Beats beats = {};
        note(&beats, 1, 1000, 1, true, true);
        note(&beats, 2, 5, 2, true, true);
        note(&beats, 3, 1000, 1, false, true);
        g_assert_cmpuint(beats_leader(&beats, only_two, NULL)->node.bytes[0], ==, 2);
        g_assert_cmpuint(beats_way_to_leader(&beats, only_two, NULL)->node.bytes[0], ==, 2);
        beats_clear(&beats);
}

static void test_nobody_leads_in_anothers_name(void) {
        Beats beats = {};
        Said said;
        NodeId id = node(3);
        g_assert_cmpint(beats_note(&beats, &id, say(&said, 5, 7, true, true)), ==, -EBADMSG);
        say(&said, 5, 7, false, false)->leader.len = 3;
        g_assert_cmpint(beats_note(&beats, &id, &said.beat), ==, -EBADMSG);
        g_assert_cmpuint(beats.all.n, ==, 0);
        beats_clear(&beats);
}

static void test_only_what_others_may_see_is_news(void) {
        Beats beats = {};
        Said said;
        NodeId id = node(3);
        g_assert_cmpint(beats_note(&beats, &id, say(&said, 5, 7, false, true)), ==, 1);
        said.beat.committed = 100;
        g_assert_cmpint(beats_note(&beats, &id, &said.beat), ==, 0);
        g_assert_cmpuint(beats_committed(&beats), ==, 100);
        g_assert_cmpint(beats_note(&beats, &id, say(&said, 6, 7, false, true)), ==, 1);
        beats_clear(&beats);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/beats/the-newest-of-those-that-lead-leads", test_the_newest_of_those_that_lead_leads);
        g_test_add_func("/beats/a-leader-is-reached-through-one-that-hears-it",
                        test_a_leader_is_reached_through_one_that_hears_it);
        g_test_add_func("/beats/who-knows-no-leader-is-no-way-to-one", test_who_knows_no_leader_is_no_way_to_one);
        g_test_add_func("/beats/who-cannot-lead-does-not-whatever-it-says",
                        test_who_cannot_lead_does_not_whatever_it_says);
        g_test_add_func("/beats/nobody-leads-in-anothers-name", test_nobody_leads_in_anothers_name);
        g_test_add_func("/beats/only-what-others-may-see-is-news", test_only_what_others_may_see_is_news);
        return g_test_run();
}
