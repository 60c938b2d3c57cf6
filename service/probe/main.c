/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-probe: reads what the service, which is not root, cannot: configuration space beyond its header, and which
 * processes hold a GPU's device files open. One question on standard input, one answer on standard output (systemd's
 * Accept=yes), then it ends. It opens no device and writes nothing anywhere.
 *
 * Reading the configuration space of a device that hangs may never come back: whoever asks has a deadline, and so has
 * this process's unit. All memory is static: what it takes is known, and nothing can make it take more. */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/pci.h"
#include "probe/probe-protocol.h"
#include "util/cleanup.h"
#include "util/text.h"

#define LIFETIME_S 10U                  /* as in the unit; for when there is none */
#define CONFIG_SIZE 4096U
#define NODES_MAX 64U
#define NVIDIA_MAJOR 195U

typedef struct DeviceNode {
        char path[64];
        dev_t number;                   /* 0: not known, the path decides */
        bool is_vfio;
} DeviceNode;

static const char *root = "";
static char answer[PROBE_ANSWER_MAX];
static size_t answer_length;
static DeviceNode nodes[NODES_MAX];
static size_t n_nodes;
static unsigned n_holders;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        int n = vsnprintf(answer + answer_length, sizeof(answer) - answer_length, format, ap);
        va_end(ap);
        if (n < 0 || (size_t) n >= sizeof(answer) - answer_length)
                exit(EXIT_FAILURE);     /* cannot be: the limits of the protocol add up to less */
        answer_length += (size_t) n;
}

