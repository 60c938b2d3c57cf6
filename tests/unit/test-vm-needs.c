/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM's XML asks of a host beside GPUs. */

#include <glib.h>

#include "core/vm-needs.h"
#include "util/array.h"
#include "util/cleanup.h"

#define GIB (UINT64_C(1) << 30)
#define DOMAIN(inner) "<domain type='kvm'><name>bert</name>" inner "</domain>"

static VmNeeds needs_of(const char *xml) {
        VmNeeds needs = { .memory_bytes = 1 };
        g_assert_cmpint(vm_needs_read(xml, strlen(xml), &needs), ==, 0);
        return needs;
}

static void test_memory_pages_files_and_cpu_are_read(void) {
        _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(DOMAIN(
                "<memory unit='GiB'>64</memory><currentMemory unit='GiB'>8</currentMemory>"
                "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>"
                "<os><loader>/usr/share/OVMF/OVMF_CODE.fd</loader></os>"
                "<cpu mode='custom' match='exact'><model>EPYC-Genoa</model><vendor>AMD</vendor></cpu>"
                "<devices><disk><source file='/srv/bert.qcow2'/></disk><disk><source dev='/dev/vg/bert'/></disk>"
                "<filesystem><source dir='/srv/data'/></filesystem></devices>"));
        g_assert_cmpuint(needs.memory_bytes, ==, 64 * GIB);
        g_assert_true(needs.hugepages);
        g_assert_cmpuint(needs.hugepage_size_bytes, ==, GIB);
        g_assert_cmpstr(needs.cpu_model, ==, "EPYC-Genoa");
        g_assert_cmpstr(needs.cpu_vendor, ==, "AMD");
        g_assert_false(needs.host_cpu);
        static const char *const paths[] = {
                "/usr/share/OVMF/OVMF_CODE.fd", "/srv/bert.qcow2", "/dev/vg/bert", "/srv/data",
        };
        g_assert_cmpuint(needs.paths.n, ==, ELEMENTS(paths));
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                g_assert_cmpstr(needs.paths.items[i], ==, paths[i]);
}

static void test_a_guest_that_sees_the_hosts_cpu_starts_on_any(void) {
        static const char *const modes[] = { "host-passthrough", "host-model" };
        for (size_t i = 0; i < ELEMENTS(modes); i++) {
                g_autofree char *xml = g_strdup_printf(DOMAIN("<cpu mode='%s'><model>EPYC</model></cpu>"), modes[i]);
                _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(xml);
                g_assert_true(needs.host_cpu);
                g_assert_null(needs.cpu_model);
        }
        _cleanup_(vm_needs_clear) VmNeeds most = needs_of(DOMAIN("<cpu mode='maximum'><model>EPYC</model></cpu>"));
        g_assert_false(most.host_cpu);
        g_assert_null(most.cpu_model);
}

static void test_a_binding_to_numa_nodes_counts_where_it_is_strict(void) {
        static const struct {
                const char *memory;
                uint64_t nodes;
        } cases[] = {
                { "mode='strict' nodeset='0-2,^1,5'", 0x25 }, { "nodeset='1'", 2 },
                { "mode='restrictive' nodeset='0'", 1 }, { "nodeset='0-63'", UINT64_MAX },
                { "mode='preferred' nodeset='1'", 0 },
                { "mode='interleave' nodeset='0-1'", 0 }, { "mode='strict' placement='auto'", 0 },
                { "nodeset='64'", 0 }, { "nodeset='3-1'", 0 }, { "nodeset='x'", 0 }, { "nodeset=''", 0 },
                { "nodeset='1,^1'", 0 }, { "nodeset='4294967295'", 0 },
        };
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                g_autofree char *xml = g_strdup_printf(DOMAIN("<numatune><memory %s/></numatune>"), cases[i].memory);
                _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(xml);
                g_assert_cmphex(needs.numa_nodes, ==, cases[i].nodes);
        }
}

