/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/move.h"

#include <errno.h>
#include <inttypes.h>

#include "core/placement.h"
#include "core/suppose.h"
#include "core/vm-reason.h"

/* How many VMs or nodes a sentence names before it says "and N more". */
#define NAMED_MAX 3U

#define PLURAL(n) ((n) == 1 ? "" : "s")

void moves_clear(Moves *moves) {
        ARRAY_EACH(move, moves)
                free(move->why);
        array_clear(moves);
}

/* What if the node were drained? *ret stays NULL where it is no member. */
static int suppose_drained(const World *world, const NodeId *node, Supposition **ret) {
        _cleanup_(result_clear) Result result = {};
        return suppose_new(world, &(Supposal) { .drain = node, .n_drain = 1 }, ret, &result);
}

/* ---- why not */

static const PlacementAnswer *find_answer(const Placement *placement, const NodeId *node) {
        for (size_t i = 0; i < placement->n_answers; i++)
                if (ID_EQUAL(&placement->answers[i].node, node))
                        return placement->answers + i;
        return NULL;
}

/* "b has 2 usable, 2 of them run bert": for each node but @from, as many as are read. */
int move_list_reasons(const World *world, const Placement *placement, const NodeId *from, char **ret) {
        unsigned n = 0;
        for (size_t i = 0; i < placement->n_answers; i++) {
                const PlacementAnswer *answer = placement->answers + i;
                if (answer->n_reasons == 0 || ID_EQUAL(&answer->node, from) || n++ >= NAMED_MAX)
                        continue;
                int r = text_append(ret, "%s%s: %s", *ret ? "; " : "", world_node_name(world, &answer->node),
                                    answer->reasons[0].sentence);
                if (r < 0)
                        return r;
        }
        if (n > NAMED_MAX)
                return text_append(ret, "; and %u more", n - NAMED_MAX);
        return n > 0 ? 0 : text_append(ret, "there is no other node");
}

static int say_no_place(const World *world, const Vm *vm, const Placement *placement, char **ret) {
        _cleanup_free_ char *reasons = NULL;
        int r = move_list_reasons(world, placement, &vm->assignment.node, &reasons);
        return r < 0 ? r : text_printf(ret, "no other node can take vm %s now (%s). See what would change that: "
                                            "gpupoolctl vm explain %s", vm->name, reasons, vm->name);
}

static int say_not_there(const World *world, const Vm *vm, const PlacementAnswer *answer, char **ret) {
        const char *name = world_node_name(world, &answer->node);
        if (answer->n_reasons == 0)
                return text_printf(ret, "node %s cannot take vm %s now. See why: gpupoolctl vm explain %s", name,
                                   vm->name, vm->name);
        const PlacementReason *reason = answer->reasons;
        return text_printf(ret, "node %s cannot take vm %s now: %s. To change that: %s", name, vm->name,
                           reason->sentence, reason->remedy ? reason->remedy : "see gpupoolctl vm explain");
}

/* "x and y" of a company but @except; as many as are read. */
static int list_company(const Inventory *inventory, const Company *company, size_t except, char **ret) {
        size_t n = 0;
        ARRAY_EACH(member, company) {
                if (*member == except || n++ >= NAMED_MAX)
                        continue;
                int r = text_append(ret, "%s%s", *ret ? " and " : "", inventory->tenants.items[*member].vm->name);
                if (r < 0)
                        return r;
        }
        return n > NAMED_MAX ? text_append(ret, " and %zu more", n - NAMED_MAX) : 0;
}

/* Who must be with others on a node that nobody drains has no place elsewhere while they stay. 1: it has, or is free to
 * go; 0: *ret_sentence says so; or -ENOMEM. */
static int check_company(const World *world, const Vm *vm, char **ret_sentence) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_free_ char *others = NULL;
        Company company = {};
        if (!node || node->drain != DRAIN_NONE)
                return 1;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        size_t tenant = inventory_find_tenant(inventory, &vm->id);
        r = tenant == NOBODY ? 0 : company_list(inventory, tenant, &company);
        if (r >= 0 && company.n > 1)
                r = list_company(inventory, &company, tenant, &others);
        bool alone = company.n <= 1;
        array_clear(&company);
        if (r < 0 || alone)
                return r < 0 ? r : 1;
        r = text_printf(ret_sentence, "vm %s must be with %s on node %s, and would leave without. Drain the node, and "
                        "they leave together (gpupoolctl node drain %s), or change the affinity (gpupoolctl vm policy "
                        "%s --with)", vm->name, others, node->name, node->name, vm->name);
        return r < 0 ? r : 0;
}

/* ---- one VM */

