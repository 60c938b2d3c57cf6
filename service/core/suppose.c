/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/suppose.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct Supposition {
        Registry registry;              /* borrows all but the rows of nodes, pools and VMs, and what is in owned */
        World world;
        const NodeFacts **facts;        /* the row; what is in it is borrowed or in owned */
        size_t n_facts;
        ARRAY(void *) owned;
};

Supposition *suppose_free(Supposition *supposition) {
        if (!supposition)
                return NULL;
        array_clear(&supposition->registry.nodes);
        array_clear(&supposition->registry.pools);
        array_clear(&supposition->registry.vms);
        free(supposition->facts);
        ARRAY_EACH(item, &supposition->owned)
                free(*item);
        array_clear(&supposition->owned);
        free(supposition);
        return NULL;
}

const World *suppose_world(const Supposition *supposition) {
        return &supposition->world;
}

Vm *suppose_vm(Supposition *supposition, size_t index) {
        return supposition->registry.vms.items + index;
}

/* The supposition frees it one day; at once if it cannot. NULL: out of memory. */
static void *own(Supposition *supposition, void *item) {
        if (item && array_append(&supposition->owned, &item) < 0) {
                free(item);
                return NULL;
        }
        return item;
}

static char *own_text(Supposition *supposition, const char *text) {
        char *copy = NULL;
        return text_set(&copy, text) < 0 ? NULL : own(supposition, copy);
}

#define COPY_ROW(from, to)                                                                              \
        ({                                                                                              \
                int _r = array_reserve(&(to)->items, &(to)->allocated, (from)->n + 1, sizeof(*(to)->items)); \
                if (_r >= 0 && (from)->n > 0)                                                           \
                        memcpy((to)->items, (from)->items, (from)->n * sizeof(*(to)->items));           \
                (to)->n = _r >= 0 ? (from)->n : 0;                                                      \
                _r;                                                                                     \
        })
#define EMPTY_ROW(row) memset((row), 0, sizeof(*(row)))

/* The same world, with rows of its own. */
static int copy_world(Supposition *supposition, const World *world, size_t n_new_nodes) {
        const Registry *from = world->registry;
        Registry *registry = &supposition->registry;
        *registry = *from;
        EMPTY_ROW(&registry->nodes);
        EMPTY_ROW(&registry->pools);
        EMPTY_ROW(&registry->vms);
        int r = COPY_ROW(&from->nodes, &registry->nodes);
        if (r >= 0)
                r = COPY_ROW(&from->pools, &registry->pools);
        if (r >= 0)
                r = COPY_ROW(&from->vms, &registry->vms);
        supposition->facts = calloc(world->n_nodes + n_new_nodes + 1, sizeof(*supposition->facts));
        if (r < 0 || !supposition->facts)
                return -ENOMEM;

        for (; supposition->n_facts < world->n_nodes; supposition->n_facts++)
                supposition->facts[supposition->n_facts] = world->nodes[supposition->n_facts];
        supposition->world = *world;
        supposition->world.registry = registry;
        supposition->world.nodes = supposition->facts;
        return 0;
}

/* ---- what cannot be supposed */

#define REFUSE(result, why, ...)                                                \
        ({                                                                      \
                (result)->verdict = (why);                                      \
                text_printf(&(result)->sentence, __VA_ARGS__) < 0 ? -ENOMEM : 0; \
        })

static bool is_new_node(const Supposal *supposal, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (text_equal(supposal->new_nodes[i], name))
                        return true;
        return false;
}

static size_t count_new_nodes(const Supposal *supposal) {
        size_t n = supposal->n_new_nodes;
        for (size_t i = 0; i < supposal->n_add; i++)
                n += text_is_empty(supposal->add[i].node);
        return n;
}

