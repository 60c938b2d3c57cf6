/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/gpu-reader.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/pci-config.h"
#include "core/pci-path.h"
#include "core/usb.h"
#include "util/array.h"
#include "util/cleanup.h"

/* Flags of a line of `resource`, from the kernel's ioport.h. */
#define RESOURCE_MEMORY 0x200U
#define RESOURCE_PREFETCH 0x2000U
#define RESOURCE_MEMORY_64 0x100000U
#define RESOURCE_UNSET 0x20000000U

#define CLASS_USB 0x0c03U

/* What the functions below share while one device is read. */
typedef struct Reading {
        Sysfs *sysfs;
        NameDatabase *names;
        char address[PCI_ADDRESS_TEXT_SIZE];
        GpuFacts *gpu;
} Reading;

#define DEVICE "sys/bus/pci/devices/%s/"

void device_reading_clear(DeviceReading *reading) {
        gpu_facts_clear(&reading->facts);
        *reading = (DeviceReading) {};
}

int pci_class_read(const Sysfs *sysfs, PciAddress address, uint32_t *ret) {
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(address, text);

        uint64_t class;
        int r = sysfs_read_number(sysfs, &class, DEVICE "class", text);
        if (r < 0)
                return r;
        if (class > 0xffffff)
                return -EINVAL;
        *ret = (uint32_t) class;
        return 0;
}

/* A file that is not there, or holds nonsense, leaves the fact unknown; only memory is a reason to give up. */
static int unless_no_memory(int r) {
        return r == -ENOMEM ? r : 0;
}

/* A small number among a device's attributes. Macros, as the attribute's name must be a literal (sysfs.h). */
#define NUMBER_AT(sysfs, address, attribute, unknown)                                           \
        ({                                                                                      \
                uint64_t _value;                                                                \
                int _r = sysfs_read_number((sysfs), &_value, DEVICE attribute, (address));      \
                _r < 0 || _value > UINT32_MAX ? (unknown) : (uint32_t) _value;                  \
        })

#define NUMBER_OF(reading, attribute, unknown) NUMBER_AT((reading)->sysfs, (reading)->address, attribute, unknown)
#define ID_AT(sysfs, address, attribute) ((uint16_t) NUMBER_AT(sysfs, address, attribute, 0))

#define STRING_OF(reading, attribute, ret) \
        unless_no_memory(sysfs_read_string((reading)->sysfs, (ret), DEVICE attribute, (reading)->address))

static int read_driver(const Sysfs *sysfs, const char *address, char **ret) {
        char name[NAME_MAX + 1];
        int r = sysfs_read_link_name(sysfs, name, DEVICE "driver", address);
        return r < 0 ? unless_no_memory(r) : text_set(ret, name);
}

static int read_names(const Reading *reading, const char *address, char **vendor, char **device) {
        if (!reading->names)
                return 0;
        char modalias[256];
        if (sysfs_read_text(reading->sysfs, modalias, sizeof(modalias), DEVICE "modalias", address) < 0)
                return 0;
        sysfs_begin(reading->sysfs, "hwdb");
        int r = name_database_find(reading->names, modalias, vendor, device);
        sysfs_end(reading->sysfs);
        return r;
}

static int read_path(const Sysfs *sysfs, const char *address, char **ret) {
        char target[PATH_MAX];
        int r = sysfs_read_link(sysfs, target, "sys/bus/pci/devices/%s", address);
        if (r < 0)
                return r;
        const char *path = strstr(target, "/devices/");
        if (!path)
                return -ENOENT;
        r = text_set(ret, path);
        if (r >= 0)
                text_make_printable(*ret, SIZE_MAX);
        return r;
}

void gpu_identity_read(const Sysfs *sysfs, PciAddress address, GpuIdentity *ret) {
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(address, text);
        *ret = (GpuIdentity) {
                .vendor = ID_AT(sysfs, text, "vendor"),
                .device = ID_AT(sysfs, text, "device"),
                .subsystem_vendor = ID_AT(sysfs, text, "subsystem_vendor"),
                .subsystem_device = ID_AT(sysfs, text, "subsystem_device"),
                .address = address,
        };
        _cleanup_free_ char *path = NULL;
        if (read_path(sysfs, text, &path) < 0 || slot_from_path(path, ret->slot) < 0)
                ret->slot[0] = '\0';
}

static int read_identity(const Reading *reading) {
        GpuFacts *gpu = reading->gpu;
        gpu_identity_read(reading->sysfs, gpu->address, &gpu->identity);
        int r = read_driver(reading->sysfs, reading->address, &gpu->driver);
        if (r >= 0 && !gpu->identity.slot[0])
                r = text_set(&gpu->unreadable, "slot path");
        if (r >= 0)
                r = read_names(reading, reading->address, &gpu->vendor_name, &gpu->device_name);
        return r;
}

