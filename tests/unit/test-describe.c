/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/capacity.h"
#include "core/describe.h"
#include "core/placement.h"
#include "core/roster.h"
#include "world-builder.h"

static Described *read_good(const char *text) {
        Described *described = NULL;
        char *sentence = NULL;
        int r = describe_read(text, &described, &sentence);
        g_assert_cmpstr(sentence, ==, NULL);
        g_assert_cmpint(r, ==, DESCRIBE_READ);
        return described;
}

static char *write_good(const World *world) {
        char *text = NULL;
        g_assert_cmpint(describe_write(world, &text), ==, 0);
        return text;
}

static char *refusal(const char *text) {
        Described *described = NULL;
        char *sentence = NULL;
        g_assert_cmpint(describe_read(text, &described, &sentence), ==, DESCRIBE_BAD);
        g_assert_null(described);
        return sentence;
}

/* "a: 0000:41:00.0 0000:42:00.0", or the code of why not. */
static char *place_of(const World *world, const Vm *vm) {
        Placement placement = {};
        GString *text = g_string_new(NULL);
        if (placement_find(world, vm, &placement) == PLACEMENT_FOUND) {
                g_string_printf(text, "%s:", world_node_name(world, &placement.node));
                for (size_t i = 0; i < placement.n_gpus; i++) {
                        char address[PCI_ADDRESS_TEXT_SIZE];
                        pci_address_to_text(placement.gpus[i].gpu.address, address);
                        g_string_append_printf(text, " %s", address);
                }
        } else
                g_string_assign(text, placement.code);
        placement_clear(&placement);
        return g_string_free(text, FALSE);
}

/* What one pass over all who wait does: "vm1 a:0000:41:00.0; vm2 waits; stops vm3; ". */
static char *pass_of(const World *world) {
        static const RosterRules rules = { .preempts = vm_may_preempt };
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        Roster roster = {};
        GString *text = g_string_new(NULL);
        g_assert_cmpint(inventory_new(world, &inventory), ==, 0);
        g_autofree size_t *tenants = g_new0(size_t, inventory->tenants.n + 1);
        size_t n = 0;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                if (inventory->tenants.items[i].node == NOWHERE && inventory->tenants.items[i].vm->run)
                        tenants[n++] = i;
        g_assert_cmpint(roster_make(inventory, tenants, n, &rules, &roster), ==, 0);
        ARRAY_EACH(item, &roster.items) {
                const Tenant *tenant = inventory->tenants.items + item->tenant;
                g_string_append(text, tenant->vm->name);
                if (tenant->node == NOWHERE)
                        g_string_append(text, " waits");
                else
                        g_string_append_printf(text, " %s:", inventory->nodes.items[tenant->node].record->name);
                for (size_t i = 0; tenant->node != NOWHERE && i < item->choice.n_gpus; i++) {
                        char address[PCI_ADDRESS_TEXT_SIZE];
                        size_t gpu = item->choice.gpus[i];
                        pci_address_to_text(inventory->gpus.items[gpu].view->identity.address, address);
                        g_string_append(text, address);
                }
                g_string_append(text, "; ");
        }
        ARRAY_EACH(belongings, &roster.preempted)
                g_string_append_printf(text, "stops %s; ", inventory->tenants.items[(*belongings)->tenant].vm->name);
        roster_clear(&roster);
        return g_string_free(text, FALSE);
}

static const char *const example =
        "cluster lab level 4\n"
        "pool training pack reserve 1 max-in-use 7\n"
        "\n"
        "# two hosts\n"
        "node a memory 524288 hugepages 1048576 64\n"
        "gpu a 0000:41:00.0 pool training numa 0 switch 0000:40:00.0 set board\n"
        "gpu a 0000:42:00.0 pool training numa 0 switch 0000:40:00.0 set board quarantined\n"
        "node b drained brings-home\n"
        "gpus b 3 pool training          # alike\n"
        "vm bert pool training count 2 priority -7 prefers a prefers b apart render ran b target b home b\n"
        "vm render pool training count 1 on b running 0000:02:00.0\n"
        "vm idle pool nowhere count 64 stopped failed\n";

