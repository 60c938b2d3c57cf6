/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/conductor.h"

#include <errno.h>

#include "core/company.h"
#include "core/names.h"
#include "util/wake.h"

void conductor_clear(Conductor *conductor) {
        array_clear(&conductor->pauses);
        lineup_clear(&conductor->lineup);
        inventory_free(conductor->inventory);
        *conductor = (Conductor) {};
}

void proposal_clear(Proposal *proposal) {
        placement_clear(&proposal->placement);
        array_clear(&proposal->gpus);
        fabric_sets_clear(&proposal->fabric);
        *proposal = (Proposal) {};
}

static int compare_pause(const void *key, const void *item) {
        return ID_COMPARE((const VmId *) key, &((const ConductorPause *) item)->vm);
}

static uint64_t backoff_us(uint64_t first_us, uint32_t attempts) {
        uint64_t pause = first_us;
        for (uint32_t i = 1; i < attempts && pause < CONDUCTOR_BACKOFF_MOST_US; i++)
                pause *= 2;
        return pause < CONDUCTOR_BACKOFF_MOST_US ? pause : CONDUCTOR_BACKOFF_MOST_US;
}

static int find_or_add_pause(Conductor *conductor, const VmId *vm, ConductorPause **ret) {
        size_t place;
        if (!array_find(&conductor->pauses, vm, compare_pause, &place)) {
                int r = array_insert(&conductor->pauses, place, &((ConductorPause) { .vm = *vm }));
                if (r < 0)
                        return r;
        }
        *ret = conductor->pauses.items + place;
        return 0;
}

/* Until when @vm rests after its failures and refusals; 0 if it does not. The pause begins when its failure is first
 * seen here. */
static int resting_until(Conductor *conductor, const Vm *vm, uint64_t now_us, uint64_t *ret_until_us) {
        ConductorPause *pause;
        size_t place;
        *ret_until_us = 0;
        if (vm->attempts == 0 && !array_find(&conductor->pauses, &vm->id, compare_pause, &place))
                return 0;
        int r = find_or_add_pause(conductor, &vm->id, &pause);
        if (r < 0)
                return r;
        if (pause->attempts != vm->attempts) {
                pause->attempts = vm->attempts;
                /* Who lost its place ran since it failed: a leader that sees that failure only now lets it go on. */
                bool rests = vm->attempts > 0 && !vm_lost_its_place(vm);
                pause->until_us = rests ? now_us + backoff_us(CONDUCTOR_BACKOFF_FIRST_US, vm->attempts) : 0;
        }
        *ret_until_us = pause->until_us > pause->refused_until_us ? pause->until_us : pause->refused_until_us;
        return 0;
}

/* Forgets pauses of VMs that are gone or got what they waited for. */
static void tidy(Conductor *conductor, const Registry *registry) {
        for (size_t i = conductor->pauses.n; i > 0; i--) {
                ConductorPause *pause = conductor->pauses.items + i - 1;
                const Vm *vm = registry_find_vm(registry, &pause->vm);
                if (vm && !vm_waits(vm)) {
                        pause->refusals = 0;
                        pause->refused_until_us = 0;
                }
                if (!vm || (vm->attempts == 0 && pause->refusals == 0))
                        array_remove(&conductor->pauses, i - 1);
        }
        /* Not refused, so it was taken. */
        if (conductor->proposed_gpus)
                conductor->gpus_refusals = 0;
        if (conductor->proposed_fabric)
                conductor->fabric_refusals = 0;
        conductor->proposed_gpus = conductor->proposed_vm = conductor->proposed_loss = false;
        conductor->proposed_fabric = false;
}

static int compare_urgency(const void *a, const void *b) {
        return placement_compare_urgency(*(const Vm *const *) a, *(const Vm *const *) b);
}

