/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/vm-needs.h"

#include <errno.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/entry.h"
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

/* A model is asked for by mode='custom', which is what libvirt takes where none is named. With check='none' it starts
 * the VM on any CPU. */
static int read_cpu(const xmlNode *root, VmNeeds *needs) {
        const xmlNode *cpu = element_child(root, "cpu");
        if (!cpu)
                return 0;
        const char *mode = element_attribute(cpu, "mode");
        needs->host_cpu = text_equal(mode, "host-passthrough") || text_equal(mode, "host-model");
        if ((mode && !text_equal(mode, "custom")) || element_attribute_is(cpu, "check", "none"))
                return 0;
        int r = read_text(element_child(cpu, "model"), &needs->cpu_model);
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

static int read_memory(const xmlNode *root, VmNeeds *needs) {
        uint64_t bytes = 0;
        int r = domain_read_memory(root, &bytes);
        if (r == -ENOMEM)
                return r;
        needs->memory_bytes = r < 0 ? 0 : bytes;
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

uint64_t vm_path_hash(const char *path) {
        return bytes_fingerprint((const uint8_t *) path, strlen(path));
}
