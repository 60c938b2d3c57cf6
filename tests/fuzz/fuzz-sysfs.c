/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any contents of sysfs, /proc and the probe's answer: files of a tree with one GPU are overwritten one after another,
 * each by a byte that says which (its highest bit: it is taken away; the next: it is made huge), a size in two bytes,
 * low first, and so many bytes. What is read of such a host is within the bounds of facts, can be shown to people, told
 * to others, judged, and the GPU's slot and group never come from nowhere. */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/udev/gpu-reader.h"
#include "adapters/udev/host-reader.h"
#include "adapters/udev/probe-client.h"
#include "core/facts-codec.h"
#include "core/survey.h"
#include "util/array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDRESS "0000:41:00.0"
#define PLACE "sys/devices/pci0000:40/0000:40:01.0/" ADDRESS "/"
#define USB_ADDRESS "0000:41:00.2"
#define BESIDE "sys/devices/pci0000:40/0000:40:01.0/" USB_ADDRESS "/"
#define GROUP "sys/kernel/iommu_groups/42/"
#define HUGE_SIZE (8L * 1024 * 1024)

typedef enum Kind {
        KIND_FILE,
        KIND_LINK,              /* the bytes are where it points to */
        KIND_NAME,              /* the bytes are a name in that folder */
} Kind;

static const struct {
        const char *path;
        Kind kind;
        const char *usual;
} places[] = {
        { PLACE "class", KIND_FILE, "0x030200\n" },
        { PLACE "vendor", KIND_FILE, "0x10de\n" },
        { PLACE "device", KIND_FILE, "0x2331\n" },
        { PLACE "subsystem_vendor", KIND_FILE, "0x10de\n" },
        { PLACE "subsystem_device", KIND_FILE, "0x1626\n" },
        { PLACE "resource", KIND_FILE, "0x00002000a2000000 0x00002000a2ffffff 0x000000000014220c\n" },
        { PLACE "reset_method", KIND_FILE, "flr bus\n" },
        { PLACE "numa_node", KIND_FILE, "1\n" },
        { PLACE "boot_vga", KIND_FILE, "0\n" },
        { PLACE "config", KIND_FILE, "\xde\x10\x31\x23" },
        { PLACE "modalias", KIND_FILE, "pci:v000010DEd00002331sv000010DEsd00001626bc03sc02i00\n" },
        { PLACE "power_state", KIND_FILE, "D0\n" },
        { PLACE "power/runtime_status", KIND_FILE, "active\n" },
        { PLACE "current_link_width", KIND_FILE, "16\n" },
        { PLACE "max_link_width", KIND_FILE, "16\n" },
        { PLACE "current_link_speed", KIND_FILE, "16.0 GT/s PCIe\n" },
        { PLACE "max_link_speed", KIND_FILE, "32.0 GT/s PCIe\n" },
        { PLACE "mem_info_vram_total", KIND_FILE, "85899345920\n" },
        { PLACE "vbios_version", KIND_FILE, "96.00.74.00.01\n" },
        { PLACE "xgmi_hive_info/xgmi_hive_id", KIND_FILE, "0\n" },
        { PLACE "iommu/intel-iommu/cap", KIND_FILE, "d2078c106f0466\n" },
        { PLACE "driver", KIND_LINK, "../../../../bus/pci/drivers/nvidia" },
        { PLACE "iommu_group", KIND_LINK, "../../../../kernel/iommu_groups/42" },
        { PLACE, KIND_NAME, "virtfn0" },
        { "sys/bus/pci/devices/" ADDRESS, KIND_LINK, "../../../devices/pci0000:40/0000:40:01.0/" ADDRESS },
        { "sys/devices/pci0000:40/0000:40:01.0/vendor", KIND_FILE, "0x8086\n" },
        { GROUP "type", KIND_FILE, "DMA\n" },
        { GROUP "name", KIND_FILE, "\n" },
        { GROUP "reserved_regions", KIND_FILE, "0x00000000fee00000 0x00000000feefffff msi\n" },
        { GROUP "devices/", KIND_NAME, ADDRESS },
        { "sys/bus/mdev/devices/", KIND_NAME, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" },
        { "sys/class/iommu/", KIND_NAME, "dmar0" },
        { "sys/firmware/acpi/tables/", KIND_NAME, "DMAR" },
        { "sys/kernel/mm/hugepages/", KIND_NAME, "hugepages-2048kB" },
        { "sys/devices/system/node/has_memory", KIND_FILE, "0-1\n" },
        { "proc/driver/nvidia/gpus/" ADDRESS "/information", KIND_FILE,
          "Video BIOS: \t 96.00.74.00.01\nDevice Minor: \t 3\n" },
        { "proc/driver/nvidia/capabilities/gpu3/mig/", KIND_NAME, "config" },
        { "proc/cmdline", KIND_FILE, "quiet intel_iommu=on iommu=pt\n" },
        { "proc/cpuinfo", KIND_FILE,
          "model name\t: Intel(R) Xeon(R)\nflags\t\t: fpu\naddress sizes\t: 46 bits physical\n" },
        { "proc/meminfo", KIND_FILE, "MemTotal:       527990412 kB\nMemAvailable:   400000000 kB\n" },
        { "proc/interrupts", KIND_FILE, "  24:  0  IR-PCI-MSI-0000:00:01.0    0-edge      PCIe PME\n" },
        { "proc/sys/kernel/osrelease", KIND_FILE, "6.1.0-26-amd64\n" },
        { "proc/sys/kernel/random/boot_id", KIND_FILE, "c7a5fdbd-edaf-9455-926a-d65c16db1809\n" },
        { "sys/class/dmi/id/product_name", KIND_FILE, "PowerEdge\n" },
        { "lib/modules/6.1.0-26-amd64/modules.dep", KIND_FILE, "kernel/drivers/vfio/pci/vfio-pci.ko:\n" },
        { BESIDE "class", KIND_FILE, "0x0c0330\n" },
        { BESIDE "iommu_group", KIND_LINK, "../../../../kernel/iommu_groups/42" },
        { "sys/bus/pci/devices/" USB_ADDRESS, KIND_LINK, "../../../devices/pci0000:40/0000:40:01.0/" USB_ADDRESS },
        { "sys/bus/usb/devices/1-2", KIND_LINK, "../../../devices/pci0000:00/0000:00:14.0/usb1/1-2" },
        { BESIDE "usb1/1-2/idVendor", KIND_FILE, "0951\n" },
        { BESIDE "usb1/1-2/idProduct", KIND_FILE, "1666\n" },
};
/* No file: what the probe says. It keeps its number, which the corpus knows. */
#define PROBE_ANSWER 45U

static bool is_usual[ELEMENTS(places)];         /* as it was put; the last input did not touch it */
static char root[] = "/tmp/gpupool-fuzz-sysfs-XXXXXX";
static int root_fd = -1;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
        return remove(path);
}

