/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/domain-xml.h"
#include "core/names.h"
#include "util/array.h"

#define GIB (1ULL << 30)
#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define DOMAIN(inside) "<domain type='kvm'><name>bert</name><memory>1024</memory>" inside "</domain>"

static const PciAddress gpus[] = {
        { .bus = 0x41 },
        { .bus = 0x41, .function = 1 },
        { .domain = 0x10000, .bus = 0x02, .device = 3 },
};

static int check(const char *xml, DomainXml *ret, char **reterr_sentence) {
        return domain_xml_check(xml, strlen(xml), gpus, ELEMENTS(gpus), ret, reterr_sentence);
}

/* The verdict on @xml, after looking at what comes with every verdict. */
static DomainXmlVerdict verdict_bytes(const char *xml, size_t size) {
        _cleanup_(domain_xml_clear) DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        int r = domain_xml_check(xml, size, gpus, ELEMENTS(gpus), &domain, &sentence);
        g_assert_cmpint(r, >=, 0);
        if (r == DOMAIN_XML_OK) {
                g_assert_null(sentence);
                g_assert_nonnull(domain.name);
                return DOMAIN_XML_OK;
        }
        g_assert_null(domain.name);
        g_assert_nonnull(sentence);
        g_assert_true(text_is_printable(sentence));
        g_assert_cmpuint(strlen(sentence), <, 240);             /* two lines */
        g_assert_nonnull(strchr(sentence, ':'));                /* what is wrong: what to do */
        g_assert_true(g_str_has_suffix(sentence, "."));
        return (DomainXmlVerdict) r;
}

static DomainXmlVerdict verdict(const char *xml) {
        return verdict_bytes(xml, strlen(xml));
}

static DomainXml read_ok(const char *xml) {
        DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        int r = check(xml, &domain, &sentence);
        if (sentence)
                g_test_message("%s", sentence);
        g_assert_cmpint(r, ==, DOMAIN_XML_OK);
        return domain;
}

static DomainXmlVerdict verdict_of_name(const char *name) {
        _cleanup_free_ char *xml = NULL;
        g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>%s</name><memory>1</memory></domain>", name), ==,
                        0);
        return verdict(xml);
}

static void test_an_ordinary_domain_is_read(void) {
        _cleanup_(domain_xml_clear) DomainXml d =
                read_ok("<?xml version='1.0' encoding='UTF-8'?>\n"
                        "<!-- kept by hand -->\n"
                        "<domain type='kvm' id='3'>\n"
                        "  <name>bert</name><uuid>" UUID "</uuid>\n"
                        "  <memory unit='GiB'>16</memory><currentMemory unit='GiB'>8</currentMemory>\n"
                        "  <vcpu placement='static' current='2'>8</vcpu>\n"
                        "  <memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>\n"
                        "  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader "
                        "readonly='yes'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>\n"
                        "  <cpu mode='host-passthrough'/>\n"
                        "  <devices>\n"
                        "    <disk type='file' device='disk'><source file='/srv/vm/bert.qcow2'/></disk>\n"
                        "    <disk type='block' device='disk'><source dev='/dev/vg/data'/></disk>\n"
                        "    <disk type='file' device='cdrom'><source file='/srv/iso/old.iso' "
                        "startupPolicy='optional'/></disk>\n"
                        "    <disk type='file' device='cdrom'/>\n"
                        "    <filesystem type='mount'><source dir='/srv/share'/><target dir='x'/></filesystem>\n"
                        "    <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/></source></hostdev>\n"
                        "  </devices>\n"
                        "</domain>\n");
        g_assert_cmpstr(d.name, ==, "bert");
        g_assert_true(d.has_uuid);
        g_assert_cmpuint(d.vm.bytes[0], ==, 0xc7);
        g_assert_cmpuint(d.memory_bytes, ==, 16 * GIB);
        g_assert_cmpuint(d.vcpus, ==, 8);
        g_assert_true(d.hugepages);
        g_assert_cmpuint(d.hugepage_size_bytes, ==, GIB);
        g_assert_cmpstr(d.type, ==, "kvm");
        g_assert_cmpstr(d.machine, ==, "pc-q35-7.2");
        g_assert_true(d.host_cpu);
        g_assert_cmpuint(d.paths.n, ==, 4);
        g_assert_true(text_list_has(&d.paths, "/usr/share/OVMF/OVMF_CODE.fd"));
        g_assert_true(text_list_has(&d.paths, "/srv/vm/bert.qcow2"));
        g_assert_true(text_list_has(&d.paths, "/dev/vg/data"));
        g_assert_true(text_list_has(&d.paths, "/srv/share"));
}

static void test_what_may_be_left_out_has_libvirts_defaults(void) {
        _cleanup_(domain_xml_clear) DomainXml d = read_ok(DOMAIN(""));
        g_assert_false(d.has_uuid);
        g_assert_cmpuint(d.memory_bytes, ==, 1 << 20);
        g_assert_cmpuint(d.vcpus, ==, 1);
        g_assert_false(d.hugepages);
        g_assert_false(d.host_cpu);
        g_assert_null(d.machine);
        g_assert_cmpuint(d.paths.n, ==, 0);
}

