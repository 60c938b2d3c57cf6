/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/fabric.h"

#include <errno.h>
#include <stdlib.h>

#include "core/names.h"

void fabric_sets_clear(FabricSets *sets) {
        ARRAY_EACH(set, sets)
                text_list_clear(&set->slots);
        array_clear(sets);
}

int fabric_sets_copy(const FabricSets *from, FabricSets *ret) {
        FabricSets copy = {};
        ARRAY_EACH(set, from) {
                FabricSet one = {};
                int r = text_list_copy(&set->slots, &one.slots);
                if (r >= 0)
                        r = array_append(&copy, &one);
                if (r < 0) {
                        text_list_clear(&one.slots);
                        fabric_sets_clear(&copy);
                        return r;
                }
        }
        *ret = copy;
        return 0;
}

bool fabric_sets_equal(const FabricSets *a, const FabricSets *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!text_list_equal(&a->items[i].slots, &b->items[i].slots))
                        return false;
        return true;
}

size_t fabric_sets_slots(const FabricSets *sets) {
        size_t n = 0;
        ARRAY_EACH(set, sets)
                n += set->slots.n;
        return n;
}

static bool slot_is_valid(const char *slot) {
        return *slot && strlen(slot) < GPU_SLOT_SIZE && text_is_printable(slot);
}

bool fabric_sets_are_sound(const FabricSets *sets) {
        if (fabric_sets_slots(sets) > GPUS_PER_NODE_MAX)
                return false;
        for (size_t i = 0; i < sets->n; i++) {
                const TextList *slots = &sets->items[i].slots;
                if (slots->n < 2 || (i > 0 && strcmp(sets->items[i - 1].slots.items[0], slots->items[0]) >= 0))
                        return false;
                for (size_t j = 0; j < slots->n; j++) {
                        if (!slot_is_valid(slots->items[j]) ||
                            (j > 0 && strcmp(slots->items[j - 1], slots->items[j]) >= 0))
                                return false;
                        /* The first that has it is this one, if no other has. */
                        if (fabric_find(sets, slots->items[j]) != sets->items + i)
                                return false;
                }
        }
        return true;
}

const FabricSet *fabric_find(const FabricSets *sets, const char *slot) {
        ARRAY_EACH(set, sets)
                if (text_list_has(&set->slots, slot))
                        return set;
        return NULL;
}

static int compare_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static void sort_slots(TextList *slots) {
        if (slots->n > 1)
                qsort(slots->items, slots->n, sizeof(*slots->items), compare_text);
}

static int add_once(TextList *slots, const char *slot) {
        return text_list_has(slots, slot) ? 0 : text_list_add(slots, slot);
}

static int compare_sets(const void *key, const void *item) {
        return strcmp(key, ((const FabricSet *) item)->slots.items[0]);
}

static bool have_one_in_common(const TextList *a, const TextList *b) {
        for (size_t i = 0; i < a->n; i++)
                if (text_list_has(b, a->items[i]))
                        return true;
        return false;
}

int fabric_join(FabricSets *sets, const TextList *slots) {
        FabricSet joined = {};
        int r = 0;
        for (size_t i = 0; r >= 0 && i < slots->n; i++)
                r = add_once(&joined.slots, slots->items[i]);
        ARRAY_EACH(set, sets)
                for (size_t i = 0; r >= 0 && have_one_in_common(&set->slots, slots) && i < set->slots.n; i++)
                        r = add_once(&joined.slots, set->slots.items[i]);
        if (r >= 0)
                r = array_reserve(&sets->items, &sets->allocated, sets->n + 1, sizeof(*sets->items));
        if (r < 0 || joined.slots.n < 2) {
                text_list_clear(&joined.slots);
                return r;
        }

        for (size_t i = sets->n; i > 0; i--)
                if (have_one_in_common(&sets->items[i - 1].slots, slots)) {
                        text_list_clear(&sets->items[i - 1].slots);
                        array_remove(sets, i - 1);
                }
        sort_slots(&joined.slots);
        size_t place;
        (void) array_find(sets, joined.slots.items[0], compare_sets, &place);
        return array_insert(sets, place, &joined);
}

bool fabric_has(const FabricSets *sets, const TextList *slots) {
        if (slots->n < 2)
                return true;
        const FabricSet *set = fabric_find(sets, slots->items[0]);
        for (size_t i = 0; set && i < slots->n; i++)
                if (!text_list_has(&set->slots, slots->items[i]))
                        return false;
        return set;
}

/* By the name that the hardware database has; where it has none, those that were sold with switches when this was
 * written. */
bool fabric_is_module(const GpuFacts *gpu) {
        static const uint16_t modules[] = {
                0x1db8,                                                 /* V100 SXM3 */
                0x20b0, 0x20b2, 0x20b3, 0x20bd, 0x20f3,                 /* A100, A800 */
                0x2324, 0x2329, 0x232c, 0x2330, 0x2335, 0x2337, 0x2338, 0x2339, /* H100, H800, H20, H200 */
        };
        if (gpu->identity.vendor != PCI_VENDOR_NVIDIA)
                return false;
        for (size_t i = 0; i < ELEMENTS(modules); i++)
                if (gpu->identity.device == modules[i])
                        return true;
        return gpu->device_name && strstr(gpu->device_name, "SXM");
}

