/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/fencing.h"

#include <errno.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/wake.h"

#define LOOK_US 200000U                 /* between two looks at who is silent */
#define STALL_US 600000U                /* who did not look for longer saw nothing of what came meanwhile */
#define FRESH_US 1000000U               /* a confirmation is acted on within, once its time has come */
#define ASK_AGAIN_US 500000U            /* after one that did not come */
#define LOOK_FOR_AGENTS_US 10000000U    /* somebody may have installed one */

/* A question that the history answers later, perhaps when nobody wants to know any more. */
struct FencingQuestion {
        Fencing *fencing;               /* NULL: it is gone */
        uint64_t term;
};

void fencing_init(Fencing *fencing, const FencingConfig *config) {
        *fencing = (Fencing) { .config = *config };
}

static void case_free(FencingCase *c) {
        fence_agent_free(c->agent);
        free(c->said);
        free(c->name);
        free(c->agent_name);
        free(c);
}

static void drop_cases(Fencing *fencing) {
        ARRAY_EACH(c, &fencing->cases)
                case_free(*c);
        fencing->cases.n = 0;
}

void fencing_clear(Fencing *fencing) {
        drop_cases(fencing);
        array_clear(&fencing->cases);
        fencing_facts_clear(&fencing->shown);
        if (fencing->question)
                fencing->question->fencing = NULL;
        *fencing = (Fencing) {};
}

static FencingCase *find_case(const Fencing *fencing, const NodeId *node) {
        ARRAY_EACH(c, &fencing->cases)
                if (ID_EQUAL(&(*c)->node, node))
                        return *c;
        return NULL;
}

const FencingCase *fencing_find(const Fencing *fencing, const NodeId *node) {
        const FencingCase *c = find_case(fencing, node);
        return c && c->stage != FENCING_PAST ? c : NULL;
}

const char *fencing_stage_to_text(FencingStage stage) {
        switch (stage) {
        case FENCING_WATCHED:
                return "watched";
        case FENCING_WORKING:
                return "working";
        case FENCING_RESTING:
                return "resting";
        case FENCING_OFF:
                return "off";
        case FENCING_GIVEN_UP:
                return "given-up";
        case FENCING_PAST:
                return "past";
        }
        return "";
}

/* ---- does this node still lead? */

static void on_answered(bool confirmed, void *userdata) {
        FencingQuestion *question = userdata;
        Fencing *fencing = question->fencing;
        uint64_t now = 0, term = question->term;
        free(question);
        if (!fencing)
                return;
        fencing->question = NULL;
        (void) sd_event_now(fencing->config.event, CLOCK_BOOTTIME, &now);
        fencing->ask_not_before_us = now + (confirmed ? 0 : ASK_AGAIN_US);
        if (confirmed) {
                fencing->confirmed_us = now;
                fencing->confirmed_term = term;
        }
        fencing->config.changed(fencing->config.userdata);
}

static int ask(Fencing *fencing, uint64_t now) {
        if (fencing->question || now < fencing->ask_not_before_us)
                return 0;
        _cleanup_free_ FencingQuestion *question = calloc(1, sizeof(FencingQuestion));
        if (!question)
                return -ENOMEM;
        *question = (FencingQuestion) { .fencing = fencing, .term = fencing->term };
        if (history_confirm(fencing->config.history, on_answered, question) >= 0)
                fencing->question = STEAL(question);
        else
                fencing->ask_not_before_us = now + ASK_AGAIN_US;
        return 0;
}

/* ---- the agent */

static void rest(FencingCase *c, const char *sentence, uint64_t now) {
        bool last = c->tries >= FENCING_TRIES;
        c->stage = last ? FENCING_GIVEN_UP : FENCING_RESTING;
        c->due_us = now + ((uint64_t) FENCING_REST_US << (c->tries - 1));
        c->said_ms = clock_realtime_ms();
        c->said_tries = c->tries;
        (void) text_set(&c->said, sentence);    /* without memory for it the last one is shown */
        log_warning("node %s could not be switched off by %s (try %u of %u): %s%s", c->name, c->agent_name, c->tries,
                    FENCING_TRIES, sentence,
                    last ? "; it is not tried again until the node was heard, or its fencing is set anew" : "");
}

static void on_ended(FenceEnd end, const char *sentence, void *userdata) {
        FencingCase *c = userdata;
        Fencing *fencing = c->fencing;
        uint64_t now = 0;
        (void) sd_event_now(fencing->config.event, CLOCK_BOOTTIME, &now);
        c->agent = NULL;
        if (end != FENCE_DONE)
                rest(c, sentence, now);
        fencing->config.changed(fencing->config.userdata);
}

