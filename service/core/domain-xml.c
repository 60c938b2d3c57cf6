/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/domain-xml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/names.h"
#include "util/array.h"

void domain_xml_clear(DomainXml *domain) {
        free(domain->name);
        free(domain->type);
        free(domain->machine);
        text_list_clear(&domain->paths);
        *domain = (DomainXml) {};
}

__attribute__((format(printf, 3, 4)))
static int refuse(char **reterr_sentence, DomainXmlVerdict verdict, const char *format, ...) {
        char *sentence = NULL;
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&sentence, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        free(*reterr_sentence);
        *reterr_sentence = sentence;
        return (int) verdict;
}

static bool is_blank(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
                        return false;
        return true;
}

static int read_document(const char *xml, size_t size, xmlDoc **ret, char **reterr_sentence) {
        if (size > XML_SIZE_MAX)
                return refuse(reterr_sentence, DOMAIN_XML_TOO_LARGE,
                              "The domain XML has %zu bytes and at most %u are taken: leave out what libvirt fills in "
                              "by itself.",
                              size, XML_SIZE_MAX);
        if (is_blank(xml, size))
                return refuse(reterr_sentence, DOMAIN_XML_EMPTY,
                              "The domain XML is empty: give what 'virsh dumpxml --inactive' shows of the VM.");
        if (memchr(xml, 0, size))
                return refuse(reterr_sentence, DOMAIN_XML_MALFORMED,
                              "The domain XML has a zero byte in it: give it as UTF-8 text.");

        DomainTreeError error = {};
        int r = domain_tree_parse(xml, size, ret, &error);
        if (r < 0)
                return r;
        switch ((DomainTreeVerdict) r) {
        case DOMAIN_TREE_OK:
                return DOMAIN_XML_OK;
        case DOMAIN_TREE_MALFORMED:
                return refuse(reterr_sentence, DOMAIN_XML_MALFORMED,
                              "The domain XML is not well-formed at line %i (%s): correct it there.",
                              error.line, *error.message ? error.message : "unreadable");
        case DOMAIN_TREE_HAS_DTD:
                return refuse(reterr_sentence, DOMAIN_XML_HAS_DTD,
                              "The domain XML has a DOCTYPE, which could pull in other files: remove it and write out "
                              "its entities.");
        case DOMAIN_TREE_TOO_DEEP:
                return refuse(reterr_sentence, DOMAIN_XML_TOO_DEEP,
                              "The domain XML nests elements more than %u deep, which no domain does: flatten it.",
                              DOMAIN_XML_DEPTH_MAX);
        }
        return -EINVAL;
}

/* Where an element stands twice, readers differ in which one they take. */
static int check_once(const xmlNode *root, char **reterr_sentence) {
        static const char *const once[] = {
                "name", "uuid", "memory", "currentMemory", "maxMemory", "vcpu", "cpu", "os", "devices", "metadata",
                "memoryBacking", "numatune", "on_poweroff", "on_reboot", "on_crash",
        };
        for (size_t i = 0; i < ELEMENTS(once); i++) {
                const xmlNode *first = element_child(root, once[i]);
                if (first && element_next(first, once[i]))
                        return refuse(reterr_sentence, DOMAIN_XML_DUPLICATE,
                                      "The domain XML has <%s> twice: keep the one that is meant.", once[i]);
        }
        return DOMAIN_XML_OK;
}

static int read_name(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        const xmlNode *node = element_child(root, "name");
        if (!node)
                return refuse(reterr_sentence, DOMAIN_XML_BAD_NAME, "The domain XML has no <name>: give the VM one.");

        _cleanup_(free_contentp) xmlChar *name = NULL;
        int r = element_content(node, &name);
        if (r < 0)
                return r;
        if (!name_is_valid((const char *) name))
                return refuse(reterr_sentence, DOMAIN_XML_BAD_NAME,
                              "The <name> '%.80s' cannot be a VM's: use 1 to %u of A-Z a-z 0-9 . _ - beginning with a "
                              "letter or digit.",
                              text_is_printable((const char *) name) && xmlStrlen(name) <= 80 ? (const char *) name
                                                                                              : "...",
                              NAME_LENGTH_MAX);
        return text_set(&domain->name, (const char *) name);
}

static int read_uuid(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        const xmlNode *node = element_child(root, "uuid");
        if (!node)
                return DOMAIN_XML_OK;

        _cleanup_(free_contentp) xmlChar *uuid = NULL;
        int r = element_content(node, &uuid);
        if (r < 0)
                return r;
        if (id_from_text((const char *) uuid, domain->vm.bytes) < 0 || id_is_null(domain->vm.bytes))
                return refuse(
                        reterr_sentence, DOMAIN_XML_BAD_UUID,
                        "The <uuid> is not a UUID: give 32 hexadecimal digits (uuidgen makes one), or leave it out.");
        domain->has_uuid = true;
        return DOMAIN_XML_OK;
}

