/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whom the leader has switched off, and when. Real fencing and book, under a clock of its own; the history and the
 * agents are played here: their functions are defined in this file, so that the real ones are not linked. */

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

#include "../unit/world-builder.h"
#include "core/names.h"
#include "daemon/fencing.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define LEASE (3 * SECOND)
#define STEP (10 * MS)
#define REQUEST (500 * MS)

/* What the history says when it is asked whether this node leads. */
typedef enum Word {
        WORD_YES,
        WORD_NO,
        WORD_NONE,                      /* it does not answer */
} Word;

/* What an agent does. */
typedef enum Deed {
        DEED_DONE,                      /* after half a second */
        DEED_FAILED,
        DEED_NONE,                      /* it goes on for ever */
        DEED_MISSING,
} Deed;

struct FenceAgent {
        uint64_t due_us;
        FenceCallback callback;
        void *userdata;
};

typedef struct Scene {
        WorldBuilder *w;
        LeaseBook book;
        Fencing fencing;
        uint64_t now_us, wake_us;
        bool turn, leads, heard[26];
        NodeLife lives[26];
        Word word;
        ConfirmCallback confirmed;
        void *confirmed_userdata;
        size_t n_questions;
        Deed deed;
        FenceAgent *agents[26];
        size_t n_agents, n_orders, n_off;
        char *orders;                   /* "off b, off b, reboot c" */
        uint64_t ordered_us;
        bool other_leads, tells;        /* node b leads; node a tells by gossip what it does */
        FencingFacts told, b_tells;
} Scene;

static Scene *scene;

/* ---- what is played */

int sd_event_now(sd_event *event, clockid_t clock, uint64_t *ret) {
        *ret = scene->now_us;
        return 0;
}

bool history_leads(const History *history) {
        return scene->leads;
}

/* Of another leader nothing is heard. */
void history_lead(const History *history, Lead *ret) {
        *ret = (Lead) { .is_local = scene->leads };
        if (scene->leads)
                ret->leader = node_named(scene->w, "a")->id;
        else if (scene->other_leads)
                ret->leader = node_named(scene->w, "b")->id;
}

int cluster_facts_publish_fencing(ClusterFacts *facts, const FencingFacts *fencing) {
        fencing_facts_clear(&scene->told);
        scene->tells = fencing;
        return fencing ? fencing_facts_copy(fencing, &scene->told) : 0;
}

int cluster_facts_collect_fencing(const ClusterFacts *facts, const NodeId *leader, FencingFacts *ret) {
        g_assert_true(ID_EQUAL(leader, &node_named(scene->w, "b")->id));
        return scene->b_tells.n > 0 ? fencing_facts_copy(&scene->b_tells, ret) < 0 ? -ENOMEM : true : false;
}

int history_confirm(History *history, ConfirmCallback callback, void *userdata) {
        g_assert_null(scene->confirmed);
        scene->n_questions++;
        scene->confirmed = callback;
        scene->confirmed_userdata = userdata;
        return 0;
}

int fence_agent_start(FenceAgent **ret, sd_event *event, const FenceOrder *order, FenceCallback callback,
                      void *userdata) {
        g_autofree char *before = STEAL(scene->orders);
        scene->orders = before ? g_strdup_printf("%s, %s %s", before, order->action, order->node)
                               : g_strdup_printf("%s %s", order->action, order->node);
        scene->n_orders++;
        scene->ordered_us = scene->now_us;
        g_assert_cmpstr(order->agent, ==, "fence_ipmilan");
        g_assert_cmpuint(order->timeout_us, ==, FENCING_TIMEOUT_US);
        if (scene->deed == DEED_MISSING)
                return -ENOENT;
        FenceAgent *agent = g_new0(FenceAgent, 1);
        *agent = (FenceAgent) { .due_us = scene->deed == DEED_NONE ? UINT64_MAX : scene->now_us + 500 * MS,
                                .callback = callback, .userdata = userdata };
        scene->agents[scene->n_agents++] = agent;
        *ret = agent;
        return 0;
}

FenceAgent *fence_agent_free(FenceAgent *agent) {
        for (size_t i = 0; agent && i < scene->n_agents; i++)
                if (scene->agents[i] == agent)
                        scene->agents[i] = scene->agents[--scene->n_agents];
        g_free(agent);
        return NULL;
}

static void on_changed(void *userdata) {
        scene->turn = true;
}

/* ---- the scene */