static void test_a_model_counts_where_libvirt_checks_it(void) {
        _cleanup_(vm_needs_clear) VmNeeds old = needs_of(DOMAIN("<cpu match='exact'><model>Haswell</model></cpu>"));
        g_assert_cmpstr(old.cpu_model, ==, "Haswell");
        _cleanup_(vm_needs_clear) VmNeeds any =
                needs_of(DOMAIN("<cpu mode='custom' check='none'><model>Haswell</model></cpu>"));
        g_assert_null(any.cpu_model);
        _cleanup_(vm_needs_clear) VmNeeds less = needs_of(DOMAIN(
                "<cpu><model>Haswell</model><vendor>Intel</vendor><feature policy='require' name='pcid'/>"
                "<feature policy='disable' name='hle'/></cpu>"));
        g_assert_null(less.cpu_model);
        g_assert_cmpstr(less.cpu_vendor, ==, "Intel");
        _cleanup_(vm_needs_clear) VmNeeds more = needs_of(DOMAIN(
                "<cpu><model>Haswell</model><feature policy='require' name='pcid'/></cpu>"));
        g_assert_cmpstr(more.cpu_model, ==, "Haswell");
        _cleanup_(vm_needs_clear) VmNeeds emulated =
                needs_of("<domain type='qemu'><cpu><model>Haswell</model><vendor>Intel</vendor></cpu></domain>");
        g_assert_null(emulated.cpu_model);
        g_assert_null(emulated.cpu_vendor);
        _cleanup_(vm_needs_clear) VmNeeds none = needs_of(DOMAIN("<cpu><topology sockets='1'/></cpu>"));
        g_assert_null(none.cpu_model);
        g_assert_null(none.cpu_vendor);
}

static void test_a_file_counts_once_and_only_if_the_start_fails_without_it(void) {
        _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(DOMAIN(
                "<os><loader>hvmloader</loader><kernel>/boot/k</kernel></os><devices>"
                "<disk><source file='/srv/a'/></disk><disk><source file='/srv/a'/></disk>"
                "<disk device='cdrom'><source file='/srv/b' startupPolicy='optional'/></disk>"
                "<disk type='network'><source protocol='rbd' name='pool/image'/></disk>"
                "<disk><source file='relative'/></disk><disk device='cdrom'/></devices>"));
        g_assert_cmpuint(needs.paths.n, ==, 2);
        g_assert_cmpstr(needs.paths.items[0], ==, "/boot/k");
        g_assert_cmpstr(needs.paths.items[1], ==, "/srv/a");
}

static void test_files_are_judged_up_to_so_many(void) {
        g_autoptr(GString) xml = g_string_new("<domain><devices>");
        for (unsigned i = 0; i < NEEDED_PATHS_MAX + 10; i++)
                g_string_append_printf(xml, "<disk><source file='/srv/%u'/></disk>", i);
        g_string_append(xml, "</devices></domain>");
        _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(xml->str);
        g_assert_cmpuint(needs.paths.n, ==, NEEDED_PATHS_MAX);
        g_assert_cmpstr(needs.paths.items[NEEDED_PATHS_MAX - 1], ==, "/srv/255");
}

static void test_what_is_no_domain_needs_nothing(void) {
        static const char *const texts[] = {
                "", "x", "<domain", "<network><memory>4</memory></network>", DOMAIN("<memory>much</memory>"),
                DOMAIN("<memory unit='EiB'>99</memory>"), "<!DOCTYPE d [<!ENTITY e 'x'>]><domain>&e;</domain>",
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_(vm_needs_clear) VmNeeds needs = needs_of(texts[i]);
                g_assert_cmpuint(needs.memory_bytes, ==, 0);
                g_assert_false(needs.hugepages);
                g_assert_cmpuint(needs.paths.n, ==, 0);
                g_assert_null(needs.cpu_model);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/vm-needs/" #name, test_##name)
        TEST(memory_pages_files_and_cpu_are_read);
        TEST(a_guest_that_sees_the_hosts_cpu_starts_on_any);
        TEST(a_binding_to_numa_nodes_counts_where_it_is_strict);
        TEST(a_model_counts_where_libvirt_checks_it);
        TEST(a_file_counts_once_and_only_if_the_start_fails_without_it);
        TEST(files_are_judged_up_to_so_many);
        TEST(what_is_no_domain_needs_nothing);
        return g_test_run();
}
