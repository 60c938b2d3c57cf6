/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How long a host with 1000 PCI devices is looked at, from nothing to the list of its GPUs and the verdict on each:
 *
 *     floor       the folder is listed, and vendor, device and class of each are read: nothing shows less
 *     lspci       lspci -nn of the same tree, where there is an lspci
 *     look        ours, without the probe: scan, read each GPU with its card, group, bridges and names, tell the list
 *     probed      the same, each GPU asked about with the real probe: holders, serial, ACS. Each question looks at
 *                 every open file of this machine
 *     survey      the verdicts alone, of facts that are there
 *
 * All in turns, on a tree in a tmpfs: a server of 16 GPUs among 1000 devices, and one of 1000 GPUs.
 *
 * bench-survey PROBE [TURNS] */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../adapters/udev-world.h"
#include "bench/series.h"
#include "core/survey.h"

#define DEVICES 1000U
#define TURNS 20U
#define TURNS_MAX 1000U
#define FUNCTIONS_BELOW_A_PORT 7U
#define PROBED_MOST 64U                 /* more are not asked about one after the other in a reasonable time */

extern char **environ;

typedef struct Measured {
        const char *name;
        double us[TURNS_MAX];
        unsigned n;
} Measured;

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

static double share(const Measured *measured, double part) {
        return measured->us[(unsigned) (part * measured->n)] / 1000;
}

static void tell(Measured *measured, Measured *floor) {
        qsort(measured->us, measured->n, sizeof(double), compare_doubles);
        printf("  %-8s median %8.3f ms   (10 %% %8.3f, 95 %% %8.3f)", measured->name, share(measured, .5),
               share(measured, .1), share(measured, .95));
        if (measured != floor)
                printf("   x %.2f (%.2f) of the floor", share(measured, .5) / share(floor, .5),
                       share(measured, .1) / share(floor, .1));
        printf("\n");
        (void) fflush(stdout);
}

/* ---- the hosts */

typedef struct Place {
        char address[PCI_ADDRESS_TEXT_SIZE], port[PCI_ADDRESS_TEXT_SIZE], below[64], folder[32];
} Place;

/* Device @number of a host on which each bus has one root port above it. */
static Place place_of(unsigned bus, unsigned device, unsigned function) {
        Place place;
        unsigned domain = bus / 200, below = bus % 200 + 1;
        (void) snprintf(place.folder, sizeof(place.folder), "pci%04x:00", domain);
        (void) snprintf(place.port, sizeof(place.port), "%04x:00:%02x.%u", domain, bus % 200 / 8 + 1, bus % 8);
        (void) snprintf(place.below, sizeof(place.below), "%s/%s", place.folder, place.port);
        (void) snprintf(place.address, sizeof(place.address), "%04x:%02x:%02x.%u", domain, below, device, function);
        return place;
}

static void add(MockSysfs *mock, const MockDevice *like, const char *address, const char *below, int group) {
        MockDevice device = *like;
        device.address = address;
        device.below = below;
        device.group = group;
        mock_device_add(mock, &device);
        /* What a real device of each kind has beside what the mock gives to all. */
        g_autofree char *alias = g_strdup_printf("pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", device.vendor,
                                                 device.device, device.subsystem_vendor, device.subsystem_device,
                                                 device.class >> 16, device.class >> 8 & 0xff, device.class & 0xff);
        mock_attribute_set(mock, address, "modalias", alias);
        mock_attribute_set(mock, address, "irq", "0");
        mock_attribute_set(mock, address, "current_link_speed", "32.0 GT/s PCIe");
        mock_attribute_set(mock, address, "max_link_speed", "32.0 GT/s PCIe");
        mock_attribute_set(mock, address, "current_link_width", "16");
        mock_attribute_set(mock, address, "max_link_width", "16");
        mock_attribute_set(mock, address, "power_state", "D0");
        mock_attribute_set(mock, address, "power/runtime_status", "active");
        if (!device.resource)
                mock_attribute_set(mock, address, "resource",
                                   "0x0000000000000000 0x0000000000000000 0x0000000000000000");
}

static const MockDevice ROOT_PORT = {
        .vendor = 0x8086, .device = 0x352a, .class = 0x060400, .driver = "pcieport",
};
static const MockDevice VIRTUAL_FUNCTION = {
        .vendor = 0x15b3, .device = 0x101e, .subsystem_vendor = 0x15b3, .subsystem_device = 0x0051, .class = 0x020000,
        .driver = "mlx5_core",
};

/* @n_gpus below ports of their own; functions of network cards fill it up to DEVICES. Where all are GPUs the ports come
 * on top. */
static World make_host(unsigned n_gpus) {
        World w = world_of(NULL, 0);
        unsigned n = 0, bus = 0, least = n_gpus < DEVICES ? DEVICES : 2 * DEVICES;
        for (; n < least; bus++) {
                Place place = place_of(bus, 0, 0);
                add(w.mock, &ROOT_PORT, place.port, place.folder, (int) (1000 + bus));
                n++;
                if (bus < n_gpus) {
                        add(w.mock, &MOCK_H100, place.address, place.below, (int) (3000 + bus));
                        n++;
                        continue;
                }
                for (unsigned function = 0; function < FUNCTIONS_BELOW_A_PORT && n < least; function++, n++) {
                        place = place_of(bus, 0, function);
                        add(w.mock, &VIRTUAL_FUNCTION, place.address, place.below, (int) (5000 + n));
                }
        }
        mock_file(w.mock, "proc/sys/kernel/random/boot_id", "4b1d8a9e-1c1f-4d7e-9c1a-3a3b6c2f8f11\n");
        printf("%u devices, %u of them GPUs\n", n, n_gpus);
        return w;
}

