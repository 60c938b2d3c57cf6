/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which files of the cluster's VMs a node says that it lacks. Real threads; the file system is played here, and so are
 * the node's facts. */

#include <glib.h>
#include <string.h>

#include "../unit/world-builder.h"
#include "core/facts-codec.h"
#include "daemon/storage.h"

#define PATIENCE_US (60 * G_USEC_PER_SEC)
#define NEVER_US (1000 * G_USEC_PER_SEC)

/* ---- what is played */

static struct {
        GMutex lock;
        GCond changed;
        GHashTable *sights;             /* path → PathSight; others are there */
        char *hanging;                  /* who looks at this waits */
        unsigned n_looks;
} host;

static struct {
        PathSet missing, hanging;
        uint32_t untold;
        unsigned n_told;
} told;

static PathSight look(const char *path) {
        g_mutex_lock(&host.lock);
        host.n_looks++;
        while (g_strcmp0(host.hanging, path) == 0)
                g_cond_wait(&host.changed, &host.lock);
        PathSight sight = GPOINTER_TO_UINT(g_hash_table_lookup(host.sights, path));
        g_mutex_unlock(&host.lock);
        return sight == PATH_UNSEEN ? PATH_THERE : sight;
}

static void host_has(const char *path, PathSight sight) {
        g_mutex_lock(&host.lock);
        g_hash_table_insert(host.sights, g_strdup(path), GUINT_TO_POINTER(sight));
        g_mutex_unlock(&host.lock);
}

static void host_hangs(const char *path) {
        g_mutex_lock(&host.lock);
        g_free(host.hanging);
        host.hanging = g_strdup(path);
        g_cond_broadcast(&host.changed);
        g_mutex_unlock(&host.lock);
}

static unsigned count_looks(void) {
        g_mutex_lock(&host.lock);
        unsigned n = host.n_looks;
        g_mutex_unlock(&host.lock);
        return n;
}

bool local_facts_set_paths(LocalFacts *facts, PathSet *missing, PathSet *hanging, uint32_t untold) {
        path_set_clear(&told.missing);
        path_set_clear(&told.hanging);
        told.missing = *missing;
        told.hanging = *hanging;
        told.untold = untold;
        told.n_told++;
        *missing = *hanging = (PathSet) {};
        return true;
}

/* ---- the scene */

typedef struct Scene {
        WorldBuilder *w;
        sd_event *event;
        Storage *storage;
        unsigned n_changed;
} Scene;

static void on_changed(void *userdata) {
        ((Scene *) userdata)->n_changed++;
}

static Scene *scene_with(StorageConfig config) {
        Scene *s = g_new0(Scene, 1);
        g_mutex_lock(&host.lock);
        g_hash_table_remove_all(host.sights);
        host.n_looks = told.n_told = 0;
        g_mutex_unlock(&host.lock);
        g_assert_cmpint(sd_event_new(&s->event), >=, 0);
        s->w = world_of(1);
        with_gpus(s->w, "a", 1);
        pool_of(s->w, "pool", "a");
        config.event = s->event;
        config.look = look;
        config.changed = on_changed;
        config.userdata = s;
        g_assert_cmpint(storage_new(&s->storage, &config), ==, 0);
        return s;
}

static Scene *scene_new(void) {
        return scene_with((StorageConfig) { .period_us = NEVER_US, .lost_us = NEVER_US, .deadline_us = NEVER_US });
}

static void scene_free(Scene *s) {
        storage_free(s->storage);
        world_builder_free(s->w);
        sd_event_unref(s->event);
        path_set_clear(&told.missing);
        path_set_clear(&told.hanging);
        g_free(s);
        /* A thread that was left to itself may still look. */
        host_hangs(NULL);
}

static void define(Scene *s, const char *name, const char *paths) {
        Vm *vm = vm_of(s->w, name, "pool", 1);
        g_auto(GStrv) words = g_strsplit(paths, " ", -1);
        for (size_t i = 0; words[i]; i++)
                g_assert_cmpint(text_list_add(&vm->needs.paths, words[i]), ==, 0);
        s->w->registry->index++;
}

static void forget(Scene *s, const char *name) {
        text_list_clear(&vm_named(s->w, name)->needs.paths);
        s->w->registry->index++;
}

