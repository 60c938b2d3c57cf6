/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/domain-tree.h"
#include "core/domain-xml.h"
#include "core/names.h"

#define MARK_NAME "vm"
#define MARK_PREFIX "gpupool"
#define GUEST_SLOTS 32U                 /* of a conventional PCI bus */
#define GUEST_BUS_MAX 255U

/* libxml2 answers NULL for a lack of memory only; a tree of elements, so every helper takes what the last one made. */
static xmlNode *add_element(xmlNode *parent, const char *name, const char *content) {
        return parent ? xmlNewTextChild(parent, NULL, (const xmlChar *) name, (const xmlChar *) content) : NULL;
}

static int set_attribute(xmlNode *node, const char *name, const char *value) {
        return node && xmlNewProp(node, (const xmlChar *) name, (const xmlChar *) value) ? 0 : -ENOMEM;
}

static int set_attribute_hex(xmlNode *node, const char *name, unsigned digits, uint32_t value) {
        char text[16];
        snprintf(text, sizeof(text), "0x%0*" PRIx32, (int) digits, value);
        return set_attribute(node, name, text);
}

/* The child @name of the root says @content from now on. None of these contents needs escaping. */
static int set_child(xmlNode *root, const char *name, const char *content) {
        xmlNode *node = element_child(root, name);
        if (!node)
                return add_element(root, name, content) ? 0 : -ENOMEM;
        xmlNodeSetContent(node, (const xmlChar *) content);
        return node->children ? 0 : -ENOMEM;
}

static bool is_ours(const xmlNode *node) {
        return node->type == XML_ELEMENT_NODE && node->ns && node->ns->href &&
               strcmp((const char *) node->ns->href, METADATA_NAMESPACE) == 0;
}

/* A mark that came with the XML (from a domain that runs, or forged) is not ours to trust. */
static void remove_marks(xmlNode *metadata) {
        for (xmlNode *node = metadata->children, *next; node; node = next) {
                next = node->next;
                if (is_ours(node)) {
                        xmlUnlinkNode(node);
                        xmlFreeNode(node);
                }
        }
}

static int set_mark(xmlNode *root, const DomainBuild *build) {
        xmlNode *metadata = element_child(root, "metadata");
        if (!metadata)
                metadata = add_element(root, "metadata", NULL);
        if (!metadata)
                return -ENOMEM;
        remove_marks(metadata);

        xmlNode *mark = xmlNewChild(metadata, NULL, (const xmlChar *) MARK_NAME, NULL);
        xmlNs *ns = mark ? xmlNewNs(mark, (const xmlChar *) METADATA_NAMESPACE, (const xmlChar *) MARK_PREFIX) : NULL;
        if (!ns)
                return -ENOMEM;
        xmlSetNs(mark, ns);

        char cluster[ID_TEXT_SIZE], node[ID_TEXT_SIZE], epoch[24];
        id_to_text(build->cluster.bytes, cluster);
        id_to_text(build->node.bytes, node);
        snprintf(epoch, sizeof(epoch), "%" PRIu64, build->epoch);
        int r = set_attribute(mark, "cluster", cluster);
        if (r == 0)
                r = set_attribute(mark, "node", node);
        return r == 0 ? set_attribute(mark, "epoch", epoch) : r;
}

/* Restarting is the cluster's: libvirt only ever lets the process end. */
static int set_lifecycle(xmlNode *root) {
        int r = set_child(root, "on_poweroff", "destroy");
        if (r < 0)
                return r;

        const xmlNode *on_crash = element_child(root, "on_crash");
        if (on_crash) {
                _cleanup_(free_contentp) xmlChar *action = NULL;
                r = element_content(on_crash, &action);
                if (r < 0)
                        return r;
                if (strcmp((const char *) action, "coredump-destroy") == 0)
                        return 0;       /* ends in destroy too, and somebody wants the dump */
        }
        return set_child(root, "on_crash", "destroy");
}

