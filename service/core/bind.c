/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/bind.h"

#include <errno.h>
#include <stdio.h>

#include "util/text.h"

static const char *const verbs[BIND_VERB_COUNT] = {
        [BIND_TAKE] = "take",
        [BIND_GIVE] = "give",
        [BIND_INSPECT] = "inspect",
};

static const char *const results[BIND_RESULT_COUNT] = {
        [BIND_DONE] = "done",
        [BIND_HELD] = "held",
        [BIND_BUSY] = "busy",
        [BIND_REFUSED] = "refused",
        [BIND_OTHER_CARD] = "other-card",
        [BIND_FAILED] = "failed",
        [BIND_BAD_CONFIG] = "bad-config",
        [BIND_BAD_RESET] = "bad-reset",
        [BIND_BAD_LINK] = "bad-link",
        [BIND_BAD_BARS] = "bad-bars",
        [BIND_UNAVAILABLE] = "unavailable",
};

const char *bind_verb_to_text(BindVerb verb) {
        return verbs[verb];
}

int bind_verb_from_text(const char *text, BindVerb *ret) {
        for (BindVerb verb = 0; verb < BIND_VERB_COUNT; verb++)
                if (text_equal(text, verbs[verb])) {
                        *ret = verb;
                        return 0;
                }
        return -EINVAL;
}

const char *bind_result_to_text(BindResult result) {
        return results[result];
}

int bind_result_from_text(const char *text, BindResult *ret) {
        for (BindResult result = 0; result < BIND_RESULT_COUNT; result++)
                if (text_equal(text, results[result])) {
                        *ret = result;
                        return 0;
                }
        return -EINVAL;
}

static bool is_word(const char *text, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (text[i] <= ' ' || text[i] > '~' || text[i] == ',')
                        return false;
        return true;
}

int bind_card_to_text(const GpuIdentity *card, char ret[static BIND_CARD_SIZE]) {
        if (!card->slot[0] || !is_word(card->slot, strlen(card->slot)) || !is_word(card->serial, strlen(card->serial)))
                return -EINVAL;
        (void) snprintf(ret, BIND_CARD_SIZE, "%04x:%04x:%04x:%04x,%s,%s", card->vendor, card->device,
                        card->subsystem_vendor, card->subsystem_device, card->serial, card->slot);
        return 0;
}

/* Four digits and @end; *text moves behind it. */
static bool take_id(const char **text, char end, uint16_t *ret) {
        char digits[5] = "";
        uint64_t id;
        for (size_t i = 0; i < 4; i++) {
                if (!(*text)[i] || !strchr("0123456789abcdef", (*text)[i]))
                        return false;
                digits[i] = (*text)[i];
        }
        if ((*text)[4] != end || text_to_u64(digits, 16, &id) < 0)
                return false;
        *text += 5;
        *ret = (uint16_t) id;
        return true;
}

int bind_card_from_text(const char *text, GpuIdentity *ret) {
        GpuIdentity card = {};
        if (!take_id(&text, ':', &card.vendor) || !take_id(&text, ':', &card.device) ||
            !take_id(&text, ':', &card.subsystem_vendor) || !take_id(&text, ',', &card.subsystem_device))
                return -EINVAL;
        size_t n = strcspn(text, ","), slot = text[n] ? strlen(text + n + 1) : 0;
        if (n >= sizeof(card.serial) || slot == 0 || slot >= sizeof(card.slot) || !is_word(text, n) ||
            !is_word(text + n + 1, slot))
                return -EINVAL;
        memcpy(card.serial, text, n);
        memcpy(card.slot, text + n + 1, slot);
        *ret = card;
        return 0;
}
