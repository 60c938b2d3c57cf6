/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/inventory.h"

#include <errno.h>

#include "core/fabric.h"
#include "util/cleanup.h"

static void watched_free(Watched *device) {
        gpu_facts_clear(&device->facts);
        gpu_facts_clear(&device->fresh);
        gpu_facts_clear(&device->probed);
        free(device->vendor_name);
        free(device->device_name);
        free(device->vbios);
        free(device);
}

void inventory_clear(Inventory *inventory) {
        ARRAY_EACH(device, &inventory->devices)
                watched_free(*device);
        array_clear(&inventory->devices);
}

static int compare_address(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, (*(Watched *const *) item)->address);
}

Watched *inventory_find(const Inventory *inventory, PciAddress address) {
        size_t at;
        return array_find(&inventory->devices, &address, compare_address, &at) ? inventory->devices.items[at] : NULL;
}

int inventory_add(Inventory *inventory, PciAddress address, Watched **ret) {
        size_t at;
        if (array_find(&inventory->devices, &address, compare_address, &at)) {
                *ret = inventory->devices.items[at];
                return 0;
        }
        Watched *device = calloc(1, sizeof(Watched));
        if (!device)
                return -ENOMEM;
        device->address = address;
        device->ask_probe = true;
        int r = array_insert(&inventory->devices, at, &device);
        if (r < 0) {
                watched_free(device);
                return r;
        }
        *ret = device;
        return 0;
}

bool watched_relates(const Watched *device, PciAddress address, int32_t group) {
        PciAddress card = device->address;
        if (address.domain == card.domain && address.bus == card.bus && address.device == card.device)
                return true;
        if (!device->known)
                return false;
        if (group >= 0 && device->facts.iommu_group == group)
                return true;
        for (size_t i = 0; i < device->facts.n_functions; i++)
                if (pci_address_equal(device->facts.functions[i].address, address))
                        return true;
        return false;
}

static void set_facts(Watched *device, GpuFacts *facts) {
        if (device->known && gpu_facts_equal(&device->facts, facts)) {
                /* Who asked for a look wants to know, too, that all is as it was. */
                device->changed = device->changed || device->refresh_asked;
                device->facts.read_us = facts->read_us;
                device->facts.holders_us = facts->holders_us;
                gpu_facts_clear(facts);
                return;
        }
        gpu_facts_clear(&device->facts);
        device->facts = *facts;
        *facts = (GpuFacts) {};
        device->known = device->changed = true;
}

int watched_set_unreadable(Watched *device, const char *what) {
        GpuFacts facts = {
                .identity = device->scanned.identity,
                .address = device->address,
                .class = device->scanned.class,
                .iommu_group = -1,
                .numa_node = -1,
        };
        int r = device->known ? gpu_facts_copy(&device->facts, &facts) : 0;
        if (r >= 0)
                r = text_set(&facts.unreadable, what);
        if (r < 0) {
                gpu_facts_clear(&facts);
                return r;
        }
        set_facts(device, &facts);
        return 0;
}

/* What only the host's driver tells of the card stays true when a VM has it. */
static int keep_card(Watched *device, GpuFacts *fresh) {
        if (fresh->vram_bytes != 0)
                device->vram_bytes = fresh->vram_bytes;
        fresh->vram_bytes = device->vram_bytes;
        return fresh->vbios ? text_set(&device->vbios, fresh->vbios) : text_set(&fresh->vbios, device->vbios);
}

static int copy_holders(const GpuFacts *from, GpuFacts *to) {
        for (size_t i = 0; i < from->n_holders; i++) {
                GpuHolder holder = from->holders[i];
                holder.name = NULL;
                int r = text_set(&holder.name, from->holders[i].name);
                if (r >= 0)
                        r = gpu_facts_add_holder(to, holder);
                if (r < 0)
                        return r;
        }
        to->holders_known = from->holders_known;
        to->holders_us = from->holders_us;
        return 0;
}

