/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any text as an invitation; and, so that a search gets behind the checksum, any bytes as what an invitation has in it.
 * What is taken is written again and says the same. */

#include <assert.h>
#include <stdlib.h>

#include "core/token.h"
#include "core/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MOST 4096U

/* As core/token.h says that it is written. */
static char *wrap(const uint8_t *data, size_t size) {
        static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
        uint64_t hash = bytes_fingerprint(data, size);
        uint32_t sum = (uint32_t) (hash >> 32) ^ (uint32_t) hash;
        char *text = malloc(16 + 2 * size), *to = text;
        assert(text);
        to = stpcpy(to, "gp1-");
        uint64_t bits = sum;
        unsigned n_bits = 32;
        for (size_t i = 0; i <= size; i++) {
                for (; n_bits >= 5; n_bits -= 5)
                        *to++ = digits[bits >> (n_bits - 5) & 31];
                if (i < size) {
                        bits = bits << 8 | data[i];
                        n_bits += 8;
                }
        }
        if (n_bits > 0)
                *to++ = digits[bits << (5 - n_bits) & 31];
        *to = '\0';
        return text;
}

static void read_twice(const char *text) {
        _cleanup_(token_clear) Token token = {}, again = {};
        int r = token_decode(text, &token);
        assert(r >= TOKEN_GOOD && r <= TOKEN_NEWER);
        if (r != TOKEN_GOOD)
                return;
        _cleanup_free_ char *written = NULL;
        r = token_encode(&token, &written);
        assert(r == 0);
        r = token_decode(written, &again);
        assert(r == TOKEN_GOOD);
        assert(ID_EQUAL(&token.cluster, &again.cluster) && ID_EQUAL(&token.invite, &again.invite));
        assert(token.addresses.n == again.addresses.n && text_equal(token.cluster_name, again.cluster_name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size > SIZE_MOST)
                return 0;
        _cleanup_free_ char *text = strndup((const char *) data, size), *wrapped = wrap(data, size);
        assert(text);
        read_twice(text);
        read_twice(wrapped);
        return 0;
}
