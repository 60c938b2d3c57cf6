/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The window above a PC guest's memory in which its devices' 64-bit regions lie.
 *
 *      0        2 GiB    4 GiB                       base = a multiple of the size        2^address bits
 *      ├─memory─┤  32 bit ├─ memory ─┤ to be plugged ┤ . . . ├──────── window ─────────┤ . . . │
 *
 * SeaBIOS makes it as large as it must be. OVMF takes 32 GiB, or from 2022 on an eighth of the addresses where it
 * trusts what the CPU says of their number; a larger one has to be asked for in opt/ovmf/X-PciMmio64Mb, and it never
 * gets smaller by that. libvirt refuses that name in <sysinfo type='fwcfg'>, so it goes by QEMU's command line. The
 * pcihole64 of libvirt tells neither of them anything.
 *
 * Nobody can go beyond the guest's addresses: QEMU gives 40 bits of them, unless it is told to pass the host's on. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/survey.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define OVMF_WINDOW (32 * GIB)
#define OVMF_WINDOW_MAX (16384 * GIB)   /* it takes no larger one */
#define OTHERS (GIB)                    /* for the regions of all other devices, which are small */
#define LOW_MEMORY (2 * GIB)            /* of a guest with more: the rest lies above 4 GiB */
#define ADDRESS_BITS_MAX 52U
#define SLOT_ALIGNMENT GIB              /* QEMU aligns what can be plugged later, each */

typedef struct Need {
        uint64_t least;                 /* without a gap between them */
        uint64_t ample;                 /* each port's window made a multiple of its largest region, as firmware does */
} Need;

