/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM's XML asks of its GPUs beyond libvirt's words: their elements are made at the start, so there is nothing in
 * the XML on which it could stand. */

#include <string.h>

#include "core/domain-internal.h"
#include "core/names.h"

bool node_is_ours(const xmlNode *node) {
        return node->type == XML_ELEMENT_NODE && node->ns && node->ns->href &&
               strcmp((const char *) node->ns->href, METADATA_NAMESPACE) == 0;
}

static const char *read_wishes(const xmlNode *node, DomainWishes *wishes) {
        for (const xmlAttr *a = node->properties; a; a = a->next) {
                const char *name = (const char *) a->name, *value = element_attribute(node, name);
                if (strcmp(name, "rom") == 0 && (text_equal(value, "on") || text_equal(value, "off")))
                        wishes->rom_off = text_equal(value, "off");
                else if (strcmp(name, "topology") == 0 && (text_equal(value, "host") || text_equal(value, "flat")))
                        wishes->flat = text_equal(value, "flat");
                else
                        return name;
        }
        return NULL;
}

const char *domain_read_wishes(const xmlNode *root, DomainWishes *ret) {
        const xmlNode *metadata = element_child(root, "metadata");
        DomainWishes wishes = {};
        for (const xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next) {
                if (!node_is_ours(node) || strcmp((const char *) node->name, WISHES_NAME) != 0)
                        continue;
                const char *bad = read_wishes(node, &wishes);
                if (bad)
                        return bad;
        }
        *ret = wishes;
        return NULL;
}
