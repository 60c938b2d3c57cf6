/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Placement in words: what stands in the way on each node and what would change it, and why a VM is in its state. */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>

#include "core/placement-internal.h"

/* How many VMs or GPUs a sentence names before it says "and N more". */
#define NAMED_MAX 3

#define PLURAL(n) ((n) == 1 ? "" : "s")

/* One question on one node. */
typedef struct Case {
        const Request *request;
        const InventoryNode *node;
        const Room *room;               /* or NULL */
        const char *pool;
        uint32_t count;
} Case;

/* A VM that has GPUs which another one would need. */
typedef struct Holder {
        const Vm *vm;
        uint32_t n;
} Holder;

typedef ARRAY(Holder) Holders;

static const char *node_name(const Case *c) {
        return c->node->record->name;
}

static const Vm *related_vm(const Case *c, const Relation *relation) {
        return c->request->inventory->tenants.items[relation->tenant].vm;
}

static const char *related_node_name(const Case *c, const Relation *relation) {
        const Inventory *inventory = c->request->inventory;
        return inventory->nodes.items[inventory->tenants.items[relation->tenant].node].record->name;
}

static const char *evidence_words(LossEvidence evidence) {
        switch (evidence) {
        case LOSS_BY_LEASE:
                return "it was lost: its lease ran out";
        case LOSS_BY_POWER_OFF:
                return "it was lost: a fence agent switched it off";
        case LOSS_BY_WORD:
                return "it was lost: an administrator confirmed that it is off";
        case LOSS_BY_NEW_BOOT:
        case LOSS_EVIDENCE_COUNT:
                break;
        }
        return "it was lost";
}

static int say_lost(const Case *c, PlacementReason *ret) {
        if (!c->node->record->lost) {   /* what if it were */
                int r = text_set(&ret->sentence, "lost");
                return r < 0 ? r : text_printf(&ret->remedy, "bring %s back", node_name(c));
        }
        int r = text_set(&ret->sentence, evidence_words(c->node->record->evidence));
        return r < 0 ? r : text_printf(&ret->remedy, "start %s again, or see there: systemctl status gpupoold",
                                       node_name(c));
}

/* Who asked for it, where the journal still knows; "" for nobody. */
static const char *find_drainer(const Registry *registry, const NodeId *node) {
        char id[ID_TEXT_SIZE];
        id_to_text(node->bytes, id);
        for (size_t i = registry->events.n; i > 0; i--) {
                const Event *event = registry->events.items + i - 1;
                if (text_equal(event->kind, "node-draining") && text_equal(event->object, id))
                        return event->user;
        }
        return "";
}

static int say_drained(const Case *c, PlacementReason *ret) {
        const NodeRecord *record = c->node->record;
        const char *user = find_drainer(c->request->inventory->world->registry, &record->id);
        int r = record->drain == DRAIN_FLAPPING
                        ? text_printf(&ret->sentence, "it was lost %u times within an hour and takes no VM until it is "
                                      "resumed", FLAP_LOSSES)
                        : text_printf(&ret->sentence, "it is drained%s%s", *user ? ", by " : "", user);
        return r < 0 ? r : text_printf(&ret->remedy, "resume it (gpupoolctl node resume %s)", record->name);
}

static int say_joining(const Case *c, PlacementReason *ret) {
        int r = text_set(&ret->sentence, "it is joining: it has not announced its leases yet");
        return r < 0 ? r : text_printf(&ret->remedy, "wait a moment; if it stays so, see on %s: systemctl status "
                                       "gpupoold", node_name(c));
}

static int say_witness(const Case *c, PlacementReason *ret) {
        int r = text_set(&ret->sentence, "it is a witness: it votes and runs no VM");
        return r < 0 ? r : text_set(&ret->remedy, "choose another node");
}