static uint64_t add(uint64_t a, uint64_t b) {
        uint64_t sum;
        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t round_up(uint64_t value, uint64_t multiple) {
        uint64_t rest = value % multiple;
        return rest == 0 ? value : add(value, multiple - rest);
}

static uint64_t power_of_two(uint64_t value) {
        uint64_t power = 1;
        while (power < value && power <= UINT64_MAX / 4)
                power *= 2;
        return power;
}

static Need need_of(const DomainBuild *build) {
        Need need = { .least = OTHERS, .ample = OTHERS };
        for (size_t i = 0; i < build->n_gpus; i++) {
                const GpuBar *bars = build->gpus[i].bars;
                uint64_t sum = 0, largest = 0;
                for (size_t k = 0; bars && k < PCI_BARS; k++)
                        if (bars[k].prefetchable_64) {
                                sum = add(sum, bars[k].size);
                                largest = bars[k].size > largest ? bars[k].size : largest;
                        }
                if (largest == 0)
                        continue;
                need.least = add(need.least, sum);
                need.ample = add(need.ample, round_up(sum, largest));
        }
        return need;
}

/* "pc", "pc-i440fx-…", "pc-q35-…", "q35", or libvirt's default on x86. */
static bool machine_is_pc(const xmlNode *root) {
        const xmlNode *type = element_child(element_child(root, "os"), "type");
        const char *arch = type ? element_attribute(type, "arch") : NULL, *machine = domain_machine(root);
        if (arch && strcmp(arch, "x86_64") != 0)
                return false;
        return !machine || strcmp(machine, "pc") == 0 || strncmp(machine, "pc-", 3) == 0 || strstr(machine, "q35");
}

static bool firmware_is_uefi(const xmlNode *root) {
        const xmlNode *os = element_child(root, "os"), *loader = element_child(os, "loader");
        return os && (element_attribute_is(os, "firmware", "efi") ||
                      (loader && element_attribute_is(loader, "type", "pflash")));
}

/* Where memory ends, also what may be plugged later. A size that libvirt would not take is libvirt's to refuse. 0,
 * -EINVAL or -ENOMEM. */
static int find_end_of_memory(const xmlNode *root, uint64_t *ret) {
        uint64_t memory, most = 0;
        uint32_t slots = 0;
        int r = domain_read_memory(root, &memory);
        if (r < 0)
                return r == -ENOMEM ? r : -EINVAL;
        const xmlNode *node = element_child(root, "maxMemory");
        if (node) {
                _cleanup_(free_contentp) xmlChar *number = NULL;
                r = element_content(node, &number);
                if (r < 0)
                        return r;
                (void) domain_size_to_bytes((const char *) number, element_attribute(node, "unit"), &most);
                (void) element_attribute_u32(node, "slots", &slots);
        }
        uint64_t end = add(4 * GIB, memory > LOW_MEMORY ? memory - LOW_MEMORY : 0);
        if (most > memory)
                end = add(round_up(end, GIB), add(most - memory, slots * SLOT_ALIGNMENT));
        *ret = end;
        return 0;
}

/* How many bits a guest's address has, and whether it has that many only if we say so. */
typedef struct AddressBits {
        uint32_t bits;
        bool could_pass_hosts;          /* the XML leaves it open, and the host's can be passed on */
} AddressBits;

static AddressBits address_bits_of(const xmlNode *root, uint32_t host_bits) {
        const xmlNode *cpu = element_child(root, "cpu"), *most = element_child(cpu, "maxphysaddr");
        bool is_kvm = element_attribute_is(root, "type", "kvm");
        uint32_t bits = host_bits > 0 && host_bits <= ADDRESS_BITS_MAX ? host_bits : ADDRESS_BITS_MAX, said;
        if (most) {
                const char *number = element_attribute_is(most, "mode", "emulate") ? "bits" : "limit";
                if (element_attribute_u32(most, number, &said) < 0 || said == 0 || said > bits)
                        said = bits;
                return (AddressBits) { .bits = said };
        }
        if (is_kvm && cpu && (element_attribute_is(cpu, "mode", "host-passthrough") ||
                              element_attribute_is(cpu, "mode", "maximum")))
                return (AddressBits) { .bits = bits };
        return (AddressBits) { .bits = bits < ADDRESS_BITS_ASSUMED ? bits : ADDRESS_BITS_ASSUMED,
                               .could_pass_hosts = is_kvm && host_bits > ADDRESS_BITS_ASSUMED };
}

/* The size of a window that fits, or 0. */
static uint64_t find_window(Need need, uint64_t end_of_memory, uint32_t bits) {
        const uint64_t sizes[] = { power_of_two(need.ample), power_of_two(need.least) };
        for (size_t i = 0; i < 2; i++)
                if (add(round_up(end_of_memory, sizes[i]), sizes[i]) <= UINT64_C(1) << bits)
                        return sizes[i];
        return 0;
}

static bool asks_for_window(const xmlNode *root) {
        for (const xmlNode *node = element_walk(root, root); node; node = element_walk(node, root)) {
                const char *value = element_attribute(node, "value");
                if (value && node->ns && node->ns->href && strcmp((const char *) node->ns->href, QEMU_NAMESPACE) == 0 &&
                    strstr(value, "X-PciMmio64Mb"))
                        return true;
        }
        return false;
}

static xmlNode *find_command_line(xmlNode *root) {
        for (xmlNode *node = root->children; node; node = node->next)
                if (node->type == XML_ELEMENT_NODE && node->ns && node->ns->href &&
                    strcmp((const char *) node->ns->href, QEMU_NAMESPACE) == 0 &&
                    strcmp((const char *) node->name, "commandline") == 0)
                        return node;
        return NULL;
}

static xmlNode *add_command_line(xmlNode *root) {
        xmlNode *node = element_add(root, "commandline", NULL);
        xmlNs *ns = node ? xmlNewNs(node, (const xmlChar *) QEMU_NAMESPACE, (const xmlChar *) "qemu") : NULL;
        if (!ns)
                return NULL;
        xmlSetNs(node, ns);
        return node;
}

static int ask_ovmf(xmlNode *root, uint64_t window) {
        char value[64];
        snprintf(value, sizeof(value), "name=opt/ovmf/X-PciMmio64Mb,string=%" PRIu64, window / MIB);
        const char *const arguments[] = { "-fw_cfg", value };
        xmlNode *command_line = find_command_line(root);
        if (!command_line)
                command_line = add_command_line(root);
        for (size_t i = 0; command_line && i < 2; i++) {
                xmlNode *argument = xmlNewChild(command_line, command_line->ns, (const xmlChar *) "arg", NULL);
                if (element_set(argument, "value", arguments[i]) < 0)
                        return -ENOMEM;
        }
        return command_line ? 0 : -ENOMEM;
}

static int pass_hosts_bits(xmlNode *root) {
        xmlNode *cpu = element_child(root, "cpu");
        if (!cpu)
                cpu = element_add(root, "cpu", NULL);
        return element_set(element_add(cpu, "maxphysaddr", NULL), "mode", "passthrough");
}

static int refuse_window(const DomainBuild *build, Need need, AddressBits bits, uint32_t host_bits,
                         char **reterr_sentence) {
        uint64_t gib = (need.least - OTHERS + GIB - 1) / GIB;
        const char *remedy = host_bits > bits.bits ?
                "give it <cpu mode='host-passthrough'/> without less in <maxphysaddr>" :
                "give it fewer GPUs or less memory, or switch Resizable BAR off in the host's firmware setup";
        int r = text_printf(reterr_sentence,
                            "The memory regions of %zu GPU%s (%" PRIu64 " GiB) do not fit above the VM's memory in "
                            "addresses of %" PRIu32 " bits: %s.",
                            build->n_gpus, build->n_gpus == 1 ? "" : "s", gib, bits.bits, remedy);
        return r < 0 ? r : DOMAIN_BUILD_NO_WINDOW;
}

int domain_set_window(xmlNode *root, const DomainBuild *build, char **reterr_sentence) {
        Need need = need_of(build);
        if (need.ample <= OVMF_WINDOW || !machine_is_pc(root))
                return DOMAIN_BUILD_OK;
        uint64_t end;
        int r = find_end_of_memory(root, &end);
        if (r < 0)
                return r;

        AddressBits bits = address_bits_of(root, build->address_bits);
        uint64_t window = find_window(need, end, bits.bits);
        if (window == 0 && bits.could_pass_hosts) {
                bits.bits = build->address_bits < ADDRESS_BITS_MAX ? build->address_bits : ADDRESS_BITS_MAX;
                window = find_window(need, end, bits.bits);
                if (window > 0 && pass_hosts_bits(root) < 0)
                        return -ENOMEM;
        }
        if (window == 0)
                return refuse_window(build, need, bits, build->address_bits, reterr_sentence);
        if (!firmware_is_uefi(root) || asks_for_window(root) || window > OVMF_WINDOW_MAX)
                return DOMAIN_BUILD_OK;
        r = ask_ovmf(root, window);
        return r < 0 ? r : DOMAIN_BUILD_OK;
}
