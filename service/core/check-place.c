/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Check: VMs that could not go on elsewhere. Each is asked about by itself, as if its node were lost and it alone had
 * to find a place: so a finding here is about its requirement, its policy and the GPUs that there are, and not about
 * who comes first (the pool's AtRisk is about all of a node's VMs together). */

#include <errno.h>

#include "core/check-internal.h"
#include "core/placement.h"

/* So many VMs are told of in one check; there are as many as nodes whose reasons are put into words. */
#define TOLD_MAX 64U
/* How many nodes a sentence names before it says "and N more". */
#define NAMED_MAX 3U

/* As it would be if its node had just been held for dead. Borrows all texts. */
static Vm as_if_lost(const Vm *vm) {
        Vm lost = *vm;
        lost.assignment = (Assignment) {};
        lost.reason_code = (char *) end_cause_to_text(END_NODE_LOST);
        return lost;
}

static bool wants_a_place(const Vm *vm) {
        return vm->run && vm->assignment.phase != ASSIGNMENT_NONE && vm->restart != RESTART_NEVER;
}

static bool is_about_gpus(const PlacementReason *reason) {
        return !text_equal(reason->code, "no-gpus") && !text_equal(reason->code, "witness");
}

/* Says of nodes what is in their way: those that have GPUs of the pool; or, where none has, that there is no such. */
static int list_answers(const World *world, const Placement *placement, const NodeId *from, char **ret,
                        const char **ret_remedy) {
        unsigned n = 0;
        for (size_t i = 0; i < placement->n_answers; i++) {
                const PlacementAnswer *answer = placement->answers + i;
                if (answer->fits || answer->n_reasons == 0 || ID_EQUAL(&answer->node, from) ||
                    !is_about_gpus(answer->reasons))
                        continue;
                if (!*ret_remedy)
                        *ret_remedy = answer->reasons[0].remedy;
                if (n++ >= NAMED_MAX)
                        continue;
                int r = text_append(ret, "%s%s: %s", *ret ? "; " : "", world_node_name(world, &answer->node),
                                    answer->reasons[0].sentence);
                if (r < 0)
                        return r;
        }
        return n > NAMED_MAX ? text_append(ret, "; and %u more", n - NAMED_MAX) : 0;
}

static int say_no_place(const Subject *subject, const Vm *vm, const char *node, const char *reasons,
                        const char *remedy) {
        int r = add_finding(subject, CHECK_WARNING, "vm-no-other-place",
                            "vm %s would not run again if node %s failed: %s", vm->name, node,
                            reasons ? reasons : "no other node has GPUs of its pool");
        if (r >= 0 && remedy)
                return add_remedy(subject, "%s; or see each node's answer: gpupoolctl vm explain %s", remedy, vm->name);
        return r < 0 ? r : add_remedy(subject, "put GPUs of other nodes into pool %s (gpupoolctl pool add %s GPU)",
                                      vm->pool, vm->pool);
}

/* The VM's node is imagined lost. @closely: nodes that cannot take it are told also where another one can. */
static int check_place(Inventory *inventory, size_t tenant, bool closely, CheckFindings *findings) {
        const World *world = inventory->world;
        const Vm *vm = inventory->tenants.items[tenant].vm;
        Vm lost = as_if_lost(vm);
        _cleanup_(placement_clear) Placement placement = {};
        _cleanup_free_ char *reasons = NULL;
        const char *remedy = NULL, *node = world_node_name(world, &vm->assignment.node);
        int found = placement_find_in(inventory, &lost, &placement);
        if (found < 0 || (found == PLACEMENT_FOUND && !closely))
                return found < 0 ? found : 0;

        int r = list_answers(world, &placement, &vm->assignment.node, &reasons, &remedy);
        Subject subject = about_vm(findings, vm);
        if (r < 0)
                return r;
        if (found != PLACEMENT_FOUND)
                return say_no_place(&subject, vm, node, reasons, remedy);
        if (!reasons)
                return 0;
        r = add_finding(&subject, CHECK_NOTE, "vm-few-places", "if node %s failed, vm %s could run on %s and not on %s",
                        node, vm->name, world_node_name(world, &placement.node), reasons);
        return r < 0 ? r : add_remedy(&subject, "%s, if it is to have more choice", remedy ? remedy : "change that");
}

/* Without words, so that only those that have no place cost them. 1: it has one, 0: it has not; or -ENOMEM. */
static int has_place(Inventory *inventory, size_t tenant) {
        Choice choice;
        _cleanup_free_ Belongings *belongings = inventory_set_aside(inventory, tenant);
        if (!belongings)
                return -ENOMEM;
        int r = placement_choose(inventory, tenant, true, &choice);
        inventory_give_back(inventory, belongings);
        return r < 0 ? r : r == PLACEMENT_FOUND;
}

static int try_loss(Inventory *inventory, size_t tenant, bool closely, unsigned *told, CheckFindings *findings) {
        size_t node = inventory->tenants.items[tenant].node;
        size_t before = findings->n;
        inventory_lose_node(inventory, node);
        int r = closely ? 0 : has_place(inventory, tenant);
        if (r == 0)
                r = check_place(inventory, tenant, closely, findings);
        inventory_find_node_again(inventory, node);
        *told += findings->n > before;
        return r < 0 ? r : 0;
}

int check_places(Inventory *inventory, const VmId *vms, size_t n_vms, CheckFindings *findings) {
        unsigned told = 0;
        int r = 0;
        for (size_t i = 0; i < n_vms && r >= 0 && told < TOLD_MAX; i++) {
                size_t tenant = inventory_find_tenant(inventory, vms + i);
                if (tenant == NOBODY || inventory->tenants.items[tenant].node == NOWHERE ||
                    !wants_a_place(inventory->tenants.items[tenant].vm))
                        continue;
                r = try_loss(inventory, tenant, false, &told, findings);
        }
        return r;
}

int check_places_of_node(Inventory *inventory, const NodeId *node, CheckFindings *findings) {
        unsigned told = 0;
        int r = 0;
        if (inventory->nodes.n == 1)
                return 0;
        for (size_t i = 0; i < inventory->tenants.n && r >= 0 && told < TOLD_MAX; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (tenant->node == NOWHERE || !wants_a_place(tenant->vm) ||
                    !ID_EQUAL(&tenant->vm->assignment.node, node))
                        continue;
                r = try_loss(inventory, i, true, &told, findings);
        }
        return r;
}