static void follow(Scene *s) {
        lease_book_lead(&s->book, s->leads, s->book.term ? s->book.term : 7, s->now_us);
        g_assert_cmpint(lease_book_follow(&s->book, s->w->registry, s->now_us), ==, 0);
}

static void set_agent(Scene *s, const char *node, const char *agent) {
        g_assert_cmpint(text_set(&node_named(s->w, node)->fence.agent, agent), ==, 0);
}

/* Node a leads; on each of the others one VM runs, and each has an agent. All ask. */
static Scene *scene_of(size_t n_nodes) {
        Scene *s = scene = g_new0(Scene, 1);
        FencingConfig config = { .directory = "/usr/sbin", .timeout_us = FENCING_TIMEOUT_US, .changed = on_changed };
        s->w = world_of(n_nodes);
        s->w->registry->level = LEVEL_FAILOVER;
        s->now_us = 1000 * SECOND;
        s->leads = s->turn = true;
        fencing_init(&s->fencing, &config);
        g_autoptr(GString) nodes = g_string_new("a");
        for (size_t i = 1; i < n_nodes; i++)
                g_string_append_printf(nodes, " %c", (char) ('a' + i));
        for (size_t i = 0; i < n_nodes; i++) {
                char name[] = { (char) ('a' + i), '\0' };
                NodeRecord *record = node_named(s->w, name);
                with_gpus(s->w, name, 1);
                record->lease_ms = LEASE / MS;
                record->death_ms = 510;
                set_agent(s, name, "fence_ipmilan");
                s->heard[i] = true;
                s->lives[i].node = record->id;
        }
        s->w->world.lives = s->lives;
        s->w->world.n_lives = n_nodes;
        pool_of(s->w, "all", nodes->str);
        for (size_t i = 0; i < n_nodes; i++) {
                char name[] = { (char) ('a' + i), '\0' }, vm[] = { 'v', (char) ('a' + i), '\0' };
                vm_of(s->w, vm, "all", 1);
                runs(s->w, vm, name, "0");
                vm_named(s->w, vm)->assignment.leased = true;
        }
        return s;
}

static void scene_free(Scene *s) {
        fencing_clear(&s->fencing);
        g_assert_cmpuint(s->n_agents, ==, 0);
        if (s->confirmed)               /* whoever asked is gone */
                s->confirmed(true, s->confirmed_userdata);
        lease_book_clear(&s->book);
        fencing_facts_clear(&s->told);
        fencing_facts_clear(&s->b_tells);
        world_builder_free(s->w);
        g_free(s->orders);
        g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static size_t index_of(const char *node) {
        return (size_t) (node[0] - 'a');
}

static void ask(Scene *s, const char *node) {
        const NodeRecord *record = node_named(s->w, node);
        uint64_t lease_us;
        (void) lease_book_asked(&s->book, s->w->registry, &record->id, record->incarnation, s->now_us, s->now_us,
                                &lease_us);
        s->turn = true;
}

static void silence(Scene *s, const char *node) {
        s->heard[index_of(node)] = false;
}

static void answer(Scene *s) {
        ConfirmCallback confirmed = s->confirmed;
        if (!confirmed || s->word == WORD_NONE)
                return;
        s->confirmed = NULL;
        confirmed(s->word == WORD_YES, s->confirmed_userdata);
}

static void end_agents(Scene *s) {
        for (size_t i = 0; i < s->n_agents; i++) {
                FenceAgent *agent = s->agents[i];
                if (s->now_us < agent->due_us)
                        continue;
                s->agents[i--] = s->agents[--s->n_agents];
                s->n_off += s->deed == DEED_DONE;
                agent->callback(s->deed == DEED_DONE ? FENCE_DONE : FENCE_FAILED,
                                s->deed == DEED_DONE ? NULL : "it ended with status 1", agent->userdata);
                g_free(agent);
        }
}

static void take_turn(Scene *s) {
        follow(s);
        g_assert_cmpint(fencing_turn(&s->fencing, world_now(s->w), &s->book, s->now_us, &s->wake_us), ==, 0);
        g_assert_cmpint(fencing_show(&s->fencing, NULL), >=, 0);
        s->turn = false;
}

/* Time goes by. Turns are taken when something happens, and when they were asked for. */
static void pass(Scene *s, uint64_t us) {
        if (s->turn)
                take_turn(s);
        for (uint64_t end = s->now_us + us; s->now_us < end;) {
                s->now_us += STEP;
                for (size_t i = 0; i < s->w->n_nodes; i++)
                        if (s->heard[i] && s->now_us % REQUEST == i * STEP)
                                ask(s, (char[]) { (char) ('a' + i), '\0' });
                answer(s);
                end_agents(s);
                if (s->turn || s->now_us >= s->wake_us)
                        take_turn(s);
        }
}

static void assert_orders(const Scene *s, const char *expected) {
        g_assert_cmpstr(s->orders, ==, expected);
}

static bool book_says_off(const Scene *s, const char *node) {
        Loss loss;
        uint64_t wake_us;
        return lease_book_next_loss(&s->book, s->w->registry, s->now_us, &loss, &wake_us) &&
               ID_EQUAL(&loss.node, &node_named(s->w, node)->id) && loss.evidence == LOSS_BY_POWER_OFF;
}

/* As by an entry. */
static void lose(Scene *s, const char *node, LossEvidence evidence) {
        NodeRecord *record = node_named(s->w, node);
        char vm[] = { 'v', node[0], '\0' };
        record->lost = true;
        record->evidence = evidence;
        assignment_clear(&vm_named(s->w, vm)->assignment);
        s->turn = true;
}

static FencingStage stage_of(const Scene *s, const char *node) {
        const FencingCase *c = fencing_find(&s->fencing, &node_named(s->w, node)->id);
        g_assert_nonnull(c);
        return c->stage;
}

static bool is_left_alone(const Scene *s, const char *node) {
        return !fencing_find(&s->fencing, &node_named(s->w, node)->id);
}

/* ---- who is switched off */

static void test_a_silent_node_is_switched_off_after_its_lease(void) {
        g_autoptr(Scene) s = scene_of(3);
        pass(s, 10 * SECOND);
        g_assert_cmpuint(s->n_questions, ==, 0);
        silence(s, "b");
        pass(s, LEASE - REQUEST);
        assert_orders(s, NULL);
        pass(s, REQUEST + 2 * STEP);
        assert_orders(s, "off b");
        g_assert_false(book_says_off(s, "b"));
        pass(s, 600 * MS);
        g_assert_true(book_says_off(s, "b"));
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_OFF);
}