static int start(FencingCase *c, const NodeRecord *record, uint64_t now) {
        const FencingConfig *config = &c->fencing->config;
        FenceOrder order = { .directory = config->directory, .agent = record->fence.agent,
                             .action = fence_action(&record->fence), .node = record->name,
                             .parameters = record->fence.parameters, .n_parameters = record->fence.n_parameters,
                             .timeout_us = config->timeout_us };
        c->tries++;
        c->stage = FENCING_WORKING;
        log_notice("node %s is silent: %s is asked to %s", c->name, c->agent_name,
                   text_equal(order.action, "off") ? "switch it off" : "reboot it");
        int r = fence_agent_start(&c->agent, config->event, &order, on_ended, c);
        if (r >= 0)
                return 0;
        char sentence[512];
        (void) snprintf(sentence, sizeof(sentence),
                        "%s/%s cannot be run here (%s). Install it on every node that may lead", config->directory,
                        c->agent_name, strerror(-r));
        rest(c, sentence, now);
        return r == -ENOMEM ? r : 0;
}

/* ---- who */

static uint64_t fence_hash(const Fence *fence) {
        uint64_t hash = UINT64_C(14695981039346656037);
        const char *texts[] = { fence->agent, NULL, NULL };
        for (size_t i = 0; i <= fence->n_parameters; i++) {
                if (i > 0) {
                        texts[0] = fence->parameters[i - 1].name;
                        texts[1] = fence->parameters[i - 1].value;
                }
                for (const char **text = texts; *text; text++)
                        for (const char *p = *text;; p++) {
                                hash = (hash ^ (uint8_t) *p) * UINT64_C(1099511628211);
                                if (!*p)
                                        break;
                        }
        }
        return hash;
}

static bool has_vm(const Registry *registry, const NodeId *node) {
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node))
                        return true;
        return false;
}

static uint64_t lease_us(const NodeRecord *record) {
        return (uint64_t) record->lease_ms * 1000;
}

static bool is_quiet(const LeaseBook *book, const NodeRecord *record, uint64_t now) {
        return record->lease_ms > 0 && lease_book_silent_us(book, &record->id, now) >= lease_us(record) / 2;
}

/* A lost node has no VM. */
static bool begins(const World *world, const LeaseBook *book, const NodeRecord *record, uint64_t now) {
        return !text_is_empty(record->fence.agent) && !fence_objection(&record->fence) &&
               !ID_EQUAL(&record->id, &world->local) && is_quiet(book, record, now) &&
               has_vm(world->registry, &record->id);
}

/* Nothing is done any more. What was tried in vain is kept in mind. */
static bool is_past(FencingCase *c) {
        c->agent = fence_agent_free(c->agent);
        c->stage = FENCING_PAST;
        return c->said;
}

static bool is_remembered(const FencingCase *c, const World *world) {
        const NodeRecord *record = registry_find_node(world->registry, &c->node);
        return c->said && record && !text_is_empty(record->fence.agent) && fence_hash(&record->fence) == c->fence;
}

/* A node that lost its VMs by its loss is followed on; one that an administrator vouches for is left to him. */
static bool goes_on(FencingCase *c, const World *world, const LeaseBook *book, uint64_t now) {
        const NodeRecord *record = registry_find_node(world->registry, &c->node);
        const NodeLife *life = world_find_life(world, &c->node);
        bool was_disconnected = c->disconnected;
        c->disconnected = life && life->silent;
        if (!record || record->incarnation != c->incarnation || (was_disconnected && !c->disconnected) ||
            text_is_empty(record->fence.agent) || fence_hash(&record->fence) != c->fence)
                return false;
        if (record->lost ? record->evidence == LOSS_BY_WORD : !has_vm(world->registry, &c->node))
                return false;
        return is_quiet(book, record, now);
}

static void begin_case(FencingCase *c, const NodeRecord *record, uint64_t now) {
        const Fencing *fencing = c->fencing;
        uint64_t due_us = now + lease_us(record) / 4;
        uint64_t thawed_us = fencing->frozen_us > 0 ? fencing->frozen_us + lease_us(record) : 0;
        c->incarnation = record->incarnation;
        c->fence = fence_hash(&record->fence);
        c->stage = FENCING_WATCHED;
        c->tries = 0;
        c->disconnected = false;
        c->due_us = due_us > thawed_us ? due_us : thawed_us;
}

static int open_case(Fencing *fencing, const NodeRecord *record, uint64_t now) {
        FencingCase *c = find_case(fencing, &record->id);
        if (c) {
                begin_case(c, record, now);
                return 0;
        }
        c = calloc(1, sizeof(FencingCase));
        if (!c)
                return -ENOMEM;
        *c = (FencingCase) { .fencing = fencing, .node = record->id };
        begin_case(c, record, now);
        int r = text_set(&c->name, record->name);
        if (r >= 0)
                r = text_set(&c->agent_name, record->fence.agent);
        if (r >= 0)
                r = array_append(&fencing->cases, &c);
        if (r < 0)
                case_free(c);
        return r;
}