static int turn(Scene *s) {
        uint64_t wake_us = UINT64_MAX, now_us = (uint64_t) g_get_monotonic_time();
        int r = storage_turn(s->storage, s->w->registry, NULL, now_us, &wake_us);
        g_assert_cmpint(r, >=, 0);
        g_assert_cmpuint(wake_us, >, now_us);
        return r;
}

#define WAIT_UNTIL(s, condition)                                                        \
        do {                                                                            \
                gint64 _deadline = g_get_monotonic_time() + PATIENCE_US;                \
                for (turn(s); !(condition); turn(s)) {                                  \
                        g_assert_cmpint(g_get_monotonic_time(), <, _deadline);          \
                        g_assert_cmpint(sd_event_run((s)->event, 10000), >=, 0);        \
                }                                                                       \
        } while (false)

#define SEES(s, path, sight) (storage_sight((s)->storage, (path)) == (sight))

static void test_what_a_vm_needs_and_is_not_here_is_told(void) {
        Scene *s = scene_new();
        host_has("/images/b", PATH_MISSING);
        define(s, "one", "/images/a /images/b");
        WAIT_UNTIL(s, told.n_told == 1);
        g_assert_true(path_set_has(&told.missing, "/images/b"));
        g_assert_false(path_set_has(&told.missing, "/images/a"));
        g_assert_cmpuint(told.hanging.n, ==, 0);
        g_assert_true(SEES(s, "/images/a", PATH_THERE));
        scene_free(s);
}

static void test_where_all_is_there_nothing_is_told(void) {
        Scene *s = scene_new();
        define(s, "one", "/images/a /images/b");
        define(s, "two", "/images/b");
        WAIT_UNTIL(s, SEES(s, "/images/b", PATH_THERE));
        g_assert_cmpuint(count_looks(), >=, 2);
        g_assert_cmpuint(told.n_told, ==, 0);
        scene_free(s);
}

static void test_a_new_vm_is_looked_at_at_once_and_the_others_not_again(void) {
        Scene *s = scene_new();
        define(s, "one", "/images/a /images/b");
        WAIT_UNTIL(s, SEES(s, "/images/b", PATH_THERE));
        g_assert_cmpuint(count_looks(), ==, 2);
        host_has("/images/c", PATH_MISSING);
        define(s, "two", "/images/b /images/c");
        WAIT_UNTIL(s, told.n_told == 1);
        g_assert_true(path_set_has(&told.missing, "/images/c"));
        g_assert_cmpuint(count_looks(), ==, 3);
        scene_free(s);
}

static void test_what_comes_back_is_seen_soon_and_told(void) {
        Scene *s = scene_with((StorageConfig) { .period_us = NEVER_US, .lost_us = 20000, .deadline_us = NEVER_US });
        host_has("/images/b", PATH_MISSING);
        define(s, "one", "/images/a /images/b");
        WAIT_UNTIL(s, told.n_told == 1);
        host_has("/images/b", PATH_THERE);
        WAIT_UNTIL(s, told.n_told == 2);
        g_assert_cmpuint(told.missing.n, ==, 0);
        scene_free(s);
}

static void test_what_goes_is_seen_in_the_next_round_of_all(void) {
        Scene *s = scene_with((StorageConfig) { .period_us = 20000, .lost_us = NEVER_US, .deadline_us = NEVER_US });
        define(s, "one", "/images/a /images/b");
        WAIT_UNTIL(s, SEES(s, "/images/b", PATH_THERE));
        host_has("/images/b", PATH_MISSING);
        WAIT_UNTIL(s, told.n_told == 1);
        g_assert_true(path_set_has(&told.missing, "/images/b"));
        scene_free(s);
}

static void test_what_nobody_needs_any_more_is_taken_back(void) {
        Scene *s = scene_new();
        host_has("/images/b", PATH_MISSING);
        define(s, "one", "/images/b");
        WAIT_UNTIL(s, told.n_told == 1);
        forget(s, "one");
        WAIT_UNTIL(s, told.n_told == 2);
        g_assert_cmpuint(told.missing.n, ==, 0);
        g_assert_true(SEES(s, "/images/b", PATH_UNSEEN));
        scene_free(s);
}

