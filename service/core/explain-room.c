/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/explain-stop.h"

#include <errno.h>
#include <inttypes.h>

/* How many VMs or GPUs a sentence names before it says "and N more". */
#define NAMED_MAX 3

#define PLURAL(n) ((n) == 1 ? "" : "s")

static const char *node_name(const Case *c) {
        return c->node->record->name;
}

static int say_add_gpus(const Case *c, char **remedy) {
        return text_printf(remedy, "add GPUs of %s (gpupoolctl pool add %s GPU)", node_name(c), c->pool);
}

int explain_no_gpus(const Case *c, PlacementReason *ret) {
        int r = text_printf(&ret->sentence, "no GPU of %s", c->pool);
        return r < 0 ? r : say_add_gpus(c, &ret->remedy);
}

/* In one word or a few, why a member of the pool cannot serve. */
static int say_useless(const RoomGpu *gpu, char **text) {
        if (!gpu->view->facts)
                return text_append(text, "absent");
        if (gpu->view->quarantine)
                return text_append(text, "in quarantine");

        Blockers blockers = {};
        int r = gpu_view_survey(gpu->view, &blockers);
        if (r >= 0)
                r = text_append(text, "%s", blockers.n > 0 ? blocker_code_to_text(blockers.items[0].code)
                                                           : "linked with one that cannot serve");
        blockers_clear(&blockers);
        return r;
}

/* "0000:41:00.0 (in quarantine), 0000:42:00.0 (absent)"; NULL where all can serve. */
static int list_useless(const Inventory *inventory, const Room *room, char **ret) {
        uint32_t n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                const RoomGpu *gpu = inventory->gpus.items + i;
                char address[PCI_ADDRESS_TEXT_SIZE];
                if (inventory_gpu_is_usable(inventory, i) || n++ >= NAMED_MAX)
                        continue;
                pci_address_to_text(gpu->view->identity.address, address);
                int r = text_append(ret, "%s%s (", *ret ? ", " : "", address);
                if (r >= 0)
                        r = say_useless(gpu, ret);
                if (r >= 0)
                        r = text_append(ret, ")");
                if (r < 0)
                        return r;
        }
        return n > NAMED_MAX ? text_append(ret, " and %" PRIu32 " more", n - NAMED_MAX) : 0;
}

int explain_not_enough(const Case *c, PlacementReason *ret) {
        _cleanup_free_ char *useless = NULL;
        int r = list_useless(c->request->inventory, c->room, &useless);
        if (r >= 0)
                r = text_printf(&ret->sentence, "%" PRIu32 " usable GPU%s of %s in all%s%s", c->room->usable,
                                PLURAL(c->room->usable), c->pool, useless ? "; not usable: " : "",
                                useless ? useless : "");
        if (r >= 0)
                r = say_add_gpus(c, &ret->remedy);
        if (r >= 0 && useless)
                r = text_append(&ret->remedy, " or mend those (gpupoolctl gpu)");
        return r;
}

static const char *compare_priority(const Vm *holder, const Vm *vm) {
        if (holder->priority == vm->priority)
                return "same as";
        return holder->priority > vm->priority ? "above" : "below";
}

/* "2 of them run bert (priority 50, same as huge)" */
static int say_holders(const Case *c, const Holders *holders, char **text) {
        const Vm *vm = c->request->vm;
        for (size_t i = 0; i < holders->n && i < NAMED_MAX; i++) {
                const Holder *holder = holders->items + i;
                int r = text_append(text, ", %" PRIu32 "%s %s %s (priority %" PRIi32 ", %s %s)", holder->n,
                                    i == 0 ? " of them" : "", holder->n == 1 ? "runs" : "run", holder->vm->name,
                                    holder->vm->priority, compare_priority(holder->vm, vm), vm->name);
                if (r < 0)
                        return r;
        }
        return holders->n > NAMED_MAX ? text_append(text, ", the rest %zu other VM%s", holders->n - NAMED_MAX,
                                                   PLURAL(holders->n - NAMED_MAX)) : 0;
}

int explain_taken(const Case *c, PlacementReason *ret) {
        Holders holders = {};
        const Inventory *inventory = c->request->inventory;
        Models models = c->request->models;
        int r = holders_list(inventory, c->room, models, &holders);
        if (r >= 0)
                r = text_printf(&ret->sentence, "%" PRIu32 " usable", choice_count_usable(inventory, c->room, models));
        if (r >= 0 && inventory_room_has_others(c->room, models))
                r = text_append(&ret->sentence, " of %s", c->request->vm->model);
        if (r >= 0)
                r = say_holders(c, &holders, &ret->sentence);
        if (r >= 0)
                r = explain_stop(c, &holders, &ret->remedy);
        if (r >= 0 && !ret->remedy)
                r = text_set(&ret->remedy, "wait for another VM to stop");
        array_clear(&holders);
        return r;
}

/* The largest number below @count, and the smallest above it, that sets can give; 0: none. */
static void find_possible(const Case *c, uint32_t *ret_less, uint32_t *ret_more) {
        const Inventory *inventory = c->request->inventory;
        uint32_t less = c->count - 1, more = c->count + 1;
        while (less > 0 && !choice_is_possible(inventory, c->room, c->request->models, less))
                less--;
        while (more <= c->room->usable && !choice_is_possible(inventory, c->room, c->request->models, more))
                more++;
        *ret_less = less;
        *ret_more = more <= c->room->usable && more <= GPUS_PER_VM_MAX ? more : 0;
}