static void test_nothing_is_refused_as_empty(void) {
        g_assert_cmpint(verdict(""), ==, DOMAIN_XML_EMPTY);
        g_assert_cmpint(verdict(" \t\r\n "), ==, DOMAIN_XML_EMPTY);
        g_assert_cmpint(verdict_bytes(NULL, 0), ==, DOMAIN_XML_EMPTY);
}

/* What this thread has computed, however long it had to wait for a processor. */
static uint64_t processor_us(void) {
        struct timespec used;
        g_assert_cmpint(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used), ==, 0);
        return (uint64_t) used.tv_sec * 1000000 + (uint64_t) used.tv_nsec / 1000;
}

static void test_a_hundred_megabytes_are_refused_unread(void) {
        size_t size = 100U << 20;
        _cleanup_free_ char *xml = malloc(size);
        g_assert_nonnull(xml);
        memset(xml, '<', size);
        uint64_t before = processor_us();
        g_assert_cmpint(verdict_bytes(xml, size), ==, DOMAIN_XML_TOO_LARGE);
        g_assert_cmpuint(processor_us() - before, <, 100 * 1000);
}

/* A domain that is padded with a comment to exactly @size bytes. */
static char *padded(size_t size) {
        static const char head[] = "<domain type='kvm'><name>a</name><memory>1</memory><!--", tail[] = "--></domain>";
        char *xml = malloc(size + 1);
        g_assert_nonnull(xml);
        memset(xml, 'x', size);
        memcpy(xml, head, strlen(head));
        memcpy(xml + size - strlen(tail), tail, strlen(tail));
        xml[size] = 0;
        return xml;
}

static void test_the_size_limit_stands_at_its_edge(void) {
        _cleanup_free_ char *fits = padded(XML_SIZE_MAX), *too_large = padded(XML_SIZE_MAX + 1);
        g_assert_cmpint(verdict(fits), ==, DOMAIN_XML_OK);
        g_assert_cmpint(verdict(too_large), ==, DOMAIN_XML_TOO_LARGE);
}

static void test_what_is_not_well_formed_is_refused_with_its_line(void) {
        static const char *const broken[] = {
                "bert",
                "<",
                "<domain",
                "<domain>",
                "<domain type='kvm'>\n<name>a</nam>\n</domain>",
                "<domain/><domain/>",
                "<domain type='kvm' type='qemu'/>",
                "<domain>&undefined;</domain>",
                "<domain>&#0;</domain>",
                "<domain><![CDATA[</domain>",
                "<domain><a:b/></domain",
                "<?xml version='1.0'?>",
                "<!-- only -->",
        };
        for (size_t i = 0; i < ELEMENTS(broken); i++)
                g_assert_cmpint(verdict(broken[i]), ==, DOMAIN_XML_MALFORMED);

        _cleanup_(domain_xml_clear) DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(check("<domain type='kvm'>\n<name>a</nam>\n</domain>", &domain, &sentence), ==,
                        DOMAIN_XML_MALFORMED);
        g_assert_nonnull(strstr(sentence, "line 2"));
}

static void test_invalid_utf8_is_refused_and_not_repeated(void) {
        g_assert_cmpint(verdict("<domain type='kvm'><name>\xff\xfe</name></domain>"), ==, DOMAIN_XML_MALFORMED);
        g_assert_cmpint(verdict("<domain type='kvm'><\xc3\x28/></domain>"), ==, DOMAIN_XML_MALFORMED);
        g_assert_cmpint(verdict("<domain type='kvm'><name>\xed\xa0\x80</name></domain>"), ==, DOMAIN_XML_MALFORMED);
        g_assert_cmpint(verdict("<domain><\x1b[31m/></domain>"), ==, DOMAIN_XML_MALFORMED);
        static const char zero[] = "<domain type='kvm'>\0</domain>";
        g_assert_cmpint(verdict_bytes(zero, sizeof(zero) - 1), ==, DOMAIN_XML_MALFORMED);
}

static void test_the_encoding_that_a_document_claims_does_not_hide_anything(void) {
        /* In UTF-7 "+ADw-" is "<". We read UTF-8, and libvirt gets what we read. */
        _cleanup_(domain_xml_clear) DomainXml d = read_ok(
                "<?xml version='1.0' encoding='UTF-7'?><domain type='kvm'><name>a</name><memory>1</memory>"
                "<title>+ADw-devices+AD4-</title></domain>");
        g_assert_cmpstr(d.name, ==, "a");
        _cleanup_free_ char *built = NULL;
        static const char xml[] =
                "<?xml version='1.0' encoding='UTF-7'?><domain type='kvm'><name>a</name><memory>1</memory></domain>";
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &(DomainBuild) { .numa_node = -1 }, &built, NULL), ==, 0);
        g_assert_nonnull(strstr(built, "encoding=\"UTF-8\""));
        g_assert_null(strstr(built, "UTF-7"));
}

