/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Args: the words after the verb, sorted into options and the rest. An option may stand anywhere, as --name=value or
 * --name value; "--" ends them, and "-" alone is a word (standard input). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/array.h"

typedef struct Option {
        const char *name;       /* "--gpus" */
        char letter;            /* 'q', or 0 */
        const char *value;      /* what the value is called in help; NULL: it takes none */
        const char *help;
} Option;

#define OPTIONS_END { NULL, 0, NULL, NULL }

typedef struct OptionGiven {
        const Option *option;
        const char *value;      /* borrowed from the command line */
} OptionGiven;

typedef struct Args {
        ARRAY(const char *) words;
        ARRAY(OptionGiven) options;
} Args;

void args_clear(Args *args);

/* Takes one step at @argv[*index] (which is not at the end), and moves *index behind what was taken: an option of one
 * of the two rows (either may be NULL), or a word. Returns 0, or -EINVAL with a sentence in *ret_problem, which the
 * caller frees. *only_words becomes true at "--". */
int args_take(Args *args, char **argv, int argc, int *index, bool *only_words, const Option *first,
              const Option *second, char **ret_problem);

/* True if @word, as far as its "=", is one of @options. */
bool args_is_option(const char *word, const Option *options);

bool args_has(const Args *args, const char *name);
const char *args_value(const Args *args, const char *name);     /* the last one given, or NULL */

/* A whole number between @least and @most (both within int64). 0, or -EINVAL with a sentence. */
int number_from_text(const char *what, const char *text, int64_t least, int64_t most, int64_t *ret, char **ret_problem);