int move_find(const World *world, const Vm *vm, const NodeId *target, NodeId *ret_node, char **ret_sentence) {
        _cleanup_(suppose_freep) Supposition *supposed = NULL;
        _cleanup_(placement_clear) Placement placement = {};
        int r = target ? 1 : check_company(world, vm, ret_sentence);
        if (r == 0)
                return MOVE_NO_PLACE;
        if (r > 0)
                r = target ? 0 : suppose_drained(world, &vm->assignment.node, &supposed);
        if (r < 0)
                return r;
        r = placement_find(supposed ? suppose_world(supposed) : world, vm, &placement);
        if (r < 0)
                return r;
        if (!target) {
                *ret_node = placement.node;
                if (r == PLACEMENT_FOUND)
                        return MOVE_POSSIBLE;
                r = say_no_place(world, vm, &placement, ret_sentence);
                return r < 0 ? r : MOVE_NO_PLACE;
        }

        const PlacementAnswer *answer = find_answer(&placement, target);
        *ret_node = *target;
        if (!answer || answer->fits)
                return MOVE_POSSIBLE;   /* what is no member is the registry's to refuse */
        r = say_not_there(world, vm, answer, ret_sentence);
        return r < 0 ? r : MOVE_NO_PLACE;
}

/* ---- all of a node */

/* Those that are to go on elsewhere, the most urgent first. */
static int list_tenants(const Inventory *inventory, const NodeId *node, const Tenant ***ret, size_t *ret_n) {
        const Tenant **list = calloc(inventory->tenants.n + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        size_t n = 0;
        ARRAY_EACH(tenant, &inventory->tenants) {
                const Vm *vm = tenant->vm;
                if (vm->run && vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node))
                        list[n++] = tenant;
        }
        qsort(list, n, sizeof(*list), placement_compare_tenants);
        *ret = list;
        *ret_n = n;
        return 0;
}

int move_say_company(const Inventory *inventory, const Company *company, size_t tenant, bool stays, char **ret) {
        const Vm *vm = inventory->tenants.items[tenant].vm;
        _cleanup_free_ char *others = NULL;
        int r = list_company(inventory, company, tenant, &others);
        if (r < 0)
                return r;
        if (stays)
                return text_printf(ret, "no other node has room for it together with %s", others);
        return text_printf(ret, "%" PRIu32 " GPU%s of %s, together with %s", vm->count, PLURAL(vm->count), vm->pool,
                           others);
}

/* Moves one, and all that must be with it, on paper, so that the next one finds what is left. */
static int plan_company(Inventory *inventory, const Company *company, Moves *moves) {
        NodeId to = {};
        int r = company_place(inventory, company, NULL, true, &to);
        bool stay = r != PLACEMENT_FOUND;
        for (size_t i = 0; r >= 0 && i < company->n; i++) {
                const Vm *vm = inventory->tenants.items[company->items[i]].vm;
                _cleanup_(placement_clear) Placement placement = {};
                Move move = { .vm = vm->id, .from = vm->assignment.node, .to = stay ? (NodeId) {} : to };
                if (company->n > 1)
                        r = move_say_company(inventory, company, company->items[i], stay, &move.why);
                else if (!stay)
                        r = text_printf(&move.why, "%" PRIu32 " GPU%s of %s", vm->count, PLURAL(vm->count), vm->pool);
                else {
                        r = placement_find_in(inventory, vm, &placement);
                        if (r >= 0)
                                r = move_list_reasons(inventory->world, &placement, &vm->assignment.node, &move.why);
                }
                if (r >= 0)
                        r = array_append(moves, &move);
                if (r < 0)
                        free(move.why);
        }
        return r < 0 ? r : 0;
}

static bool is_planned(const Moves *moves, const VmId *vm) {
        ARRAY_EACH(move, moves)
                if (ID_EQUAL(&move->vm, vm))
                        return true;
        return false;
}

static int plan_one(Inventory *inventory, const Tenant *tenant, Moves *moves) {
        Company company = {};
        if (is_planned(moves, &tenant->vm->id))
                return 0;
        int r = company_list(inventory, (size_t) (tenant - inventory->tenants.items), &company);
        if (r >= 0)
                r = plan_company(inventory, &company, moves);
        array_clear(&company);
        return r;
}

int moves_of_drain(const World *world, const NodeId *node, Moves *ret) {
        _cleanup_(suppose_freep) Supposition *supposed = NULL;
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(moves_clear) Moves moves = {};
        _cleanup_free_ const Tenant **tenants = NULL;
        size_t n = 0;
        int r = suppose_drained(world, node, &supposed);
        if (r >= 0)
                r = inventory_new(supposed ? suppose_world(supposed) : world, &inventory);
        if (r >= 0)
                r = list_tenants(inventory, node, &tenants, &n);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = plan_one(inventory, tenants[i], &moves);
        if (r < 0)
                return r;
        *ret = moves;
        moves = (Moves) {};
        return 0;
}