static int read_bridges(const Reading *reading) {
        PciAddress bridges[PCI_BRIDGES_MAX];
        size_t n = bridges_from_path(reading->gpu->sysfs_path, bridges, PCI_BRIDGES_MAX);
        if (n == 0)
                return 0;

        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(bridges[0], text);
        int r = text_set(&reading->gpu->parent, text);
        /* A switch is an upstream port below a root port, with downstream ports below it: with three bridges above,
         * the second nearest is the upstream port of the nearest switch. The cards of AMD and Intel are switches
         * themselves, with a downstream port of the GPU's own maker, and share that with no other GPU:
         *
         *      root port ─ [ upstream ─ downstream ] ─ [ upstream ─ downstream ] ─ GPU
         *                    the host's switch           the card's own
         */
        uint16_t maker = reading->gpu->identity.vendor;
        size_t own = n >= 3 && maker != 0 && ID_AT(reading->sysfs, text, "vendor") == maker ? 2 : 0;
        if (r < 0 || n < own + 3)
                return r;
        pci_address_to_text(bridges[own + 1], text);
        return text_set(&reading->gpu->switch_address, text);
}

static void read_bars(const Reading *reading) {
        char text[SYSFS_TEXT_MAX];
        if (sysfs_read_text(reading->sysfs, text, sizeof(text), DEVICE "resource", reading->address) < 0)
                return;

        char *rest = text;
        for (size_t i = 0; i < PCI_BARS; i++) {
                const char *line = strsep(&rest, "\n");
                uint64_t start, end, flags;
                char extra;
                if (!line || sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64 "%c", &start, &end, &flags, &extra) != 3)
                        continue;
                /* A region up to the very end of the address space is what is left of one that nobody could size. */
                if (!(flags & RESOURCE_MEMORY) || end <= start || end == UINT64_MAX)
                        continue;
                reading->gpu->bars[i] = (GpuBar) {
                        .start = start,
                        .size = end - start + 1,
                        .prefetchable_64 = (flags & RESOURCE_PREFETCH) && (flags & RESOURCE_MEMORY_64),
                        .unassigned = flags & RESOURCE_UNSET,
                };
        }
}

static int32_t read_group(const Sysfs *sysfs, const char *address) {
        char name[NAME_MAX + 1];
        uint64_t group;
        if (sysfs_read_link_name(sysfs, name, DEVICE "iommu_group", address) < 0 || text_to_u64(name, 10, &group) < 0 ||
            group > INT32_MAX)
                return -1;

        /* VFIO's no-IOMMU mode makes groups that isolate nothing, and names them so. */
        char kind[64];
        if (sysfs_read_text(sysfs, kind, sizeof(kind), "sys/kernel/iommu_groups/%" PRIu64 "/name", group) > 0 &&
            text_equal(kind, "vfio-noiommu"))
                return -1;
        return (int32_t) group;
}

/* Intel's IOMMUs tell what they can: bits 21 to 16 are the highest address bit that they translate. AMD's translate all
 * 64, and others say nothing here. */
static uint32_t read_iommu_address_bits(const Reading *reading) {
        char text[32];
        uint64_t capabilities;
        if (sysfs_read_text(reading->sysfs, text, sizeof(text), DEVICE "iommu/intel-iommu/cap", reading->address) < 0 ||
            text_to_u64(text, 16, &capabilities) < 0)
                return 0;
        return (uint32_t) (capabilities >> 16 & 63) + 1;
}