static int list_waiting(const Registry *registry, const Vm ***ret, size_t *ret_n) {
        const Vm **list = calloc(registry->vms.n + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        size_t n = 0;
        ARRAY_EACH(vm, &registry->vms)
                if (vm_waits(vm))
                        list[n++] = vm;
        qsort(list, n, sizeof(*list), compare_urgency);
        *ret = list;
        *ret_n = n;
        return 0;
}

/* The inventory of the world as it is: the last one, where that can follow it. */
static int look_around(Conductor *conductor, const World *world) {
        int r = conductor->inventory ? inventory_follow(conductor->inventory, world) : 0;
        if (r > 0)
                return 0;
        conductor->inventory = inventory_free(conductor->inventory);
        if (r == 0)
                r = inventory_new(world, &conductor->inventory);
        if (r >= 0)
                r = inventory_keep(conductor->inventory);
        conductor->inventories += r >= 0;
        return r;
}

/* ---- who leaves a node that is drained, and who comes home */

/* Is there a place for @vm, and for all on its node that must be with it, on another node: on @target, or anywhere if
 * that is NULL? Where it has company, *ret_node is where all of them go. 1, 0 or -ENOMEM. */
static int would_fit(Inventory *inventory, const Vm *vm, const NodeId *target, NodeId *ret_node) {
        Company company = {};
        NodeId node = {};
        int r = company_list(inventory, inventory_find_tenant(inventory, &vm->id), &company);
        if (r < 0)
                return r;
        r = PLACEMENT_FOUND;
        ARRAY_EACH(member, &company)    /* who is at home here keeps those that must be with it */
                if (target && !ID_EQUAL(&inventory->tenants.items[*member].vm->home, target))
                        r = PLACEMENT_NO_ROOM;
        if (r == PLACEMENT_FOUND)
                r = company_place(inventory, &company, target, false, &node);
        if (r == PLACEMENT_FOUND)
                *ret_node = target || company.n > 1 ? node : (NodeId) {};
        array_clear(&company);
        return r < 0 ? r : r == PLACEMENT_FOUND;
}

static bool is_on_its_way(const Vm *vm) {
        return vm_is_to_run(vm) && vm->assignment.phase != ASSIGNMENT_RUNNING;
}

/* One after the other: while somebody that left @node, or comes home to it, does not run again, nobody else moves. Who
 * has failed or was stopped is not waited for. */
static bool somebody_moves(const Registry *registry, const NodeRecord *node) {
        ARRAY_EACH(vm, &registry->vms)
                if (is_on_its_way(vm) && (ID_EQUAL(&vm->home, &node->id) ||
                                          (vm->assignment.phase != ASSIGNMENT_NONE &&
                                           ID_EQUAL(&vm->assignment.node, &node->id))))
                        return true;
        return false;
}

/* Can it move, from @node or home to it? */
static bool may_move(const Vm *vm, const NodeRecord *node) {
        bool here = ID_EQUAL(&vm->assignment.node, &node->id);
        return vm->assignment.phase == ASSIGNMENT_RUNNING && vm->run &&
               (node->drain != DRAIN_NONE ? here : !here && ID_EQUAL(&vm->home, &node->id));
}

/* One that must be with @vm and is on its way from @node or home to it, or NULL. */
static const Vm *find_leader(const Registry *registry, const NodeRecord *node, const Vm *vm) {
        ARRAY_EACH(other, &registry->vms) {
                bool starts_here = other->assignment.phase == ASSIGNMENT_STARTING &&
                                   ID_EQUAL(&other->assignment.node, &node->id);
                if (is_on_its_way(other) && ID_EQUAL(&other->home, &node->id) && !starts_here &&
                    company_must_be_together(vm, other))
                        return other;
        }
        return NULL;
}

/* Is there room for @vm, its company, and @leader, who may have none yet? 1, 0 or -ENOMEM. */
static int would_fit_with(Inventory *inventory, const Vm *vm, const Vm *leader, const NodeId *target) {
        Company company = {};
        NodeId node;
        size_t waiting = inventory_find_tenant(inventory, &leader->id);
        int r = company_list(inventory, inventory_find_tenant(inventory, &vm->id), &company);
        if (r >= 0 && leader->assignment.phase == ASSIGNMENT_NONE)
                r = array_append(&company, &waiting);
        if (r >= 0)
                r = company_place(inventory, &company, target, false, &node);
        array_clear(&company);
        return r < 0 ? r : r == PLACEMENT_FOUND;
}

/* Who must be with one that is on its way does not wait until that runs: they are to be apart as short as can be. *ret
 * is NULL: nobody. 0 or -ENOMEM. */
static int find_follower(Inventory *inventory, const Registry *registry, const NodeRecord *node, const Vm **ret,
                         NodeId *ret_target) {
        bool leaves = node->drain != DRAIN_NONE;
        ARRAY_EACH(vm, &registry->vms) {
                const Vm *leader = may_move(vm, node) ? find_leader(registry, node, vm) : NULL;
                if (!leader)
                        continue;
                int r = would_fit_with(inventory, vm, leader, leaves ? NULL : &node->id);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                bool placed = leader->assignment.phase == ASSIGNMENT_STARTING;
                *ret_target = !leaves ? node->id : placed ? leader->assignment.node : leader->target;
                *ret = vm;
                return 0;
        }
        return 0;
}

/* The VM that moves next from or to @node, or NULL, and where to (null: anywhere). 0 or -ENOMEM. */
static int find_mover(Inventory *inventory, const World *world, const NodeRecord *node, const Vm **ret,
                      NodeId *ret_target) {
        bool leaves = node->drain != DRAIN_NONE;
        const Vm *best = NULL;
        ARRAY_EACH(vm, &world->registry->vms) {
                NodeId target;
                if (!may_move(vm, node) || (best && placement_compare_urgency(best, vm) <= 0))
                        continue;
                int r = would_fit(inventory, vm, leaves ? NULL : &node->id, &target);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                best = vm;
                *ret_target = target;
        }
        *ret = best;
        return 0;
}

static bool has_affinity(const Registry *registry) {
        ARRAY_EACH(vm, &registry->vms)
                if (vm->n_affinity > 0)
                        return true;
        return false;
}

static int propose_move(Conductor *conductor, const World *world, uint64_t now_us, Proposal *ret, uint64_t *wake_us) {
        const Registry *registry = world->registry;
        bool looked = false;
        ARRAY_EACH(node, &registry->nodes) {
                bool leaves = node->drain != DRAIN_NONE;
                const Vm *mover = NULL;
                NodeId target = {};
                int r = 0;
                if (node->lost || (!leaves && !node->bring_home))
                        continue;
                bool moves = somebody_moves(registry, node);
                if (moves && !has_affinity(registry))
                        continue;
                r = looked ? 0 : look_around(conductor, world);
                looked = true;
                if (r >= 0)
                        r = moves ? find_follower(conductor->inventory, registry, node, &mover, &target)
                                  : find_mover(conductor->inventory, world, node, &mover, &target);
                if (r < 0) {                    /* it may not be as it was */
                        conductor->inventory = inventory_free(conductor->inventory);
                        return r;
                }
                uint64_t until_us = 0;
                if (mover)
                        r = resting_until(conductor, mover, now_us, &until_us);
                if (r < 0)
                        return r;
                if (until_us > now_us)
                        wake_by(wake_us, until_us);
                else if (mover) {
                        *ret = (Proposal) { .kind = PROPOSAL_MOVE, .vm = mover, .home = leaves,
                                            .target = target,
                                            .timeout_ms = node->drain_timeout_ms };
                        return CONDUCTOR_PROPOSES;
                }
        }
        return CONDUCTOR_IDLE;
}

/* ---- places */

/* Those that wait, and which of them rest. */
static int list_waiters(Conductor *conductor, const Registry *registry, uint64_t now_us, Waiter *waiters,
                        size_t *ret_n, uint64_t *wake_us) {
        _cleanup_free_ const Vm **waiting = NULL;
        size_t n = 0;
        int r = list_waiting(registry, &waiting, &n);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                uint64_t until_us = 0;
                r = resting_until(conductor, waiting[i], now_us, &until_us);
                waiters[i] = (Waiter) { .vm = waiting[i], .rests = until_us > now_us };
                if (until_us > now_us)
                        wake_by(wake_us, until_us);
        }
        *ret_n = n;
        return r;
}