/* No request makes it look. */
static void test_it_wakes_up_by_itself(void) {
        g_autoptr(Scene) s = scene_of(3);
        pass(s, 2 * SECOND);
        for (const char *node = "abc"; *node; node++)
                s->heard[*node - 'a'] = false;
        pass(s, LEASE + 300 * MS);
        assert_orders(s, "off b, off c");
}

static void test_once_off_nothing_more_is_done(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "b");
        pass(s, 300 * SECOND);
        assert_orders(s, "off b");
        lose(s, "b", LOSS_BY_POWER_OFF);
        pass(s, 300 * SECOND);
        assert_orders(s, "off b");
}

static void test_a_blink_switches_nobody_off(void) {
        g_autoptr(Scene) s = scene_of(3);
        for (unsigned i = 0; i < 10; i++) {
                silence(s, "b");
                pass(s, LEASE - REQUEST);
                s->heard[1] = true;
                pass(s, SECOND);
        }
        assert_orders(s, NULL);
        g_assert_true(is_left_alone(s, "b"));
}

static void test_nothing_is_looked_at_while_all_are_well(void) {
        g_autoptr(Scene) s = scene_of(3);
        pass(s, 10 * SECOND);
        g_assert_cmpuint(s->wake_us, >, s->now_us + LEASE / 4);
        g_assert_cmpuint(s->fencing.cases.n, ==, 0);
}

static void test_who_has_no_agent_no_vm_or_no_lease_is_left_alone(void) {
        g_autoptr(Scene) s = scene_of(4);
        set_agent(s, "b", NULL);
        assignment_clear(&vm_named(s->w, "vc")->assignment);
        node_named(s->w, "d")->lease_ms = 0;
        for (const char *node = "bcd"; *node; node++)
                s->heard[*node - 'a'] = false;
        pass(s, 60 * SECOND);
        assert_orders(s, NULL);
}

static void test_the_leader_itself_is_left_alone(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "a");
        pass(s, 60 * SECOND);
        assert_orders(s, NULL);
}

static void test_an_agent_that_cuts_no_power_is_not_used(void) {
        static const char *const agents[] = { "fence_scsi", "fence_heuristics_ping", "fence_dummy", "reboot",
                                              "fence_", "fence_../x" };
        for (size_t i = 0; i < G_N_ELEMENTS(agents); i++) {
                g_autoptr(Scene) s = scene_of(3);
                set_agent(s, "b", agents[i]);
                silence(s, "b");
                pass(s, 60 * SECOND);
                assert_orders(s, NULL);
        }
        g_assert_null(fence_agent_objection("fence_ipmilan"));
}

