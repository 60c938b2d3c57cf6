/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* StoreWorld: up to seven engines in one process and one loop, each with a file of its own, wired by links in memory
 * that can be cut. The state machine is the row of commands it was given, one a line; its snapshot is that text. Time
 * does not pass while the process stands still (loop-clock.h), so who leads goes on to lead on a busy machine. */

#include <glib.h>

#include "adapters/store/raft-engine.h"

#define WORLD_NODES_MAX 7
#define WORLD_DEADLINE_MS 60000U

typedef struct World World;

typedef struct Node {
        World *world;
        uint64_t id;
        char *address;
        char *path;
        RaftEngine *engine;             /* NULL: down */
        GString *state;
        unsigned applied;               /* commands, since it came up */
        unsigned restored;              /* snapshots, since it came up */
        unsigned sent;                  /* messages, ever */
        int store_error;
        char *fault;
        bool deaf;                      /* hears nobody, and nobody hears it */
        struct Node *follows;           /* asks this one for what is committed, now and then and after each answer */
        unsigned asked, reminded;       /* times; and of those, because some time had passed */
        int told;                       /* the last verdict that asking had */
} Node;

struct World {
        sd_event *event;
        char *directory;
        size_t n;
        size_t n_first;                 /* the first so many are the first members: all, unless set otherwise */
        Node nodes[WORLD_NODES_MAX];
        RaftMember members[WORLD_NODES_MAX];
        GQueue links;                   /* messages on their way */
        sd_event_source *deliver;
        sd_event_source *follow;
        unsigned seed;
        unsigned trailing;
        unsigned election_ms, heartbeat_ms;     /* 0: as is good for tests */
        bool fault_is_fine;
        int apply_error;                /* what applying says */
        void (*on_send)(World *world, Node *node, const RaftMessage *message);
        void (*on_changed)(World *world, Node *node);
};

/* Nothing runs yet. Files lie in @directory, or (NULL) in a new one. */
World *world_new(size_t n, const char *directory);
void world_free(World *world);          /* and the directory with all in it */
void world_leave(World *world);         /* but not the directory */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* What node_up() opens with. */
RaftEngineConfig node_config(Node *node);

/* Opens and starts; the first time its file is born with the first members as voters. */
void node_up(Node *node);
void node_down(Node *node);             /* an orderly end */
void world_up(World *world);

/* One without members in its file: it waits for a leader or follows another. */
void node_up_as_joining(Node *node);
void node_follow(Node *node, Node *other);      /* NULL: nobody */

/* Runs the loop until @holds, failing at the deadline with @what. */
void world_until(World *world, bool (*holds)(World *world, void *userdata), void *userdata, const char *what);
/* Runs the loop for so long. Only to show that something does NOT happen. */
void world_for(World *world, unsigned ms);

Node *world_leader(World *world);       /* one that leads and is ready, or NULL */
Node *world_wait_leader(World *world);  /* of the nodes that are up and hear */
RaftStatus node_status(const Node *node);

/* What became of a request. */
typedef struct Answer {
        bool here;
        RaftOutcome outcome;
        uint64_t index;
        uint64_t term;
} Answer;

void answer_take(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term);
void world_wait_answer(World *world, Answer *answer);

/* Submits and waits: must be taken and done. */
void node_write(Node *node, const char *command);
/* On whoever leads, again where that changes meanwhile, as it may where this machine stands still. The leader. */
Node *world_write(World *world, const char *command);
/* Submits; must be taken. */
void node_submit(Node *node, const char *command, Answer *answer);
/* Waits until @node has as much as @like. */
void node_wait_state(Node *node, const char *state);

void file_copy(const char *from, const char *to);
/* Everything in a directory: names, modes, bytes, change times. Two of them are equal if nothing was touched. */
char *directory_fingerprint(const char *directory);
void directory_remove(const char *directory);