static void remove_root(void) {
        (void) nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_parents(const char *path) {
        char part[PATH_MAX];
        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                (void) snprintf(part, sizeof(part), "%.*s", (int) (slash - path), path);
                (void) mkdirat(root_fd, part, 0755);
        }
}

static void write_file(const char *path, const void *bytes, size_t size, bool huge) {
        int fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return;         /* a name that the file system does not take */
        ssize_t written = write(fd, bytes, size);
        assert(written == (ssize_t) size);
        if (huge)
                (void) ftruncate(fd, HUGE_SIZE);
        (void) close(fd);
}

static void put(size_t which, const uint8_t *bytes, size_t size, bool huge) {
        const char *path = places[which].path;
        char text[PATH_MAX];
        switch (places[which].kind) {
        case KIND_FILE:
                write_file(path, bytes, size, huge);
                return;
        case KIND_LINK:
                if (size >= sizeof(text))
                        return;
                (void) snprintf(text, sizeof(text), "%.*s", (int) size, bytes);
                (void) unlinkat(root_fd, path, 0);
                (void) symlinkat(text, root_fd, path);
                return;
        case KIND_NAME:
                if (size == 0 || size > NAME_MAX || memchr(bytes, '/', size))
                        return;
                (void) snprintf(text, sizeof(text), "%s%.*s", path, (int) size, bytes);
                write_file(text, "", 0, huge);
                return;
        }
}

static void take_away(size_t which) {
        char text[PATH_MAX];
        (void) snprintf(text, sizeof(text), "%s%s", places[which].path,
                        places[which].kind == KIND_NAME ? places[which].usual : "");
        (void) unlinkat(root_fd, text, 0);
}

/* Names that an input brought into a folder must not be there for the next one. */
static void empty_folder(const char *path) {
        int fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *folder = fd < 0 ? NULL : fdopendir(fd);
        if (!folder)
                return;
        for (const struct dirent *entry; (entry = readdir(folder));) {
                bool known = entry->d_type == DT_DIR;
                char text[PATH_MAX];
                (void) snprintf(text, sizeof(text), "%s%s", path, entry->d_name);
                for (size_t i = 0; i < ELEMENTS(places) && !known; i++)
                        known = strcmp(places[i].path, text) == 0;
                if (!known)
                        (void) unlinkat(dirfd(folder), entry->d_name, 0);
        }
        (void) closedir(folder);
}

static void put_usual(void) {
        if (root_fd < 0) {
                assert(mkdtemp(root));
                root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
                assert(root_fd >= 0);
                (void) atexit(remove_root);
                for (size_t i = 0; i < ELEMENTS(places); i++)
                        make_parents(places[i].path);
        }
        for (size_t i = 0; i < ELEMENTS(places); i++) {
                if (is_usual[i])
                        continue;
                if (places[i].kind == KIND_NAME)
                        empty_folder(places[i].path);
                put(i, (const uint8_t *) places[i].usual, strlen(places[i].usual), false);
                is_usual[i] = true;
        }
}

/* ---- what must be true of whatever was read */

static void check_text(const char *text) {
        assert(!text || text_is_printable(text));
}

