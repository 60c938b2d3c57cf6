/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/host-reader.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/array.h"
#include "util/cleanup.h"

/* Enough for the first processor of cpuinfo, whose flags alone may take 3 KiB. */
#define CPUINFO_READ (16U * 1024U)
#define ARC_READ (16U * 1024U)
/* A list of all modules of a distribution's kernel is 0.7 MiB. */
#define MODULES_READ (4U * 1024U * 1024U)
/* Interrupts of a host with hundreds of CPUs: a line each, and a column per CPU. */
#define INTERRUPTS_READ (4U * 1024U * 1024U)

static int unless_no_memory(int r) {
        return r == -ENOMEM ? r : 0;
}

/* A file that is larger than what is shown anywhere; NUL-terminated. NULL with errno set where it cannot be read. */
static char *read_large(const Sysfs *sysfs, size_t size, const char *path) {
        _cleanup_free_ char *buffer = malloc(size);
        if (!buffer)
                return NULL;
        ssize_t n = sysfs_read_bytes(sysfs, buffer, size - 1, "%s", path);
        if (n < 0) {
                errno = (int) -n;
                return NULL;
        }
        buffer[n] = '\0';
        return STEAL(buffer);
}

/* The value of the first line "key ... : value". */
static int set_from_line(char **text, const char *lines, const char *key) {
        const char *line = strstr(lines, key);
        const char *colon = line ? strchr(line, ':') : NULL;
        if (!colon)
                return 0;
        colon += 1 + strspn(colon + 1, " \t");
        _cleanup_free_ char *value = strndup(colon, strcspn(colon, "\n"));
        if (!value)
                return -ENOMEM;
        text_make_printable(value, SIZE_MAX);
        return text_set(text, *value ? value : NULL);
}

static int read_kernel(const Sysfs *sysfs, NodeFacts *host) {
        int r = unless_no_memory(sysfs_read_string(sysfs, &host->kernel, "proc/sys/kernel/osrelease"));
        if (r < 0)
                return r;

        char uuid[64];
        uint8_t id[ID_SIZE];
        char text[ID_TEXT_SIZE];
        if (sysfs_read_text(sysfs, uuid, sizeof(uuid), "proc/sys/kernel/random/boot_id") < 0 ||
            id_from_text(uuid, id) < 0)
                return 0;
        id_to_text(id, text);
        return text_set(&host->boot_id, text);
}

/* What a virtual machine's firmware calls its maker, and systemd's name for it. */
static const char *virtualization_from_maker(const char *maker) {
        static const struct {
                const char *maker, *name;
        } makers[] = {
                { "KVM", "kvm" },               { "QEMU", "qemu" },             { "Amazon EC2", "amazon" },
                { "VMware", "vmware" },         { "VMW", "vmware" },            { "innotek GmbH", "oracle" },
                { "Oracle Corporation", "oracle" }, { "Xen", "xen" },           { "Bochs", "bochs" },
                { "Parallels", "parallels" },   { "BHYVE", "bhyve" },           { "Hyper-V", "microsoft" },
                { "Google Compute Engine", "google" }, { "OpenStack", "kvm" },
        };
        for (size_t i = 0; i < ELEMENTS(makers); i++)
                if (strncmp(maker, makers[i].maker, strlen(makers[i].maker)) == 0)
                        return makers[i].name;
        return NULL;
}

static const char *find_maker(const Sysfs *sysfs) {
        static const char *const files[] = { "product_name", "sys_vendor", "board_vendor", "bios_vendor" };
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                char text[128];
                if (sysfs_read_text(sysfs, text, sizeof(text), "sys/class/dmi/id/%s", files[i]) < 0)
                        continue;
                const char *name = virtualization_from_maker(text);
                if (name)
                        return name;
        }
        return NULL;
}

