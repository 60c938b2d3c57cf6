/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/explain-wait.h"

#include <ctype.h>
#include <inttypes.h>

#include "core/explain-node.h"

#define PLURAL(n) ((n) == 1 ? "" : "s")

/* The first of the pool's GPUs that cannot serve, and how many there are. */
static const GpuView *find_useless(const Request *request, uint32_t *ret_n) {
        const Inventory *inventory = request->inventory;
        const GpuView *first = NULL;
        uint32_t n = 0;
        for (size_t i = 0; i < request->pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + request->pool->first_room + i;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++) {
                        if (inventory_gpu_is_usable(inventory, j))
                                continue;
                        first = first ? first : inventory->gpus.items[j].view;
                        n++;
                }
        }
        *ret_n = n;
        return first;
}

/* Why it cannot, with the names that a person needs to do something about it. */
static int say_why_useless(const GpuView *view, char **text) {
        if (!view->facts)
                return text_append(text, "%s", view->host ? "it is not there any more"
                                                          : "nothing is heard from its node");
        const Quarantine *quarantine = view->quarantine;
        if (quarantine)
                return text_append(text, "in quarantine, %s",
                                   text_is_empty(quarantine->sentence) ? quarantine_cause_to_sentence(quarantine->cause)
                                                                       : quarantine->sentence);

        _cleanup_(blockers_clear) Blockers blockers = {};
        int r = gpu_view_survey(view, &blockers);
        if (r < 0)
                return r;
        if (blockers.n == 0)
                return text_append(text, "it is linked with one that cannot serve");
        return text_append(text, "%s, %s", blocker_code_to_text(blockers.items[0].code), blockers.items[0].sentence);
}

/* "a:0000:41:00.0 is not, nor are 2 more: in-use, processes of the host hold it: sleep (pid 637). See ..." */
static int say_first_useless(const Request *request, const GpuView *view, uint32_t n, char **text) {
        const char *node = world_node_name(request->inventory->world, &view->identity.node);
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(view->identity.address, address);
        int r = text_append(text, "%s:%s is not", node, address);
        if (r >= 0 && n > 1)
                r = text_append(text, ", nor %s %" PRIu32 " more", n == 2 ? "is" : "are", n - 1);
        if (r >= 0)
                r = text_append(text, ": ");
        if (r >= 0)
                r = say_why_useless(view, text);
        return r < 0 ? r : text_append(text, ". See what helps (gpupoolctl gpu %s:%s)", node, address);
}

/* The pool as a whole is too small, wherever the VM would go. */
static int say_pool_too_small(const Request *request, char **ret) {
        const Pool *pool = request->pool->pool;
        uint32_t usable = request->pool->usable_anywhere, count = request->vm->count;
        if (pool->gpus.n == 0)
                return text_append(ret, "pool %s has no GPUs. Add some (gpupoolctl pool add %s GPU)", pool->name,
                                   pool->name);

        int r = text_append(ret, "pool %s has %" PRIu32 " usable GPU%s and %s needs %" PRIu32 ". ", pool->name, usable,
                            PLURAL(usable), request->vm->name, count);
        if (r < 0)
                return r;
        uint32_t n_useless;
        const GpuView *useless = find_useless(request, &n_useless);
        if (useless && pool->gpus.n >= count) {
                r = say_first_useless(request, useless, n_useless, ret);
                return r < 0 ? r : text_append(ret, ", or add %s (gpupoolctl pool add %s GPU)",
                                               count - usable == 1 ? "one" : "some", pool->name);
        }
        return text_append(ret, "Add %s (gpupoolctl pool add %s GPU)", count - usable == 1 ? "one" : "some",
                           pool->name);
}

/* There are enough, but on no node by itself. */
static int say_nodes_too_small(const Request *request, const Room *largest, char **ret) {
        const Inventory *inventory = request->inventory;
        const char *name = inventory->nodes.items[largest->node].record->name;
        return text_append(ret,
                           "no node has %" PRIu32 " usable GPUs of %s, the most is %" PRIu32 " on %s. Add GPUs of %s "
                           "(gpupoolctl pool add %s GPU) or ask for fewer (gpupoolctl vm requirement %s --gpus %" PRIu32
                           ")",
                           request->vm->count, request->pool->pool->name, largest->usable, name, name,
                           request->pool->pool->name, request->vm->name, largest->usable);
}

static const Room *find_largest_room(const Request *request) {
        const Room *largest = NULL;
        for (size_t i = 0; i < request->pool->n_rooms; i++) {
                const Room *room = request->inventory->rooms.items + request->pool->first_room + i;
                if (!largest || room->usable > largest->usable)
                        largest = room;
        }
        return largest;
}

static int count_hindrances(unsigned found) {
        int n = 0;
        for (; found != 0; found &= found - 1)
                n++;
        return n;
}

