/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/capacity.h"

#include "util/array.h"

#define MIB (UINT64_C(1) << 20)
#define MIB_MAX (UINT64_C(1) << 44)     /* of one VM; so that sums of all cannot overflow, and come off as they came */

static uint64_t divide_up(uint64_t value, uint64_t by) {
        return value / by + (value % by > 0);
}

static uint64_t needed_mib(const VmNeeds *needs) {
        uint64_t mib = divide_up(needs->memory_bytes, MIB);
        return mib < MIB_MAX ? mib : MIB_MAX;
}

bool capacity_is_asked_for(const VmNeeds *needs) {
        return needs->memory_bytes > 0 || needs->paths.n > 0 || needs->cpu_model || needs->cpu_vendor;
}

/* ---- what is taken */

static CapacityKind *find_kind(Capacity *taken, const VmNeeds *needs) {
        for (size_t i = 0; i < taken->n_kinds; i++) {
                CapacityKind *kind = taken->kinds + i;
                if (kind->hugepages == needs->hugepages && kind->numa_nodes == needs->numa_nodes &&
                    (!needs->hugepages || kind->size_bytes == needs->hugepage_size_bytes))
                        return kind;
        }
        return NULL;
}

void capacity_add(Capacity *taken, const VmNeeds *needs) {
        CapacityKind *kind = find_kind(taken, needs);
        /* More kinds than any host has VMs of: the start will say what these would. */
        if (!kind && taken->n_kinds == CAPACITY_KINDS_MAX)
                return;
        if (!kind) {
                kind = taken->kinds + taken->n_kinds++;
                *kind = (CapacityKind) { .hugepages = needs->hugepages,
                                         .size_bytes = needs->hugepages ? needs->hugepage_size_bytes : 0,
                                         .numa_nodes = needs->numa_nodes };
        }
        kind->memory_mib += needed_mib(needs);
}

void capacity_take_off(Capacity *taken, const VmNeeds *needs) {
        CapacityKind *kind = find_kind(taken, needs);
        uint64_t less = needed_mib(needs);
        if (!kind)
                return;
        kind->memory_mib -= less < kind->memory_mib ? less : kind->memory_mib;
        /* The last of its kind: they are few, and in no order that counts. */
        if (kind->memory_mib == 0)
                *kind = taken->kinds[--taken->n_kinds];
}

/* ---- memory */