/* This node may have stood still: what others sent meanwhile is still to be read, so their silence counts from now. */
static void forgive_stall(Fencing *fencing, const World *world, uint64_t now) {
        bool stood_still = now > fencing->looked_us + STALL_US;
        fencing->looked_us = now;
        if (!stood_still)
                return;
        ARRAY_EACH(c, &fencing->cases) {
                const NodeRecord *record = registry_find_node(world->registry, &(*c)->node);
                uint64_t due_us = now + (record ? lease_us(record) / 4 : 0);
                if ((*c)->due_us < due_us)
                        (*c)->due_us = due_us;
        }
}

static int follow(Fencing *fencing, const World *world, const LeaseBook *book, uint64_t now) {
        size_t kept = 0;
        ARRAY_EACH(p, &fencing->cases) {
                FencingCase *c = *p;
                bool stays = c->stage == FENCING_PAST || goes_on(c, world, book, now) || is_past(c);
                if (stays && (c->stage != FENCING_PAST || is_remembered(c, world)))
                        fencing->cases.items[kept++] = c;
                else
                        case_free(c);
        }
        fencing->cases.n = kept;
        ARRAY_EACH(record, &world->registry->nodes) {
                if (fencing->frozen || fencing_find(fencing, &record->id) || !begins(world, book, record, now))
                        continue;
                int r = open_case(fencing, record, now);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* When the next one falls silent, if it does. */
static void wake_for_quiet(const Fencing *fencing, const World *world, const LeaseBook *book, uint64_t now,
                           uint64_t *wake_us) {
        ARRAY_EACH(record, &world->registry->nodes) {
                uint64_t silent_us = lease_book_silent_us(book, &record->id, now), half_us = lease_us(record) / 2;
                if (text_is_empty(record->fence.agent) || record->lost || silent_us >= half_us ||
                    ID_EQUAL(&record->id, &world->local))
                        continue;
                uint64_t due_us = now + half_us - silent_us;
                wake_by(wake_us, due_us);
        }
}

/* ---- the turn */

static size_t count_working(const Fencing *fencing) {
        size_t n = 0;
        ARRAY_EACH(c, &fencing->cases)
                n += (*c)->stage == FENCING_WORKING;
        return n;
}

static bool is_due(const FencingCase *c, uint64_t now) {
        return (c->stage == FENCING_WATCHED || c->stage == FENCING_RESTING) && now >= c->due_us;
}

/* It was without a majority perhaps, and nobody could be heard: once it is confirmed that it leads, those who are there
 * have a quarter of a lease to be heard. Whoever is still silent then is switched off. */
static bool is_sure(const Fencing *fencing, const FencingCase *c, const NodeRecord *record, const LeaseBook *book,
                    uint64_t now) {
        return fencing->confirmed_term == fencing->term && now >= fencing->confirmed_us + lease_us(record) / 4 &&
               lease_book_silent_us(book, &c->node, now) >= lease_us(record);
}

static bool asks(const Fencing *fencing, const NodeRecord *record, uint64_t now) {
        return fencing->confirmed_term != fencing->term ||
               now >= fencing->confirmed_us + lease_us(record) / 4 + FRESH_US;
}

static void tell_book(FencingCase *c, LeaseBook *book) {
        if (c->stage != FENCING_WORKING || c->agent)
                return;
        c->stage = FENCING_OFF;
        free(c->said);
        c->said = NULL;
        log_notice("node %s is off: %s confirmed it", c->name, c->agent_name);
        lease_book_powered_off(book, &c->node, c->incarnation);
}

static int act(Fencing *fencing, const World *world, LeaseBook *book, uint64_t now, uint64_t *wake_us) {
        size_t working = count_working(fencing);
        int r = 0;
        ARRAY_EACH(p, &fencing->cases) {
                FencingCase *c = *p;
                const NodeRecord *record = registry_find_node(world->registry, &c->node);
                tell_book(c, book);
                if (c->stage == FENCING_WATCHED || c->stage == FENCING_RESTING)
                        wake_by(wake_us, now + LOOK_US);
                if (r < 0 || !is_due(c, now) || working >= FENCING_AT_ONCE)
                        continue;
                if (asks(fencing, record, now))
                        r = ask(fencing, now);
                else if (is_sure(fencing, c, record, book, now))
                        r = start(c, record, now);
                working += c->stage == FENCING_WORKING;
        }
        return r;
}

/* What is off stays so, and is not switched off again after the thaw. */
static void freeze(Fencing *fencing) {
        size_t kept = 0;
        ARRAY_EACH(c, &fencing->cases) {
                if ((*c)->stage == FENCING_OFF || is_past(*c))
                        fencing->cases.items[kept++] = *c;
                else
                        case_free(*c);
        }
        fencing->cases.n = kept;
}

int fencing_turn(Fencing *fencing, const World *world, LeaseBook *book, uint64_t now_us, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        bool leads = book->leads && history_leads(fencing->config.history);
        bool was_frozen = fencing->frozen;
        fencing->frozen = world->registry->frozen_ms > 0;
        if (was_frozen || fencing->frozen)
                fencing->frozen_us = now_us;
        if (!leads || book->term != fencing->term)
                drop_cases(fencing);
        fencing->term = book->term;
        if (!leads)
                return 0;
        if (fencing->frozen)
                freeze(fencing);
        forgive_stall(fencing, world, now_us);
        int r = follow(fencing, world, book, now_us);
        if (r < 0)
                return r;
        r = act(fencing, world, book, now_us, ret_wake_us);
        wake_for_quiet(fencing, world, book, now_us, ret_wake_us);
        return r;
}

/* ---- what is shown */

static FencedPhase phase_of(const FencingCase *c) {
        switch (c->stage) {
        case FENCING_WORKING:
        case FENCING_RESTING:
                return FENCED_UNDER_WAY;
        case FENCING_OFF:
                return FENCED_DONE;
        case FENCING_GIVEN_UP:
        case FENCING_PAST:
                return FENCED_FAILED;
        case FENCING_WATCHED:           /* nobody has been asked yet */
                break;
        }
        return c->said ? FENCED_FAILED : FENCED_NOT;
}

static int compare_fenced(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const FencedNode *) item)->node);
}

