/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes corpus/gossip and corpus/facts anew: make-gossip-corpus FOLDER. For when the schema of either has changed. */

#include <glib.h>
#include <stdio.h>

#include "core/facts-codec.h"
#include "core/names.h"
#include "unit/gossip-exchange.h"

static void write_file(const char *folder, const char *kind, const char *name, const GByteArray *bytes) {
        g_autofree char *path = g_strdup_printf("%s/%s/%s", folder, kind, name);
        g_assert_true(g_file_set_contents(path, (const char *) bytes->data, (gssize) bytes->len, NULL));
}

static void append(GByteArray *to, uint8_t kind, const void *bytes, size_t size) {
        uint8_t head[] = { kind, (uint8_t) size, (uint8_t) (size >> 8) };
        g_byte_array_append(to, head, sizeof(head));
        g_byte_array_append(to, bytes, (guint) size);
}

/* ---- gossip, as fuzz-gossip.c sees it: to node 0 of 24 */

#define NODES 24U

static NodeId node_id(unsigned number) {
        return (NodeId) { { (uint8_t) (number << 4), (uint8_t) number } };
}

static Gossip *gossip_of(unsigned number, unsigned n_facts) {
        Gossip *gossip = NULL;
        NodeId id = node_id(number), nodes[NODES];
        for (unsigned i = 0; i < NODES; i++)
                nodes[i] = node_id(i);
        g_assert_cmpint(gossip_new(&gossip, &id, 1 + number), ==, 0);
        g_assert_cmpint(gossip_set_members(gossip, nodes, NODES), ==, 0);
        for (unsigned i = 0; i < n_facts; i++) {
                char key[16];
                (void) snprintf(key, sizeof(key), "k%u", i);
                g_assert_cmpint(gossip_set(gossip, key, key, i), ==, GOSSIP_SET_CHANGED);
                if (i % 3 == 2)
                        g_assert_cmpint(gossip_remove(gossip, key), ==, GOSSIP_SET_CHANGED);
        }
        return gossip;
}

static void append_message(GByteArray *to, uint8_t from, const Gpupool1__Gossip *message) {
        size_t size = gpupool1__gossip__get_packed_size(message);
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        gpupool1__gossip__pack(message, bytes);
        append(to, from, bytes, size);
}

/* All that @speaker says in an exchange with node 0. */
static void write_exchange(const char *folder, unsigned number, Gossip *speaker, Gossip *hearer) {
        g_autoptr(GByteArray) said = g_byte_array_new();
        Gpupool1__Gossip *message = NULL;
        g_assert_cmpint(gossip_begin(speaker, &message), ==, 0);
        for (Gossip *from = speaker, *to = hearer; message;) {
                if (from == speaker)
                        append_message(said, (uint8_t) number, message);
                GossipReply reply = {};
                g_assert_cmpint(gossip_receive(to, gossip_self(from), message, &reply), ==, GOSSIP_TAKEN);
                gossip_message_free(message);
                message = STEAL(reply.message);
                gossip_reply_clear(&reply);
                Gossip *swap = from;
                from = to;
                to = swap;
        }
        g_autofree char *name = g_strdup_printf("exchange-%02u", number);
        write_file(folder, "gossip", name, said);
}

static void write_gossip(const char *folder) {
        _cleanup_(gossip_freep) Gossip *hearer = gossip_of(0, 3), *knowing = gossip_of(23, 9);
        for (unsigned i = 1; i < 22; i++) {
                _cleanup_(gossip_freep) Gossip *other = gossip_of(i, i);
                if (i % 4 == 0)
                        write_exchange(folder, i, other, hearer);
                else
                        (void) exchange(other, knowing);
        }
        write_exchange(folder, 23, knowing, hearer);
}

/* ---- facts */

