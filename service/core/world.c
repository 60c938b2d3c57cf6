/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int compare_node_facts(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &(*(const NodeFacts *const *) item)->node);
}

const NodeFacts *world_find_facts(const World *world, const NodeId *node) {
        size_t index;
        if (!array_search(world->nodes, world->n_nodes, sizeof(*world->nodes), node, compare_node_facts, &index))
                return NULL;
        return world->nodes[index];
}

static int compare_life(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const NodeLife *) item)->node);
}

const NodeLife *world_find_life(const World *world, const NodeId *node) {
        size_t index;
        if (!array_search(world->lives, world->n_lives, sizeof(*world->lives), node, compare_life, &index))
                return NULL;
        return world->lives + index;
}

static int compare_fenced(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const FencedNode *) item)->node);
}

const FencedNode *world_find_fenced(const World *world, const NodeId *node) {
        size_t index;
        if (!array_search(world->fenced, world->n_fenced, sizeof(*world->fenced), node, compare_fenced, &index))
                return NULL;
        return world->fenced + index;
}

static bool has_assignments(const World *world, const NodeId *node) {
        ARRAY_EACH(vm, &world->registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node))
                        return true;
        return false;
}

NodeState world_node_state(const World *world, const NodeId *node) {
        const NodeLife *life = world_find_life(world, node);
        const NodeRecord *record = registry_find_node(world->registry, node);
        if (world->removed && ID_EQUAL(node, &world->local))
                return NODE_STATE_REMOVED;
        if (record && record->lost)
                return NODE_STATE_LOST;
        if (life && life->silent)
                return NODE_STATE_SILENT;
        if (!record || !world_find_facts(world, node))
                return NODE_STATE_JOINING;
        if (record->drain != DRAIN_NONE)
                return has_assignments(world, node) ? NODE_STATE_DRAINING : NODE_STATE_DRAINED;
        return NODE_STATE_ONLINE;
}

const char *node_state_to_text(NodeState state) {
        switch (state) {
        case NODE_STATE_JOINING:
                return "joining";
        case NODE_STATE_ONLINE:
                return "online";
        case NODE_STATE_DRAINING:
                return "draining";
        case NODE_STATE_DRAINED:
                return "drained";
        case NODE_STATE_SILENT:
                return "silent";
        case NODE_STATE_LOST:
                return "lost";
        case NODE_STATE_REMOVED:
                return "removed";
        }
        return "";
}

const char *world_node_role_text(const World *world, const NodeId *node) {
        const NodeLife *life = world_find_life(world, node);
        const NodeRecord *record = registry_find_node(world->registry, node);
        switch (life ? life->role : NODE_READER) {
        case NODE_READER:
                return "reader";
        case NODE_STANDBY:
                return "standby";
        case NODE_VOTER:
                return record && record->witness ? "witness" : "voter";
        }
        return "";
}

const char *world_node_name_in(const World *world, const NodeId *node, char room_for_hex[static ID_TEXT_SIZE]) {
        const NodeRecord *record = registry_find_node(world->registry, node);
        if (record && record->name)
                return record->name;
        id_to_text(node->bytes, room_for_hex);
        return room_for_hex;
}

const GpuFacts *world_find_gpu(const World *world, const GpuIdentity *identity) {
        const NodeFacts *host = world_find_facts(world, &identity->node);
        return host ? node_facts_find_gpu(host, identity) : NULL;
}

const GpuFacts *world_find_certain_gpu(const World *world, const GpuIdentity *identity) {
        const GpuFacts *facts = world_find_gpu(world, identity);
        return facts && (!identity->serial[0] || facts->identity.serial[0]) ? facts : NULL;
}

/* Someone speaks of a GPU: exactly one of pool, vm, quarantine and facts is set. */
typedef struct Mention {
        const GpuIdentity *identity;
        const Pool *pool;
        const Vm *vm;
        const Quarantine *quarantine;
        const GpuFacts *facts;
        const NodeFacts *host;
} Mention;

