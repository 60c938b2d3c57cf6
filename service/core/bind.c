/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/bind.h"

#include <errno.h>

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
