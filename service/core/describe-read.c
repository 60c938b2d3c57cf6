/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/describe.h"
#include "core/registry-internal.h"

#define LEASE_MS 3000U
#define DEATH_MS 500U
#define GROUPS_MAX 65535U               /* a number that a person gives; those without one come behind */
#define WORD_SHOWN_MAX 64               /* of what is wrong, in a sentence */

Described *described_free(Described *described) {
        if (!described)
                return NULL;
        ARRAY_EACH(facts, &described->facts) {
                node_facts_clear(*facts);
                free(*facts);
        }
        array_clear(&described->facts);
        array_clear(&described->lives);
        registry_free(described->registry);
        free(described);
        return NULL;
}

/* A GPU that goes with others. */
typedef struct Member {
        char *set;                      /* borrowed from the text */
        size_t gpu;                     /* of its node's draft */
        bool broken;
} Member;

typedef struct DraftGpu {
        GpuIdentity identity;
        const char *pool;               /* borrowed from the registry; NULL: none */
        int32_t iommu_group;
        bool absent;
        unsigned taken_in_line;         /* 0: by no VM */
} DraftGpu;

/* A node as far as it is read; in the order of the registry's nodes. */
typedef struct Draft {
        NodeFacts *facts;               /* owned until the end */
        size_t gpus_allocated;
        bool unknown;
        ARRAY(DraftGpu) gpus;           /* by address; of two with the same one the absent one is behind */
        ARRAY(Member) members;
} Draft;

typedef struct Name {
        const char *name;               /* borrowed from the text */
        size_t index;
} Name;

typedef ARRAY(Name) Names;

typedef struct Reader {
        Described *described;
        ARRAY(Draft) drafts;
        Names nodes, vms;
        size_t n_gpus;
        unsigned line;
        char *rest;                     /* of the line */
        bool has_cluster;
        char *sentence;
} Reader;

static void reader_clear(Reader *reader) {
        ARRAY_EACH(draft, &reader->drafts) {
                if (draft->facts) {
                        node_facts_clear(draft->facts);
                        free(draft->facts);
                }
                array_clear(&draft->gpus);
                array_clear(&draft->members);
        }
        array_clear(&reader->drafts);
        array_clear(&reader->nodes);
        array_clear(&reader->vms);
        described_free(reader->described);
        free(reader->sentence);
}

__attribute__((format(printf, 2, 3))) static int refuse(Reader *reader, const char *format, ...) {
        char room[512];
        va_list list;
        va_start(list, format);
        (void) vsnprintf(room, sizeof(room), format, list);
        va_end(list);
        int r = text_printf(&reader->sentence, "line %u: %s", reader->line, room);
        if (r < 0)
                return r;
        text_make_printable(reader->sentence, TEXT_LENGTH_MAX);
        return DESCRIBE_BAD;
}

/* ---- words */

/* The next word of the line, or NULL at its end. */
static char *next_word(Reader *reader) {
        char *word = reader->rest + strspn(reader->rest, " \t\r");
        if (!*word)
                return NULL;
        size_t n = strcspn(word, " \t\r");
        reader->rest = word + n;
        if (*reader->rest)
                *reader->rest++ = '\0';
        return word;
}

static int must_have_word(Reader *reader, const char *after, char **ret) {
        *ret = next_word(reader);
        return *ret ? DESCRIBE_READ : refuse(reader, "something must follow \"%s\"", after);
}

static int read_name(Reader *reader, const char *after, char **ret) {
        int r = must_have_word(reader, after, ret);
        if (r == DESCRIBE_READ && !name_is_valid(*ret))
                return refuse(reader, "\"%.*s\" is no name: 1 to %u letters, digits, \".\", \"_\" and \"-\", the first "
                              "a letter or a digit", WORD_SHOWN_MAX, *ret, NAME_LENGTH_MAX);
        return r;
}

