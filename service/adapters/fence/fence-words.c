/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/fence/fence-words.h"

#include <ctype.h>
#include <errno.h>

#include "util/array.h"

#define SHOWN_MAX 200U                  /* of what an agent says */
#define RECOGNISED_LEAST 4U             /* a value as short as "1" or "off" would be found in every second word */

/* ---- to the agent */

static bool is_one_line(const char *text) {
        return text && !strpbrk(text, "\n\r");
}

/* A line is "name=value"; blanks at its end are taken off, and so is a pair of quotes around the value: who has either
 * is given quotes. */
static int write_line(char **text, const char *name, const char *value) {
        size_t n = strlen(value);
        bool blank = n > 0 && (isspace((unsigned char) value[0]) || isspace((unsigned char) value[n - 1]));
        bool quoted = n > 1 && value[0] == '"' && value[n - 1] == '"';
        const char *quote = blank || quoted ? "\"" : "";
        return text_append(text, "%s=%s%s%s\n", name, quote, value, quote);
}

static bool has_parameter(const FenceOrder *order, const char *name) {
        for (size_t i = 0; i < order->n_parameters; i++)
                if (text_equal(order->parameters[i].name, name))
                        return true;
        return false;
}

int fence_words_write(const FenceOrder *order, char **ret) {
        _cleanup_free_ char *text = NULL;
        if (!is_one_line(order->action) || !is_one_line(order->node))
                return -EINVAL;
        int r = write_line(&text, "action", order->action);
        if (r >= 0 && !has_parameter(order, "nodename"))
                r = write_line(&text, "nodename", order->node);
        for (size_t i = 0; r >= 0 && i < order->n_parameters; i++) {
                const FenceParameter *parameter = order->parameters + i;
                if (text_is_empty(parameter->name) || !is_one_line(parameter->name) || !is_one_line(parameter->value) ||
                    strchr(parameter->name, '='))
                        return -EINVAL;
                if (!text_equal(parameter->name, "action"))
                        r = write_line(&text, parameter->name, parameter->value);
        }
        if (r < 0)
                return r;
        *ret = STEAL(text);
        return 0;
}

/* ---- from the agent */

/* fence-agents end every complaint about their parameters with this, so the line before is the complaint itself. */
static bool says_something(const char *text) {
        static const char usage[] = "Please use '-h' for usage";
        return text[strspn(text, " \t\r")] && !strstr(text, usage);
}

static void end_line(FenceLine *line) {
        line->current[line->n] = '\0';
        line->n = 0;
        if (says_something(line->current))
                memcpy(line->last, line->current, sizeof(line->last));
}

void fence_line_feed(FenceLine *line, const char *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (bytes[i] == '\n')
                        end_line(line);
                else if (bytes[i] != '\0' && line->n < FENCE_LINE_MAX - 1)
                        line->current[line->n++] = bytes[i];
}

const char *fence_line_end(FenceLine *line) {
        end_line(line);
        return line->last;
}

static bool is_secret(const char *name) {
        static const char *const words[] = { "pass", "secret", "token", "key", "community", "cred" };
        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (strcasestr(name, words[i]))
                        return true;
        return false;
}

int fence_words_secrets(const FenceOrder *order, TextList *ret) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < order->n_parameters; i++) {
                const FenceParameter *parameter = order->parameters + i;
                size_t n = strlen(parameter->value);
                if (n >= RECOGNISED_LEAST || (n > 0 && is_secret(parameter->name)))
                        r = text_list_add(ret, parameter->value);
        }
        return r;
}

/* The longest of them that @said begins with, so that one which begins another does not leave the other's rest. A line
 * that was cut may end in the middle of one. */
static size_t match(const TextList *values, const char *said, size_t n_said, bool was_cut) {
        size_t longest = 0;
        for (size_t i = 0; i < values->n; i++) {
                size_t n = strlen(values->items[i]);
                if (was_cut && n > n_said)
                        n = n_said;
                if (n > longest && n <= n_said && memcmp(said, values->items[i], n) == 0)
                        longest = n;
        }
        return longest;
}

int fence_words_hide(const TextList *values, const char *said, char **ret) {
        size_t rest = strlen(said);
        bool was_cut = rest >= FENCE_LINE_MAX - 1;
        _cleanup_free_ char *text = calloc(3 * rest + 1, 1);
        if (!text)
                return -ENOMEM;
        for (char *to = text; rest > 0;) {
                size_t n = match(values, said, rest, was_cut);
                if (n > 0)
                        to = stpcpy(to, "***");
                else
                        *to++ = *said;
                n = n > 0 ? n : 1;
                said += n;
                rest -= n;
        }
        text_make_printable(text, SHOWN_MAX);
        *ret = STEAL(text);
        return 0;
}