static bool somebody_can_go(const Waiter *waiters, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!waiters[i].rests)
                        return true;
        return false;
}

static int propose_assignment(Conductor *conductor, const World *world, uint64_t now_us, Proposal *ret,
                              uint64_t *wake_us) {
        _cleanup_free_ Waiter *waiters = calloc(world->registry->vms.n + 1, sizeof(*waiters));
        LineupStep step = {};
        size_t n = 0;
        int r = waiters ? list_waiters(conductor, world->registry, now_us, waiters, &n, wake_us) : -ENOMEM;
        if (r < 0 || !somebody_can_go(waiters, n))
                return r < 0 ? r : CONDUCTOR_IDLE;
        r = look_around(conductor, world);
        if (r >= 0)
                r = lineup_next(&conductor->lineup, conductor->inventory, waiters, n, &step);
        if (r < 0)                      /* it may not be as it was */
                conductor->inventory = inventory_free(conductor->inventory);
        if (r < 0 || r == LINEUP_NOTHING)
                return r < 0 ? r : CONDUCTOR_IDLE;
        if (r == LINEUP_PREEMPTS) {
                *ret = (Proposal) { .kind = PROPOSAL_PREEMPT, .vm = step.victim, .preemptor = step.vm };
                return CONDUCTOR_PROPOSES;
        }
        const NodeRecord *node = registry_find_node(world->registry, &step.placement.node);
        *ret = (Proposal) { .kind = PROPOSAL_ASSIGN, .vm = step.vm, .placement = step.placement,
                            .incarnation = node ? node->incarnation : 0 };
        return CONDUCTOR_PROPOSES;
}

