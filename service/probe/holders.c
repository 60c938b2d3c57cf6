/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/holders.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "probe/files.h"
#include "util/cleanup.h"
#include "util/text.h"

#define NODES_MAX 64U
#define NVIDIA_MAJOR 195U

typedef struct DeviceNode {
        dev_t number;
        bool is_vfio;
        /* Where sysfs does not tell the number: the file that is there, or one of its number and name in a /dev that
         * libvirt has made for a VM; and none that is only called so. */
        dev_t file_system;
        ino_t inode;
        dev_t file_number;              /* 0: it is no device */
        char path[64];
} DeviceNode;

static DeviceNode nodes[NODES_MAX];
static size_t n_nodes;

static struct {
        HolderFound found;
        unsigned n, most;
} search;

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
        DeviceNode node = { .number = number, .is_vfio = is_vfio };
        if (number == 0) {
                struct stat st;
                _cleanup_close_ int fd = open_path(O_PATH, "/dev/%s%s", prefix, name);
                if (fd < 0 || fstat(fd, &st) < 0)
                        return;
                node.file_system = st.st_dev;
                node.inode = st.st_ino;
                node.file_number = S_ISCHR(st.st_mode) ? st.st_rdev : 0;
                int n = snprintf(node.path, sizeof(node.path), "%s/dev/%s%s", files_root, prefix, name);
                if (n < 0 || (size_t) n >= sizeof(node.path))
                        node.path[0] = '\0';
        }
        nodes[n_nodes++] = node;
}

static void add_from_folder(int folder, const char *name, const void *prefix) {
        char path[NAME_MAX + sizeof("/dev")];
        (void) snprintf(path, sizeof(path), "%s/dev", name);
        dev_t number = read_number(folder, path);
        if (number != 0)                /* a connector of a display card has none */
                add_node(prefix, name, number, strncmp(prefix, "vfio", strlen("vfio")) == 0);
}

/* A sound card's files lie one folder deeper: sound/card1/pcmC1D3p. */
static void add_from_card(int folder, const char *name, const void *prefix) {
        _cleanup_close_ int card = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (card >= 0)
                each_name(card, add_from_folder, prefix);
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

void holders_add_device(const char *address) {
        static const struct {
                const char *folder, *prefix;
                NameFound found;
        } folders[] = {
                { "drm", "dri/", add_from_folder },
                { "graphics", "", add_from_folder },
                { "vfio-dev", "vfio/devices/", add_from_folder },
                { "sound", "snd/", add_from_card },
        };
        for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
                _cleanup_close_ int fd = open_path(O_RDONLY | O_DIRECTORY, "/sys/bus/pci/devices/%s/%s", address,
                                                   folders[i].folder);
                if (fd >= 0)
                        each_name(fd, folders[i].found, folders[i].prefix);
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

static bool is_node(const DeviceNode *node, const char *path, const struct statx *st) {
        dev_t number = S_ISCHR(st->stx_mode) ? makedev(st->stx_rdev_major, st->stx_rdev_minor) : 0;
        if (node->number != 0)
                return number == node->number;
        return (st->stx_ino == node->inode && makedev(st->stx_dev_major, st->stx_dev_minor) == node->file_system) ||
               (number != 0 && number == node->file_number && text_equal(path, node->path));
}

/* What a file is called says nothing: anybody can have a /dev of his own, and a chroot has its below another folder.
 * Neither opens anything, nor asks a file system that may not answer. */
static void look_at_file(int folder, const char *name, const void *userdata) {
        Holding *holding = *(Holding *const *) userdata;
        char target[PATH_MAX];
        ssize_t n = readlinkat(folder, name, target, sizeof(target) - 1);
        if (n < 0)
                return;
        target[n] = '\0';

        struct statx st;
        if (!strstr(target, "/dev/") ||
            statx(folder, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, &st) < 0)
                return;
        for (size_t i = 0; i < n_nodes; i++)
                if (is_node(&nodes[i], target, &st))
                        *(nodes[i].is_vfio ? &holding->vfio : &holding->host) = true;
}

static void tell(int proc, const char *pid, Holding holding) {
        char path[NAME_MAX + sizeof("/comm")], comm[32] = "";
        (void) snprintf(path, sizeof(path), "%s/comm", pid);
        _cleanup_close_ int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                (void) read_whole(fd, comm, sizeof(comm) - 1);
        comm[strcspn(comm, "\n")] = '\0';
        for (char *c = comm; *c; c++)
                if (!isprint((unsigned char) *c))
                        *c = '?';
        search.found(&(Holder) { .pid = pid, .name = comm, .host = holding.host, .vfio = holding.vfio });
        search.n++;
}

static void look_at_process(int proc, const char *pid, const void *userdata) {
        uint64_t number;
        if (text_to_u64(pid, 10, &number) < 0 || number == (uint64_t) getpid() || search.n >= search.most)
                return;

        char path[NAME_MAX + sizeof("/fd")];
        Holding holding = {}, *pointer = &holding;
        (void) snprintf(path, sizeof(path), "%s/fd", pid);
        _cleanup_close_ int files = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (files < 0)
                return;
        each_name(files, look_at_file, &pointer);
        if (holding.host || holding.vfio)
                tell(proc, pid, holding);
}

bool holders_find(HolderFound found, unsigned most) {
        /* Processes are always this machine's own, whatever the root. */
        _cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (proc < 0)
                return false;
        search.found = found;
        search.n = 0;
        search.most = most;
        each_name(proc, look_at_process, NULL);
        return true;
}