static int send_answer(void) {
        for (size_t done = 0; done < answer_length;) {
                ssize_t n = write(STDOUT_FILENO, answer + done, answer_length - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return -EIO;
                done += (size_t) n;
        }
        return 0;
}

/* Opens a path made of @format below the root. */
static int open_path(int flags, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int open_path(int flags, const char *format, ...) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s", root);
        va_list ap;
        va_start(ap, format);
        int m = vsnprintf(path + n, sizeof(path) - (size_t) n, format, ap);
        va_end(ap);
        if (m < 0 || n + m >= (int) sizeof(path))
                return -ENAMETOOLONG;
        int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : fd;
}

static ssize_t read_whole(int fd, void *buffer, size_t size) {
        size_t n = 0;
        while (n < size) {
                ssize_t got = read(fd, (char *) buffer + n, size - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                n += (size_t) got;
        }
        return (ssize_t) n;
}

static void say_config(const char *prefix, const char *address) {
        uint8_t config[CONFIG_SIZE];
        _cleanup_close_ int fd = open_path(O_RDONLY, "/sys/bus/pci/devices/%s/config", address);
        ssize_t n = fd < 0 ? fd : read_whole(fd, config, sizeof(config));
        if (n <= 0)
                return;
        say("%s ", prefix);
        for (ssize_t i = 0; i < n; i++)
                say("%02x", config[i]);
        say("\n");
}

/* The device's link ends in ".../BRIDGE/BRIDGE/ADDRESS": the parts before the last, from the back. */
static void say_bridges(const char *address) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s", address);
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return;
        target[n] = '\0';

        char *slash = strrchr(target, '/');
        for (unsigned i = 0; slash && i < PROBE_BRIDGES_MAX; i++) {
                *slash = '\0';
                slash = strrchr(target, '/');
                PciAddress bridge;
                if (!slash || pci_address_from_text(slash + 1, &bridge) < 0)
                        return;
                char prefix[sizeof("bridge ") + PCI_ADDRESS_TEXT_SIZE], text[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(bridge, text);
                (void) snprintf(prefix, sizeof(prefix), "bridge %s", text);
                say_config(prefix, text);
        }
}

/* Calls @found with each name of a folder. Not opendir(), which allocates. */
typedef void (*NameFound)(int folder, const char *name, const void *userdata);
static void each_name(int folder, NameFound found, const void *userdata) {
        struct Entry {
                uint64_t inode;
                int64_t offset;
                uint16_t length;
                uint8_t type;
                char name[];
        };
        _Alignas(struct Entry) char buffer[4096];
        long n;
        while ((n = syscall(SYS_getdents64, folder, buffer, sizeof(buffer))) > 0)
                for (long i = 0; i < n;) {
                        const struct Entry *entry = (const void *) (buffer + i);
                        if (entry->name[0] != '.')
                                found(folder, entry->name, userdata);
                        i += entry->length;
                }
}

/* "226:0", as a file `dev` of sysfs says it. */
static dev_t read_number(int folder, const char *path) {
        char text[32] = "";
        unsigned major_number, minor_number;
        _cleanup_close_ int fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read_whole(fd, text, sizeof(text) - 1) <= 0 ||
            sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
                return 0;
        return makedev(major_number, minor_number);
}

static void add_node(const char *prefix, const char *name, dev_t number, bool is_vfio) {
        if (n_nodes >= NODES_MAX)
                return;
        DeviceNode *node = &nodes[n_nodes];
        int n = snprintf(node->path, sizeof(node->path), "%s/dev/%s%s", root, prefix, name);
        if (n < 0 || (size_t) n >= sizeof(node->path))
                return;
        node->number = number;
        node->is_vfio = is_vfio;
        n_nodes++;
}

static void add_from_folder(int folder, const char *name, const void *prefix) {
        char path[NAME_MAX + sizeof("/dev")];
        (void) snprintf(path, sizeof(path), "%s/dev", name);
        dev_t number = read_number(folder, path);
        if (number != 0)                /* a connector of a display card has none */
                add_node(prefix, name, number, strncmp(prefix, "vfio", strlen("vfio")) == 0);
}

static bool read_link_name(const char *address, const char *link, char *ret, size_t size) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s/%s", address, link);
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return false;
        target[n] = '\0';
        const char *slash = strrchr(target, '/');
        int length = snprintf(ret, size, "%s", slash ? slash + 1 : target);
        return length > 0 && (size_t) length < size;
}

static void add_nvidia_node(const char *address) {
        char text[4096] = "", name[16];
        unsigned minor_number;
        _cleanup_close_ int fd = open_path(O_RDONLY, "/proc/driver/nvidia/gpus/%s/information", address);
        if (fd < 0 || read_whole(fd, text, sizeof(text) - 1) <= 0)
                return;
        const char *line = strstr(text, "Device Minor:");
        if (!line || sscanf(line, "Device Minor: %u", &minor_number) != 1)
                return;
        (void) snprintf(name, sizeof(name), "%u", minor_number);
        add_node("nvidia", name, makedev(NVIDIA_MAJOR, minor_number), false);
}

static void find_nodes(const char *address) {
        static const struct {
                const char *folder, *prefix;
        } folders[] = {
                { "drm", "dri/" }, { "graphics", "" }, { "vfio-dev", "vfio/devices/" },
        };
        for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
                _cleanup_close_ int fd = open_path(O_RDONLY | O_DIRECTORY, "/sys/bus/pci/devices/%s/%s", address,
                                                   folders[i].folder);
                if (fd >= 0)
                        each_name(fd, add_from_folder, folders[i].prefix);
        }

        char name[32];
        if (read_link_name(address, "iommu_group", name, sizeof(name))) {
                _cleanup_close_ int fd = open_path(O_RDONLY | O_DIRECTORY, "/sys/class/vfio/%s", name);
                add_node("vfio/", name, fd < 0 ? 0 : read_number(fd, "dev"), true);
        }
        if (read_link_name(address, "driver", name, sizeof(name)) && text_equal(name, "amdgpu")) {
                _cleanup_close_ int fd = open_path(O_RDONLY | O_DIRECTORY, "/sys/class/kfd/kfd");
                add_node("", "kfd", fd < 0 ? 0 : read_number(fd, "dev"), false);
        }
        add_nvidia_node(address);
}

