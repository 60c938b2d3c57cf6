/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a guest gets with its GPUs: places, the window for their memory, the host's memory. The domains are such as
 * virt-install, virt-manager and people make. */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domain-xml.h"
#include "core/names.h"
#include "util/array.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

/* virt-install --osinfo debian12 --boot uefi, shortened: its own ports, every address written out. */
#define Q35_OVMF(memory_gib, cpu, more)                                                                                \
        "<domain type='kvm'><name>train</name><memory unit='GiB'>" memory_gib "</memory><vcpu>8</vcpu>"                \
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>"                                                      \
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader></os>" cpu "<devices>"           \
        "<controller type='pci' index='0' model='pcie-root'/>"                                                         \
        "<controller type='pci' index='1' model='pcie-root-port'><target chassis='1' port='0x10'/>"                    \
        "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0' multifunction='on'/></controller>"  \
        "<controller type='pci' index='2' model='pcie-root-port'><target chassis='2' port='0x11'/>"                    \
        "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x1'/></controller>"                     \
        "<interface type='network'><source network='default'/><model type='virtio'/>"                                  \
        "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>"                      \
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x81' slot='0x00' "  \
        "function='0x0'/></source><address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>"         \
        "</hostdev></devices>" more "</domain>"
#define PASSTHROUGH "<cpu mode='host-passthrough' check='none'/>"

/* As people write them by hand: nothing has an address. */
#define Q35_SEABIOS                                                                                                    \
        "<domain type='kvm'><name>hand</name><memory unit='GiB'>16</memory><vcpu>4</vcpu>"                             \
        "<os><type machine='q35'>hvm</type></os>" PASSTHROUGH "<devices>"                                              \
        "<disk type='file' device='disk'><source file='/srv/hand.qcow2'/><target dev='vda' bus='virtio'/></disk>"      \
        "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface></devices></domain>"

static const PciAddress consumer[] = { { .bus = 0x41 }, { .bus = 0x41, .function = 1 }, { .bus = 0x41, .function = 2 },
                                       { .bus = 0x41, .function = 3 } };
static const PciAddress compute[] = { { .bus = 0x61 } };

/* As lspci shows them: an RTX 2080 (256 MiB, 32 MiB and 16 MiB, of which the last is 32-bit), an A100 40GB, an H100. */
static const GpuBar small_bars[PCI_BARS] = { { .size = 16 * MIB },
                                             { .size = 256 * MIB, .prefetchable_64 = true },
                                             [3] = { .size = 32 * MIB, .prefetchable_64 = true } };
static const GpuBar a100_bars[PCI_BARS] = { { .size = 16 * MIB },
                                            { .size = 64 * GIB, .prefetchable_64 = true },
                                            [3] = { .size = 32 * MIB, .prefetchable_64 = true } };
static const GpuBar h100_bars[PCI_BARS] = { { .size = 16 * MIB, .prefetchable_64 = true },
                                            [2] = { .size = 128 * GIB, .prefetchable_64 = true },
                                            [4] = { .size = 32 * MIB, .prefetchable_64 = true } };

typedef struct Built {
        int verdict;
        char *xml, *sentence;
} Built;

static void built_clear(Built *built) {
        free(built->xml);
        free(built->sentence);
}

static Built build_with(const char *xml, const GpuBar *bars, size_t n_gpus, uint32_t address_bits) {
        DomainGpu gpus[GPUS_PER_VM_MAX];
        for (size_t i = 0; i < n_gpus && i < GPUS_PER_VM_MAX; i++)
                gpus[i] = (DomainGpu) { compute, 1, bars };
        Built built = {};
        DomainBuild build = { .gpus = gpus, .n_gpus = n_gpus, .numa_node = -1, .address_bits = address_bits };
        built.verdict = domain_xml_build(xml, strlen(xml), &build, &built.xml, &built.sentence);
        g_assert_cmpint(built.verdict, >=, 0);
        g_assert_true((built.verdict == DOMAIN_BUILD_OK) == (built.xml != NULL));
        g_assert_true((built.verdict == DOMAIN_BUILD_OK) == (built.sentence == NULL));
        if (built.sentence) {
                g_test_message("%s", built.sentence);
                g_assert_true(text_is_printable(built.sentence));
                g_assert_cmpuint(strlen(built.sentence), <, 240);
                g_assert_nonnull(strchr(built.sentence, ':'));
                g_assert_true(g_str_has_suffix(built.sentence, "."));
        }
        return built;
}