static void give_parameter(Fence *fence, const char *name, const char *value) {
        fence->parameters = g_renew(FenceParameter, fence->parameters, fence->n_parameters + 1);
        fence->parameters[fence->n_parameters++] = (FenceParameter) { g_strdup(name), g_strdup(value) };
}

/* It ends well, and proves nothing: it never touched the host, or did not look whether it was off. */
static void test_an_agent_that_proves_nothing_with_its_parameters_is_not_used(void) {
        static const char *const cases[][5] = {
                { "fence_ipmilan", "version", "0" }, { "fence_ipmilan", "Help", "" },
                { "fence_xvm", "option", "status" }, { "fence_xvm", "Action", "on" },
                { "fence_ipmilan", "action", "reboot", "method", "cycle" },
                { "fence_ipmilan", "action", "reboot", "method", "Cycle" },
                { "fence_ipmilan", "action", "reboot", "method", "cycle " },
                { "fence_ipmilan", "action", "reboot", "method", "\"cycle\"" },
                { "fence_gce", "action", "reboot", "method", "on-off" },
                { "fence_gce", "action", "reboot", "Method", "onoff" },
                { "fence_gce", "action", "reboot" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(Scene) s = scene_of(3);
                Fence *fence = &node_named(s->w, "b")->fence;
                set_agent(s, "b", cases[i][0]);
                give_parameter(fence, cases[i][1], cases[i][2]);
                if (cases[i][3])
                        give_parameter(fence, cases[i][3], cases[i][4]);
                g_assert_nonnull(fence_objection(fence));
                silence(s, "b");
                pass(s, 60 * SECOND);
                assert_orders(s, NULL);
        }
        static const char *const good[][5] = {
                { "fence_ipmilan", "action", "off", "method", "cycle" },
                { "fence_ipmilan", "action", "reboot", "method", "onoff" },
                { "fence_gce", "action", "reboot", "method", "onoff" },
                { "fence_gce", "action", "off", "plug", "version" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                g_autoptr(Scene) s = scene_of(2);
                Fence *fence = &node_named(s->w, "b")->fence;
                set_agent(s, "b", good[i][0]);
                give_parameter(fence, good[i][1], good[i][2]);
                give_parameter(fence, good[i][3], good[i][4]);
                g_assert_null(fence_objection(fence));
        }
}

static void test_a_node_may_be_rebooted_instead(void) {
        g_autoptr(Scene) s = scene_of(3);
        Fence *fence = &node_named(s->w, "b")->fence;
        fence->parameters = calloc(2, sizeof(FenceParameter));
        fence->n_parameters = 2;
        static const char *const texts[][2] = { { "plug", "on" }, { "action", "on" } };
        for (size_t i = 0; i < 2; i++) {
                g_assert_cmpint(text_set(&fence->parameters[i].name, texts[i][0]), ==, 0);
                g_assert_cmpint(text_set(&fence->parameters[i].value, texts[i][1]), ==, 0);
        }
        g_assert_cmpstr(fence_action(fence), ==, "off");
        g_assert_cmpint(text_set(&fence->parameters[1].value, "reboot"), ==, 0);
        silence(s, "b");
        pass(s, 5 * SECOND);
        assert_orders(s, "reboot b");
}

static void test_a_crowd_is_switched_off_a_few_at_a_time(void) {
        g_autoptr(Scene) s = scene_of(14);
        s->deed = DEED_NONE;
        for (const char *node = "bcdefghijklmn"; *node; node++)
                s->heard[*node - 'a'] = false;
        pass(s, 10 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, FENCING_AT_ONCE);
        s->deed = DEED_DONE;
        for (size_t i = 0; i < s->n_agents; i++)
                s->agents[i]->due_us = s->now_us;
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 13);
        g_assert_cmpuint(s->n_off, ==, 13);
}

/* ---- who may do it */

static void test_a_leader_that_is_not_confirmed_switches_nobody_off(void) {
        static const Word words[] = { WORD_NO, WORD_NONE };
        for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
                g_autoptr(Scene) s = scene_of(3);
                s->word = words[i];
                silence(s, "b");
                pass(s, 60 * SECOND);
                assert_orders(s, NULL);
                g_assert_cmpuint(s->n_questions, >, 0);
        }
}

