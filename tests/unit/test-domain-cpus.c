/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which CPUs a host can give, in the words of libvirt 9. */

#include <glib.h>

#include "core/domain-cpus.h"
#include "util/cleanup.h"

#define CAPABILITIES(cpu)                                                                                       \
        "<domainCapabilities><path>/usr/bin/qemu-system-x86_64</path><domain>kvm</domain><arch>x86_64</arch>"   \
        "<os supported='yes'><loader supported='yes'/></os><cpu>" cpu "</cpu></domainCapabilities>"

#define HOST_MODEL                                                                                              \
        "<mode name='host-passthrough' supported='yes'/>"                                                       \
        "<mode name='host-model' supported='yes'><model fallback='forbid'>EPYC-Milan</model>"                   \
        "<vendor>AMD</vendor><feature policy='require' name='x2apic'/></mode>"

typedef struct Cpus {
        TextList models;
        char *vendor;
} Cpus;

static Cpus read_cpus(const char *xml) {
        Cpus cpus = {};
        g_assert_cmpint(domain_cpus_read(xml, strlen(xml), &cpus.models, &cpus.vendor), ==, 0);
        return cpus;
}

static void cpus_clear(Cpus *cpus) {
        text_list_clear(&cpus->models);
        free(cpus->vendor);
}

static void test_what_is_usable_can_be_given(void) {
        _cleanup_(cpus_clear) Cpus cpus = read_cpus(CAPABILITIES(
                HOST_MODEL "<mode name='custom' supported='yes'>"
                           "<model usable='yes' vendor='unknown'>qemu64</model>"
                           "<model usable='no' vendor='Intel'>Skylake-Client</model>"
                           "<model usable='unknown' vendor='AMD'>EPYC-Genoa</model>"
                           "<model usable='yes' vendor='AMD' canonical='EPYC-v1'>EPYC</model></mode>"));
        g_assert_cmpuint(cpus.models.n, ==, 2);
        g_assert_cmpstr(cpus.models.items[0], ==, "qemu64");
        g_assert_cmpstr(cpus.models.items[1], ==, "EPYC");
        g_assert_cmpstr(cpus.vendor, ==, "AMD");
}

static void test_a_mode_that_is_not_supported_tells_nothing(void) {
        _cleanup_(cpus_clear) Cpus cpus = read_cpus(CAPABILITIES(
                "<mode name='host-model' supported='no'/>"
                "<mode name='custom' supported='no'><model usable='yes'>EPYC</model></mode>"));
        g_assert_cmpuint(cpus.models.n, ==, 0);
        g_assert_null(cpus.vendor);
}

static void test_what_is_no_such_xml_tells_nothing(void) {
        static const char *const none[] = {
                "",
                "<domainCapabilities/>",
                "<domain><cpu><mode name='custom'><model usable='yes'>EPYC</model></mode></cpu></domain>",
                "<domainCapabilities><cpu>",
                "EPYC",
        };
        for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
                _cleanup_(cpus_clear) Cpus cpus = read_cpus(none[i]);
                g_assert_cmpuint(cpus.models.n, ==, 0);
                g_assert_null(cpus.vendor);
        }
}

static void test_names_that_could_not_be_told_are_left_out(void) {
        g_autofree char *longest = g_strnfill(64, 'x');
        g_autofree char *xml = g_strdup_printf(CAPABILITIES(
                "<mode name='custom' supported='yes'><model usable='yes'>%s</model><model usable='yes'> </model>"
                "<model usable='yes'>a&#x202e;b</model><model usable='yes'> EPYC </model></mode>"), longest);
        _cleanup_(cpus_clear) Cpus cpus = read_cpus(xml);
        g_assert_cmpuint(cpus.models.n, ==, 1);
        g_assert_cmpstr(cpus.models.items[0], ==, "EPYC");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/domain-cpus/" #name, test_##name)
        TEST(what_is_usable_can_be_given);
        TEST(a_mode_that_is_not_supported_tells_nothing);
        TEST(what_is_no_such_xml_tells_nothing);
        TEST(names_that_could_not_be_told_are_left_out);
        return g_test_run();
}
