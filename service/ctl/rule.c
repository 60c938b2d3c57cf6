/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/rule.h"

#include <errno.h>

#include "ctl/must.h"

static void add_key(Pairs *rule, const char *key, const char *pattern, size_t length) {
        if (length == 0 || (length == 1 && pattern[0] == '*'))
                return;
        Pair pair = { must_copy(key), must_printf("%.*s", (int) length, pattern) };
        MUST(array_append(rule, &pair));
}

int rule_from_text(const char *text, Pairs *ret, char **ret_problem) {
        size_t vendor = strcspn(text, ":@");
        const char *device = text[vendor] == ':' ? text + vendor + 1 : "";
        size_t device_length = strcspn(device, "@");
        const char *at = strchr(text, '@'), *node = at ? at + 1 : "";
        if (strchr(device, ':') || (at && (!*node || strchr(node, '@'))) ||
            (vendor == 0 && device_length == 0 && !at)) {
                *ret_problem = must_printf("A rule is VENDOR[:DEVICE][@NODE], such as 10de:2331 or 10de:*@gpu-1, not "
                                           "\"%s\".", text);
                return -EINVAL;
        }

        Pairs rule = {};
        add_key(&rule, "vendor", text, vendor);
        add_key(&rule, "device", device, device_length);
        add_key(&rule, "node", node, strlen(node));
        if (rule.n == 0) {
                /* Every GPU: what matches all vendors says so. */
                Pair pair = { must_copy("vendor"), must_copy("*") };
                MUST(array_append(&rule, &pair));
        }
        *ret = rule;
        return 0;
}

static const char *find_key(const Pairs *rule, const char *key) {
        ARRAY_EACH(pair, rule)
                if (text_equal(pair->first, key))
                        return pair->second;
        return NULL;
}

bool rule_matches(const Pairs *rule, unsigned vendor_id, unsigned device_id, const char *node) {
        const char *vendor = find_key(rule, "vendor"), *device = find_key(rule, "device"), *on = find_key(rule, "node");
        _cleanup_free_ char *vendor_text = must_printf("%04x", vendor_id);
        _cleanup_free_ char *device_text = must_printf("%04x", device_id);
        return (!vendor || text_matches(vendor, vendor_text)) && (!device || text_matches(device, device_text)) &&
               (!on || text_matches(on, node));
}

char *rule_to_text(const Pairs *rule) {
        const char *vendor = find_key(rule, "vendor"), *device = find_key(rule, "device");
        const char *node = find_key(rule, "node");
        char *text = must_printf("%s:%s", vendor ? vendor : "*", device ? device : "*");
        if (node)
                must_append(&text, "@%s", node);
        return text;
}

void rule_clear(Pairs *rule) {
        ARRAY_EACH(pair, rule) {
                free(pair->first);
                free(pair->second);
        }
        array_clear(rule);
}
