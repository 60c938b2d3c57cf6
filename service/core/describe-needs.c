/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/describe-internal.h"

#define KIB_MAX (INT64_C(1) << 50)
#define DESCRIBED_FOLDER "/described/"
#define CPU_MODELS_MAX 256U
#define NUMA_ROWS_MAX 1024U

static int read_bytes(Reader *reader, const char *word, uint64_t *ret) {
        bool kib = text_equal(word, "memory-kib");
        int64_t number;
        int r = read_number(reader, word, 0, kib ? KIB_MAX : KIB_MAX >> 10, &number);
        if (r == DESCRIBE_READ)
                *ret = (uint64_t) number << (kib ? 10 : 20);
        return r;
}

static int read_pages(Reader *reader, const char *word, uint64_t *ret_bytes) {
        int64_t kib;
        int r = read_number(reader, word, 0, INT64_C(1) << 30, &kib);
        if (r == DESCRIBE_READ)
                *ret_bytes = (uint64_t) kib << 10;
        return r;
}

static int read_text(Reader *reader, const char *after, char **ret) {
        char *name;
        int r = read_name(reader, after, &name);
        return r == DESCRIBE_READ ? text_set(ret, name) : r;
}

/* A file has no name that is anybody's business. */
static int read_path(Reader *reader, const char *after, char **ret) {
        char *label;
        int r = read_name(reader, after, &label);
        return r == DESCRIBE_READ ? text_printf(ret, "%s%s", DESCRIBED_FOLDER, label) : r;
}

/* ---- of a VM */

static int add_file(Reader *reader, VmNeeds *needs) {
        _cleanup_free_ char *path = NULL;
        int r = read_path(reader, "file", &path);
        if (r != DESCRIBE_READ || text_list_has(&needs->paths, path))
                return r;
        if (needs->paths.n >= NEEDED_PATHS_MAX)
                return refuse(reader, "a VM needs at most %u files", NEEDED_PATHS_MAX);
        r = text_list_add(&needs->paths, path);
        return r < 0 ? r : DESCRIBE_READ;
}

static int add_numa_node(Reader *reader, VmNeeds *needs) {
        int64_t node;
        int r = read_number(reader, "numa", 0, NUMA_NODES_MAX - 1, &node);
        if (r == DESCRIBE_READ)
                needs->numa_nodes |= UINT64_C(1) << node;
        return r;
}

int read_vm_need(Reader *reader, VmNeeds *needs, const char *word) {
        if (text_equal(word, "memory") || text_equal(word, "memory-kib"))
                return read_bytes(reader, word, &needs->memory_bytes);
        if (text_equal(word, "hugepages")) {
                needs->hugepages = true;
                return read_pages(reader, word, &needs->hugepage_size_bytes);
        }
        if (text_equal(word, "numa"))
                return add_numa_node(reader, needs);
        if (text_equal(word, "cpu"))
                return read_text(reader, word, &needs->cpu_model);
        if (text_equal(word, "cpu-vendor"))
                return read_text(reader, word, &needs->cpu_vendor);
        if (text_equal(word, "host-cpu"))
                return set_flag(&needs->host_cpu);
        if (text_equal(word, "file"))
                return add_file(reader, needs);
        return refuse_word(reader, "vm", word);
}

/* ---- of a node */

/* "-": it tells which models it has, and these are all. */
static int add_cpu_model(Reader *reader, NodeFacts *facts) {
        char *name;
        int r = must_have_word(reader, "cpu", &name);
        if (r == DESCRIBE_READ && !text_equal(name, NO_OTHER_CPU) && !name_is_valid(name))
                return refuse(reader, "\"cpu\" takes the name of a CPU model, or %s where there is none to tell, not "
                              "\"%.*s\"", NO_OTHER_CPU, WORD_SHOWN_MAX, name);
        if (r != DESCRIBE_READ || text_list_has(&facts->cpu_models, name))
                return r;
        if (facts->cpu_models.n >= CPU_MODELS_MAX)
                return refuse(reader, "a node has at most %u CPU models", CPU_MODELS_MAX);
        r = text_list_add(&facts->cpu_models, name);
        return r < 0 ? r : DESCRIBE_READ;
}