/* GPUs in no pool that a rule of a pool matches; the first pool by name has them. */
static int propose_pool_gpus(const World *world, Proposal *ret) {
        const Registry *registry = world->registry;
        bool rules = false;
        ARRAY_EACH(pool, &registry->pools)
                rules = rules || pool->rules.n > 0;
        if (!rules)
                return CONDUCTOR_IDLE;

        _cleanup_(gpu_views_clear) GpuViews views = {};
        int r = world_list_gpus(world, &views);
        if (r < 0)
                return r;
        ARRAY_EACH(pool, &registry->pools) {
                Proposal proposal = { .kind = PROPOSAL_POOL_GPUS, .pool = pool };
                for (size_t i = 0; pool->rules.n > 0 && i < views.n && proposal.gpus.n < GPUS_PER_CALL_MAX; i++) {
                        const GpuView *view = views.items + i;
                        const NodeRecord *node = registry_find_node(registry, &view->identity.node);
                        if (view->pool || !gpu_view_card_is_known(view) || !node ||
                            !pool_rules_match(&pool->rules, &view->identity, node->name))
                                continue;
                        r = array_append(&proposal.gpus, &view->identity);
                        if (r < 0) {
                                proposal_clear(&proposal);
                                return r;
                        }
                }
                if (proposal.gpus.n > 0) {
                        *ret = proposal;
                        return CONDUCTOR_PROPOSES;
                }
        }
        return CONDUCTOR_IDLE;
}

/* What a node tells of linked GPUs and the registry does not know. The search goes on behind the node of the last such
 * proposal: one whose word is refused each time is in no other's way. */
static int propose_fabric(const Conductor *conductor, const World *world, Proposal *ret) {
        const Registry *registry = world->registry;
        size_t first = 0;
        if (registry->level < LEVEL_DEVICES)
                return CONDUCTOR_IDLE;
        for (size_t i = 0; i < world->n_nodes; i++)
                if (ID_EQUAL(&world->nodes[i]->node, &conductor->fabric_node))
                        first = i + 1;
        for (size_t i = 0; i < world->n_nodes; i++) {
                const NodeFacts *facts = world->nodes[(first + i) % world->n_nodes];
                const NodeRecord *node = registry_find_node(registry, &facts->node);
                _cleanup_(fabric_sets_clear) FabricSets told = {};
                bool news = false;
                int r = node ? fabric_of_facts(facts, &told) : 0;
                if (r < 0)
                        return r;
                ARRAY_EACH(set, &told)
                        news = news || !fabric_has(&node->fabric, &set->slots);
                if (!news)
                        continue;
                *ret = (Proposal) { .kind = PROPOSAL_FABRIC, .node = node->id, .fabric = told };
                told = (FabricSets) {};
                return CONDUCTOR_PROPOSES;
        }
        return CONDUCTOR_IDLE;
}

/* ---- losses */

/* What is about time, and does not wait for anything else. */
static int propose_by_time(Conductor *conductor, const World *world, LeaseBook *book, uint64_t now_us, Proposal *ret,
                           uint64_t *wake_us) {
        uint64_t due_us = conductor->loss_not_before_us;
        Loss loss;
        if (!book)
                return CONDUCTOR_IDLE;
        if (now_us >= due_us && lease_book_next_loss(book, world->registry, now_us, &loss, &due_us)) {
                lease_book_condemn(book, &loss.node);
                *ret = (Proposal) { .kind = PROPOSAL_LOSE_NODE, .loss = loss };
                return CONDUCTOR_PROPOSES;
        }
        wake_by(wake_us, due_us);
        if (now_us < conductor->idle_until_us)
                return CONDUCTOR_IDLE;
        if (lease_book_thaws(book, world->registry, now_us, &due_us)) {
                *ret = (Proposal) { .kind = PROPOSAL_THAW };
                return CONDUCTOR_PROPOSES;
        }
        wake_by(wake_us, due_us);
        return CONDUCTOR_IDLE;
}