static unsigned count_open_files(void) {
        unsigned n = 0;
        DIR *proc = opendir("/proc");
        for (const struct dirent *entry; proc && (entry = readdir(proc));) {
                g_autofree char *path = g_build_filename("/proc", entry->d_name, "fd", NULL);
                DIR *files = g_ascii_isdigit(entry->d_name[0]) ? opendir(path) : NULL;
                while (files && readdir(files))
                        n++;
                if (files)
                        (void) closedir(files);
        }
        if (proc)
                (void) closedir(proc);
        return n;
}

/* ---- what is measured; microseconds */

static double measure_floor(World *w) {
        static const char *const names[] = { "vendor", "device", "class" };
        g_autofree char *path = g_build_filename(mock_sysfs_root(w->mock), "sys/bus/pci/devices", NULL);
        double began = series_now_us();
        DIR *folder = opendir(path);
        g_assert_nonnull(folder);
        for (const struct dirent *entry; (entry = readdir(folder));)
                for (size_t i = 0; entry->d_name[0] != '.' && i < G_N_ELEMENTS(names); i++) {
                        char text[64];
                        (void) snprintf(text, sizeof(text), "%.40s/%s", entry->d_name, names[i]);
                        int fd = openat(dirfd(folder), text, O_RDONLY | O_CLOEXEC);
                        g_assert_cmpint(read(fd, text, sizeof(text)), >, 0);
                        (void) close(fd);
                }
        double took = series_now_us() - began;
        (void) closedir(folder);
        return took;
}

/* -1: there is none. */
static double measure_lspci(World *w) {
        g_autofree char *option = g_strdup_printf("sysfs.path=%s/sys/bus/pci", mock_sysfs_root(w->mock));
        char *const words[] = { (char *) "lspci", (char *) "-A", (char *) "linux-sysfs", (char *) "-O", option,
                                (char *) "-nn", NULL };
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int status;
        (void) posix_spawn_file_actions_init(&actions);
        (void) posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        double began = series_now_us();
        int r = posix_spawnp(&pid, words[0], &actions, NULL, words, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                return -1;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        return series_now_us() - began;
}

static bool knows_holders(const World *w, bool known) {
        for (size_t i = 0; i < w->n_gpus; i++)
                if (w->gpus[i].holders_known != known)
                        return false;
        return true;
}

static double measure_look(World *w, unsigned n_gpus, bool probed) {
        g_autofree char *socket = probed ? NULL : g_steal_pointer(&w->socket_path);
        unsigned before = w->lists;
        double began = series_now_us();
        start_watch(w);
        WAIT_UNTIL(w, w->lists > before && knows_holders(w, probed));
        double took = series_now_us() - began;
        g_assert_cmpuint(w->n_gpus, ==, n_gpus);
        w->watch = udev_watch_free(w->watch);
        if (!probed)
                w->socket_path = g_steal_pointer(&socket);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        return took;
}

static double measure_survey(World *w) {
        NodeFacts host = { .cpu_model = (char *) "Intel", .kernel = (char *) "6.1", .address_bits = 46,
                           .iommu_present = true, .vfio_present = true };
        double began = series_now_us();
        for (size_t i = 0; i < w->n_gpus; i++) {
                Blockers blockers = {};
                g_assert_cmpint(survey_gpu(&host, &w->gpus[i], &blockers), ==, 0);
                blockers_clear(&blockers);
        }
        return series_now_us() - began;
}

static void measure(unsigned n_gpus, unsigned turns) {
        enum { FLOOR, LSPCI, LOOK, PROBED, SURVEY, KINDS };
        static Measured all[KINDS];
        static const char *const names[KINDS] = { "floor", "lspci", "look", "probed", "survey" };
        World w = make_host(n_gpus);
        start_probe(&w);
        for (unsigned i = 0; i < KINDS; i++)
                all[i] = (Measured) { .name = names[i] };
        for (unsigned turn = 0; turn <= turns; turn++) {
                const double took[KINDS] = {
                        measure_floor(&w), measure_lspci(&w), measure_look(&w, n_gpus, false),
                        n_gpus > PROBED_MOST ? -1 : measure_look(&w, n_gpus, true), measure_survey(&w),
                };
                for (unsigned i = 0; turn > 0 && i < KINDS; i++)        /* the first turn warms up */
                        if (took[i] >= 0)
                                all[i].us[all[i].n++] = took[i];
        }
        for (unsigned i = 0; i < KINDS; i++)
                if (all[i].n > 0)
                        tell(&all[i], &all[FLOOR]);
        world_clear(&w);
}

int main(int argc, char **argv) {
        unsigned turns = argc > 2 ? (unsigned) strtoul(argv[2], NULL, 10) : TURNS;
        int arguments = 2;
        g_assert_cmpuint(turns, <=, TURNS_MAX);
        world_init(&arguments, &argv);
        (void) setenv("TMPDIR", "/run", 1);     /* world_init() made it a tmpfs of ours */
        printf("%u files are open on this machine\n", count_open_files());
        measure(16, turns);
        measure(DEVICES, turns);
        return 0;
}