/* "preferred": a node short of memory is slower, not a VM that cannot start. */
static int set_numa(xmlNode *root, int numa_node) {
        if (numa_node < 0 || element_child(root, "numatune"))
                return 0;
        char nodeset[16];
        snprintf(nodeset, sizeof(nodeset), "%i", numa_node);
        xmlNode *memory = add_element(add_element(root, "numatune", NULL), "memory", NULL);
        int r = set_attribute(memory, "mode", "preferred");
        return r == 0 ? set_attribute(memory, "nodeset", nodeset) : r;
}

/* Where a guest's card of several functions goes. libvirt places a single function by itself, but would spread the
 * functions of one card over slots. */
typedef struct GuestSlots {
        bool pcie;                      /* each slot is a root port of its own */
        uint32_t next_bus;              /* pcie */
        bool slot_taken[GUEST_SLOTS];   /* else, of bus 0 */
} GuestSlots;

static bool machine_is_pcie(const xmlNode *root) {
        const xmlNode *type = element_child(element_child(root, "os"), "type");
        const char *machine = type ? element_attribute(type, "machine") : NULL;
        if (machine)
                return strstr(machine, "q35") || strncmp(machine, "virt", 4) == 0;
        return type && (element_attribute_is(type, "arch", "aarch64") || element_attribute_is(type, "arch", "riscv64"));
}

/* Takes note of every place in the guest that the XML names; libvirt gives out the rest around ours. */
static GuestSlots find_guest_slots(const xmlNode *root) {
        GuestSlots slots = { .pcie = machine_is_pcie(root), .next_bus = 1 };
        const xmlNode *devices = element_child(root, "devices");
        uint32_t n_unnumbered = 0;
        for (const xmlNode *node = devices ? element_walk(devices, devices) : NULL; node;
             node = element_walk(node, devices)) {
                uint32_t bus = 0, slot = 0;
                if (element_is(node, "controller") && element_attribute_is(node, "type", "pci")) {
                        if (!element_attribute(node, "index"))
                                n_unnumbered++;
                        else if (element_attribute_u32(node, "index", &bus) == 0 && bus >= slots.next_bus &&
                                 bus <= GUEST_BUS_MAX)
                                slots.next_bus = bus + 1;
                        continue;
                }
                if (!element_is(node, "address") || !element_attribute_is(node, "type", "pci") ||
                    element_is(node->parent, "source"))
                        continue;
                if (element_attribute_u32(node, "bus", &bus) < 0 || element_attribute_u32(node, "slot", &slot) < 0)
                        continue;
                if (bus >= slots.next_bus && bus <= GUEST_BUS_MAX)
                        slots.next_bus = bus + 1;
                if (bus == 0 && slot < GUEST_SLOTS)
                        slots.slot_taken[slot] = true;
        }
        slots.next_bus += n_unnumbered;
        return slots;
}

/* -EINVAL: no room. */
static int take_guest_slot(GuestSlots *slots, xmlNode *devices, uint32_t *ret_bus, uint32_t *ret_slot) {
        if (!slots->pcie) {
                /* libvirt gives out slots from below. */
                for (uint32_t slot = GUEST_SLOTS - 1; slot > 2; slot--)
                        if (!slots->slot_taken[slot]) {
                                slots->slot_taken[slot] = true;
                                *ret_bus = 0;
                                *ret_slot = slot;
                                return 0;
                        }
                return -EINVAL;
        }
        if (slots->next_bus > GUEST_BUS_MAX)
                return -EINVAL;

        char index[16];
        snprintf(index, sizeof(index), "%" PRIu32, slots->next_bus);
        xmlNode *port = add_element(devices, "controller", NULL);
        int r = set_attribute(port, "type", "pci");
        if (r == 0)
                r = set_attribute(port, "index", index);
        if (r == 0)
                r = set_attribute(port, "model", "pcie-root-port");
        if (r < 0)
                return r;
        *ret_bus = slots->next_bus++;
        *ret_slot = 0;
        return 0;
}

static int set_address(xmlNode *address, uint32_t domain, uint32_t bus, uint32_t slot, uint32_t function) {
        int r = set_attribute_hex(address, "domain", 4, domain);
        if (r == 0)
                r = set_attribute_hex(address, "bus", 2, bus);
        if (r == 0)
                r = set_attribute_hex(address, "slot", 2, slot);
        return r == 0 ? set_attribute_hex(address, "function", 1, function) : r;
}