int fabric_of_facts(const NodeFacts *facts, FabricSets *ret) {
        FabricSets sets = {};
        int r = 0;
        for (size_t i = 0; r >= 0 && i < facts->n_gpus; i++) {
                const GpuFacts *gpu = facts->gpus + i;
                TextList slots = {};
                if (gpu->siblings.n == 0 || !slot_is_valid(gpu->identity.slot))
                        continue;
                r = text_list_add(&slots, gpu->identity.slot);
                for (size_t s = 0; r >= 0 && s < gpu->siblings.n; s++) {
                        PciAddress address;
                        const GpuFacts *sibling = pci_address_from_text(gpu->siblings.items[s], &address) < 0
                                                          ? NULL : node_facts_find_address(facts, address);
                        if (sibling && slot_is_valid(sibling->identity.slot))
                                r = add_once(&slots, sibling->identity.slot);
                }
                if (r >= 0)
                        r = fabric_join(&sets, &slots);
                text_list_clear(&slots);
        }
        if (r < 0)
                fabric_sets_clear(&sets);
        else
                *ret = sets;
        return r;
}

bool fabric_rule_has_slots(const char *set) {
        return !text_is_empty(set) && !text_equal(set, FABRIC_ALONE) && !text_equal(set, FABRIC_BOARD);
}

bool fabric_rule_names_slot(const char *set, const char *slot) {
        size_t length = strlen(slot);
        for (const char *at = set; at; at = strchr(at, '+')) {
                at += *at == '+';
                if (strncmp(at, slot, length) == 0 && (at[length] == '+' || at[length] == '\0'))
                        return length > 0;
        }
        return false;
}

/* "pci0000:40/01.0/00.0" */
static bool looks_like_slot(const char *text, size_t length) {
        return length > 3 && length < GPU_SLOT_SIZE && strncmp(text, "pci", 3) == 0 && memchr(text, '/', length);
}

bool fabric_rule_is_valid(const char *set) {
        if (!fabric_rule_has_slots(set))
                return true;
        if (strlen(set) > POOL_SET_LENGTH_MAX || !text_is_printable(set))
                return false;
        size_t n = 0;
        for (const char *at = set;; at++, n++) {
                size_t length = strcspn(at, "+");
                if (!looks_like_slot(at, length))
                        return false;
                at += length;
                if (!*at)
                        break;
        }
        return n + 1 >= 2 && n + 1 <= GPUS_PER_VM_MAX;
}

static int split_slots(const char *set, TextList *ret) {
        for (const char *at = set;; at++) {
                size_t length = strcspn(at, "+");
                char slot[GPU_SLOT_SIZE];
                if (length >= sizeof(slot))
                        return 0;
                memcpy(slot, at, length);
                slot[length] = '\0';
                int r = add_once(ret, slot);
                at += length;
                if (r < 0 || !*at)
                        return r;
        }
}

/* All GPUs of the pool on that node that the rule matches; @ret is empty. */
static int list_board(const Pool *pool, const PoolRule *rule, const GpuIdentity *gpu, const char *node_name,
                      TextList *ret) {
        size_t first, n = pool_gpus_of_node(pool, &gpu->node, &first);
        for (size_t i = first; i < first + n; i++) {
                const GpuIdentity *other = pool->gpus.items + i;
                /* In the order of slots: another card that was in this one before is beside it. */
                if ((ret->n > 0 && text_equal(ret->items[ret->n - 1], other->slot)) ||
                    !pool_rule_matches(rule, other, node_name))
                        continue;
                int r = text_list_add(ret, other->slot);
                if (r < 0)
                        return r;
        }
        return 0;
}

int fabric_list_set(const FabricSets *told, const Pool *pool, const GpuIdentity *gpu, const char *node_name,
                    TextList *ret, bool *ret_by_rule) {
        const PoolRule *rule = pool ? pool_rules_find_set(&pool->rules, gpu, node_name) : NULL;
        const FabricSet *known = told ? fabric_find(told, gpu->slot) : NULL;
        TextList slots = {};
        int r = 0;
        if (rule && fabric_rule_has_slots(rule->set))
                r = split_slots(rule->set, &slots);
        if (rule && text_equal(rule->set, FABRIC_BOARD))
                r = list_board(pool, rule, gpu, node_name, &slots);
        if (known && (!rule || text_equal(rule->set, FABRIC_BOARD)))
                for (size_t i = 0; r >= 0 && i < known->slots.n; i++)
                        r = add_once(&slots, known->slots.items[i]);
        if (r < 0 || slots.n < 2) {
                text_list_clear(&slots);
                if (r < 0)
                        return r;
        }
        sort_slots(&slots);
        *ret = slots;
        if (ret_by_rule)
                *ret_by_rule = rule;
        return 0;
}
