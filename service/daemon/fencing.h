/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fencing: the leader has hosts switched off that fell silent with VMs on them, so that nobody has to trust in their
 * clocks (design, 5.6 and 5.10). It is a second way to the same end: the lease decides without it, and never waits.
 *
 *     VMs are assigned to it, and it was silent for half a lease
 *        ▼
 *     WATCHED: a quarter more, in which this node did not stand still
 *        │ history_confirm(): a leader that is cut off switches nobody off
 *        │ a quarter more, for those who could not be heard while there was no majority
 *        ▼
 *     WORKING ──status 0──► the book knows: lease_book_powered_off() ──► OFF, nothing more
 *      ▲  └──else──► RESTING 1 s, 2 s, 4 s, ... ──┐  └──FENCING_TRIES──► GIVEN_UP
 *      └──────────────────────────────────────────┘
 *
 * So it ends: each try has its deadline, and there are FENCING_TRIES of them.
 *
 * Whoever is heard again, by a request or by a connection, is left alone at once, and what is under way ends. So it is
 * when this node leads no longer, when the node takes another incarnation, and when its agent or parameters change.
 * Nobody is switched off while the cluster is frozen (administrators freeze for work on the network, so that silence is
 * expected), nor for a lease after the thaw.
 *
 * A node that was lost before anything was begun is not touched: its VMs are dead, and it may be on an administrator's
 * bench by now. For the same reason a node without VMs is not. What was begun before the loss goes on: it is what makes
 * sure that a host that was paused with all its clocks does not come back.
 *
 * Agents run on the leader: they are installed on every node that may lead, and each node says which ones it lacks.
 *
 * The leader tells all others by gossip what it does, so that every node shows the same. What was tried in vain is
 * shown also once the node is heard again (PAST), until it is tried with more success, its fencing is set anew, or
 * another node leads: an agent that does not work is to be mended before the next time. */

#include "adapters/fence/fence-agent.h"
#include "core/lease-book.h"
#include "core/world.h"
#include "daemon/cluster-facts.h"
#include "daemon/history.h"

#define FENCING_TIMEOUT_US 40000000U    /* for one try: agents themselves wait 20 s for the power to go */
#define FENCING_TRIES 5U                /* in a row; then somebody has to look */
#define FENCING_REST_US 1000000U        /* after the first; twice as long after each */
#define FENCING_AT_ONCE 8U              /* agents: they are Python, and this service is small */

typedef enum FencingStage {
        FENCING_WATCHED,
        FENCING_WORKING,
        FENCING_RESTING,
        FENCING_OFF,
        FENCING_GIVEN_UP,
        FENCING_PAST,                   /* nothing is done; it is known only that the last try failed */
} FencingStage;

typedef struct FencingCase {
        struct Fencing *fencing;
        NodeId node;
        uint64_t incarnation;
        uint64_t fence;                 /* hash of agent and parameters */
        char *name;                     /* the node's, and its agent's, for the log */
        char *agent_name;
        FencingStage stage;
        uint32_t tries;
        char *said;                     /* how the last try that failed ended; NULL: none did, or one has ended well */
        uint64_t said_ms;               /* realtime: when */
        uint32_t said_tries;            /* after how many */
        uint64_t due_us;                /* WATCHED, RESTING: not before */
        bool disconnected;              /* seen so since it began */
        FenceAgent *agent;              /* WORKING; NULL: it has ended well, and the book is to be told */
} FencingCase;

typedef struct FencingConfig {
        sd_event *event;
        History *history;               /* borrowed, as all of these */
        const char *directory;          /* of the agents */
        uint64_t timeout_us;
        void (*changed)(void *userdata);        /* take a turn */
        void *userdata;
} FencingConfig;

typedef struct FencingQuestion FencingQuestion;

typedef struct Fencing {
        FencingConfig config;
        uint64_t term;
        ARRAY(FencingCase *) cases;     /* in no order */
        uint64_t looked_us;             /* last */
        bool frozen;
        uint64_t frozen_us;             /* the cluster was, last */
        FencingQuestion *question;      /* does this node still lead? under way; NULL: not */
        uint64_t confirmed_us;          /* it did then */
        uint64_t confirmed_term;
        uint64_t ask_not_before_us;
        FencingFacts shown;             /* what this node shows: its own doings, or what the leader says of its own */
        uint64_t looked_for_agents_us;  /* last */
} Fencing;

/* Nothing is allocated. */
void fencing_init(Fencing *fencing, const FencingConfig *config);
/* Ends what is under way. The history may be gone already, or answer afterwards. */
void fencing_clear(Fencing *fencing);

/* In each turn, after lease_book_follow() and before losses are looked for. *ret_wake_us as elsewhere. 0 or -ENOMEM. */
int fencing_turn(Fencing *fencing, const World *world, LeaseBook *book, uint64_t now_us, uint64_t *ret_wake_us);

/* Tells the others what is done here, or takes what the leader tells, into shown. 1: that is news, and what was
 * borrowed of it is gone; 0; or -ENOMEM. */
int fencing_show(Fencing *fencing, ClusterFacts *facts);
/* Looks now and then which agents are missing here that some node is to be switched off by. True: it did, and *ret is
 * to be cleared by the caller. */
bool fencing_look_for_agents(Fencing *fencing, const Registry *registry, uint64_t now_us, TextList *ret);

/* What is being done to @node; NULL: nothing. On the leader only. */
const FencingCase *fencing_find(const Fencing *fencing, const NodeId *node);
const char *fencing_stage_to_text(FencingStage stage);
