/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mock-sysfs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct MockSysfs {
        char *root;
        GHashTable *places;             /* address → folder of the device, from the root on */
};

const MockDevice MOCK_H100 = {
        .address = "0000:41:00.0",
        .below = "pci0000:40/0000:40:01.0",
        .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de, .subsystem_device = 0x1626,
        .class = 0x030200,
        .driver = "nvidia",
        .group = 42,
        .reset_method = "flr bus",
        .resource = "0x00002000a2000000 0x00002000a2ffffff 0x000000000014220c\n"
                    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                    "0x0000204000000000 0x0000205fffffffff 0x000000000014220c\n"
                    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                    "0x00002000a0000000 0x00002000a1ffffff 0x000000000014220c\n"
                    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
};

const MockDevice MOCK_GEFORCE[4] = {
        { .address = "0000:01:00.0", .below = "pci0000:00/0000:00:01.0", .vendor = 0x10de, .device = 0x2204,
          .class = 0x030000, .driver = "nouveau", .group = 13, .reset_method = "bus", .boot_vga = true,
          .resource = "0x00000000a0000000 0x00000000a0ffffff 0x0000000000040200\n"
                      "0x0000006000000000 0x000000600fffffff 0x000000000014220c\n"
                      "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                      "0x0000006010000000 0x0000006011ffffff 0x000000000014220c\n"
                      "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                      "0x0000000000005000 0x000000000000507f 0x0000000000040101\n" },
        { .address = "0000:01:00.1", .below = "pci0000:00/0000:00:01.0", .vendor = 0x10de, .device = 0x1aef,
          .class = 0x040300, .driver = "snd_hda_intel", .group = 13 },
        { .address = "0000:01:00.2", .below = "pci0000:00/0000:00:01.0", .vendor = 0x10de, .device = 0x1ad8,
          .class = 0x0c0330, .driver = "xhci_hcd", .group = 13 },
        { .address = "0000:01:00.3", .below = "pci0000:00/0000:00:01.0", .vendor = 0x10de, .device = 0x1ad9,
          .class = 0x0c8000, .group = 13 },
};

static void make_parents(const char *path) {
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
}

static char *path_of(const MockSysfs *mock, const char *address, const char *name) {
        const char *place = g_hash_table_lookup(mock->places, address);
        g_assert_nonnull(place);
        return g_build_filename(mock->root, place, name, NULL);
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
        make_parents(path);
        (void) g_unlink(path);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, bytes, size), ==, (gssize) size);
        (void) close(fd);
}

static void set_link(const char *path, const char *target) {
        make_parents(path);
        (void) g_unlink(path);
        g_assert_cmpint(symlink(target, path), ==, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
        return remove(path);
}

static void remove_all(const char *path) {
        (void) nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

MockSysfs *mock_sysfs_new(void) {
        MockSysfs *mock = g_new0(MockSysfs, 1);
        mock->root = g_dir_make_tmp("gpupool-sysfs-XXXXXX", NULL);
        g_assert_nonnull(mock->root);
        mock->places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        static const char *const folders[] = { "sys/bus/pci/devices", "sys/kernel/iommu_groups" };
        for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
                g_autofree char *path = g_build_filename(mock->root, folders[i], NULL);
                g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
        }
        return mock;
}

MockSysfs *mock_sysfs_free(MockSysfs *mock) {
        if (!mock)
                return NULL;
        remove_all(mock->root);
        g_hash_table_unref(mock->places);
        g_free(mock->root);
        g_free(mock);
        return NULL;
}

const char *mock_sysfs_root(const MockSysfs *mock) {
        return mock->root;
}

static void set_number(MockSysfs *mock, const char *address, const char *name, const char *format, unsigned value)
        __attribute__((format(printf, 4, 0)));
static void set_number(MockSysfs *mock, const char *address, const char *name, const char *format, unsigned value) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        g_autofree char *text = g_strdup_printf(format, value);
#pragma GCC diagnostic pop
        mock_attribute_set(mock, address, name, text);
}

/* The header of a card that answers. */
static void set_config(MockSysfs *mock, const MockDevice *device) {
        uint8_t config[64] = {
                (uint8_t) device->vendor, (uint8_t) (device->vendor >> 8),
                (uint8_t) device->device, (uint8_t) (device->device >> 8),
        };
        mock_attribute_set_bytes(mock, device->address, "config", config, sizeof(config));
}