static int add_shown(const FencingCase *c, FencingFacts *facts) {
        FencedNode row = { .node = c->node, .phase = phase_of(c), .at_ms = c->said ? c->said_ms : 0 };
        size_t i;
        row.tries = row.phase == FENCED_FAILED ? c->said_tries : c->tries;
        if (row.phase == FENCED_NOT || array_find(facts, &row.node, compare_fenced, &i))
                return 0;
        int r = text_set(&row.said, c->said);
        if (r >= 0)
                r = array_insert(facts, i, &row);
        if (r < 0)
                fenced_node_clear(&row);
        return r;
}

/* While no leader is known, what the last one said stays. Those that were left out on the way are not shown by the
 * leader either. */
static int collect(const Fencing *fencing, const ClusterFacts *facts, const Lead *lead, FencingFacts *ret) {
        if (!lead->is_local && id_is_null(lead->leader.bytes))
                return fencing_facts_copy(&fencing->shown, ret);
        if (!lead->is_local)
                return cluster_facts_collect_fencing(facts, &lead->leader, ret);
        int r = 0;
        ARRAY_EACH(c, &fencing->cases)
                if (r >= 0 && ret->n < FACTS_FENCED_MAX)
                        r = add_shown(*c, ret);
        return r;
}

int fencing_show(Fencing *fencing, ClusterFacts *facts) {
        FencingFacts fresh = {};
        Lead lead;
        history_lead(fencing->config.history, &lead);
        int r = collect(fencing, facts, &lead, &fresh);
        if (r >= 0)
                r = cluster_facts_publish_fencing(facts, lead.is_local ? &fresh : NULL);
        bool news = r >= 0 && !fencing_facts_equal(&fencing->shown, &fresh);
        if (news) {
                FencingFacts old = fencing->shown;
                fencing->shown = fresh;
                fresh = old;
        }
        fencing_facts_clear(&fresh);
        return r < 0 ? r : news;
}

/* ---- which agents are here */

static bool is_missing(const char *directory, const char *agent) {
        _cleanup_free_ char *path = NULL;
        return text_printf(&path, "%s/%s", directory, agent) >= 0 && access(path, X_OK) < 0;
}

bool fencing_look_for_agents(Fencing *fencing, const Registry *registry, uint64_t now_us, TextList *ret) {
        TextList missing = {};
        int r = 0;
        if (fencing->looked_for_agents_us > 0 && now_us < fencing->looked_for_agents_us + LOOK_FOR_AGENTS_US)
                return false;
        fencing->looked_for_agents_us = now_us;
        ARRAY_EACH(record, &registry->nodes) {
                const char *agent = record->fence.agent;
                if (r >= 0 && agent && missing.n < FACTS_AGENTS_MAX && !fence_agent_objection(agent) &&
                    !text_list_has(&missing, agent) && is_missing(fencing->config.directory, agent))
                        r = text_list_add(&missing, agent);
        }
        if (r < 0) {
                text_list_clear(&missing);
                return false;
        }
        *ret = missing;
        return true;
}