/* While it had no majority it could take nobody's request, however many were there. */
static void test_who_is_heard_once_there_is_a_majority_again_is_not_switched_off(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->word = WORD_NONE;
        silence(s, "b");
        pass(s, 20 * SECOND);
        g_assert_cmpuint(s->n_questions, ==, 1);
        s->word = WORD_YES;
        pass(s, 100 * MS);
        s->heard[1] = true;
        pass(s, 20 * SECOND);
        assert_orders(s, NULL);
}

static void test_a_confirmation_of_long_ago_does_not_count(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 4 * SECOND);
        assert_orders(s, "off b");
        s->word = WORD_NO;
        pass(s, 60 * SECOND);
        assert_orders(s, "off b");
}

static void test_a_leader_that_stood_still_hears_first(void) {
        g_autoptr(Scene) s = scene_of(3);
        pass(s, SECOND);
        s->now_us += 20 * SECOND;
        silence(s, "b");                /* its requests are still to be read */
        pass(s, 500 * MS);
        s->heard[1] = true;
        pass(s, 20 * SECOND);
        assert_orders(s, NULL);
}

static void test_a_leader_that_stood_still_while_it_watched_hears_first(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "b");
        pass(s, LEASE / 2 + 600 * MS);
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_WATCHED);
        s->now_us += 20 * SECOND;
        pass(s, 600 * MS);
        s->heard[1] = true;
        pass(s, 20 * SECOND);
        assert_orders(s, NULL);
}

static void test_a_leader_no_longer_ends_what_it_began(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        s->leads = false;
        s->turn = true;
        pass(s, SECOND);
        g_assert_cmpuint(s->n_agents, ==, 0);
        pass(s, 60 * SECOND);
        assert_orders(s, "off b");
}

static void test_a_new_leader_waits_a_lease_of_its_own(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "b");
        s->leads = false;
        pass(s, 60 * SECOND);
        s->leads = s->turn = true;
        pass(s, LEASE - STEP);
        assert_orders(s, NULL);
        pass(s, 300 * MS);
        assert_orders(s, "off b");
}

static void test_who_is_gone_before_the_answer_is_not_called(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->word = WORD_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        g_assert_nonnull(s->confirmed);         /* scene_free() answers after fencing_clear() */
}

/* ---- tries */

static void test_a_failure_is_tried_again_and_given_up_at_last(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 4 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 1);
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_RESTING);
        pass(s, 4 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 2);
        pass(s, 600 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, FENCING_TRIES);
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_GIVEN_UP);
        g_assert_false(book_says_off(s, "b"));
}

static void test_a_program_that_is_missing_is_a_failure(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_MISSING;
        silence(s, "b");
        pass(s, 600 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, FENCING_TRIES);
}

static void test_a_new_silence_is_a_new_beginning(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 100 * SECOND);
        s->heard[1] = true;
        pass(s, SECOND);
        g_assert_true(is_left_alone(s, "b"));
        silence(s, "b");
        pass(s, 100 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 2 * FENCING_TRIES);
}

static void test_a_new_password_is_a_new_beginning(void) {
        g_autoptr(Scene) s = scene_of(3);
        Fence *fence = &node_named(s->w, "b")->fence;
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 100 * SECOND);
        fence->parameters = calloc(1, sizeof(FenceParameter));
        fence->n_parameters = 1;
        g_assert_cmpint(text_set(&fence->parameters[0].name, "password"), ==, 0);
        g_assert_cmpint(text_set(&fence->parameters[0].value, "correct horse"), ==, 0);
        s->deed = DEED_DONE;
        s->turn = true;
        pass(s, 10 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, FENCING_TRIES + 1);
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_OFF);
}

/* ---- what is shown */

/* "fencing 2: it ended with status 1", of node b; NULL: nothing. */
static char *shown(const Scene *s) {
        const FencingFacts *facts = &s->fencing.shown;
        const NodeRecord *record = node_named(s->w, "b");
        if (facts->n == 0)
                return NULL;
        g_assert_cmpuint(facts->n, ==, 1);
        const FencedNode *row = facts->items;
        g_assert_true(ID_EQUAL(&row->node, &record->id));
        g_assert_true((row->at_ms > 0) == (row->said != NULL));
        return g_strdup_printf("%s %u%s%s", fence_state_text(&record->fence, row->phase), row->tries,
                               row->said ? ": " : "", row->said ? row->said : "");
}

static void assert_shown(const Scene *s, const char *expected) {
        g_autofree char *is = shown(s);
        g_assert_cmpstr(is, ==, expected);
        if (!s->leads)
                return;
        g_assert_true(s->tells);
        g_assert_true(fencing_facts_equal(&s->told, &s->fencing.shown));
}

