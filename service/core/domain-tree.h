/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Domain tree: the one way in which domain XML becomes a tree, and small steps in it. Private to core's
 * domain files. No DTD, so no entities: an attribute's value is one text, and can be read without allocating, which
 * means that a lack of memory can never make an attribute look absent. */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"

typedef enum DomainTreeVerdict {
        DOMAIN_TREE_OK,
        DOMAIN_TREE_MALFORMED,
        DOMAIN_TREE_HAS_DTD,
        DOMAIN_TREE_TOO_DEEP,
} DomainTreeVerdict;

typedef struct DomainTreeError {
        int line;
        char message[120];              /* printable ASCII; "" if there is none */
} DomainTreeError;

static inline void free_document(xmlDoc *document) {
        xmlFreeDoc(document);
}
DEFINE_CLEANUP(xmlDoc *, free_document);

static inline void free_content(xmlChar *content) {
        xmlFree(content);
}
DEFINE_CLEANUP(xmlChar *, free_content);

/* A DomainTreeVerdict, or -ENOMEM. *ret_error is set with DOMAIN_TREE_MALFORMED. */
int domain_tree_parse(const char *xml, size_t size, xmlDoc **ret, DomainTreeError *ret_error);

/* True for the element @name that belongs to libvirt's own vocabulary, which has no namespace. */
bool element_is(const xmlNode *node, const char *name);
/* The first such child, or the next one after @node; NULL. */
xmlNode *element_child(const xmlNode *parent, const char *name);
xmlNode *element_next(const xmlNode *node, const char *name);
/* The element that comes after @node in the document, below @top; walks without recursion. */
xmlNode *element_walk(const xmlNode *node, const xmlNode *top);

/* Borrowed; NULL if there is none. */
const char *element_attribute(const xmlNode *node, const char *name);
bool element_attribute_is(const xmlNode *node, const char *name, const char *value);

/* All text below @node, without the white space around it. The caller frees it with xmlFree(). 0 or -ENOMEM. */
int element_content(const xmlNode *node, xmlChar **ret);

/* Number in libvirt's way: 0x hexadecimal, 0 octal, else decimal. A missing attribute is 0. 0 or -EINVAL. */
int element_attribute_u32(const xmlNode *node, const char *name, uint32_t *ret);

/* A child, or an attribute. libxml2 answers NULL for a lack of memory only, so each takes what the last one made, NULL
 * too. @name and @value need no escaping. NULL, and -ENOMEM: out of memory. */
xmlNode *element_add(xmlNode *parent, const char *name, const char *content);
int element_set(xmlNode *node, const char *name, const char *value);
