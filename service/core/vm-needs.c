/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/vm-needs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/names.h"

void vm_needs_clear(VmNeeds *needs) {
        text_list_clear(&needs->paths);
        free(needs->cpu_model);
        free(needs->cpu_vendor);
        *needs = (VmNeeds) {};
}

static int read_text(const xmlNode *node, char **ret) {
        if (!node)
                return 0;
        _cleanup_(free_contentp) xmlChar *text = NULL;
        int r = element_content(node, &text);
        if (r < 0 || !*text || strlen((const char *) text) > NAME_LENGTH_MAX ||
            !text_is_printable((const char *) text))
                return r < 0 ? r : 0;
        return text_set(ret, (const char *) text);
}

/* What the XML takes off a model may be just what a host lacks of it ("Skylake-Server" without hle and rtm). */
static bool takes_off(const xmlNode *cpu) {
        for (const xmlNode *node = element_child(cpu, "feature"); node; node = element_next(node, "feature"))
                if (element_attribute_is(node, "policy", "disable") || element_attribute_is(node, "policy", "optional"))
                        return true;
        return false;
}

/* A model is asked for by mode='custom', which is what libvirt takes where none is named. With check='none' it starts
 * the VM on any CPU; and what hosts tell of their CPUs is what they give by KVM. */
static int read_cpu(const xmlNode *root, VmNeeds *needs) {
        const xmlNode *cpu = element_child(root, "cpu");
        if (!cpu)
                return 0;
        const char *mode = element_attribute(cpu, "mode");
        needs->host_cpu = text_equal(mode, "host-passthrough") || text_equal(mode, "host-model");
        if ((mode && !text_equal(mode, "custom")) || element_attribute_is(cpu, "check", "none") ||
            !element_attribute_is(root, "type", "kvm"))
                return 0;
        int r = takes_off(cpu) ? 0 : read_text(element_child(cpu, "model"), &needs->cpu_model);
        return r < 0 ? r : read_text(element_child(cpu, "vendor"), &needs->cpu_vendor);
}

/* What the host looks up elsewhere than in its files (a name of a firmware that QEMU finds by itself) is not judged. */
static int read_paths(const xmlNode *root, VmNeeds *needs) {
        _cleanup_(text_list_clear) TextList all = {};
        int r = domain_read_paths(root, NEEDED_PATHS_MAX, &all);
        for (size_t i = 0; r >= 0 && i < all.n; i++)
                if (all.items[i][0] == '/')
                        r = text_list_add(&needs->paths, all.items[i]);
        return r;
}

/* "0-3,^2,8". Nodes above 63, and what is no such list: as if none were named. */
static uint64_t read_nodes(const char *text) {
        uint64_t nodes = 0;
        while (text && *text) {
                unsigned first, last;
                bool less = *text == '^';
                int n = sscanf(text + less, "%u-%u", &first, &last);
                last = n == 2 ? last : first;
                if (n < 1 || last < first || last > 63)
                        return 0;
                uint64_t range = (UINT64_MAX >> (63 - (last - first))) << first;
                nodes = less ? nodes & ~range : nodes | range;
                text += strcspn(text, ",");
                text += *text == ',';
        }
        return nodes;
}

/* "strict" is what libvirt takes where no mode is named. */
static uint64_t read_binding(const xmlNode *root) {
        const xmlNode *memory = element_child(element_child(root, "numatune"), "memory");
        const char *mode = memory ? element_attribute(memory, "mode") : NULL;
        if (!memory || (mode && !text_equal(mode, "strict") && !text_equal(mode, "restrictive")))
                return 0;
        return read_nodes(element_attribute(memory, "nodeset"));
}

static int read_memory(const xmlNode *root, VmNeeds *needs) {
        uint64_t bytes = 0;
        int r = domain_read_memory(root, &bytes);
        if (r == -ENOMEM)
                return r;
        needs->memory_bytes = r < 0 ? 0 : bytes;
        needs->numa_nodes = read_binding(root);
        (void) domain_read_pages(root, &needs->hugepages, &needs->hugepage_size_bytes);
        return 0;
}

int vm_needs_read(const char *xml, size_t size, VmNeeds *ret) {
        _cleanup_(free_documentp) xmlDoc *document = NULL;
        DomainTreeError error;
        int r = domain_tree_parse(xml, size, &document, &error);
        if (r < 0)
                return r;
        const xmlNode *root = r == DOMAIN_TREE_OK ? xmlDocGetRootElement(document) : NULL;
        _cleanup_(vm_needs_clear) VmNeeds needs = {};
        if (root && element_is(root, "domain")) {
                r = read_memory(root, &needs);
                if (r >= 0)
                        r = read_cpu(root, &needs);
                if (r >= 0)
                        r = read_paths(root, &needs);
                if (r < 0)
                        return r;
        }
        *ret = needs;
        needs = (VmNeeds) {};
        return 0;
}