static int say_silent(const Case *c, PlacementReason *ret) {
        int r = text_set(&ret->sentence, "nothing is heard from it");
        return r < 0 ? r : text_printf(&ret->remedy, "see on %s: systemctl status gpupoold", node_name(c));
}

static int say_level(const Case *c, PlacementReason *ret) {
        int r = text_printf(&ret->sentence,
                            "its gpupool supports level %" PRIu32 " and the cluster is at level %" PRIu32,
                            c->node->record->level, c->request->inventory->world->registry->level);
        return r < 0 ? r : text_printf(&ret->remedy, "upgrade gpupool on %s", node_name(c));
}

static int say_hypervisor(const Case *c, PlacementReason *ret) {
        const char *what = "libvirt is not connected yet";
        switch (c->node->facts->hypervisor) {
        case HYPERVISOR_ABSENT:
                what = "libvirt does not run";
                break;
        case HYPERVISOR_HUNG:
                what = "libvirt does not answer";
                break;
        case HYPERVISOR_CONNECTING:
        case HYPERVISOR_CONNECTED:
                break;
        }
        int r = text_set(&ret->sentence, what);
        return r < 0 ? r : text_printf(&ret->remedy, "see on %s: systemctl status libvirtd", node_name(c));
}

static int say_guard(const Case *c, PlacementReason *ret) {
        int r = text_set(&ret->sentence, "the guard does not answer, and without it no VM is started");
        return r < 0 ? r : text_printf(&ret->remedy, "see on %s: systemctl status gpupool-guard", node_name(c));
}

static int say_with(const Case *c, PlacementReason *ret) {
        ARRAY_EACH(relation, &c->request->relations) {
                if (relation->apart || text_equal(related_node_name(c, relation), node_name(c)))
                        continue;
                const char *other = related_vm(c, relation)->name;
                int r = text_append(&ret->sentence, "%s%s, which it must be with, runs on %s",
                                    ret->sentence ? "; " : "", other, related_node_name(c, relation));
                if (r >= 0)
                        r = text_append(&ret->remedy, "%s %s", ret->remedy ? " and" : "stop", other);
                if (r < 0)
                        return r;
        }
        return text_append(&ret->remedy, ", or change the affinity (gpupoolctl vm policy %s --with)",
                           c->request->vm->name);
}

static int say_apart(const Case *c, PlacementReason *ret) {
        ARRAY_EACH(relation, &c->request->relations) {
                if (!relation->apart || !text_equal(related_node_name(c, relation), node_name(c)))
                        continue;
                const char *other = related_vm(c, relation)->name;
                int r = text_append(&ret->sentence, "%s%s, which it must stay apart from, runs here",
                                    ret->sentence ? "; " : "", other);
                if (r >= 0)
                        r = text_append(&ret->remedy, "%s %s", ret->remedy ? " and" : "stop", other);
                if (r < 0)
                        return r;
        }
        return text_append(&ret->remedy, ", or change the affinity (gpupoolctl vm policy %s --apart)",
                           c->request->vm->name);
}

static int say_add_gpus(const Case *c, char **remedy) {
        return text_printf(remedy, "add GPUs of %s (gpupoolctl pool add %s GPU)", node_name(c), c->pool);
}

static int say_no_gpus(const Case *c, PlacementReason *ret) {
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

static int say_not_enough(const Case *c, PlacementReason *ret) {
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

static int compare_holders(const void *a, const void *b) {
        const Holder *x = a, *y = b;
        if (x->vm->priority != y->vm->priority)
                return x->vm->priority < y->vm->priority ? -1 : 1;
        if (x->n != y->n)
                return x->n > y->n ? -1 : 1;
        return strcmp(x->vm->name, y->vm->name);
}

/* Who has the room's usable GPUs: those first that one would rather stop. */
static int list_holders(const Inventory *inventory, const Room *room, Holders *ret) {
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                if (!inventory_gpu_is_usable(inventory, i) || inventory_gpu_is_free(inventory, i))
                        continue;
                size_t tenant = inventory_gpu_holder(inventory, i);
                if (tenant == NOBODY)
                        continue;
                const Vm *vm = inventory->tenants.items[tenant].vm;
                Holder *known = NULL;
                ARRAY_EACH(holder, ret)
                        if (holder->vm == vm)
                                known = holder;
                if (known)
                        known->n++;
                else if (array_append(ret, &((Holder) { .vm = vm, .n = 1 })) < 0)
                        return -ENOMEM;
        }
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_holders);
        return 0;
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
        return holders->n > NAMED_MAX ? text_append(text, ", the rest %zu other VMs", holders->n - NAMED_MAX) : 0;
}

