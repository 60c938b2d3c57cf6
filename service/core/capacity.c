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

/* ---- what is taken */

static uint64_t *find_hugepages(Capacity *taken, uint64_t size_bytes) {
        for (size_t i = 0; i < taken->n_hugepages; i++)
                if (taken->hugepages[i].size_bytes == size_bytes)
                        return &taken->hugepages[i].memory_mib;
        return NULL;
}

void capacity_add(Capacity *taken, const VmNeeds *needs) {
        if (!needs->hugepages) {
                taken->memory_mib += needed_mib(needs);
                return;
        }
        uint64_t *mib = find_hugepages(taken, needs->hugepage_size_bytes);
        /* More sizes than any kernel has: that VM will not start. */
        if (!mib && taken->n_hugepages == CAPACITY_PAGE_SIZES_MAX)
                return;
        if (!mib) {
                size_t at = taken->n_hugepages++;
                taken->hugepages[at].size_bytes = needs->hugepage_size_bytes;
                taken->hugepages[at].memory_mib = 0;
                mib = &taken->hugepages[at].memory_mib;
        }
        *mib += needed_mib(needs);
}

void capacity_take_off(Capacity *taken, const VmNeeds *needs) {
        uint64_t *mib = needs->hugepages ? find_hugepages(taken, needs->hugepage_size_bytes) : &taken->memory_mib;
        uint64_t less = needed_mib(needs);
        if (!mib)
                return;
        *mib -= less < *mib ? less : *mib;
        if (!needs->hugepages || *mib > 0)
                return;
        /* The last of its size: rows are few, and in no order that counts. */
        size_t last = --taken->n_hugepages;
        for (size_t i = 0; i < last; i++)
                if (&taken->hugepages[i].memory_mib == mib)
                        taken->hugepages[i] = taken->hugepages[last];
}

/* ---- memory */

/* A size that nobody names is the default one; where that is not known it may be any. */
static bool may_be(const NodeFacts *host, uint64_t asked_bytes, uint64_t size_bytes) {
        if (asked_bytes > 0)
                return asked_bytes == size_bytes;
        return host->hugepage_default_bytes == 0 || host->hugepage_default_bytes == size_bytes;
}

static uint64_t saturated_product(uint64_t a, uint64_t b) {
        uint64_t product;
        return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t mib_to_bytes(uint64_t mib) {
        return saturated_product(mib, MIB);
}

static uint64_t difference(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

static CapacityRoom room_of_memory(const NodeFacts *host, const Capacity *taken) {
        uint64_t has = host->memory_total;
        for (size_t i = 0; i < host->n_hugepages; i++)
                has = difference(has, saturated_product(host->hugepages[i].size_bytes, host->hugepages[i].total));
        return (CapacityRoom) { .has_bytes = has, .taken_bytes = taken ? mib_to_bytes(taken->memory_mib) : 0 };
}

static CapacityRoom room_of_pages(const NodeFacts *host, const Hugepages *pages, const Capacity *taken) {
        CapacityRoom room = { .page_size_bytes = pages->size_bytes,
                              .has_bytes = saturated_product(pages->size_bytes, pages->total) };
        uint64_t mib = 0;
        for (size_t i = 0; taken && i < taken->n_hugepages; i++)
                if (may_be(host, taken->hugepages[i].size_bytes, pages->size_bytes))
                        mib += taken->hugepages[i].memory_mib;
        room.taken_bytes = mib_to_bytes(mib);
        return room;
}

/* Of those that may be meant, the pages of which most is left. */
static CapacityRoom room_of_hugepages(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        CapacityRoom best = {};
        for (size_t i = 0; i < host->n_hugepages; i++) {
                const Hugepages *pages = host->hugepages + i;
                if (pages->size_bytes == 0 || !may_be(host, needs->hugepage_size_bytes, pages->size_bytes))
                        continue;
                CapacityRoom room = room_of_pages(host, pages, taken);
                if (best.page_size_bytes == 0 || difference(room.has_bytes, room.taken_bytes) >
                                                         difference(best.has_bytes, best.taken_bytes))
                        best = room;
        }
        return best;
}

CapacityRoom capacity_room(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        if (!host)
                return (CapacityRoom) {};
        return needs->hugepages ? room_of_hugepages(needs, host, taken) : room_of_memory(host, taken);
}

static bool lacks_memory(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken) {
        bool told = needs->hugepages ? host->n_hugepages > 0 : host->memory_total > 0;
        if (!told || needs->memory_bytes == 0)
                return false;
        CapacityRoom room = capacity_room(needs, host, taken);
        return difference(room.has_bytes, room.taken_bytes) < needs->memory_bytes;
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
