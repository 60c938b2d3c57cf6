/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/options.h"

#include <errno.h>
#include <stdlib.h>

#include "core/fabric.h"
#include "core/names.h"
#include "core/pci-pattern.h"
#include "util/text.h"

#define OPTIONS_MAX 16
#define QUOTE_LENGTH_MAX 100
#define LIST_LENGTH_MAX 1024    /* a list of any option; each has its own, smaller limit in the registry */

const char *fit_to_quote(const char *text) {
        return strlen(text) <= QUOTE_LENGTH_MAX && text_is_printable(text) ? text : "(unprintable)";
}

static const Option *find_option(const Option *options, size_t n, const char *key) {
        for (size_t i = 0; i < n; i++)
                if (text_equal(options[i].key, key))
                        return options + i;
        return NULL;
}

static int read_value(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        const char *signature;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &signature);
        if (r < 0)
                return r;
        if (!text_equal(signature, option->signature))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "option %s is of type %s and must be of type %s", option->key, signature,
                                         option->signature);
        r = sd_bus_message_enter_container(m, 'v', signature);
        if (r >= 0)
                r = option->read(m, option, error);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0 && option->given)
                *option->given = true;
        return r;
}

int options_read(sd_bus_message *m, const Option *options, size_t n, sd_bus_error *error) {
        uint32_t seen = 0;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        return r;
                const Option *option = find_option(options, n, key);
                if (!option)
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "option %s is unknown here",
                                                 fit_to_quote(key));
                uint32_t bit = UINT32_C(1) << (option - options);
                if (seen & bit)
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "option %s stands twice", key);
                seen |= bit;
                r = read_value(m, option, error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int options_read_request(sd_bus_message *m, RequestOption *ret, sd_bus_error *error) {
        *ret = (RequestOption) {};
        const Option options[] = { OPTION_REQUEST(ret) };
        return options_read(m, options, ELEMENTS(options), error);
}

int options_read_none(sd_bus_message *m, sd_bus_error *error) {
        return options_read(m, NULL, 0, error);
}

/* ---- values */

int option_read_id(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        const void *bytes;
        size_t size;
        int r = sd_bus_message_read_array(m, 'y', &bytes, &size);
        if (r < 0)
                return r;
        if (size != ID_SIZE || id_is_null(bytes))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "option %s must be %d random bytes",
                                         option->key, ID_SIZE);
        memcpy(((RequestId *) option->value)->bytes, bytes, ID_SIZE);
        return 0;
}

int option_read_text(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, 's', option->value);
}

int option_read_u32(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, 'u', option->value);
}

int option_read_i32(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, 'i', option->value);
}

int option_read_boolean(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        int value;
        int r = sd_bus_message_read_basic(m, 'b', &value);
        if (r >= 0)
                *(bool *) option->value = value;
        return r;
}

int option_read_u64(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, 't', option->value);
}

/* 0 in an entry is the node's setting; a year is as good as never. */
#define TIMEOUT_NEVER_S (UINT64_C(365) * 24 * 3600)

int option_read_timeout_ms(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        uint64_t seconds;
        int r = sd_bus_message_read_basic(m, 't', &seconds);
        if (r < 0)
                return r;
        if (seconds > TIMEOUT_NEVER_S)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "%s is in seconds, at most a year; 0 for never",
                                         option->key);
        *(uint64_t *) option->value = (seconds > 0 ? seconds : TIMEOUT_NEVER_S) * 1000;
        return 0;
}

void text_row_clear(TextRow *row) {
        array_clear(row);
}

void pair_row_clear(PairRow *row) {
        array_clear(row);
}

static int refuse_length(const char *what, size_t most, sd_bus_error *error) {
        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "%s: at most %zu at once", what, most);
}

int read_texts(sd_bus_message *m, char type, size_t most, const char *what, TextRow *ret, sd_bus_error *error) {
        const char contents[2] = { type, '\0' }, *text;
        int r = sd_bus_message_enter_container(m, 'a', contents);
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(m, type, &text)) > 0) {
                if (ret->n >= most)
                        return refuse_length(what, most, error);
                r = array_append(ret, &text);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int option_read_texts(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return read_texts(m, option->signature[1], LIST_LENGTH_MAX, option->key, option->value, error);
}

int option_read_pairs(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        PairRow *row = option->value;
        TextPair pair;
        int r = sd_bus_message_enter_container(m, 'a', "(ss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(ss)", &pair.first, &pair.second)) > 0) {
                if (row->n >= LIST_LENGTH_MAX)
                        return refuse_length(option->key, LIST_LENGTH_MAX, error);
                r = array_append(row, &pair);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* ---- rules */

void rule_row_clear(RuleRow *row) {
        array_clear(row);
        free(row->pointers);
        row->pointers = NULL;
}

static int read_rule(sd_bus_message *m, RuleRow *row, sd_bus_error *error) {
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT;
        const char *key, *pattern;
        int r;
        while ((r = sd_bus_message_read(m, "{ss}", &key, &pattern)) > 0) {
                char **place = text_equal(key, "vendor") ? &rule.vendor :
                               text_equal(key, "device") ? &rule.device :
                               text_equal(key, "node") ? &rule.node :
                               text_equal(key, "set") ? &rule.set : NULL;
                if (!place)
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                                 "a rule has the keys vendor, device, node and set, and not %s",
                                                 fit_to_quote(key));
                if (place == &rule.set && !fabric_rule_is_valid(pattern))
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                                 "the set of a rule is alone, board, or 2 to %u slots joined by +, "
                                                 "such as pci0000:40/01.0/00.0+pci0000:40/03.0/00.0, of %u characters "
                                                 "at most", GPUS_PER_VM_MAX, POOL_SET_LENGTH_MAX);
                if (place != &rule.set && (strlen(pattern) > NAME_LENGTH_MAX || !text_is_printable(pattern)))
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                                 "the pattern for %s in a rule is at most %u readable characters", key,
                                                 NAME_LENGTH_MAX);
                if ((place == &rule.vendor || place == &rule.device) &&
                    !pattern_may_match_pci_id(pattern, strlen(pattern)))
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                                 "%s in a rule is 4 hexadecimal digits, with * and ?, such as 10de or "
                                                 "23*, and not %s", key, fit_to_quote(pattern));
                *place = (char *) pattern;
        }
        return r < 0 ? r : array_append(row, &rule);
}

static int point_at_rules(RuleRow *row) {
        row->pointers = calloc(row->n + 1, sizeof(*row->pointers));
        if (!row->pointers)
                return -ENOMEM;
        for (size_t i = 0; i < row->n; i++)
                row->pointers[i] = row->items + i;
        return 0;
}

int read_rules(sd_bus_message *m, RuleRow *ret, sd_bus_error *error) {
        int r = sd_bus_message_enter_container(m, 'a', "a{ss}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'a', "{ss}")) > 0) {
                if (ret->n >= POOL_RULES_MAX)
                        return refuse_length("rules", POOL_RULES_MAX, error);
                r = read_rule(m, ret, error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : point_at_rules(ret);
}

int option_read_rules(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return read_rules(m, option->value, error);
}
