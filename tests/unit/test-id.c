/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>

#include "core/id.h"
#include "core/names.h"

static const VmId id = { .bytes = { 0x4f, 0x1c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xff } };

static void test_hex_and_uuid_there_and_back(void) {
        char hex[ID_TEXT_SIZE], uuid[UUID_TEXT_SIZE];
        VmId read;
        id_to_text(id.bytes, hex);
        id_to_uuid(id.bytes, uuid);
        g_assert_cmpstr(hex, ==, "4f1c000102030405060708090a0b0cff");
        g_assert_cmpstr(uuid, ==, "4f1c0001-0203-0405-0607-08090a0b0cff");
        g_assert_cmpint(id_from_text(hex, read.bytes), ==, 0);
        g_assert_true(ID_EQUAL(&read, &id));
        g_assert_cmpint(id_from_text(uuid, read.bytes), ==, 0);
        g_assert_true(ID_EQUAL(&read, &id));
        g_assert_cmpint(id_from_text("4F1C0001-0203-0405-0607-08090A0B0CFF", read.bytes), ==, 0);
        g_assert_true(ID_EQUAL(&read, &id));
}

static void test_what_is_no_id_is_refused_and_touches_nothing(void) {
        static const char *const wrong[] = {
                "", "4f1c", "4f1c000102030405060708090a0b0cf", "4f1c000102030405060708090a0b0cff0",
                "4f1c000102030405060708090a0b0cfg", "4f1c00010203-0405-0607-0809-0a0b0cff",
                "4f1c0001-0203-0405-0607-08090a0b0cf", " 4f1c000102030405060708090a0b0cf",
                "4f1c0001-0203-0405-0607-08090a0b0c-f", "----------------------------------------",
        };
        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
                VmId read = id;
                g_assert_cmpint(id_from_text(wrong[i], read.bytes), ==, -EINVAL);
                g_assert_true(ID_EQUAL(&read, &id));
        }
}

static void test_null_is_all_zeroes(void) {
        VmId null = {};
        g_assert_true(id_is_null(null.bytes));
        g_assert_false(id_is_null(id.bytes));
}

static void test_names_keep_to_their_alphabet(void) {
        static const char *const good[] = { "a", "7", "bert", "gpu-1.example_2", "A.b" };
        static const char *const bad[] = { "", "-a", ".a", "_a", "a b", "a/b", "a\n", "bärt", "a\u202e", "a:b", "*" };
        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                g_assert_true(name_is_valid(good[i]));
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                g_assert_false(name_is_valid(bad[i]));
        g_assert_false(name_is_valid(NULL));
}

static void test_names_have_a_longest_length(void) {
        char name[NAME_LENGTH_MAX + 2];
        memset(name, 'x', sizeof(name));
        name[NAME_LENGTH_MAX + 1] = 0;
        g_assert_false(name_is_valid(name));
        name[NAME_LENGTH_MAX] = 0;
        g_assert_true(name_is_valid(name));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/id/" #name, test_##name)
        TEST(hex_and_uuid_there_and_back);
        TEST(what_is_no_id_is_refused_and_touches_nothing);
        TEST(null_is_all_zeroes);
        TEST(names_keep_to_their_alphabet);
        TEST(names_have_a_longest_length);
#undef TEST
        return g_test_run();
}