static void check_texts(const TextList *texts) {
        for (size_t i = 0; i < texts->n; i++)
                check_text(texts->items[i]);
}

static void check_gpu_texts(const GpuFacts *gpu) {
        const char *const texts[] = {
                gpu->identity.slot, gpu->identity.serial, gpu->sysfs_path, gpu->unreadable, gpu->vendor_name,
                gpu->device_name, gpu->vbios, gpu->driver, gpu->iommu_group_type, gpu->link_speed, gpu->link_speed_max,
                gpu->parent, gpu->switch_address, gpu->acs_missing_at, gpu->conventional_at, gpu->power_state,
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                check_text(texts[i]);
        check_texts(&gpu->reserved_regions);
        check_texts(&gpu->reset_methods);
        check_texts(&gpu->usb_devices);
        for (size_t i = 0; i < gpu->n_functions; i++) {
                check_text(gpu->functions[i].driver);
                check_text(gpu->functions[i].description);
        }
        for (size_t i = 0; i < gpu->n_holders; i++)
                check_text(gpu->holders[i].name);
}

static void check_survey(const NodeFacts *host, const GpuFacts *gpu) {
        _cleanup_(blockers_clear) Blockers blockers = {};
        int r = survey_gpu(host, gpu, &blockers);
        assert(r >= 0);
        for (size_t i = 0; i < blockers.n; i++) {
                assert(!text_is_empty(blockers.items[i].sentence) && !text_is_empty(blockers.items[i].remedy));
                check_text(blockers.items[i].sentence);
                check_text(blockers.items[i].remedy);
        }
        /* What could not be placed, or is no GPU of any maker, is given to nobody. */
        assert(blockers.n > 0 || (gpu->identity.slot[0] && gpu->identity.vendor != 0 && gpu->iommu_group >= 0));
}

/* What a node knows it can tell, and others take it. */
static void check_told(NodeFacts *host) {
        _cleanup_(gossip_freep) Gossip *gossip = NULL;
        NodeFacts back = {};
        unsigned skipped = 0;
        int r = gossip_new(&gossip, &host->node, 1);
        assert(r >= 0);
        r = facts_publish(gossip, host);
        assert(r >= 0);
        r = facts_collect(gossip, &host->node, &back, &skipped);
        assert(r == FACTS_WHOLE && skipped == 0);
        node_facts_clear(&back);
}

static void check_host_texts(const NodeFacts *host) {
        const char *const texts[] = { host->boot_id, host->kernel, host->cpu_model, host->virtualization };
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                check_text(texts[i]);
        check_texts(&host->boot_parameters);
}

static void take_probe(const char *text, size_t size, GpuFacts *gpu) {
        ProbeAnswer answer = {};
        int r = probe_answer_parse(text, size, &answer);
        if (r < 0)
                return;
        check_gpu_texts(&answer.facts);
        memcpy(gpu->identity.serial, answer.facts.identity.serial, sizeof(gpu->identity.serial));
        gpu->holders = answer.facts.holders;
        gpu->n_holders = answer.facts.n_holders;
        gpu->holders_known = answer.facts.holders_known;
        answer.facts.holders = NULL;
        answer.facts.n_holders = 0;
        probe_answer_clear(&answer);
}

static void read_all(const char *probe, size_t probe_size) {
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        _cleanup_(device_reading_clear) DeviceReading reading = {};
        NodeFacts host = {};
        PciAddress address;
        int r = pci_address_from_text(ADDRESS, &address);
        assert(r >= 0);
        r = sysfs_open(root, &sysfs);
        assert(r >= 0);

        r = host_read(&sysfs, &host);
        assert(r >= 0);
        check_host_texts(&host);
        host.node = (NodeId) { { 1 } };
        r = gpu_read(&sysfs, NULL, address, &reading);
        if (r >= 0 && reading.is_gpu) {
                reading.facts.identity.node = host.node;
                check_gpu_texts(&reading.facts);
                take_probe(probe, probe_size, &reading.facts);
                check_survey(&host, &reading.facts);
                host.gpus = &reading.facts;
                host.n_gpus = 1;
                check_told(&host);
                host.gpus = NULL;
                host.n_gpus = 0;
        } else
                assert(r != -ENOMEM);
        node_facts_clear(&host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *probe = "end\n";
        size_t probe_size = strlen(probe);
        put_usual();
        while (size >= 3) {
                size_t which = (data[0] & 63) % (ELEMENTS(places) + 1);
                size_t value_size = data[1] | (size_t) data[2] << 8;
                bool away = data[0] & 128, huge = data[0] & 64;
                data += 3;
                size -= 3;
                value_size = value_size < size ? value_size : size;
                if (which == PROBE_ANSWER) {
                        probe = (const char *) data;
                        probe_size = value_size;
                } else {
                        which -= which > PROBE_ANSWER;
                        is_usual[which] = false;
                        if (away)
                                take_away(which);
                        else
                                put(which, data, value_size, huge);
                }
                data += value_size;
                size -= value_size;
        }
        read_all(probe, probe_size);
        return 0;
}
