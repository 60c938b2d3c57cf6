/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Words for what a VM needs of a node beside free GPUs, where the node has it not. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/capacity.h"
#include "core/placement-internal.h"

#define NAMED_MAX 3
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SIZE_TEXT_SIZE 32
#define KIND_TEXT_SIZE 80

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

/* "memory", "hugepages of 1 GiB", and where that counts "... on its NUMA nodes". */
static void name_kind(const VmNeeds *needs, const CapacityRoom *room, char kind[static KIND_TEXT_SIZE]) {
        char size_text[SIZE_TEXT_SIZE];
        uint64_t size = room->page_size_bytes > 0 ? room->page_size_bytes : needs->hugepage_size_bytes;
        const char *where = room->numa_nodes > 0 ? " on the NUMA nodes of its XML" : "";
        if (!needs->hugepages)
                (void) snprintf(kind, KIND_TEXT_SIZE, "memory%s", where);
        else if (size == 0)
                (void) snprintf(kind, KIND_TEXT_SIZE, "hugepages%s", where);
        else
                (void) snprintf(kind, KIND_TEXT_SIZE, "hugepages of %s%s", size_to_text(size, size_text), where);
}

/* Ordinary memory, or hugepages. */
static int say_memory(const Request *request, size_t node, PlacementReason *ret) {
        const InventoryNode *there = request->inventory->nodes.items + node;
        const VmNeeds *needs = &request->vm->needs;
        const char *name = request->vm->name, *node_name = there->record->name;
        CapacityRoom room = capacity_room(needs, there->facts, request->inventory->taken + node);
        char kind[KIND_TEXT_SIZE], has[SIZE_TEXT_SIZE], needed[SIZE_TEXT_SIZE], others[SIZE_TEXT_SIZE];
        name_kind(needs, &room, kind);
        (void) size_to_text(room.has_bytes, has);
        (void) size_to_text(needs->memory_bytes, needed);
        (void) size_to_text(room.taken_bytes, others);

        bool never = needs->memory_bytes > room.has_bytes;
        int r = never || room.taken_bytes == 0
                        ? text_printf(&ret->sentence, "it has %s of %s and %s needs %s", has, kind, name, needed)
                        : text_printf(&ret->sentence, "it has %s of %s, the VMs there need %s of it and %s needs %s",
                                      has, kind, others, name, needed);
        if (r < 0)
                return r;
        return never ? text_printf(&ret->remedy, "give %s less memory (gpupoolctl vm update %s FILE), or %s more of "
                                   "it", name, name, node_name)
                     : text_printf(&ret->remedy, "stop a VM there, or give %s less memory (gpupoolctl vm update %s "
                                   "FILE)", name, name);
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

/* "/a, /b, /c and 2 more" of those that are missing, or hang; how many there are. Or -ENOMEM. */
static int list_lost(const VmNeeds *needs, const NodeFacts *facts, bool hanging, char **ret) {
        const char *path = NULL;
        bool hangs;
        int n = 0, r = 0;
        while (r >= 0 && (path = capacity_next_lost_path(needs, facts, path, &hangs)))
                if (hangs == hanging && n++ < NAMED_MAX)
                        r = text_append(ret, "%s%s", n > 1 ? ", " : "", path);
        if (r >= 0 && n > NAMED_MAX)
                r = text_append(ret, " and %i more", n - NAMED_MAX);
        return r < 0 ? r : n;
}

static int say_storage(const Request *request, size_t node, PlacementReason *ret) {
        const InventoryNode *there = request->inventory->nodes.items + node;
        const VmNeeds *needs = &request->vm->needs;
        _cleanup_free_ char *missing = NULL, *hanging = NULL;
        int n_missing = list_lost(needs, there->facts, false, &missing);
        int n_hanging = n_missing < 0 ? n_missing : list_lost(needs, there->facts, true, &hanging);
        if (n_hanging < 0)
                return n_hanging;
        int r = n_missing > 0 ? text_append(&ret->sentence, "it has not %s%s", missing, n_hanging > 0 ? ", and " : "")
                              : 0;
        if (r >= 0 && n_hanging > 0)
                r = text_append(&ret->sentence, "the storage of %s does not answer there", hanging);
        if (r < 0)
                return r;
        return n_hanging > 0 ? text_printf(&ret->remedy, "see on %s what serves it (findmnt)", there->record->name)
                             : text_printf(&ret->remedy, "give %s the storage that the other nodes see",
                                           there->record->name);
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
                n = choice_count_usable(inventory, room, request->models);
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
        case HINDRANCE_HUGEPAGES:
                return say_memory(request, node, ret);
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
