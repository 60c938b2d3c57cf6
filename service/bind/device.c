/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bind/device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "bind/usb.h"
#include "core/facts.h"
#include "core/holder.h"
#include "core/pci-config.h"
#include "core/pci-path.h"
#include "probe/files.h"
#include "probe/holders.h"
#include "util/cleanup.h"
#include "util/text.h"

#define DRIVER "vfio-pci"
#define DRIVER_NAME_SIZE 64U
#define HOLDERS_NAMED_MAX 3U
#define CONFIG_BARS_AT 16U
#define BARS_MAX 6U
#define RESOURCE_IS_MEMORY 0x200U       /* IORESOURCE_MEM of the kernel */

static void fail(Device *device, BindResult result, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void fail(Device *device, BindResult result, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        (void) vsnprintf(device->sentence, sizeof(device->sentence), format, ap);
        va_end(ap);
        device->result = result;
}

/* ---- what may be touched */

/* An attribute in hexadecimal digits, at most @most. */
static bool read_number(const char *address, const char *name, uint32_t most, uint32_t *ret) {
        char text[32];
        uint64_t number;
        if (!read_text_file(text, sizeof(text), "/sys/bus/pci/devices/%s/%s", address, name) ||
            strncmp(text, "0x", 2) != 0 || text_to_u64(text + 2, 16, &number) < 0 || number > most)
                return false;
        *ret = (uint32_t) number;
        return true;
}

static bool read_class(const char *address, uint32_t *ret) {
        return read_number(address, "class", 0xffffff, ret);
}

static bool read_id(const char *address, const char *name, uint32_t *ret) {
        return read_number(address, name, UINT16_MAX, ret);
}

static bool same_group(const char *a, const char *b) {
        char group_a[32], group_b[32];
        return read_link_name(a, "iommu_group", group_a, sizeof(group_a)) &&
               read_link_name(b, "iommu_group", group_b, sizeof(group_b)) && text_equal(group_a, group_b);
}

static void check_gpu(Device *device, const char *address) {
        char boot[8] = "";
        uint32_t class;
        if (!read_class(address, &class))
                fail(device, BIND_REFUSED, "there is no device %s", address);
        else if (!pci_class_is_gpu(class))
                fail(device, BIND_REFUSED, "%s is no GPU (class %06x)", address, class);
        else if (read_text_file(boot, sizeof(boot), "/sys/bus/pci/devices/%s/boot_vga", address) &&
                 text_equal(boot, "1"))
                fail(device, BIND_REFUSED, "%s is the host's console", address);
}

static void check_companion(Device *device, const char *gpu, const char *address, bool same_card) {
        PciFunction function = { .same_slot = same_card, .other_group = !same_group(gpu, address) };
        if (!read_class(address, &function.class))
                fail(device, BIND_REFUSED, "there is no device %s", address);
        else if (!same_card)
                fail(device, BIND_REFUSED, "%s is not of the card of GPU %s", address, gpu);
        else if (pci_class_is_vital(function.class))
                fail(device, BIND_REFUSED, "%s is no part of a GPU (class %06x)", address, function.class);
        else if (!pci_function_goes_along(&function))
                fail(device, BIND_REFUSED, "%s has an IOMMU group of its own and stays with the host", address);
}

void device_check(Device *device, const PciAddress *functions, size_t n) {
        *device = (Device) { .n_addresses = n };
        for (size_t i = 0; i < n; i++)
                pci_address_to_text(functions[i], device->addresses[i]);

        check_gpu(device, device->addresses[0]);
        for (size_t i = 1; i < n && device->result == BIND_DONE; i++) {
                bool same_card = functions[i].domain == functions[0].domain && functions[i].bus == functions[0].bus &&
                                 functions[i].device == functions[0].device &&
                                 functions[i].function != functions[0].function;
                check_companion(device, device->addresses[0], device->addresses[i], same_card);
        }
}

void device_lock(Device *device) {
        /* Never closed: a process that hangs in the kernel keeps it until it comes back. */
        int fd = open_path(O_RDWR | O_CREAT, DEVICE_FOLDER "/%.*s.lock",
                           (int) (strlen(device->addresses[0]) - strlen(".0")), device->addresses[0]);
        if (fd < 0)
                fail(device, BIND_FAILED, "%s cannot be written: %s", DEVICE_FOLDER, strerror(-fd));
        else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                fail(device, BIND_BUSY, "another gpupool-bind is at work on %s, or hangs in it (see dmesg)",
                     device->addresses[0]);
}

/* ---- holders */

static Device *held;
static unsigned n_held;
static bool held_by_vms_only;
static const char *held_remedy;

static void note_holder(const Holder *holder) {
        size_t length = strlen(held->sentence);
        if (held_by_vms_only && !holder->vfio)
                return;
        if (n_held++ >= HOLDERS_NAMED_MAX)
                return;
        (void) snprintf(held->sentence + length, sizeof(held->sentence) - length, "%s%s (pid %s)",
                        n_held > 1 ? ", " : "", holder->name, holder->pid);
        held_remedy = held_remedy ? held_remedy : holder_remedy(holder->name);
}

/* Behind those that are named. Where the sentence goes on. */
static size_t count_the_others(Device *device) {
        size_t length = strlen(device->sentence);
        if (n_held > HOLDERS_NAMED_MAX)
                length += (size_t) snprintf(device->sentence + length, sizeof(device->sentence) - length,
                                            " and %u more", n_held - HOLDERS_NAMED_MAX);
        return length;
}

void device_check_holders(Device *device, bool vfio_only) {
        for (size_t i = 0; i < device->n_addresses; i++)
                holders_add_device(device->addresses[i]);
        held = device;
        n_held = 0;
        held_by_vms_only = vfio_only;
        if (!holders_find(note_holder, UINT_MAX)) {
                fail(device, BIND_FAILED, "the processes of the host cannot be seen");
                return;
        }
        if (n_held == 0)
                return;
        size_t length = count_the_others(device);
        (void) snprintf(device->sentence + length, sizeof(device->sentence) - length, " %s %s open%s%s",
                        n_held > 1 ? "have" : "has", device->addresses[0], held_remedy ? ": " : "",
                        held_remedy ? held_remedy : "");
        device->result = BIND_HELD;
}

/* ---- USB devices */

/* The kernel takes them away with their controller, be it the host's disk or its keyboard. */
static void note_usb_device(const char *text) {
        size_t length = strlen(held->sentence);
        if (n_held++ < HOLDERS_NAMED_MAX)
                (void) snprintf(held->sentence + length, sizeof(held->sentence) - length, "%s%s",
                                n_held > 1 ? ", " : "the host uses USB device ", text);
}

void device_check_usb(Device *device) {
        held = device;
        n_held = 0;
        for (size_t i = 0; i < device->n_addresses; i++)
                usb_find_devices(device->addresses[i], note_usb_device);
        if (n_held == 0)
                return;
        size_t length = count_the_others(device);
        (void) snprintf(device->sentence + length, sizeof(device->sentence) - length,
                        " on the card of %s: plug it into another socket", device->addresses[0]);
        device->result = BIND_HELD;
}

/* ---- which card it is */

/* 0: not known. */
static uint16_t id_of(const char *address, const char *name) {
        uint32_t id = 0;
        return read_id(address, name, &id) ? (uint16_t) id : 0;
}

/* By the device's link in sysfs; "" where it is none of a device. */
static void read_slot(const char *address, char ret[static GPU_SLOT_SIZE]) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s", address);
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
        ret[0] = '\0';
        if (n <= 0)
                return;
        target[n] = '\0';
        const char *path = strstr(target, "/devices/");
        if (!path || slot_from_path(path, ret) < 0)
                ret[0] = '\0';
}