static int add_hostdev(xmlNode *devices, PciAddress host, xmlNode **ret) {
        xmlNode *hostdev = add_element(devices, "hostdev", NULL);
        int r = set_attribute(hostdev, "mode", "subsystem");
        if (r == 0)
                r = set_attribute(hostdev, "type", "pci");
        if (r == 0)
                r = set_attribute(hostdev, "managed", "yes");
        if (r == 0)
                r = set_address(add_element(add_element(hostdev, "source", NULL), "address", NULL),
                                host.domain, host.bus, host.device, host.function);
        *ret = hostdev;
        return r;
}

static bool is_one_card(const DomainGpu *gpu) {
        if (gpu->n_functions == 0 || gpu->n_functions > 8)
                return false;
        for (size_t i = 0; i < gpu->n_functions; i++) {
                const PciAddress *a = &gpu->functions[i], *first = &gpu->functions[0];
                if (a->domain != first->domain || a->bus != first->bus || a->device != first->device || a->function > 7)
                        return false;
                if (i > 0 && a->function <= gpu->functions[i - 1].function)
                        return false;
        }
        return true;
}

static int add_gpu(xmlNode *devices, GuestSlots *slots, const DomainGpu *gpu) {
        if (!is_one_card(gpu))
                return -EINVAL;

        xmlNode *hostdev;
        if (gpu->n_functions == 1)
                return add_hostdev(devices, gpu->functions[0], &hostdev);

        uint32_t bus, slot;
        int r = take_guest_slot(slots, devices, &bus, &slot);
        for (size_t i = 0; r == 0 && i < gpu->n_functions; i++) {
                /* The guest finds a card by its function 0, and drivers know the others by their numbers. */
                uint32_t function = gpu->functions[0].function == 0 ? gpu->functions[i].function : (uint32_t) i;
                r = add_hostdev(devices, gpu->functions[i], &hostdev);
                if (r < 0)
                        break;
                xmlNode *address = add_element(hostdev, "address", NULL);
                r = set_attribute(address, "type", "pci");
                if (r == 0)
                        r = set_address(address, 0, bus, slot, function);
                if (r == 0 && i == 0)
                        r = set_attribute(address, "multifunction", "on");
        }
        return r;
}