static int read_number(Reader *reader, const char *after, int64_t least, int64_t most, int64_t *ret) {
        char *word;
        uint64_t number;
        int r = must_have_word(reader, after, &word);
        if (r != DESCRIBE_READ)
                return r;
        bool negative = least < 0 && word[0] == '-';
        r = text_to_u64(word + negative, 10, &number);
        if (r == -ENOMEM)
                return r;
        int64_t value = r < 0 || number > INT64_MAX ? INT64_MAX : negative ? -(int64_t) number : (int64_t) number;
        if (r < 0 || number > INT64_MAX || value < least || value > most)
                return refuse(reader, "\"%s\" takes a whole number from %" PRId64 " to %" PRId64 ", not \"%.*s\"", after,
                              least, most, WORD_SHOWN_MAX, word);
        *ret = value;
        return DESCRIBE_READ;
}

static int read_u32(Reader *reader, const char *after, uint32_t least, uint32_t most, uint32_t *ret) {
        int64_t number;
        int r = read_number(reader, after, least, most, &number);
        if (r == DESCRIBE_READ)
                *ret = (uint32_t) number;
        return r;
}

static int read_address(Reader *reader, const char *after, PciAddress *ret) {
        char *word;
        int r = must_have_word(reader, after, &word);
        if (r == DESCRIBE_READ && pci_address_from_text(word, ret) < 0)
                return refuse(reader, "\"%.*s\" is no PCI address; one looks like 0000:41:00.0", WORD_SHOWN_MAX, word);
        return r;
}

static int refuse_word(Reader *reader, const char *line_kind, const char *word) {
        return refuse(reader, "\"%.*s\" means nothing in a line that begins with \"%s\"", WORD_SHOWN_MAX, word,
                      line_kind);
}

/* ---- names */

static int compare_name(const void *key, const void *item) {
        return strcmp(key, ((const Name *) item)->name);
}

static size_t find_name(const Names *names, const char *name) {
        size_t place;
        return array_find(names, name, compare_name, &place) ? names->items[place].index : SIZE_MAX;
}