static int compare_hashes(const void *key, const void *item) {
        uint64_t a = *(const uint64_t *) key, b = *(const uint64_t *) item;
        return a < b ? -1 : a > b;
}

static int add_lost_file(Reader *reader, const char *word, PathSet *paths) {
        _cleanup_free_ char *path = NULL;
        _cleanup_(path_set_clear) PathSet one = {};
        uint32_t more;
        int r = read_path(reader, word, &path);
        if (r != DESCRIBE_READ)
                return r;
        r = path_set_gather(&(SeenPath) { .path = path, .sight = PATH_MISSING }, 1, PATH_MISSING, 1, &one, &more);
        if (r < 0)
                return r;
        size_t place, allocated = paths->n;
        if (array_search(paths->hashes, paths->n, sizeof(*one.hashes), one.hashes, compare_hashes, &place))
                return DESCRIBE_READ;
        r = array_insert_bytes(&paths->hashes, &paths->n, &allocated, place, one.hashes, sizeof(*one.hashes));
        return r < 0 ? r : DESCRIBE_READ;
}

static int compare_numa_rows(const void *key, const void *item) {
        const NumaMemory *a = key, *b = item;
        if (a->node != b->node)
                return a->node < b->node ? -1 : 1;
        return a->page_size_bytes < b->page_size_bytes ? -1 : a->page_size_bytes > b->page_size_bytes;
}

static int add_numa_memory(Reader *reader, NodeFacts *facts) {
        NumaMemory row = {};
        int64_t kib;
        int r = read_u32(reader, "numa-memory", 0, NUMA_NODES_MAX - 1, &row.node);
        if (r == DESCRIBE_READ)
                r = read_pages(reader, "numa-memory", &row.page_size_bytes);
        if (r == DESCRIBE_READ)
                r = read_number(reader, "numa-memory", 0, KIB_MAX, &kib);
        if (r != DESCRIBE_READ)
                return r;
        row.total_bytes = (uint64_t) kib << 10;
        size_t place, allocated = facts->n_numa_memory;
        if (array_search(facts->numa_memory, facts->n_numa_memory, sizeof(row), &row, compare_numa_rows, &place))
                return refuse(reader, "NUMA node %u has this kind of memory twice", (unsigned) row.node);
        if (facts->n_numa_memory >= NUMA_ROWS_MAX)
                return refuse(reader, "a node has at most %u kinds of memory", NUMA_ROWS_MAX);
        r = array_insert_bytes(&facts->numa_memory, &facts->n_numa_memory, &allocated, place, &row, sizeof(row));
        return r < 0 ? r : DESCRIBE_READ;
}

int read_node_supply(Reader *reader, NodeFacts *facts, const char *word) {
        if (text_equal(word, "memory") || text_equal(word, "memory-kib")) {
                int r = read_bytes(reader, word, &facts->memory_total);
                facts->memory_free = facts->memory_total;
                return r;
        }
        if (text_equal(word, "hugepages-default"))
                return read_pages(reader, word, &facts->hugepage_default_bytes);
        if (text_equal(word, "numa-memory"))
                return add_numa_memory(reader, facts);
        if (text_equal(word, "cpu"))
                return add_cpu_model(reader, facts);
        if (text_equal(word, "cpu-vendor"))
                return read_text(reader, word, &facts->cpu_vendor);
        if (text_equal(word, "lacks"))
                return add_lost_file(reader, word, &facts->missing_paths);
        if (text_equal(word, "hangs"))
                return add_lost_file(reader, word, &facts->hanging_paths);
        return refuse_word(reader, "node", word);
}
