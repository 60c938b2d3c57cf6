/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What follows from one's rejection for others: who needs no less finds no place either. */

#include "core/placement-internal.h"
#include "core/roster-internal.h"

bool pass_is_choosy(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        return capacity_is_asked_for(&tenant->vm->needs) || inventory_is_picky(pass->inventory, tenant);
}

/* As much memory, and of the same kind: of another one there may be more. */
static bool needs_as_much_memory(const VmNeeds *needs, const VmNeeds *rejected) {
        if (rejected->memory_bytes == 0)
                return true;
        return needs->memory_bytes >= rejected->memory_bytes && needs->hugepages == rejected->hugepages &&
               needs->hugepage_size_bytes == rejected->hugepage_size_bytes && needs->numa_nodes == rejected->numa_nodes;
}

/* A number for the rooms where a file is not there: who asks for other files may lack them in the same rooms. */
static uint64_t add_room(uint64_t where, size_t room) {
        uint64_t x = (where ^ (room + 1)) * UINT64_C(0x9e3779b97f4a7c15);
        return (x ^ x >> 29) | 1;
}

static uint64_t find_where_lost(const Pass *pass, const Tenant *tenant) {
        const Inventory *inventory = pass->inventory;
        const InventoryPool *pool = inventory->pools.items + tenant->pool;
        uint64_t where = 0;
        bool hangs;
        for (size_t i = pool->first_room; i < pool->first_room + pool->n_rooms; i++) {
                const InventoryNode *node = inventory->nodes.items + inventory->rooms.items[i].node;
                if (node->troubles == 0 && capacity_next_lost_path(&tenant->vm->needs, node->facts, NULL, &hangs))
                        where = add_room(where, i);
        }
        return where;
}

static bool needs_no_less(const Pass *pass, const Tenant *tenant, const Rejection *rejection) {
        const InventoryPool *pool = pass->inventory->pools.items + tenant->pool;
        const VmNeeds *needs = &tenant->vm->needs, *rejected = &rejection->vm->needs;
        uint32_t count = tenant->vm->count, rejected_count = rejection->vm->count;
        /* Of sets that go whole a small VM may be too small. */
        if (pool->has_sets ? count != rejected_count : count < rejected_count)
                return false;
        if ((tenant->models & pool->models & ~rejection->models) != 0 || !needs_as_much_memory(needs, rejected))
                return false;
        if (rejection->by_cpu && (!text_equal(needs->cpu_model, rejected->cpu_model) ||
                                  !text_equal(needs->cpu_vendor, rejected->cpu_vendor)))
                return false;
        return rejection->where_lost == 0 || find_where_lost(pass, tenant) == rejection->where_lost;
}

static uint64_t count_bit(const Tenant *tenant) {
        return UINT64_C(1) << (tenant->vm->count - 1);
}

bool pass_is_rejected(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        const Rejections *rejections = pass->rejections + tenant->pool;
        if (rejections->needs & count_bit(tenant))
                return true;
        for (size_t i = 0; i < rejections->n; i++) {
                const Rejection *rejection = rejections->items + i;
                if (needs_no_less(pass, tenant, rejection) &&
                    (!rejection->without_reserve || !pass_has_failover(pass, item)))
                        return true;
        }
        return false;
}

void pass_reject_count(Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        pass->rejections[tenant->pool].needs |= count_bit(tenant);
}

bool pass_rejection_tells(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        return tenant->n_bonds == 0 && pass->rejections[tenant->pool].n < REJECTIONS_MAX;
}

void pass_reject(Pass *pass, size_t item, const Prospect *prospect) {
        const Tenant *tenant = pass_tenant(pass, item);
        Rejections *rejections = pass->rejections + tenant->pool;
        if (!pass_rejection_tells(pass, item))
                return;
        const InventoryPool *pool = pass->inventory->pools.items + tenant->pool;
        rejections->items[rejections->n++] = (Rejection) {
                .vm = tenant->vm,
                .models = tenant->models & pool->models,
                .by_cpu = prospect->lacks & CAPACITY_CPU,
                .without_reserve = pool->pool->reserve > 0 && !pass_has_failover(pass, item),
                .where_lost = prospect->where_lost,
        };
}

void pass_forget_rejections(Pass *pass) {
        memset(pass->rejections, 0, pass->inventory->pools.n * sizeof(*pass->rejections));
}

Prospect pass_look_out(const Pass *pass, size_t item) {
        const Inventory *inventory = pass->inventory;
        const Tenant *tenant = pass_tenant(pass, item);
        const InventoryPool *pool = inventory->pools.items + tenant->pool;
        Prospect prospect = {};
        if (!pass_is_choosy(pass, item))
                return (Prospect) { .anywhere = true };
        for (size_t i = pool->first_room; i < pool->first_room + pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + i;
                if (!inventory_node_takes_vms(inventory, room->node))
                        continue;
                unsigned lacks = capacity_judge(&tenant->vm->needs, inventory->nodes.items[room->node].facts, NULL);
                prospect.lacks |= lacks;
                if (lacks & CAPACITY_STORAGE)
                        prospect.where_lost = add_room(prospect.where_lost, i);
                prospect.anywhere = prospect.anywhere || (lacks == 0 && choice_is_possible(inventory, room,
                                                          tenant->models, tenant->vm->count));
        }
        return prospect;
}