static int add_name(Reader *reader, Names *names, const char *what, const char *name, size_t index) {
        size_t place;
        if (array_find(names, name, compare_name, &place))
                return refuse(reader, "there is a %s %s already", what, name);
        int r = array_insert(names, place, &((Name) { .name = name, .index = index }));
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_node_name(Reader *reader, const char *after, size_t *ret) {
        char *name;
        int r = read_name(reader, after, &name);
        if (r != DESCRIBE_READ)
                return r;
        *ret = find_name(&reader->nodes, name);
        return *ret == SIZE_MAX ? refuse(reader, "there is no node %s; its line must stand above", name)
                                : DESCRIBE_READ;
}

/* ---- cluster and pools */

static int read_cluster(Reader *reader) {
        Registry *registry = reader->described->registry;
        char *name, *word;
        int r = reader->has_cluster || registry->nodes.n > 0
                        ? refuse(reader, "the line of the cluster stands once, and before all nodes")
                        : read_name(reader, "cluster", &name);
        if (r == DESCRIBE_READ)
                r = text_set(&registry->name, name);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = text_equal(word, "level")
                            ? read_u32(reader, word, LEVEL_OLDEST, LEVEL_SUPPORTED, &registry->level)
                            : refuse_word(reader, "cluster", word);
        reader->has_cluster = true;
        return r;
}

static int read_pool_word(Reader *reader, Pool *pool, const char *word) {
        if (pool_placement_from_text(word, &pool->placement) >= 0)
                return DESCRIBE_READ;
        if (text_equal(word, "reserve"))
                return read_u32(reader, word, 0, POOL_GPUS_MAX, &pool->reserve);
        if (text_equal(word, "max-in-use"))
                return read_u32(reader, word, 0, POOL_GPUS_MAX, &pool->max_in_use);
        return refuse_word(reader, "pool", word);
}

static int read_pool(Reader *reader) {
        Registry *registry = reader->described->registry;
        char *name, *word;
        size_t place;
        int r = read_name(reader, "pool", &name);
        if (r != DESCRIBE_READ)
                return r;
        if (registry->nodes.n > 0)
                return refuse(reader, "the lines of pools stand before those of nodes");
        if (registry->pools.n >= POOLS_MAX)
                return refuse(reader, "a cluster has at most %u pools", POOLS_MAX);
        if (registry_pool_place(registry, name, &place))
                return refuse(reader, "there is a pool %s already", name);
        Pool made = {};
        r = text_set(&made.name, name);
        if (r < 0)
                return r;
        r = array_insert(&registry->pools, place, &made);
        if (r < 0) {
                pool_clear(&made);
                return r;
        }
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_pool_word(reader, registry->pools.items + place, word);
        return r;
}

/* ---- nodes */

static NodeId node_id(size_t index) {
        NodeId id = {};
        for (size_t i = 0; i < 4; i++)
                id.bytes[NODE_NUMBER_SIZE - 1 - i] = (uint8_t) ((index + 1) >> (8 * i));
        return id;
}

static NodeFacts *new_facts(const NodeId *id) {
        NodeFacts *facts = calloc(1, sizeof(*facts));
        if (!facts)
                return NULL;
        *facts = (NodeFacts) {
                .node = *id,
                .incarnation = 1,
                .memory_total = (uint64_t) DESCRIBED_MEMORY_MIB << 20,
                .memory_free = (uint64_t) DESCRIBED_MEMORY_MIB << 20,
                .address_bits = 52,
                .iommu_present = true,
                .vfio_present = true,
                .interrupt_remapping = true,
                .interrupt_remapping_known = true,
                .hypervisor = HYPERVISOR_CONNECTED,
                .guard_connected = true,
        };
        return facts;
}

static int compare_pages(const void *key, const void *item) {
        uint64_t a = *(const uint64_t *) key, b = ((const Hugepages *) item)->size_bytes;
        return a < b ? -1 : a > b;
}

static int read_hugepages(Reader *reader, NodeFacts *facts) {
        int64_t kib, total;
        int r = read_number(reader, "hugepages", 1, INT64_C(1) << 30, &kib);
        if (r == DESCRIBE_READ)
                r = read_number(reader, "hugepages", 0, INT64_C(1) << 40, &total);
        if (r != DESCRIBE_READ)
                return r;
        Hugepages made = { .size_bytes = (uint64_t) kib << 10, .total = (uint64_t) total, .free = (uint64_t) total };
        size_t place, allocated = facts->n_hugepages;
        if (array_search(facts->hugepages, facts->n_hugepages, sizeof(made), &made.size_bytes, compare_pages, &place))
                return refuse(reader, "huge pages of %" PRId64 " KiB stand twice", kib);
        r = array_insert_bytes(&facts->hugepages, &facts->n_hugepages, &allocated, place, &made, sizeof(made));
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_memory(Reader *reader, NodeFacts *facts) {
        int64_t mib;
        int r = read_number(reader, "memory", 0, INT64_C(1) << 40, &mib);
        if (r == DESCRIBE_READ)
                facts->memory_total = facts->memory_free = (uint64_t) mib << 20;
        return r;
}

static int set_flag(bool *flag) {
        *flag = true;
        return DESCRIBE_READ;
}

static int read_node_word(Reader *reader, NodeRecord *node, Draft *draft, bool *silent, const char *word) {
        if (text_equal(word, "level"))
                return read_u32(reader, word, LEVEL_OLDEST, LEVEL_SUPPORTED, &node->level);
        if (text_equal(word, "memory"))
                return read_memory(reader, draft->facts);
        if (text_equal(word, "hugepages"))
                return read_hugepages(reader, draft->facts);
        if (text_equal(word, "witness"))
                return set_flag(&node->witness);
        if (text_equal(word, "lost"))
                return set_flag(&node->lost);
        if (text_equal(word, "silent"))
                return set_flag(silent);
        if (text_equal(word, "unknown"))
                return set_flag(&draft->unknown);
        if (text_equal(word, "drained"))
                node->drain = DRAIN_BY_HAND;
        else if (text_equal(word, "joining"))
                node->lease_ms = node->death_ms = 0;
        else if (text_equal(word, "no-hypervisor"))
                draft->facts->hypervisor = HYPERVISOR_ABSENT;
        else if (text_equal(word, "no-guard"))
                draft->facts->guard_connected = false;
        else
                return refuse_word(reader, "node", word);
        return DESCRIBE_READ;
}

static int add_node(Reader *reader, const char *name, NodeRecord **ret_node, Draft **ret_draft) {
        Registry *registry = reader->described->registry;
        size_t index = registry->nodes.n;
        NodeRecord node = {
                .id = node_id(index),
                .incarnation = 1,
                .level = registry->level,
                .lease_ms = LEASE_MS,
                .death_ms = DEATH_MS,
        };
        int r = text_set(&node.name, name);
        if (r < 0)
                return r;
        r = array_append(&registry->nodes, &node);
        if (r < 0) {
                free(node.name);
                return r;
        }
        r = array_append(&reader->drafts, &((Draft) {}));
        if (r < 0)
                return r;
        *ret_node = registry->nodes.items + index;
        *ret_draft = reader->drafts.items + index;
        (*ret_draft)->facts = new_facts(&node.id);
        return (*ret_draft)->facts ? DESCRIBE_READ : -ENOMEM;
}

static int read_node(Reader *reader) {
        Described *described = reader->described;
        NodeRecord *node;
        Draft *draft;
        char *name, *word;
        bool silent = false;
        if (described->registry->nodes.n >= NODES_MAX)
                return refuse(reader, "a cluster has at most %u nodes", NODES_MAX);
        int r = read_name(reader, "node", &name);
        if (r == DESCRIBE_READ)
                r = add_name(reader, &reader->nodes, "node", name, described->registry->nodes.n);
        if (r == DESCRIBE_READ)
                r = add_node(reader, name, &node, &draft);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_node_word(reader, node, draft, &silent, word);
        if (r == DESCRIBE_READ && silent) {
                r = array_append(&described->lives, &((NodeLife) { .node = node->id, .silent = true }));
                r = r < 0 ? r : DESCRIBE_READ;
        }
        return r;
}

/* ---- GPUs */

/* What a line says of its GPU, or of each of its GPUs. */
typedef struct GpuWords {
        const char *pool;
        char *set, *switch_address;
        uint32_t group;
        int64_t numa;
        bool has_group, set_broken, absent, quarantined, blocked;
} GpuWords;

static int read_gpu_pool(Reader *reader, const char **ret) {
        char *name;
        size_t place;
        int r = read_name(reader, "pool", &name);
        if (r != DESCRIBE_READ)
                return r;
        if (!registry_pool_place(reader->described->registry, name, &place))
                return refuse(reader, "there is no pool %s; its line must stand above", name);
        *ret = reader->described->registry->pools.items[place].name;
        return DESCRIBE_READ;
}

/* Beside what it is for they are only compared. */
static int read_label(Reader *reader, const char *after, char **ret) {
        int r = must_have_word(reader, after, ret);
        if (r == DESCRIBE_READ && (strlen(*ret) >= GPU_SLOT_SIZE || !text_is_printable(*ret)))
                return refuse(reader, "\"%s\" takes a word of at most %u printable characters", after,
                              GPU_SLOT_SIZE - 1);
        return r;
}

static int read_gpu_word(Reader *reader, GpuWords *words, const char *kind, const char *word) {
        if (text_equal(word, "pool"))
                return read_gpu_pool(reader, &words->pool);
        if (text_equal(word, "numa"))
                return read_number(reader, word, 0, 1023, &words->numa);
        if (text_equal(word, "switch"))
                return read_label(reader, word, &words->switch_address);
        if (text_equal(word, "set"))
                return read_label(reader, word, &words->set);
        if (text_equal(word, "group")) {
                words->has_group = true;
                return read_u32(reader, word, 0, GROUPS_MAX, &words->group);
        }
        if (text_equal(word, "set-broken"))
                return set_flag(&words->set_broken);
        if (text_equal(word, "absent"))
                return set_flag(&words->absent);
        if (text_equal(word, "quarantined"))
                return set_flag(&words->quarantined);
        if (text_equal(word, "blocked"))
                return set_flag(&words->blocked);
        return refuse_word(reader, kind, word);
}

static int fill_gpu(const DraftGpu *from, const GpuWords *words, GpuFacts *ret) {
        GpuFacts gpu = {
                .identity = from->identity,
                .address = from->identity.address,
                .class = 0x030200,
                .iommu_group = from->iommu_group,
                .numa_node = (int32_t) words->numa,
                .bars = { { .start = UINT64_C(0x200000000000), .size = UINT64_C(16) << 20, .prefetchable_64 = true } },
                .reset_methods_known = true,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
                .mdev_in_use = words->blocked,
        };
        int r = text_set(&gpu.iommu_group_type, "DMA");
        if (r >= 0)
                r = text_set(&gpu.sysfs_path, "/devices/described");
        if (r >= 0 && words->switch_address)
                r = text_set(&gpu.switch_address, words->switch_address);
        if (r >= 0)
                r = text_list_add(&gpu.reset_methods, "flr");
        if (r < 0)
                gpu_facts_clear(&gpu);
        else
                *ret = gpu;
        return r;
}

static int add_facts(Draft *draft, const DraftGpu *gpu, const GpuWords *words) {
        NodeFacts *facts = draft->facts;
        GpuFacts made;
        size_t place = facts->n_gpus;
        while (place > 0 && pci_address_compare(facts->gpus[place - 1].address, gpu->identity.address) > 0)
                place--;
        int r = fill_gpu(gpu, words, &made);
        if (r < 0)
                return r;
        r = array_insert_bytes(&facts->gpus, &facts->n_gpus, &draft->gpus_allocated, place, &made, sizeof(made));
        if (r < 0)
                gpu_facts_clear(&made);
        return r;
}

static int add_quarantine(Reader *reader, const GpuIdentity *gpu) {
        Quarantine quarantine = { .gpu = *gpu, .cause = QUARANTINE_BY_HAND };
        return array_append(&reader->described->registry->quarantines, &quarantine);
}

static bool has_address(const Draft *draft, PciAddress address) {
        ARRAY_EACH(gpu, &draft->gpus)
                if (pci_address_equal(gpu->identity.address, address))
                        return true;
        return false;
}

static int add_gpu(Reader *reader, size_t node, PciAddress address, const GpuWords *words) {
        Draft *draft = reader->drafts.items + node;
        if (draft->gpus.n >= GPUS_PER_NODE_MAX || reader->n_gpus >= POOL_GPUS_MAX)
                return refuse(reader, "a node has at most %u GPUs, and a cluster %u", GPUS_PER_NODE_MAX, POOL_GPUS_MAX);
        if (has_address(draft, address))
                return refuse(reader, "the node has a GPU at this address already");
        DraftGpu gpu = {
                .identity = {
                        .node = node_id(node),
                        .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de, .subsystem_device = 0x1626,
                        .address = address,
                },
                .pool = words->pool,
                .iommu_group = words->has_group ? (int32_t) words->group : (int32_t) (GROUPS_MAX + 1 + draft->gpus.n),
                .absent = words->absent || draft->unknown,
        };
        pci_address_to_text(address, gpu.identity.slot);
        int r = array_append(&draft->gpus, &gpu);
        if (r >= 0 && !gpu.absent)
                r = add_facts(draft, &gpu, words);
        if (r >= 0 && words->quarantined)
                r = add_quarantine(reader, &gpu.identity);
        if (r >= 0 && words->set) {
                Member member = { .set = words->set, .gpu = draft->gpus.n - 1, .broken = words->set_broken };
                r = array_append(&draft->members, &member);
        }
        reader->n_gpus++;
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_gpu(Reader *reader) {
        GpuWords words = { .numa = -1 };
        PciAddress address;
        size_t node;
        char *word;
        int r = read_node_name(reader, "gpu", &node);
        if (r == DESCRIBE_READ)
                r = read_address(reader, "gpu", &address);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_gpu_word(reader, &words, "gpu", word);
        return r == DESCRIBE_READ ? add_gpu(reader, node, address, &words) : r;
}

/* Several alike, on the first free buses. */
static int read_gpus(Reader *reader) {
        GpuWords words = { .numa = -1 };
        PciAddress address = {};
        uint32_t n = 0, bus = 0;
        size_t node;
        char *word;
        int r = read_node_name(reader, "gpus", &node);
        if (r == DESCRIBE_READ)
                r = read_u32(reader, "gpus", 1, GPUS_PER_NODE_MAX - 1, &n);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_gpu_word(reader, &words, "gpus", word);
        for (; r == DESCRIBE_READ && n > 0; n--) {
                do
                        address.bus = (uint8_t) ++bus;
                while (bus <= UINT8_MAX && has_address(reader->drafts.items + node, address));
                r = bus > UINT8_MAX ? refuse(reader, "the node has no room for so many GPUs")
                                    : add_gpu(reader, node, address, &words);
        }
        return r;
}

/* ---- VMs */

static DraftGpu *find_gpu(Draft *draft, PciAddress address) {
        ARRAY_EACH(gpu, &draft->gpus)
                if (pci_address_equal(gpu->identity.address, address))
                        return gpu;
        return NULL;
}

static int add_affinity(Reader *reader, Vm *vm, const char *kind) {
        Affinity made = {};
        char *other;
        int r = read_name(reader, kind, &other);
        if (r != DESCRIBE_READ)
                return r;
        if (vm->n_affinity >= AFFINITY_MAX)
                return refuse(reader, "a VM is bound to at most %u others", AFFINITY_MAX);
        Affinity *grown = realloc(vm->affinity, (vm->n_affinity + 1) * sizeof(made));
        if (!grown)
                return -ENOMEM;
        vm->affinity = grown;
        r = text_set(&made.kind, kind);
        if (r >= 0)
                r = text_set(&made.vm, other);
        vm->affinity[vm->n_affinity++] = made;
        return r < 0 ? r : DESCRIBE_READ;
}

static int add_preferred(Reader *reader, Vm *vm) {
        char *name;
        int r = read_name(reader, "prefers", &name);
        if (r == DESCRIBE_READ && vm->preferred_nodes.n >= PREFERRED_NODES_MAX)
                return refuse(reader, "a VM prefers at most %u nodes", PREFERRED_NODES_MAX);
        return r == DESCRIBE_READ ? text_list_add(&vm->preferred_nodes, name) : r;
}

static int add_note(Reader *reader, Vm *vm) {
        PlacementNote note = { .chosen = true };
        char *name;
        int r = read_name(reader, "ran", &name);
        if (r != DESCRIBE_READ)
                return r;
        if (vm->n_notes > 0)
                return refuse(reader, "a VM ran on one node last; \"ran\" stands once");
        vm->notes = calloc(1, sizeof(note));
        if (!vm->notes)
                return -ENOMEM;
        r = text_set(&note.node, name);
        vm->notes[vm->n_notes++] = note;
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_target(Reader *reader, Vm *vm) {
        size_t node;
        int r = read_node_name(reader, "target", &node);
        if (r == DESCRIBE_READ)
                vm->target = node_id(node);
        return r;
}

static int add_assigned(Reader *reader, Vm *vm, size_t node, const char *word) {
        PciAddress address;
        char text[PCI_ADDRESS_TEXT_SIZE];
        if (pci_address_from_text(word, &address) < 0)
                return refuse(reader, "\"%.*s\" is no PCI address, and behind \"on\" there are only those",
                              WORD_SHOWN_MAX, word);
        pci_address_to_text(address, text);
        DraftGpu *gpu = find_gpu(reader->drafts.items + node, address);
        if (!gpu)
                return refuse(reader, "node %s has no GPU %s; its line must stand above",
                              reader->described->registry->nodes.items[node].name, text);
        if (gpu->taken_in_line > 0)
                return refuse(reader, "GPU %s is the VM's of line %u already", text, gpu->taken_in_line);
        AssignedGpu *grown = realloc(vm->assignment.gpus, (vm->assignment.n_gpus + 1) * sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        vm->assignment.gpus = grown;
        grown[vm->assignment.n_gpus++] = (AssignedGpu) { .gpu = gpu->identity, .iommu_group = gpu->iommu_group };
        gpu->taken_in_line = reader->line;
        return DESCRIBE_READ;
}

/* All that is left of the line. */
static int read_assignment(Reader *reader, Vm *vm) {
        size_t node;
        char *word;
        int r = read_node_name(reader, "on", &node);
        if (r == DESCRIBE_READ)
                r = must_have_word(reader, "on NODE", &word);
        if (r != DESCRIBE_READ)
                return r;
        if (text_equal(word, "starting"))
                vm->assignment.phase = ASSIGNMENT_STARTING;
        else if (text_equal(word, "running"))
                vm->assignment.phase = ASSIGNMENT_RUNNING;
        else if (text_equal(word, "stopping"))
                vm->assignment.phase = ASSIGNMENT_STOPPING;
        else
                return refuse(reader, "behind \"on\" and the node stands starting, running or stopping");
        vm->assignment.node = node_id(node);
        vm->assignment.incarnation = 1;
        vm->assignment.ran = vm->assignment.phase != ASSIGNMENT_STARTING;
        vm->epoch = 1;
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = vm->assignment.n_gpus < GPUS_PER_VM_MAX
                            ? add_assigned(reader, vm, node, word)
                            : refuse(reader, "a VM has at most %u GPUs", GPUS_PER_VM_MAX);
        return r;
}

static int read_vm_pool(Reader *reader, Vm *vm) {
        char *name;
        int r = read_name(reader, "pool", &name);
        return r == DESCRIBE_READ ? text_set(&vm->pool, name) : r;
}

static int read_vm_word(Reader *reader, Vm *vm, const char *word) {
        int64_t number;
        int r;
        if (text_equal(word, "pool"))
                return read_vm_pool(reader, vm);
        if (text_equal(word, "count"))
                return read_u32(reader, word, 1, GPUS_PER_VM_MAX, &vm->count);
        if (text_equal(word, "priority")) {
                r = read_number(reader, word, VM_PRIORITY_MIN, VM_PRIORITY_MAX, &number);
                if (r == DESCRIBE_READ)
                        vm->priority = (int32_t) number;
                return r;
        }
        if (text_equal(word, "stopped")) {
                vm->run = false;
                return DESCRIBE_READ;
        }
        if (text_equal(word, "failed"))
                return set_flag(&vm->failed);
        if (text_equal(word, "displaced"))
                return text_set(&vm->reason_code, end_cause_to_text(END_NODE_LOST));
        if (text_equal(word, "prefers"))
                return add_preferred(reader, vm);
        if (text_equal(word, "with") || text_equal(word, "apart"))
                return add_affinity(reader, vm, word);
        if (text_equal(word, "ran"))
                return add_note(reader, vm);
        if (text_equal(word, "target"))
                return read_target(reader, vm);
        if (text_equal(word, "on"))
                return read_assignment(reader, vm);
        return refuse_word(reader, "vm", word);
}

static int read_vm(Reader *reader) {
        Registry *registry = reader->described->registry;
        size_t index = registry->vms.n;
        Vm made = { .count = 1, .priority = VM_PRIORITY_DEFAULT, .restart = RESTART_ON_FAILURE, .run = true };
        char *name, *word;
        if (index >= VMS_MAX)
                return refuse(reader, "a cluster has at most %u VMs", VMS_MAX);
        int r = read_name(reader, "vm", &name);
        if (r == DESCRIBE_READ)
                r = add_name(reader, &reader->vms, "VM", name, index);
        if (r != DESCRIBE_READ)
                return r;
        for (size_t i = 0; i < 4; i++)
                made.id.bytes[3 - i] = (uint8_t) ((index + 1) >> (8 * i));
        r = text_set(&made.name, name);
        if (r >= 0)
                r = array_append(&registry->vms, &made);
        if (r < 0) {
                vm_clear(&made);
                return r;
        }
        Vm *vm = registry->vms.items + index;
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_vm_word(reader, vm, word);
        if (r == DESCRIBE_READ && !vm->pool)
                return refuse(reader, "VM %s needs a pool: vm %s pool NAME count N", name, name);
        return r;
}

/* ---- the whole */

static int compare_members(const void *a, const void *b) {
        return strcmp(((const Member *) a)->set, ((const Member *) b)->set);
}

/* Slots that belong together; of a broken set one more, which is nowhere. */
static int join_sets(Draft *draft, NodeRecord *node) {
        size_t n = draft->members.n;
        if (n > 1)
                qsort(draft->members.items, n, sizeof(*draft->members.items), compare_members);
        for (size_t i = 0, end; i < n; i = end) {
                _cleanup_(text_list_clear) TextList slots = {};
                bool broken = false;
                int r = 0;
                for (end = i; end < n && compare_members(draft->members.items + i, draft->members.items + end) == 0;
                     end++) {
                        broken = broken || draft->members.items[end].broken;
                        if (r >= 0)
                                r = text_list_add(&slots, draft->gpus.items[draft->members.items[end].gpu].identity.slot);
                }
                if (r >= 0 && broken) {
                        _cleanup_free_ char *nowhere = NULL;
                        r = text_printf(&nowhere, "nowhere%zu", i);
                        if (r >= 0)
                                r = text_list_add(&slots, nowhere);
                }
                if (r >= 0)
                        r = fabric_join(&node->fabric, &slots);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare_draft_gpus(const void *a, const void *b) {
        return gpu_identity_compare(&((const DraftGpu *) a)->identity, &((const DraftGpu *) b)->identity);
}

/* In the order of the identities, so that each comes behind the others. */
static int fill_pools(Reader *reader, Draft *draft) {
        if (draft->gpus.n > 1)
                qsort(draft->gpus.items, draft->gpus.n, sizeof(*draft->gpus.items), compare_draft_gpus);
        ARRAY_EACH(gpu, &draft->gpus) {
                size_t place;
                if (!gpu->pool || !registry_pool_place(reader->described->registry, gpu->pool, &place))
                        continue;
                int r = pool_add(reader->described->registry->pools.items + place, &gpu->identity);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare_quarantines(const void *a, const void *b) {
        return gpu_identity_compare(&((const Quarantine *) a)->gpu, &((const Quarantine *) b)->gpu);
}

static int finish(Reader *reader) {
        Described *described = reader->described;
        Registry *registry = described->registry;
        for (size_t i = 0; i < reader->drafts.n; i++) {
                Draft *draft = reader->drafts.items + i;
                int r = join_sets(draft, registry->nodes.items + i);
                if (r >= 0)
                        r = fill_pools(reader, draft);
                if (r >= 0 && !draft->unknown) {
                        r = array_append(&described->facts, &draft->facts);
                        if (r >= 0)
                                draft->facts = NULL;
                }
                if (r < 0)
                        return r;
        }
        if (registry->quarantines.n > 1)
                qsort(registry->quarantines.items, registry->quarantines.n, sizeof(*registry->quarantines.items),
                      compare_quarantines);
        described->world = (World) {
                .registry = registry,
                .nodes = (const NodeFacts *const *) described->facts.items,
                .n_nodes = described->facts.n,
                .lives = described->lives.items,
                .n_lives = described->lives.n,
                .local = registry->nodes.n > 0 ? registry->nodes.items[0].id : (NodeId) {},
        };
        return DESCRIBE_READ;
}

static int read_line(Reader *reader) {
        static const struct {
                const char *word;
                int (*read)(Reader *reader);
        } kinds[] = {
                { "cluster", read_cluster }, { "pool", read_pool }, { "node", read_node },
                { "gpu", read_gpu },         { "gpus", read_gpus }, { "vm", read_vm },
        };
        const char *word = next_word(reader);
        if (!word)
                return DESCRIBE_READ;
        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                if (text_equal(word, kinds[i].word))
                        return kinds[i].read(reader);
        return refuse(reader, "a line begins with cluster, pool, node, gpu, gpus, vm or #, not with \"%.*s\"",
                      WORD_SHOWN_MAX, word);
}

static int read_all(Reader *reader, char *text) {
        int r = DESCRIBE_READ;
        for (char *line = text; r == DESCRIBE_READ && *line; reader->line++) {
                size_t n = strcspn(line, "\n");
                char *next = line[n] ? line + n + 1 : line + n;
                line[n] = '\0';
                line[strcspn(line, "#")] = '\0';
                reader->rest = line;
                r = read_line(reader);
                if (r != DESCRIBE_READ)
                        return r;
                line = next;
        }
        return finish(reader);
}

int describe_read(const char *text, Described **ret, char **ret_sentence) {
        _cleanup_(reader_clear) Reader reader = { .line = 1 };
        _cleanup_free_ char *copy = strdup(text);
        reader.described = calloc(1, sizeof(*reader.described));
        if (!copy || !reader.described)
                return -ENOMEM;
        int r = registry_new(&reader.described->registry);
        if (r < 0)
                return r;
        reader.described->registry->cluster.bytes[0] = 1;
        reader.described->registry->level = LEVEL_SUPPORTED;
        r = text_set(&reader.described->registry->name, "cluster");
        if (r >= 0)
                r = read_all(&reader, copy);
        if (r == DESCRIBE_READ)
                *ret = STEAL(reader.described);
        else if (r == DESCRIBE_BAD)
                *ret_sentence = STEAL(reader.sentence);
        return r;
}
