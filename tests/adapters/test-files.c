/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Looks at files in a mount namespace of this test's own, where /mnt is empty; among them those of a file system that
 * never answers: one of FUSE, whose server is this test and reads no request. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/files/path-reader.h"

#define NOBODY 65534
#define PATIENCE_US (60 * G_USEC_PER_SEC)

static bool isolated;

static bool write_line(const char *path, const char *line) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd >= 0 && write(fd, line, strlen(line)) == (ssize_t) strlen(line);
}

static bool isolate(void) {
        g_autofree char *uids = g_strdup_printf("0 %u 1", geteuid()), *gids = g_strdup_printf("0 %u 1", getegid());
        if (geteuid() == 0) {
                if (unshare(CLONE_NEWNS) < 0)
                        return false;
        } else if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_line("/proc/self/uid_map", uids) ||
                   !write_line("/proc/self/setgroups", "deny") || !write_line("/proc/self/gid_map", gids))
                return false;
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) >= 0 && mount("test", "/mnt", "tmpfs", 0, NULL) >= 0;
}

static bool cannot_mount(void) {
        if (!isolated)
                g_test_skip("no mount namespace can be had here");
        return !isolated;
}

static void make_file(const char *path) {
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
}

/* ---- a file system that does not answer */

/* The connection; to close it is to let all that hang go, with an error. -1: there is no FUSE here. */
static int mount_silence(const char *place) {
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        g_autofree char *options = g_strdup_printf("fd=%i,rootmode=40000,user_id=0,group_id=0", fd);
        g_assert_cmpint(g_mkdir_with_parents(place, 0755), ==, 0);
        if (fd >= 0 && mount("silence", place, "fuse", 0, options) >= 0)
                return fd;
        g_test_skip("no FUSE can be had here");
        if (fd >= 0)
                close(fd);
        return -1;
}

/* ---- one look */

static void test_what_is_there_is_there_and_what_is_not_is_missing(void) {
        if (cannot_mount())
                return;
        make_file("/mnt/images/a");
        g_assert_cmpint(path_look("/mnt/images/a"), ==, PATH_THERE);
        g_assert_cmpint(path_look("/mnt/images"), ==, PATH_THERE);
        g_assert_cmpint(path_look("//mnt/./images//a"), ==, PATH_THERE);
        g_assert_cmpint(path_look("/mnt/images/b"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/nowhere/deep/b"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/nowhere"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/images/a/b"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/"), ==, PATH_UNSEEN);
        g_assert_cmpint(path_look("images/a"), ==, PATH_UNSEEN);
        g_assert_cmpint(path_look(""), ==, PATH_UNSEEN);
        g_autofree char *longest = g_strnfill(5000, 'x'), *path = g_strconcat("/mnt/", longest, NULL);
        g_assert_cmpint(path_look(path), ==, PATH_UNSEEN);
}