/* libvirt's units: b, KiB or K and so on by 1024, KB and so on by 1000, in any case; without a unit, KiB. */
static int unit_to_bytes(const char *unit, uint64_t *ret) {
        if (text_is_empty(unit)) {
                *ret = 1024;
                return 0;
        }
        if (strcasecmp(unit, "b") == 0 || strcasecmp(unit, "byte") == 0 || strcasecmp(unit, "bytes") == 0) {
                *ret = 1;
                return 0;
        }

        static const char letters[] = "kmgtpe";
        const char *letter = strchr(letters, unit[0] | 0x20);
        if (!letter || !*letter)
                return -EINVAL;
        uint64_t base;
        if (!unit[1] || strcasecmp(unit + 1, "iB") == 0)
                base = 1024;
        else if (strcasecmp(unit + 1, "B") == 0)
                base = 1000;
        else
                return -EINVAL;

        *ret = 1;
        for (const char *p = letters; p <= letter; p++)
                *ret *= base;
        return 0;
}

int domain_size_to_bytes(const char *number, const char *unit, uint64_t *ret) {
        uint64_t value, scale;
        int r = text_to_u64(number, 10, &value);
        if (r < 0)
                return r;
        r = unit_to_bytes(unit, &scale);
        if (r < 0)
                return r;
        return __builtin_mul_overflow(value, scale, ret) ? -ERANGE : 0;
}

/* libvirt gives the VM whole KiB: what is more than these counts as one. */
static int read_kib(const char *number, const char *unit, uint64_t *ret_bytes) {
        uint64_t bytes;
        int r = domain_size_to_bytes(number, unit, &bytes);
        if (r < 0)
                return r;
        if (__builtin_add_overflow(bytes, 1023, &bytes))
                return -ERANGE;
        *ret_bytes = bytes & ~UINT64_C(1023);
        return 0;
}

/* Where <memory> is missing libvirt adds up the guest's NUMA cells. */
static int sum_cells(const xmlNode *root, uint64_t *ret) {
        uint64_t sum = 0;
        const xmlNode *numa = element_child(element_child(root, "cpu"), "numa");
        for (const xmlNode *cell = element_child(numa, "cell"); cell; cell = element_next(cell, "cell")) {
                uint64_t bytes;
                const char *memory = element_attribute(cell, "memory");
                int r = read_kib(memory ? memory : "0", element_attribute(cell, "unit"), &bytes);
                if (r < 0)
                        return r;
                if (__builtin_add_overflow(sum, bytes, &sum))
                        return -ERANGE;
        }
        *ret = sum;
        return 0;
}

int domain_read_memory(const xmlNode *root, uint64_t *ret_bytes) {
        const xmlNode *node = element_child(root, "memory");
        uint64_t bytes = 0;
        if (node) {
                _cleanup_(free_contentp) xmlChar *number = NULL;
                int r = element_content(node, &number);
                if (r == 0)
                        r = read_kib((const char *) number, element_attribute(node, "unit"), &bytes);
                if (r < 0)
                        return r;
        }
        if (bytes == 0) {
                int r = sum_cells(root, &bytes);
                if (r < 0)
                        return r;
        }
        *ret_bytes = bytes;
        return 0;
}

static int read_memory(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        int r = domain_read_memory(root, &domain->memory_bytes);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return refuse(reterr_sentence, DOMAIN_XML_BAD_MEMORY,
                              "The size in <memory> is not one that libvirt reads: write it like <memory "
                              "unit='GiB'>16</memory>.");
        if (domain->memory_bytes == 0)
                return refuse(reterr_sentence, DOMAIN_XML_NO_MEMORY,
                              "The domain XML gives the VM no memory: add it like <memory unit='GiB'>16</memory>.");
        return DOMAIN_XML_OK;
}

/* A size that libvirt would not take is libvirt's to refuse. */
static int read_hard_limit(const xmlNode *root, DomainXml *domain) {
        const xmlNode *node = element_child(element_child(root, "memtune"), "hard_limit");
        if (!node)
                return 0;
        _cleanup_(free_contentp) xmlChar *number = NULL;
        int r = element_content(node, &number);
        if (r < 0)
                return r;
        (void) domain_size_to_bytes((const char *) number, element_attribute(node, "unit"), &domain->hard_limit_bytes);
        return 0;
}

int domain_read_vcpus(const xmlNode *root, uint64_t *ret) {
        const xmlNode *node = element_child(root, "vcpu");
        uint64_t n = 1;
        if (node) {
                _cleanup_(free_contentp) xmlChar *number = NULL;
                int r = element_content(node, &number);
                if (r < 0)
                        return r;
                if (text_to_u64((const char *) number, 10, &n) < 0)
                        n = 0;
        }
        *ret = n;
        return 0;
}