static uint64_t saturated_product(uint64_t a, uint64_t b) {
        uint64_t product;
        return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t saturated_sum(uint64_t a, uint64_t b) {
        uint64_t sum;
        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t difference(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

static uint64_t left_in(const CapacityRoom *room) {
        return difference(room->has_bytes, room->taken_bytes);
}

/* A size that nobody names is the default one; where that is not known it may be any. */
static bool may_be(const NodeFacts *host, uint64_t asked_bytes, uint64_t size_bytes) {
        if (asked_bytes > 0)
                return asked_bytes == size_bytes;
        return host->hugepage_default_bytes == 0 || host->hugepage_default_bytes == size_bytes;
}

/* @size_bytes: of hugepages; 0: ordinary memory. @nodes: what can only come from them; 0: from anywhere. */
static uint64_t sum_taken(const NodeFacts *host, const Capacity *taken, uint64_t size_bytes, uint64_t nodes) {
        uint64_t mib = 0;
        for (size_t i = 0; taken && i < taken->n_kinds; i++) {
                const CapacityKind *kind = taken->kinds + i;
                bool same = size_bytes == 0 ? !kind->hugepages
                                            : kind->hugepages && may_be(host, kind->size_bytes, size_bytes);
                bool inside = nodes == 0 || (kind->numa_nodes != 0 && (kind->numa_nodes & ~nodes) == 0);
                mib += same && inside ? kind->memory_mib : 0;
        }
        return saturated_product(mib, MIB);
}

static uint64_t count_memory(const NodeFacts *host) {
        uint64_t has = host->memory_total;
        for (size_t i = 0; i < host->n_hugepages; i++)
                has = difference(has, saturated_product(host->hugepages[i].size_bytes, host->hugepages[i].total));
        return has;
}

/* Ordinary memory of these nodes is what they have without their hugepages. */
static uint64_t count_in_nodes(const NodeFacts *host, uint64_t size_bytes, uint64_t nodes) {
        uint64_t has = 0, kept = 0;
        for (size_t i = 0; i < host->n_numa_memory; i++) {
                const NumaMemory *row = host->numa_memory + i;
                if (!(nodes >> row->node & 1))
                        continue;
                if (row->page_size_bytes == size_bytes)
                        has = saturated_sum(has, row->total_bytes);
                else if (size_bytes == 0)
                        kept = saturated_sum(kept, row->total_bytes);
        }
        return difference(has, kept);
}

static bool tells_nodes(const NodeFacts *host, uint64_t nodes) {
        uint64_t told = 0;
        for (size_t i = 0; i < host->n_numa_memory; i++)
                told |= UINT64_C(1) << host->numa_memory[i].node;
        return nodes != 0 && told != 0 && (told & nodes) == nodes;
}

/* Of the host as a whole, or of the nodes to which the VM is bound, where they have less. */
static CapacityRoom room_of_kind(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken,
                                 uint64_t size_bytes, uint64_t has_bytes) {
        CapacityRoom room = { .page_size_bytes = size_bytes, .has_bytes = has_bytes,
                              .taken_bytes = sum_taken(host, taken, size_bytes, 0) };
        if (!tells_nodes(host, needs->numa_nodes))
                return room;
        CapacityRoom bound = { .page_size_bytes = size_bytes, .numa_nodes = needs->numa_nodes,
                               .has_bytes = count_in_nodes(host, size_bytes, needs->numa_nodes),
                               .taken_bytes = sum_taken(host, taken, size_bytes, needs->numa_nodes) };
        return left_in(&bound) < left_in(&room) ? bound : room;
}

/* Of those that may be meant, the pages of which most is left. */
static CapacityRoom room_of_hugepages(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        CapacityRoom best = {};
        for (size_t i = 0; i < host->n_hugepages; i++) {
                const Hugepages *pages = host->hugepages + i;
                if (pages->size_bytes == 0 || !may_be(host, needs->hugepage_size_bytes, pages->size_bytes))
                        continue;
                CapacityRoom room = room_of_kind(needs, host, taken, pages->size_bytes,
                                                 saturated_product(pages->size_bytes, pages->total));
                if (best.page_size_bytes == 0 || left_in(&room) > left_in(&best))
                        best = room;
        }
        return best;
}

CapacityRoom capacity_room(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        if (!host)
                return (CapacityRoom) {};
        return needs->hugepages ? room_of_hugepages(needs, host, taken)
                                : room_of_kind(needs, host, taken, 0, count_memory(host));
}

static bool lacks_memory(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        bool told = needs->hugepages ? host->n_hugepages > 0 : host->memory_total > 0;
        if (!told || needs->memory_bytes == 0)
                return false;
        CapacityRoom room = capacity_room(needs, host, taken);
        return left_in(&room) < needs->memory_bytes;
}

/* ---- CPU and files */

static bool lacks_cpu(const VmNeeds *needs, const NodeFacts *host) {
        if (needs->cpu_vendor && host->cpu_vendor && !text_equal(needs->cpu_vendor, host->cpu_vendor))
                return true;
        return needs->cpu_model && host->cpu_models.n > 0 && !text_list_has(&host->cpu_models, needs->cpu_model);
}

static bool is_lost(const NodeFacts *host, const char *path, bool *ret_hangs) {
        *ret_hangs = path_set_has(&host->hanging_paths, path);
        return *ret_hangs || path_set_has(&host->missing_paths, path);
}

const char *capacity_next_lost_path(const VmNeeds *needs, const NodeFacts *host, const char *from, bool *ret_hangs) {
        bool hangs, passed = !from;
        if (!host || (host->missing_paths.n == 0 && host->hanging_paths.n == 0))
                return NULL;
        for (size_t i = 0; i < needs->paths.n; i++) {
                const char *path = needs->paths.items[i];
                if (passed && is_lost(host, path, &hangs)) {
                        *ret_hangs = hangs;
                        return path;
                }
                passed = passed || path == from;
        }
        return NULL;
}

unsigned capacity_judge(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        unsigned lacks = 0;
        bool hangs;
        if (!host)
                return 0;
        if (lacks_memory(needs, host, taken))
                lacks |= needs->hugepages ? CAPACITY_HUGEPAGES : CAPACITY_MEMORY;
        if (lacks_cpu(needs, host))
                lacks |= CAPACITY_CPU;
        if (capacity_next_lost_path(needs, host, NULL, &hangs))
                lacks |= CAPACITY_STORAGE;
        return lacks;
}