static int read_virtualization(const Sysfs *sysfs, const char *cpuinfo, NodeFacts *host) {
        char type[32];
        const char *name = NULL;
        const char *flags = cpuinfo ? strstr(cpuinfo, "\nflags") : NULL;
        bool says_hypervisor = flags && strstr(flags, " hypervisor");

        if (sysfs_read_text(sysfs, type, sizeof(type), "sys/hypervisor/type") > 0)
                name = "xen";
        else if (says_hypervisor || !flags)
                name = find_maker(sysfs);
        /* x86 tells by a flag; elsewhere a maker that is not known proves nothing. */
        if (!name && flags)
                name = says_hypervisor ? "vm-other" : "none";
        return text_set(&host->virtualization, name);
}

static int read_cpu(const Sysfs *sysfs, NodeFacts *host) {
        _cleanup_free_ char *cpuinfo = read_large(sysfs, CPUINFO_READ, "proc/cpuinfo");
        if (cpuinfo) {
                int r = set_from_line(&host->cpu_model, cpuinfo, "model name");
                if (r < 0)
                        return r;
                const char *sizes = strstr(cpuinfo, "address sizes");
                unsigned bits;
                if (sizes && sscanf(sizes, "address sizes%*[ \t]: %u bits physical", &bits) == 1 && bits <= 64)
                        host->address_bits = bits;
        }
        return read_virtualization(sysfs, cpuinfo, host);
}

static uint64_t kilobytes_of(const char *lines, const char *key) {
        const char *line = strstr(lines, key);
        uint64_t value;
        if (!line || sscanf(line + strlen(key), ": %" SCNu64 " kB", &value) != 1 || value > UINT64_MAX / 1024)
                return 0;
        return value * 1024;
}

/* "size                            4    17179869184" */
static uint64_t arc_number(const char *lines, const char *key) {
        char start[16];
        unsigned type;
        uint64_t value;
        (void) snprintf(start, sizeof(start), "\n%s ", key);
        const char *line = strstr(lines, start);
        return line && sscanf(line + strlen(start), " %u %" SCNu64, &type, &value) == 2 ? value : 0;
}

/* The cache of ZFS gives way like the kernel's own, and is not counted as available. */
static uint64_t read_arc(const Sysfs *sysfs) {
        _cleanup_free_ char *text = read_large(sysfs, ARC_READ, "proc/spl/kstat/zfs/arcstats");
        uint64_t size = text ? arc_number(text, "size") : 0, least = text ? arc_number(text, "c_min") : 0;
        return size > least ? size - least : 0;
}

static void read_memory(const Sysfs *sysfs, NodeFacts *host) {
        char text[SYSFS_TEXT_MAX];
        if (sysfs_read_text(sysfs, text, sizeof(text), "proc/meminfo") < 0)
                return;
        host->memory_total = kilobytes_of(text, "MemTotal");
        host->memory_free = kilobytes_of(text, "MemAvailable");
        host->hugepage_default_bytes = kilobytes_of(text, "Hugepagesize");
        uint64_t in_use = host->memory_total > host->memory_free ? host->memory_total - host->memory_free : 0;
        uint64_t arc = read_arc(sysfs);
        host->memory_free += arc < in_use ? arc : in_use;
}

static int compare_hugepages(const void *a, const void *b) {
        uint64_t x = ((const Hugepages *) a)->size_bytes, y = ((const Hugepages *) b)->size_bytes;
        return x < y ? -1 : x > y;
}

static bool has_hugepages(const NodeFacts *host, uint64_t size_bytes) {
        for (size_t i = 0; i < host->n_hugepages; i++)
                if (host->hugepages[i].size_bytes == size_bytes)
                        return true;
        return false;
}

static int read_hugepages(const Sysfs *sysfs, NodeFacts *host) {
        TextList names = {};
        size_t allocated = 0;
        int r = unless_no_memory(sysfs_list(sysfs, &names, "sys/kernel/mm/hugepages"));
        for (size_t i = 0; i < names.n && r >= 0; i++) {
                const char *name = names.items[i];
                uint64_t kilobytes;
                Hugepages pages;
                if (sscanf(name, "hugepages-%" SCNu64 "kB", &kilobytes) != 1 || kilobytes == 0 ||
                    kilobytes > UINT64_MAX / 1024 || has_hugepages(host, kilobytes * 1024))
                        continue;
                if (sysfs_read_number(sysfs, &pages.total, "sys/kernel/mm/hugepages/%s/nr_hugepages", name) < 0 ||
                    sysfs_read_number(sysfs, &pages.free, "sys/kernel/mm/hugepages/%s/free_hugepages", name) < 0)
                        continue;
                pages.size_bytes = kilobytes * 1024;
                r = array_insert_bytes(&host->hugepages, &host->n_hugepages, &allocated, host->n_hugepages, &pages,
                                       sizeof(pages));
        }
        text_list_clear(&names);
        if (host->n_hugepages > 1)
                qsort(host->hugepages, host->n_hugepages, sizeof(Hugepages), compare_hugepages);
        return r;
}