static void test_what_is_said_is_so(void) {
        _cleanup_(described_freep) Described *described = read_good(example);
        const Registry *registry = described->registry;
        const NodeRecord *b = registry_find_node_name(registry, "b");
        const Vm *bert = registry_find_vm_name(registry, "bert"), *render = registry_find_vm_name(registry, "render");
        const Pool *training = registry_find_pool(registry, "training");

        g_assert_cmpstr(registry->name, ==, "lab");
        g_assert_cmpuint(registry->level, ==, 4);
        g_assert_cmpuint(training->reserve, ==, 1);
        g_assert_cmpuint(training->max_in_use, ==, 7);
        g_assert_cmpuint(training->gpus.n, ==, 5);
        g_assert_cmpuint(registry->quarantines.n, ==, 1);
        g_assert_cmpint(b->drain, ==, DRAIN_BY_HAND);
        g_assert_cmpuint(described->facts.items[0]->memory_total, ==, UINT64_C(512) << 30);
        g_assert_cmpuint(described->facts.items[0]->hugepages[0].total, ==, 64);
        g_assert_cmpuint(described->facts.items[1]->memory_total, ==, UINT64_C(1) << 40);
        g_assert_cmpint(bert->priority, ==, -7);
        g_assert_cmpuint(bert->preferred_nodes.n, ==, 2);
        g_assert_cmpstr(bert->affinity[0].vm, ==, "render");
        g_assert_true(ID_EQUAL(&bert->target, &b->id));
        g_assert_true(ID_EQUAL(&bert->home, &b->id) && b->bring_home);
        g_assert_cmpint(vm_state(render), ==, VM_STATE_RUNNING);
        g_assert_cmpuint(render->assignment.gpus[0].gpu.address.bus, ==, 2);
        g_assert_false(registry_find_vm_name(registry, "idle")->run);
}

static const char *const needy =
        "pool p pack\n"
        "node a memory 524288 hugepages-default 2048 numa-memory 0 0 262144 numa-memory 1 0 262144 cpu EPYC-Genoa "
        "cpu EPYC-Milan cpu-vendor AMD lacks image hangs disk\n"
        "gpus a 2 pool p model 10de:2342\n"
        "node b memory-kib 1025 cpu -\n"
        "gpus b 2 pool p\n"
        "vm v pool p count 2 model 10de:23?2 preempt memory 262144 hugepages 2048 numa 0 numa 2 cpu EPYC-Genoa "
        "cpu-vendor AMD file image file disk file other rather-with w rather-apart x\n"
        "vm w pool p preemptible host-cpu memory-kib 1025\n";

static void test_needs_are_read_as_they_are_said(void) {
        _cleanup_(described_freep) Described *described = read_good(needy);
        const NodeFacts *a = described->facts.items[0], *b = described->facts.items[1];
        const Vm *v = registry_find_vm_name(described->registry, "v");
        const Vm *w = registry_find_vm_name(described->registry, "w");
        g_assert_cmpuint(a->gpus[0].identity.device, ==, 0x2342);
        g_assert_cmpuint(b->gpus[0].identity.device, ==, DESCRIBED_DEVICE);
        g_assert_cmpuint(a->hugepage_default_bytes, ==, 2048 << 10);
        g_assert_cmpuint(a->n_numa_memory, ==, 2);
        g_assert_cmpuint(a->cpu_models.n, ==, 2);
        g_assert_cmpuint(b->memory_total, ==, 1025 << 10);
        g_assert_true(vm_model_matches(v, 0x10de, 0x2342) && !vm_model_matches(v, 0x10de, 0x2331));
        g_assert_true(v->preempt && !v->preemptible && w->preemptible && !w->preempt);
        g_assert_cmpuint(v->needs.memory_bytes, ==, UINT64_C(256) << 30);
        g_assert_cmpuint(v->needs.hugepage_size_bytes, ==, 2048 << 10);
        g_assert_cmpuint(v->needs.numa_nodes, ==, 5);
        g_assert_cmpint(v->affinity[0].kind, ==, AFFINITY_RATHER_WITH);
        g_assert_cmpint(v->affinity[1].kind, ==, AFFINITY_RATHER_APART);
        g_assert_true(w->needs.host_cpu);
        g_assert_cmpuint(w->needs.memory_bytes, ==, 1025 << 10);
        g_assert_cmpuint(capacity_judge(&v->needs, a, NULL), ==, CAPACITY_STORAGE);
        g_assert_cmpuint(capacity_judge(&v->needs, b, NULL), ==, CAPACITY_CPU);
        g_assert_cmpuint(capacity_judge(&w->needs, b, NULL), ==, 0);
}