static unsigned count(const char *text, const char *what) {
        unsigned n = 0;
        for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

#define ADDRESS(bus, slot, function)                                                                                   \
        "<address type=\"pci\" domain=\"0x0000\" bus=\"" bus "\" slot=\"" slot "\" function=\"" function "\""
#define HOSTDEV(bus, function)                                                                                         \
        "<hostdev mode=\"subsystem\" type=\"pci\" managed=\"no\"><source><address domain=\"0x0000\" bus=\"" bus       \
        "\" slot=\"0x00\" function=\"" function "\"/></source>"

static void test_each_gpu_stands_behind_its_own_root_port(void) {
        Built built = {};
        DomainGpu gpus[] = { { consumer, 4, small_bars }, { compute, 1, a100_bars } };
        g_assert_cmpint(domain_xml_build(Q35_SEABIOS, strlen(Q35_SEABIOS),
                                         &(DomainBuild) { .gpus = gpus, .n_gpus = 2, .numa_node = -1,
                                                          .address_bits = 46 },
                                         &built.xml, &built.sentence),
                        ==, DOMAIN_BUILD_OK);
        g_assert_nonnull(strstr(built.xml,
                "<controller type=\"pci\" index=\"1\" model=\"pcie-root-port\">" ADDRESS("0x00", "0x10", "0x0")
                " multifunction=\"on\"/></controller>"
                HOSTDEV("0x41", "0x0") ADDRESS("0x01", "0x00", "0x0") " multifunction=\"on\"/></hostdev>"
                HOSTDEV("0x41", "0x1") ADDRESS("0x01", "0x00", "0x1") "/></hostdev>"
                HOSTDEV("0x41", "0x2") ADDRESS("0x01", "0x00", "0x2") "/></hostdev>"
                HOSTDEV("0x41", "0x3") ADDRESS("0x01", "0x00", "0x3") "/></hostdev>"
                "<controller type=\"pci\" index=\"2\" model=\"pcie-root-port\">" ADDRESS("0x00", "0x10", "0x1")
                "/></controller>"
                HOSTDEV("0x61", "0x0") ADDRESS("0x02", "0x00", "0x0") "/></hostdev></devices>"));
        built_clear(&built);
}

static void test_the_users_own_ports_and_host_devices_stay_where_they_are(void) {
        _cleanup_(built_clear) Built built = build_with(Q35_OVMF("64", PASSTHROUGH, ""), small_bars, 1, 46);
        g_assert_nonnull(strstr(built.xml, "<controller type=\"pci\" index=\"3\" model=\"pcie-root-port\">"
                                           ADDRESS("0x00", "0x10", "0x0")));
        g_assert_nonnull(strstr(built.xml, "managed=\"yes\"><source><address domain=\"0x0000\" bus=\"0x81\" "
                                           "slot=\"0x00\" function=\"0x0\"/></source>" ADDRESS("0x02", "0x00", "0x0")));
        g_assert_nonnull(strstr(built.xml, HOSTDEV("0x61", "0x0") ADDRESS("0x03", "0x00", "0x0")));
        g_assert_cmpuint(count(built.xml, "index=\"1\""), ==, 1);
        g_assert_cmpuint(count(built.xml, "index=\"2\""), ==, 1);
}

#define SWITCH "0000:40:00.0"

/* GPUs at buses 0x61, 0x62 ... of the host, each with the switch above it, or NULL. */
static Built build_below(const char *xml, const char *const *switches, size_t n) {
        static PciAddress functions[GPUS_PER_VM_MAX];
        DomainGpu gpus[GPUS_PER_VM_MAX];
        Built built = {};
        for (size_t i = 0; i < n; i++) {
                functions[i] = (PciAddress) { .bus = (uint8_t) (0x61 + i) };
                gpus[i] = (DomainGpu) { functions + i, 1, small_bars, switches[i] };
        }
        DomainBuild build = { .gpus = gpus, .n_gpus = n, .numa_node = -1, .address_bits = 46 };
        built.verdict = domain_xml_build(xml, strlen(xml), &build, &built.xml, &built.sentence);
        return built;
}

#define PORT(index, model) "<controller type=\"pci\" index=\"" index "\" model=\"pcie-" model "\">"

static void test_gpus_below_one_switch_of_the_host_stand_below_one_of_the_guest(void) {
        static const char *const switches[] = { NULL, SWITCH, "0000:80:00.0", SWITCH };
        _cleanup_(built_clear) Built built = build_below(Q35_SEABIOS, switches, 4);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_nonnull(strstr(built.xml,
                PORT("1", "root-port") ADDRESS("0x00", "0x10", "0x0") " multifunction=\"on\"/></controller>"
                HOSTDEV("0x61", "0x0") ADDRESS("0x01", "0x00", "0x0") "/></hostdev>"
                PORT("2", "root-port") ADDRESS("0x00", "0x10", "0x1") "/></controller>"
                PORT("3", "switch-upstream-port") ADDRESS("0x02", "0x00", "0x0") "/></controller>"
                PORT("4", "switch-downstream-port") ADDRESS("0x03", "0x00", "0x0") "/></controller>"
                HOSTDEV("0x62", "0x0") ADDRESS("0x04", "0x00", "0x0") "/></hostdev>"
                PORT("5", "switch-downstream-port") ADDRESS("0x03", "0x01", "0x0") "/></controller>"
                HOSTDEV("0x64", "0x0") ADDRESS("0x05", "0x00", "0x0") "/></hostdev>"
                PORT("6", "root-port") ADDRESS("0x00", "0x10", "0x2") "/></controller>"
                HOSTDEV("0x63", "0x0") ADDRESS("0x06", "0x00", "0x0") "/></hostdev></devices>"));
}

static void test_a_guest_without_pcie_or_that_wants_none_has_no_switch(void) {
        static const char *const switches[] = { SWITCH, SWITCH };
        static const char flat[] =
                "<domain type='kvm'><name>a</name><metadata><gpus xmlns='https://gpupool.org/xmlns/vm/1' "
                "topology='flat'/></metadata><memory>1024</memory><os><type machine='q35'>hvm</type></os></domain>";
        static const char pc[] = "<domain type='kvm'><name>a</name><memory>1024</memory><os><type "
                                 "machine='pc-i440fx-7.2'>hvm</type></os></domain>";
        _cleanup_(built_clear) Built a = build_below(flat, switches, 2), b = build_below(pc, switches, 2);
        g_assert_cmpint(a.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_cmpint(b.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_null(strstr(a.xml, "switch"));
        g_assert_null(strstr(b.xml, "switch"));
        g_assert_cmpuint(count(a.xml, "pcie-root-port"), ==, 2);
}

static void test_as_many_gpus_as_fit_below_a_switch_find_their_places(void) {
        const char *switches[GPUS_PER_VM_MAX];
        for (size_t i = 0; i < GPUS_PER_VM_MAX; i++)
                switches[i] = i % 2 ? "a" : "b";
        _cleanup_(built_clear) Built full = build_below(Q35_SEABIOS, switches, GPUS_PER_VM_MAX);
        g_assert_cmpuint(count(full.xml, "pcie-switch-upstream-port"), ==, 2);
        g_assert_cmpuint(count(full.xml, "pcie-switch-downstream-port"), ==, GPUS_PER_VM_MAX);
        g_assert_cmpuint(count(full.xml, "slot=\"0x1f\""), ==, 2);
        for (size_t i = 0; i < 33; i++)
                switches[i] = "a";
        _cleanup_(built_clear) Built more = build_below(Q35_SEABIOS, switches, 33);     /* no such switch has so many */
        g_assert_cmpuint(count(more.xml, "pcie-root-port"), ==, 33);

        static const char ends_at_bus_250[] =
                "<domain type='kvm'><name>a</name><memory>1024</memory><os><type machine='q35'>hvm</type></os><devices>"
                "<controller type='pci' index='251' model='pcie-root-port'/></devices></domain>";
        _cleanup_(built_clear) Built two = build_below(ends_at_bus_250, switches, 2);
        g_assert_cmpint(two.verdict, ==, DOMAIN_BUILD_OK);
        _cleanup_(built_clear) Built three = build_below(ends_at_bus_250, switches, 3);
        g_assert_cmpint(three.verdict, ==, DOMAIN_BUILD_NO_PLACE);
        g_assert_null(three.xml);
}

/* virt-install --print-xml: ports without number and place. */
static void test_ports_that_libvirt_numbers_come_before_the_gpus(void) {
        static const char unnumbered[] =
                "<domain type='kvm'><name>a</name><memory>1024</memory><os><type machine='q35'>hvm</type></os><devices>"
                "<controller type='usb' model='qemu-xhci' ports='15'/><controller type='pci' model='pcie-root'/>"
                "<controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>"
                "</devices></domain>";
        _cleanup_(built_clear) Built built = build_with(unnumbered, NULL, 1, 0);
        g_assert_nonnull(strstr(built.xml, "<controller type=\"pci\" index=\"3\" model=\"pcie-root-port\">"));
}

/* libvirt's schema, as libxml2 reads it, minds where these stand. */
static void test_what_is_added_stands_where_libvirt_writes_it(void) {
        static const char xml[] = "<domain type='kvm'><name>a</name><memory>1024</memory><vcpu>1</vcpu></domain>";
        _cleanup_free_ char *built = NULL, *sentence = NULL;
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &(DomainBuild) { .numa_node = 1 }, &built, &sentence), ==,
                        DOMAIN_BUILD_OK);
        g_assert_nonnull(strstr(built, "<name>a</name><on_crash>destroy</on_crash><on_poweroff>destroy</on_poweroff>"
                                       "<uuid>00000000-0000-0000-0000-000000000000</uuid><memory>1024</memory>"
                                       "<numatune><memory mode=\"preferred\" nodeset=\"1\"/></numatune>"
                                       "<vcpu>1</vcpu>"));
}

static void test_a_port_goes_around_the_slots_that_the_xml_takes(void) {
        static const char taken[] =
                "<domain type='kvm'><name>a</name><memory>1024</memory><os><type machine='q35'>hvm</type></os><devices>"
                "<sound model='ich9'><address type='pci' bus='0' slot='0x10' function='0x7'/></sound></devices>"
                "</domain>";
        _cleanup_(built_clear) Built built = build_with(taken, NULL, 9, 0);
        g_assert_nonnull(strstr(built.xml, ADDRESS("0x00", "0x11", "0x0") " multifunction"));
        g_assert_nonnull(strstr(built.xml, ADDRESS("0x00", "0x11", "0x7")));
        g_assert_nonnull(strstr(built.xml, ADDRESS("0x00", "0x12", "0x0") " multifunction"));
        g_assert_null(strstr(built.xml, ADDRESS("0x00", "0x10", "0x0")));
}

static void test_as_many_gpus_as_a_vm_may_have_find_their_places(void) {
        _cleanup_(built_clear) Built built = build_with(Q35_SEABIOS, NULL, GPUS_PER_VM_MAX, 46);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_cmpuint(count(built.xml, "pcie-root-port"), ==, GPUS_PER_VM_MAX);
        g_assert_nonnull(strstr(built.xml, ADDRESS("0x00", "0x17", "0x7")));
        g_assert_nonnull(strstr(built.xml, ADDRESS("0x40", "0x00", "0x0")));
}

static void test_a_guest_without_a_bus_left_is_refused(void) {
        static const char full[] =
                "<domain type='kvm'><name>a</name><memory>1024</memory><os><type machine='q35'>hvm</type></os><devices>"
                "<controller type='pci' index='254' model='pcie-root-port'/></devices></domain>";
        _cleanup_(built_clear) Built fits = build_with(full, NULL, 1, 0), too_many = build_with(full, NULL, 2, 0);
        g_assert_cmpint(fits.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_cmpint(too_many.verdict, ==, DOMAIN_BUILD_NO_PLACE);
        g_assert_nonnull(strstr(too_many.sentence, "need, 2:"));
}

static void test_an_i440fx_guest_without_a_slot_left_is_told_of_q35(void) {
        static const char pc[] = "<domain type='kvm'><name>a</name><memory>1024</memory><os><type "
                                 "machine='pc'>hvm</type></os></domain>";
        DomainGpu gpus[30];
        for (size_t i = 0; i < ELEMENTS(gpus); i++)
                gpus[i] = (DomainGpu) { consumer, 2, NULL };
        _cleanup_(built_clear) Built built = {};
        built.verdict = domain_xml_build(pc, strlen(pc), &(DomainBuild) { .gpus = gpus, .n_gpus = 30, .numa_node = -1 },
                                         &built.xml, &built.sentence);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_NO_PLACE);
        g_assert_nonnull(strstr(built.sentence, "q35"));
}

/* --- the window */

#define OVMF(megabytes) "-fw_cfg\"/><qemu:arg value=\"name=opt/ovmf/X-PciMmio64Mb,string=" megabytes "\"/>"

static void test_gpus_that_fit_into_the_firmwares_own_window_change_nothing(void) {
        _cleanup_(built_clear) Built built = build_with(Q35_OVMF("64", PASSTHROUGH, ""), small_bars, 8, 46);
        g_assert_null(strstr(built.xml, "qemu:"));
        g_assert_null(strstr(built.xml, "maxphysaddr"));
        _cleanup_(built_clear) Built unknown = build_with(Q35_OVMF("64", PASSTHROUGH, ""), NULL, 8, 46);
        g_assert_null(strstr(unknown.xml, "qemu:"));
}

static void test_ovmf_is_asked_for_a_window_that_holds_the_gpus(void) {
        static const struct {
                const GpuBar *bars;
                size_t n;
                const char *want;
        } rows[] = {
                { a100_bars, 1, OVMF("262144") },       /* 2 x 64 GiB and the others: 256 GiB */
                { a100_bars, 2, OVMF("524288") },
                { h100_bars, 1, OVMF("524288") },
                { h100_bars, 8, OVMF("4194304") },
        };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(built_clear) Built built =
                        build_with(Q35_OVMF("64", PASSTHROUGH, ""), rows[i].bars, rows[i].n, 46);
                g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_OK);
                g_assert_nonnull(strstr(built.xml, rows[i].want));
                g_assert_nonnull(strstr(built.xml, "xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\""));
        }
}

