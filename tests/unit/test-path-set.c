/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which files of a host are missing, in few bytes. */

#include <glib.h>

#include "core/path-set.h"
#include "util/array.h"

typedef struct Sights {
        SeenPath rows[64];
        size_t n;
} Sights;

static void see(Sights *sights, const char *path, PathSight sight) {
        g_assert_cmpuint(sights->n, <, ELEMENTS(sights->rows));
        sights->rows[sights->n++] = (SeenPath) { path, sight };
}

static PathSet gather(const Sights *sights, size_t most, uint32_t *ret_more) {
        PathSet set = {};
        g_assert_cmpint(path_set_gather(sights->rows, sights->n, PATH_MISSING, most, &set, ret_more), ==, 0);
        return set;
}

static void test_only_what_is_missing_is_in_the_set(void) {
        Sights sights = {};
        uint32_t more = 9;
        see(&sights, "/images/a", PATH_MISSING);
        see(&sights, "/images/ab", PATH_THERE);
        see(&sights, "/images/b", PATH_HANGING);
        see(&sights, "/images/c", PATH_UNSEEN);
        see(&sights, "/srv/x", PATH_MISSING);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 2, &more);
        g_assert_cmpuint(more, ==, 0);
        g_assert_cmpuint(set.n, ==, 2);
        g_assert_true(path_set_has(&set, "/images/a"));
        g_assert_true(path_set_has(&set, "/srv/x"));
        g_assert_false(path_set_has(&set, "/images/ab"));
        g_assert_false(path_set_has(&set, "/images/b"));
        g_assert_false(path_set_has(&set, "/images/c"));
        g_assert_false(path_set_has(&set, "/images"));
        g_assert_false(path_set_has(&set, "/"));
        g_assert_false(path_set_has(&set, ""));
}

static void test_slashes_that_repeat_or_end_a_path_count_for_nothing(void) {
        Sights sights = {};
        uint32_t more;
        see(&sights, "/images//a", PATH_MISSING);
        see(&sights, "/shared/", PATH_MISSING);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 10, &more);
        g_assert_true(path_set_has(&set, "/images/a"));
        g_assert_true(path_set_has(&set, "//images///a"));
        g_assert_true(path_set_has(&set, "/shared"));
        g_assert_true(path_set_has(&set, "/shared//"));
}

static void test_a_folder_in_the_set_stands_for_all_below_it(void) {
        Sights sights = {};
        uint32_t more;
        see(&sights, "/shared", PATH_MISSING);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 10, &more);
        g_assert_true(path_set_has(&set, "/shared/a/b"));
        g_assert_false(path_set_has(&set, "/sharedfolder"));
        g_assert_false(path_set_has(&set, "/a/shared"));
}

static void test_a_storage_that_is_not_mounted_takes_one_place_where_room_is_short(void) {
        Sights sights = {};
        uint32_t more;
        see(&sights, "/local/a", PATH_THERE);
        see(&sights, "/shared/one/a", PATH_MISSING);
        see(&sights, "/shared/one/b", PATH_MISSING);
        see(&sights, "/shared/two/c", PATH_MISSING);
        see(&sights, "/sharedelsewhere/a", PATH_THERE);
        see(&sights, "/srv/a", PATH_MISSING);
        see(&sights, "/srv/b", PATH_THERE);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 3, &more);
        g_assert_cmpuint(set.n, ==, 2);
        g_assert_cmpuint(more, ==, 0);
        g_assert_true(path_set_has(&set, "/shared/one/b"));
        g_assert_true(path_set_has(&set, "/shared/one/new"));
        g_assert_true(path_set_has(&set, "/shared/two/c"));
        g_assert_true(path_set_has(&set, "/srv/a"));
        g_assert_false(path_set_has(&set, "/srv/b"));
        g_assert_false(path_set_has(&set, "/sharedelsewhere/a"));
        g_assert_false(path_set_has(&set, "/local/a"));
}

static void test_what_finds_no_room_is_counted(void) {
        Sights sights = {};
        uint32_t more;
        see(&sights, "/a/1", PATH_MISSING);
        see(&sights, "/a/2", PATH_THERE);
        see(&sights, "/b/1", PATH_MISSING);
        see(&sights, "/b/2", PATH_THERE);
        see(&sights, "/c/1", PATH_MISSING);
        see(&sights, "/c/2", PATH_MISSING);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 1, &more);
        g_assert_cmpuint(set.n, ==, 1);
        g_assert_true(path_set_has(&set, "/a/1"));
        g_assert_cmpuint(more, ==, 3);
}

static void test_sets_are_copied_and_compared(void) {
        Sights sights = {};
        uint32_t more;
        see(&sights, "/a", PATH_MISSING);
        _cleanup_(path_set_clear) PathSet set = gather(&sights, 1, &more), copy = {}, none = {};
        g_assert_cmpint(path_set_copy(&set, &copy), ==, 0);
        g_assert_true(path_set_equal(&set, &copy));
        g_assert_false(path_set_equal(&set, &none));
        copy.hashes[0]++;
        g_assert_false(path_set_equal(&set, &copy));
}

/* By the plain rule: in the set is what is missing, and of the rest at most what lies below a folder in which all that
 * was asked about is missing. */
static void test_no_path_is_ever_told_wrong(void) {
        GRand *random = g_rand_new_with_seed(7);
        for (unsigned round = 0; round < 2000; round++) {
                Sights sights = {};
                g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
                for (char a = 'a'; a < 'd'; a++)
                        for (char b = 'a'; b < 'd'; b++)
                                for (char c = 'a'; c < 'd'; c++)
                                        if (g_rand_boolean(random)) {
                                                g_ptr_array_add(names, g_strdup_printf("/%c/%c/%c", a, b, c));
                                                see(&sights, names->pdata[names->len - 1],
                                                    g_rand_int_range(random, 0, 4) ? PATH_MISSING : PATH_THERE);
                                        }
                size_t most = (size_t) g_rand_int_range(random, 0, 28), listed = 0;
                uint32_t more;
                _cleanup_(path_set_clear) PathSet set = gather(&sights, most, &more);
                g_assert_cmpuint(set.n, <=, most);
                for (size_t i = 0; i < sights.n; i++) {
                        bool has = path_set_has(&set, sights.rows[i].path);
                        g_assert_true(sights.rows[i].sight == PATH_MISSING || !has);
                        listed += sights.rows[i].sight == PATH_MISSING && !has;
                }
                g_assert_cmpuint(listed, ==, more);
        }
        g_rand_free(random);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/path-set/" #name, test_##name)
        TEST(only_what_is_missing_is_in_the_set);
        TEST(slashes_that_repeat_or_end_a_path_count_for_nothing);
        TEST(a_folder_in_the_set_stands_for_all_below_it);
        TEST(a_storage_that_is_not_mounted_takes_one_place_where_room_is_short);
        TEST(what_finds_no_room_is_counted);
        TEST(sets_are_copied_and_compared);
        TEST(no_path_is_ever_told_wrong);
        return g_test_run();
}