static const char *vm_name(const World *world, const VmId *id) {
        const Vm *vm = registry_find_vm(world->registry, id);
        return vm ? vm->name : "a VM";
}

static bool stays(const Move *move) {
        return id_is_null(move->to.bytes);
}

bool moves_are_complete(const Moves *moves) {
        ARRAY_EACH(move, moves)
                if (stays(move))
                        return false;
        return true;
}

/* Those that stay, and why; NULL: none does. */
static int say_stuck(const World *world, const NodeId *node, const Moves *moves, char **ret) {
        const char *name = world_node_name(world, node);
        const Move *first = NULL;
        _cleanup_free_ char *list = NULL;
        unsigned n = 0;
        ARRAY_EACH(move, moves) {
                if (!stays(move) || n++ >= NAMED_MAX)
                        continue;
                first = first ?: move;
                int r = text_append(&list, "%s%s (%s)", list ? ", " : "", vm_name(world, &move->vm), move->why);
                if (r < 0)
                        return r;
        }
        if (n == 0)
                return 0;
        if (n == 1)
                return text_printf(ret, "vm %s cannot leave node %s (%s). Make room for it there, or stop it "
                                        "(gpupoolctl vm shutdown %s)", vm_name(world, &first->vm), name, first->why,
                                   vm_name(world, &first->vm));
        int r = n > NAMED_MAX ? text_append(&list, " and %u more", n - NAMED_MAX) : 0;
        return r < 0 ? r : text_printf(ret, "%u VMs cannot leave node %s: %s. Make room for them there, or stop them "
                                            "(gpupoolctl vm shutdown VM)", n, name, list);
}

static int list_movers(const World *world, const Moves *moves, char **ret, unsigned *ret_n) {
        unsigned n = 0;
        int r = 0;
        ARRAY_EACH(move, moves) {
                if (stays(move) || n++ >= NAMED_MAX || r < 0)
                        continue;
                r = text_append(ret, "%s%s to %s", *ret ? ", " : "", vm_name(world, &move->vm),
                                world_node_name(world, &move->to));
        }
        if (r >= 0 && n > NAMED_MAX)
                r = text_append(ret, " and %u more", n - NAMED_MAX);
        *ret_n = n;
        return r;
}

int moves_say(const World *world, const NodeId *node, const Moves *moves, char **ret) {
        const char *name = world_node_name(world, node);
        _cleanup_free_ char *list = NULL, *stuck = NULL;
        unsigned n;
        if (moves->n == 0)
                return text_printf(ret, "no VM would have to leave node %s", name);
        int r = list_movers(world, moves, &list, &n);
        if (r >= 0)
                r = say_stuck(world, node, moves, &stuck);
        if (r < 0)
                return r;
        if (n == 0)
                return text_printf(ret, "%s", stuck);
        return text_printf(ret, "%u VM%s would leave node %s: %s%s%s", n, PLURAL(n), name, list, stuck ? ". " : "",
                           stuck ? stuck : "");
}

/* One after the other: the next one leaves when the one before has a place. 1: one has left and has none yet, and *ret
 * says why, or nothing where it gets one soon; 0: nobody is in between; or -ENOMEM. */
static int find_in_between(const World *world, const NodeId *node, char **ret) {
        ARRAY_EACH(vm, &world->registry->vms) {
                bool here = vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node);
                if (!vm_is_to_run(vm) || vm->assignment.phase == ASSIGNMENT_RUNNING ||
                    (!here && !ID_EQUAL(&vm->home, node)))
                        continue;
                if (vm_state(vm) != VM_STATE_WAITING)
                        return 1;
                _cleanup_free_ char *code = NULL, *sentence = NULL;
                int r = vm_reason(world, vm, &code, &sentence);
                if (r < 0)
                        return r;
                if (!text_is_empty(sentence))
                        *ret = STEAL(sentence);
                return 1;
        }
        return 0;
}

int drain_obstacle(const World *world, const NodeId *node, char **ret) {
        _cleanup_(moves_clear) Moves moves = {};
        int r = find_in_between(world, node, ret);
        if (r != 0)
                return r < 0 ? r : 0;
        r = moves_of_drain(world, node, &moves);
        if (r < 0)
                return r;
        ARRAY_EACH(move, &moves)
                if (!stays(move))
                        return 0;
        return say_stuck(world, node, &moves, ret);
}
