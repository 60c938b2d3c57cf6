/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/domain-internal.h"
#include "core/names.h"

#define GUEST_SLOTS 32U                 /* of bus 0 */
#define GUEST_FUNCTIONS 8U              /* of a slot */
#define GUEST_BUS_MAX 255U

/* Where the GPUs' root ports stand on bus 0. libvirt gives out slots from below, and a guest numbers its buses in the
 * order of the ports' slots: so the devices that have no address in the XML keep their buses however many GPUs there
 * are, and each GPU has the same bus at every start. Above are the slots that QEMU's chipsets keep for themselves. */
#define PORT_SLOT_FIRST 0x10U
#define PORT_SLOT_LAST 0x17U

/* Every place in the guest that is taken: by the XML, then by the GPUs too. libvirt gives out the rest around them. */
typedef struct GuestPlaces {
        bool pcie;                      /* each GPU stands behind a root port of its own */
        uint32_t next_bus;              /* pcie: the next root port's index */
        uint8_t taken[GUEST_SLOTS];     /* of bus 0: a bit for each function */
        uint32_t n_ports;               /* ours */
} GuestPlaces;

typedef struct GuestPlace {
        uint32_t bus, slot;
} GuestPlace;

static int set_hex(xmlNode *node, const char *name, unsigned digits, uint32_t value) {
        char text[16];
        snprintf(text, sizeof(text), "0x%0*" PRIx32, (int) digits, value);
        return element_set(node, name, text);
}

static int set_address(xmlNode *address, uint32_t domain, uint32_t bus, uint32_t slot, uint32_t function) {
        int r = set_hex(address, "domain", 4, domain);
        if (r == 0)
                r = set_hex(address, "bus", 2, bus);
        if (r == 0)
                r = set_hex(address, "slot", 2, slot);
        return r == 0 ? set_hex(address, "function", 1, function) : r;
}

static int add_guest_address(xmlNode *device, GuestPlace place, uint32_t function, bool multifunction) {
        xmlNode *address = element_add(device, "address", NULL);
        int r = element_set(address, "type", "pci");
        if (r == 0)
                r = set_address(address, 0, place.bus, place.slot, function);
        return r == 0 && multifunction ? element_set(address, "multifunction", "on") : r;
}

static bool machine_is_pcie(const xmlNode *root) {
        const xmlNode *type = element_child(element_child(root, "os"), "type");
        const char *machine = domain_machine(root);
        if (machine)
                return strstr(machine, "q35") || strncmp(machine, "virt", 4) == 0;
        return type && (element_attribute_is(type, "arch", "aarch64") || element_attribute_is(type, "arch", "riscv64"));
}

static void take_bus(GuestPlaces *places, uint32_t bus) {
        if (bus >= places->next_bus && bus <= GUEST_BUS_MAX)
                places->next_bus = bus + 1;
}

static void take_address(GuestPlaces *places, const xmlNode *address) {
        uint32_t bus, slot, function;
        if (element_attribute_u32(address, "bus", &bus) < 0 || element_attribute_u32(address, "slot", &slot) < 0)
                return;
        take_bus(places, bus);
        if (bus != 0 || slot >= GUEST_SLOTS)
                return;
        if (element_attribute_u32(address, "function", &function) < 0 || function >= GUEST_FUNCTIONS)
                function = 0;
        places->taken[slot] |= (uint8_t) (1U << function);
}

static GuestPlaces find_guest_places(const xmlNode *root) {
        GuestPlaces places = { .pcie = machine_is_pcie(root), .next_bus = 1 };
        const xmlNode *devices = element_child(root, "devices");
        uint32_t n_unnumbered = 0;
        for (const xmlNode *node = devices ? element_walk(devices, devices) : NULL; node;
             node = element_walk(node, devices)) {
                uint32_t index;
                if (element_is(node, "controller") && element_attribute_is(node, "type", "pci")) {
                        if (!element_attribute(node, "index"))
                                n_unnumbered += !element_attribute_is(node, "model", "pcie-root"); /* that is 0 */
                        else if (element_attribute_u32(node, "index", &index) == 0)
                                take_bus(&places, index);
                } else if (element_is(node, "address") && element_attribute_is(node, "type", "pci") &&
                           !element_is(node->parent, "source"))
                        take_address(&places, node);
        }
        places.next_bus += n_unnumbered;
        return places;
}