static void test_links_are_followed_to_where_nothing_is(void) {
        if (cannot_mount())
                return;
        make_file("/mnt/real/a");
        g_assert_cmpint(symlink("real", "/mnt/link"), ==, 0);
        g_assert_cmpint(symlink("/mnt/gone", "/mnt/dead"), ==, 0);
        g_assert_cmpint(symlink("../mnt/gone", "/mnt/relative"), ==, 0);
        g_assert_cmpint(symlink("loop", "/mnt/loop"), ==, 0);
        g_assert_cmpint(path_look("/mnt/link/a"), ==, PATH_THERE);
        g_assert_cmpint(path_look("/mnt/link/b"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/dead"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/dead/a"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/relative/a"), ==, PATH_MISSING);
        g_assert_cmpint(path_look("/mnt/loop"), ==, PATH_UNSEEN);
}

/* The service has a /tmp of its own, and no /home and /dev at all. */
static void test_nothing_is_said_of_what_the_service_cannot_see(void) {
        if (cannot_mount())
                return;
        static const char *const hidden[] = {
                "/tmp/none", "/var/tmp/none", "/home/none/a", "/root/none", "/dev/none/lv", "/run/user/1/none", "/dev",
        };
        for (size_t i = 0; i < G_N_ELEMENTS(hidden); i++)
                g_assert_cmpint(path_look(hidden[i]), ==, PATH_UNSEEN);
        g_assert_cmpint(path_look("/tmpfolder"), ==, PATH_MISSING);
        g_assert_cmpint(symlink("/dev/none", "/mnt/disk"), ==, 0);
        g_assert_cmpint(symlink("/home", "/mnt/people"), ==, 0);
        g_assert_cmpint(path_look("/mnt/disk"), ==, PATH_UNSEEN);
        g_assert_cmpint(path_look("/mnt/people/none"), ==, PATH_UNSEEN);
}

static void test_nothing_is_said_of_what_it_may_not_see(void) {
        if (cannot_mount())
                return;
        g_assert_cmpint(g_mkdir_with_parents("/mnt/closed", 0700), ==, 0);
        if (seteuid(NOBODY) < 0) {
                g_test_skip("no other user can be had here");
                return;
        }
        PathSight inside = path_look("/mnt/closed/a"), deeper = path_look("/mnt/closed/a/b");
        g_assert_cmpint(seteuid(0), ==, 0);
        g_assert_cmpint(inside, ==, PATH_UNSEEN);
        g_assert_cmpint(deeper, ==, PATH_UNSEEN);
}

static void test_a_storage_whose_server_died_hangs(void) {
        if (cannot_mount())
                return;
        int fd = mount_silence("/mnt/dead-server");
        if (fd < 0)
                return;
        close(fd);
        g_assert_cmpint(path_look("/mnt/dead-server/a"), ==, PATH_HANGING);
        g_assert_cmpint(umount2("/mnt/dead-server", MNT_DETACH), ==, 0);
}

static void test_the_mount_of_a_path_is_the_deepest_one_above_it(void) {
        static const char mounts[] = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                                     "30 22 0:31 / /srv/nfs rw shared:1 - nfs4 s:/x rw\n"
                                     "31 30 0:32 / /srv/nfs/deep\\040er rw - nfs4 s:/y rw\n"
                                     "32 22 0:33\n"
                                     "33 22 0:34 / /srv/n rw - tmpfs t rw";
        g_assert_cmpuint(path_mount_size(mounts, "/var/a"), ==, 1);
        g_assert_cmpuint(path_mount_size(mounts, "/srv/nfs/a"), ==, 8);
        g_assert_cmpuint(path_mount_size(mounts, "/srv/nfs"), ==, 8);
        g_assert_cmpuint(path_mount_size(mounts, "/srv/nfsother"), ==, 1);
        g_assert_cmpuint(path_mount_size(mounts, "/srv/nfs/deep er/a"), ==, 16);
        g_assert_cmpuint(path_mount_size(mounts, "/srv/n/a"), ==, 6);
        g_assert_cmpuint(path_mount_size("", "/srv/n/a"), ==, 1);
}

/* ---- the reader */

typedef struct Scene {
        sd_event *event;
        PathReader *reader;
        unsigned n_done, n_hung;
        size_t hung_at;
        PathSight sights[8];
} Scene;

static void on_done(void *userdata, const TextList *paths, const PathSight *sights) {
        Scene *s = userdata;
        g_assert_cmpuint(paths->n, <=, G_N_ELEMENTS(s->sights));
        memcpy(s->sights, sights, paths->n * sizeof(*sights));
        s->n_done++;
}

static void on_hung(void *userdata, const TextList *paths, const PathSight *sights, size_t at) {
        Scene *s = userdata;
        g_assert_cmpuint(at, <, paths->n);
        memcpy(s->sights, sights, at * sizeof(*sights));
        s->hung_at = at;
        s->n_hung++;
}

static Scene *scene_with(PathSight (*look)(const char *path), uint64_t deadline_us) {
        Scene *s = g_new0(Scene, 1);
        PathReaderConfig config = { .deadline_us = deadline_us, .look = look, .done = on_done, .hung = on_hung,
                                    .userdata = s };
        g_assert_cmpint(sd_event_new(&s->event), >=, 0);
        g_assert_cmpint(path_reader_new(&s->reader, s->event, &config), ==, 0);
        return s;
}

static void scene_free(Scene *s) {
        path_reader_free(s->reader);
        sd_event_unref(s->event);
        g_free(s);
}

static int look_at(Scene *s, const char *words) {
        g_auto(GStrv) paths = g_strsplit(words, " ", -1);
        TextList list = {};
        for (size_t i = 0; paths[i]; i++)
                g_assert_cmpint(text_list_add(&list, paths[i]), ==, 0);
        int r = path_reader_look(s->reader, &list);
        g_assert_true(r == 1 ? !list.items : list.n > 0);
        text_list_clear(&list);
        return r;
}

#define WAIT_UNTIL(s, condition)                                                        \
        do {                                                                            \
                gint64 _deadline = g_get_monotonic_time() + PATIENCE_US;                \
                while (!(condition)) {                                                  \
                        g_assert_cmpint(g_get_monotonic_time(), <, _deadline);          \
                        g_assert_cmpint(sd_event_run((s)->event, 100000), >=, 0);       \
                }                                                                       \
        } while (false)

static void test_a_round_tells_each_path(void) {
        if (cannot_mount())
                return;
        Scene *s = scene_with(NULL, PATIENCE_US);
        make_file("/mnt/round/a");
        g_assert_cmpint(look_at(s, "/mnt/round/a /mnt/round/b /dev/none"), ==, 1);
        g_assert_true(path_reader_is_busy(s->reader));
        g_assert_cmpint(look_at(s, "/mnt/round/a"), ==, 0);
        WAIT_UNTIL(s, s->n_done == 1);
        g_assert_false(path_reader_is_busy(s->reader));
        g_assert_cmpint(s->sights[0], ==, PATH_THERE);
        g_assert_cmpint(s->sights[1], ==, PATH_MISSING);
        g_assert_cmpint(s->sights[2], ==, PATH_UNSEEN);
        g_assert_cmpint(look_at(s, "/mnt/round/b"), ==, 1);
        WAIT_UNTIL(s, s->n_done == 2);
        g_assert_cmpint(s->sights[0], ==, PATH_MISSING);
        g_assert_cmpuint(s->n_hung, ==, 0);
        scene_free(s);
}

static unsigned threads_at_first;

static unsigned count_threads(void) {
        g_autoptr(GDir) folder = g_dir_open("/proc/self/task", 0, NULL);
        unsigned n = 0;
        while (g_dir_read_name(folder))
                n++;
        return n;
}

/* The thread of a round ends a moment after its answer. */
static void wait_for_threads(unsigned n) {
        gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
        while (count_threads() != n) {
                g_assert_cmpint(g_get_monotonic_time(), <, deadline);
                g_usleep(1000);
        }
}

static void test_a_storage_that_does_not_answer_costs_one_thread_and_the_loop_goes_on(void) {
        if (cannot_mount())
                return;
        int fd = mount_silence("/mnt/silence");
        if (fd < 0)
                return;
        wait_for_threads(threads_at_first);
        Scene *s = scene_with(NULL, 50000);
        make_file("/mnt/answers/a");
        g_assert_cmpint(look_at(s, "/mnt/answers/a /mnt/silence/a /mnt/answers/b"), ==, 1);
        WAIT_UNTIL(s, s->n_hung == 1);
        g_assert_cmpuint(s->hung_at, ==, 1);
        g_assert_cmpint(s->sights[0], ==, PATH_THERE);
        for (unsigned i = 0; i < 10; i++)
                g_assert_cmpint(look_at(s, "/mnt/silence/b"), ==, 0);
        g_assert_cmpuint(count_threads(), ==, threads_at_first + 1);
        g_assert_cmpuint(s->n_done, ==, 0);
        close(fd);
        WAIT_UNTIL(s, s->n_done == 1);
        g_assert_cmpuint(s->n_hung, ==, 1);
        g_assert_cmpint(look_at(s, "/mnt/answers/b"), ==, 1);
        WAIT_UNTIL(s, s->n_done == 2);
        g_assert_cmpint(s->sights[0], ==, PATH_MISSING);
        g_assert_cmpint(umount2("/mnt/silence", MNT_DETACH), ==, 0);
        scene_free(s);
}

static void test_a_reader_ends_while_its_thread_hangs(void) {
        if (cannot_mount())
                return;
        int fd = mount_silence("/mnt/forgotten");
        if (fd < 0)
                return;
        wait_for_threads(threads_at_first);
        Scene *s = scene_with(NULL, 20000);
        g_assert_cmpint(look_at(s, "/mnt/forgotten/a /mnt/forgotten/b"), ==, 1);
        WAIT_UNTIL(s, s->n_hung == 1);
        scene_free(s);
        close(fd);
        wait_for_threads(threads_at_first);
        g_assert_cmpint(umount2("/mnt/forgotten", MNT_DETACH), ==, 0);
}

int main(int argc, char **argv) {
        isolated = isolate();
        g_test_init(&argc, &argv, NULL);
        threads_at_first = count_threads();
#define TEST(name) g_test_add_func("/files/" #name, test_##name)
        TEST(what_is_there_is_there_and_what_is_not_is_missing);
        TEST(links_are_followed_to_where_nothing_is);
        TEST(nothing_is_said_of_what_the_service_cannot_see);
        TEST(nothing_is_said_of_what_it_may_not_see);
        TEST(a_storage_whose_server_died_hangs);
        TEST(the_mount_of_a_path_is_the_deepest_one_above_it);
        TEST(a_round_tells_each_path);
        TEST(a_storage_that_does_not_answer_costs_one_thread_and_the_loop_goes_on);
        TEST(a_reader_ends_while_its_thread_hangs);
        return g_test_run();
}
