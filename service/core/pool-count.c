/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pool-count.h"

#include <errno.h>
#include <inttypes.h>

#include "core/survival.h"

void pool_counts_clear(PoolCounts *counts) {
        free(counts->at_risk);
        text_list_clear(&counts->mixed);
        *counts = (PoolCounts) {};
}

/* ---- how the GPUs differ */

/* How many GPUs are named before it says "and N more". */
#define NAMED_MAX 3

/* GPUs with the same value of one property. */
typedef struct Kind {
        char *value;
        uint32_t n;
        char *names;                    /* "a:0000:41:00.0, b:0000:41:00.0" */
        const char *model;              /* borrowed; the hardware database's name, or NULL */
} Kind;

typedef ARRAY(Kind) Kinds;

static void kinds_clear(Kinds *kinds) {
        ARRAY_EACH(kind, kinds) {
                free(kind->value);
                free(kind->names);
        }
        array_clear(kinds);
}

/* Each writes the value of one property, or nothing where it is not known. */
static int say_model(const GpuView *view, char **ret) {
        return text_printf(ret, "%04x:%04x", view->identity.vendor, view->identity.device);
}

static int say_memory(const GpuView *view, char **ret) {
        uint64_t mib = view->facts ? gpu_facts_bars_total(view->facts) >> 20 : 0;
        return mib > 0 ? text_printf(ret, "%" PRIu64 " MiB", mib) : 0;
}

/* Where the driver tells it. */
static int say_vram(const GpuView *view, char **ret) {
        uint64_t mib = view->facts ? view->facts->vram_bytes >> 20 : 0;
        return mib > 0 ? text_printf(ret, "%" PRIu64 " MiB", mib) : 0;
}

static int say_vbios(const GpuView *view, char **ret) {
        return view->facts && view->facts->vbios ? text_set(ret, view->facts->vbios) : 0;
}

/* Lanes as they are: a slot may have fewer than the card. */
static int say_link_width(const GpuView *view, char **ret) {
        return view->facts && view->facts->link_width > 0 ? text_printf(ret, "x%" PRIu32, view->facts->link_width) : 0;
}

/* Speed at best: an idle link slows down by itself. */
static int say_link_speed(const GpuView *view, char **ret) {
        return view->facts && view->facts->link_speed_max ? text_set(ret, view->facts->link_speed_max) : 0;
}

/* How many go together: a VM that fits one size may not fit another. */
static int say_set(const GpuView *view, char **ret) {
        return view->facts ? text_printf(ret, "%" PRIu32, view->set_size > 1 ? view->set_size : 1) : 0;
}

static const struct {
        const char *what;
        int (*say)(const GpuView *view, char **ret);
} properties[] = {
        { "models", say_model },
        { "memory regions (BARs, in all)", say_memory },
        { "memories (VRAM)", say_vram },
        { "VBIOS versions", say_vbios },
        { "PCIe link widths", say_link_width },
        { "PCIe link speeds", say_link_speed },
        { "sizes of sets that are given out whole", say_set },
};

static Kind *find_kind(Kinds *kinds, const char *value) {
        ARRAY_EACH(kind, kinds)
                if (text_equal(kind->value, value))
                        return kind;
        return NULL;
}

static int add_to_kind(Kind *kind, const char *node_name, const GpuView *view) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        if (!kind->model && view->facts)
                kind->model = view->facts->device_name;
        if (kind->n++ >= NAMED_MAX)
                return 0;
        pci_address_to_text(view->identity.address, address);
        return text_append(&kind->names, "%s%s:%s", kind->names ? ", " : "", node_name, address);
}

static int sort_out(const Inventory *inventory, const InventoryPool *pool, int (*say)(const GpuView *, char **),
                    Kinds *ret) {
        for (size_t i = 0; i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                const char *node_name = inventory->nodes.items[room->node].record->name;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++) {
                        const GpuView *view = inventory->gpus.items[j].view;
                        Kind kind = {};
                        int r = say(view, &kind.value);
                        if (r < 0)
                                return r;
                        if (!kind.value)
                                continue;
                        Kind *known = find_kind(ret, kind.value);
                        if (known)
                                free(kind.value);
                        else if (array_append(ret, &kind) < 0) {
                                free(kind.value);
                                return -ENOMEM;
                        } else
                                known = ret->items + ret->n - 1;
                        r = add_to_kind(known, node_name, view);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* The most common first; the others are the odd ones, and named. */
static int compare_kinds(const void *a, const void *b) {
        const Kind *x = a, *y = b;
        if (x->n != y->n)
                return x->n > y->n ? -1 : 1;
        return strcmp(x->value, y->value);
}

static int say_kinds(const char *what, bool with_model, const Kinds *kinds, char **ret) {
        int r = text_printf(ret, "%s differ: ", what);
        for (size_t i = 0; r >= 0 && i < kinds->n; i++) {
                const Kind *kind = kinds->items + i;
                const char *model = with_model ? kind->model : NULL;
                r = text_append(ret, "%s%s%s%s (%" PRIu32, i > 0 ? ", " : "", model ? model : "", model ? " " : "",
                                kind->value, kind->n);
                if (r >= 0 && i > 0)
                        r = text_append(ret, ": %s", kind->names);
                if (r >= 0 && i > 0 && kind->n > NAMED_MAX)
                        r = text_append(ret, " and %" PRIu32 " more", kind->n - NAMED_MAX);
                if (r >= 0)
                        r = text_append(ret, ")");
        }
        return r;
}

static int compare_gpus(const Inventory *inventory, const InventoryPool *pool, TextList *ret) {
        for (size_t i = 0; i < ELEMENTS(properties); i++) {
                Kinds kinds = {};
                _cleanup_free_ char *sentence = NULL;
                int r = sort_out(inventory, pool, properties[i].say, &kinds);
                if (r >= 0 && kinds.n > 1) {
                        qsort(kinds.items, kinds.n, sizeof(*kinds.items), compare_kinds);
                        r = say_kinds(properties[i].what, properties[i].say == say_model, &kinds, &sentence);
                        if (r >= 0)
                                r = text_list_add(ret, sentence);
                }
                kinds_clear(&kinds);
                if (r < 0)
                        return r;
        }
        return 0;
}

int pool_count_within(Inventory *inventory, const Pool *pool, uint64_t *work, PoolCounts *ret, bool *ret_survives) {
        size_t index = inventory_find_pool(inventory, pool->name);
        PoolCounts counts = { .total = (uint32_t) pool->gpus.n };
        *ret_survives = true;
        if (index == NOWHERE) {
                *ret = counts;
                return 0;
        }

        const InventoryPool *there = inventory->pools.items + index;
        counts.usable = there->usable;
        counts.free = there->free;
        counts.in_use = there->in_use;
        for (size_t i = 0; i < there->n_rooms; i++) {
                const Room *room = inventory->rooms.items + there->first_room + i;
                if (inventory_node_takes_vms(inventory, room->node) && room->free > counts.largest_free)
                        counts.largest_free = room->free;
        }

        int r = survival_count(inventory, index, work, &counts, ret_survives);
        if (r >= 0)
                r = compare_gpus(inventory, there, &counts.mixed);
        if (r < 0)
                pool_counts_clear(&counts);
        else
                *ret = counts;
        return r;
}

int pool_count_in(Inventory *inventory, const Pool *pool, PoolCounts *ret) {
        uint64_t work = SURVIVAL_WORK_MAX;
        bool survives;
        return pool_count_within(inventory, pool, &work, ret, &survives);
}
