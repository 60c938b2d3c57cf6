/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/domain-tree.h"

#include <errno.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/domain-xml.h"

/* Rides on the parser while it reads. */
typedef struct Watch {
        bool has_dtd, too_deep;
} Watch;

static void stop_at_dtd(void *parser, const xmlChar *name, const xmlChar *external_id, const xmlChar *system_id) {
        xmlParserCtxt *context = parser;
        Watch *watch = context->_private;
        watch->has_dtd = true;
        xmlStopParser(context);
}

static void start_element(void *parser, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                          int n_namespaces, const xmlChar **namespaces, int n_attributes, int n_defaulted,
                          const xmlChar **attributes) {
        xmlParserCtxt *context = parser;
        Watch *watch = context->_private;
        if (context->nameNr >= (int) DOMAIN_XML_DEPTH_MAX) {
                watch->too_deep = true;
                xmlStopParser(context);
                return;
        }
        xmlSAX2StartElementNs(parser, name, prefix, uri, n_namespaces, namespaces, n_attributes, n_defaulted,
                              attributes);
}

static void free_parser(xmlParserCtxt *context) {
        xmlFreeDoc(context->myDoc);
        context->myDoc = NULL;
        xmlFreeParserCtxt(context);
}
DEFINE_CLEANUP(xmlParserCtxt *, free_parser);

/* The parser quotes the input in its messages, which go to people's terminals. */
static void keep_error(const xmlError *error, DomainTreeError *ret) {
        *ret = (DomainTreeError) { .line = error->line };
        size_t n = 0;
        for (const char *p = error->message ? error->message : ""; *p && *p != '\n' && n < sizeof(ret->message) - 1;
             p++)
                ret->message[n++] = *p >= 0x20 && *p < 0x7f ? *p : '?';
        ret->message[n] = 0;
}

int domain_tree_parse(const char *xml, size_t size, xmlDoc **ret, DomainTreeError *ret_error) {
        if (size > INT_MAX)
                return -ENOMEM;

        _cleanup_(free_parserp) xmlParserCtxt *context = xmlNewParserCtxt();
        if (!context)
                return -ENOMEM;

        Watch watch = {};
        context->_private = &watch;
        context->sax->internalSubset = stop_at_dtd;
        context->sax->startElementNs = start_element;

        /* UTF-8 whatever the document claims: what we read is what domain_xml_build() writes for libvirt. */
        _cleanup_(free_documentp) xmlDoc *document = xmlCtxtReadMemory(
                context, xml, (int) size, NULL, "UTF-8", XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        if (context->errNo == XML_ERR_NO_MEMORY)
                return -ENOMEM;
        if (watch.has_dtd)
                return DOMAIN_TREE_HAS_DTD;
        if (watch.too_deep)
                return DOMAIN_TREE_TOO_DEEP;
        if (!document || !context->wellFormed || !xmlDocGetRootElement(document)) {
                keep_error(&context->lastError, ret_error);
                return DOMAIN_TREE_MALFORMED;
        }
        *ret = STEAL(document);
        return DOMAIN_TREE_OK;
}

bool element_is(const xmlNode *node, const char *name) {
        return node->type == XML_ELEMENT_NODE && !node->ns && strcmp((const char *) node->name, name) == 0;
}

static xmlNode *find_from(xmlNode *node, const char *name) {
        while (node && !element_is(node, name))
                node = node->next;
        return node;
}

xmlNode *element_child(const xmlNode *parent, const char *name) {
        return parent ? find_from(parent->children, name) : NULL;
}

xmlNode *element_next(const xmlNode *node, const char *name) {
        return find_from(node->next, name);
}

xmlNode *element_walk(const xmlNode *node, const xmlNode *top) {
        const xmlNode *next = node->type == XML_ELEMENT_NODE ? node->children : NULL;
        for (;;) {
                while (!next) {
                        if (node == top)
                                return NULL;
                        next = node->next;
                        node = node->parent;
                }
                if (next->type == XML_ELEMENT_NODE)
                        return (xmlNode *) next;
                node = next;
                next = NULL;
        }
}

const char *element_attribute(const xmlNode *node, const char *name) {
        for (const xmlAttr *a = node->properties; a; a = a->next)
                if (!a->ns && strcmp((const char *) a->name, name) == 0)
                        return a->children && a->children->content ? (const char *) a->children->content : "";
        return NULL;
}

bool element_attribute_is(const xmlNode *node, const char *name, const char *value) {
        const char *have = element_attribute(node, name);
        return have && strcmp(have, value) == 0;
}

static bool is_space(xmlChar c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int element_content(const xmlNode *node, xmlChar **ret) {
        xmlChar *content = xmlNodeGetContent(node);
        if (!content)
                return -ENOMEM;

        size_t start = 0, end = strlen((const char *) content);
        while (end > 0 && is_space(content[end - 1]))
                end--;
        while (start < end && is_space(content[start]))
                start++;
        memmove(content, content + start, end - start);
        content[end - start] = 0;
        *ret = content;
        return 0;
}

int element_attribute_u32(const xmlNode *node, const char *name, uint32_t *ret) {
        const char *text = element_attribute(node, name);
        if (!text) {
                *ret = 0;
                return 0;
        }
        if (strchr(text, '-'))
                return -EINVAL;

        char *end;
        errno = 0;
        unsigned long long value = strtoull(text, &end, 0);
        if (errno != 0 || end == text || *end || value > UINT32_MAX)
                return -EINVAL;
        *ret = (uint32_t) value;
        return 0;
}

xmlNode *element_add(xmlNode *parent, const char *name, const char *content) {
        return parent ? xmlNewTextChild(parent, NULL, (const xmlChar *) name, (const xmlChar *) content) : NULL;
}

int element_set(xmlNode *node, const char *name, const char *value) {
        return node && xmlNewProp(node, (const xmlChar *) name, (const xmlChar *) value) ? 0 : -ENOMEM;
}