static void test_a_doctype_is_refused_whatever_is_in_it(void) {
        static const char laughs[] =
                "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
                "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'>"
                "<!ENTITY e '&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;'><!ENTITY f '&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;'>"
                "<!ENTITY g '&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;'><!ENTITY h '&g;&g;&g;&g;&g;&g;&g;&g;&g;&g;'>]>"
                "<domain type='&h;'><name>&h;</name></domain>";
        uint64_t before = processor_us();
        g_assert_cmpint(verdict(laughs), ==, DOMAIN_XML_HAS_DTD);
        g_assert_cmpuint(processor_us() - before, <, 100 * 1000);
        g_assert_cmpint(verdict("<!DOCTYPE d SYSTEM 'file:///etc/passwd'>" DOMAIN("")), ==, DOMAIN_XML_HAS_DTD);
        g_assert_cmpint(verdict("<!DOCTYPE d SYSTEM 'http://127.0.0.1:9/x'>" DOMAIN("")), ==, DOMAIN_XML_HAS_DTD);
        g_assert_cmpint(verdict("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/shadow'>]><domain>&x;</domain>"), ==,
                        DOMAIN_XML_HAS_DTD);
        g_assert_cmpint(verdict("<!DOCTYPE domain>" DOMAIN("")), ==, DOMAIN_XML_HAS_DTD);
        g_assert_cmpint(verdict("<!-- <!DOCTYPE d> -->" DOMAIN("")), ==, DOMAIN_XML_OK);
}

static char *nested(unsigned depth) {
        char *xml = NULL;
        g_assert_cmpint(text_append(&xml, "<domain type='kvm'><name>a</name><memory>1</memory>"), ==, 0);
        for (unsigned i = 1; i < depth; i++)
                g_assert_cmpint(text_append(&xml, "<a>"), ==, 0);
        for (unsigned i = 1; i < depth; i++)
                g_assert_cmpint(text_append(&xml, "</a>"), ==, 0);
        g_assert_cmpint(text_append(&xml, "</domain>"), ==, 0);
        return xml;
}

static void test_the_depth_limit_stands_at_its_edge(void) {
        _cleanup_free_ char *fits = nested(DOMAIN_XML_DEPTH_MAX), *deeper = nested(DOMAIN_XML_DEPTH_MAX + 1),
                            *deep = nested(6000);
        g_assert_cmpint(verdict(fits), ==, DOMAIN_XML_OK);
        g_assert_cmpint(verdict(deeper), ==, DOMAIN_XML_TOO_DEEP);
        g_assert_cmpint(verdict(deep), ==, DOMAIN_XML_TOO_DEEP);
}

static void test_other_documents_are_no_domains(void) {
        g_assert_cmpint(verdict("<network><name>a</name></network>"), ==, DOMAIN_XML_NOT_A_DOMAIN);
        g_assert_cmpint(verdict("<domstatus state='running'>" DOMAIN("") "</domstatus>"), ==, DOMAIN_XML_NOT_A_DOMAIN);
        g_assert_cmpint(verdict("<domain xmlns='urn:x' type='kvm'><name>a</name></domain>"), ==,
                        DOMAIN_XML_NOT_A_DOMAIN);
        g_assert_cmpint(verdict("<x:domain xmlns:x='urn:x' type='kvm'/>"), ==, DOMAIN_XML_NOT_A_DOMAIN);
        g_assert_cmpint(verdict("<domain><name>a</name><memory>1</memory></domain>"), ==, DOMAIN_XML_NOT_A_DOMAIN);
}

static void test_an_element_that_stands_twice_is_refused(void) {
        g_assert_cmpint(verdict(DOMAIN("<name>anna</name>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<memory>2</memory>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<uuid>" UUID "</uuid><uuid>" UUID "</uuid>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<devices/><devices/>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<metadata/><metadata/>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<vcpu>1</vcpu><vcpu>2</vcpu>")), ==, DOMAIN_XML_DUPLICATE);
        g_assert_cmpint(verdict(DOMAIN("<x:name xmlns:x='urn:x'>anna</x:name>")), ==, DOMAIN_XML_OK);
}

static void test_bad_names_are_refused(void) {
        static const char *const bad[] = {
                "", "a/b", "../../etc", "a b", "-a", ".", "_a", "b\xc3\xa4r", "a\n b", "a;b", "a&amp;b", "&lt;b&gt;",
                "\xe2\x80\xae" "evil", "ab\xe2\x80\x8f", "a\xe2\x80\x8b" "b",
        };
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                g_assert_cmpint(verdict_of_name(bad[i]), ==, DOMAIN_XML_BAD_NAME);
        char name[301];
        memset(name, 'a', sizeof(name) - 1);
        name[300] = 0;
        g_assert_cmpint(verdict_of_name(name), ==, DOMAIN_XML_BAD_NAME);
        name[NAME_LENGTH_MAX + 1] = 0;
        g_assert_cmpint(verdict_of_name(name), ==, DOMAIN_XML_BAD_NAME);
        name[NAME_LENGTH_MAX] = 0;
        g_assert_cmpint(verdict_of_name(name), ==, DOMAIN_XML_OK);
        g_assert_cmpint(verdict("<domain type='kvm'><memory>1</memory></domain>"), ==, DOMAIN_XML_BAD_NAME);
        g_assert_cmpint(verdict_of_name("<b>bert</b>"), ==, DOMAIN_XML_OK); /* text of all below, as libvirt reads it */
}