/* "0-1,4": which nodes have memory at this moment. A kernel without NUMA says nothing. Nodes above 63 are left out. */
static void read_memory_nodes(const Sysfs *sysfs, NodeFacts *host) {
        char text[256], *rest = text, *range;
        if (sysfs_read_text(sysfs, text, sizeof(text), "sys/devices/system/node/has_memory") < 0)
                return;
        while ((range = strsep(&rest, ","))) {
                unsigned first, last;
                int n = sscanf(range, "%u-%u", &first, &last);
                if (n == 1)
                        last = first;
                for (unsigned node = first; n > 0 && node <= last && node < 64; node++)
                        host->memory_nodes |= UINT64_C(1) << node;
        }
}

static int add_numa(NodeFacts *host, size_t *allocated, NumaMemory row) {
        return array_insert_bytes(&host->numa_memory, &host->n_numa_memory, allocated, host->n_numa_memory, &row,
                                  sizeof(row));
}

/* "Node 0 MemTotal:       65836284 kB" */
static uint64_t read_node_total(const Sysfs *sysfs, unsigned node) {
        char text[SYSFS_TEXT_MAX];
        if (sysfs_read_text(sysfs, text, sizeof(text), "sys/devices/system/node/node%u/meminfo", node) < 0)
                return 0;
        return kilobytes_of(text, "MemTotal");
}

static int read_node_memory(const Sysfs *sysfs, NodeFacts *host, size_t *allocated, unsigned node) {
        uint64_t total = read_node_total(sysfs, node);
        int r = total > 0 ? add_numa(host, allocated, (NumaMemory) { node, 0, total }) : 0;
        for (size_t i = 0; i < host->n_hugepages && r >= 0 && total > 0; i++) {
                uint64_t size = host->hugepages[i].size_bytes, pages;
                if (sysfs_read_number(sysfs, &pages, "sys/devices/system/node/node%u/hugepages/hugepages-%" PRIu64
                                      "kB/nr_hugepages", node, size / 1024) >= 0 && pages <= UINT64_MAX / size)
                        r = add_numa(host, allocated, (NumaMemory) { node, size, pages * size });
        }
        return r;
}

