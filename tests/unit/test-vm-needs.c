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

static void test_a_model_counts_where_libvirt_checks_it(void) {
        _cleanup_(vm_needs_clear) VmNeeds old = needs_of(DOMAIN("<cpu match='exact'><model>Haswell</model></cpu>"));
        g_assert_cmpstr(old.cpu_model, ==, "Haswell");
        _cleanup_(vm_needs_clear) VmNeeds any =
                needs_of(DOMAIN("<cpu mode='custom' check='none'><model>Haswell</model></cpu>"));
        g_assert_null(any.cpu_model);
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

/* What nodes of all versions tell each other. */
static void test_the_hash_of_a_path_is_the_same_for_ever(void) {
        g_assert_cmphex(vm_path_hash("/srv/bert.qcow2"), ==, 0xfe9320d6a96169c9);
        g_assert_cmphex(vm_path_hash(""), ==, 0xcbf29ce484222325);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/vm-needs/" #name, test_##name)
        TEST(memory_pages_files_and_cpu_are_read);
        TEST(a_guest_that_sees_the_hosts_cpu_starts_on_any);
        TEST(a_model_counts_where_libvirt_checks_it);
        TEST(a_file_counts_once_and_only_if_the_start_fails_without_it);
        TEST(files_are_judged_up_to_so_many);
        TEST(what_is_no_domain_needs_nothing);
        TEST(the_hash_of_a_path_is_the_same_for_ever);
        return g_test_run();
}
