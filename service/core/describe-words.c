/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/describe-internal.h"

int refuse(Reader *reader, const char *format, ...) {
        char room[512];
        va_list list;
        va_start(list, format);
        (void) vsnprintf(room, sizeof(room), format, list);
        va_end(list);
        int r = text_printf(&reader->sentence, "line %u: %s", reader->line, room);
        if (r < 0)
                return r;
        text_make_printable(reader->sentence, TEXT_LENGTH_MAX);
        return DESCRIBE_BAD;
}

char *next_word(Reader *reader) {
        char *word = reader->rest + strspn(reader->rest, " \t\r");
        if (!*word)
                return NULL;
        size_t n = strcspn(word, " \t\r");
        reader->rest = word + n;
        if (*reader->rest)
                *reader->rest++ = '\0';
        return word;
}

int must_have_word(Reader *reader, const char *after, char **ret) {
        *ret = next_word(reader);
        return *ret ? DESCRIBE_READ : refuse(reader, "something must follow \"%s\"", after);
}

int read_name(Reader *reader, const char *after, char **ret) {
        int r = must_have_word(reader, after, ret);
        if (r == DESCRIBE_READ && !name_is_valid(*ret))
                return refuse(reader, "\"%.*s\" is no name: 1 to %u letters, digits, \".\", \"_\" and \"-\", the first "
                              "a letter or a digit", WORD_SHOWN_MAX, *ret, NAME_LENGTH_MAX);
        return r;
}

int read_number(Reader *reader, const char *after, int64_t least, int64_t most, int64_t *ret) {
        char *word;
        uint64_t number;
        int r = must_have_word(reader, after, &word);
        if (r != DESCRIBE_READ)
                return r;
        bool negative = least < 0 && word[0] == '-';
        r = text_to_u64(word + negative, 10, &number);
        if (r == -ENOMEM)
                return r;
        int64_t value = r < 0 || number > INT64_MAX ? INT64_MAX : negative ? -(int64_t) number : (int64_t) number;
        if (r < 0 || number > INT64_MAX || value < least || value > most)
                return refuse(reader, "\"%s\" takes a whole number from %" PRId64 " to %" PRId64 ", not \"%.*s\"",
                              after, least, most, WORD_SHOWN_MAX, word);
        *ret = value;
        return DESCRIBE_READ;
}

int read_u32(Reader *reader, const char *after, uint32_t least, uint32_t most, uint32_t *ret) {
        int64_t number;
        int r = read_number(reader, after, least, most, &number);
        if (r == DESCRIBE_READ)
                *ret = (uint32_t) number;
        return r;
}

int read_address(Reader *reader, const char *after, PciAddress *ret) {
        char *word;
        int r = must_have_word(reader, after, &word);
        if (r == DESCRIBE_READ && pci_address_from_text(word, ret) < 0)
                return refuse(reader, "\"%.*s\" is no PCI address; one looks like 0000:41:00.0", WORD_SHOWN_MAX, word);
        return r;
}

int refuse_word(Reader *reader, const char *line_kind, const char *word) {
        return refuse(reader, "\"%.*s\" means nothing in a line that begins with \"%s\"", WORD_SHOWN_MAX, word,
                      line_kind);
}

/* ---- names */

static int compare_name(const void *key, const void *item) {
        return strcmp(key, ((const Name *) item)->name);
}

static size_t find_name(const Names *names, const char *name) {
        size_t place;
        return array_find(names, name, compare_name, &place) ? names->items[place].index : SIZE_MAX;
}

int add_name(Reader *reader, Names *names, const char *what, const char *name, size_t index) {
        size_t place;
        if (array_find(names, name, compare_name, &place))
                return refuse(reader, "there is a %s %s already", what, name);
        int r = array_insert(names, place, &((Name) { .name = name, .index = index }));
        return r < 0 ? r : DESCRIBE_READ;
}

int read_node_name(Reader *reader, const char *after, size_t *ret) {
        char *name;
        int r = read_name(reader, after, &name);
        if (r != DESCRIBE_READ)
                return r;
        *ret = find_name(&reader->nodes, name);
        return *ret == SIZE_MAX ? refuse(reader, "there is no node %s; its line must stand above", name)
                                : DESCRIBE_READ;
}
