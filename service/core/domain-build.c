/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/names.h"

#define MARK_NAME "vm"
#define MARK_PREFIX "gpupool"

/* A new child of the root beside the one named @beside, where libvirt writes it; virt-xml-validate minds the order of
 * some. At the end where that one is missing. */
static xmlNode *add_beside(xmlNode *root, const char *beside, const char *name) {
        xmlNode *before = element_child(root, beside), *node = element_add(root, name, NULL);
        if (node && before) {
                xmlUnlinkNode(node);
                (void) xmlAddNextSibling(before, node);
        }
        return node;
}

/* The child @name of the root says @content from now on. None of these contents needs escaping. */
static int set_child(xmlNode *root, const char *name, const char *content) {
        xmlNode *node = element_child(root, name);
        if (!node)
                node = add_beside(root, "name", name);
        if (!node)
                return -ENOMEM;
        xmlNodeSetContent(node, (const xmlChar *) content);
        return node->children ? 0 : -ENOMEM;
}

/* A mark that came with the XML (from a domain that runs, or forged) is not ours to trust. */
static void remove_marks(xmlNode *metadata) {
        for (xmlNode *node = metadata->children, *next; node; node = next) {
                next = node->next;
                if (node_is_ours(node)) {
                        xmlUnlinkNode(node);
                        xmlFreeNode(node);
                }
        }
}

static int set_mark(xmlNode *root, const DomainBuild *build) {
        xmlNode *metadata = element_child(root, "metadata");
        if (!metadata)
                metadata = element_add(root, "metadata", NULL);
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
        int r = element_set(mark, "cluster", cluster);
        if (r == 0)
                r = element_set(mark, "node", node);
        return r == 0 ? element_set(mark, "epoch", epoch) : r;
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

const char *domain_machine(const xmlNode *root) {
        const xmlNode *type = element_child(element_child(root, "os"), "type");
        return type ? element_attribute(type, "machine") : NULL;
}

xmlNode *domain_devices(xmlNode *root) {
        xmlNode *devices = element_child(root, "devices");
        return devices ? devices : element_add(root, "devices", NULL);
}

/* Somebody thought of places already: the memory's, or the processors', which the memory should be near. */
static bool places_memory(const xmlNode *root) {
        const xmlNode *vcpu = element_child(root, "vcpu"), *cputune = element_child(root, "cputune");
        return element_child(root, "numatune") || element_child(cputune, "vcpupin") ||
               (vcpu && (element_attribute(vcpu, "cpuset") || element_attribute_is(vcpu, "placement", "auto")));
}

/* How many CPUs "0-15,32-47" has; 0: it is no such list. */
static uint64_t count_cpus(const char *list) {
        uint64_t n = 0;
        while (*list) {
                char *end;
                if (*list < '0' || *list > '9')
                        return 0;
                unsigned long first = strtoul(list, &end, 10), last = first;
                if (*end == '-' && end[1] >= '0' && end[1] <= '9')
                        last = strtoul(end + 1, &end, 10);
                if (last < first || (*end && *end != ','))
                        return 0;
                n += last - first + 1;
                list = *end ? end + 1 : end;
        }
        return n;
}

/* The processors may go to any CPU of the GPUs' node, if it has one for each: crowded near the GPUs is worse than far
 * from them. A guest that has nodes of its own is not all in one place. */
static int set_cpus(xmlNode *root, const char *cpus) {
        uint64_t n;
        int r = domain_read_vcpus(root, &n);
        if (r < 0)
                return r;
        if (n == 0 || count_cpus(cpus) < n || element_child(element_child(root, "cpu"), "numa"))
                return 0;
        xmlNode *vcpu = element_child(root, "vcpu");
        if (!vcpu) {
                vcpu = add_beside(root, "memory", "vcpu");
                if (vcpu)
                        xmlNodeSetContent(vcpu, (const xmlChar *) "1");
        }
        return element_set(vcpu, "cpuset", cpus);
}

/* "preferred": a node short of memory makes a slower VM, where "strict" would make one that cannot start, or that the
 * kernel ends later; after a failover that is the worse of the two. */
static int set_numa(xmlNode *root, int numa_node, const char *cpus) {
        if (numa_node < 0 || places_memory(root))
                return 0;
        char nodeset[16];
        snprintf(nodeset, sizeof(nodeset), "%i", numa_node);
        xmlNode *memory = element_add(add_beside(root, "memory", "numatune"), "memory", NULL);
        int r = element_set(memory, "mode", "preferred");
        if (r == 0)
                r = element_set(memory, "nodeset", nodeset);
        return r == 0 && cpus ? set_cpus(root, cpus) : r;
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

int domain_xml_build(const char *xml, size_t size, const DomainBuild *build, char **ret, char **reterr_sentence) {
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

        DomainWishes wishes;
        if (domain_read_wishes(root, &wishes))
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
                r = set_numa(root, build->numa_node, build->numa_cpus);
        if (r == 0)
                r = domain_add_gpus(root, build, &wishes, reterr_sentence);
        if (r == DOMAIN_BUILD_OK)
                r = domain_set_window(root, build, reterr_sentence);
        return r == DOMAIN_BUILD_OK ? write_document(document, ret) : r;
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
                if (!node_is_ours(node))
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