typedef ARRAY(Mention) Mentions;

/* A device of an IOMMU group belongs to a VM. */
typedef struct GroupUse {
        NodeId node;
        int32_t iommu_group;
        const Vm *vm;
} GroupUse;

typedef ARRAY(GroupUse) GroupUses;

static int collect_mentions(const World *world, Mentions *ret) {
        int r = 0;
        ARRAY_EACH(pool, &world->registry->pools)
                for (size_t i = 0; r >= 0 && i < pool->gpus.n; i++)
                        r = array_append(ret, &((Mention) { .identity = pool->gpus.items + i, .pool = pool }));
        ARRAY_EACH(vm, &world->registry->vms)
                for (size_t i = 0; r >= 0 && i < vm->assignment.n_gpus; i++)
                        r = array_append(ret, &((Mention) { .identity = &vm->assignment.gpus[i].gpu, .vm = vm }));
        ARRAY_EACH(quarantine, &world->registry->quarantines)
                if (r >= 0)
                        r = array_append(ret, &((Mention) { .identity = &quarantine->gpu, .quarantine = quarantine }));
        for (size_t n = 0; n < world->n_nodes; n++) {
                const NodeFacts *host = world->nodes[n];
                for (size_t i = 0; r >= 0 && i < host->n_gpus; i++) {
                        const GpuFacts *facts = host->gpus + i;
                        Mention mention = { .identity = &facts->identity, .facts = facts, .host = host };
                        r = array_append(ret, &mention);
                }
        }
        return r;
}

static int collect_group_uses(const World *world, GroupUses *ret) {
        int r = 0;
        ARRAY_EACH(vm, &world->registry->vms)
                for (size_t i = 0; r >= 0 && i < vm->assignment.n_gpus; i++) {
                        GroupUse use = {
                                .node = vm->assignment.node,
                                .iommu_group = vm->assignment.gpus[i].iommu_group,
                                .vm = vm,
                        };
                        if (use.iommu_group >= 0)
                                r = array_append(ret, &use);
                }
        return r;
}

static int compare_mentions(const void *a, const void *b) {
        return gpu_identity_compare(((const Mention *) a)->identity, ((const Mention *) b)->identity);
}

static int compare_group_uses(const void *a, const void *b) {
        const GroupUse *x = a, *y = b;
        int c = ID_COMPARE(&x->node, &y->node);
        return c != 0 ? c : (x->iommu_group > y->iommu_group) - (x->iommu_group < y->iommu_group);
}

static const Vm *find_group_vm(const GroupUses *uses, const GpuView *view) {
        GroupUse key = { .node = view->identity.node, .iommu_group = view->facts->iommu_group };
        size_t index;
        return array_find(uses, &key, compare_group_uses, &index) ? uses->items[index].vm : NULL;
}

/* All but the serial, which one side may not have been able to read. */
static bool same_place_and_kind(const GpuIdentity *a, const GpuIdentity *b) {
        return ID_EQUAL(&a->node, &b->node) && text_equal(a->slot, b->slot) && a->vendor == b->vendor &&
               a->device == b->device && a->subsystem_vendor == b->subsystem_vendor &&
               a->subsystem_device == b->subsystem_device;
}

/* The view of the GPU that @mention speaks of, among those from @first on; a new one where there is none yet. */
static int find_or_add_view(GpuViews *views, size_t first, const Mention *mention, GpuView **ret) {
        for (size_t i = first; i < views->n; i++) {
                GpuView *view = views->items + i;
                bool two_cards = view->facts && mention->facts;
                if (!two_cards && gpu_identity_matches(&view->identity, mention->identity)) {
                        *ret = view;
                        return 0;
                }
        }
        int r = array_append(views, &((GpuView) { .identity = *mention->identity }));
        if (r < 0)
                return r;
        *ret = views->items + views->n - 1;
        return 0;
}