/* What nobody needs is not told, and no file's name is. */
static void test_needs_are_written_without_names_of_files(void) {
        _cleanup_(described_freep) Described *described = read_good(needy);
        _cleanup_free_ char *written = write_good(&described->world);
        _cleanup_(described_freep) Described *again = read_good(written);
        _cleanup_free_ char *rewritten = write_good(&again->world);
        g_assert_cmpstr(written, ==, rewritten);
        g_assert_nonnull(strstr(written, "\nnode a memory 524288 hugepages-default 2048 numa-memory 0 0 262144 "
                                         "numa-memory 1 0 262144 cpu-vendor AMD cpu EPYC-Genoa hangs f000000 lacks "
                                         "f000001\n"));
        g_assert_nonnull(strstr(written, "\nnode b memory-kib 1025 cpu -\n"));
        g_assert_nonnull(strstr(written, "0000:02:00.0 pool p model 10de:2342\n"));
        g_assert_nonnull(strstr(written, "\nvm v pool p count 2 priority 50 model 10de:23?2 preempt memory 262144 "
                                         "hugepages 2048 numa 0 numa 2 cpu EPYC-Genoa cpu-vendor AMD file f000001 file "
                                         "f000000 rather-with w rather-apart x\n"));
        g_assert_null(strstr(written, "image"));
}

/* That it needs files at all decides who may make way for whom. */
static void test_files_that_nobody_lacks_are_told_as_one(void) {
        _cleanup_(described_freep) Described *described = read_good("pool p pack\nnode a lacks disk\n"
                                                                    "vm v pool p file one file two\n"
                                                                    "vm w pool p file one file disk\n");
        _cleanup_free_ char *written = write_good(&described->world);
        g_assert_nonnull(strstr(written, "\nvm v pool p count 1 priority 50 file present\n"));
        g_assert_nonnull(strstr(written, "\nvm w pool p count 1 priority 50 file f000000\n"));
        _cleanup_(described_freep) Described *again = read_good(written);
        _cleanup_free_ char *rewritten = write_good(&again->world);
        g_assert_cmpstr(written, ==, rewritten);
}

/* Another one was there before, and is quarantined still. */
static void test_of_gpus_at_one_address_the_pool_s_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        quarantined(w, "a", 0);
        gpu_of(w, "a", 0)->identity.device = 0x2342;
        pool_of(w, "p", "a");
        unplugged(w, "a", 0);
        _cleanup_free_ char *written = write_good(world_now(w));
        g_assert_nonnull(strstr(written, "\ngpu a 0000:41:00.0 pool p model 10de:2342 absent\n"));
}

static void test_what_is_written_says_the_same(void) {
        _cleanup_(described_freep) Described *described = read_good(example);
        _cleanup_free_ char *written = write_good(&described->world);
        _cleanup_(described_freep) Described *again = read_good(written);
        _cleanup_free_ char *rewritten = write_good(&again->world);
        g_assert_cmpstr(written, ==, rewritten);
        g_assert_nonnull(strstr(written, "gpu a 0000:42:00.0 pool training quarantined numa 0 switch 0000:40:00.0 set "
                                         "0000:41:00.0\n"));
        g_assert_nonnull(strstr(written, "vm render pool training count 1 priority 50 on b running 0000:02:00.0\n"));
}