static int add_gpus(xmlNode *root, const DomainBuild *build) {
        if (build->n_gpus == 0)
                return 0;
        if (build->n_gpus > GPUS_PER_VM_MAX)
                return -EINVAL;

        xmlNode *devices = element_child(root, "devices");
        if (!devices)
                devices = add_element(root, "devices", NULL);
        if (!devices)
                return -ENOMEM;
        GuestSlots slots = find_guest_slots(root);
        for (size_t i = 0; i < build->n_gpus; i++) {
                int r = add_gpu(devices, &slots, &build->gpus[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_document(xmlDoc *document, char **ret) {
        xmlChar *buffer = NULL;
        int size = 0;
        xmlDocDumpMemoryEnc(document, &buffer, &size, "UTF-8");
        if (!buffer)
                return -ENOMEM;
        /* libxml2 has an allocator of its own; what core gives out is freed with free(). */
        char *text = strdup((const char *) buffer);
        xmlFree(buffer);
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

int domain_xml_build(const char *xml, size_t size, const DomainBuild *build, char **ret) {
        if (size > XML_SIZE_MAX)
                return -EINVAL;
        _cleanup_(free_documentp) xmlDoc *document = NULL;
        DomainTreeError error;
        int r = domain_tree_parse(xml, size, &document, &error);
        if (r < 0)
                return r;
        if (r != DOMAIN_TREE_OK)
                return -EINVAL;
        xmlNode *root = xmlDocGetRootElement(document);
        if (!element_is(root, "domain"))
                return -EINVAL;

        char uuid[UUID_TEXT_SIZE];
        id_to_uuid(build->vm.bytes, uuid);
        r = set_child(root, "uuid", uuid);
        if (r == 0 && build->name)
                r = set_child(root, "name", build->name);
        if (r == 0)
                r = set_mark(root, build);
        if (r == 0)
                r = set_lifecycle(root);
        if (r == 0)
                r = set_numa(root, build->numa_node);
        if (r == 0)
                r = add_gpus(root, build);
        return r == 0 ? write_document(document, ret) : r;
}

void domain_mark_clear(DomainMark *mark) {
        free(mark->name);
        *mark = (DomainMark) {};
}

/* "+64055:+107", as libvirt writes the numbers. */
static int64_t read_process_uid(const xmlNode *root) {
        for (const xmlNode *node = element_child(root, "seclabel"); node; node = element_next(node, "seclabel")) {
                const xmlNode *label = element_child(node, "label");
                if (!element_attribute_is(node, "model", "dac") || !label || !label->children ||
                    !label->children->content)
                        continue;
                const char *text = (const char *) label->children->content;
                const char *colon = strchr(text, ':');
                char number[16];
                size_t length = colon ? (size_t) (colon - text) : 0;
                if (text[0] != '+' || length < 2 || length > sizeof(number))
                        return -1;
                memcpy(number, text + 1, length - 1);
                number[length - 1] = 0;
                uint64_t uid;
                return text_to_u64(number, 10, &uid) == 0 && uid < UINT32_MAX ? (int64_t) uid : -1;
        }
        return -1;
}

static const xmlNode *find_mark(const xmlNode *root, bool *ret_several) {
        const xmlNode *metadata = element_child(root, "metadata"), *found = NULL;
        *ret_several = false;
        for (const xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next) {
                if (!is_ours(node))
                        continue;
                *ret_several = found != NULL;
                found = node;
        }
        return found;
}

static int read_mark(const xmlNode *root, const xmlNode *node, DomainMark *mark) {
        const char *cluster = element_attribute(node, "cluster"), *of_node = element_attribute(node, "node"),
                   *epoch = element_attribute(node, "epoch");
        const xmlNode *uuid_node = element_child(root, "uuid"), *name_node = element_child(root, "name");
        if (!cluster || !of_node || !epoch || !uuid_node || !name_node ||
            id_from_text(cluster, mark->cluster.bytes) < 0 || id_from_text(of_node, mark->node.bytes) < 0 ||
            text_to_u64(epoch, 10, &mark->epoch) < 0)
                return DOMAIN_MARK_UNREADABLE;

        _cleanup_(free_contentp) xmlChar *uuid = NULL, *name = NULL;
        int r = element_content(uuid_node, &uuid);
        if (r == 0)
                r = element_content(name_node, &name);
        if (r < 0)
                return r;
        if (id_from_text((const char *) uuid, mark->vm.bytes) < 0)
                return DOMAIN_MARK_UNREADABLE;
        mark->process_uid = read_process_uid(root);
        return text_set(&mark->name, (const char *) name);
}

int domain_xml_mark(const char *xml, size_t size, DomainMark *ret) {
        if (size > DOMAIN_XML_RUNNING_MAX)
                return DOMAIN_MARK_UNREADABLE;
        _cleanup_(free_documentp) xmlDoc *document = NULL;
        DomainTreeError error;
        int r = domain_tree_parse(xml, size, &document, &error);
        if (r < 0)
                return r;
        if (r != DOMAIN_TREE_OK)
                return DOMAIN_MARK_UNREADABLE;
        const xmlNode *root = xmlDocGetRootElement(document);
        if (!element_is(root, "domain"))
                return DOMAIN_MARK_UNREADABLE;

        bool several;
        const xmlNode *node = find_mark(root, &several);
        if (!node)
                return DOMAIN_MARK_NONE;
        if (several || strcmp((const char *) node->name, MARK_NAME) != 0)
                return DOMAIN_MARK_UNREADABLE;

        _cleanup_(domain_mark_clear) DomainMark mark = {};
        r = read_mark(root, node, &mark);
        if (r != DOMAIN_MARK_FOUND)
                return r;
        *ret = mark;
        mark = (DomainMark) {};
        return DOMAIN_MARK_FOUND;
}