static void test_seabios_makes_the_window_itself(void) {
        _cleanup_(built_clear) Built built = build_with(Q35_SEABIOS, h100_bars, 4, 46);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_null(strstr(built.xml, "fw_cfg"));
        g_assert_null(strstr(built.xml, "pcihole64"));
}

static void test_a_window_that_the_xml_asks_for_is_left_alone(void) {
        _cleanup_(built_clear) Built built =
                build_with(Q35_OVMF("64", PASSTHROUGH,
                                    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg "
                                    "value='-fw_cfg'/><q:arg value='name=opt/ovmf/X-PciMmio64Mb,string=65536'/>"
                                    "</q:commandline>"),
                           a100_bars, 1, 46);
        g_assert_cmpuint(count(built.xml, "X-PciMmio64Mb"), ==, 1);
        g_assert_nonnull(strstr(built.xml, "string=65536"));
}

static void test_the_users_command_line_is_added_to(void) {
        _cleanup_(built_clear) Built built =
                build_with(Q35_OVMF("64", PASSTHROUGH,
                                    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg "
                                    "value='-nodefaults'/></q:commandline>"),
                           a100_bars, 1, 46);
        g_assert_cmpuint(count(built.xml, "commandline>"), ==, 1);      /* its end */
        g_assert_nonnull(strstr(built.xml, "<q:arg value=\"-nodefaults\"/><q:arg value=\"-fw_cfg\"/><q:arg "
                                           "value=\"name=opt/ovmf/X-PciMmio64Mb,string=262144\"/></q:commandline>"));
}

