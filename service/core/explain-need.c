/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Words for what a VM needs of a node beside free GPUs, where the node has it not. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/placement-internal.h"

#define NAMED_MAX 3
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SIZE_TEXT_SIZE 32

/* "64 GiB", "1536 MiB", "300 KiB"; what is not whole is rounded down, and not so far that two sizes look alike. */
static const char *size_to_text(uint64_t bytes, char text[static SIZE_TEXT_SIZE]) {
        if (bytes % GIB == 0)
                (void) snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 " GiB", bytes / GIB);
        else if (bytes >= MIB)
                (void) snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 " MiB", bytes / MIB);
        else
                (void) snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 " KiB", bytes / 1024);
        return text;
}

static bool needs_such(const VmNeeds *needs, const VmNeeds *other) {
        return needs->hugepages == other->hugepages &&
               (!needs->hugepages || needs->hugepage_size_bytes == other->hugepage_size_bytes);
}

/* What the VMs there need of the same kind of memory. */
static uint64_t needed_there(const Request *request, size_t node) {
        uint64_t bytes = 0;
        ARRAY_EACH(tenant, &request->inventory->tenants)
                if (tenant->node == node && !ID_EQUAL(&tenant->vm->id, &request->vm->id) &&
                    needs_such(&tenant->vm->needs, &request->vm->needs))
                        bytes += tenant->vm->needs.memory_bytes;
        return bytes;
}

/* @has: what there is of it in all; @kind: "memory", "hugepages of 1 GiB". */
static int say_too_little(const Request *request, size_t node, uint64_t has, const char *kind, PlacementReason *ret) {
        const char *name = request->vm->name, *node_name = request->inventory->nodes.items[node].record->name;
        uint64_t needed = request->vm->needs.memory_bytes, there = needed_there(request, node);
        char has_text[SIZE_TEXT_SIZE], needed_text[SIZE_TEXT_SIZE], there_text[SIZE_TEXT_SIZE];
        (void) size_to_text(has, has_text);
        (void) size_to_text(needed, needed_text);
        (void) size_to_text(there, there_text);

        int r = needed > has || there == 0
                        ? text_printf(&ret->sentence, "it has %s of %s and %s needs %s", has_text, kind, name,
                                      needed_text)
                        : text_printf(&ret->sentence, "it has %s of %s, the VMs there need %s of it and %s needs %s",
                                      has_text, kind, there_text, name, needed_text);
        if (r < 0)
                return r;
        return needed > has ? text_printf(&ret->remedy, "give %s less memory (gpupoolctl vm update %s FILE), or %s "
                                          "more of it", name, name, node_name)
                            : text_printf(&ret->remedy, "stop a VM there, or give %s less memory (gpupoolctl vm "
                                          "update %s FILE)", name, name);
}

static int say_memory(const Request *request, size_t node, PlacementReason *ret) {
        const NodeFacts *facts = request->inventory->nodes.items[node].facts;
        return say_too_little(request, node, facts ? facts->memory_total : 0, "memory", ret);
}

static int say_hugepages(const Request *request, size_t node, PlacementReason *ret) {
        const NodeFacts *facts = request->inventory->nodes.items[node].facts;
        uint64_t size = request->vm->needs.hugepage_size_bytes, has = 0;
        char kind[64], size_text[SIZE_TEXT_SIZE];
        for (size_t i = 0; facts && i < facts->n_hugepages; i++)
                if (size == 0 || facts->hugepages[i].size_bytes == size)
                        has += facts->hugepages[i].size_bytes * facts->hugepages[i].total;
        (void) snprintf(kind, sizeof(kind), size > 0 ? "hugepages of %s" : "hugepages", size_to_text(size, size_text));
        return say_too_little(request, node, has, kind, ret);
}