/* Ports stand eight to a slot, as libvirt's own do; a slot where the XML has anything is left alone. */
static bool find_port_place(const GuestPlaces *places, GuestPlace *ret, uint32_t *ret_function) {
        uint32_t n = 0;
        for (uint32_t slot = PORT_SLOT_FIRST; slot <= PORT_SLOT_LAST; slot++) {
                if (places->taken[slot])
                        continue;
                if (places->n_ports < n + GUEST_FUNCTIONS) {
                        *ret = (GuestPlace) { .slot = slot };
                        *ret_function = places->n_ports - n;
                        return true;
                }
                n += GUEST_FUNCTIONS;
        }
        return false;
}

/* A port at @at, which opens the next bus: *ret is the first place on it. libvirt numbers a port's chassis like its
 * index. */
static int add_port(GuestPlaces *places, xmlNode *devices, const char *model, GuestPlace at, uint32_t function,
                    bool multifunction, GuestPlace *ret) {
        char index[16];
        snprintf(index, sizeof(index), "%" PRIu32, places->next_bus);
        xmlNode *controller = element_add(devices, "controller", NULL);
        int r = element_set(controller, "type", "pci");
        if (r == 0)
                r = element_set(controller, "index", index);
        if (r == 0)
                r = element_set(controller, "model", model);
        if (r == 0)
                r = add_guest_address(controller, at, function, multifunction);
        if (r < 0)
                return r;
        *ret = (GuestPlace) { .bus = places->next_bus++ };
        return 0;
}

/* True with a place behind a new root port, and @n_more buses left for what comes behind it; false: there is no room;
 * or -ENOMEM. */
static int add_root_port(GuestPlaces *places, xmlNode *devices, size_t n_more, GuestPlace *ret) {
        GuestPlace port;
        uint32_t function;
        if (places->next_bus + n_more > GUEST_BUS_MAX || !find_port_place(places, &port, &function))
                return false;
        int r = add_port(places, devices, "pcie-root-port", port, function, function == 0, ret);
        if (r < 0)
                return r;
        places->n_ports++;
        return true;
}

/* A conventional bus: libvirt gives out slots from below. */
static bool take_slot(GuestPlaces *places, GuestPlace *ret) {
        for (uint32_t slot = GUEST_SLOTS - 1; slot > 2; slot--)
                if (!places->taken[slot]) {
                        places->taken[slot] = UINT8_MAX;
                        *ret = (GuestPlace) { .slot = slot };
                        return true;
                }
        return false;
}

static int add_hostdev(xmlNode *devices, PciAddress host, const DomainWishes *wishes, xmlNode **ret) {
        xmlNode *hostdev = element_add(devices, "hostdev", NULL);
        int r = element_set(hostdev, "mode", "subsystem");
        if (r == 0)
                r = element_set(hostdev, "type", "pci");
        if (r == 0)
                r = element_set(hostdev, "managed", "no");
        if (r == 0)
                r = set_address(element_add(element_add(hostdev, "source", NULL), "address", NULL),
                                host.domain, host.bus, host.device, host.function);
        if (r == 0 && wishes->rom_off)
                r = element_set(element_add(hostdev, "rom", NULL), "bar", "off");
        *ret = hostdev;
        return r;
}

static bool is_one_card(const DomainGpu *gpu) {
        if (gpu->n_functions == 0 || gpu->n_functions > GUEST_FUNCTIONS)
                return false;
        for (size_t i = 0; i < gpu->n_functions; i++) {
                const PciAddress *a = &gpu->functions[i], *first = &gpu->functions[0];
                if (a->domain != first->domain || a->bus != first->bus || a->device != first->device ||
                    a->function >= GUEST_FUNCTIONS)
                        return false;
                if (i > 0 && a->function <= gpu->functions[i - 1].function)
                        return false;
        }
        return true;
}

static int refuse_place(const GuestPlaces *places, size_t n_gpus, char **reterr_sentence) {
        int r = places->pcie ?
                text_printf(reterr_sentence,
                            "The guest has no room for the root ports that its GPUs need, %zu: leave PCI slots 0x%x "
                            "to 0x%x of its bus 0 free, and as many controller indexes below %u.",
                            n_gpus, PORT_SLOT_FIRST, PORT_SLOT_LAST, GUEST_BUS_MAX + 1) :
                text_printf(reterr_sentence,
                            "The guest has no PCI slots left for its GPUs, %zu: give it machine='q35', where each GPU "
                            "has a port of its own, or take devices away.",
                            n_gpus);
        return r < 0 ? r : DOMAIN_BUILD_NO_PLACE;
}