static void test_a_guest_of_forty_bits_gets_the_hosts_where_it_needs_them(void) {
        /* 4 x 128 GiB do not fit into 1 TiB; one does. */
        static const char model[] = Q35_OVMF("64", "<cpu mode='host-model'/>", "");
        _cleanup_(built_clear) Built one = build_with(model, h100_bars, 1, 46),
                                     four = build_with(model, h100_bars, 4, 46),
                                     none = build_with(Q35_OVMF("64", "", ""), h100_bars, 4, 46);
        g_assert_null(strstr(one.xml, "maxphysaddr"));
        g_assert_nonnull(strstr(four.xml, "<cpu mode=\"host-model\"><maxphysaddr mode=\"passthrough\"/></cpu>"));
        g_assert_nonnull(strstr(none.xml, "<cpu><maxphysaddr mode=\"passthrough\"/></cpu>"));
}

static void test_a_window_beyond_the_guests_addresses_is_refused_with_numbers(void) {
        static const char forty[] =
                Q35_OVMF("64", "<cpu mode='host-model'><maxphysaddr mode='emulate' bits='40'/></cpu>", "");
        _cleanup_(built_clear) Built said = build_with(forty, h100_bars, 4, 46);
        g_assert_cmpint(said.verdict, ==, DOMAIN_BUILD_NO_WINDOW);
        g_assert_nonnull(strstr(said.sentence, "4 GPUs (513 GiB)"));
        g_assert_nonnull(strstr(said.sentence, "40 bits"));
        g_assert_nonnull(strstr(said.sentence, "host-passthrough"));

        /* A desktop's CPU. */
        _cleanup_(built_clear) Built desktop = build_with(Q35_SEABIOS, h100_bars, 4, 39);
        g_assert_cmpint(desktop.verdict, ==, DOMAIN_BUILD_NO_WINDOW);
        g_assert_nonnull(strstr(desktop.sentence, "39 bits"));
        g_assert_nonnull(strstr(desktop.sentence, "fewer GPUs"));
}