static int say_cpu(const Request *request, size_t node, PlacementReason *ret) {
        const NodeFacts *facts = request->inventory->nodes.items[node].facts;
        const VmNeeds *needs = &request->vm->needs;
        bool both = needs->cpu_vendor && needs->cpu_model;
        int r = text_printf(&ret->sentence, "its CPU is %s and the XML of %s asks for %s%s%s",
                            facts && facts->cpu_model ? facts->cpu_model : "not known", request->vm->name,
                            needs->cpu_vendor ? needs->cpu_vendor : "", both ? " " : "",
                            needs->cpu_model ? needs->cpu_model : "");
        return r < 0 ? r : text_printf(&ret->remedy, "choose a node that has it, or change the <cpu> of %s "
                                       "(gpupoolctl vm update %s FILE)", request->vm->name, request->vm->name);
}

static int say_storage(const Request *request, size_t node, PlacementReason *ret) {
        const TextList *paths = &request->vm->needs.paths;
        int r = text_set(&ret->sentence, "not all that it needs is there:");
        for (size_t i = 0; r >= 0 && i < paths->n && i < NAMED_MAX; i++)
                r = text_append(&ret->sentence, "%s %s", i > 0 ? "," : "", paths->items[i]);
        if (r >= 0 && paths->n > NAMED_MAX)
                r = text_append(&ret->sentence, " and %zu more", paths->n - NAMED_MAX);
        return r < 0 ? r : text_printf(&ret->remedy, "give %s the storage that the other nodes see",
                                       request->inventory->nodes.items[node].record->name);
}

static int say_model(const Request *request, size_t node, PlacementReason *ret) {
        const Inventory *inventory = request->inventory;
        const Vm *vm = request->vm;
        const char *pool = request->pool->pool->name;
        uint32_t usable = 0, n = 0;
        for (size_t i = request->pool->first_room; i < request->pool->first_room + request->pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + i;
                if (room->node != node)
                        continue;
                usable = room->usable;
                for (size_t k = room->first_gpu; k < room->first_gpu + room->n_gpus; k++) {
                        const GpuIdentity *gpu = &inventory->gpus.items[k].view->identity;
                        n += inventory_gpu_is_usable(inventory, k) && vm_model_matches(vm, gpu->vendor, gpu->device);
                }
        }
        int r = text_printf(&ret->sentence, "%" PRIu32 " of the %" PRIu32 " usable GPU%s of %s %s %s and %s needs %"
                            PRIu32, n, usable, usable == 1 ? "" : "s", pool, n == 1 ? "is a" : "are",
                            vm->model ? vm->model : "*:*", vm->name, vm->count);
        return r < 0 ? r : text_printf(&ret->remedy, "add GPUs of this model (gpupoolctl pool add %s GPU), or ask for "
                                       "another one (gpupoolctl vm requirement %s --model)", pool, vm->name);
}

int explain_need(const Request *request, Hindrance hindrance, size_t node, PlacementReason *ret) {
        switch (hindrance) {
        case HINDRANCE_CPU:
                return say_cpu(request, node, ret);
        case HINDRANCE_STORAGE:
                return say_storage(request, node, ret);
        case HINDRANCE_MEMORY:
                return say_memory(request, node, ret);
        case HINDRANCE_HUGEPAGES:
                return say_hugepages(request, node, ret);
        case HINDRANCE_MODEL:
                return say_model(request, node, ret);
        case HINDRANCE_LOST:
        case HINDRANCE_WITNESS:
        case HINDRANCE_DRAINED:
        case HINDRANCE_SILENT:
        case HINDRANCE_LEVEL:
        case HINDRANCE_JOINING:
        case HINDRANCE_HYPERVISOR:
        case HINDRANCE_GUARD:
        case HINDRANCE_WITH:
        case HINDRANCE_APART:
        case HINDRANCE_NO_GPUS:
        case HINDRANCE_NOT_ENOUGH:
        case HINDRANCE_TAKEN:
        case HINDRANCE_SETS:
        case HINDRANCE_RESERVE:
        case HINDRANCE_MAX_IN_USE:
        case HINDRANCE_COUNT:
                break;
        }
        return -EINVAL;
}
