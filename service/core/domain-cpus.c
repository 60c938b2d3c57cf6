/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/domain-cpus.h"

#include "core/domain-tree.h"

#define CPU_NAME_MAX 63U        /* as in gossip (facts-codec.h), and twice the longest of libvirt 11 */

/* What could not be told to others is left out. */
static int read_name(const xmlNode *node, char **ret) {
        _cleanup_(free_contentp) xmlChar *content = NULL;
        int r = node ? element_content(node, &content) : 0;
        const char *name = (const char *) content;
        if (r < 0 || !name || !*name || strlen(name) > CPU_NAME_MAX || !text_is_printable(name))
                return r;
        return text_set(ret, name);
}

static int read_models(const xmlNode *mode, TextList *models) {
        for (const xmlNode *node = element_child(mode, "model"); node; node = element_next(node, "model")) {
                _cleanup_free_ char *name = NULL;
                int r = element_attribute_is(node, "usable", "yes") ? read_name(node, &name) : 0;
                if (r >= 0 && name)
                        r = text_list_add(models, name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_modes(const xmlNode *cpu, TextList *models, char **vendor) {
        for (const xmlNode *mode = element_child(cpu, "mode"); mode; mode = element_next(mode, "mode")) {
                int r = 0;
                if (!element_attribute_is(mode, "supported", "yes"))
                        continue;
                if (element_attribute_is(mode, "name", "custom"))
                        r = read_models(mode, models);
                else if (element_attribute_is(mode, "name", "host-model"))
                        r = read_name(element_child(mode, "vendor"), vendor);
                if (r < 0)
                        return r;
        }
        return 0;
}

int domain_cpus_read(const char *xml, size_t size, TextList *ret_models, char **ret_vendor) {
        _cleanup_(free_documentp) xmlDoc *document = NULL;
        _cleanup_(text_list_clear) TextList models = {};
        _cleanup_free_ char *vendor = NULL;
        DomainTreeError error;
        int r = domain_tree_parse(xml, size, &document, &error);
        const xmlNode *root = r == DOMAIN_TREE_OK ? xmlDocGetRootElement(document) : NULL;
        if (root && element_is(root, "domainCapabilities"))
                r = read_modes(element_child(root, "cpu"), &models, &vendor);
        if (r < 0)
                return r;
        *ret_models = models;
        models = (TextList) {};
        *ret_vendor = STEAL(vendor);
        return 0;
}
