/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Invitations as people copy them. */

#include <errno.h>
#include <glib.h>

#include "core/names.h"
#include "core/token.h"

static Token token_of(size_t n_addresses) {
        Token token = { .cluster = { { 0xcc, 1 } }, .invite = { { 0xdd, 2 } }, .expires_ms = 1800000000000 };
        static const char *const addresses[] = { "10.0.0.1:7411", "[fd77::1]:7411", "node-a.example.org:7411" };
        for (size_t i = 0; i < sizeof(token.secret); i++)
                token.secret[i] = (uint8_t) (17 * i + 3);
        for (size_t i = 0; i < sizeof(token.key); i++)
                token.key[i] = (uint8_t) (29 * i + 7);
        g_assert_cmpint(text_set(&token.cluster_name, "lab"), ==, 0);
        for (size_t i = 0; i < n_addresses; i++)
                g_assert_cmpint(text_list_add(&token.addresses, addresses[i % 3]), ==, 0);
        return token;
}

static char *text_of(const Token *token) {
        char *text = NULL;
        g_assert_cmpint(token_encode(token, &text), ==, 0);
        return text;
}

static void assert_same(const Token *a, const Token *b) {
        g_assert_true(ID_EQUAL(&a->cluster, &b->cluster));
        g_assert_true(ID_EQUAL(&a->invite, &b->invite));
        g_assert_cmpmem(a->secret, sizeof(a->secret), b->secret, sizeof(b->secret));
        g_assert_cmpmem(a->key, sizeof(a->key), b->key, sizeof(b->key));
        g_assert_cmpuint(a->expires_ms, ==, b->expires_ms);
        g_assert_cmpstr(a->cluster_name, ==, b->cluster_name);
        g_assert_cmpuint(a->addresses.n, ==, b->addresses.n);
        for (size_t i = 0; i < a->addresses.n; i++)
                g_assert_cmpstr(a->addresses.items[i], ==, b->addresses.items[i]);
}

static void assert_reads_as(const char *text, const Token *token) {
        _cleanup_(token_clear) Token read = {};
        g_assert_cmpint(token_decode(text, &read), ==, TOKEN_GOOD);
        assert_same(&read, token);
}

static void assert_verdict(const char *text, TokenVerdict verdict) {
        Token read = {};
        g_assert_cmpint(token_decode(text, &read), ==, verdict);
        g_assert_null(read.cluster_name);
}

static void test_an_invitation_comes_back_as_it_went(void) {
        for (size_t n = 1; n <= TOKEN_ADDRESSES_MAX; n++) {
                _cleanup_(token_clear) Token token = token_of(n);
                _cleanup_free_ char *text = text_of(&token);
                assert_reads_as(text, &token);
        }
}

static void test_an_invitation_is_one_word(void) {
        _cleanup_(token_clear) Token token = token_of(2);
        _cleanup_free_ char *text = text_of(&token);
        g_assert_true(g_str_has_prefix(text, "gp1-"));
        for (const char *c = text + 4; *c; c++)
                g_assert_true((*c >= 'a' && *c <= 'z') || (*c >= '2' && *c <= '7'));
}

static void test_white_space_and_case_do_not_count(void) {
        _cleanup_(token_clear) Token token = token_of(2);
        _cleanup_free_ char *text = text_of(&token);
        g_autofree char *upper = g_ascii_strup(text, -1);
        assert_reads_as(upper, &token);
        g_autofree char *padded = g_strdup_printf(" \t%s\r\n", text);
        assert_reads_as(padded, &token);

        g_autoptr(GString) wrapped = g_string_new(NULL);
        for (size_t i = 0; text[i]; i++) {
                g_string_append_c(wrapped, text[i]);
                if (i % 7 == 2)
                        g_string_append(wrapped, i % 2 ? "\n" : "\r\n  ");
        }
        assert_reads_as(wrapped->str, &token);
}

static void test_every_typo_is_noticed(void) {
        _cleanup_(token_clear) Token token = token_of(1);
        _cleanup_free_ char *text = text_of(&token);
        for (size_t i = 4; text[i]; i++) {
                char kept = text[i];
                for (const char *c = "aq27-!1"; *c; c++) {
                        text[i] = *c;
                        if (*c != kept)
                                assert_verdict(text, TOKEN_DAMAGED);
                }
                text[i] = kept;
        }
}

/* What is left over of the last character is no part of the bytes. */
static void test_one_invitation_is_one_text(void) {
        static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
        for (size_t n = 1; n <= TOKEN_ADDRESSES_MAX; n++) {
                _cleanup_(token_clear) Token token = token_of(n);
                _cleanup_free_ char *text = text_of(&token);
                char *last = text + strlen(text) - 1;
                *last = digits[(strchr(digits, *last) - digits) ^ 1];
                assert_verdict(text, TOKEN_DAMAGED);
        }
}