static unsigned draw(GRand *rand, unsigned below) {
        return (unsigned) g_rand_int_range(rand, 0, (int) below);
}

static void bend_node(WorldBuilder *w, GRand *rand, const char *node) {
        NodeRecord *record = node_named(w, node);
        NodeFacts *facts = facts_of(w, node);
        record->level = w->registry->level;
        record->bring_home = draw(rand, 3) == 0;
        switch (draw(rand, 12)) {
        case 0:
                record->drain = DRAIN_BY_HAND;
                break;
        case 1:
                record->lost = true;
                break;
        case 2:
                record->witness = true;
                break;
        case 3:
                facts->guard_connected = false;
                break;
        case 4:
                facts->hypervisor = HYPERVISOR_HUNG;
                break;
        case 5:
                facts->iommu_present = false;
                break;
        case 6:
                record->level = 1;
                break;
        case 7:
                forget_facts(w, node);
                break;
        default:
                break;
        }
}

/* The registry knows that it goes with another one, which nobody has seen since. */
static void linked_to_nobody(WorldBuilder *w, const char *node, size_t gpu) {
        _cleanup_(text_list_clear) TextList slots = {};
        g_assert_cmpint(text_list_add(&slots, gpu_of(w, node, gpu)->identity.slot), ==, 0);
        g_assert_cmpint(text_list_add(&slots, "pci0000:77/01.0/00.0"), ==, 0);
        g_assert_cmpint(fabric_join(&node_named(w, node)->fabric, &slots), ==, 0);
}

static void needs(WorldBuilder *w, GRand *rand, const char *name) {
        static const char *const models[] = { "EPYC-Genoa", "Skylake-Server", "not a name" };
        Vm *vm = vm_named(w, name);
        g_autofree char *path = g_strdup_printf("/images/%u", draw(rand, 4));
        if (draw(rand, 4) == 0)
                g_assert_cmpint(text_set(&vm->model, draw(rand, 2) ? "10de:2331" : "10de:23*"), ==, 0);
        vm->preempt = draw(rand, 3) == 0;
        vm->preemptible = draw(rand, 2) == 0;
        vm->needs.memory_bytes = draw(rand, 3) ? draw(rand, 6) * (UINT64_C(100) << 30) + draw(rand, 3) * 1024 : 0;
        vm->needs.hugepages = draw(rand, 5) == 0;
        vm->needs.hugepage_size_bytes = vm->needs.hugepages && draw(rand, 2) ? UINT64_C(1) << 30 : 0;
        vm->needs.numa_nodes = draw(rand, 6) == 0 ? 1 + draw(rand, 3) : 0;
        vm->needs.host_cpu = draw(rand, 4) == 0;
        if (draw(rand, 4) == 0)
                g_assert_cmpint(text_set(&vm->needs.cpu_model, models[draw(rand, G_N_ELEMENTS(models))]), ==, 0);
        if (draw(rand, 8) == 0)
                g_assert_cmpint(text_set(&vm->needs.cpu_vendor, draw(rand, 2) ? "AMD" : "a b"), ==, 0);
        if (draw(rand, 3) == 0)
                g_assert_cmpint(text_list_add(&vm->needs.paths, path), ==, 0);
}

static void lacks(GRand *rand, PathSet *set) {
        uint32_t more;
        g_autofree char *path = g_strdup_printf("/images/%u", draw(rand, 4));
        const SeenPath paths[] = { { .path = draw(rand, 6) ? path : "/images", .sight = PATH_MISSING } };
        g_assert_cmpint(path_set_gather(paths, 1, PATH_MISSING, 1, set, &more), ==, 0);
}