static void test_comments_and_cdata_in_a_name_do_not_split_it(void) {
        _cleanup_(domain_xml_clear) DomainXml d =
                read_ok("<domain type='kvm'><?pi x?><name> be<!-- no -->r<![CDATA[t]]>\n</name><memory>1<!-- 0 "
                        "-->6</memory></domain>");
        g_assert_cmpstr(d.name, ==, "bert");
        g_assert_cmpuint(d.memory_bytes, ==, 16 * 1024);
}

static void test_bad_uuids_are_refused(void) {
        g_assert_cmpint(verdict(DOMAIN("<uuid/>")), ==, DOMAIN_XML_BAD_UUID);
        g_assert_cmpint(verdict(DOMAIN("<uuid>bert</uuid>")), ==, DOMAIN_XML_BAD_UUID);
        g_assert_cmpint(verdict(DOMAIN("<uuid>" UUID "0</uuid>")), ==, DOMAIN_XML_BAD_UUID);
        g_assert_cmpint(verdict(DOMAIN("<uuid>00000000-0000-0000-0000-000000000000</uuid>")), ==, DOMAIN_XML_BAD_UUID);
        g_assert_cmpint(verdict(DOMAIN("<uuid> " UUID "\n</uuid>")), ==, DOMAIN_XML_OK);
        g_assert_cmpint(verdict(DOMAIN("<uuid>C7A5FDBDEDAF9455926AD65C16DB1809</uuid>")), ==, DOMAIN_XML_OK);
}

static void test_memory_is_read_in_every_unit_of_libvirt(void) {
        static const struct { const char *element; uint64_t bytes; } good[] = {
                { "<memory>1</memory>", 1024 },
                { "<memory unit=''>1</memory>", 1024 },
                { "<memory unit='b'>4096</memory>", 4096 },
                { "<memory unit='bytes'>4096</memory>", 4096 },
                { "<memory unit='b'>4097</memory>", 5 * 1024 },
                { "<memory unit='KB'>1</memory>", 1024 },
                { "<memory unit='k'>1</memory>", 1024 },
                { "<memory unit='KiB'> 7 </memory>", 7 * 1024 },
                { "<memory unit='mB'>1</memory>", 977 * 1024 },
                { "<memory unit='MiB'>1</memory>", 1 << 20 },
                { "<memory unit='G'>500</memory>", 500 * GIB },
                { "<memory unit='TiB'>2</memory>", 2048 * GIB },
                { "<memory unit='pib'>1</memory>", GIB << 20 },
                { "<memory unit='E'>15</memory>", 15ULL << 60 },
                { "<cpu><numa><cell memory='1' unit='GiB'/><cell memory='1048576'/></numa></cpu>", 2 * GIB },
                { "<cpu><numa><cell memory='1' unit='b'/><cell memory='1' unit='b'/></numa></cpu>", 2048 },
                { "<memory>0</memory><cpu><numa><cell memory='1' unit='GiB'/></numa></cpu>", GIB },
        };
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                _cleanup_free_ char *xml = NULL;
                g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>a</name>%s</domain>", good[i].element), ==,
                                0);
                _cleanup_(domain_xml_clear) DomainXml d = read_ok(xml);
                g_assert_cmpuint(d.memory_bytes, ==, good[i].bytes);
        }
}

static void test_a_vm_without_memory_is_refused(void) {
        g_assert_cmpint(verdict("<domain type='kvm'><name>a</name></domain>"), ==, DOMAIN_XML_NO_MEMORY);
        g_assert_cmpint(verdict("<domain type='kvm'><name>a</name><memory>0</memory></domain>"), ==,
                        DOMAIN_XML_NO_MEMORY);
        g_assert_cmpint(verdict("<domain type='kvm'><name>a</name><cpu><numa/></cpu></domain>"), ==,
                        DOMAIN_XML_NO_MEMORY);
}

static void test_weird_sizes_are_refused(void) {
        static const char *const bad[] = {
                "<memory/>",
                "<memory>-1</memory>",
                "<memory>1.5</memory>",
                "<memory>0x10</memory>",
                "<memory>much</memory>",
                "<memory unit='GiB'>99999999999</memory>",
                "<memory unit='E'>16</memory>",
                "<memory>18446744073709551616</memory>",
                "<memory unit='X'>1</memory>",
                "<memory unit='GiBB'>1</memory>",
                "<memory unit='G iB'>1</memory>",
                "<memory unit='Gib '>1</memory>",
                "<memory unit='pages'>1</memory>",
                "<memory unit='@'>1</memory>",
                "<cpu><numa><cell memory='x'/></numa></cpu>",
                "<cpu><numa><cell memory='15' unit='E'/><cell memory='15' unit='E'/></numa></cpu>",
                "<memory>1</memory><memoryBacking><hugepages><page size='2' unit='ells'/></hugepages></memoryBacking>",
        };
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_free_ char *xml = NULL;
                g_assert_cmpint(text_printf(&xml, "<domain type='kvm'><name>a</name>%s</domain>", bad[i]), ==, 0);
                g_assert_cmpint(verdict(xml), ==, DOMAIN_XML_BAD_MEMORY);
        }
}