/* Would there be enough if all of lower priority stopped? About: sets are left to the sentence. */
static bool has_enough_below(const Request *request, const Room *room) {
        const Inventory *inventory = request->inventory;
        uint32_t n = choice_count_free(inventory, room, request->models);
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus && n < request->vm->count; i++) {
                if (!inventory_gpu_is_usable(inventory, i) || inventory_gpu_is_free(inventory, i) ||
                    !inventory_gpu_suits(inventory, i, request->models))
                        continue;
                size_t holder = inventory_gpu_holder(inventory, i);
                n += holder != NOBODY && inventory->tenants.items[holder].vm->priority < request->vm->priority;
        }
        return n >= request->vm->count;
}

/* The node where least would have to change: few hindrances, nobody as important as this one to be stopped, many free
 * GPUs. Those of the pool are everywhere. */
static size_t find_nearest(const Request *request, const Finding *findings, size_t n) {
        const unsigned of_pool = HINDRANCE_BIT(HINDRANCE_RESERVE) | HINDRANCE_BIT(HINDRANCE_MAX_IN_USE);
        const unsigned hopeless = HINDRANCE_BIT(HINDRANCE_NO_GPUS) | HINDRANCE_BIT(HINDRANCE_NOT_ENOUGH) |
                                  HINDRANCE_BIT(HINDRANCE_SETS) | HINDRANCE_BIT(HINDRANCE_MODEL) |
                                  HINDRANCE_BIT(HINDRANCE_CPU);
        const Room *rooms = request->inventory->rooms.items;
        size_t nearest = NOWHERE;
        int nearest_cost = 0;
        for (size_t i = 0; i < n; i++) {
                unsigned found = findings[i].hindrances & ~of_pool;
                const Room *room = findings[i].room == NOWHERE ? NULL : rooms + findings[i].room;
                uint32_t free = !room ? 0 : room->free < 999 ? room->free : 999;
                int cost = count_hindrances(found) * 2000 + (found & hopeless ? 200000 : 0) - (int) free;
                if ((found & HINDRANCE_BIT(HINDRANCE_TAKEN)) && room && !has_enough_below(request, room))
                        cost += 1000;
                if (nearest != NOWHERE && cost >= nearest_cost)
                        continue;
                nearest = i;
                nearest_cost = cost;
        }
        return nearest;
}

static Hindrance first_hindrance(unsigned found) {
        Hindrance i = 0;
        while (i + 1 < HINDRANCE_COUNT && !(found & HINDRANCE_BIT(i)))
                i++;
        return i;
}

static int say_nearest(const Request *request, const Finding *findings, size_t nearest, const char **ret_code,
                       char **ret) {
        const unsigned of_pool = HINDRANCE_BIT(HINDRANCE_RESERVE) | HINDRANCE_BIT(HINDRANCE_MAX_IN_USE);
        unsigned found = findings[nearest].hindrances;
        Case c = explain_case(request, findings, nearest);
        /* Where the node itself is ready, what is left is the pool's. */
        Hindrance hindrance = first_hindrance(found & ~of_pool ? found & ~of_pool : found);
        bool about_node = (HINDRANCE_BIT(hindrance) & of_pool) == 0;
        PlacementReason reason = {};
        int r = explain_hindrance(&c, hindrance, &reason);
        if (r >= 0 && about_node && hindrance == HINDRANCE_TAKEN)
                r = text_append(ret, "it needs %" PRIu32 " of %s; %s has ", c.count, c.pool, c.node->record->name);
        else if (r >= 0 && about_node)
                r = text_append(ret, "on %s ", c.node->record->name);
        if (r >= 0)
                r = text_append(ret, "%s. %c%s", reason.sentence, toupper((unsigned char) reason.remedy[0]),
                                reason.remedy + 1);
        free(reason.sentence);
        free(reason.remedy);
        *ret_code = hindrance_code(hindrance);
        return r;
}

int explain_waiting(const Request *request, const Finding *findings, size_t n_findings, const char **ret_code,
                    char **ret_sentence) {
        int r = text_printf(ret_sentence, "vm %s waits: ", request->vm->name);
        if (r < 0)
                return r;

        const Room *largest = find_largest_room(request);
        if (request->pool->usable_anywhere < request->vm->count) {
                *ret_code = "pool-too-small";
                return say_pool_too_small(request, ret_sentence);
        }
        if (largest && largest->usable < request->vm->count) {
                *ret_code = "nodes-too-small";
                return say_nodes_too_small(request, largest, ret_sentence);
        }
        size_t nearest = find_nearest(request, findings, n_findings);
        if (nearest != NOWHERE)
                return say_nearest(request, findings, nearest, ret_code, ret_sentence);
        *ret_code = "no-nodes";
        return text_append(ret_sentence,
                           "the cluster has no node that could run it. Add one (gpupoolctl cluster invite)");
}
