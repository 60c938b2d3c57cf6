/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/args.h"

#include <errno.h>
#include <string.h>

#include "ctl/must.h"
#include "ctl/nearest.h"
#include "util/cleanup.h"

void args_clear(Args *args) {
        array_clear(&args->words);
        array_clear(&args->options);
}

static const Option *find_option(const Option *options, const char *name, size_t length) {
        for (const Option *option = options; option && option->name; option++)
                if (strlen(option->name) == length && strncmp(option->name, name, length) == 0)
                        return option;
        return NULL;
}

static const Option *find_letter(const Option *options, char letter) {
        for (const Option *option = options; option && option->name; option++)
                if (option->letter == letter)
                        return option;
        return NULL;
}

static void consider_all(Nearest *nearest, const Option *options) {
        for (const Option *option = options; option && option->name; option++)
                nearest_consider(nearest, option->name);
}

static int refuse_unknown(const char *name, size_t length, const Option *first, const Option *second,
                          char **ret_problem) {
        _cleanup_free_ char *typed = must_printf("%.*s", (int) length, name);
        Nearest nearest = nearest_of(typed);
        consider_all(&nearest, first);
        consider_all(&nearest, second);
        const char *meant = nearest_found(&nearest);
        *ret_problem = meant ? must_printf("There is no option %s here. Did you mean %s?", typed, meant) :
                               must_printf("There is no option %s here.", typed);
        return -EINVAL;
}

static void add_option(Args *args, const Option *option, const char *value) {
        OptionGiven given = { option, value };
        MUST(array_append(&args->options, &given));
}

static int take_long(Args *args, char **argv, int argc, int *index, const Option *first, const Option *second,
                     char **ret_problem) {
        const char *word = argv[*index];
        size_t length = strcspn(word, "=");
        const Option *option = find_option(first, word, length);
        if (!option)
                option = find_option(second, word, length);
        if (!option)
                return refuse_unknown(word, length, first, second, ret_problem);

        (*index)++;
        if (!option->value) {
                if (word[length] == '=') {
                        *ret_problem = must_printf("%s takes no value.", option->name);
                        return -EINVAL;
                }
                add_option(args, option, NULL);
                return 0;
        }
        if (word[length] == '=') {
                add_option(args, option, word + length + 1);
                return 0;
        }
        if (*index >= argc) {
                *ret_problem = must_printf("%s needs a value: %s %s.", option->name, option->name, option->value);
                return -EINVAL;
        }
        add_option(args, option, argv[(*index)++]);
        return 0;
}

static int take_letters(Args *args, char **argv, int *index, const Option *first, const Option *second,
                        char **ret_problem) {
        for (const char *letter = argv[*index] + 1; *letter; letter++) {
                const Option *option = find_letter(first, *letter);
                if (!option)
                        option = find_letter(second, *letter);
                if (!option || option->value) {
                        *ret_problem = must_printf("There is no option -%c here.", *letter);
                        return -EINVAL;
                }
                add_option(args, option, NULL);
        }
        (*index)++;
        return 0;
}

int args_take(Args *args, char **argv, int argc, int *index, bool *only_words, const Option *first,
              const Option *second, char **ret_problem) {
        const char *word = argv[*index];
        if (!*only_words && text_equal(word, "--")) {
                *only_words = true;
                (*index)++;
                return 0;
        }
        if (!*only_words && strncmp(word, "--", 2) == 0)
                return take_long(args, argv, argc, index, first, second, ret_problem);
        if (!*only_words && word[0] == '-' && word[1])
                return take_letters(args, argv, index, first, second, ret_problem);
        MUST(array_append(&args->words, &word));
        (*index)++;
        return 0;
}

bool args_is_option(const char *word, const Option *options) {
        if (strncmp(word, "--", 2) == 0)
                return find_option(options, word, strcspn(word, "="));
        return word[0] == '-' && word[1] && find_letter(options, word[1]);
}

bool args_has(const Args *args, const char *name) {
        ARRAY_EACH(given, &args->options)
                if (text_equal(given->option->name, name))
                        return true;
        return false;
}

const char *args_value(const Args *args, const char *name) {
        const char *value = NULL;
        ARRAY_EACH(given, &args->options)
                if (text_equal(given->option->name, name))
                        value = given->value;
        return value;
}

int number_from_text(const char *what, const char *text, int64_t least, int64_t most, int64_t *ret,
                     char **ret_problem) {
        bool negative = text[0] == '-';
        uint64_t size;
        int r = text_to_u64(text + negative, 10, &size);
        if (r == 0 && size <= INT64_MAX) {
                int64_t value = negative ? -(int64_t) size : (int64_t) size;
                if (value >= least && value <= most) {
                        *ret = value;
                        return 0;
                }
        }
        *ret_problem = must_printf("%s is a whole number from %lld to %lld, not \"%s\".", what, (long long) least,
                                   (long long) most, text);
        return -EINVAL;
}