/* "stop bert and render", just as many as it takes. */
static int say_whom_to_stop(const Case *c, const Holders *holders, char **text) {
        uint32_t free = c->room->free;
        size_t n = 0;
        for (; n < holders->n && free < c->count; n++) {
                int r = text_append(text, "%s%s", n == 0 ? "stop " : " and ", holders->items[n].vm->name);
                if (r < 0)
                        return r;
                free += holders->items[n].n;
        }
        if (n == 1)
                return text_append(text, " (gpupoolctl vm stop %s)", holders->items[0].vm->name);
        return n > 0 ? text_append(text, " (gpupoolctl vm stop VM)") : text_append(text, "wait for another VM to stop");
}

static int say_taken(const Case *c, PlacementReason *ret) {
        Holders holders = {};
        int r = list_holders(c->request->inventory, c->room, &holders);
        if (r >= 0)
                r = text_printf(&ret->sentence, "%" PRIu32 " usable", c->room->usable);
        if (r >= 0)
                r = say_holders(c, &holders, &ret->sentence);
        if (r >= 0)
                r = say_whom_to_stop(c, &holders, &ret->remedy);
        array_clear(&holders);
        return r;
}

/* The largest number below @count, and the smallest above it, that sets can give; 0: none. */
static void find_possible(const Case *c, uint32_t *ret_less, uint32_t *ret_more) {
        const Inventory *inventory = c->request->inventory;
        uint32_t less = c->count - 1, more = c->count + 1;
        while (less > 0 && !choice_is_possible(inventory, c->room, less))
                less--;
        while (more <= c->room->usable && !choice_is_possible(inventory, c->room, more))
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
        else
                r = text_printf(&ret->remedy, "ask for %" PRIu32, nearest);
        if (r >= 0)
                r = text_append(&ret->remedy, " (gpupoolctl vm requirement %s --gpus %" PRIu32 "); or, if they may "
                                "part, say so in the pool's rules (gpupoolctl pool rules %s", c->request->vm->name,
                                nearest, c->pool);
        if (r >= 0)
                r = append_rules(c, &ret->remedy);
        return r < 0 ? r : text_append(&ret->remedy, ")");
}

static int say_sets(const Case *c, PlacementReason *ret) {
        if (!choice_is_possible(c->request->inventory, c->room, c->count))
                return say_impossible(c, ret);

        uint32_t less = c->count, distance, leftover;
        Inventory *inventory = c->request->inventory;
        size_t room = (size_t) (c->room - inventory->rooms.items);
        while (less > 0 && !choice_measure(inventory, room, less, &distance, &leftover))
                less--;
        int r = text_printf(&ret->sentence, "%" PRIu32 " free, but linked in sets that go whole: not exactly %" PRIu32
                                            " of them", c->room->free, c->count);
        uint32_t nearest = less > 0 ? less : c->room->free;
        return r < 0 ? r : text_printf(&ret->remedy, "stop a VM there, or ask for %" PRIu32 " (gpupoolctl vm "
                                       "requirement %s --gpus %" PRIu32 ")", nearest, c->request->vm->name, nearest);
}

