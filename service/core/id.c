/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/id.h"

#include <errno.h>
#include <stddef.h>

#include "core/names.h"

static const char hex[] = "0123456789abcdef";

void id_to_text(const uint8_t bytes[static ID_SIZE], char ret[static ID_TEXT_SIZE]) {
        for (size_t i = 0; i < ID_SIZE; i++) {
                ret[2 * i] = hex[bytes[i] >> 4];
                ret[2 * i + 1] = hex[bytes[i] & 15];
        }
        ret[ID_TEXT_SIZE - 1] = '\0';
}

static int nibble(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int id_from_text(const char *text, uint8_t ret[static ID_SIZE]) {
        uint8_t bytes[ID_SIZE];
        bool dashed = strlen(text) == UUID_TEXT_SIZE - 1;
        for (size_t i = 0; i < ID_SIZE; i++) {
                if (dashed && (i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
                        return -EINVAL;
                int high = nibble(text[0]);
                int low = high < 0 ? -1 : nibble(text[1]);
                if (low < 0)
                        return -EINVAL;
                bytes[i] = (uint8_t) (high << 4 | low);
                text += 2;
        }
        if (*text)
                return -EINVAL;
        memcpy(ret, bytes, ID_SIZE);
        return 0;
}

void id_to_uuid(const uint8_t bytes[static ID_SIZE], char ret[static UUID_TEXT_SIZE]) {
        char *p = ret;
        for (size_t i = 0; i < ID_SIZE; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        *p++ = '-';
                *p++ = hex[bytes[i] >> 4];
                *p++ = hex[bytes[i] & 15];
        }
        *p = '\0';
}

static bool is_alphanumeric(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool name_is_valid(const char *name) {
        if (!name || !is_alphanumeric(name[0]))
                return false;
        size_t n = 0;
        for (; name[n]; n++)
                if (n >= NAME_LENGTH_MAX || !(is_alphanumeric(name[n]) || strchr("._-", name[n])))
                        return false;
        return true;
}
