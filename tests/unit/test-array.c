/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <stdint.h>

#include "util/array.h"

typedef ARRAY(int) Numbers;

static int compare_numbers(const void *key, const void *item) {
        return *(const int *) key - *(const int *) item;
}

/* Puts it where it belongs. */
static void add_sorted(Numbers *numbers, int number) {
        size_t place;
        (void) array_find(numbers, &number, compare_numbers, &place);
        g_assert_cmpint(array_insert(numbers, place, &number), ==, 0);
}

static void test_items_keep_their_order(void) {
        Numbers numbers = {};
        for (int i = 0; i < 100; i++)
                add_sorted(&numbers, i * 37 % 100);
        g_assert_cmpuint(numbers.n, ==, 100);
        int expected = 0;
        ARRAY_EACH(number, &numbers)
                g_assert_cmpint(*number, ==, expected++);
        array_clear(&numbers);
}

static void test_search_says_where_it_is_or_belongs(void) {
        Numbers numbers = {};
        size_t place = 99;
        int key = 5;
        g_assert_false(array_find(&numbers, &key, compare_numbers, &place));
        g_assert_cmpuint(place, ==, 0);
        for (int i = 0; i < 10; i++)
                add_sorted(&numbers, 2 * i);
        for (int i = -1; i < 20; i++) {
                bool found = array_find(&numbers, &i, compare_numbers, &place);
                g_assert_cmpint(found, ==, i >= 0 && i % 2 == 0);
                g_assert_cmpuint(place, ==, (size_t) (i + 1) / 2);
        }
        array_clear(&numbers);
}

static void test_removing_closes_the_hole(void) {
        Numbers numbers = {};
        for (int i = 0; i < 4; i++)
                g_assert_cmpint(array_append(&numbers, &i), ==, 0);
        array_remove(&numbers, 3);
        array_remove(&numbers, 0);
        g_assert_cmpuint(numbers.n, ==, 2);
        g_assert_cmpint(numbers.items[0], ==, 1);
        g_assert_cmpint(numbers.items[1], ==, 2);
        array_clear(&numbers);
        g_assert_null(numbers.items);
}

static void test_walking_nothing_walks_nowhere(void) {
        Numbers numbers = {};
        ARRAY_EACH(number, &numbers)
                g_assert_not_reached();
}

static void test_more_than_memory_can_count_is_refused(void) {
        Numbers numbers = {};
        g_assert_cmpint(array_reserve(&numbers.items, &numbers.allocated, SIZE_MAX / 2, sizeof(int)), ==, -ENOMEM);
        g_assert_null(numbers.items);
        g_assert_cmpuint(numbers.allocated, ==, 0);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/array/" #name, test_##name)
        TEST(items_keep_their_order);
        TEST(search_says_where_it_is_or_belongs);
        TEST(removing_closes_the_hole);
        TEST(walking_nothing_walks_nowhere);
        TEST(more_than_memory_can_count_is_refused);
#undef TEST
        return g_test_run();
}