static void test_memory_that_may_be_plugged_later_counts(void) {
        static const char plugs[] =
                "<domain type='kvm'><name>a</name><memory unit='GiB'>16</memory>"
                "<maxMemory unit='GiB' slots='16'>900</maxMemory><os firmware='efi'><type machine='q35'>hvm</type></os>"
                PASSTHROUGH "</domain>";
        _cleanup_(built_clear) Built built = build_with(plugs, a100_bars, 1, 40);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_NO_WINDOW);
        _cleanup_(built_clear) Built wider = build_with(plugs, a100_bars, 1, 41);
        g_assert_cmpint(wider.verdict, ==, DOMAIN_BUILD_OK);
}

/* Base and size are a power of two: 256 GiB above at most 768 GiB of a 1 TiB space. */
static void test_the_window_fits_at_its_edge(void) {
        static const char *const memory[] = { "766", "767" };
        static const int verdicts[] = { DOMAIN_BUILD_OK, DOMAIN_BUILD_OK };
        for (size_t i = 0; i < 2; i++) {
                _cleanup_free_ char *xml = NULL;
                g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>a</name><memory unit='GiB'>%s</memory><os "
                                                  "firmware='efi'><type machine='q35'>hvm</type></os></domain>",
                                            memory[i]), ==, 0);
                _cleanup_(built_clear) Built built = build_with(xml, a100_bars, 1, 40);
                g_assert_cmpint(built.verdict, ==, verdicts[i]);
                /* 766 GiB of memory end at 768: the ample window; above, the tight one of 128 GiB. */
                g_assert_nonnull(strstr(built.xml, i == 0 ? OVMF("262144") : OVMF("131072")));
        }
        static const char too_much[] = "<domain type='kvm'><name>a</name><memory unit='GiB'>895</memory><os "
                                       "firmware='efi'><type machine='q35'>hvm</type></os></domain>";
        _cleanup_(built_clear) Built refused = build_with(too_much, a100_bars, 1, 40);
        g_assert_cmpint(refused.verdict, ==, DOMAIN_BUILD_NO_WINDOW);
}