static int say_reserve(const Case *c, PlacementReason *ret) {
        const InventoryPool *pool = c->request->pool;
        int r = text_printf(&ret->sentence, "%s keeps %" PRIu32 " free for failover and has %" PRIu32 " free", c->pool,
                            pool->pool->reserve, pool->free);
        return r < 0 ? r : text_printf(&ret->remedy, "stop a VM of %s, or lower its reserve (gpupoolctl pool policy %s "
                                                     "--reserve N)", c->pool, c->pool);
}

static int say_max_in_use(const Case *c, PlacementReason *ret) {
        const InventoryPool *pool = c->request->pool;
        int r = text_printf(&ret->sentence, "%s has %" PRIu32 " in use and may have %" PRIu32, c->pool, pool->in_use,
                            pool->pool->max_in_use);
        return r < 0 ? r : text_printf(&ret->remedy, "stop a VM of %s, or raise its limit (gpupoolctl pool policy %s "
                                                     "--max-in-use N)", c->pool, c->pool);
}

static size_t case_node(const Case *c) {
        return (size_t) (c->node - c->request->inventory->nodes.items);
}

static int say_cpu(const Case *c, PlacementReason *ret) {
        return explain_need(c->request, HINDRANCE_CPU, case_node(c), ret);
}

static int say_storage(const Case *c, PlacementReason *ret) {
        return explain_need(c->request, HINDRANCE_STORAGE, case_node(c), ret);
}

static int say_memory(const Case *c, PlacementReason *ret) {
        return explain_need(c->request, HINDRANCE_MEMORY, case_node(c), ret);
}

static int say_hugepages(const Case *c, PlacementReason *ret) {
        return explain_need(c->request, HINDRANCE_HUGEPAGES, case_node(c), ret);
}

static int say_model(const Case *c, PlacementReason *ret) {
        return explain_need(c->request, HINDRANCE_MODEL, case_node(c), ret);
}

static const struct {
        const char *code;
        int (*say)(const Case *c, PlacementReason *ret);
} hindrances[HINDRANCE_COUNT] = {
        [HINDRANCE_LOST] = { "node-lost", say_lost },
        [HINDRANCE_WITNESS] = { "witness", say_witness },
        [HINDRANCE_DRAINED] = { "draining", say_drained },
        [HINDRANCE_SILENT] = { "node-silent", say_silent },
        [HINDRANCE_LEVEL] = { "level", say_level },
        [HINDRANCE_JOINING] = { "joining", say_joining },
        [HINDRANCE_HYPERVISOR] = { "no-hypervisor", say_hypervisor },
        [HINDRANCE_GUARD] = { "no-guard", say_guard },
        [HINDRANCE_WITH] = { "affinity-with", say_with },
        [HINDRANCE_APART] = { "affinity-apart", say_apart },
        [HINDRANCE_CPU] = { "cpu-model", say_cpu },
        [HINDRANCE_STORAGE] = { "storage", say_storage },
        [HINDRANCE_MEMORY] = { "memory", say_memory },
        [HINDRANCE_HUGEPAGES] = { "hugepages", say_hugepages },
        [HINDRANCE_NO_GPUS] = { "no-gpus", say_no_gpus },
        [HINDRANCE_NOT_ENOUGH] = { "not-enough-gpus", say_not_enough },
        [HINDRANCE_MODEL] = { "gpu-model", say_model },
        [HINDRANCE_TAKEN] = { "gpus-taken", say_taken },
        [HINDRANCE_SETS] = { "linked-sets", say_sets },
        [HINDRANCE_RESERVE] = { "reserve", say_reserve },
        [HINDRANCE_MAX_IN_USE] = { "max-in-use", say_max_in_use },
};

static Case case_of(const Request *request, const Finding *findings, size_t node) {
        const Inventory *inventory = request->inventory;
        return (Case) {
                .request = request,
                .node = inventory->nodes.items + node,
                .room = findings[node].room == NOWHERE ? NULL : inventory->rooms.items + findings[node].room,
                .pool = request->pool->pool->name,
                .count = request->vm->count,
        };
}