static void has(WorldBuilder *w, GRand *rand, const char *node) {
        NodeFacts *facts = facts_of(w, node);
        facts->memory_total = (UINT64_C(300) << 30) + draw(rand, 3) * (UINT64_C(100) << 30) + (draw(rand, 2) << 10);
        facts->hugepage_default_bytes = draw(rand, 2) ? UINT64_C(2) << 20 : 0;
        if (draw(rand, 3) == 0)
                g_assert_cmpint(text_list_add(&facts->cpu_models, draw(rand, 2) ? "EPYC-Genoa" : "Opteron_G1"), ==, 0);
        if (draw(rand, 3) == 0)
                g_assert_cmpint(text_set(&facts->cpu_vendor, draw(rand, 2) ? "AMD" : "Intel"), ==, 0);
        if (draw(rand, 3) == 0)
                lacks(rand, &facts->missing_paths);
        if (draw(rand, 5) == 0)
                lacks(rand, &facts->hanging_paths);
        if (draw(rand, 3) == 0) {
                facts->numa_memory = calloc(2, sizeof(*facts->numa_memory));
                facts->numa_memory[0] = (NumaMemory) { .node = 0, .total_bytes = UINT64_C(150) << 30 };
                facts->numa_memory[1] = (NumaMemory) { .node = 1, .total_bytes = UINT64_C(250) << 30 };
                facts->n_numa_memory = 2;
        }
}

static void add_node_gpus(WorldBuilder *w, GRand *rand, const char *node) {
        unsigned n = 1 + draw(rand, 8);
        with_gpus(w, node, n);
        for (unsigned i = 0; i + 1 < n; i += 2) {
                if (draw(rand, 2) == 0)
                        behind_switch(w, node, i, 2, i < 4 ? "0000:40:00.0" : "0000:50:00.0");
                on_numa_node(w, node, i, 2, i < 4 ? 0 : 1);
                if (draw(rand, 4) == 0)
                        linked(w, node, i, 2);
                else if (draw(rand, 6) == 0)
                        gpu_of(w, node, i)->iommu_group = gpu_of(w, node, i + 1)->iommu_group;
        }
        if (draw(rand, 4) == 0)
                linked_to_nobody(w, node, draw(rand, n));
        if (draw(rand, 5) == 0)
                quarantined(w, node, draw(rand, n));
        if (draw(rand, 5) == 0)
                gpu_of(w, node, draw(rand, n))->sriov_vfs = 4;
        for (unsigned i = 0; i < n; i++)
                if (draw(rand, 4) == 0)
                        gpu_of(w, node, i)->identity.device = 0x2342;
        has(w, rand, node);
}

static WorldBuilder *random_world(GRand *rand) {
        static const char *const nodes[] = { "a", "b", "c", "d", "e" };
        static const char *const bonds[] = { "with", "apart", "rather-with", "rather-apart" };
        unsigned n_nodes = 1 + draw(rand, G_N_ELEMENTS(nodes));
        WorldBuilder *w = world_of(n_nodes);
        GString *pooled = g_string_new(NULL);
        w->registry->level = 1 + draw(rand, 2);
        for (unsigned i = 0; i < n_nodes; i++) {
                add_node_gpus(w, rand, nodes[i]);
                g_string_append_printf(pooled, "%s ", nodes[i]);
        }
        Pool *pool = pool_of(w, "p", pooled->str);
        g_string_free(pooled, TRUE);
        pool->placement = draw(rand, 2) ? POOL_SPREAD : POOL_PACK;
        pool->reserve = draw(rand, 3);
        for (unsigned i = 0; i < n_nodes; i++)
                if (draw(rand, 5) == 0)
                        unplugged(w, nodes[i], 0);
        for (unsigned i = 0; i < 8; i++) {
                char name[16], other[16];
                g_snprintf(name, sizeof(name), "vm%u", i);
                g_snprintf(other, sizeof(other), "vm%u", draw(rand, 8));
                const char *node = nodes[draw(rand, n_nodes)];
                vm_of(w, name, draw(rand, 10) ? "p" : "none", 1 + draw(rand, 4))->priority = (int) draw(rand, 3);
                needs(w, rand, name);
                if (draw(rand, 3) == 0)
                        must_be(w, name, bonds[draw(rand, G_N_ELEMENTS(bonds))], other);
                if (draw(rand, 3) == 0)
                        prefers(w, name, node);
                if (draw(rand, 4) == 0)
                        ran_on(w, name, node);
                if (draw(rand, 4) == 0)
                        vm_named(w, name)->home = node_named(w, nodes[draw(rand, n_nodes)])->id;
                if (draw(rand, 4) == 0)
                        g_assert_cmpint(text_set(&vm_named(w, name)->reason_code, end_cause_to_text(END_NODE_LOST)), ==,
                                        0);
                if (draw(rand, 4) == 0 && i < facts_of(w, node)->n_gpus) {
                        char gpu[8];
                        g_snprintf(gpu, sizeof(gpu), "%u", i);
                        runs(w, name, node, gpu);
                }
        }
        for (unsigned i = 0; i < n_nodes; i++)
                bend_node(w, rand, nodes[i]);
        return w;
}