static void test_a_part_of_an_invitation_is_noticed(void) {
        _cleanup_(token_clear) Token token = token_of(1);
        _cleanup_free_ char *text = text_of(&token);
        for (size_t n = 0; text[n]; n++) {
                g_autofree char *part = g_strndup(text, n);
                assert_verdict(part, n < 4 ? TOKEN_NOT_ONE : TOKEN_DAMAGED);
        }
        g_autofree char *twice = g_strconcat(text, text + 4, NULL);
        assert_verdict(twice, TOKEN_DAMAGED);
        g_autofree char *longer = g_strconcat(text, "a", NULL);
        assert_verdict(longer, TOKEN_DAMAGED);
}

static void test_what_is_no_invitation_is_told_apart(void) {
        assert_verdict("", TOKEN_NOT_ONE);
        assert_verdict("10.0.0.1:7411", TOKEN_NOT_ONE);
        assert_verdict("gp0-aaaa", TOKEN_NOT_ONE);
        assert_verdict("gp1aaaaa", TOKEN_NOT_ONE);
        assert_verdict("gp2-whatever, it may be!", TOKEN_NEWER);
        assert_verdict("GP9-", TOKEN_NEWER);
        assert_verdict("gp1-", TOKEN_DAMAGED);
}

static void test_a_text_of_any_length_costs_nothing(void) {
        g_autofree char *zeros = g_strnfill(1024 * 1024, 'a'), *spaces = g_strnfill(1024 * 1024, ' ');
        memcpy(zeros, "gp1-", 4);
        assert_verdict(zeros, TOKEN_DAMAGED);
        assert_verdict(spaces, TOKEN_NOT_ONE);
}

static void test_what_could_not_be_read_again_is_not_written(void) {
        char *text = NULL;
#define ASSERT_BAD(change)                                                      \
        do {                                                                    \
                _cleanup_(token_clear) Token token = token_of(1);               \
                change;                                                         \
                g_assert_cmpint(token_encode(&token, &text), ==, -EINVAL);      \
        } while (0)
        ASSERT_BAD(token.cluster = (ClusterId) {});
        ASSERT_BAD(token.invite = (InviteId) {});
        ASSERT_BAD(g_assert_cmpint(text_set(&token.cluster_name, "a b"), ==, 0));
        ASSERT_BAD(g_assert_cmpint(text_set(&token.cluster_name, NULL), ==, 0));
        ASSERT_BAD(text_list_clear(&token.addresses));
        ASSERT_BAD(g_assert_cmpint(text_list_add(&token.addresses, ""), ==, 0));
        ASSERT_BAD(g_assert_cmpint(text_list_add(&token.addresses, "a\nb"), ==, 0));
        _cleanup_(token_clear) Token many = token_of(TOKEN_ADDRESSES_MAX + 1);
        g_assert_cmpint(token_encode(&many, &text), ==, -EINVAL);
        g_assert_null(text);
}

static void test_an_invitation_at_all_its_limits_is_good(void) {
        _cleanup_(token_clear) Token token = token_of(0);
        g_autofree char *address = g_strnfill(ADDRESS_LENGTH_MAX, 'x'), *name = g_strnfill(NAME_LENGTH_MAX, 'x');
        g_autofree char *longer = g_strnfill(ADDRESS_LENGTH_MAX + 1, 'x');
        g_assert_cmpint(text_set(&token.cluster_name, name), ==, 0);
        token.expires_ms = UINT64_MAX;
        for (size_t i = 0; i < TOKEN_ADDRESSES_MAX; i++)
                g_assert_cmpint(text_list_add(&token.addresses, address), ==, 0);
        _cleanup_free_ char *text = text_of(&token), *none = NULL;
        g_assert_cmpuint(strlen(text), <=, TOKEN_LENGTH_MAX);
        assert_reads_as(text, &token);

        g_assert_cmpint(text_set(token.addresses.items, longer), ==, 0);
        g_assert_cmpint(token_encode(&token, &none), ==, -EINVAL);
}

static void test_the_secret_is_not_left_in_memory(void) {
        Token token = token_of(1);
        static const uint8_t nothing[TOKEN_SECRET_SIZE];
        token_clear(&token);
        g_assert_cmpmem(token.secret, sizeof(token.secret), nothing, sizeof(nothing));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/token/" #name, test_##name)
        TEST(an_invitation_comes_back_as_it_went);
        TEST(an_invitation_is_one_word);
        TEST(white_space_and_case_do_not_count);
        TEST(every_typo_is_noticed);
        TEST(one_invitation_is_one_text);
        TEST(a_part_of_an_invitation_is_noticed);
        TEST(what_is_no_invitation_is_told_apart);
        TEST(a_text_of_any_length_costs_nothing);
        TEST(what_could_not_be_read_again_is_not_written);
        TEST(an_invitation_at_all_its_limits_is_good);
        TEST(the_secret_is_not_left_in_memory);
        return g_test_run();
}
