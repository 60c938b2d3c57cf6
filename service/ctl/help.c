/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <string.h>

#include "ctl/must.h"
#include "ctl/verbs.h"

#define NOUN_WIDTH 18
#define OPTION_WIDTH 30
#define PAGE_WIDTH 90U

/* Help is a page: no wider than can be read, and as wide as that where nobody says how wide. */
static Screen read_page(const Screen *screen) {
        Screen page = *screen;
        if (page.width == 0 || page.width > PAGE_WIDTH)
                page.width = PAGE_WIDTH;
        return page;
}

static void print_options(const Screen *screen, const Option *options) {
        for (const Option *option = options; option && option->name; option++) {
                _cleanup_free_ char *letter = option->letter ? must_printf("-%c, ", option->letter) : must_copy("");
                _cleanup_free_ char *left = must_printf("%s%s%s%s", letter, option->name, option->value ? " " : "",
                                                        option->value ? option->value : "");
                _cleanup_free_ char *first = must_printf("  %-*s  ", OPTION_WIDTH, left);
                screen_paragraph(screen, first, STYLE_PLAIN, option->help);
        }
}

static void print_verb_line(const Screen *screen, const Verb *verb) {
        _cleanup_free_ char *name = must_printf("%s%s%s", verb->noun, verb->verb ? " " : "",
                                                verb->verb ? verb->verb : "");
        _cleanup_free_ char *first = must_printf("  %-*s  ", NOUN_WIDTH, name);
        screen_paragraph(screen, first, STYLE_PLAIN, verb->summary);
}

void help_all(const Screen *screen) {
        Screen page = read_page(screen);
        FILE *file = screen->file;
        fputs("gpupoolctl [OPTION]... NOUN [VERB] [WORD]...\n\n", file);
        screen_paragraph(&page, "", STYLE_PLAIN,
                         "Looks at and changes a gpupool cluster: whole GPUs of many hosts, given to "
                         "virtual machines.");
        const char *group = "";
        for (const Verb *verb = verbs; verb->noun; verb++) {
                /* The nouns without verbs stand together. */
                const char *belongs_to = verb->verb ? verb->noun : "alone";
                if (!text_equal(group, belongs_to))
                        fputc('\n', file);
                group = belongs_to;
                print_verb_line(&page, verb);
        }
        fputs("\nOptions, with every verb:\n", file);
        print_options(&page, global_options);
        fputc('\n', file);
        screen_paragraph(&page, "", STYLE_PLAIN,
                         "Exit status: 0 done; 1 failed; 2 wrong use; 3 something waits or would not run; "
                         "4 not allowed; 5 the service or the majority cannot be reached; 6 it may or may not have "
                         "happened.");
        fputc('\n', file);
        screen_paragraph(&page, "", STYLE_PLAIN,
                         "gpupoolctl NOUN VERB --help says more. See also gpupoolctl(1), gpupool(7).");
}

void help_noun(const Screen *screen, const char *noun) {
        const Verb *alone = verb_find(noun, NULL);
        if (alone && !alone->verb) {
                help_verb(screen, alone);
                return;
        }
        Screen page = read_page(screen);
        for (const Verb *verb = verbs; verb->noun; verb++)
                if (text_equal(verb->noun, noun))
                        print_verb_line(&page, verb);
        if (alone)
                fprintf(screen->file, "\nWithout a verb: list.");
        fprintf(screen->file, "%sgpupoolctl %s VERB --help says more.\n", alone ? " " : "\n", noun);
}

/* The lines of @help: an example (two spaces in) as it is, what is between as paragraphs. */
static void print_text(const Screen *screen, const char *help) {
        _cleanup_free_ char *paragraph = must_copy("");
        while (*help) {
                size_t length = strcspn(help, "\n");
                bool is_text = length > 0 && strncmp(help, "  ", 2) != 0;
                if (is_text)
                        must_append(&paragraph, "%s%.*s", *paragraph ? " " : "", (int) length, help);
                if (*paragraph && (!is_text || !help[length])) {
                        screen_paragraph(screen, "", STYLE_PLAIN, paragraph);
                        paragraph[0] = 0;
                }
                if (!is_text)
                        fprintf(screen->file, "%.*s\n", (int) length, help);
                help += length + (help[length] == '\n');
        }
}

void help_verb(const Screen *screen, const Verb *verb) {
        Screen page = read_page(screen);
        fprintf(screen->file, "%sgpupoolctl %s%s%s%s%s%s\n\n", screen_style(screen, STYLE_TITLE), verb->noun,
                verb->verb ? " " : "", verb->verb ? verb->verb : "", *verb->words ? " " : "", verb->words,
                screen_plain(screen, STYLE_TITLE));
        size_t length = strlen(verb->summary);
        _cleanup_free_ char *sentence = must_printf("%c%s%s", toupper((unsigned char) verb->summary[0]),
                                                    verb->summary + 1, verb->summary[length - 1] == '?' ? "" : ".");
        screen_paragraph(&page, "", STYLE_PLAIN, sentence);
        fputc('\n', screen->file);
        print_text(&page, verb->help);
        if (verb->options) {
                fputs("\nOptions:\n", screen->file);
                print_options(&page, verb->options);
        }
        fputs("\nOptions of every verb: gpupoolctl --help\n", screen->file);
}
