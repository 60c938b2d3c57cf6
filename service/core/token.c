/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/token.h"

#include <errno.h>

#include "core/entry.h"
#include "core/names.h"
#include "core/wire.h"

#define PREFIX "gp1-"
#define PREFIX_FAMILY "gp"      /* and a digit and a dash: some gpupool's */
#define CHECKSUM_SIZE 4U
/* As many bytes as a text of TOKEN_LENGTH_MAX characters has. */
#define BYTES_MAX (TOKEN_LENGTH_MAX / 8U * 5U)
#define ITEMS_MAX 64U           /* fields: fifteen, and room for those of tomorrow */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

/* The compiler may not leave it out as a write that nobody reads. */
static void overwrite(void *memory, size_t size) {
        volatile uint8_t *bytes = memory;
        for (size_t i = 0; i < size; i++)
                bytes[i] = 0;
}

void token_clear(Token *token) {
        free(token->cluster_name);
        text_list_clear(&token->addresses);
        overwrite(token->secret, sizeof(token->secret));
        *token = (Token) {};
}

static bool address_is_valid(const char *address) {
        return !text_is_empty(address) && strlen(address) <= ADDRESS_LENGTH_MAX && text_is_printable(address);
}

static uint32_t checksum(const uint8_t *bytes, size_t size) {
        uint64_t hash = bytes_fingerprint(bytes, size);
        return (uint32_t) (hash >> 32) ^ (uint32_t) hash;
}

/* ---- base32 */

static size_t text_size(size_t n_bytes) {
        return (n_bytes * 8 + 4) / 5;
}

static void write_base32(const uint8_t *bytes, size_t size, char *ret) {
        uint32_t bits = 0;
        unsigned n_bits = 0;
        for (size_t i = 0; i < size; i++) {
                bits = bits << 8 | bytes[i];
                for (n_bits += 8; n_bits >= 5; n_bits -= 5)
                        *ret++ = alphabet[bits >> (n_bits - 5) & 31];
        }
        if (n_bits > 0)
                *ret++ = alphabet[bits << (5 - n_bits) & 31];
        *ret = '\0';
}

