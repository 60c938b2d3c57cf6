/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/explain-node.h"

#include <errno.h>
#include <inttypes.h>

#include "core/explain-stop.h"

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

/* "stop bert", and on: " and render, of higher priority" */
static int say_stop(const Case *c, const Vm *other, char **remedy) {
        return text_append(remedy, "%s %s%s", *remedy ? " and" : "stop", other->name,
                           explain_rank(other, c->request->vm));
}

static int say_with(const Case *c, PlacementReason *ret) {
        ARRAY_EACH(relation, &c->request->relations) {
                if (relation->apart || text_equal(related_node_name(c, relation), node_name(c)))
                        continue;
                const char *other = related_vm(c, relation)->name;
                int r = text_append(&ret->sentence, "%s%s, which it must be with, runs on %s",
                                    ret->sentence ? "; " : "", other, related_node_name(c, relation));
                if (r >= 0)
                        r = say_stop(c, related_vm(c, relation), &ret->remedy);
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
                        r = say_stop(c, related_vm(c, relation), &ret->remedy);
                if (r < 0)
                        return r;
        }
        return text_append(&ret->remedy, ", or change the affinity (gpupoolctl vm policy %s --apart)",
                           c->request->vm->name);
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
        [HINDRANCE_NO_GPUS] = { "no-gpus", explain_no_gpus },
        [HINDRANCE_NOT_ENOUGH] = { "not-enough-gpus", explain_not_enough },
        [HINDRANCE_MODEL] = { "gpu-model", say_model },
        [HINDRANCE_TAKEN] = { "gpus-taken", explain_taken },
        [HINDRANCE_SETS] = { "linked-sets", explain_sets },
        [HINDRANCE_RESERVE] = { "reserve", explain_reserve },
        [HINDRANCE_MAX_IN_USE] = { "max-in-use", explain_max_in_use },
};

Case explain_case(const Request *request, const Finding *findings, size_t node) {
        const Inventory *inventory = request->inventory;
        return (Case) {
                .request = request,
                .node = inventory->nodes.items + node,
                .room = findings[node].room == NOWHERE ? NULL : inventory->rooms.items + findings[node].room,
                .pool = request->pool->pool->name,
                .count = request->vm->count,
        };
}

const char *hindrance_code(Hindrance hindrance) {
        return hindrances[hindrance].code;
}

int explain_hindrance(const Case *c, Hindrance hindrance, PlacementReason *ret) {
        return hindrances[hindrance].say(c, ret);
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
        case CRITERION_PLAN:
                return "so that others that wait find a place too";
        case CRITERION_NEEDED:
                return "no other VM loses the place that it needs";
        case CRITERION_AFFINITY:
                return "the VMs that it would rather be with or apart from";
        case CRITERION_FAILOVER:
                return "the largest VM keeps a place to go to";
        case CRITERION_TARGET:
                return "it is moved there";
        case CRITERION_PREFERRED:
                return "preferred";
        case CRITERION_POOL_PLACEMENT:
                return request->pool->pool->placement == POOL_SPREAD ? "the least in use (spread)"
                                                                     : "the fullest with room (pack)";
        case CRITERION_DISTANCE:
                return "its GPUs are closer together";
        case CRITERION_LARGE_HOLES:
        case CRITERION_SMALL_HOLES:
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

/* By what the first comes before the other. Where all who wait are placed together, that is often the same as each
 * would have by itself, and then it is for that. */
static const char *words_of_difference(const Request *request, const Rank *first, const Rank *other) {
        Rank by_itself = *first;
        int order, order_by_itself;
        Criterion criterion = rank_compare(first, other, &order);
        if (criterion != CRITERION_PLAN)
                return criterion_words(criterion, request);
        by_itself.keys[CRITERION_PLAN] = other->keys[CRITERION_PLAN];
        Criterion own = rank_compare(&by_itself, other, &order_by_itself);
        return criterion_words(order_by_itself < 0 ? own : criterion, request);
}

static int say_chosen(const Request *request, const Finding *findings, size_t best, size_t second, char **ret) {
        const Rank *rank = &findings[best].rank;
        uint32_t count = request->vm->count, distance = rank->keys[CRITERION_DISTANCE];
        int r;
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
                           words_of_difference(request, rank, &findings[second].rank));
}

static int say_fits(const Request *request, const Finding *findings, size_t node, size_t best, char **ret) {
        return text_printf(ret, "fits too; %s is taken first: %s", findings[best].rank.name,
                           words_of_difference(request, &findings[best].rank, &findings[node].rank));
}

int explain_node(const Request *request, const Finding *findings, size_t node, size_t best, size_t second,
                 PlacementAnswer *ret) {
        Case c = explain_case(request, findings, node);
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
                int r = reason ? explain_hindrance(&c, i, reason) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}