static void check_needs(const World *a, const World *b, unsigned seed) {
        ARRAY_EACH(vm, &a->registry->vms) {
                const Vm *same = registry_find_vm_name(b->registry, vm->name);
                g_assert_cmpint(vm->preempt, ==, same->preempt);
                g_assert_cmpint(vm->preemptible, ==, same->preemptible);
                g_assert_cmpint(vm->needs.host_cpu, ==, same->needs.host_cpu);
                g_assert_cmpstr(vm->model, ==, same->model);
                ARRAY_EACH(node, &a->registry->nodes) {
                        const NodeRecord *same_node = registry_find_node_name(b->registry, node->name);
                        unsigned before = capacity_judge(&vm->needs, world_find_facts(a, &node->id), NULL);
                        unsigned after = capacity_judge(&same->needs, world_find_facts(b, &same_node->id), NULL);
                        if (before != after)
                                g_test_message("seed %u, VM %s on %s", seed, vm->name, node->name);
                        g_assert_cmpuint(before, ==, after);
                }
        }
}

/* The same cluster, of which nodes and VMs came, and have their ids, the other way round. */
static char *turn_round(const char *text) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        GString *head = g_string_new(NULL), *nodes = g_string_new(NULL), *vms = g_string_new(NULL);
        GString *host = g_string_new(NULL);
        for (char **line = lines; *line; line++) {
                g_autofree char *whole = g_strconcat(*line, "\n", NULL);
                if (g_str_has_prefix(*line, "node ")) {
                        g_string_prepend(nodes, host->str);
                        g_string_assign(host, whole);
                } else if (g_str_has_prefix(*line, "gpu "))
                        g_string_append(host, whole);
                else if (g_str_has_prefix(*line, "vm "))
                        g_string_prepend(vms, whole);
                else
                        g_string_append(head, whole);
        }
        g_string_prepend(nodes, host->str);
        g_string_append_printf(head, "%s%s", nodes->str, vms->str);
        g_string_free(host, TRUE);
        g_string_free(nodes, TRUE);
        g_string_free(vms, TRUE);
        return g_string_free(head, FALSE);
}

static void test_what_came_in_another_order_gets_the_same_places(void) {
        for (unsigned seed = 1; seed <= 1000; seed++) {
                GRand *rand = g_rand_new_with_seed(seed);
                _cleanup_(world_builder_freep) WorldBuilder *w = random_world(rand);
                _cleanup_free_ char *text = write_good(world_now(w));
                g_autofree char *turned = turn_round(text);
                _cleanup_(described_freep) Described *described = read_good(turned);
                g_assert_cmpuint(described->registry->vms.n, ==, w->registry->vms.n);
                g_autofree char *pass = pass_of(world_now(w)), *pass_again = pass_of(&described->world);
                if (!text_equal(pass, pass_again))
                        g_test_message("seed %u\n%s", seed, text);
                g_assert_cmpstr(pass, ==, pass_again);
                g_rand_free(rand);
        }
}