static void add_mention(GpuView *view, const Mention *mention) {
        /* What the registry holds a GPU for counts, first of all the pool: assignments are checked against it. */
        if (mention->pool || (mention->vm && !view->pool) || (mention->quarantine && !view->pool && !view->vm))
                view->identity = *mention->identity;
        if (mention->pool)
                view->pool = mention->pool;
        if (mention->vm)
                view->vm = mention->vm;
        if (mention->quarantine)
                view->quarantine = mention->quarantine;
        if (mention->facts) {
                view->facts = mention->facts;
                view->host = mention->host;
        }
}

static GpuState judge_state(const GpuView *view) {
        if (!view->facts)
                return GPU_ABSENT;
        if (view->quarantine)
                return GPU_QUARANTINED;
        return view->vm ? GPU_ASSIGNED : GPU_PRESENT;
}

/* With whom its facts say that it goes; names the ones that are there. */
static int add_told_siblings(const GpuView *view, TextList *slots) {
        for (size_t i = 0; i < view->facts->siblings.n; i++) {
                PciAddress address;
                const GpuFacts *sibling = pci_address_from_text(view->facts->siblings.items[i], &address) < 0
                                                  ? NULL : node_facts_find_address(view->host, address);
                int r = sibling && !text_list_has(slots, sibling->identity.slot)
                                ? text_list_add(slots, sibling->identity.slot) : 0;
                if (r >= 0 && slots->n > 0 && !text_list_has(slots, view->identity.slot))
                        r = text_list_add(slots, view->identity.slot);
                if (r < 0)
                        return r;
        }
        return 0;
}

int world_list_set(const World *world, const GpuView *view, TextList *ret) {
        const NodeRecord *node = registry_find_node(world->registry, &view->identity.node);
        TextList slots = {};
        bool by_rule = false;
        int r = !node ? 0 : fabric_list_set(&node->fabric, view->pool, &view->identity, node->name, &slots, &by_rule);
        if (r >= 0 && !by_rule && view->facts && view->host)
                r = add_told_siblings(view, &slots);
        if (r < 0)
                text_list_clear(&slots);
        else
                *ret = slots;
        return r;
}

/* Looks first behind where the last one was found: slots and addresses are mostly in the same order. */
static const GpuFacts *find_slot(const NodeFacts *host, const char *slot, size_t *at) {
        for (size_t i = 0; host && i < host->n_gpus; i++) {
                *at = (*at + 1) % host->n_gpus;
                if (text_equal(host->gpus[*at].identity.slot, slot))
                        return host->gpus + *at;
        }
        return NULL;
}

static const GpuIdentity *find_pooled_slot(const World *world, const NodeId *node, const char *slot) {
        ARRAY_EACH(pool, &world->registry->pools)
                ARRAY_EACH(gpu, &pool->gpus)
                        if (ID_EQUAL(&gpu->node, node) && text_equal(gpu->slot, slot))
                                return gpu;
        return NULL;
}

int world_list_siblings(const World *world, const GpuView *view, PciAddresses *ret) {
        _cleanup_(text_list_clear) TextList slots = {};
        PciAddresses found = {};
        size_t at = 0;
        int r = world_list_set(world, view, &slots);
        for (size_t i = 0; r >= 0 && i < slots.n; i++) {
                const GpuFacts *facts = find_slot(view->host, slots.items[i], &at);
                const GpuIdentity *gpu = facts ? NULL
                                               : find_pooled_slot(world, &view->identity.node, slots.items[i]);
                if ((facts || gpu) && !text_equal(slots.items[i], view->identity.slot))
                        r = array_append(&found, facts ? &facts->address : &gpu->address);
        }
        if (r < 0)
                array_clear(&found);
        else
                *ret = found;
        return r;
}