static int read_vcpus(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        uint64_t n;
        int r = domain_read_vcpus(root, &n);
        if (r < 0)
                return r;
        if (n == 0 || n > DOMAIN_VCPUS_MAX)
                return refuse(reterr_sentence, DOMAIN_XML_BAD_VCPU,
                              "The number in <vcpu> is not one of 1 to %u: write how many processors the VM gets.",
                              DOMAIN_VCPUS_MAX);
        domain->vcpus = (uint32_t) n;
        return DOMAIN_XML_OK;
}

int domain_read_pages(const xmlNode *root, bool *ret_hugepages, uint64_t *ret_size_bytes) {
        const xmlNode *hugepages = element_child(element_child(root, "memoryBacking"), "hugepages");
        *ret_hugepages = hugepages;
        const xmlNode *page = element_child(hugepages, "page");
        const char *size = page ? element_attribute(page, "size") : NULL;
        return size ? domain_size_to_bytes(size, element_attribute(page, "unit"), ret_size_bytes) : 0;
}

static int read_hugepages(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        if (domain_read_pages(root, &domain->hugepages, &domain->hugepage_size_bytes) < 0)
                return refuse(
                        reterr_sentence, DOMAIN_XML_BAD_MEMORY,
                        "The size in <page> is not one that libvirt reads: write it like <page size='1' unit='GiB'/>.");
        return DOMAIN_XML_OK;
}

static int add_path(TextList *paths, const char *path, size_t most) {
        if (text_is_empty(path) || paths->n >= most || text_list_has(paths, path))
                return 0;
        return text_list_add(paths, path);
}

/* The file, device or folder of the host that <source> below @node names. */
static int add_source(TextList *paths, const xmlNode *node, size_t most) {
        static const char *const attributes[] = { "file", "dev", "dir" };
        const xmlNode *source = element_child(node, "source");
        if (!source || element_attribute_is(source, "startupPolicy", "optional"))
                return 0;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < ELEMENTS(attributes); i++)
                r = add_path(paths, element_attribute(source, attributes[i]), most);
        return r;
}