static void test_what_is_read_again_gets_the_same_places(void) {
        for (unsigned seed = 1; seed <= 3000; seed++) {
                GRand *rand = g_rand_new_with_seed(seed);
                _cleanup_(world_builder_freep) WorldBuilder *w = random_world(rand);
                _cleanup_free_ char *text = write_good(world_now(w));
                _cleanup_(described_freep) Described *described = read_good(text);
                _cleanup_free_ char *again = write_good(&described->world);
                if (!text_equal(text, again))
                        g_test_message("seed %u", seed);
                g_assert_cmpstr(text, ==, again);
                check_needs(world_now(w), &described->world, seed);
                ARRAY_EACH(vm, &w->registry->vms) {
                        char *before = place_of(world_now(w), vm);
                        char *after = place_of(&described->world,
                                               registry_find_vm_name(described->registry, vm->name));
                        if (!text_equal(before, after))
                                g_test_message("seed %u, VM %s\n%s", seed, vm->name, text);
                        g_assert_cmpstr(before, ==, after);
                        g_free(before);
                        g_free(after);
                }
                g_autofree char *pass = pass_of(world_now(w)), *pass_again = pass_of(&described->world);
                if (!text_equal(pass, pass_again))
                        g_test_message("seed %u\n%s", seed, text);
                g_assert_cmpstr(pass, ==, pass_again);
                g_rand_free(rand);
        }
}