static void test_a_look_that_hangs_is_told_and_what_was_known_stays(void) {
        Scene *s = scene_with((StorageConfig) { .period_us = NEVER_US, .lost_us = NEVER_US, .deadline_us = 30000 });
        host_has("/images/a", PATH_MISSING);
        host_hangs("/images/b");
        define(s, "one", "/images/a /images/b /images/c");
        WAIT_UNTIL(s, SEES(s, "/images/b", PATH_HANGING));
        g_assert_cmpuint(told.n_told, ==, 1);
        g_assert_true(path_set_has(&told.hanging, "/images/b"));
        g_assert_true(path_set_has(&told.missing, "/images/a"));
        g_assert_true(SEES(s, "/images/c", PATH_UNSEEN));
        /* A VM that comes meanwhile is not looked at, and nothing waits. */
        unsigned looks = count_looks();
        define(s, "two", "/images/d");
        for (unsigned i = 0; i < 20; i++)
                turn(s);
        g_assert_cmpuint(count_looks(), ==, looks);
        host_hangs(NULL);
        WAIT_UNTIL(s, SEES(s, "/images/d", PATH_THERE) && SEES(s, "/images/c", PATH_THERE) &&
                      SEES(s, "/images/b", PATH_THERE));
        g_assert_cmpuint(told.hanging.n, ==, 0);
        g_assert_true(path_set_has(&told.missing, "/images/a"));
        scene_free(s);
}

/* /proc is a mount of its own wherever this runs. */
static void test_what_is_mounted_in_the_same_place_hangs_too(void) {
        Scene *s = scene_with((StorageConfig) { .period_us = NEVER_US, .lost_us = NEVER_US, .deadline_us = 30000 });
        host_hangs("/proc/b");
        define(s, "one", "/images/a /proc/a /proc/b /proc/c /process");
        WAIT_UNTIL(s, SEES(s, "/proc/b", PATH_HANGING));
        g_assert_true(SEES(s, "/proc/a", PATH_HANGING));
        g_assert_true(SEES(s, "/proc/c", PATH_HANGING));
        g_assert_true(SEES(s, "/images/a", PATH_THERE));
        g_assert_true(SEES(s, "/process", PATH_UNSEEN));
        host_hangs(NULL);
        WAIT_UNTIL(s, SEES(s, "/proc/c", PATH_THERE) && SEES(s, "/process", PATH_THERE));
        g_assert_cmpuint(told.hanging.n, ==, 0);
        scene_free(s);
}

static void test_paths_over_the_limit_are_left_to_the_start(void) {
        Scene *s = scene_new();
        g_autoptr(GString) paths = g_string_new("/images/x");
        for (unsigned i = 0; i <= STORAGE_PATHS_MAX; i++) {
                g_string_append_printf(paths, " /images/%05u", i);
                g_autofree char *path = g_strdup_printf("/images/%05u", i);
                host_has(path, i % 2 ? PATH_MISSING : PATH_THERE);
        }
        define(s, "one", paths->str);
        WAIT_UNTIL(s, told.n_told == 1);
        g_assert_true(SEES(s, "/images/16383", PATH_MISSING));
        g_assert_true(SEES(s, "/images/16384", PATH_UNSEEN));
        g_assert_cmpuint(told.missing.n, ==, FACTS_PATHS_MAX);
        g_assert_cmpuint(told.untold, ==, STORAGE_PATHS_MAX / 2 - FACTS_PATHS_MAX);
        scene_free(s);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        host.sights = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
#define TEST(name) g_test_add_func("/storage/" #name, test_##name)
        TEST(what_a_vm_needs_and_is_not_here_is_told);
        TEST(where_all_is_there_nothing_is_told);
        TEST(a_new_vm_is_looked_at_at_once_and_the_others_not_again);
        TEST(what_comes_back_is_seen_soon_and_told);
        TEST(what_goes_is_seen_in_the_next_round_of_all);
        TEST(what_nobody_needs_any_more_is_taken_back);
        TEST(a_look_that_hangs_is_told_and_what_was_known_stays);
        TEST(what_is_mounted_in_the_same_place_hangs_too);
        TEST(paths_over_the_limit_are_left_to_the_start);
        return g_test_run();
}