typedef struct Holding {
        bool host, vfio;
} Holding;

/* Looks at where the link points and, below /dev, at the device number: neither opens anything, nor waits for a file
 * system that does not answer. */
static void look_at_file(int folder, const char *name, const void *userdata) {
        Holding *holding = *(Holding *const *) userdata;
        char target[PATH_MAX];
        ssize_t n = readlinkat(folder, name, target, sizeof(target) - 1);
        if (n < 0)
                return;
        target[n] = '\0';

        struct stat st = {};
        bool is_device = strncmp(target, "/dev/", strlen("/dev/")) == 0 && fstatat(folder, name, &st, 0) == 0 &&
                         S_ISCHR(st.st_mode);
        for (size_t i = 0; i < n_nodes; i++)
                if (text_equal(target, nodes[i].path) ||
                    (is_device && nodes[i].number && st.st_rdev == nodes[i].number))
                        *(nodes[i].is_vfio ? &holding->vfio : &holding->host) = true;
}

static void say_holder(int proc, const char *pid, bool through_vfio) {
        char path[NAME_MAX + sizeof("/comm")], comm[32] = "";
        (void) snprintf(path, sizeof(path), "%s/comm", pid);
        _cleanup_close_ int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                (void) read_whole(fd, comm, sizeof(comm) - 1);
        comm[strcspn(comm, "\n")] = '\0';
        for (char *c = comm; *c; c++)
                if (!isprint((unsigned char) *c))
                        *c = '?';
        say("holder %s %s %s\n", pid, through_vfio ? "vfio" : "host", comm);
        n_holders++;
}

static void look_at_process(int proc, const char *pid, const void *userdata) {
        uint64_t number;
        if (text_to_u64(pid, 10, &number) < 0 || number == (uint64_t) getpid() || n_holders >= PROBE_HOLDERS_MAX)
                return;

        char path[NAME_MAX + sizeof("/fd")];
        Holding holding = {}, *pointer = &holding;
        (void) snprintf(path, sizeof(path), "%s/fd", pid);
        _cleanup_close_ int files = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (files < 0)
                return;
        each_name(files, look_at_file, &pointer);
        if (holding.host || holding.vfio)
                say_holder(proc, pid, !holding.host);
}

static bool read_question(char ret[static PCI_ADDRESS_TEXT_SIZE]) {
        char question[PROBE_REQUEST_MAX] = "";
        size_t n = 0;
        while (n < sizeof(question) - 1 && !strchr(question, '\n')) {
                ssize_t got = read(STDIN_FILENO, question + n, sizeof(question) - 1 - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return false;
                n += (size_t) got;
        }
        char *end = strchr(question, '\n');
        PciAddress address;
        if (!end || end[1] || strlen(question) != n || strncmp(question, "gpu ", strlen("gpu ")) != 0)
                return false;
        *end = '\0';
        if (pci_address_from_text(question + strlen("gpu "), &address) < 0)
                return false;
        pci_address_to_text(address, ret);
        return true;
}

int main(int argc, char **argv) {
        if (argc == 3 && text_equal(argv[1], "--root"))
                root = argv[2];
        else if (argc != 1) {
                (void) fprintf(stderr, "usage: gpupool-probe [--root FOLDER]  (a question on standard input)\n");
                return EXIT_FAILURE;
        }

        char address[PCI_ADDRESS_TEXT_SIZE];
        (void) alarm(LIFETIME_S);
        if (!read_question(address))
                return EXIT_FAILURE;

        say_config("config", address);
        say_bridges(address);
        find_nodes(address);
        /* Processes are always this machine's own, whatever the root. */
        _cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (proc < 0)
                return EXIT_FAILURE;    /* without "end" nobody takes silence for "no holders" */
        each_name(proc, look_at_process, NULL);
        say("end\n");
        return send_answer() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