static int add_words(char *words, TextList *list) {
        char *word;
        while ((word = strsep(&words, " \n"))) {
                if (!*word)
                        continue;
                int r = text_list_add(list, word);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Lines of "start end type"; only those of type direct are in the way (direct-relaxable is given up for VFIO). */
static int read_reserved_regions(const Reading *reading) {
        char text[SYSFS_TEXT_MAX];
        if (sysfs_read_text(reading->sysfs, text, sizeof(text), "sys/kernel/iommu_groups/%" PRIi32 "/reserved_regions",
                            reading->gpu->iommu_group) < 0)
                return 0;

        char *rest = text, *line;
        while ((line = strsep(&rest, "\n"))) {
                const char *type = strrchr(line, ' ');
                if (!type || !text_equal(type + 1, "direct"))
                        continue;
                int r = text_list_add(&reading->gpu->reserved_regions, line);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_same_card(PciAddress a, PciAddress b) {
        return a.domain == b.domain && a.bus == b.bus && a.device == b.device;
}

static void note_device(const Reading *reading, PciAddress address) {
        if (reading->sysfs->progress)
                reading->sysfs->progress->device = pci_address_pack(address);
}

static int add_function(const Reading *reading, PciAddress address) {
        GpuFacts *gpu = reading->gpu;
        note_device(reading, address);
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(address, text);
        /* Virtual functions share the slot and are counted by themselves. */
        if (pci_address_equal(address, gpu->address) || sysfs_exists(reading->sysfs, DEVICE "physfn", text))
                return 0;

        PciFunction function = { .address = address, .same_slot = is_same_card(address, gpu->address) };
        if (pci_class_read(reading->sysfs, address, &function.class) == -ENOENT)
                return 0;
        function.other_group = read_group(reading->sysfs, text) != gpu->iommu_group;
        function.vendor = ID_AT(reading->sysfs, text, "vendor");
        function.device = ID_AT(reading->sysfs, text, "device");

        _cleanup_free_ char *vendor = NULL, *name = NULL;
        int r = read_driver(reading->sysfs, text, &function.driver);
        if (r >= 0)
                r = read_names(reading, text, &vendor, &name);
        if (r >= 0 && (vendor || name))
                r = text_printf(&function.description, "%s%s%s", vendor ? vendor : "", vendor && name ? " " : "",
                                name ? name : "");
        int added = gpu_facts_add_function(gpu, function);
        return r < 0 ? r : added;
}

static int read_functions(const Reading *reading) {
        for (uint8_t function = 0; function < 8; function++) {
                PciAddress address = reading->gpu->address;
                address.function = function;
                int r = add_function(reading, address);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_group_members(const Reading *reading) {
        TextList names = {};
        int r = unless_no_memory(sysfs_list(reading->sysfs, &names, "sys/kernel/iommu_groups/%" PRIi32 "/devices",
                                            reading->gpu->iommu_group));
        for (size_t i = 0; i < names.n && r >= 0; i++) {
                PciAddress address;
                if (pci_address_from_text(names.items[i], &address) >= 0)
                        r = add_function(reading, address);
        }
        text_list_clear(&names);
        return r;
}

static int read_isolation(const Reading *reading) {
        GpuFacts *gpu = reading->gpu;
        gpu->iommu_group = read_group(reading->sysfs, reading->address);
        gpu->iommu_address_bits = read_iommu_address_bits(reading);
        int r = read_functions(reading);
        if (r < 0 || gpu->iommu_group < 0)
                return r;

        r = unless_no_memory(sysfs_read_string(reading->sysfs, &gpu->iommu_group_type,
                                               "sys/kernel/iommu_groups/%" PRIi32 "/type", gpu->iommu_group));
        if (r >= 0)
                r = read_reserved_regions(reading);
        if (r >= 0)
                r = read_group_members(reading);
        return r;
}

static int read_reset(const Reading *reading) {
        char words[256];
        reading->gpu->has_reset = sysfs_exists(reading->sysfs, DEVICE "reset", reading->address);
        if (sysfs_read_text(reading->sysfs, words, sizeof(words), DEVICE "reset_method", reading->address) < 0)
                return 0;
        reading->gpu->reset_methods_known = true;
        return add_words(words, &reading->gpu->reset_methods);
}

static int read_link_state(const Reading *reading) {
        GpuFacts *gpu = reading->gpu;
        gpu->link_width = NUMBER_OF(reading, "current_link_width", 0);
        gpu->link_width_max = NUMBER_OF(reading, "max_link_width", 0);
        int r = STRING_OF(reading, "current_link_speed", &gpu->link_speed);
        return r < 0 ? r : STRING_OF(reading, "max_link_speed", &gpu->link_speed_max);
}

static int read_power(const Reading *reading) {
        GpuFacts *gpu = reading->gpu;
        _cleanup_free_ char *status = NULL;
        int r = STRING_OF(reading, "power_state", &gpu->power_state);
        if (r >= 0)
                r = STRING_OF(reading, "power/runtime_status", &status);
        if (r < 0)
                return r;
        gpu->runtime_error = text_equal(status, "error");

        /* Reading configuration space would wake a sleeping device, each time anew. */
        if (text_equal(status, "suspended") || text_equal(status, "suspending") || gpu->runtime_error)
                return 0;
        uint8_t header[PCI_CONFIG_HEADER_SIZE];
        ssize_t n = sysfs_read_bytes(reading->sysfs, header, sizeof(header), DEVICE "config", reading->address);
        if (n < 4)
                return 0;
        PciConfig config;
        pci_config_parse(header, (size_t) n, &config);
        gpu->config = config.all_ones ? CONFIG_ALL_ONES : CONFIG_READABLE;
        return 0;
}

static int count_beginning(const TextList *names, const char *beginning) {
        int n = 0;
        for (size_t i = 0; i < names->n; i++)
                n += strncmp(names->items[i], beginning, strlen(beginning)) == 0;
        return n;
}

/* Counted by their links: `sriov_numvfs` waits for the device's lock. */
static int read_virtual_functions(const Reading *reading) {
        TextList names = {};
        int r = unless_no_memory(sysfs_list(reading->sysfs, &names, "sys/bus/pci/devices/%s", reading->address));
        reading->gpu->sriov_vfs = (uint32_t) count_beginning(&names, "virtfn");
        reading->gpu->is_virtual_function = text_list_has(&names, "physfn");
        text_list_clear(&names);
        return r;
}

static int read_mediated_devices(const Reading *reading) {
        TextList names = {};
        int r = unless_no_memory(sysfs_list(reading->sysfs, &names, "sys/bus/mdev/devices"));
        for (size_t i = 0; i < names.n && !reading->gpu->mdev_in_use; i++) {
                char target[PATH_MAX];
                const char *found;
                if (sysfs_read_link(reading->sysfs, target, "sys/bus/mdev/devices/%s", names.items[i]) >= 0 &&
                    (found = strstr(target, reading->address)) && found[strlen(reading->address)] == '/')
                        reading->gpu->mdev_in_use = true;
        }
        text_list_clear(&names);
        return r;
}

static void make_upper(char *text) {
        for (; *text; text++)
                *text = (char) toupper((unsigned char) *text);
}

/* Named by the database, or by its ids: what a device calls itself waits for the device's lock. */
static int name_usb_device(const Reading *reading, const char *name, char **ret) {
        char vendor[8], product[8], modalias[32];
        if (sysfs_read_text(reading->sysfs, vendor, sizeof(vendor), "sys/bus/usb/devices/%s/idVendor", name) <= 0 ||
            sysfs_read_text(reading->sysfs, product, sizeof(product), "sys/bus/usb/devices/%s/idProduct", name) <= 0)
                return 0;
        _cleanup_free_ char *maker = NULL, *model = NULL;
        (void) snprintf(modalias, sizeof(modalias), "usb:v%sp%s", vendor, product);
        make_upper(modalias + strlen("usb:v"));
        modalias[strlen("usb:v") + strlen(vendor)] = 'p';
        int r = reading->names ? name_database_find(reading->names, modalias, &maker, &model) : 0;
        if (r < 0)
                return r;
        if (!maker && !model)
                return text_printf(ret, "%s:%s", vendor, product);
        return text_printf(ret, "%s%s%s", maker ? maker : "", maker && model ? " " : "", model ? model : "");
}

static int add_usb_device(const Reading *reading, const char *name) {
        char text[USB_DEVICE_TEXT_SIZE];
        _cleanup_free_ char *what = NULL;
        int r = name_usb_device(reading, name, &what);
        if (r < 0)
                return r;
        usb_device_to_text(name, what, text);
        return text_list_add(&reading->gpu->usb_devices, text);
}

static bool usb_device_goes_along(const GpuFacts *gpu, const char *name, const char *target) {
        for (size_t i = 0; i < gpu->n_functions; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(gpu->functions[i].address, address);
                if (pci_function_goes_along(&gpu->functions[i]) && usb_device_is_on(name, target, address))
                        return true;
        }
        return false;
}

static int read_usb_devices(const Reading *reading) {
        bool any = false;
        for (size_t i = 0; i < reading->gpu->n_functions; i++)
                any |= reading->gpu->functions[i].class >> 8 == CLASS_USB &&
                       pci_function_goes_along(&reading->gpu->functions[i]);
        if (!any)
                return 0;

        TextList names = {};
        int r = unless_no_memory(sysfs_list(reading->sysfs, &names, "sys/bus/usb/devices"));
        for (size_t i = 0; i < names.n && r >= 0; i++) {
                char target[PATH_MAX];
                if (sysfs_read_link(reading->sysfs, target, "sys/bus/usb/devices/%s", names.items[i]) >= 0 &&
                    usb_device_goes_along(reading->gpu, names.items[i], target))
                        r = add_usb_device(reading, names.items[i]);
        }
        text_list_clear(&names);
        return r;
}

static bool read_nvidia_information(const Reading *reading, char ret[static SYSFS_TEXT_MAX]) {
        return sysfs_read_text(reading->sysfs, ret, SYSFS_TEXT_MAX, "proc/driver/nvidia/gpus/%s/information",
                               reading->address) >= 0;
}

/* What AMD's and NVIDIA's drivers tell of the card. No verdict needs it, so that it cannot be read is no failure. */
static int read_card(const Reading *reading) {
        Sysfs sysfs = { .root = reading->sysfs->root, .progress = reading->sysfs->progress };
        Reading quiet = *reading;
        GpuFacts *gpu = reading->gpu;
        char text[SYSFS_TEXT_MAX];
        quiet.sysfs = &sysfs;
        if (sysfs_read_number(&sysfs, &gpu->vram_bytes, DEVICE "mem_info_vram_total", reading->address) < 0)
                gpu->vram_bytes = 0;
        int r = STRING_OF(&quiet, "vbios_version", &gpu->vbios);
        if (r < 0 || gpu->vbios || !read_nvidia_information(&quiet, text))
                return r;

        static const char key[] = "Video BIOS:";
        char *line = strstr(text, key);
        if (!line)
                return 0;
        line += strlen(key);
        line += strspn(line, " \t");
        line[strcspn(line, "\n")] = '\0';
        /* "??.??.??.??.??" until somebody uses the card. */
        return *line && !strchr(line, '?') ? text_set(&gpu->vbios, line) : 0;
}

/* NVIDIA's driver tells the minor number of its GPUs, and shows a folder for each MIG instance. */
static int read_mig(const Reading *reading) {
        char text[SYSFS_TEXT_MAX];
        if (!read_nvidia_information(reading, text))
                return 0;
        const char *line = strstr(text, "Device Minor:");
        unsigned minor;
        if (!line || sscanf(line, "Device Minor: %u", &minor) != 1)
                return 0;

        TextList names = {};
        int r = unless_no_memory(sysfs_list(reading->sysfs, &names, "proc/driver/nvidia/capabilities/gpu%u/mig",
                                            minor));
        reading->gpu->mig_enabled = count_beginning(&names, "gi") > 0;
        text_list_clear(&names);
        return r;
}

static int read_uses(const Reading *reading) {
        reading->gpu->boot_vga = NUMBER_OF(reading, "boot_vga", 0) == 1;
        int r = read_virtual_functions(reading);
        if (r >= 0)
                r = read_mediated_devices(reading);
        if (r >= 0)
                r = read_mig(reading);
        if (r >= 0)
                r = read_usb_devices(reading);
        return r;
}

static int read_gpu(const Reading *reading, DeviceReading *ret) {
        static int (*const parts[])(const Reading *) = {
                read_identity, read_bridges, read_isolation, read_reset, read_link_state, read_uses, read_card,
                read_power,
        };
        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                note_device(reading, reading->gpu->address);
                int r = parts[i](reading);
                if (r < 0)
                        return r;
        }
        read_bars(reading);
        uint32_t node = NUMBER_OF(reading, "numa_node", UINT32_MAX);
        reading->gpu->numa_node = node <= INT32_MAX ? (int32_t) node : -1;

        uint64_t hive;
        if (sysfs_read_number(reading->sysfs, &hive, DEVICE "xgmi_hive_info/xgmi_hive_id", reading->address) >= 0)
                ret->hive = hive;
        return 0;
}

int gpu_read(const Sysfs *sysfs, NameDatabase *names, PciAddress address, DeviceReading *ret) {
        DeviceReading device = { .address = address, .facts.address = address, .iommu_group = -1 };
        const char *failed = NULL;
        Sysfs watched = { .root = sysfs->root, .progress = sysfs->progress, .failed = &failed };
        Reading reading = { .sysfs = &watched, .names = names, .gpu = &device.facts };
        pci_address_to_text(address, reading.address);
        note_device(&reading, address);

        int r = read_path(&watched, reading.address, &device.facts.sysfs_path);
        device.present = r >= 0;
        if (r == -ENOENT)
                r = 0;
        if (device.present && pci_class_read(&watched, address, &device.facts.class) >= 0) {
                device.class_known = true;
                device.is_gpu = pci_class_is_gpu(device.facts.class);
                device.iommu_group = read_group(&watched, reading.address);
        }
        if (device.is_gpu)
                r = read_gpu(&reading, &device);
        /* Gone while it was read: what was read of it is half of it. */
        if (r >= 0 && device.present && !sysfs_exists(&watched, "sys/bus/pci/devices/%s", reading.address))
                device.present = false;
        if (r >= 0 && failed)
                r = text_set(&device.facts.unreadable, failed);
        if (r < 0) {
                device_reading_clear(&device);
                return r;
        }
        *ret = device;
        return 0;
}