static void test_processors_are_counted_within_bounds(void) {
        g_assert_cmpint(verdict(DOMAIN("<vcpu>0</vcpu>")), ==, DOMAIN_XML_BAD_VCPU);
        g_assert_cmpint(verdict(DOMAIN("<vcpu/>")), ==, DOMAIN_XML_BAD_VCPU);
        g_assert_cmpint(verdict(DOMAIN("<vcpu>-1</vcpu>")), ==, DOMAIN_XML_BAD_VCPU);
        g_assert_cmpint(verdict(DOMAIN("<vcpu>4097</vcpu>")), ==, DOMAIN_XML_BAD_VCPU);
        g_assert_cmpint(verdict(DOMAIN("<vcpu>4096</vcpu>")), ==, DOMAIN_XML_OK);
}

static void test_a_gpu_among_the_host_devices_is_refused(void) {
        static const char *const doors[] = {
                "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x41' "
                "slot='0x00' function='0x0'/></source></hostdev>",
                "<hostdev mode='subsystem' type='pci'><source><address bus='65' slot='0' "
                "function='0'/></source></hostdev>",
                "<hostdev type='pci'><source><address bus='0101'/></source></hostdev>",
                "<hostdev type='pci'><source><address bus=' 0x41' slot='+0'/></source></hostdev>",
                /* a function of its card that nobody listed */
                "<hostdev type='pci'><source><address bus='0x41' slot='0' function='2'/></source></hostdev>",
                "<hostdev type='pci'><source><address domain='0x10000' bus='2' slot='3'/></source></hostdev>",
                "<interface type='hostdev'><source><address type='pci' bus='0x41' slot='0x0' "
                "function='0x0'/></source></interface>",
                "<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'><address "
                "bus='0x41'/></source></disk>",
                "<hostdev type='pci'><source><address bus='0&#x78;41'/></source></hostdev>",
        };
        for (size_t i = 0; i < ELEMENTS(doors); i++) {
                _cleanup_free_ char *xml = NULL;
                g_assert_cmpint(text_printf(&xml, DOMAIN("<devices>%s</devices>"), doors[i]), ==, 0);
                g_assert_cmpint(verdict(xml), ==, DOMAIN_XML_GPU_HOSTDEV);
        }

        _cleanup_(domain_xml_clear) DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        check(DOMAIN("<devices><hostdev type='pci'><source><address bus='0x41'/></source></hostdev></devices>"),
              &domain, &sentence);
        g_assert_nonnull(strstr(sentence, "0000:41:00.0"));
}

static void test_other_host_devices_are_the_users_business(void) {
        g_assert_cmpint(
                verdict(DOMAIN(
                        "<devices><hostdev type='pci'><source><address bus='0x42'/></source></hostdev></devices>")),
                ==, DOMAIN_XML_OK);
        g_assert_cmpint(verdict(DOMAIN("<devices><hostdev type='pci'><source><address bus='0x43'/></source>"
                                       "<address type='pci' bus='0x41' slot='0'/></hostdev></devices>")),
                        ==, DOMAIN_XML_OK);
        g_assert_cmpint(
                verdict(DOMAIN(
                        "<metadata><x:a xmlns:x='urn:x'><source><address bus='0x41'/></source></x:a></metadata>")),
                ==, DOMAIN_XML_OK);
}

static void test_a_slice_of_a_device_is_refused(void) {
        g_assert_cmpint(
                verdict(DOMAIN(
                        "<devices><hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='" UUID
                        "'/></source></hostdev></devices>")),
                ==, DOMAIN_XML_MEDIATED_DEVICE);
}

#define QEMU(inside)                                                                                                   \
        DOMAIN("<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>" inside "</q:commandline>")

static void test_qemus_command_line_is_no_back_door(void) {
        g_assert_cmpint(verdict(QEMU("<q:arg value='-device'/><q:arg value='vfio-pci,host=41:00.0'/>")), ==,
                        DOMAIN_XML_BACK_DOOR);
        g_assert_cmpint(verdict(QEMU("<q:arg value='{\"driver\":\"\\u0076fio-pci\"}'/>")), ==, DOMAIN_XML_BACK_DOOR);
        g_assert_cmpint(verdict(QEMU("<q:arg value='-set'/><q:arg value='device.hostdev0.host=41:00.0'/>")), ==,
                        DOMAIN_XML_BACK_DOOR);
        g_assert_cmpint(verdict(DOMAIN("<o:override xmlns:o='http://libvirt.org/schemas/domain/qemu/1.0'><o:device "
                                       "alias='hostdev0'/></o:override>")),
                        ==, DOMAIN_XML_BACK_DOOR);
        g_assert_cmpint(
                verdict(QEMU("<q:arg value='-fw_cfg'/><q:arg value='name=opt/ovmf/X-PciMmio64Mb,string=262144'/>")), ==,
                DOMAIN_XML_OK);
}