/* "--match 10de:20b2@host1=alone", for a GPU that came in by hand. */
static int append_rule_of_gpu(const Case *c, const GpuIdentity *gpu, char **text) {
        _cleanup_free_ char *rule = NULL;
        int r = text_printf(&rule, " --match %04x:%04x@%s=alone", gpu->vendor, gpu->device, node_name(c));
        if (r < 0 || strstr(*text, rule))
                return r;
        return text_append(text, "%s", rule);
}

/* The pool's own rules with =alone, for the new ones replace them; without any, one for each model that it has here. */
static int append_rules(const Case *c, char **text) {
        const Inventory *inventory = c->request->inventory;
        const PoolRules *rules = &c->request->pool->pool->rules;
        int r = 0;
        ARRAY_EACH(rule, rules) {
                if (r >= 0)
                        r = text_append(text, " --match '%s:%s%s%s=alone'", text_is_empty(rule->vendor) ? "*" :
                                        rule->vendor, text_is_empty(rule->device) ? "*" : rule->device,
                                        text_is_empty(rule->node) ? "" : "@",
                                        text_is_empty(rule->node) ? "" : rule->node);
        }
        for (size_t i = 0; r >= 0 && rules->n == 0 && i < c->room->n_gpus; i++)
                r = append_rule_of_gpu(c, &inventory->gpus.items[c->room->first_gpu + i].view->identity, text);
        return r;
}

/* Whoever stops, the sets are what they are. */
static int say_impossible(const Case *c, PlacementReason *ret) {
        uint32_t less, more;
        int r = text_printf(&ret->sentence, "the GPUs of %s are linked in sets that go to one VM whole: no set%s ha%s "
                            "%s%" PRIu32 " GPU%s%s", c->pool, PLURAL(c->count), c->count == 1 ? "s" : "ve",
                            c->count == 1 ? "" : "exactly ", c->count, PLURAL(c->count),
                            c->count == 1 ? "" : " together");
        if (r < 0)
                return r;
        find_possible(c, &less, &more);
        uint32_t nearest = less > 0 ? less : more;
        if (less > 0 && more > 0)
                r = text_printf(&ret->remedy, "ask for %" PRIu32 " or %" PRIu32, less, more);
        else if (nearest > 0)
                r = text_printf(&ret->remedy, "ask for %" PRIu32, nearest);
        else                            /* each set has some of another model */
                r = text_printf(&ret->remedy, "ask for any model (gpupoolctl vm requirement %s --model)",
                                c->request->vm->name);
        if (r >= 0 && nearest > 0)
                r = text_append(&ret->remedy, " (gpupoolctl vm requirement %s --gpus %" PRIu32 ")",
                                c->request->vm->name, nearest);
        if (r >= 0)
                r = text_append(&ret->remedy, "; or, if they may part, say so in the pool's rules (gpupoolctl pool "
                                "rules %s", c->pool);
        if (r >= 0)
                r = append_rules(c, &ret->remedy);
        return r < 0 ? r : text_append(&ret->remedy, ")");
}

int explain_sets(const Case *c, PlacementReason *ret) {
        Models models = c->request->models;
        if (!choice_is_possible(c->request->inventory, c->room, models, c->count))
                return say_impossible(c, ret);

        uint32_t less = c->count, distance, leftover;
        Inventory *inventory = c->request->inventory;
        size_t room = (size_t) (c->room - inventory->rooms.items);
        while (less > 0 && !choice_measure(inventory, room, models, less, &distance, &leftover))
                less--;
        uint32_t n_free = choice_count_free(inventory, c->room, models);
        int r = text_printf(&ret->sentence, "%" PRIu32 " free, but linked in sets that go whole: not exactly %" PRIu32
                                            " of them", n_free, c->count);
        uint32_t nearest = less > 0 ? less : n_free;
        Holders holders = {};
        if (r >= 0)
                r = holders_list(inventory, c->room, models, &holders);
        if (r >= 0)
                r = explain_stop(c, &holders, &ret->remedy);
        array_clear(&holders);
        return r < 0 ? r : text_append(&ret->remedy, "%sask for %" PRIu32 " (gpupoolctl vm requirement %s --gpus %"
                                       PRIu32 ")", ret->remedy ? "; or " : "", nearest, c->request->vm->name, nearest);
}

int explain_reserve(const Case *c, PlacementReason *ret) {
        const InventoryPool *pool = c->request->pool;
        int r = text_printf(&ret->sentence, "%s keeps %" PRIu32 " free for failover and has %" PRIu32 " free", c->pool,
                            pool->pool->reserve, pool->free);
        uint32_t less = pool->free - c->count;
        return r < 0 ? r : text_printf(&ret->remedy, "free %" PRIu32 " more of it (stop a VM of %s, or add GPUs), or "
                                       "lower its reserve (gpupoolctl pool policy %s --reserve %" PRIu32 ")",
                                       pool->pool->reserve - less, c->pool, c->pool, less);
}

int explain_max_in_use(const Case *c, PlacementReason *ret) {
        const InventoryPool *pool = c->request->pool;
        int r = text_printf(&ret->sentence, "%s has %" PRIu32 " in use and may have %" PRIu32, c->pool, pool->in_use,
                            pool->pool->max_in_use);
        return r < 0 ? r : text_printf(&ret->remedy, "stop a VM of %s, or raise its limit (gpupoolctl pool policy %s "
                                       "--max-in-use %" PRIu32 ")", c->pool, c->pool, pool->in_use + c->count);
}