static PlacementReason *add_reason(PlacementAnswer *answer, const char *code) {
        PlacementReason *grown = realloc(answer->reasons, (answer->n_reasons + 1) * sizeof(*grown));
        if (!grown)
                return NULL;
        answer->reasons = grown;
        grown[answer->n_reasons] = (PlacementReason) { .code = code };
        return grown + answer->n_reasons++;
}

static const char *criterion_words(Criterion criterion, const Request *request) {
        switch (criterion) {
        case CRITERION_TARGET:
                return "it is moved there";
        case CRITERION_PREFERRED:
                return "preferred";
        case CRITERION_POOL_PLACEMENT:
                return request->pool->pool->placement == POOL_SPREAD ? "the least in use (spread)"
                                                                     : "the fullest with room (pack)";
        case CRITERION_DISTANCE:
                return "its GPUs are closer together";
        case CRITERION_SWITCH_HOLES:
        case CRITERION_NODE_HOLES:
                return "it leaves larger holes whole";
        case CRITERION_RAN_LAST:
                return "it ran there last";
        case CRITERION_NAME:
        case CRITERION_COUNT:
                break;
        }
        return "first by name";
}

static int say_chosen(const Request *request, const Finding *findings, size_t best, size_t second, char **ret) {
        const Rank *rank = &findings[best].rank;
        uint32_t count = request->vm->count, distance = rank->keys[CRITERION_DISTANCE];
        int order, r;
        if (count == 1)
                r = text_printf(ret, "1 GPU of %s", request->pool->pool->name);
        else if (distance == 0)
                r = text_printf(ret, "%" PRIu32 " GPUs of %s close together, same switch", count,
                                request->pool->pool->name);
        else if (distance < NUMA_DISTANCE)
                r = text_printf(ret, "%" PRIu32 " GPUs of %s on one NUMA node", count, request->pool->pool->name);
        else
                r = text_printf(ret, "%" PRIu32 " GPUs of %s on %" PRIu32 " NUMA nodes", count,
                                request->pool->pool->name, distance / NUMA_DISTANCE + 1);
        if (r < 0)
                return r;
        if (second == NOWHERE)
                return text_append(ret, "; no other node fits now");
        return text_append(ret, "; before %s: %s", findings[second].rank.name,
                           criterion_words(rank_compare(rank, &findings[second].rank, &order), request));
}

static int say_fits(const Request *request, const Finding *findings, size_t node, size_t best, char **ret) {
        int order;
        Criterion criterion = rank_compare(&findings[best].rank, &findings[node].rank, &order);
        return text_printf(ret, "fits too; %s is taken first: %s", findings[best].rank.name,
                           criterion_words(criterion, request));
}