/* --- build --- */

static const VmId vm = { { 0x11, 0x22 } };
static const ClusterId cluster = { { 0xc1 } };
static const NodeId node = { { 0x0d } };

static char *build_ok(const char *xml, const DomainBuild *build) {
        DomainBuild b = *build;
        b.vm = vm;
        b.cluster = cluster;
        b.node = node;
        b.epoch = 7;
        char *built = NULL;
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &b, &built, &sentence), ==, DOMAIN_BUILD_OK);
        g_assert_null(sentence);
        return built;
}

static int build_result(const char *xml, const DomainBuild *build) {
        _cleanup_free_ char *built = NULL, *sentence = NULL;
        int r = domain_xml_build(xml, strlen(xml), build, &built, &sentence);
        g_assert_true((r == DOMAIN_BUILD_OK) == (built != NULL));
        g_assert_true((r > DOMAIN_BUILD_OK) == (sentence != NULL));
        return r;
}

static unsigned count(const char *text, const char *what) {
        unsigned n = 0;
        for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

static void test_a_built_domain_has_its_name_uuid_and_mark(void) {
        _cleanup_free_ char *built =
                build_ok(DOMAIN("<uuid>" UUID "</uuid>"), &(DomainBuild) { .name = "anna", .numa_node = -1 });
        _cleanup_(domain_xml_clear) DomainXml d = read_ok(built);
        g_assert_cmpstr(d.name, ==, "anna");
        g_assert_true(ID_EQUAL(&d.vm, &vm));

        _cleanup_(domain_mark_clear) DomainMark mark = {};
        g_assert_cmpint(domain_xml_mark(built, strlen(built), &mark), ==, DOMAIN_MARK_FOUND);
        g_assert_true(ID_EQUAL(&mark.vm, &vm));
        g_assert_true(ID_EQUAL(&mark.cluster, &cluster));
        g_assert_true(ID_EQUAL(&mark.node, &node));
        g_assert_cmpuint(mark.epoch, ==, 7);
        g_assert_cmpstr(mark.name, ==, "anna");
        g_assert_cmpint(mark.process_uid, ==, -1);
}

static void test_a_built_domain_never_restarts_by_itself(void) {
        _cleanup_free_ char *built = build_ok(
                DOMAIN("<on_poweroff>restart</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>"),
                &(DomainBuild) { .numa_node = -1 });
        g_assert_nonnull(strstr(built, "<on_poweroff>destroy</on_poweroff>"));
        g_assert_nonnull(strstr(built, "<on_reboot>restart</on_reboot>"));
        g_assert_nonnull(strstr(built, "<on_crash>destroy</on_crash>"));
        _cleanup_free_ char *plain = build_ok(DOMAIN(""), &(DomainBuild) { .numa_node = -1 });
        g_assert_nonnull(strstr(plain, "<on_crash>destroy</on_crash>"));
        g_assert_nonnull(strstr(plain, "<on_poweroff>destroy</on_poweroff>"));
        _cleanup_free_ char *dump =
                build_ok(DOMAIN("<on_crash>coredump-destroy</on_crash>"), &(DomainBuild) { .numa_node = -1 });
        g_assert_nonnull(strstr(dump, "<on_crash>coredump-destroy</on_crash>"));
}

static void test_a_forged_mark_is_replaced(void) {
        _cleanup_free_ char *built = build_ok(
                DOMAIN("<metadata><m:vm xmlns:m='" METADATA_NAMESPACE "' cluster='00' epoch='99'/>"
                       "<other:thing xmlns:other='urn:other'>kept</other:thing></metadata>"),
                &(DomainBuild) { .numa_node = -1 });
        g_assert_cmpuint(count(built, METADATA_NAMESPACE), ==, 1);
        g_assert_nonnull(strstr(built, "kept"));
        g_assert_null(strstr(built, "99"));
}

static void test_what_the_user_wrote_stays(void) {
        _cleanup_free_ char *built = build_ok(DOMAIN("<title>Für Elise &amp; &lt;co&gt;</title><!-- why "
                                                     "--><features><kvm><hidden state='on'/></kvm></features>"
                                                     "<devices><emulator>/usr/bin/mine</emulator></devices>"),
                                              &(DomainBuild) { .numa_node = -1 });
        g_assert_nonnull(strstr(built, "Für Elise &amp; &lt;co&gt;"));
        g_assert_nonnull(strstr(built, "<!-- why -->"));
        g_assert_nonnull(strstr(built, "<hidden state=\"on\"/>"));
        g_assert_nonnull(strstr(built, "/usr/bin/mine"));
}

static void test_a_gpu_of_one_function_is_placed_by_libvirt(void) {
        static const PciAddress one[] = { { .domain = 1, .bus = 0x41, .device = 2 } };
        _cleanup_free_ char *built = build_ok(DOMAIN(""), &(DomainBuild) {
                .gpus = (DomainGpu[]) { { one, 1, NULL } }, .n_gpus = 1, .numa_node = -1 });
        g_assert_nonnull(strstr(built, "<devices><hostdev mode=\"subsystem\" type=\"pci\" managed=\"no\"><source>"
                                       "<address domain=\"0x0001\" bus=\"0x41\" slot=\"0x02\" "
                                       "function=\"0x0\"/></source></hostdev></devices>"));
}

static const PciAddress card[] = { { .bus = 0x41 }, { .bus = 0x41, .function = 1 }, { .bus = 0x41, .function = 3 } };
static const PciAddress card2[] = { { .bus = 0x42, .function = 1 }, { .bus = 0x42, .function = 2 } };

static void test_a_card_of_several_functions_stays_one_card_behind_a_root_port(void) {
        _cleanup_free_ char *built = build_ok(
                DOMAIN("<os><type machine='q35'>hvm</type></os><devices><controller type='pci' index='4' "
                       "model='pcie-root-port'/>"
                       "<controller type='pci' model='pcie-root-port'/>"
                       "<disk><address type='pci' bus='0x06' slot='0'/></disk></devices>"),
                &(DomainBuild) { .gpus = (DomainGpu[]) { { card, 3, NULL }, { card2, 2, NULL } }, .n_gpus = 2,
                                 .numa_node = -1 });
        g_assert_nonnull(strstr(built, "<controller type=\"pci\" index=\"8\" model=\"pcie-root-port\"><address "
                                       "type=\"pci\" domain=\"0x0000\" bus=\"0x00\" slot=\"0x10\" "
                                       "function=\"0x0\" multifunction=\"on\"/></controller>"));
        g_assert_nonnull(strstr(built, "<address type=\"pci\" domain=\"0x0000\" bus=\"0x08\" slot=\"0x00\" "
                                       "function=\"0x0\" multifunction=\"on\"/>"));
        g_assert_nonnull(
                strstr(built, "<address type=\"pci\" domain=\"0x0000\" bus=\"0x08\" slot=\"0x00\" function=\"0x1\"/>"));
        g_assert_nonnull(
                strstr(built, "<address type=\"pci\" domain=\"0x0000\" bus=\"0x08\" slot=\"0x00\" function=\"0x3\"/>"));
        /* Without a function 0 the guest would not find it. */
        g_assert_nonnull(strstr(built, "bus=\"0x09\" slot=\"0x00\" function=\"0x0\" multifunction=\"on\"/>"));
        g_assert_nonnull(strstr(built, "bus=\"0x09\" slot=\"0x00\" function=\"0x1\"/>"));
        g_assert_cmpuint(count(built, "<hostdev "), ==, 5);
}

static void test_on_i440fx_cards_take_free_slots_from_above(void) {
        _cleanup_free_ char *built = build_ok(
                DOMAIN("<os><type machine='pc-i440fx-7.2'>hvm</type></os><devices>"
                       "<interface type='user'><address type='pci' bus='0x00' slot='0x1f'/></interface></devices>"),
                &(DomainBuild) { .gpus = (DomainGpu[]) { { card, 2, NULL }, { card2, 2, NULL } }, .n_gpus = 2,
                                 .numa_node = -1 });
        g_assert_nonnull(strstr(built, "bus=\"0x00\" slot=\"0x1e\" function=\"0x0\" multifunction=\"on\"/>"));
        g_assert_nonnull(strstr(built, "bus=\"0x00\" slot=\"0x1d\" function=\"0x0\" multifunction=\"on\"/>"));
        g_assert_null(strstr(built, "<controller"));
}

static void test_functions_that_are_no_card_are_refused(void) {
        static const PciAddress apart[] = { { .bus = 1 }, { .bus = 2 } }, same[] = { { .bus = 1 }, { .bus = 1 } };
        DomainGpu bad[] = { { apart, 2, NULL }, { same, 2, NULL }, { card, 0, NULL } };
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                g_assert_cmpint(build_result(DOMAIN(""), &(DomainBuild) { .gpus = &bad[i], .n_gpus = 1 }), ==, -EINVAL);
        g_assert_cmpint(build_result("<network/>", &(DomainBuild) {}), ==, -EINVAL);
        g_assert_cmpint(build_result("", &(DomainBuild) {}), ==, -EINVAL);
        g_assert_cmpint(build_result("<!DOCTYPE a><domain/>", &(DomainBuild) {}), ==, -EINVAL);
}

static void test_memory_comes_from_the_gpus_numa_node_where_it_is_left_open(void) {
        _cleanup_free_ char *built = build_ok(DOMAIN(""), &(DomainBuild) { .numa_node = 1 });
        g_assert_nonnull(strstr(built, "<numatune><memory mode=\"preferred\" nodeset=\"1\"/></numatune>"));
        _cleanup_free_ char *own = build_ok(DOMAIN("<numatune><memory mode='strict' nodeset='0'/></numatune>"),
                                            &(DomainBuild) { .numa_node = 1 });
        g_assert_null(strstr(own, "preferred"));
        _cleanup_free_ char *none = build_ok(DOMAIN(""), &(DomainBuild) { .numa_node = -1 });
        g_assert_null(strstr(none, "numatune"));
}

/* --- mark --- */

static int mark_of(const char *xml) {
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        return domain_xml_mark(xml, strlen(xml), &mark);
}

#define MARK                                                                                                           \
        "<g:vm xmlns:g='" METADATA_NAMESPACE                                                                           \
        "' cluster='c1000000000000000000000000000000' node='0d000000000000000000000000000000' epoch='7'/>"
#define MARKED(inside) DOMAIN("<uuid>" UUID "</uuid><metadata>" inside "</metadata>")

static void test_the_mark_of_a_running_domain_tells_its_process_user(void) {
        static const char xml[] = DOMAIN("<uuid>" UUID "</uuid><metadata>" MARK "</metadata>"
                                         "<seclabel type='dynamic' model='apparmor'><label>libvirt-x</label></seclabel>"
                                         "<seclabel type='dynamic' model='dac'><label>+64055:+107</label></seclabel>");
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        g_assert_cmpint(domain_xml_mark(xml, strlen(xml), &mark), ==, DOMAIN_MARK_FOUND);
        g_assert_cmpint(mark.process_uid, ==, 64055);
        g_assert_cmpuint(mark.epoch, ==, 7);
}

static void test_domains_of_others_have_no_mark(void) {
        g_assert_cmpint(mark_of(DOMAIN("")), ==, DOMAIN_MARK_NONE);
        g_assert_cmpint(mark_of(MARKED("<vm cluster='c1'/>")), ==, DOMAIN_MARK_NONE);
        g_assert_cmpint(mark_of(MARKED("<x:vm xmlns:x='urn:x'/>")), ==, DOMAIN_MARK_NONE);
}

static void test_a_mark_that_is_not_ours_in_this_way_is_unreadable(void) {
        static const char *const bad[] = {
                MARKED("<g:vm xmlns:g='" METADATA_NAMESPACE "'/>"), MARKED(MARK MARK),
                MARKED("<g:other xmlns:g='" METADATA_NAMESPACE "'/>"),
                MARKED("<g:vm xmlns:g='" METADATA_NAMESPACE "' cluster='c1' node='0d' epoch='7'/>"),
                MARKED("<g:vm xmlns:g='" METADATA_NAMESPACE "' cluster='c1000000000000000000000000000000' "
                       "node='0d000000000000000000000000000000' epoch='-1'/>"),
                DOMAIN("<metadata>" MARK "</metadata>"), "<domain", "", "<network/>",
        };
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                g_assert_cmpint(mark_of(bad[i]), ==, DOMAIN_MARK_UNREADABLE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/domain-xml/" #name, test_##name)
        TEST(an_ordinary_domain_is_read);
        TEST(what_may_be_left_out_has_libvirts_defaults);
        TEST(nothing_is_refused_as_empty);
        TEST(a_hundred_megabytes_are_refused_unread);
        TEST(the_size_limit_stands_at_its_edge);
        TEST(what_is_not_well_formed_is_refused_with_its_line);
        TEST(invalid_utf8_is_refused_and_not_repeated);
        TEST(the_encoding_that_a_document_claims_does_not_hide_anything);
        TEST(a_doctype_is_refused_whatever_is_in_it);
        TEST(the_depth_limit_stands_at_its_edge);
        TEST(other_documents_are_no_domains);
        TEST(an_element_that_stands_twice_is_refused);
        TEST(bad_names_are_refused);
        TEST(comments_and_cdata_in_a_name_do_not_split_it);
        TEST(bad_uuids_are_refused);
        TEST(memory_is_read_in_every_unit_of_libvirt);
        TEST(a_vm_without_memory_is_refused);
        TEST(weird_sizes_are_refused);
        TEST(processors_are_counted_within_bounds);
        TEST(a_gpu_among_the_host_devices_is_refused);
        TEST(other_host_devices_are_the_users_business);
        TEST(a_slice_of_a_device_is_refused);
        TEST(qemus_command_line_is_no_back_door);
        TEST(a_built_domain_has_its_name_uuid_and_mark);
        TEST(a_built_domain_never_restarts_by_itself);
        TEST(a_forged_mark_is_replaced);
        TEST(what_the_user_wrote_stays);
        TEST(a_gpu_of_one_function_is_placed_by_libvirt);
        TEST(a_card_of_several_functions_stays_one_card_behind_a_root_port);
        TEST(on_i440fx_cards_take_free_slots_from_above);
        TEST(functions_that_are_no_card_are_refused);
        TEST(memory_comes_from_the_gpus_numa_node_where_it_is_left_open);
        TEST(the_mark_of_a_running_domain_tells_its_process_user);
        TEST(domains_of_others_have_no_mark);
        TEST(a_mark_that_is_not_ours_in_this_way_is_unreadable);
#undef TEST
        return g_test_run();
}