static void test_what_is_done_is_shown(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, LEASE - REQUEST);
        assert_shown(s, NULL);          /* it is watched, and nobody was asked */
        pass(s, SECOND);
        assert_shown(s, "fencing 1");
        s->agents[0]->due_us = s->now_us;
        s->deed = DEED_FAILED;
        pass(s, 200 * MS);
        assert_shown(s, "fencing 1: it ended with status 1");
        s->deed = DEED_NONE;
        pass(s, 2 * SECOND);
        assert_shown(s, "fencing 2: it ended with status 1");
        s->agents[0]->due_us = s->now_us;
        s->deed = DEED_DONE;
        pass(s, 200 * MS);
        assert_shown(s, "done 2");
        s->heard[1] = true;
        pass(s, SECOND);
        assert_shown(s, NULL);
}

static void test_a_failure_is_shown_until_it_is_made_good(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 600 * SECOND);
        assert_shown(s, "failed 5: it ended with status 1");
        s->heard[1] = true;
        pass(s, 600 * SECOND);
        assert_shown(s, "failed 5: it ended with status 1");
        s->deed = DEED_DONE;
        silence(s, "b");
        pass(s, LEASE - REQUEST);
        assert_shown(s, "failed 5: it ended with status 1");
        pass(s, 10 * SECOND);
        assert_shown(s, "done 1");
        s->heard[1] = true;
        pass(s, SECOND);
        assert_shown(s, NULL);
}

static void test_a_failure_is_shown_through_a_freeze_and_until_it_is_set_anew(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 4 * SECOND);
        s->w->registry->frozen_ms = 1000;
        s->turn = true;
        pass(s, SECOND);
        assert_shown(s, "failed 1: it ended with status 1");
        set_agent(s, "b", "fence_redfish");
        s->turn = true;
        pass(s, STEP);
        assert_shown(s, NULL);
}

static void test_another_leader_is_believed(void) {
        g_autoptr(Scene) s = scene_of(3);
        FencedNode row = { .node = node_named(s->w, "b")->id, .phase = FENCED_FAILED, .tries = 3, .at_ms = 1,
                           .said = g_strdup("no") };
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 4 * SECOND);
        g_assert_cmpint(array_append(&s->b_tells, &row), ==, 0);
        s->leads = false;
        s->turn = true;
        pass(s, STEP);
        assert_shown(s, "fencing 1: it ended with status 1");   /* no leader is known */
        g_assert_false(s->tells);
        s->other_leads = s->turn = true;
        pass(s, STEP);
        assert_shown(s, "failed 3: no");
        fencing_facts_clear(&s->b_tells);
        s->turn = true;
        pass(s, STEP);
        assert_shown(s, NULL);
}

static void test_agents_that_are_not_here_are_found(void) {
        g_autoptr(Scene) s = scene_of(4);
        g_autofree char *directory = g_dir_make_tmp("gpupool-agents-XXXXXX", NULL);
        g_autofree char *path = g_build_filename(directory, "fence_ipmilan", NULL);
        TextList missing = {};
        s->fencing.config.directory = directory;
        set_agent(s, "c", "fence_redfish");
        set_agent(s, "d", "fence_scsi");        /* is not used anyway */
        g_assert_true(fencing_look_for_agents(&s->fencing, s->w->registry, s->now_us, &missing));
        g_assert_cmpuint(missing.n, ==, 2);
        g_assert_true(text_list_has(&missing, "fence_ipmilan") && text_list_has(&missing, "fence_redfish"));
        text_list_clear(&missing);
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
        g_assert_cmpint(chmod(path, 0755), ==, 0);
        g_assert_false(fencing_look_for_agents(&s->fencing, s->w->registry, s->now_us + SECOND, &missing));
        g_assert_true(fencing_look_for_agents(&s->fencing, s->w->registry, s->now_us + 10 * SECOND, &missing));
        g_assert_cmpuint(missing.n, ==, 1);
        g_assert_cmpstr(missing.items[0], ==, "fence_redfish");
        text_list_clear(&missing);
        (void) g_unlink(path);
        (void) g_rmdir(directory);
}

/* ---- who comes back */

static void test_who_is_heard_meanwhile_is_left_alone(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        s->heard[1] = true;
        pass(s, REQUEST + STEP);
        g_assert_cmpuint(s->n_agents, ==, 0);
        g_assert_true(is_left_alone(s, "b"));
}