static NodeFacts make_facts(unsigned n_gpus) {
        NodeFacts facts = { .node = { { 1 } }, .incarnation = 3, .memory_total = UINT64_C(1) << 39,
                            .memory_free = UINT64_C(1) << 38, .address_bits = 52, .iommu_present = true,
                            .hypervisor = HYPERVISOR_CONNECTED };
        g_assert_cmpint(text_set(&facts.kernel, "6.1.0-18-amd64"), ==, 0);
        g_assert_cmpint(text_list_add(&facts.addresses, "10.0.0.1:7411"), ==, 0);
        facts.hugepages = g_new0(Hugepages, 1);
        facts.hugepages[0] = (Hugepages) { 1 << 21, 100, 50 };
        facts.n_hugepages = 1;
        facts.hugepage_default_bytes = 1 << 21;
        facts.numa_memory = g_new0(NumaMemory, 2);
        facts.numa_memory[1] = (NumaMemory) { 63, 1 << 21, UINT64_MAX };
        facts.n_numa_memory = 2;
        facts.missing_paths = (PathSet) { g_new0(uint64_t, 2), 2 };
        facts.hanging_paths = (PathSet) { g_new0(uint64_t, 1), 1 };
        facts.missing_paths.hashes[1] = facts.hanging_paths.hashes[0] = UINT64_MAX;
        facts.untold_paths = 7;
        g_assert_cmpint(text_set(&facts.cpu_vendor, "AMD"), ==, 0);
        g_assert_cmpint(text_list_add(&facts.cpu_models, "EPYC-Genoa"), ==, 0);
        facts.gpus = g_new0(GpuFacts, n_gpus + 1);
        for (; facts.n_gpus < n_gpus; facts.n_gpus++) {
                GpuFacts *gpu = facts.gpus + facts.n_gpus;
                gpu->identity = (GpuIdentity) { .node = facts.node, .slot = "pci0000:40/01.0/00.0", .vendor = 0x10de,
                                                .device = 0x2331, .serial = "00112233",
                                                .address = { .bus = (uint8_t) (0x41 + facts.n_gpus) } };
                gpu->address = gpu->identity.address;
                gpu->class = 0x030200;
                gpu->iommu_group = 12;
                gpu->bars[1] = (GpuBar) { UINT64_C(1) << 40, UINT64_C(1) << 37, true };
                PciFunction function = { .address = gpu->address, .class = 0x040300, .same_slot = true };
                function.address.function = 1;
                GpuHolder holder = { .pid = 812 };
                g_assert_cmpint(text_set(&holder.name, "python3"), ==, 0);
                g_assert_cmpint(gpu_facts_add_function(gpu, function), ==, 0);
                g_assert_cmpint(gpu_facts_add_holder(gpu, holder), ==, 0);
                g_assert_cmpint(text_list_add(&gpu->reset_methods, "flr"), ==, 0);
                g_assert_cmpint(text_set(&gpu->driver, "vfio-pci"), ==, 0);
        }
        return facts;
}

static void append_value(GByteArray *to, const Gossip *gossip, uint8_t kind, const char *key) {
        size_t size;
        const void *value = gossip_get(gossip, gossip_self(gossip), key, &size);
        if (value)
                append(to, kind, value, size);
}

static void write_facts(const char *folder, const char *name, unsigned n_gpus, bool more) {
        _cleanup_(gossip_freep) Gossip *gossip = NULL;
        NodeFacts facts = make_facts(n_gpus);
        g_assert_cmpint(gossip_new(&gossip, &facts.node, 1), ==, 0);
        g_assert_cmpint(facts_publish(gossip, &facts), ==, 0);
        if (more) {
                static char stage[] = "binding", sentence[] = "the GPU is held";
                SilentNode silent = { { { 3 } }, 1700000000000 };
                VmId vm = { { 2 } };
                g_assert_cmpint(vm_facts_publish(gossip, &vm, &(VmFacts) { 4, stage, stage, sentence }), ==, 0);
                g_assert_cmpint(silent_facts_publish(gossip, &(SilentFacts) { 9, &silent, 1, 2 }), ==, 0);
                FencedNode fenced = { { { 3 } }, FENCED_FAILED, 5, sentence, 1700000000000 };
                FencingFacts fencing = { &fenced, 1, 1 };
                g_assert_cmpint(fencing_facts_publish(gossip, &fencing), ==, 0);
        }
        node_facts_clear(&facts);

        /* By their places in fuzz-facts.c. */
        g_autoptr(GByteArray) values = g_byte_array_new();
        append_value(values, gossip, 0, "host");
        append_value(values, gossip, 1, "load");
        append_value(values, gossip, 2, "gpu/0000:41:00.0");
        append_value(values, gossip, 3, "gpu/0000:42:00.0");
        append_value(values, gossip, 4, "gpu/0000:42:00.0");
        append_value(values, gossip, 6, "silent");
        append_value(values, gossip, 7, "vm/02000000000000000000000000000000");
        append_value(values, gossip, 8, "fencing");
        append_value(values, gossip, 9, "cpu");
        append_value(values, gossip, 10, "storage");
        append_value(values, gossip, 11, "numa");
        write_file(folder, "facts", name, values);
}

int main(int argc, char **argv) {
        if (argc != 2) {
                fprintf(stderr, "usage: make-gossip-corpus FOLDER\n");
                return 2;
        }
        write_gossip(argv[1]);
        write_facts(argv[1], "host", 0, false);
        write_facts(argv[1], "gpus", 2, false);
        write_facts(argv[1], "all", 2, true);
        return 0;
}