static void test_bad_input_is_told_with_its_line(void) {
        static const struct {
                const char *text, *sentence;
        } cases[] = {
                { "nod a\n", "line 1: a line begins with cluster, pool, node, gpu, gpus, vm or #, not with \"nod\"" },
                { "\n\nnode\n", "line 3: something must follow \"node\"" },
                { "node -a\n",
                  "line 1: \"-a\" is no name: 1 to 63 letters, digits, \".\", \"_\" and \"-\", the first a letter or a "
                  "digit" },
                { "node a\nnode a\n", "line 2: there is a node a already" },
                { "node a fast\n", "line 1: \"fast\" means nothing in a line that begins with \"node\"" },
                { "node a memory 1G\n",
                  "line 1: \"memory\" takes a whole number from 0 to 1099511627776, not \"1G\"" },
                { "gpu a 0000:41:00.0\n", "line 1: there is no node a; its line must stand above" },
                { "node a\ngpu a 41:00.0\n", "line 2: \"41:00.0\" is no PCI address; one looks like 0000:41:00.0" },
                { "node a\ngpus a 1 pool p\n", "line 2: there is no pool p; its line must stand above" },
                { "node a\ngpus a 1\ngpu a 0000:01:00.0\n", "line 3: the node has a GPU at this address already" },
                { "node a\ngpus a 255\ngpus a 1\n", "line 3: the node has no room for so many GPUs" },
                { "node a\npool p pack\n", "line 2: the lines of pools stand before those of nodes" },
                { "node a\ncluster c\n", "line 2: the line of the cluster stands once, and before all nodes" },
                { "pool p pack\npool p pack\n", "line 2: there is a pool p already" },
                { "vm v count 1\n", "line 1: VM v needs a pool: vm v pool NAME count N" },
                { "vm v pool p count 0\n", "line 1: \"count\" takes a whole number from 1 to 64, not \"0\"" },
                { "vm v pool p priority -1001\n",
                  "line 1: \"priority\" takes a whole number from -1000 to 1000, not \"-1001\"" },
                { "vm v pool p\nvm v pool p\n", "line 2: there is a VM v already" },
                { "vm v pool p model 10de\n",
                  "line 1: \"model\" takes VENDOR:DEVICE in hexadecimal digits, ? and *, as 10de:23*, not \"10de\"" },
                { "node a\ngpus a 1 model 10de:23*\n",
                  "line 2: a GPU's \"model\" is VENDOR:DEVICE, each four of the digits 0 to 9 and a to f, as "
                  "10de:2331, not \"10de:23*\"" },
                { "node a cpu a/b\n",
                  "line 1: \"cpu\" takes the name of a CPU model, or - where there is none to tell, not \"a/b\"" },
                { "node a numa-memory 0 0 1024 numa-memory 0 0 1024\n",
                  "line 1: NUMA node 0 has this kind of memory twice" },
                { "vm v pool p memory 1G\n",
                  "line 1: \"memory\" takes a whole number from 0 to 1099511627776, not \"1G\"" },
                { "vm v pool p numa 64\n", "line 1: \"numa\" takes a whole number from 0 to 63, not \"64\"" },
                { "node a\nvm v pool p on a\n", "line 2: something must follow \"on NODE\"" },
                { "node a\nvm v pool p on a walking\n",
                  "line 2: behind \"on\" and the node stands starting, running or stopping" },
                { "node a\nvm v pool p on a running 0000:01:00.0\n",
                  "line 2: node a has no GPU 0000:01:00.0; its line must stand above" },
                { "node a\ngpus a 1\nvm v pool p on a running 0000:01:00.0\nvm w pool p on a running 0000:01:00.0\n",
                  "line 4: GPU 0000:01:00.0 is the VM's of line 3 already" },
                { "node a\nvm v pool p on a running priority 7\n",
                  "line 2: \"priority\" is no PCI address, and behind \"on\" there are only those" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                _cleanup_free_ char *sentence = refusal(cases[i].text);
                g_assert_cmpstr(sentence, ==, cases[i].sentence);
        }
}

static void test_a_level_that_nobody_knows_is_refused(void) {
        _cleanup_free_ char *sentence = refusal("cluster c level 99\n"), *expected = NULL;
        g_assert_cmpint(text_printf(&expected, "line 1: \"level\" takes a whole number from 1 to %u, not \"99\"",
                                    LEVEL_SUPPORTED), ==, 0);
        g_assert_cmpstr(sentence, ==, expected);
}

static void test_no_terminal_is_driven_by_a_refusal(void) {
        _cleanup_free_ char *sentence = refusal("\033[31mnode\n");
        g_assert_true(text_is_printable(sentence));
}

static void test_a_node_has_no_more_gpus_than_the_registry_lets_it(void) {
        GString *text = g_string_new("node a\ngpus a 255\n");
        g_string_append(text, "gpu a 0000:01:01.0\n");
        _cleanup_(described_freep) Described *described = read_good(text->str);
        g_assert_cmpuint(described->facts.items[0]->n_gpus, ==, GPUS_PER_NODE_MAX);
        g_string_append(text, "gpu a 0000:01:02.0\n");
        _cleanup_free_ char *sentence = refusal(text->str);
        g_assert_cmpstr(sentence, ==, "line 4: a node has at most 256 GPUs, and a cluster 65536");
        g_string_free(text, TRUE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/describe/what is said is so", test_what_is_said_is_so);
        g_test_add_func("/describe/what is written says the same", test_what_is_written_says_the_same);
        g_test_add_func("/describe/needs are read as they are said", test_needs_are_read_as_they_are_said);
        g_test_add_func("/describe/needs are written without names of files",
                        test_needs_are_written_without_names_of_files);
        g_test_add_func("/describe/files that nobody lacks are told as one",
                        test_files_that_nobody_lacks_are_told_as_one);
        g_test_add_func("/describe/of GPUs at one address the pool's is told",
                        test_of_gpus_at_one_address_the_pool_s_is_told);
        g_test_add_func("/describe/what is read again gets the same places",
                        test_what_is_read_again_gets_the_same_places);
        g_test_add_func("/describe/what came in another order gets the same places",
                        test_what_came_in_another_order_gets_the_same_places);
        g_test_add_func("/describe/bad input is told with its line", test_bad_input_is_told_with_its_line);
        g_test_add_func("/describe/a level that nobody knows is refused", test_a_level_that_nobody_knows_is_refused);
        g_test_add_func("/describe/no terminal is driven by a refusal", test_no_terminal_is_driven_by_a_refusal);
        g_test_add_func("/describe/a node has no more GPUs than the registry lets it",
                        test_a_node_has_no_more_gpus_than_the_registry_lets_it);
        return g_test_run();
}