/* The plug of another host, perhaps. */
static void test_who_asks_is_not_off_whatever_the_agent_says(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        s->now_us += STEP;
        ask(s, "b");
        s->deed = DEED_DONE;
        s->agents[0]->due_us = s->now_us;
        end_agents(s);
        pass(s, SECOND);
        g_assert_false(book_says_off(s, "b"));
}

static void test_who_is_connected_again_is_left_alone(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        s->lives[1].silent = true;
        pass(s, 6 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 2);
        lose(s, "b", LOSS_BY_LEASE);
        pass(s, STEP);
        s->lives[1].silent = false;
        s->turn = true;
        pass(s, 60 * SECOND);
        g_assert_cmpuint(s->n_orders, ==, 2);
}

static void test_another_life_is_another_case(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        node_named(s->w, "b")->incarnation++;
        s->turn = true;
        pass(s, STEP);
        g_assert_cmpuint(s->n_agents, ==, 0);
        g_assert_false(book_says_off(s, "b"));
}

static void test_who_is_removed_is_forgotten(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "c");
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        g_free(s->w->registry->nodes.items[2].name);
        g_free(s->w->registry->nodes.items[2].fence.agent);
        s->w->registry->nodes.n = 2;
        s->turn = true;
        pass(s, 60 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 0);
        assert_orders(s, "off c");
}

/* ---- who is lost */

static void test_what_was_begun_goes_on_after_the_loss(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_FAILED;
        silence(s, "b");
        pass(s, 4 * SECOND);
        lose(s, "b", LOSS_BY_LEASE);
        s->deed = DEED_DONE;
        pass(s, 10 * SECOND);
        assert_orders(s, "off b, off b");
        g_assert_cmpint(stage_of(s, "b"), ==, FENCING_OFF);
}

static void test_who_an_administrator_vouches_for_is_his(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 4 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        lose(s, "b", LOSS_BY_WORD);
        pass(s, 60 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 0);
        assert_orders(s, "off b");
}

static void test_who_was_lost_before_is_on_somebodys_bench(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "b");
        lose(s, "b", LOSS_BY_LEASE);
        pass(s, 600 * SECOND);
        assert_orders(s, NULL);
}

/* ---- freezing */

static void test_nobody_is_switched_off_while_the_cluster_is_frozen(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->w->registry->frozen_ms = 3600 * 1000;
        silence(s, "b");
        pass(s, 600 * SECOND);
        assert_orders(s, NULL);
        s->w->registry->frozen_ms = 0;
        s->turn = true;
        pass(s, LEASE - STEP);
        assert_orders(s, NULL);
        pass(s, SECOND);
        assert_orders(s, "off b");
}

static void test_a_freeze_ends_what_was_begun(void) {
        g_autoptr(Scene) s = scene_of(3);
        s->deed = DEED_NONE;
        silence(s, "b");
        pass(s, 5 * SECOND);
        g_assert_cmpuint(s->n_agents, ==, 1);
        s->w->registry->frozen_ms = 1000;
        s->turn = true;
        pass(s, STEP);
        g_assert_cmpuint(s->n_agents, ==, 0);
}