int domain_read_paths(const xmlNode *root, size_t most, TextList *paths) {
        static const char *const boot[] = { "loader", "kernel", "initrd", "dtb" };
        const xmlNode *os = element_child(root, "os");
        for (size_t i = 0; i < ELEMENTS(boot); i++) {
                const xmlNode *node = element_child(os, boot[i]);
                if (!node)
                        continue;
                _cleanup_(free_contentp) xmlChar *path = NULL;
                int r = element_content(node, &path);
                if (r >= 0)
                        r = add_path(paths, (const char *) path, most);
                if (r < 0)
                        return r;
        }

        static const char *const devices_with_source[] = { "disk", "filesystem" };
        const xmlNode *devices = element_child(root, "devices");
        for (size_t i = 0; i < ELEMENTS(devices_with_source); i++) {
                const char *kind = devices_with_source[i];
                for (const xmlNode *d = element_child(devices, kind); d; d = element_next(d, kind)) {
                        int r = add_source(paths, d, most);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int read_kind(const xmlNode *root, DomainXml *domain, char **reterr_sentence) {
        const char *type = element_attribute(root, "type");
        if (text_is_empty(type))
                return refuse(reterr_sentence, DOMAIN_XML_NOT_A_DOMAIN,
                              "The <domain> has no type: write <domain type='kvm'>.");
        const xmlNode *cpu = element_child(root, "cpu");
        domain->host_cpu = cpu && (element_attribute_is(cpu, "mode", "host-passthrough") ||
                                   element_attribute_is(cpu, "mode", "host-model"));
        int r = text_set(&domain->type, type);
        return r < 0 ? r : text_set(&domain->machine, domain_machine(root));
}

static bool same_slot(PciAddress a, PciAddress b) {
        return a.domain == b.domain && a.bus == b.bus && a.device == b.device;
}

/* Wherever libvirt takes a device of the host by its PCI address it stands as <address> in <source>: a <hostdev>, an
 * <interface> of type hostdev, a <disk> of type nvme. */
static int check_host_address(const xmlNode *address, const PciAddress *gpus, size_t n_gpus, char **reterr_sentence) {
        uint32_t bus, slot, function;
        PciAddress host = {};
        if (element_attribute_u32(address, "domain", &host.domain) < 0 ||
            element_attribute_u32(address, "bus", &bus) < 0 || element_attribute_u32(address, "slot", &slot) < 0 ||
            element_attribute_u32(address, "function", &function) < 0 || bus > 0xff || slot > 0x1f || function > 7)
                return DOMAIN_XML_OK;   /* no PCI address: libvirt judges it */
        host.bus = (uint8_t) bus;
        host.device = (uint8_t) slot;
        host.function = (uint8_t) function;

        for (size_t i = 0; i < n_gpus; i++)
                if (same_slot(gpus[i], host)) {
                        char text[PCI_ADDRESS_TEXT_SIZE];
                        pci_address_to_text(host, text);
                        return refuse(reterr_sentence, DOMAIN_XML_GPU_HOSTDEV,
                                      "The host device %s belongs to a GPU that gpupool hands out: remove it and ask "
                                      "for a GPU of a pool.",
                                      text);
                }
        return DOMAIN_XML_OK;
}

static int check_host_devices(const xmlNode *root, const PciAddress *gpus, size_t n_gpus, char **reterr_sentence) {
        const xmlNode *devices = element_child(root, "devices");
        if (!devices)
                return DOMAIN_XML_OK;

        for (const xmlNode *node = element_walk(devices, devices); node; node = element_walk(node, devices)) {
                if (element_is(node, "hostdev") && element_attribute_is(node, "type", "mdev"))
                        return refuse(reterr_sentence, DOMAIN_XML_MEDIATED_DEVICE,
                                      "The domain XML has a mediated device, a slice of one: remove it; gpupool gives "
                                      "whole GPUs.");
                if (!element_is(node, "address") || !element_is(node->parent, "source"))
                        continue;
                int r = check_host_address(node, gpus, n_gpus, reterr_sentence);
                if (r != DOMAIN_XML_OK)
                        return r;
        }
        return DOMAIN_XML_OK;
}

/* No wall (who may define a VM may name any emulator), but no accident either. "\u" could spell the others in JSON. */
static bool names_host_device(const char *text) {
        static const char *const words[] = { "vfio", "hostdev", "\\u" };
        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (strstr(text, words[i]))
                        return true;
        return false;
}

static int check_command_line(const xmlNode *root, char **reterr_sentence) {
        for (const xmlNode *node = element_walk(root, root); node; node = element_walk(node, root)) {
                if (!node->ns || !node->ns->href || strcmp((const char *) node->ns->href, QEMU_NAMESPACE) != 0)
                        continue;
                for (const xmlAttr *a = node->properties; a; a = a->next)
                        if (a->children && a->children->content &&
                            names_host_device((const char *) a->children->content))
                                return refuse(reterr_sentence, DOMAIN_XML_BACK_DOOR,
                                              "A <qemu:%.20s> passes a device of the host: remove it and ask for a GPU "
                                              "of a pool.",
                                              (const char *) node->name);
        }
        return DOMAIN_XML_OK;
}

static int check_wishes(const xmlNode *root, char **reterr_sentence) {
        DomainWishes wishes;
        const char *bad = domain_read_wishes(root, &wishes);
        if (!bad)
                return DOMAIN_XML_OK;
        return refuse(reterr_sentence, DOMAIN_XML_BAD_WISH,
                      "What <gpus %.40s> in the metadata asks for is not known: it may have rom (on, off) and topology "
                      "(host, flat).", bad);
}

/* DOMAIN_XML_OK is 0, so each step's "not zero" is a refusal or an error, and ends it. */
static int read_domain(const xmlNode *root, const PciAddress *gpus, size_t n_gpus, DomainXml *domain,
                       char **reterr_sentence) {
        if (!element_is(root, "domain"))
                return refuse(reterr_sentence, DOMAIN_XML_NOT_A_DOMAIN,
                              "The XML is not a domain's: give what 'virsh dumpxml --inactive' shows of the VM.");
        int r = read_kind(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = check_once(root, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_name(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_uuid(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_memory(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_vcpus(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_hugepages(root, domain, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = read_hard_limit(root, domain);
        if (r == DOMAIN_XML_OK)
                r = check_host_devices(root, gpus, n_gpus, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = check_command_line(root, reterr_sentence);
        if (r == DOMAIN_XML_OK)
                r = check_wishes(root, reterr_sentence);
        return r == DOMAIN_XML_OK ? domain_read_paths(root, SIZE_MAX, &domain->paths) : r;
}

int domain_xml_check(const char *xml, size_t size, const PciAddress *gpus, size_t n_gpus,
                     DomainXml *ret, char **reterr_sentence) {
        _cleanup_(free_documentp) xmlDoc *document = NULL;
        int r = read_document(xml, size, &document, reterr_sentence);
        if (r != DOMAIN_XML_OK)
                return r;

        _cleanup_(domain_xml_clear) DomainXml domain = {};
        r = read_domain(xmlDocGetRootElement(document), gpus, n_gpus, &domain, reterr_sentence);
        if (r != DOMAIN_XML_OK)
                return r;
        *ret = domain;
        domain = (DomainXml) {};
        return DOMAIN_XML_OK;
}
