/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/screen-text.h"

#include "ctl/must.h"
#include "util/array.h"
#include "util/cleanup.h"

size_t character_read(const char *text, uint32_t *ret) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        const unsigned char *s = (const unsigned char *) text;
        size_t length = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 :
                        (s[0] & 0xf8) == 0xf0 ? 4 : 0;
        if (length == 0)
                return 0;

        uint32_t c = length == 1 ? s[0] : s[0] & (0x7fU >> length);
        for (size_t i = 1; i < length; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3fU);
        }
        if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return length;
}

typedef struct Range {
        uint32_t first, last;
} Range;

static bool is_in(const Range *ranges, size_t n, uint32_t c) {
        for (size_t i = 0; i < n; i++)
                if (c >= ranges[i].first && c <= ranges[i].last)
                        return true;
        return false;
}

unsigned character_width(uint32_t c) {
        /* Unicode 15, rounded to blocks: enough for names and sentences, the same in every locale. */
        static const Range none[] = {
                { 0x0300, 0x036f }, { 0x0483, 0x0489 }, { 0x0591, 0x05bd }, { 0x0610, 0x061a }, { 0x064b, 0x065f },
                { 0x0e31, 0x0e31 }, { 0x0e34, 0x0e3a }, { 0x0e47, 0x0e4e }, { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff },
                { 0x200b, 0x200f }, { 0x202a, 0x202e }, { 0x2060, 0x206f }, { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f },
                { 0xfe20, 0xfe2f }, { 0xfeff, 0xfeff }, { 0xe0100, 0xe01ef },
        };
        static const Range wide[] = {
                { 0x1100, 0x115f }, { 0x231a, 0x231b }, { 0x2329, 0x232a }, { 0x23e9, 0x23ec }, { 0x25fd, 0x25fe },
                { 0x2614, 0x2615 }, { 0x2648, 0x2653 }, { 0x26a1, 0x26a1 }, { 0x2705, 0x2705 }, { 0x270a, 0x270b },
                { 0x2728, 0x2728 }, { 0x274c, 0x274c }, { 0x2753, 0x2755 }, { 0x2757, 0x2757 }, { 0x2795, 0x2797 },
                { 0x2b1b, 0x2b1c }, { 0x2b50, 0x2b50 }, { 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xa960, 0xa97f },
                { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff }, { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 },
                { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff }, { 0x1f900, 0x1f9ff }, { 0x20000, 0x3fffd },
        };
        if (c < 0x300)
                return 1;
        if (is_in(none, ELEMENTS(none), c))
                return 0;
        return is_in(wide, ELEMENTS(wide), c) ? 2 : 1;
}

bool character_is_harmful(uint32_t c) {
        static const Range harmful[] = {
                { 0x0000, 0x001f }, { 0x007f, 0x009f }, { 0x00ad, 0x00ad }, { 0x061c, 0x061c }, { 0x180e, 0x180e },
                { 0x200b, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
                { 0xe0000, 0xe007f },
        };
        return is_in(harmful, ELEMENTS(harmful), c);
}

bool text_is_utf8(const char *text) {
        while (*text) {
                uint32_t c;
                size_t length = character_read(text, &c);
                if (length == 0)
                        return false;
                text += length;
        }
        return true;
}

size_t text_width(const char *text) {
        size_t width = 0;
        while (*text) {
                uint32_t c = 0;
                size_t length = character_read(text, &c);
                width += length > 0 ? character_width(c) : 1;
                text += length > 0 ? length : 1;
        }
        return width;
}

static void append_escaped(char **made, uint32_t c) {
        if (c == '\n')
                must_append(made, "\\n");
        else if (c == '\t')
                must_append(made, "\\t");
        else if (c < 0x100)
                must_append(made, "\\x%02x", c);
        else
                must_append(made, "\\u{%x}", c);
}

char *text_made_safe(const char *text, bool ascii) {
        char *made = must_copy("");
        while (*text) {
                /* A run of plain characters at once: nearly all text is one. */
                size_t plain = 0;
                while (text[plain] >= 0x20 && text[plain] < 0x7f)
                        plain++;
                if (plain > 0) {
                        must_append(&made, "%.*s", (int) plain, text);
                        text += plain;
                        continue;
                }

                uint32_t c = 0;
                size_t length = character_read(text, &c);
                if (length == 0) {
                        must_append(&made, "\\x%02x", (unsigned char) *text);
                        text++;
                        continue;
                }
                if (character_is_harmful(c))
                        append_escaped(&made, c);
                else if (ascii)
                        must_append(&made, "%.*s", (int) character_width(c), "??");
                else
                        must_append(&made, "%.*s", (int) length, text);
                text += length;
        }
        return made;
}

/* How many bytes of @text fit @width columns. */
static size_t bytes_that_fit(const char *text, size_t width) {
        size_t used = 0, bytes = 0;
        while (text[bytes]) {
                uint32_t c = 0;
                size_t length = character_read(text + bytes, &c);
                size_t columns = length > 0 ? character_width(c) : 1;
                if (used + columns > width)
                        break;
                used += columns;
                bytes += length > 0 ? length : 1;
        }
        return bytes;
}

char *text_cut(const char *text, size_t width, const char *mark) {
        if (text_width(text) <= width)
                return must_copy(text);

        size_t mark_width = text_width(mark);
        size_t room = width > mark_width ? width - mark_width : 0;
        size_t bytes = bytes_that_fit(text, room);
        while (bytes > 0 && text[bytes - 1] == ' ')
                bytes--;
        return must_printf("%.*s%s", (int) bytes, text, mark_width <= width ? mark : "");
}

size_t text_line_length(const char *text, size_t width) {
        size_t bytes = bytes_that_fit(text, width);
        if (!text[bytes] || text[bytes] == ' ')
                return bytes;
        for (size_t i = bytes; i > 0; i--)
                if (text[i - 1] == ' ')
                        return i - 1;
        return bytes > 0 ? bytes : 1;
}