static void test_what_is_off_stays_so_through_a_freeze(void) {
        g_autoptr(Scene) s = scene_of(3);
        silence(s, "b");
        pass(s, 5 * SECOND);
        s->w->registry->frozen_ms = 60000;
        s->turn = true;
        pass(s, 60 * SECOND);
        s->w->registry->frozen_ms = 0;
        s->turn = true;
        pass(s, 60 * SECOND);
        assert_orders(s, "off b");
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fencing/a-silent-node-is-switched-off-after-its-lease",
                        test_a_silent_node_is_switched_off_after_its_lease);
        g_test_add_func("/fencing/it-wakes-up-by-itself", test_it_wakes_up_by_itself);
        g_test_add_func("/fencing/once-off-nothing-more-is-done", test_once_off_nothing_more_is_done);
        g_test_add_func("/fencing/a-blink-switches-nobody-off", test_a_blink_switches_nobody_off);
        g_test_add_func("/fencing/nothing-is-looked-at-while-all-are-well",
                        test_nothing_is_looked_at_while_all_are_well);
        g_test_add_func("/fencing/who-has-no-agent-no-vm-or-no-lease-is-left-alone",
                        test_who_has_no_agent_no_vm_or_no_lease_is_left_alone);
        g_test_add_func("/fencing/the-leader-itself-is-left-alone", test_the_leader_itself_is_left_alone);
        g_test_add_func("/fencing/an-agent-that-cuts-no-power-is-not-used",
                        test_an_agent_that_cuts_no_power_is_not_used);
        g_test_add_func("/fencing/an-agent-that-proves-nothing-with-its-parameters-is-not-used",
                        test_an_agent_that_proves_nothing_with_its_parameters_is_not_used);
        g_test_add_func("/fencing/what-is-done-is-shown", test_what_is_done_is_shown);
        g_test_add_func("/fencing/a-failure-is-shown-until-it-is-made-good",
                        test_a_failure_is_shown_until_it_is_made_good);
        g_test_add_func("/fencing/a-failure-is-shown-through-a-freeze-and-until-it-is-set-anew",
                        test_a_failure_is_shown_through_a_freeze_and_until_it_is_set_anew);
        g_test_add_func("/fencing/another-leader-is-believed", test_another_leader_is_believed);
        g_test_add_func("/fencing/agents-that-are-not-here-are-found", test_agents_that_are_not_here_are_found);
        g_test_add_func("/fencing/a-node-may-be-rebooted-instead", test_a_node_may_be_rebooted_instead);
        g_test_add_func("/fencing/a-crowd-is-switched-off-a-few-at-a-time",
                        test_a_crowd_is_switched_off_a_few_at_a_time);
        g_test_add_func("/fencing/a-leader-that-is-not-confirmed-switches-nobody-off",
                        test_a_leader_that_is_not_confirmed_switches_nobody_off);
        g_test_add_func("/fencing/who-is-heard-once-there-is-a-majority-again-is-not-switched-off",
                        test_who_is_heard_once_there_is_a_majority_again_is_not_switched_off);
        g_test_add_func("/fencing/a-confirmation-of-long-ago-does-not-count",
                        test_a_confirmation_of_long_ago_does_not_count);
        g_test_add_func("/fencing/a-leader-that-stood-still-hears-first", test_a_leader_that_stood_still_hears_first);
        g_test_add_func("/fencing/a-leader-that-stood-still-while-it-watched-hears-first",
                        test_a_leader_that_stood_still_while_it_watched_hears_first);
        g_test_add_func("/fencing/a-leader-no-longer-ends-what-it-began", test_a_leader_no_longer_ends_what_it_began);
        g_test_add_func("/fencing/a-new-leader-waits-a-lease-of-its-own", test_a_new_leader_waits_a_lease_of_its_own);
        g_test_add_func("/fencing/who-is-gone-before-the-answer-is-not-called",
                        test_who_is_gone_before_the_answer_is_not_called);
        g_test_add_func("/fencing/a-failure-is-tried-again-and-given-up-at-last",
                        test_a_failure_is_tried_again_and_given_up_at_last);
        g_test_add_func("/fencing/a-program-that-is-missing-is-a-failure", test_a_program_that_is_missing_is_a_failure);
        g_test_add_func("/fencing/a-new-silence-is-a-new-beginning", test_a_new_silence_is_a_new_beginning);
        g_test_add_func("/fencing/a-new-password-is-a-new-beginning", test_a_new_password_is_a_new_beginning);
        g_test_add_func("/fencing/who-is-heard-meanwhile-is-left-alone", test_who_is_heard_meanwhile_is_left_alone);
        g_test_add_func("/fencing/who-asks-is-not-off-whatever-the-agent-says",
                        test_who_asks_is_not_off_whatever_the_agent_says);
        g_test_add_func("/fencing/who-is-connected-again-is-left-alone", test_who_is_connected_again_is_left_alone);
        g_test_add_func("/fencing/another-life-is-another-case", test_another_life_is_another_case);
        g_test_add_func("/fencing/who-is-removed-is-forgotten", test_who_is_removed_is_forgotten);
        g_test_add_func("/fencing/what-was-begun-goes-on-after-the-loss", test_what_was_begun_goes_on_after_the_loss);
        g_test_add_func("/fencing/who-an-administrator-vouches-for-is-his",
                        test_who_an_administrator_vouches_for_is_his);
        g_test_add_func("/fencing/who-was-lost-before-is-on-somebodys-bench",
                        test_who_was_lost_before_is_on_somebodys_bench);
        g_test_add_func("/fencing/nobody-is-switched-off-while-the-cluster-is-frozen",
                        test_nobody_is_switched_off_while_the_cluster_is_frozen);
        g_test_add_func("/fencing/a-freeze-ends-what-was-begun", test_a_freeze_ends_what_was_begun);
        g_test_add_func("/fencing/what-is-off-stays-so-through-a-freeze", test_what_is_off_stays_so_through_a_freeze);
        return g_test_run();
}