/* Each: 1: good; 0: refused; or -ENOMEM. */
static int check_nodes(const Registry *registry, const Supposal *supposal, Result *result) {
        for (size_t i = 0; i < supposal->n_lose + supposal->n_drain; i++) {
                const NodeId *node = i < supposal->n_lose ? supposal->lose + i : supposal->drain + i - supposal->n_lose;
                if (!registry_find_node(registry, node))
                        return REFUSE(result, VERDICT_NOT_FOUND, "there is no such node (any more). See which there "
                                                                 "are: gpupoolctl node list");
        }
        size_t n_new = count_new_nodes(supposal);
        if (n_new > SUPPOSED_NODES_MAX || registry->nodes.n + n_new > NODES_MAX)
                return REFUSE(result, VERDICT_LIMITS_EXCEEDED, "%zu more nodes are too many to suppose: at most %u, "
                              "and at most %u in all", n_new, SUPPOSED_NODES_MAX, NODES_MAX);
        for (size_t i = 0; i < supposal->n_new_nodes; i++) {
                const char *name = supposal->new_nodes[i];
                if (text_is_empty(name) || strlen(name) > NAME_LENGTH_MAX || !text_is_printable(name))
                        return REFUSE(result, VERDICT_INVALID_ARGUMENT, "a new node needs a name of 1 to %u characters",
                                      NAME_LENGTH_MAX);
                if (registry_find_node_name(registry, name) || is_new_node(supposal, i, name))
                        return REFUSE(result, VERDICT_EXISTS, "there is a node %s already: give the new one another "
                                                              "name", name);
        }
        return 1;
}

static int check_pools(const Registry *registry, const Supposal *supposal, Result *result) {
        for (size_t i = 0; i < supposal->n_add + supposal->n_reserves; i++) {
                const char *pool = i < supposal->n_add ? supposal->add[i].pool
                                                       : supposal->reserves[i - supposal->n_add].pool;
                if (!pool || !registry_find_pool(registry, pool))
                        return REFUSE(result, VERDICT_NOT_FOUND, "there is no pool %s. See which there are: gpupoolctl "
                                                                 "pool list", pool ? pool : "");
        }
        for (size_t i = 0; i < supposal->n_add; i++) {
                const SupposedGpus *gpus = supposal->add + i;
                if (!text_is_empty(gpus->node) && !registry_find_node_name(registry, gpus->node) &&
                    !is_new_node(supposal, supposal->n_new_nodes, gpus->node))
                        return REFUSE(result, VERDICT_NOT_FOUND, "there is no node %s to put GPUs into: name a member, "
                                                                 "or suppose a new node", gpus->node);
                if (gpus->n == 0 || gpus->n > GPUS_PER_NODE_MAX)
                        return REFUSE(result, VERDICT_INVALID_ARGUMENT, "%" PRIu32 " GPUs cannot be added to a node: 1 "
                                      "to %u can", gpus->n, GPUS_PER_NODE_MAX);
        }
        return 1;
}

static int check(const Registry *registry, const Supposal *supposal, Result *result) {
        int r = check_nodes(registry, supposal, result);
        if (r > 0)
                r = check_pools(registry, supposal, result);
        for (size_t i = 0; r > 0 && i < supposal->n_start; i++)
                if (!registry_find_vm(registry, supposal->start + i))
                        r = REFUSE(result, VERDICT_NOT_FOUND, "there is no such VM (any more). See which there are: "
                                                              "gpupoolctl vm list");
        return r;
}

/* ---- nodes and VMs */

/* As the registry ends it when its node is lost, or when its node says that it has stopped. */
static int end_vm(Supposition *supposition, Vm *vm, EndCause cause) {
        vm->reason_code = vm->reason = NULL;    /* borrowed */
        int r = vm_ended(vm, cause, NULL, 0);
        bool owned = own(supposition, vm->reason_code) || !vm->reason_code;
        owned = (own(supposition, vm->reason) || !vm->reason) && owned;
        if (r < 0 || !owned)
                return -ENOMEM;
        vm->assignment = (Assignment) {};
        return 0;
}

static int compare_node(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const NodeRecord *) item)->id);
}

/* Marks in @lost, one per node, which nodes are lost now. */
static void lose_and_drain(Supposition *supposition, const Supposal *supposal, bool *lost) {
        Registry *registry = &supposition->registry;
        size_t index;
        for (size_t i = 0; i < supposal->n_lose; i++)
                if (array_find(&registry->nodes, supposal->lose + i, compare_node, &index))
                        lost[index] = registry->nodes.items[index].lost = true;
        for (size_t i = 0; i < supposal->n_drain; i++)
                if (array_find(&registry->nodes, supposal->drain + i, compare_node, &index) &&
                    registry->nodes.items[index].drain == DRAIN_NONE)
                        registry->nodes.items[index].drain = DRAIN_BY_HAND;
}

