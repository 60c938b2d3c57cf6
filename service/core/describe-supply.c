/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>

#include "core/describe-internal.h"
#include "core/describe-page.h"

/* No host has these. */
#define NO_SUCH_CPU "no-such-cpu"
#define NO_SUCH_VENDOR "no-such-vendor"
/* For all files of a VM that no node lacks: the pass tries more for who needs files. */
#define FILE_PRESENT "present"

static int compare_texts(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int compare_with_key(const void *key, const void *item) {
        return strcmp(key, *(const char *const *) item);
}

static bool find_text(const Texts *texts, const char *text, size_t *ret_place) {
        return array_find(texts, text, compare_with_key, ret_place);
}

static void sort_texts(Texts *texts) {
        size_t kept = 0;
        if (texts->n > 1)
                qsort(texts->items, texts->n, sizeof(*texts->items), compare_texts);
        for (size_t i = 0; i < texts->n; i++)
                if (kept == 0 || !text_equal(texts->items[kept - 1], texts->items[i]))
                        texts->items[kept++] = texts->items[i];
        texts->n = kept;
}

void wanted_clear(Wanted *wanted) {
        array_clear(&wanted->cpu_models);
        array_clear(&wanted->lost_paths);
}

static bool has_lost(const NodeFacts *facts) {
        return facts->missing_paths.n > 0 || facts->hanging_paths.n > 0;
}

static bool somebody_lacks(const World *world, const char *path) {
        for (size_t i = 0; i < world->n_nodes; i++)
                if (has_lost(world->nodes[i]) && (path_set_has(&world->nodes[i]->missing_paths, path) ||
                                                  path_set_has(&world->nodes[i]->hanging_paths, path)))
                        return true;
        return false;
}

static int collect(const World *world, Wanted *wanted) {
        bool lost = false;
        int r = 0;
        for (size_t i = 0; i < world->n_nodes; i++)
                lost = lost || has_lost(world->nodes[i]);
        ARRAY_EACH(vm, &world->registry->vms) {
                const VmNeeds *needs = &vm->needs;
                wanted->numa = wanted->numa || needs->numa_nodes != 0;
                if (needs->cpu_model)
                        r = array_append(&wanted->cpu_models, &(const char *) { needs->cpu_model });
                for (size_t i = 0; lost && r >= 0 && i < needs->paths.n; i++)
                        r = array_append(&wanted->lost_paths, &(const char *) { needs->paths.items[i] });
                if (r < 0)
                        return r;
        }
        return 0;
}

int wanted_list(const World *world, Wanted *ret) {
        Wanted wanted = {};
        int r = collect(world, &wanted);
        if (r < 0) {
                wanted_clear(&wanted);
                return r;
        }
        sort_texts(&wanted.cpu_models);
        sort_texts(&wanted.lost_paths);
        size_t kept = 0;
        for (size_t i = 0; i < wanted.lost_paths.n; i++)
                if (somebody_lacks(world, wanted.lost_paths.items[i]))
                        wanted.lost_paths.items[kept++] = wanted.lost_paths.items[i];
        wanted.lost_paths.n = kept;
        *ret = wanted;
        return 0;
}

/* Who reads it should see what a person wrote; to the KiB it is told where that is not whole MiB. */
static void put_bytes(Page *page, uint64_t bytes) {
        if (bytes % (UINT64_C(1) << 20) == 0)
                page_put(page, " memory %" PRIu64, bytes >> 20);
        else
                page_put(page, " memory-kib %" PRIu64, bytes >> 10);
}

/* Files have the numbers of their places, so that nobody sees the names: read again, they come in the same order. */
static void put_file(Page *page, const char *word, size_t place) {
        page_put(page, " %s f%06zu", word, place);
}

static void put_cpus(Page *page, const Wanted *wanted, const NodeFacts *facts) {
        bool any = false;
        if (facts->cpu_vendor && name_is_valid(facts->cpu_vendor))
                page_put(page, " cpu-vendor %s", facts->cpu_vendor);
        if (facts->cpu_models.n == 0 || wanted->cpu_models.n == 0)
                return;
        for (size_t i = 0; i < wanted->cpu_models.n; i++) {
                const char *model = wanted->cpu_models.items[i];
                if (!name_is_valid(model) || !text_list_has(&facts->cpu_models, model))
                        continue;
                page_put(page, " cpu %s", model);
                any = true;
        }
        if (!any)
                page_put(page, " cpu %s", NO_OTHER_CPU);
}

void put_supply(Page *page, const Wanted *wanted, const NodeFacts *facts) {
        put_bytes(page, facts->memory_total);
        for (size_t i = 0; i < facts->n_hugepages; i++)
                page_put(page, " hugepages %" PRIu64 " %" PRIu64, facts->hugepages[i].size_bytes >> 10,
                         facts->hugepages[i].total);
        if (facts->hugepage_default_bytes > 0)
                page_put(page, " hugepages-default %" PRIu64, facts->hugepage_default_bytes >> 10);
        for (size_t i = 0; wanted->numa && i < facts->n_numa_memory; i++)
                page_put(page, " numa-memory %" PRIu32 " %" PRIu64 " %" PRIu64, facts->numa_memory[i].node,
                         facts->numa_memory[i].page_size_bytes >> 10, facts->numa_memory[i].total_bytes >> 10);
        put_cpus(page, wanted, facts);
        for (size_t i = 0; has_lost(facts) && i < wanted->lost_paths.n; i++) {
                if (path_set_has(&facts->missing_paths, wanted->lost_paths.items[i]))
                        put_file(page, "lacks", i);
                if (path_set_has(&facts->hanging_paths, wanted->lost_paths.items[i]))
                        put_file(page, "hangs", i);
        }
}

void put_needs(Page *page, const Wanted *wanted, const VmNeeds *needs) {
        uint64_t most = UINT64_C(1) << 60;
        uint64_t bytes = needs->memory_bytes < most ? needs->memory_bytes : most;
        size_t place;
        if (bytes > 0)
                put_bytes(page, (bytes + 1023) & ~UINT64_C(1023));
        if (needs->hugepages)
                page_put(page, " hugepages %" PRIu64, needs->hugepage_size_bytes >> 10);
        for (unsigned i = 0; i < NUMA_NODES_MAX; i++)
                if (needs->numa_nodes >> i & 1)
                        page_put(page, " numa %u", i);
        if (needs->cpu_model)
                page_put(page, " cpu %s", name_is_valid(needs->cpu_model) ? needs->cpu_model : NO_SUCH_CPU);
        if (needs->cpu_vendor)
                page_put(page, " cpu-vendor %s", name_is_valid(needs->cpu_vendor) ? needs->cpu_vendor : NO_SUCH_VENDOR);
        page_put_flag(page, needs->host_cpu, "host-cpu");
        bool lost = false;
        for (size_t i = 0; wanted->lost_paths.n > 0 && i < needs->paths.n; i++)
                if (find_text(&wanted->lost_paths, needs->paths.items[i], &place)) {
                        put_file(page, "file", place);
                        lost = true;
                }
        page_put_flag(page, needs->paths.n > 0 && !lost, "file " FILE_PRESENT);
}