static void read_serial(const char *address, char ret[static GPU_SERIAL_SIZE]) {
        static uint8_t bytes[PCI_CONFIG_SIZE];
        PciConfig config;
        _cleanup_close_ int fd = open_path(O_RDONLY, "/sys/bus/pci/devices/%s/config", address);
        ssize_t n = fd < 0 ? fd : read_whole(fd, bytes, sizeof(bytes));
        if (n <= 0)
                return;
        pci_config_parse(bytes, (size_t) n, &config);
        pci_config_serial_to_text(&config, ret);
}

static void refuse_card(Device *device, const GpuIdentity *meant, const GpuIdentity *seen) {
        if (text_equal(meant->slot, seen->slot))
                fail(device, BIND_OTHER_CARD, "another card is in this slot: %s is %04x:%04x (subsystem %04x:%04x%s%s) "
                     "and not %04x:%04x (subsystem %04x:%04x%s%s)", device->addresses[0],
                     seen->vendor, seen->device, seen->subsystem_vendor, seen->subsystem_device,
                     seen->serial[0] ? ", serial " : "", seen->serial,
                     meant->vendor, meant->device, meant->subsystem_vendor, meant->subsystem_device,
                     meant->serial[0] ? ", serial " : "", meant->serial);
        else
                fail(device, BIND_OTHER_CARD, "another slot has this address, for the bus was numbered anew: %s is in "
                     "%s and not in %s", device->addresses[0], seen->slot, meant->slot);
}