static int end_and_settle_vms(Supposition *supposition, const Supposal *supposal, const bool *lost) {
        ARRAY_EACH(vm, &supposition->registry.vms) {
                AssignmentPhase phase = vm->assignment.phase;
                bool is_to_stop = phase == ASSIGNMENT_STOPPING && (!vm->run || vm->restart == RESTART_NEVER);
                size_t node;
                int r = 0;
                if (phase == ASSIGNMENT_NONE)
                        continue;
                if (array_find(&supposition->registry.nodes, &vm->assignment.node, compare_node, &node) && lost[node])
                        r = end_vm(supposition, vm, is_to_stop ? END_REQUESTED : END_NODE_LOST);
                else if (supposal->settled && phase == ASSIGNMENT_STOPPING)
                        r = end_vm(supposition, vm, END_REQUESTED);
                else if (supposal->settled && phase == ASSIGNMENT_STARTING)
                        vm->assignment.phase = ASSIGNMENT_RUNNING;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare_vm(const void *key, const void *item) {
        return ID_COMPARE((const VmId *) key, &((const Vm *) item)->id);
}

static void start_vms(Supposition *supposition, const Supposal *supposal) {
        for (size_t i = 0; i < supposal->n_start; i++) {
                size_t index;
                if (!array_find(&supposition->registry.vms, supposal->start + i, compare_vm, &index))
                        continue;
                Vm *vm = supposition->registry.vms.items + index;
                if (vm_is_to_run(vm))
                        continue;
                vm->run = true;
                vm->failed = false;
                vm->attempts = 0;
                vm->reason_code = vm->reason = NULL;
        }
}

/* ---- what is added */

static const NodeFacts *find_like(const Supposition *supposition) {
        const NodeFacts *best = NULL;
        for (size_t i = 0; i < supposition->n_facts && !best; i++) {
                const NodeFacts *facts = supposition->facts[i];
                const NodeRecord *record = registry_find_node(&supposition->registry, &facts->node);
                if (record && !record->witness && facts->hypervisor == HYPERVISOR_CONNECTED && facts->guard_connected)
                        best = facts;
        }
        return best;
}

static int compare_facts(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &(*(const NodeFacts *const *) item)->node);
}

static int add_node(Supposition *supposition, const char *name, const NodeFacts *like) {
        static const NodeFacts well = { .hypervisor = HYPERVISOR_CONNECTED, .guard_connected = true,
                                        .iommu_present = true, .vfio_present = true, .interrupt_remapping = true,
                                        .interrupt_remapping_known = true };
        NodeRecord record = { .incarnation = 1, .level = supposition->registry.level, .lease_ms = 1 };
        size_t at_record, at_facts;
        memset(record.id.bytes, 0xff, sizeof(record.id.bytes));
        while (array_find(&supposition->registry.nodes, &record.id, compare_node, &at_record) ||
               array_search(supposition->facts, supposition->n_facts, sizeof(*supposition->facts), &record.id,
                            compare_facts, &at_facts))
                for (size_t i = ID_SIZE; i > 0 && record.id.bytes[i - 1]-- == 0; i--)
                        ;
        record.name = own_text(supposition, name);
        NodeFacts *facts = own(supposition, malloc(sizeof(*facts)));
        if (!record.name || !facts)
                return -ENOMEM;

        *facts = like ? *like : well;
        facts->node = record.id;
        facts->memory_free = facts->memory_total;
        facts->gpus = NULL;
        facts->n_gpus = 0;
        for (size_t i = supposition->n_facts++; i > at_facts; i--)
                supposition->facts[i] = supposition->facts[i - 1];
        supposition->facts[at_facts] = facts;
        return array_insert(&supposition->registry.nodes, at_record, &record);
}

/* What is bought is like what is there. */
static void find_model(const World *world, const Pool *pool, GpuFacts *ret) {
        const GpuFacts *like = NULL;
        for (size_t i = 0; i < pool->gpus.n && !like; i++)
                like = world_find_gpu(world, pool->gpus.items + i);
        *ret = (GpuFacts) {
                .identity = { .vendor = 0xfffe, .device = 0xfffe },
                .class = 0x030200,
                .numa_node = -1,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
        };
        if (!like && pool->gpus.n > 0)
                ret->identity = pool->gpus.items[0];
        if (!like)
                return;
        ret->identity = like->identity;
        ret->class = like->class;
        ret->device_name = like->device_name;
        ret->vendor_name = like->vendor_name;
        memcpy(ret->bars, like->bars, sizeof(ret->bars));
        ret->link_width = like->link_width;
        ret->link_width_max = like->link_width_max;
        ret->link_speed_max = like->link_speed_max;
        ret->kind = like->kind;
        ret->interrupts = like->interrupts;
        ret->vram_bytes = like->vram_bytes;
        ret->vbios = like->vbios;
}

static bool find_facts(const Supposition *supposition, const NodeId *node, size_t *ret) {
        return array_search(supposition->facts, supposition->n_facts, sizeof(*supposition->facts), node, compare_facts,
                            ret);
}

/* Each with a slot, an address and an IOMMU group that nothing real has. */
static GpuFacts make_gpu(const GpuFacts *model, const NodeId *node, size_t n) {
        GpuFacts gpu = *model;
        gpu.identity.node = *node;
        gpu.identity.serial[0] = '\0';
        snprintf(gpu.identity.slot, sizeof(gpu.identity.slot), "supposed/%zu", n);
        gpu.address = (PciAddress) { .domain = UINT32_MAX, .bus = (uint8_t) (n / 32), .device = (uint8_t) (n % 32) };
        gpu.identity.address = gpu.address;
        gpu.iommu_group = INT32_MAX - (int32_t) n;
        return gpu;
}

static size_t count_supposed(const NodeFacts *facts) {
        size_t n = 0;
        for (size_t i = 0; i < facts->n_gpus; i++)
                n += facts->gpus[i].address.domain == UINT32_MAX &&
                     strncmp(facts->gpus[i].identity.slot, "supposed/", strlen("supposed/")) == 0;
        return n;
}

static int add_to_facts(Supposition *supposition, size_t index, const GpuFacts *gpus, size_t n) {
        const NodeFacts *before = supposition->facts[index];
        NodeFacts *facts = own(supposition, malloc(sizeof(*facts)));
        GpuFacts *row = own(supposition, calloc(before->n_gpus + n, sizeof(*row)));
        if (!facts || !row)
                return -ENOMEM;
        *facts = *before;
        if (before->n_gpus > 0)
                memcpy(row, before->gpus, before->n_gpus * sizeof(*row));
        memcpy(row + before->n_gpus, gpus, n * sizeof(*row));
        facts->gpus = row;
        facts->n_gpus = before->n_gpus + n;
        supposition->facts[index] = facts;
        return 0;
}

static int compare_identities(const void *a, const void *b) {
        return gpu_identity_compare(a, b);
}

static int add_to_pool(Supposition *supposition, Pool *pool, const GpuFacts *gpus, size_t n) {
        GpuIdentity *row = own(supposition, calloc(pool->gpus.n + n, sizeof(*row)));
        if (!row)
                return -ENOMEM;
        if (pool->gpus.n > 0)
                memcpy(row, pool->gpus.items, pool->gpus.n * sizeof(*row));
        for (size_t i = 0; i < n; i++)
                row[pool->gpus.n + i] = gpus[i].identity;
        qsort(row, pool->gpus.n + n, sizeof(*row), compare_identities);
        pool->gpus = (GpuIdentities) { .items = row, .n = pool->gpus.n + n, .allocated = pool->gpus.n + n };
        return 0;
}

static size_t count_pooled(const Registry *registry) {
        size_t n = 0;
        ARRAY_EACH(pool, &registry->pools)
                n += pool->gpus.n;
        return n;
}

/* A node that nobody has named: "new1", or the next that is not taken. */
static int add_nameless(Supposition *supposition, const NodeFacts *like, char **ret_name) {
        for (unsigned i = 1;; i++) {
                char name[NAME_LENGTH_MAX];
                snprintf(name, sizeof(name), "new%u", i);
                if (registry_find_node_name(&supposition->registry, name))
                        continue;
                *ret_name = own_text(supposition, name);
                return *ret_name ? add_node(supposition, name, like) : -ENOMEM;
        }
}

/* 1: done; 0: refused; or -ENOMEM. */
static int add_gpus(Supposition *supposition, const SupposedGpus *add, Result *result) {
        Registry *registry = &supposition->registry;
        const NodeRecord *node = registry_find_node_name(registry, add->node);
        Pool *pool = registry->pools.items + (registry_find_pool(registry, add->pool) - registry->pools.items);
        GpuFacts model;
        size_t at, before = 0, supposed = 0;
        bool heard = find_facts(supposition, &node->id, &at);
        if (heard) {
                before = supposition->facts[at]->n_gpus;
                supposed = count_supposed(supposition->facts[at]);
        }
        if (before + add->n > GPUS_PER_NODE_MAX)
                return REFUSE(result, VERDICT_LIMITS_EXCEEDED, "node %s has %zu GPUs, and %" PRIu32 " more are more "
                              "than the %u that one can have", add->node, before, add->n, GPUS_PER_NODE_MAX);
        if (count_pooled(registry) + add->n > POOL_GPUS_MAX)
                return REFUSE(result, VERDICT_LIMITS_EXCEEDED, "all pools together have at most %u GPUs",
                              POOL_GPUS_MAX);

        if (!heard)                     /* nobody hears what is in it: like absent ones */
                return 1;
        GpuFacts *gpus = own(supposition, calloc(add->n, sizeof(*gpus)));
        if (!gpus)
                return -ENOMEM;
        find_model(&supposition->world, pool, &model);
        for (size_t i = 0; i < add->n; i++)
                gpus[i] = make_gpu(&model, &node->id, supposed + i);
        int r = add_to_facts(supposition, at, gpus, add->n);
        if (r >= 0)
                r = add_to_pool(supposition, pool, gpus, add->n);
        return r < 0 ? r : 1;
}

/* 1: done; 0: refused; or -ENOMEM. */
static int add_all(Supposition *supposition, const Supposal *supposal, Result *result) {
        const NodeFacts *like = find_like(supposition);
        int r = 1;
        for (size_t i = 0; r >= 0 && i < supposal->n_new_nodes; i++) {
                r = add_node(supposition, supposal->new_nodes[i], like);
                supposition->world.n_nodes = supposition->n_facts;
        }
        r = r < 0 ? r : 1;
        for (size_t i = 0; r > 0 && i < supposal->n_add; i++) {
                SupposedGpus add = supposal->add[i];
                char *name = NULL;
                if (text_is_empty(add.node)) {
                        r = add_nameless(supposition, like, &name);
                        add.node = name;
                        supposition->world.n_nodes = supposition->n_facts;
                }
                if (r >= 0)
                        r = add_gpus(supposition, &add, result);
        }
        return r;
}

static void set_reserves(Supposition *supposition, const Supposal *supposal) {
        for (size_t i = 0; i < supposal->n_reserves; i++)
                ARRAY_EACH(pool, &supposition->registry.pools)
                        if (text_equal(pool->name, supposal->reserves[i].pool))
                                pool->reserve = supposal->reserves[i].reserve;
}

int suppose_new(const World *world, const Supposal *supposal, Supposition **ret, Result *ret_result) {
        _cleanup_(suppose_freep) Supposition *supposition = calloc(1, sizeof(*supposition));
        if (!supposition)
                return -ENOMEM;
        *ret_result = (Result) { .verdict = VERDICT_DONE };
        int r = check(world->registry, supposal, ret_result);
        if (r <= 0)
                return r;

        r = copy_world(supposition, world, count_new_nodes(supposal));
        if (r < 0)
                return r;
        start_vms(supposition, supposal);
        _cleanup_free_ bool *lost = calloc(supposition->registry.nodes.n + 1, sizeof(*lost));
        if (!lost)
                return -ENOMEM;
        lose_and_drain(supposition, supposal, lost);
        r = end_and_settle_vms(supposition, supposal, lost);
        if (r >= 0)
                r = add_all(supposition, supposal, ret_result);
        if (r <= 0)
                return r;
        set_reserves(supposition, supposal);
        *ret = STEAL(supposition);
        return 0;
}
