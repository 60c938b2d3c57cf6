/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/describe-internal.h"
#include "core/registry-internal.h"

#define GROUPS_MAX 65535U               /* a number that a person gives; those without one come behind */

#define HEX_DIGITS "0123456789abcdef"
#define MODEL_LENGTH (sizeof("10de:2331") - 1)

/* What a line says of its GPU, or of each of its GPUs. */
typedef struct GpuWords {
        const char *pool;
        char *set, *switch_address;
        uint32_t group;
        uint16_t vendor, device;
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

static int read_gpu_model(Reader *reader, GpuWords *words) {
        char *model;
        uint64_t vendor, device;
        int r = must_have_word(reader, "model", &model);
        if (r != DESCRIBE_READ)
                return r;
        size_t n = strspn(model, HEX_DIGITS);
        if (n != 4 || model[n] != ':' || strspn(model + n + 1, HEX_DIGITS) != 4 || strlen(model) != MODEL_LENGTH)
                return refuse(reader, "a GPU's \"model\" is VENDOR:DEVICE, each four of the digits 0 to 9 and a to f, "
                              "as 10de:2331, not \"%.*s\"", WORD_SHOWN_MAX, model);
        model[n] = '\0';
        r = text_to_u64(model, 16, &vendor);
        if (r >= 0)
                r = text_to_u64(model + n + 1, 16, &device);
        if (r < 0)
                return r;
        words->vendor = (uint16_t) vendor;
        words->device = (uint16_t) device;
        return DESCRIBE_READ;
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
        if (text_equal(word, "model"))
                return read_gpu_model(reader, words);
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
                        .node = described_node_id(node),
                        .vendor = words->vendor, .device = words->device,
                        .subsystem_vendor = 0x10de, .subsystem_device = 0x1626,
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

int read_gpu(Reader *reader) {
        GpuWords words = { .numa = -1, .vendor = DESCRIBED_VENDOR, .device = DESCRIBED_DEVICE };
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
int read_gpus(Reader *reader) {
        GpuWords words = { .numa = -1, .vendor = DESCRIBED_VENDOR, .device = DESCRIBED_DEVICE };
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

static int compare_members(const void *a, const void *b) {
        return strcmp(((const Member *) a)->set, ((const Member *) b)->set);
}

/* Slots that belong together; of a broken set one more, which is nowhere. */
int join_sets(Draft *draft, NodeRecord *node) {
        size_t n = draft->members.n;
        if (n > 1)
                qsort(draft->members.items, n, sizeof(*draft->members.items), compare_members);
        for (size_t i = 0, end; i < n; i = end) {
                _cleanup_(text_list_clear) TextList slots = {};
                bool broken = false;
                int r = 0;
                for (end = i; end < n && compare_members(draft->members.items + i, draft->members.items + end) == 0;
                     end++) {
                        const Member *member = draft->members.items + end;
                        broken = broken || member->broken;
                        if (r >= 0)
                                r = text_list_add(&slots, draft->gpus.items[member->gpu].identity.slot);
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
int fill_pools(Reader *reader, Draft *draft) {
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
