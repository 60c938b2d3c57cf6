/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/rule.h"

#include <errno.h>

#include "core/pci-pattern.h"
#include "ctl/must.h"

static void add_key(Pairs *rule, const char *key, const char *pattern, size_t length) {
        if (length == 0 || (length == 1 && pattern[0] == '*'))
                return;
        Pair pair = { must_copy(key), must_printf("%.*s", (int) length, pattern) };
        MUST(array_append(rule, &pair));
}

/* alone, board, or slots ("pci0000:40/01.0/00.0"), two at least. */
static bool may_be_set(const char *set) {
        if (text_equal(set, "alone") || text_equal(set, "board"))
                return true;
        for (const char *slot = set; slot; slot = strchr(slot, '+')) {
                slot += *slot == '+';
                if (strncmp(slot, "pci", strlen("pci")) != 0 || !memchr(slot, '/', strcspn(slot, "+")))
                        return false;
        }
        return strchr(set, '+');
}

int rule_from_text(const char *text, Pairs *ret, char **ret_problem) {
        const char *equals = strchr(text, '='), *set = equals ? equals + 1 : "";
        _cleanup_free_ char *patterns = must_printf("%.*s", (int) (equals ? equals - text : (long) strlen(text)), text);
        size_t vendor = strcspn(patterns, ":@");
        const char *device = patterns[vendor] == ':' ? patterns + vendor + 1 : "";
        size_t device_length = strcspn(device, "@");
        const char *at = strchr(patterns, '@'), *node = at ? at + 1 : "";
        if (strchr(device, ':') || (at && (!*node || strchr(node, '@'))) ||
            (vendor == 0 && device_length == 0 && !at)) {
                *ret_problem = must_printf("A rule is VENDOR[:DEVICE][@NODE][=SET], such as 10de:2331 or 10de:*@gpu-1, "
                                           "not \"%s\".", text);
                return -EINVAL;
        }
        if (!pattern_may_match_pci_id(patterns, vendor) || !pattern_may_match_pci_id(device, device_length)) {
                *ret_problem = must_printf("Vendor and device of a rule are what lspci -nn shows, 4 hexadecimal "
                                           "digits, with * and ?, such as 10de:23*, not \"%.*s\".",
                                           (int) strcspn(patterns, "@"), patterns);
                return -EINVAL;
        }
        if (equals && !may_be_set(set)) {
                *ret_problem = must_printf("The set of a rule is alone, board, or slots joined by + (gpupoolctl "
                                           "gpu shows them), such as 10de:2330=board, not \"%s\".", set);
                return -EINVAL;
        }

        Pairs rule = {};
        add_key(&rule, "vendor", patterns, vendor);
        add_key(&rule, "device", device, device_length);
        add_key(&rule, "node", node, strlen(node));
        if (rule.n == 0) {
                /* Every GPU: what matches all vendors says so. */
                Pair pair = { must_copy("vendor"), must_copy("*") };
                MUST(array_append(&rule, &pair));
        }
        add_key(&rule, "set", set, strlen(set));
        *ret = rule;
        return 0;
}

static const char *find_key(const Pairs *rule, const char *key) {
        ARRAY_EACH(pair, rule)
                if (text_equal(pair->first, key))
                        return pair->second;
        return NULL;
}

/* Where a set names slots, only GPUs in these come in. */
static bool slot_matches(const char *set, const char *slot) {
        if (!set || !strchr(set, '/'))
                return true;
        size_t length = strlen(slot);
        for (const char *at = set; at; at = strchr(at, '+')) {
                at += *at == '+';
                if (length > 0 && strncmp(at, slot, length) == 0 && (at[length] == '+' || !at[length]))
                        return true;
        }
        return false;
}

bool rule_matches(const Pairs *rule, unsigned vendor_id, unsigned device_id, const char *node, const char *slot) {
        const char *vendor = find_key(rule, "vendor"), *device = find_key(rule, "device"), *on = find_key(rule, "node");
        _cleanup_free_ char *vendor_text = must_printf("%04x", vendor_id);
        _cleanup_free_ char *device_text = must_printf("%04x", device_id);
        return (!vendor || text_matches(vendor, vendor_text)) && (!device || text_matches(device, device_text)) &&
               (!on || text_matches(on, node)) && slot_matches(find_key(rule, "set"), slot);
}

char *rule_to_text(const Pairs *rule) {
        const char *vendor = find_key(rule, "vendor"), *device = find_key(rule, "device");
        const char *node = find_key(rule, "node"), *set = find_key(rule, "set");
        char *text = must_printf("%s:%s", vendor ? vendor : "*", device ? device : "*");
        if (node)
                must_append(&text, "@%s", node);
        if (set)
                must_append(&text, "=%s", set);
        return text;
}

void rule_clear(Pairs *rule) {
        ARRAY_EACH(pair, rule) {
                free(pair->first);
                free(pair->second);
        }
        array_clear(rule);
}