int watched_merge(Watched *device) {
        GpuFacts *fresh = &device->fresh;
        const GpuFacts *probed = &device->probed;
        int r = copy_holders(probed, fresh);
        if (r >= 0)
                r = keep_card(device, fresh);
        if (r >= 0)
                r = text_set(&fresh->acs_missing_at, probed->acs_missing_at);
        if (r >= 0)
                r = text_set(&fresh->conventional_at, probed->conventional_at);
        if (r < 0)
                return r;
        if (!fresh->vendor_name)
                r = text_set(&fresh->vendor_name, device->vendor_name);
        if (r >= 0 && !fresh->device_name)
                r = text_set(&fresh->device_name, device->device_name);
        if (r < 0)
                return r;
        fresh->acs_missing = probed->acs_missing;
        fresh->kind = probed->kind;
        fresh->interrupts = probed->interrupts;
        memcpy(fresh->identity.serial, probed->identity.serial, GPU_SERIAL_SIZE);
        /* Siblings are worked out over all GPUs; until then the old ones stand. */
        r = device->known ? text_list_copy(&device->facts.siblings, &fresh->siblings) : 0;
        if (r < 0)
                return r;
        set_facts(device, fresh);
        return 0;
}

void watched_set_gone(Watched *device) {
        device->gone = true;
        device->due_us = 0;
        device->asking = false;
        device->reading_is_old = device->reading;
        device->ask_probe = true;
        GpuIdentity place = { .node = device->scanned.identity.node, .address = device->address };
        device->scanned = (ScannedGpu) { .identity = place };
        device->hive = device->vram_bytes = 0;
        (void) text_set(&device->vbios, NULL);
        (void) text_set(&device->vendor_name, NULL);
        (void) text_set(&device->device_name, NULL);
        gpu_facts_clear(&device->fresh);
        gpu_facts_clear(&device->probed);
}

void watched_come_back(Watched *device) {
        device->known = device->known && !device->gone;
        device->gone = false;
}

void inventory_tidy(Inventory *inventory) {
        for (size_t i = inventory->devices.n; i > 0; i--) {
                Watched *device = inventory->devices.items[i - 1];
                /* One that is being read stays, so that what comes of it is known to be about the old one. */
                if (!device->gone || device->reading || device->published)
                        continue;
                array_remove(&inventory->devices, i - 1);
                watched_free(device);
        }
}

static bool is_shown(const Watched *device) {
        return device->known && !device->gone;
}

/* GPUs of one hive, and the modules of a board with switches, which are all alike, belong together: each lists the
 * others. */
static bool are_linked(const Inventory *inventory, const Watched *a, const Watched *b) {
        if (a->hive != 0 && a->hive == b->hive)
                return true;
        return inventory->has_nvswitch && fabric_is_module(&a->facts) && fabric_is_module(&b->facts) &&
               a->facts.identity.device == b->facts.identity.device;
}

static int find_siblings(const Inventory *inventory, const Watched *device, TextList *ret) {
        ARRAY_EACH(other, &inventory->devices) {
                if (*other == device || !is_shown(*other) || !are_linked(inventory, device, *other))
                        continue;
                char text[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text((*other)->address, text);
                int r = text_list_add(ret, text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_siblings(const Inventory *inventory, Watched *device) {
        TextList siblings = {};
        int r = find_siblings(inventory, device, &siblings);
        if (r < 0 || text_list_equal(&siblings, &device->facts.siblings)) {
                text_list_clear(&siblings);
                return r;
        }
        text_list_clear(&device->facts.siblings);
        device->facts.siblings = siblings;
        device->changed = true;
        return 0;
}

int inventory_has_news(Inventory *inventory, bool *ret) {
        bool news = false;
        ARRAY_EACH(device, &inventory->devices) {
                int r = is_shown(*device) ? set_siblings(inventory, *device) : 0;
                if (r < 0)
                        return r;
                news = news || is_shown(*device) != (*device)->published || (is_shown(*device) && (*device)->changed);
        }
        *ret = news;
        return 0;
}

int inventory_publish(Inventory *inventory, GpuFacts **ret, size_t *ret_n) {
        GpuFacts *rows = calloc(inventory->devices.n + 1, sizeof(GpuFacts));
        if (!rows)
                return -ENOMEM;

        size_t n = 0;
        ARRAY_EACH(device, &inventory->devices) {
                (*device)->published = is_shown(*device);
                (*device)->changed = false;
        }
        inventory_tidy(inventory);
        ARRAY_EACH(device, &inventory->devices)
                if ((*device)->published)
                        rows[n++] = (*device)->facts;
        *ret = rows;
        *ret_n = n;
        return 0;
}