static void test_other_machines_have_no_such_window(void) {
        static const char arm[] = "<domain type='kvm'><name>a</name><memory unit='GiB'>16</memory><os "
                                  "firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os></domain>";
        _cleanup_(built_clear) Built built = build_with(arm, h100_bars, 8, 40);
        g_assert_cmpint(built.verdict, ==, DOMAIN_BUILD_OK);
        g_assert_null(strstr(built.xml, "fw_cfg"));
}

/* --- NUMA */

static void test_who_pinned_processors_places_the_memory_too(void) {
        static const char *const own[] = {
                "<vcpu cpuset='0-7'>8</vcpu>",
                "<vcpu placement='auto'>8</vcpu>",
                "<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='3'/></cputune>",
        };
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                _cleanup_free_ char *xml = NULL, *built = NULL, *sentence = NULL;
                g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>a</name><memory>1024</memory>%s</domain>",
                                            own[i]), ==, 0);
                DomainBuild build = { .numa_node = 1 };
                g_assert_cmpint(domain_xml_build(xml, strlen(xml), &build, &built, &sentence), ==, DOMAIN_BUILD_OK);
                g_assert_null(strstr(built, "numatune"));
        }
}

static char *build_near(const char *more, const char *cpus) {
        _cleanup_free_ char *xml = NULL, *sentence = NULL;
        char *built = NULL;
        g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>a</name><memory>1024</memory>%s</domain>", more),
                        ==, 0);
        DomainBuild build = { .numa_node = 1, .numa_cpus = cpus };
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &build, &built, &sentence), ==, DOMAIN_BUILD_OK);
        return built;
}

static void test_processors_go_to_the_gpus_node_where_it_has_enough(void) {
        static const struct {
                const char *more, *cpus, *want;
        } cases[] = {
                { "<vcpu>8</vcpu>", "16-31,48-63", "<vcpu cpuset=\"16-31,48-63\">8</vcpu>" },
                { "<vcpu placement='static'>4</vcpu>", "4,5,6,7", "cpuset=\"4,5,6,7\">4</vcpu>" },
                { "<vcpu>5</vcpu>", "4-7", "<vcpu>5</vcpu>" },
                { "<vcpu current='2'>5</vcpu>", "4-7", "<vcpu current=\"2\">5</vcpu>" },
                { "", "0", "<vcpu cpuset=\"0\">1</vcpu>" },
                { "<vcpu>1</vcpu>", "", "<vcpu>1</vcpu>" },
                { "<vcpu>1</vcpu>", "0-", "<vcpu>1</vcpu>" },
                { "<vcpu>1</vcpu>", "7-4", "<vcpu>1</vcpu>" },
                { "<vcpu>1</vcpu>", "0,x", "<vcpu>1</vcpu>" },
                { "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0-1' memory='1024'/></numa></cpu>", "0-7",
                  "<vcpu>2</vcpu>" },
                { "<vcpu cpuset='0-7'>8</vcpu>", "16-31", "<vcpu cpuset=\"0-7\">8</vcpu>" },
                { "<vcpu>2</vcpu><numatune><memory nodeset='0'/></numatune>", "16-31", "<vcpu>2</vcpu>" },
        };
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *built = build_near(cases[i].more, cases[i].cpus);
                g_test_message("%s by %s", cases[i].more, cases[i].cpus);
                g_assert_nonnull(strstr(built, cases[i].want));
                g_assert_cmpuint(count(built, "cpuset"), ==, strstr(cases[i].want, "cpuset") ? 1 : 0);
        }
        _cleanup_free_ char *unknown = build_near("<vcpu>1</vcpu>", NULL);
        g_assert_null(strstr(unknown, "cpuset"));
}

/* --- what the XML asks of its GPUs */

#define WISH(attributes)                                                                                               \
        "<domain type='kvm'><name>a</name><metadata><other xmlns='urn:x'/><gpus "                                      \
        "xmlns='https://gpupool.org/xmlns/vm/1' " attributes "/></metadata><memory>1024</memory>"                      \
        "<os><type machine='q35'>hvm</type></os><devices/></domain>"