static void remember(Conductor *conductor, const Proposal *proposal) {
        switch (proposal->kind) {
        case PROPOSAL_LOSE_NODE:
                conductor->proposed_loss = true;
                conductor->node = proposal->loss.node;
                break;
        case PROPOSAL_THAW:
                break;
        case PROPOSAL_ASSIGN:
        case PROPOSAL_MOVE:
                conductor->proposed_vm = true;
                conductor->vm = proposal->vm->id;
                break;
        case PROPOSAL_PREEMPT:          /* refused, it is the other that rests: that one asked for it */
                conductor->proposed_vm = true;
                conductor->vm = proposal->preemptor->id;
                break;
        case PROPOSAL_POOL_GPUS:
                conductor->proposed_gpus = true;
                break;
        case PROPOSAL_FABRIC:
                conductor->proposed_fabric = true;
                conductor->fabric_node = proposal->node;
                break;
        }
}

static int propose(Conductor *conductor, const World *world, LeaseBook *book, uint64_t now_us, Proposal *ret,
                   uint64_t *wake_us) {
        int r = propose_by_time(conductor, world, book, now_us, ret, wake_us);
        if (r != CONDUCTOR_IDLE)
                return r;
        if (now_us < conductor->idle_until_us) {
                wake_by(wake_us, conductor->idle_until_us);
                return CONDUCTOR_IDLE;
        }
        if (now_us >= conductor->fabric_refused_until_us)
                r = propose_fabric(conductor, world, ret);
        else
                wake_by(wake_us, conductor->fabric_refused_until_us);
        if (now_us < conductor->gpus_refused_until_us)
                wake_by(wake_us, conductor->gpus_refused_until_us);
        else if (r == CONDUCTOR_IDLE)
                r = propose_pool_gpus(world, ret);
        if (r == CONDUCTOR_IDLE)
                r = propose_assignment(conductor, world, now_us, ret, wake_us);
        return r == CONDUCTOR_IDLE ? propose_move(conductor, world, now_us, ret, wake_us) : r;
}

int conductor_next(Conductor *conductor, const World *world, LeaseBook *book, uint64_t now_us, Proposal *ret_proposal,
                   uint64_t *ret_wake_us) {
        uint64_t wake_us = UINT64_MAX;
        if (now_us >= conductor->idle_until_us)
                tidy(conductor, world->registry);
        int r = propose(conductor, world, book, now_us, ret_proposal, &wake_us);
        if (r == CONDUCTOR_IDLE)
                *ret_wake_us = wake_us;
        else if (r == CONDUCTOR_PROPOSES)
                remember(conductor, ret_proposal);
        return r;
}

static void follow_loss(LeaseBook *book, const NodeId *node, Refusal refusal) {
        switch (refusal) {
        case REFUSAL_UNKNOWN:
                lease_book_doubt(book, node);
                break;
        case REFUSAL_NOT_WRITTEN:
                lease_book_spare(book, node);
                break;
        case REFUSAL_BY_REGISTRY:
                lease_book_settle(book, node);
                break;
        }
}

void conductor_refused(Conductor *conductor, LeaseBook *book, Refusal refusal, uint64_t now_us) {
        ConductorPause *pause;
        conductor->idle_until_us = now_us + CONDUCTOR_REFUSED_US;
        if (conductor->proposed_loss && book) {
                conductor->loss_not_before_us = now_us + CONDUCTOR_REFUSED_US;
                follow_loss(book, &conductor->node, refusal);
        }
        if (conductor->proposed_gpus)
                conductor->gpus_refused_until_us =
                        now_us + backoff_us(CONDUCTOR_REFUSED_US, ++conductor->gpus_refusals);
        else if (conductor->proposed_fabric)
                conductor->fabric_refused_until_us =
                        now_us + backoff_us(CONDUCTOR_REFUSED_US, ++conductor->fabric_refusals);
        else if (conductor->proposed_vm && find_or_add_pause(conductor, &conductor->vm, &pause) >= 0)
                pause->refused_until_us = now_us + backoff_us(CONDUCTOR_REFUSED_US, ++pause->refusals);
        conductor->proposed_fabric = false;
        conductor->proposed_gpus = conductor->proposed_vm = conductor->proposed_loss = false;
}