static int complete_set(const World *world, GpuView *view) {
        _cleanup_(text_list_clear) TextList slots = {};
        size_t at = 0;
        int r = world_list_set(world, view, &slots);
        if (r < 0)
                return r;
        view->set_size = (uint32_t) slots.n;
        for (size_t i = 0; i < slots.n; i++)
                if (!find_slot(view->host, slots.items[i], &at)) {
                        (void) snprintf(view->set_missing, sizeof(view->set_missing), "%s", slots.items[i]);
                        break;
                }
        return 0;
}

/* Everything that follows from who mentions the GPU. */
static int complete_view(const World *world, GpuView *view) {
        if (!view->host)
                view->host = world_find_facts(world, &view->identity.node);
        view->state = judge_state(view);
        if (view->vm)
                view->group_vm = view->vm;
        if (!view->facts)
                return 0;

        view->identity.address = view->facts->address;
        Blockers blockers = {};
        int r = complete_set(world, view);
        if (r >= 0)
                r = gpu_view_survey(view, &blockers);
        view->assignable = r >= 0 && blockers.n == 0;
        blockers_clear(&blockers);
        return r;
}

int world_refresh_view(const World *world, GpuView *view) {
        view->group_vm = NULL;
        view->assignable = false;
        view->set_missing[0] = '\0';
        return complete_view(world, view);
}

static int compare_views(const void *a, const void *b) {
        const GpuView *x = a, *y = b;
        int c = ID_COMPARE(&x->identity.node, &y->identity.node);
        if (c == 0)
                c = pci_address_compare(x->identity.address, y->identity.address);
        if (c == 0)
                c = (x->state == GPU_ABSENT) - (y->state == GPU_ABSENT);
        return c != 0 ? c : gpu_identity_compare(&x->identity, &y->identity);
}

static int list_views(const World *world, const Mentions *mentions, const GroupUses *uses, GpuViews *views) {
        size_t first = 0;
        for (size_t i = 0; i < mentions->n; i++) {
                const Mention *mention = mentions->items + i;
                GpuView *view;
                if (i > 0 && !same_place_and_kind(mention[-1].identity, mention->identity))
                        first = views->n;
                int r = find_or_add_view(views, first, mention, &view);
                if (r < 0)
                        return r;
                add_mention(view, mention);
        }

        ARRAY_EACH(view, views) {
                int r = complete_view(world, view);
                if (r < 0)
                        return r;
                if (!view->group_vm && view->facts && view->facts->iommu_group >= 0)
                        view->group_vm = find_group_vm(uses, view);
        }
        return 0;
}

/* qsort() may not be given NULL. */
#define SORT(array, compare)                                                                            \
        do {                                                                                            \
                if ((array)->n > 1)                                                                     \
                        qsort((array)->items, (array)->n, sizeof(*(array)->items), (compare));          \
        } while (0)

int world_list_gpus(const World *world, GpuViews *ret) {
        Mentions mentions = {};
        GroupUses uses = {};
        GpuViews views = {};
        int r = collect_mentions(world, &mentions);
        if (r >= 0)
                r = collect_group_uses(world, &uses);
        if (r >= 0) {
                SORT(&mentions, compare_mentions);
                SORT(&uses, compare_group_uses);
                r = list_views(world, &mentions, &uses, &views);
        }
        array_clear(&mentions);
        array_clear(&uses);
        if (r < 0) {
                gpu_views_clear(&views);
                return r;
        }
        SORT(&views, compare_views);
        *ret = views;
        return 0;
}

void gpu_views_clear(GpuViews *views) {
        array_clear(views);
}

void world_view_gpu(const World *world, const GpuIdentity *identity, GpuView *ret) {
        const Registry *registry = world->registry;
        *ret = (GpuView) {
                .identity = *identity,
                .facts = world_find_gpu(world, identity),
                .host = world_find_facts(world, &identity->node),
                .pool = registry_find_pool_of_gpu(registry, identity),
                .vm = registry_find_vm_of_gpu(registry, identity),
                .quarantine = registry_find_quarantine(registry, identity),
        };
        /* Out of memory it is not assignable, which is the safe side. */
        (void) complete_view(world, ret);
        if (!ret->group_vm && ret->facts)
                ret->group_vm = registry_find_vm_of_group(registry, &identity->node, ret->facts->iommu_group);
}