static void test_the_guest_sees_no_rom_where_that_is_asked_for(void) {
        static const char off[] = WISH("rom='off'"), on[] = WISH("rom='on'");
        _cleanup_(built_clear) Built without = build_with(off, NULL, 2, 40), with = build_with(on, NULL, 2, 40);
        g_assert_cmpuint(count(without.xml, "<rom bar=\"off\"/>"), ==, 2);
        g_assert_nonnull(strstr(without.xml, "</source><rom bar=\"off\"/><address"));
        g_assert_null(strstr(without.xml, "<gpus"));
        g_assert_nonnull(strstr(without.xml, "<other xmlns=\"urn:x\"/>"));
        g_assert_null(strstr(with.xml, "rom"));
}

static void test_what_cannot_be_asked_for_is_refused_at_the_definition(void) {
        static const char *const bad[] = { WISH("rom='yes'"), WISH("rom=''"), WISH("room='off'"),
                                           WISH("rom='off' topology='round'") };
        static const char good[] = WISH("topology='flat' rom='off'");
        DomainXml domain;
        char *sentence = NULL;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                g_assert_cmpint(domain_xml_check(bad[i], strlen(bad[i]), NULL, 0, &domain, &sentence), ==,
                                DOMAIN_XML_BAD_WISH);
                g_assert_nonnull(strstr(sentence, "it may have rom (on, off) and topology (host, flat)"));
                g_clear_pointer(&sentence, free);
                char *built = NULL;
                g_assert_cmpint(domain_xml_build(bad[i], strlen(bad[i]), &(DomainBuild) { .numa_node = -1 }, &built,
                                                 &sentence), ==, -EINVAL);
        }
        g_assert_cmpint(domain_xml_check(good, strlen(good), NULL, 0, &domain, &sentence), ==, DOMAIN_XML_OK);
        domain_xml_clear(&domain);
}

/* --- the host's memory */

static int memory_verdict_of(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope,
                             const char *want) {
        _cleanup_free_ char *sentence = NULL;
        int r = domain_memory_check(domain, host, scope, &sentence);
        g_assert_true((r == DOMAIN_MEMORY_OK) == (sentence == NULL));
        if (sentence) {
                g_test_message("%s", sentence);
                g_assert_cmpuint(strlen(sentence), <, 240);
                g_assert_nonnull(strstr(sentence, want));
        }
        return r;
}

static int memory_verdict(const DomainXml *domain, const NodeFacts *host, const char *want) {
        return memory_verdict_of(domain, host, DOMAIN_MEMORY_NOW, want);
}

static void test_hugepages_are_counted_by_their_size(void) {
        Hugepages pages[] = { { .size_bytes = 2 * MIB, .total = 8192, .free = 8191 },
                              { .size_bytes = GIB, .total = 16, .free = 16 } };
        NodeFacts host = { .hugepages = pages, .n_hugepages = 2 };
        DomainXml domain = { .memory_bytes = 16 * GIB, .hugepages = true, .hugepage_size_bytes = GIB };
        g_assert_cmpint(memory_verdict(&domain, &host, ""), ==, DOMAIN_MEMORY_OK);
        domain.memory_bytes++;
        g_assert_cmpint(memory_verdict(&domain, &host, "17 hugepages of 1048576 KiB and 16 of the host's"),
                        ==, DOMAIN_MEMORY_FEW_HUGEPAGES);
        domain = (DomainXml) { .memory_bytes = 16 * GIB, .hugepages = true, .hugepage_size_bytes = 2 * MIB };
        g_assert_cmpint(memory_verdict(&domain, &host, "8192 hugepages of 2048 KiB and 8191"), ==,
                        DOMAIN_MEMORY_FEW_HUGEPAGES);
        domain.hugepage_size_bytes = 0;         /* whichever is the default: one of them would do */
        g_assert_cmpint(memory_verdict(&domain, &host, ""), ==, DOMAIN_MEMORY_OK);
        domain.hugepage_size_bytes = 64 * 1024;
        g_assert_cmpint(memory_verdict(&domain, &host, "hugepages of 64 KiB"), ==,
                        DOMAIN_MEMORY_NO_HUGEPAGES);
        g_assert_cmpint(memory_verdict(&domain, &(NodeFacts) {}, ""), ==, DOMAIN_MEMORY_OK);
}

static void test_memory_that_is_not_free_cannot_be_pinned(void) {
        DomainXml domain = { .memory_bytes = 16 * GIB };
        NodeFacts host = { .memory_total = 64 * GIB, .memory_free = 16 * GIB };
        g_assert_cmpint(memory_verdict(&domain, &host, ""), ==, DOMAIN_MEMORY_OK);
        host.memory_free--;
        g_assert_cmpint(memory_verdict(&domain, &host,
                                       "16384 MiB of memory are pinned when it starts and the host has 16383"),
                        ==, DOMAIN_MEMORY_TOO_LITTLE);
        g_assert_cmpint(memory_verdict(&domain, &(NodeFacts) {}, ""), ==, DOMAIN_MEMORY_OK);
}