int explain_node(const Request *request, const Finding *findings, size_t node, size_t best, size_t second,
                 PlacementAnswer *ret) {
        Case c = case_of(request, findings, node);
        ret->fits = findings[node].hindrances == 0;
        ret->chosen = node == best;
        if (ret->fits) {
                PlacementReason *reason = add_reason(ret, ret->chosen ? "chosen" : "fits");
                if (!reason)
                        return -ENOMEM;
                return ret->chosen ? say_chosen(request, findings, best, second, &reason->sentence)
                                   : say_fits(request, findings, node, best, &reason->sentence);
        }

        for (Hindrance i = 0; i < HINDRANCE_COUNT; i++) {
                if (!(findings[node].hindrances & HINDRANCE_BIT(i)))
                        continue;
                PlacementReason *reason = add_reason(ret, hindrances[i].code);
                int r = reason ? hindrances[i].say(&c, reason) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

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

/* The node where least would have to change: few hindrances, many free GPUs. Those of the pool are everywhere. */
static size_t find_nearest(const Request *request, const Finding *findings, size_t n) {
        const unsigned of_pool = HINDRANCE_BIT(HINDRANCE_RESERVE) | HINDRANCE_BIT(HINDRANCE_MAX_IN_USE);
        const unsigned hopeless = HINDRANCE_BIT(HINDRANCE_NO_GPUS) | HINDRANCE_BIT(HINDRANCE_NOT_ENOUGH) |
                                  HINDRANCE_BIT(HINDRANCE_SETS);
        const Room *rooms = request->inventory->rooms.items;
        size_t nearest = NOWHERE;
        int nearest_cost = 0;
        for (size_t i = 0; i < n; i++) {
                unsigned found = findings[i].hindrances & ~of_pool;
                const Room *room = findings[i].room == NOWHERE ? NULL : rooms + findings[i].room;
                uint32_t free = !room ? 0 : room->free < 999 ? room->free : 999;
                int cost = count_hindrances(found) * 1000 + (found & hopeless ? 100000 : 0) - (int) free;
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
        Case c = case_of(request, findings, nearest);
        /* Where the node itself is ready, what is left is the pool's. */
        Hindrance hindrance = first_hindrance(found & ~of_pool ? found & ~of_pool : found);
        bool about_node = (HINDRANCE_BIT(hindrance) & of_pool) == 0;
        PlacementReason reason = {};
        int r = hindrances[hindrance].say(&c, &reason);
        if (r >= 0 && about_node && hindrance == HINDRANCE_TAKEN)
                r = text_append(ret, "it needs %" PRIu32 " of %s; %s has ", c.count, c.pool, node_name(&c));
        else if (r >= 0 && about_node)
                r = text_append(ret, "on %s ", node_name(&c));
        if (r >= 0)
                r = text_append(ret, "%s. %c%s", reason.sentence, toupper((unsigned char) reason.remedy[0]),
                                reason.remedy + 1);
        free(reason.sentence);
        free(reason.remedy);
        *ret_code = hindrances[hindrance].code;
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

static int waiting_reason(Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence) {
        Placement placement;
        int r = placement_find_in(inventory, vm, &placement);
        if (r < 0)
                return r;
        *ret_code = placement.code;
        if (r != PLACEMENT_FOUND)
                *ret_sentence = STEAL(placement.summary);
        placement_clear(&placement);
        return 0;
}

static int backoff_reason(Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence) {
        int r = waiting_reason(inventory, vm, ret_code, ret_sentence);
        if (r < 0 || *ret_sentence)
                return r;
        *ret_code = vm->reason_code;
        return text_printf(ret_sentence, "vm %s failed %" PRIu32 " of %u times: %s. It is tried again by itself",
                           vm->name, vm->attempts, VM_ATTEMPTS_MAX, vm->reason ? vm->reason : "it did not say why");
}

static int ended_reason(const Vm *vm, const char **ret_code, char **ret_sentence) {
        if (text_is_empty(vm->reason_code))
                return 0;
        *ret_code = vm->reason_code;
        const char *reason = vm->reason ? vm->reason : "it did not say why";
        if (vm_state(vm) == VM_STATE_FAILED)
                return text_printf(ret_sentence, "vm %s failed%s: %s. Mend that, then: gpupoolctl vm start %s",
                                   vm->name, vm->attempts >= VM_ATTEMPTS_MAX ? " too often" : "", reason, vm->name);
        return text_printf(ret_sentence, "vm %s stopped: %s. Start it again with: gpupoolctl vm start %s", vm->name,
                           reason, vm->name);
}

/* What keeps it on its way up or down: neither is done without libvirt and guard of its node. */
static int stalled_reason(const Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence) {
        InventoryNode node = {
                .record = registry_find_node(inventory->world->registry, &vm->assignment.node),
                .facts = world_find_facts(inventory->world, &vm->assignment.node),
        };
        if (!node.record || !node.facts)
                return 0;
        bool hypervisor = node.facts->hypervisor != HYPERVISOR_CONNECTED;
        if (!hypervisor && node.facts->guard_connected)
                return 0;

        Case c = { .node = &node };
        PlacementReason reason = {};
        const char *way = vm_state(vm) == VM_STATE_STARTING ? "starts" : "stops";
        int r = hypervisor ? say_hypervisor(&c, &reason) : say_guard(&c, &reason);
        if (r >= 0)
                r = text_printf(ret_sentence, "vm %s %s as soon as it can: on %s %s. %c%s", vm->name, way,
                                node.record->name, reason.sentence, toupper((unsigned char) reason.remedy[0]),
                                reason.remedy + 1);
        free(reason.sentence);
        free(reason.remedy);
        *ret_code = hindrances[hypervisor ? HINDRANCE_HYPERVISOR : HINDRANCE_GUARD].code;
        return r;
}

/* It is stopped to run elsewhere, at somebody's wish or because its node is drained. */
static int moving_reason(const World *world, const Vm *vm, const char **ret_code, char **ret_sentence) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        const NodeRecord *target = registry_find_node(world->registry, &vm->target);
        if (!vm->run || !node || (!target && id_is_null(vm->home.bytes)))
                return 0;
        *ret_code = "moving";
        return text_printf(ret_sentence, "vm %s moves to %s and stops on %s first", vm->name,
                           target ? target->name : "another node", node->name);
}

/* Nobody knows whether it still runs; with leases, that ends by itself. */
static int silent_reason(const World *world, const Vm *vm, const char **ret_code, char **ret_sentence) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        if (!node || world_node_state(world, &node->id) != NODE_STATE_SILENT)
                return 0;
        *ret_code = "node-silent";
        bool waits = vm->assignment.leased && registry_has_ordinary_leases(world->registry);
        return text_printf(ret_sentence,
                           waits ? "node %s is not heard of: vm %s starts elsewhere as soon as it is known to be dead "
                                   "there"
                                 : "node %s is not heard of, and no time proves that vm %s is dead there: bring the "
                                   "node back, or see that it is off and confirm it (gpupoolctl node confirm-down)",
                           node->name, vm->name);
}

int vm_reason_in(Inventory *inventory, const Vm *vm, char **ret_code, char **ret_sentence) {
        const char *code = "";
        _cleanup_free_ char *sentence = NULL;
        int r = 0;
        switch (vm_state(vm)) {
        case VM_STATE_WAITING:
                r = waiting_reason(inventory, vm, &code, &sentence);
                break;
        case VM_STATE_BACKOFF:
                r = backoff_reason(inventory, vm, &code, &sentence);
                break;
        case VM_STATE_FAILED:
        case VM_STATE_STOPPED:
                r = ended_reason(vm, &code, &sentence);
                break;
        case VM_STATE_STARTING:
        case VM_STATE_STOPPING:
                r = stalled_reason(inventory, vm, &code, &sentence);
                if (r >= 0 && !sentence)
                        r = silent_reason(inventory->world, vm, &code, &sentence);
                if (r >= 0 && !sentence && vm_state(vm) == VM_STATE_STOPPING)
                        r = moving_reason(inventory->world, vm, &code, &sentence);
                break;
        case VM_STATE_RUNNING:
                r = silent_reason(inventory->world, vm, &code, &sentence);
                break;
        case VM_STATE_COUNT:
                break;
        }
        if (r < 0)
                return r;

        _cleanup_free_ char *code_copy = NULL;
        r = text_set(&code_copy, code ? code : "");
        if (r >= 0 && !sentence)
                r = text_set(&sentence, "");
        if (r < 0)
                return r;
        *ret_code = STEAL(code_copy);
        *ret_sentence = STEAL(sentence);
        return 0;
}

int vm_reason(const World *world, const Vm *vm, char **ret_code, char **ret_sentence) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        return vm_reason_in(inventory, vm, ret_code, ret_sentence);
}