const char *gpu_state_to_text(GpuState state) {
        switch (state) {
        case GPU_PRESENT:
                return "present";
        case GPU_ASSIGNED:
                return "assigned";
        case GPU_QUARANTINED:
                return "quarantined";
        case GPU_ABSENT:
                return "absent";
        }
        return "";
}

/* The VM's own process holds the GPU, and the guest may let it sleep: neither is in anybody's way. */
static bool comes_from_our_vm(BlockerCode code) {
        return code == BLOCKER_IN_USE || code == BLOCKER_ASLEEP;
}

/* What the registry knows of its set, and the survey of one host does not. */
static int add_broken_set(const GpuView *view, size_t before, Blockers *ret) {
        for (size_t i = before; i < ret->n; i++)
                if (ret->items[i].code == BLOCKER_FABRIC)
                        return 0;
        Blocker blocker = { .code = BLOCKER_FABRIC };
        int r = text_printf(&blocker.sentence, "it belongs to a set of %" PRIu32 " linked GPUs of which the one in "
                            "slot %s is missing", view->set_size, view->set_missing);
        if (r >= 0)
                r = text_printf(&blocker.remedy, "%s; or, if they may part, give the pool a rule that says so",
                                blocker_code_remedy(BLOCKER_FABRIC));
        if (r >= 0)
                r = array_append(ret, &blocker);
        if (r < 0) {
                free(blocker.sentence);
                free(blocker.remedy);
        }
        return r;
}

bool gpu_view_card_is_known(const GpuView *view) {
        return view->facts && (view->facts->holders_known || view->facts->identity.serial[0]);
}

/* The registry means a card with a serial, and what is in the slot shows none. It may be that card, so it is not taken
 * for gone; but it may be another, so it is given to nobody. */
static int add_unknown_card(const GpuView *view, size_t before, Blockers *ret) {
        if (!view->identity.serial[0] || view->facts->identity.serial[0])
                return 0;
        for (size_t i = before; i < ret->n; i++)
                if (ret->items[i].code == BLOCKER_UNREADABLE)
                        return 0;       /* told already, and most often for the same reason */
        Blocker blocker = { .code = BLOCKER_UNREADABLE };
        int r = text_printf(&blocker.sentence, "whether it is still the card with serial %s is not known: %s",
                            view->identity.serial, view->facts->holders_known ? "it shows no serial now"
                                                                              : "gpupool-probe does not answer");
        if (r >= 0)
                r = text_set(&blocker.remedy, "systemctl start gpupool-probe.socket (what it says is in journalctl -u "
                             "'gpupool-probe@*'); if the card was replaced, take the old one out of its pool");
        if (r >= 0)
                r = array_append(ret, &blocker);
        if (r < 0) {
                free(blocker.sentence);
                free(blocker.remedy);
        }
        return r;
}

int gpu_view_survey(const GpuView *view, Blockers *ret) {
        if (!view->facts)
                return 0;

        size_t before = ret->n;
        int r = survey_gpu(view->host, view->facts, ret);
        if (r >= 0 && *view->set_missing)
                r = add_broken_set(view, before, ret);
        if (r < 0)
                return r;
        if (!view->vm)
                return add_unknown_card(view, before, ret);
        for (size_t i = ret->n; i > before; i--)
                if (comes_from_our_vm(ret->items[i - 1].code)) {
                        free(ret->items[i - 1].sentence);
                        free(ret->items[i - 1].remedy);
                        array_remove(ret, i - 1);
                }
        return 0;
}

bool gpu_view_is_usable(const GpuView *view) {
        return view->assignable && !view->quarantine;
}

bool gpu_view_is_free(const GpuView *view) {
        return gpu_view_is_usable(view) && !view->group_vm;
}