static void test_what_is_taken_now_does_not_count_for_ever(void) {
        Hugepages pages = { .size_bytes = GIB, .total = 16, .free = 0 };
        NodeFacts host = { .hugepages = &pages, .n_hugepages = 1, .memory_total = 32 * GIB, .memory_free = 0 };
        DomainXml huge = { .memory_bytes = 16 * GIB, .hugepages = true, .hugepage_size_bytes = GIB },
                  plain = { .memory_bytes = 32 * GIB };
        g_assert_cmpint(memory_verdict_of(&huge, &host, DOMAIN_MEMORY_EVER, ""), ==, DOMAIN_MEMORY_OK);
        g_assert_cmpint(memory_verdict_of(&plain, &host, DOMAIN_MEMORY_EVER, ""), ==, DOMAIN_MEMORY_OK);
        huge.memory_bytes++;
        plain.memory_bytes++;
        g_assert_cmpint(memory_verdict_of(&huge, &host, DOMAIN_MEMORY_EVER, "the host has 16:"), ==,
                        DOMAIN_MEMORY_FEW_HUGEPAGES);
        g_assert_cmpint(memory_verdict_of(&plain, &host, DOMAIN_MEMORY_EVER, "the host has 32768 MiB:"), ==,
                        DOMAIN_MEMORY_TOO_LITTLE);
}

static void test_a_limit_below_the_vms_memory_is_found_before_the_start(void) {
        static const char xml[] = "<domain type='kvm'><name>a</name><memory unit='GiB'>16</memory><memtune><hard_limit "
                                  "unit='GiB'>8</hard_limit></memtune></domain>";
        _cleanup_(domain_xml_clear) DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(domain_xml_check(xml, strlen(xml), NULL, 0, &domain, &sentence), ==, DOMAIN_XML_OK);
        g_assert_cmpuint(domain.hard_limit_bytes, ==, 8 * GIB);
        g_assert_cmpint(memory_verdict(&domain, &(NodeFacts) {}, "may pin 8192 MiB"), ==,
                        DOMAIN_MEMORY_LOCK_LIMIT);
        domain.hard_limit_bytes = 16 * GIB;
        g_assert_cmpint(memory_verdict(&domain, &(NodeFacts) {}, ""), ==, DOMAIN_MEMORY_OK);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/domain-guest/" #name, test_##name)
        TEST(each_gpu_stands_behind_its_own_root_port);
        TEST(the_users_own_ports_and_host_devices_stay_where_they_are);
        TEST(ports_that_libvirt_numbers_come_before_the_gpus);
        TEST(what_is_added_stands_where_libvirt_writes_it);
        TEST(a_port_goes_around_the_slots_that_the_xml_takes);
        TEST(as_many_gpus_as_a_vm_may_have_find_their_places);
        TEST(a_guest_without_a_bus_left_is_refused);
        TEST(an_i440fx_guest_without_a_slot_left_is_told_of_q35);
        TEST(gpus_that_fit_into_the_firmwares_own_window_change_nothing);
        TEST(ovmf_is_asked_for_a_window_that_holds_the_gpus);
        TEST(seabios_makes_the_window_itself);
        TEST(a_window_that_the_xml_asks_for_is_left_alone);
        TEST(the_users_command_line_is_added_to);
        TEST(a_guest_of_forty_bits_gets_the_hosts_where_it_needs_them);
        TEST(a_window_beyond_the_guests_addresses_is_refused_with_numbers);
        TEST(memory_that_may_be_plugged_later_counts);
        TEST(the_window_fits_at_its_edge);
        TEST(other_machines_have_no_such_window);
        TEST(who_pinned_processors_places_the_memory_too);
        TEST(hugepages_are_counted_by_their_size);
        TEST(memory_that_is_not_free_cannot_be_pinned);
        TEST(what_is_taken_now_does_not_count_for_ever);
        TEST(a_limit_below_the_vms_memory_is_found_before_the_start);
        TEST(gpus_below_one_switch_of_the_host_stand_below_one_of_the_guest);
        TEST(a_guest_without_pcie_or_that_wants_none_has_no_switch);
        TEST(as_many_gpus_as_fit_below_a_switch_find_their_places);
        TEST(processors_go_to_the_gpus_node_where_it_has_enough);
        TEST(the_guest_sees_no_rom_where_that_is_asked_for);
        TEST(what_cannot_be_asked_for_is_refused_at_the_definition);
#undef TEST
        return g_test_run();
}