static bool is_card(const char *address, const GpuIdentity *meant, GpuIdentity *ret_seen) {
        GpuIdentity seen = {
                .vendor = id_of(address, "vendor"), .device = id_of(address, "device"),
                .subsystem_vendor = id_of(address, "subsystem_vendor"),
                .subsystem_device = id_of(address, "subsystem_device"),
        };
        read_slot(address, seen.slot);
        if (gpu_identity_matches(meant, &seen) && meant->serial[0])
                read_serial(address, seen.serial);
        *ret_seen = seen;
        return gpu_identity_matches(meant, &seen);
}

void device_check_card(Device *device, const GpuIdentity *meant) {
        GpuIdentity seen;
        if (!is_card(device->addresses[0], meant, &seen))
                refuse_card(device, meant, &seen);
        else
                (void) bind_card_to_text(meant, device->card);
}

/* ---- drivers */

static bool read_driver(const char *address, char ret[static DRIVER_NAME_SIZE]) {
        return read_link_name(address, "driver", ret, DRIVER_NAME_SIZE);
}

static bool is_on_vfio(const char *address) {
        char driver[DRIVER_NAME_SIZE];
        return read_driver(address, driver) && pci_driver_is_vfio(driver);
}

static int write_file(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int write_file(const char *text, const char *format, ...) {
        char path[PATH_MAX];
        va_list ap;
        va_start(ap, format);
        int n = vsnprintf(path, sizeof(path), format, ap);
        va_end(ap);
        if (n < 0 || n >= (int) sizeof(path))
                return -ENAMETOOLONG;
        _cleanup_close_ int fd = open_path(O_WRONLY, "%s", path);
        if (fd < 0)
                return fd;
        return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int unbind(const char *address) {
        char driver[DRIVER_NAME_SIZE];
        if (!read_driver(address, driver))
                return 0;
        int r = write_file(address, "/sys/bus/pci/drivers/%s/unbind", driver);
        /* It lost its driver meanwhile. */
        return r == -ENODEV && !read_driver(address, driver) ? 0 : r;
}

static int set_override(const char *address, const char *driver) {
        return write_file(driver, "/sys/bus/pci/devices/%s/driver_override", address);
}

/* ---- what was taken */

/* "nvidia 10de:2331:10de:1626,,pci0000:40/01.0/00.0": its driver, which may be none, and the card. */
#define NOTE_SIZE (DRIVER_NAME_SIZE + BIND_CARD_SIZE + sizeof(" "))

static int note_taken(const Device *device, const char *address, const char *driver) {
        char note[NOTE_SIZE];
        _cleanup_close_ int fd = open_path(O_WRONLY | O_CREAT | O_TRUNC, DEVICE_FOLDER "/%s.taken", address);
        if (fd < 0)
                return fd;
        int n = snprintf(note, sizeof(note), "%s %s", driver, device->card);
        return write(fd, note, (size_t) n) < 0 ? -errno : 0;
}

static void forget_taken(const char *address) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s" DEVICE_FOLDER "/%s.taken", files_root, address);
        if (n > 0 && n < (int) sizeof(path))
                (void) unlink(path);
}

/* By its note. That of another card is out of date: the card was taken out of the host as it was, and what sits there
 * now is on vfio-pci by somebody else's doing. A note without a card is an older gpupool-bind's. */
static bool was_taken(const Device *device, const char *address) {
        char note[NOTE_SIZE] = "";
        _cleanup_close_ int fd = open_path(O_RDONLY, DEVICE_FOLDER "/%s.taken", address);
        if (fd < 0)
                return false;
        GpuIdentity card, seen;
        const char *blank = read_whole(fd, note, sizeof(note) - 1) > 0 ? strrchr(note, ' ') : NULL;
        if (!blank || bind_card_from_text(blank + 1, &card) < 0 || is_card(device->addresses[0], &card, &seen))
                return true;
        forget_taken(address);
        return false;
}

/* Back to where it comes from: the override goes first, so that nothing brings it back to vfio-pci. 0 or -errno. */
static int give_function(const Device *device, const char *address) {
        if (!was_taken(device, address))
                return 0;
        int r = set_override(address, "\n");
        if (r >= 0 && is_on_vfio(address))
                r = unbind(address);
        if (r < 0)
                return r;
        char driver[DRIVER_NAME_SIZE];
        /* Whether the host's driver takes it is between the two. */
        if (!read_driver(address, driver))
                (void) write_file(address, "/sys/bus/pci/drivers_probe");
        forget_taken(address);
        return 0;
}

void device_give(Device *device) {
        for (size_t i = device->n_addresses; i > 0; i--) {
                int r = give_function(device, device->addresses[i - 1]);
                if (r < 0)
                        fail(device, BIND_FAILED, "%s cannot be given back to the host: %s (see dmesg)",
                             device->addresses[i - 1], strerror(-r));
        }
}

/* ---- take */

static void take_function(Device *device, const char *address) {
        char driver[DRIVER_NAME_SIZE] = "";
        if (read_driver(address, driver) && pci_driver_is_vfio(driver))
                return;
        int r = note_taken(device, address, driver);
        if (r < 0) {
                fail(device, BIND_FAILED, "%s cannot be written: %s", DEVICE_FOLDER, strerror(-r));
                return;
        }
        r = set_override(address, DRIVER);
        if (r < 0) {
                fail(device, BIND_FAILED, "%s cannot be destined for vfio-pci: %s", address, strerror(-r));
                return;
        }
        r = unbind(address);
        if (r < 0) {
                fail(device, BIND_FAILED, "its driver %s does not let go of %s: %s (see dmesg)", driver, address,
                     strerror(-r));
                return;
        }
        r = write_file(address, "/sys/bus/pci/drivers/" DRIVER "/bind");
        if (!is_on_vfio(address))
                fail(device, BIND_FAILED, "vfio-pci does not take %s: %s (see dmesg)", address,
                     strerror(r < 0 ? -r : ENODEV));
}

/* All of them or none. */
void device_take(Device *device) {
        _cleanup_close_ int driver = open_path(O_PATH, "/sys/bus/pci/drivers/" DRIVER);
        if (driver < 0) {
                fail(device, BIND_FAILED, "the driver vfio-pci is not loaded: modprobe vfio-pci");
                return;
        }
        for (size_t i = 0; i < device->n_addresses; i++) {
                take_function(device, device->addresses[i]);
                if (device->result == BIND_DONE)
                        continue;
                for (size_t j = i + 1; j > 0; j--)
                        (void) give_function(device, device->addresses[j - 1]);
                return;
        }
}

/* ---- inspection */

static uint32_t read_u32(const uint8_t *bytes) {
        return (uint32_t) bytes[0] | (uint32_t) bytes[1] << 8 | (uint32_t) bytes[2] << 16 | (uint32_t) bytes[3] << 24;
}

static bool reset_is_known(const char *address) {
        _cleanup_close_ int fd = open_path(O_PATH, "/sys/bus/pci/devices/%s/reset", address);
        return fd >= 0;
}

/* A host driver that has it would not know what befell it; and ENOTTY: none that leaves its neighbours alone, so that
 * whoever has them all at once, as a VM's process has, must do it. */
static void reset(Device *device, const char *address) {
        char driver[DRIVER_NAME_SIZE];
        if ((read_driver(address, driver) && !pci_driver_is_vfio(driver)) || !reset_is_known(address))
                return;
        int r = write_file("1", "/sys/bus/pci/devices/%s/reset", address);
        if (r < 0 && r != -ENOTTY)
                fail(device, BIND_BAD_RESET, "the reset of %s failed: %s", address, strerror(-r));
}

/* A virtual function's vendor and regions are not in its configuration space. */
static bool is_virtual(const char *address) {
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s/physfn", address);
        return fd >= 0;
}

static bool check_config(Device *device, const char *address, uint8_t config[static PCI_CONFIG_HEADER_SIZE]) {
        _cleanup_close_ int fd = open_path(O_RDONLY, "/sys/bus/pci/devices/%s/config", address);
        ssize_t n = fd < 0 ? fd : read_whole(fd, config, PCI_CONFIG_HEADER_SIZE);
        uint32_t vendor, id;
        if (n < (ssize_t) PCI_CONFIG_HEADER_SIZE)
                fail(device, BIND_BAD_CONFIG, "the configuration space of %s cannot be read", address);
        else if (read_u32(config) == UINT32_MAX)
                fail(device, BIND_BAD_CONFIG, "%s has fallen off the bus: its configuration space reads all ones",
                     address);
        else if (!read_id(address, "vendor", &vendor) || !read_id(address, "device", &id) ||
                 read_u32(config) != (vendor | id << 16))
                fail(device, BIND_BAD_CONFIG, "another device than before answers at %s", address);
        return device->result == BIND_DONE;
}

/* The kernel knows where each region lies; after a reset that went wrong the device does not. */
static void check_bars(Device *device, const char *address, const uint8_t config[static PCI_CONFIG_HEADER_SIZE]) {
        char text[2048] = "";
        _cleanup_close_ int fd = open_path(O_RDONLY, "/sys/bus/pci/devices/%s/resource", address);
        if (fd < 0 || read_whole(fd, text, sizeof(text) - 1) <= 0)
                return;
        const char *line = text;
        for (unsigned i = 0; i < BARS_MAX && line; i++) {
                unsigned long long start, end, flags;
                bool there = sscanf(line, "%llx %llx %llx", &start, &end, &flags) == 3 && start > 0 &&
                             (flags & RESOURCE_IS_MEMORY);
                uint32_t low = read_u32(config + CONFIG_BARS_AT + 4 * i) & ~UINT32_C(0xf);
                uint32_t high = i + 1 < BARS_MAX ? read_u32(config + CONFIG_BARS_AT + 4 * (i + 1)) : 0;
                /* Of one above 4 GiB the lower half may well be zero. */
                if (there && low == 0 && (start <= UINT32_MAX || high == 0))
                        fail(device, BIND_BAD_BARS, "%s has lost its memory region %u", address, i);
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
}

static void check_link(Device *device, const char *address) {
        char now[16], most[16];
        if (read_text_file(most, sizeof(most), "/sys/bus/pci/devices/%s/max_link_width", address) &&
            read_text_file(now, sizeof(now), "/sys/bus/pci/devices/%s/current_link_width", address) &&
            !text_equal(most, "0") && text_equal(now, "0"))
                fail(device, BIND_BAD_LINK, "the link of %s is down (it can have %s lanes)", address, most);
}

void device_inspect(Device *device) {
        uint8_t config[PCI_CONFIG_HEADER_SIZE];
        for (size_t i = 0; i < device->n_addresses && device->result == BIND_DONE; i++)
                reset(device, device->addresses[i]);
        for (size_t i = 0; i < device->n_addresses && device->result == BIND_DONE; i++) {
                const char *address = device->addresses[i];
                if (is_virtual(address) || !check_config(device, address, config))
                        continue;
                check_bars(device, address, config);
                if (device->result == BIND_DONE)
                        check_link(device, address);
        }
}