/* The guest finds a card by its function 0, and drivers know the others by their numbers. */
static int add_card(xmlNode *devices, const DomainGpu *gpu, GuestPlace place, const DomainWishes *wishes) {
        xmlNode *hostdev;
        for (size_t i = 0; i < gpu->n_functions; i++) {
                uint32_t function = gpu->functions[0].function == 0 ? gpu->functions[i].function : (uint32_t) i;
                int r = add_hostdev(devices, gpu->functions[i], wishes, &hostdev);
                if (r == 0)
                        r = add_guest_address(hostdev, place, function, i == 0 && gpu->n_functions > 1);
                if (r < 0)
                        return r;
        }
        return 1;
}

/* 1: done, 0: there is no room; -EINVAL or -ENOMEM. */
static int add_gpu(xmlNode *devices, GuestPlaces *places, const DomainGpu *gpu, const DomainWishes *wishes) {
        if (!is_one_card(gpu))
                return -EINVAL;

        xmlNode *hostdev;
        if (!places->pcie && gpu->n_functions == 1) {
                int r = add_hostdev(devices, gpu->functions[0], wishes, &hostdev);      /* libvirt places it */
                return r < 0 ? r : 1;
        }
        GuestPlace place = {};
        int r = places->pcie ? add_root_port(places, devices, 0, &place) : take_slot(places, &place);
        return r > 0 ? add_card(devices, gpu, place, wishes) : r;
}

/* ---- a switch for those that share one of the host's, so that the guest sees who is close to whom
 *
 *      root port ── upstream port ─┬─ downstream port, slot 0 ── GPU
 *                                  └─ downstream port, slot 1 ── GPU
 */

static bool are_below_one_switch(const DomainGpu *a, const DomainGpu *b) {
        return a->host_switch && text_equal(a->host_switch, b->host_switch);
}

static size_t count_below_switch_of(const DomainBuild *build, size_t gpu) {
        size_t n = 0;
        for (size_t i = 0; i < build->n_gpus; i++)
                n += are_below_one_switch(build->gpus + gpu, build->gpus + i);
        return n;
}

static bool is_first_below_its_switch(const DomainBuild *build, size_t gpu) {
        for (size_t i = 0; i < gpu; i++)
                if (are_below_one_switch(build->gpus + gpu, build->gpus + i))
                        return false;
        return true;
}

/* All @n GPUs of the host's switch above the @first of them. 1: done, 0: there is no room; -EINVAL or -ENOMEM. */
static int add_switch(xmlNode *devices, GuestPlaces *places, const DomainBuild *build, size_t first, size_t n,
                      const DomainWishes *wishes) {
        GuestPlace above, below, place;
        int r = add_root_port(places, devices, n + 1, &above);
        if (r <= 0)
                return r;
        r = add_port(places, devices, "pcie-switch-upstream-port", above, 0, false, &below);
        for (size_t i = first; r >= 0 && i < build->n_gpus; i++) {
                const DomainGpu *gpu = build->gpus + i;
                if (!are_below_one_switch(build->gpus + first, gpu))
                        continue;
                if (!is_one_card(gpu))
                        return -EINVAL;
                r = add_port(places, devices, "pcie-switch-downstream-port", below, 0, false, &place);
                below.slot++;
                if (r >= 0)
                        r = add_card(devices, gpu, place, wishes);
        }
        return r < 0 ? r : 1;
}

/* The @i-th GPU, with those that share its switch where it is the first of several. As above. */
static int add_gpu_or_switch(xmlNode *devices, GuestPlaces *places, const DomainBuild *build, size_t i,
                             const DomainWishes *wishes) {
        size_t n = wishes->flat || !places->pcie ? 0 : count_below_switch_of(build, i);
        if (n < 2 || n > GUEST_SLOTS)
                return add_gpu(devices, places, build->gpus + i, wishes);
        return is_first_below_its_switch(build, i) ? add_switch(devices, places, build, i, n, wishes) : 1;
}

int domain_add_gpus(xmlNode *root, const DomainBuild *build, const DomainWishes *wishes, char **reterr_sentence) {
        if (build->n_gpus == 0)
                return DOMAIN_BUILD_OK;
        if (build->n_gpus > GPUS_PER_VM_MAX)
                return -EINVAL;

        xmlNode *devices = domain_devices(root);
        if (!devices)
                return -ENOMEM;
        GuestPlaces places = find_guest_places(root);
        for (size_t i = 0; i < build->n_gpus; i++) {
                int r = add_gpu_or_switch(devices, &places, build, i, wishes);
                if (r < 0)
                        return r;
                if (r == 0)
                        return refuse_place(&places, build->n_gpus, reterr_sentence);
        }
        return DOMAIN_BUILD_OK;
}