void mock_device_add(MockSysfs *mock, const MockDevice *device) {
        const char *below = device->below ? device->below : "pci0000:00";
        g_hash_table_insert(mock->places, g_strdup(device->address),
                            g_strdup_printf("sys/devices/%s/%s", below, device->address));

        set_number(mock, device->address, "vendor", "0x%04x", device->vendor);
        set_number(mock, device->address, "device", "0x%04x", device->device);
        set_number(mock, device->address, "subsystem_vendor", "0x%04x", device->subsystem_vendor);
        set_number(mock, device->address, "subsystem_device", "0x%04x", device->subsystem_device);
        set_number(mock, device->address, "class", "0x%06x", device->class);
        mock_attribute_set(mock, device->address, "numa_node", "-1");
        set_config(mock, device);
        if (device->boot_vga)
                mock_attribute_set(mock, device->address, "boot_vga", "1");
        if (device->resource)
                mock_attribute_set_bytes(mock, device->address, "resource", device->resource, strlen(device->resource));
        if (device->reset_method) {
                mock_attribute_set(mock, device->address, "reset_method", device->reset_method);
                mock_attribute_set_bytes(mock, device->address, "reset", "", 0);
        }
        mock_driver_set(mock, device->address, device->driver);
        mock_group_set(mock, device->address, device->group);

        /* Last, as in the kernel: what is listed is complete. */
        g_autofree char *link = g_build_filename(mock->root, "sys/bus/pci/devices", device->address, NULL);
        g_autofree char *target = g_strdup_printf("../../../devices/%s/%s", below, device->address);
        set_link(link, target);
}

void mock_device_remove(MockSysfs *mock, const char *address) {
        g_autofree char *link = g_build_filename(mock->root, "sys/bus/pci/devices", address, NULL);
        g_autofree char *folder = path_of(mock, address, NULL);
        g_assert_cmpint(g_unlink(link), ==, 0);
        mock_group_set(mock, address, 0);
        remove_all(folder);
        g_hash_table_remove(mock->places, address);
}

void mock_driver_set(MockSysfs *mock, const char *address, const char *driver) {
        g_autofree char *path = path_of(mock, address, "driver");
        (void) g_unlink(path);
        if (!driver)
                return;
        g_autofree char *target = g_strdup_printf("../../../../bus/pci/drivers/%s", driver);
        set_link(path, target);
}

void mock_group_set(MockSysfs *mock, const char *address, int group) {
        g_autofree char *path = path_of(mock, address, "iommu_group");
        g_autofree char *old = g_file_read_link(path, NULL);
        if (old) {
                g_autofree char *number = g_path_get_basename(old);
                g_autofree char *member = g_build_filename(mock->root, "sys/kernel/iommu_groups", number, "devices",
                                                           address, NULL);
                (void) g_unlink(member);
                g_assert_cmpint(g_unlink(path), ==, 0);
        }
        if (group == 0)
                return;
        const char *place = g_hash_table_lookup(mock->places, address);
        /* "sys/devices/pci0000:40/..." is as many steps below "sys" as it has slashes. */
        GString *target = g_string_new(NULL);
        for (const char *slash = strchr(place, '/'); slash; slash = strchr(slash + 1, '/'))
                g_string_append(target, "../");
        g_string_append_printf(target, "kernel/iommu_groups/%d", group);
        set_link(path, target->str);
        (void) g_string_free(target, TRUE);

        g_autofree char *folder = g_strdup_printf("%s/sys/kernel/iommu_groups/%d", mock->root, group);
        g_autofree char *member = g_build_filename(folder, "devices", address, NULL);
        g_autofree char *back = g_strdup_printf("../../../../%s", place + strlen("sys/"));
        g_autofree char *type = g_build_filename(folder, "type", NULL);
        set_link(member, back);
        write_bytes(type, "DMA\n", 4);
}

void mock_attribute_set_bytes(MockSysfs *mock, const char *address, const char *name, const void *bytes, size_t size) {
        g_autofree char *path = path_of(mock, address, name);
        write_bytes(path, bytes, size);
}

void mock_attribute_set(MockSysfs *mock, const char *address, const char *name, const char *value) {
        g_autofree char *line = g_strdup_printf("%s\n", value);
        mock_attribute_set_bytes(mock, address, name, line, strlen(line));
}

void mock_attribute_remove(MockSysfs *mock, const char *address, const char *name) {
        g_autofree char *path = path_of(mock, address, name);
        remove_all(path);
}

void mock_attribute_hang(MockSysfs *mock, const char *address, const char *name) {
        g_autofree char *path = path_of(mock, address, name);
        (void) g_unlink(path);
        g_assert_cmpint(mkfifo(path, 0644), ==, 0);
}