static bool is_space(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static char lower(char c) {
        return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* Returns the size, or -EINVAL for a character that is none of base32's, or for more than BYTES_MAX. */
static int read_base32(const char *text, uint8_t *ret) {
        uint32_t bits = 0;
        unsigned n_bits = 0;
        size_t n = 0;
        for (; *text; text++) {
                if (is_space(*text))
                        continue;
                const char *digit = strchr(alphabet, lower(*text));
                if (!digit)
                        return -EINVAL;
                bits = bits << 5 | (uint32_t) (digit - alphabet);
                n_bits += 5;
                if (n_bits < 8)
                        continue;
                if (n == BYTES_MAX)
                        return -EINVAL;
                n_bits -= 8;
                ret[n++] = (uint8_t) (bits >> n_bits);
        }
        /* What is left of the last character is zero, or one text would stand for the same as another. */
        return n_bits < 5 && (bits & ((1U << n_bits) - 1)) == 0 ? (int) n : -EINVAL;
}

/* ---- the message */

static int check_token(const Token *token) {
        if (id_is_null(token->cluster.bytes) || id_is_null(token->invite.bytes) ||
            !name_is_valid(token->cluster_name) || token->addresses.n == 0 ||
            token->addresses.n > TOKEN_ADDRESSES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < token->addresses.n; i++)
                if (!address_is_valid(token->addresses.items[i]))
                        return -EINVAL;
        return 0;
}

int token_encode(const Token *token, char **ret) {
        if (check_token(token) < 0)
                return -EINVAL;

        Gpupool1__JoinToken m = GPUPOOL1__JOIN_TOKEN__INIT;
        m.cluster = id_message_borrow(token->cluster.bytes);
        m.invite = id_message_borrow(token->invite.bytes);
        m.secret = (ProtobufCBinaryData) { .len = sizeof(token->secret), .data = (uint8_t *) token->secret };
        m.key = (ProtobufCBinaryData) { .len = sizeof(token->key), .data = (uint8_t *) token->key };
        m.expires_ms = token->expires_ms;
        m.n_addresses = token->addresses.n;
        m.addresses = token->addresses.items;
        m.cluster_name = token->cluster_name;

        uint8_t bytes[BYTES_MAX];
        size_t size = gpupool1__join_token__get_packed_size(&m);
        if (size > BYTES_MAX - CHECKSUM_SIZE)
                return -EINVAL;
        gpupool1__join_token__pack(&m, bytes + CHECKSUM_SIZE);
        uint32_t sum = checksum(bytes + CHECKSUM_SIZE, size);
        for (unsigned i = 0; i < CHECKSUM_SIZE; i++)
                bytes[i] = (uint8_t) (sum >> (24 - 8 * i));

        int r = -ENOMEM;
        char *text = malloc(sizeof(PREFIX) + text_size(CHECKSUM_SIZE + size));
        if (text) {
                strcpy(text, PREFIX);
                write_base32(bytes, CHECKSUM_SIZE + size, text + strlen(PREFIX));
                *ret = text;
                r = 0;
        }
        overwrite(bytes, sizeof(bytes));
        return r;
}

static int read_message(const Gpupool1__JoinToken *m, Token *ret) {
        Token token = { .expires_ms = m->expires_ms };
        if (m->cluster.len != ID_SIZE || m->invite.len != ID_SIZE || m->secret.len != sizeof(token.secret) ||
            m->key.len != sizeof(token.key) || m->n_addresses > TOKEN_ADDRESSES_MAX)
                return -EINVAL;
        memcpy(token.cluster.bytes, m->cluster.data, ID_SIZE);
        memcpy(token.invite.bytes, m->invite.data, ID_SIZE);
        memcpy(token.secret, m->secret.data, sizeof(token.secret));
        memcpy(token.key, m->key.data, sizeof(token.key));

        int r = text_set(&token.cluster_name, m->cluster_name);
        for (size_t i = 0; r >= 0 && i < m->n_addresses; i++)
                r = text_list_add(&token.addresses, m->addresses[i]);
        if (r >= 0)
                r = check_token(&token);
        if (r < 0) {
                token_clear(&token);
                return r;
        }
        *ret = token;
        return 0;
}

/* A whole token whose checksum is good says nonsense only when it was made to. */
static int read_bytes(const uint8_t *bytes, size_t size, Token *ret) {
        uint32_t sum = 0;
        if (size < CHECKSUM_SIZE)
                return TOKEN_DAMAGED;
        for (unsigned i = 0; i < CHECKSUM_SIZE; i++)
                sum = sum << 8 | bytes[i];
        bytes += CHECKSUM_SIZE;
        size -= CHECKSUM_SIZE;
        if (checksum(bytes, size) != sum ||
            wire_check(&gpupool1__join_token__descriptor, bytes, size, ITEMS_MAX) != WIRE_GOOD)
                return TOKEN_DAMAGED;

        Gpupool1__JoinToken *m = gpupool1__join_token__unpack(NULL, size, bytes);
        if (!m)
                return -ENOMEM;
        int r = read_message(m, ret);
        overwrite(m->secret.data, m->secret.len);
        gpupool1__join_token__free_unpacked(m, NULL);
        return r == -EINVAL ? TOKEN_DAMAGED : r;
}

/* The next character that is no white space, in lower case, and *text behind it; at the end 0. */
static char next_character(const char **text) {
        while (is_space(**text))
                (*text)++;
        return **text ? lower(*(*text)++) : '\0';
}

static bool is_ours(char c, size_t i) {
        return i < strlen(PREFIX_FAMILY) ? c == PREFIX_FAMILY[i] : i == 2 ? c >= '1' && c <= '9' : c == '-';
}

int token_decode(const char *text, Token *ret) {
        bool newer = false;
        for (size_t i = 0; i < strlen(PREFIX); i++) {
                char c = next_character(&text);
                if (!is_ours(c, i))
                        return TOKEN_NOT_ONE;
                newer = newer || c != PREFIX[i];
        }
        if (newer)
                return TOKEN_NEWER;

        uint8_t bytes[BYTES_MAX];
        int n = read_base32(text, bytes);
        int r = n < 0 ? (int) TOKEN_DAMAGED : read_bytes(bytes, (size_t) n, ret);
        overwrite(bytes, sizeof(bytes));
        return r;
}