/* Where there is one node only it has what the host has. */
static int read_numa_memory(const Sysfs *sysfs, NodeFacts *host) {
        size_t allocated = 0;
        if ((host->memory_nodes & (host->memory_nodes - 1)) == 0)
                return 0;
        for (unsigned node = 0; node < NUMA_NODES_MAX && host->memory_nodes >> node; node++) {
                if (!(host->memory_nodes >> node & 1))
                        continue;
                int r = read_node_memory(sysfs, host, &allocated, node);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Which CPUs each node has, where the host keeps none apart (isolcpus): among those the kernel would not spread a VM's
 * threads, and who set them apart places VMs himself. */
static int read_node_cpus(const Sysfs *sysfs, NodeFacts *host) {
        char text[SYSFS_TEXT_MAX];
        if (sysfs_read_text(sysfs, text, sizeof(text), "sys/devices/system/cpu/isolated") > 0 &&
            text[strspn(text, " \n")])
                return 0;
        for (unsigned node = 0; node < 64 && host->memory_nodes >> node; node++) {
                bool there = host->memory_nodes >> node & 1 &&
                             sysfs_read_text(sysfs, text, sizeof(text), "sys/devices/system/node/node%u/cpulist",
                                             node) > 0;
                text[there ? strcspn(text, "\n") : 0] = '\0';
                int r = text_list_add(&host->node_cpus, text_is_printable(text) ? text : "");
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool folder_has(const Sysfs *sysfs, const char *path, const char *beginning) {
        TextList names = {};
        bool found = false;
        if (sysfs_list(sysfs, &names, "%s", path) >= 0)
                for (size_t i = 0; i < names.n && !found; i++)
                        found = strncmp(names.items[i], beginning, strlen(beginning)) == 0;
        text_list_clear(&names);
        return found;
}

/* Loaded, built in, or a module that libvirt's modprobe will find. A service that must not load modules may not be let
 * look at them either: then it is for libvirt to say that there is none, when a VM starts. */
static bool find_vfio(const Sysfs *sysfs, const char *kernel) {
        if (sysfs_exists(sysfs, "sys/bus/pci/drivers/vfio-pci"))
                return true;
        static const char *const lists[] = { "modules.dep", "modules.builtin" };
        for (size_t i = 0; kernel && i < ELEMENTS(lists); i++) {
                char path[PATH_MAX];
                int n = snprintf(path, sizeof(path), "lib/modules/%s/%s", kernel, lists[i]);
                if (n < 0 || (size_t) n >= sizeof(path))
                        return false;
                _cleanup_free_ char *modules = read_large(sysfs, MODULES_READ, path);
                if (modules ? !!strstr(modules, "/vfio-pci.ko") : errno != ENOENT)
                        return true;
        }
        return false;
}

/* Only of IOMMUs that Intel and AMD make; others isolate interrupts by their nature or say nothing of it. The kernel
 * names its interrupt chips "IR-..." where remapping is at work. */
static void read_interrupt_remapping(const Sysfs *sysfs, NodeFacts *host) {
        if (!folder_has(sysfs, "sys/class/iommu", "dmar") && !folder_has(sysfs, "sys/class/iommu", "ivhd"))
                return;
        _cleanup_free_ char *interrupts = read_large(sysfs, INTERRUPTS_READ, "proc/interrupts");
        if (!interrupts)
                return;
        host->interrupt_remapping = strstr(interrupts, " IR-");
        host->interrupt_remapping_known = host->interrupt_remapping || strstr(interrupts, "PCI-MSI");
}

/* Firmware describes its IOMMU in a table of ACPI that is there whether the kernel uses it or not. */
static FirmwareIommu find_firmware_iommu(const Sysfs *sysfs) {
        static const char folder[] = "sys/firmware/acpi/tables";
        static const char *const tables[] = { "DMAR", "IVRS", "IORT" };
        if (!folder_has(sysfs, folder, ""))
                return FIRMWARE_IOMMU_UNKNOWN;
        for (size_t i = 0; i < ELEMENTS(tables); i++)
                if (folder_has(sysfs, folder, tables[i]))
                        return FIRMWARE_IOMMU_PRESENT;
        return FIRMWARE_IOMMU_ABSENT;
}

/* Those of the command line that the survey knows what to say about. */
static int read_boot_parameters(const Sysfs *sysfs, NodeFacts *host) {
        static const char *const names[] = {
                "iommu", "intel_iommu", "amd_iommu", "intremap", "nointremap", "noapic", "pcie_acs_override",
        };
        char line[SYSFS_TEXT_MAX], *rest = line, *word;
        if (sysfs_read_text(sysfs, line, sizeof(line), "proc/cmdline") < 0)
                return 0;
        while ((word = strsep(&rest, " \n"))) {
                size_t length = strcspn(word, "=");
                bool known = false;
                for (size_t i = 0; i < ELEMENTS(names) && !known; i++)
                        known = strlen(names[i]) == length && strncmp(word, names[i], length) == 0;
                int r = known ? text_list_add(&host->boot_parameters, word) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static void read_isolation(const Sysfs *sysfs, NodeFacts *host) {
        /* Groups of VFIO's no-IOMMU mode are named so and are no sign of an IOMMU; gpu-reader.c knows them too. */
        host->iommu_present = folder_has(sysfs, "sys/class/iommu", "");
        TextList groups = {};
        if (!host->iommu_present)
                (void) sysfs_list(sysfs, &groups, "sys/kernel/iommu_groups");
        for (size_t i = 0; i < groups.n && !host->iommu_present; i++) {
                char kind[64] = "";
                (void) sysfs_read_text(sysfs, kind, sizeof(kind), "sys/kernel/iommu_groups/%s/name", groups.items[i]);
                host->iommu_present = !text_equal(kind, "vfio-noiommu");
        }
        text_list_clear(&groups);

        host->firmware_iommu = find_firmware_iommu(sysfs);
        host->vfio_present = find_vfio(sysfs, host->kernel);
        read_interrupt_remapping(sysfs, host);
}

/* Networks that a host has with its own guests: every host has the same address there. */
static bool is_for_guests(const char *interface) {
        static const char *const beginnings[] = { "virbr", "docker", "lxcbr", "lxdbr", "incusbr", "cni", "podman" };
        for (size_t i = 0; i < ELEMENTS(beginnings); i++)
                if (strncmp(interface, beginnings[i], strlen(beginnings[i])) == 0)
                        return true;
        return false;
}

/* The address by which others may reach this host over the interface, or false: loopback and link-local ones, and those
 * that only its guests see. */
static bool address_to_text(const struct ifaddrs *interface, char ret[static INET6_ADDRSTRLEN]) {
        const struct sockaddr *address = interface->ifa_addr;
        if (!address || !(interface->ifa_flags & IFF_UP) || (interface->ifa_flags & IFF_LOOPBACK) ||
            is_for_guests(interface->ifa_name))
                return false;
        if (address->sa_family == AF_INET)
                return inet_ntop(AF_INET, &((const struct sockaddr_in *) (const void *) address)->sin_addr, ret,
                                 INET6_ADDRSTRLEN);
        if (address->sa_family != AF_INET6)
                return false;
        const struct in6_addr *six = &((const struct sockaddr_in6 *) (const void *) address)->sin6_addr;
        return !IN6_IS_ADDR_LINKLOCAL(six) && inet_ntop(AF_INET6, six, ret, INET6_ADDRSTRLEN);
}

static int compare_texts(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int read_addresses(NodeFacts *host) {
        struct ifaddrs *interfaces;
        if (getifaddrs(&interfaces) < 0)
                return 0;

        int r = 0;
        for (const struct ifaddrs *i = interfaces; i && r >= 0; i = i->ifa_next) {
                char text[INET6_ADDRSTRLEN];
                if (address_to_text(i, text) && !text_list_has(&host->addresses, text))
                        r = text_list_add(&host->addresses, text);
        }
        freeifaddrs(interfaces);
        if (host->addresses.n > 1)
                qsort(host->addresses.items, host->addresses.n, sizeof(char *), compare_texts);
        return r;
}

int host_memory_now(NodeFacts *ret) {
        NodeFacts host = {};
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        int r = sysfs_open(NULL, &sysfs);
        if (r >= 0) {
                read_memory(&sysfs, &host);
                r = read_hugepages(&sysfs, &host);
        }
        if (r == -ENOMEM)
                node_facts_clear(&host);
        else
                *ret = host;
        return r == -ENOMEM ? r : 0;
}

int host_read(const Sysfs *sysfs, NodeFacts *ret) {
        NodeFacts host = {};
        int r = read_kernel(sysfs, &host);
        if (r >= 0)
                r = read_cpu(sysfs, &host);
        if (r >= 0)
                r = read_hugepages(sysfs, &host);
        if (r >= 0)
                r = read_boot_parameters(sysfs, &host);
        if (r >= 0)
                r = read_addresses(&host);
        if (r < 0) {
                node_facts_clear(&host);
                return r;
        }
        read_memory(sysfs, &host);
        read_memory_nodes(sysfs, &host);
        read_isolation(sysfs, &host);
        r = read_node_cpus(sysfs, &host);
        if (r >= 0)
                r = read_numa_memory(sysfs, &host);
        if (r < 0)
                node_facts_clear(&host);
        else
                *ret = host;
        return r < 0 ? r : 0;
}