void mock_attribute_release(MockSysfs *mock, const char *address, const char *name, const char *value) {
        g_autofree char *path = path_of(mock, address, name);
        g_autofree char *aside = g_strdup_printf("%s.released", path);
        g_assert_cmpint(g_rename(path, aside), ==, 0);
        mock_attribute_set(mock, address, name, value);
        /* Whoever waits for a writer gets one that says nothing. ENXIO: nobody waits. */
        int fd = open(aside, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        g_assert_true(fd >= 0 || errno == ENXIO);
        if (fd >= 0)
                (void) close(fd);
        g_assert_cmpint(g_unlink(aside), ==, 0);
}

void mock_file(MockSysfs *mock, const char *path, const char *value) {
        g_autofree char *full = g_build_filename(mock->root, path, NULL);
        write_bytes(full, value, strlen(value));
}

void mock_link(MockSysfs *mock, const char *path, const char *target) {
        g_autofree char *full = g_build_filename(mock->root, path, NULL);
        set_link(full, target);
}

bool mock_uevents_possible(void) {
        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
                return false;
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", "/run", "tmpfs", 0, NULL) == 0 &&
               g_mkdir_with_parents("/run/udev", 0755) == 0;
}

/* One node of the database's tree (systemd's hwdb-internal.h), whose prefix is the whole pattern. */
static void write_database(const char *path, const char *pattern, const char *vendor, const char *device) {
        struct {
                char signature[8];
                uint64_t tool_version, file_size, header_size, node_size, child_size, value_size, root_at, nodes_size,
                        strings_size;
                uint64_t prefix_at, children, n_values;
                uint64_t values[2][2];
        } database = {
                .signature = "KSLPHHRH", .header_size = 80, .node_size = 24, .child_size = 16, .value_size = 16,
                .root_at = 80, .n_values = 2,
        };
        const char *const texts[] = { pattern, " ID_MODEL_FROM_DATABASE", device, " ID_VENDOR_FROM_DATABASE", vendor };
        uint64_t *const places[] = {
                &database.prefix_at, &database.values[0][0], &database.values[0][1], &database.values[1][0],
                &database.values[1][1],
        };
        GString *strings = g_string_new(NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                *places[i] = sizeof(database) + strings->len;
                (void) g_string_append_len(strings, texts[i], (gssize) strlen(texts[i]) + 1);
        }
        database.nodes_size = sizeof(database) - 80;
        database.strings_size = strings->len;
        database.file_size = sizeof(database) + strings->len;
        (void) g_string_prepend_len(strings, (const char *) &database, sizeof(database));
        write_bytes(path, strings->str, strings->len);
        (void) g_string_free(strings, TRUE);
}

bool mock_hardware_database(const char *pattern, const char *vendor, const char *device) {
        static bool is_ours;
        static const char folder[] = "/usr/lib/udev", path[] = "/usr/lib/udev/hwdb.bin";
        if (!is_ours && mount("none", folder, "tmpfs", 0, NULL) < 0)
                return false;
        is_ours = true;
        if (pattern)
                write_database(path, pattern, vendor, device);
        else
                (void) g_unlink(path);
        return true;
}

void mock_udevd_runs(bool runs) {
        if (runs)
                g_assert_true(g_file_set_contents("/run/udev/control", "", 0, NULL));
        else
                (void) g_unlink("/run/udev/control");
}

/* As libudev hashes a subsystem for the filter in its messages. */
static uint32_t murmur_hash(const char *text) {
        const uint32_t m = 0x5bd1e995;
        const uint8_t *p = (const uint8_t *) text;
        size_t n = strlen(text);
        uint32_t h = (uint32_t) n;
        for (; n >= 4; n -= 4, p += 4) {
                uint32_t k;
                memcpy(&k, p, 4);
                k *= m;
                k ^= k >> 24;
                k *= m;
                h = h * m ^ k;
        }
        if (n >= 3)
                h ^= (uint32_t) p[2] << 16;
        if (n >= 2)
                h ^= (uint32_t) p[1] << 8;
        if (n >= 1)
                h = (h ^ p[0]) * m;
        h = (h ^ h >> 13) * m;
        return h ^ h >> 15;
}

/* To those who listen to udevd: a header of libudev's and the properties. */
static void send_as_udevd(int fd, const char *subsystem, const void *body, size_t size) {
        struct {
                char prefix[8];
                uint32_t magic, header_size, properties_at, properties_size, subsystem_hash, devtype_hash, tags[2];
        } header = {
                .prefix = "libudev",
                .magic = htonl(0xfeedcafe),
                .header_size = sizeof(header),
                .properties_at = sizeof(header),
                .properties_size = (uint32_t) size,
                .subsystem_hash = htonl(murmur_hash(subsystem)),
        };
        struct sockaddr_nl everybody = { .nl_family = AF_NETLINK, .nl_groups = 2 };
        struct iovec parts[] = { { &header, sizeof(header) }, { (void *) body, size } };
        struct msghdr message = {
                .msg_name = &everybody, .msg_namelen = sizeof(everybody), .msg_iov = parts, .msg_iovlen = 2,
        };
        /* ECONNREFUSED: nobody listens. */
        g_assert_true(sendmsg(fd, &message, 0) >= 0 || errno == ECONNREFUSED);
}

/* To those who listen to the kernel: the kernel itself sends it on, with a number. */
static void send_as_kernel(int fd, const char *action, const char *path, const void *body, size_t size) {
        g_autofree char *title = g_strdup_printf("%s@%s", action, path);
        struct nlmsghdr header = {
                .nlmsg_len = (uint32_t) (sizeof(header) + strlen(title) + 1 + size),
                .nlmsg_type = NLMSG_MIN_TYPE,
                .nlmsg_flags = NLM_F_REQUEST,
        };
        struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
        struct iovec parts[] = { { &header, sizeof(header) }, { title, strlen(title) + 1 }, { (void *) body, size } };
        struct msghdr message = {
                .msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = parts, .msg_iovlen = 3,
        };
        g_assert_true(sendmsg(fd, &message, 0) >= 0);
}

void mock_uevent_bytes(const char *subsystem, const char *action, const char *path, const char *message, size_t size) {
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        g_assert_cmpint(fd, >=, 0);
        static unsigned number = 4711;
        g_autofree char *seqnum = g_strdup_printf("SEQNUM=%u", number++);
        GByteArray *body = g_byte_array_new();
        (void) g_byte_array_append(body, (const uint8_t *) message, (guint) size);
        send_as_kernel(fd, action, path, body->data, body->len);        /* adds its own number */
        (void) g_byte_array_append(body, (const uint8_t *) seqnum, (guint) strlen(seqnum) + 1);
        send_as_udevd(fd, subsystem, body->data, body->len);
        (void) g_byte_array_free(body, TRUE);
        (void) close(fd);
}

static void add_property(GByteArray *body, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_property(GByteArray *body, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        g_autofree char *text = g_strdup_vprintf(format, ap);
        va_end(ap);
        (void) g_byte_array_append(body, (const uint8_t *) text, (guint) strlen(text) + 1);
}

void mock_uevent(const MockSysfs *mock, const char *action, const MockDevice *device, const char *const *more) {
        g_autofree char *path = g_strdup_printf("/devices/%s/%s", device->below ? device->below : "pci0000:00",
                                                device->address);
        GByteArray *body = g_byte_array_new();
        add_property(body, "ACTION=%s", action);
        add_property(body, "DEVPATH=%s", path);
        add_property(body, "SUBSYSTEM=pci");
        add_property(body, "PCI_CLASS=%X", device->class);
        add_property(body, "PCI_ID=%04X:%04X", device->vendor, device->device);
        add_property(body, "PCI_SLOT_NAME=%s", device->address);
        for (; more && *more; more++)
                add_property(body, "%s", *more);
        mock_uevent_bytes("pci", action, path, (const char *) body->data, body->len);
        (void) g_byte_array_free(body, TRUE);
}

static void link_usb(MockSysfs *mock, const MockDevice *controller, const char *name, const char *below) {
        g_autofree char *link = g_strdup_printf("sys/bus/usb/devices/%s", name);
        g_autofree char *target = g_strdup_printf("../../../devices/%s/%s/%s%s",
                                                  controller->below ? controller->below : "pci0000:00",
                                                  controller->address, below, name);
        mock_link(mock, link, target);
}

static void set_usb_id(MockSysfs *mock, const MockDevice *controller, const char *name, const char *id,
                       const char *value) {
        g_autofree char *attribute = g_strdup_printf("usb1/%s/%s", name, id);
        mock_attribute_set(mock, controller->address, attribute, value);
}

void mock_usb_device(MockSysfs *mock, const MockDevice *controller, const char *name, const char *vendor,
                     const char *product) {
        if (!name) {
                set_usb_id(mock, controller, "1-0:1.0", "bInterfaceClass", "09");
                link_usb(mock, controller, "usb1", "");
                link_usb(mock, controller, "1-0:1.0", "usb1/");
                return;
        }
        set_usb_id(mock, controller, name, "idVendor", vendor);
        set_usb_id(mock, controller, name, "idProduct", product);
        link_usb(mock, controller, name, "usb1/");
}
