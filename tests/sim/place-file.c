/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "place-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/describe.h"
#include "core/roster.h"
#include "placement/rules.h"

#define PIECE_SIZE 65536U

/* A file of any kind, as far as @most + 1 bytes. */
static int read_stream(FILE *from, size_t most, char **ret, size_t *ret_size) {
        ARRAY(char) text = {};
        for (size_t n = 1; n > 0 && text.n <= most; text.n += n) {
                if (array_reserve(&text.items, &text.allocated, text.n + PIECE_SIZE + 1, 1) < 0) {
                        array_clear(&text);
                        return -ENOMEM;
                }
                n = fread(text.items + text.n, 1, PIECE_SIZE, from);
        }
        if (ferror(from)) {
                array_clear(&text);
                return -EIO;
        }
        text.items[text.n] = '\0';
        *ret = text.items;
        *ret_size = text.n;
        return 0;
}

static int read_file(const char *file, char **ret) {
        FILE *from = text_equal(file, "-") ? stdin : fopen(file, "re");
        size_t size = 0;
        int r = from ? read_stream(from, DESCRIPTION_SIZE_MAX, ret, &size) : -errno;
        if (from && from != stdin)
                (void) fclose(from);
        if (r < 0)
                fprintf(stderr, "%s cannot be read: %s.\n", file, strerror(-r));
        else if (size > DESCRIPTION_SIZE_MAX || strlen(*ret) != size) {
                fprintf(stderr, "%s is no description of a cluster: it is larger than %u MiB, or no text.\n", file,
                        DESCRIPTION_SIZE_MAX >> 20);
                r = -EINVAL;
        }
        return r;
}

static void tell_place(const Inventory *inventory, const Tenant *tenant, FILE *to) {
        const Vm *vm = tenant->vm;
        bool had_it = vm->assignment.phase != ASSIGNMENT_NONE;
        fprintf(to, "vm %s %s on %s, priority %" PRId32 ":", vm->name, had_it ? "stays" : "starts",
                inventory->nodes.items[tenant->node].record->name, vm->priority);
        for (size_t i = 0; i < tenant->n_held; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                size_t gpu = inventory->held.items[tenant->first_held + i];
                pci_address_to_text(inventory->gpus.items[gpu].view->identity.address, address);
                fprintf(to, " %s", address);
        }
        fprintf(to, "\n");
}

/* For whom the tenant is stopped, or NULL. */
static const Vm *find_preemptor(const Inventory *inventory, const Roster *roster, size_t tenant) {
        ARRAY_EACH(item, &roster->items)
                for (size_t i = item->first_preempted; i < item->first_preempted + item->n_preempted; i++)
                        if (roster->preempted.items[i]->tenant == tenant)
                                return inventory->tenants.items[item->tenant].vm;
        return NULL;
}

static int tell_vm(Inventory *inventory, const Roster *roster, size_t index, FILE *to) {
        const Tenant *tenant = inventory->tenants.items + index;
        const Vm *vm = tenant->vm, *preemptor = find_preemptor(inventory, roster, index);
        if (tenant->node != NOWHERE) {
                tell_place(inventory, tenant, to);
                return 0;
        }
        if (preemptor) {
                fprintf(to, "vm %s is stopped for %s, which has priority %" PRId32 " and it %" PRId32
                        "; then it waits\n", vm->name, preemptor->name, preemptor->priority, vm->priority);
                return 0;
        }
        if (!vm->run || vm->failed) {
                fprintf(to, "vm %s is %s\n", vm->name, vm->run ? "failed" : "stopped");
                return 0;
        }
        Placement placement = {};
        int r = placement_find_in(inventory, vm, &placement);
        if (r < 0)
                return r;
        fprintf(to, "%s\n", placement.summary);
        placement_clear(&placement);
        return 0;
}

static void tell_pools(const Inventory *inventory, FILE *to) {
        ARRAY_EACH(pool, &inventory->pools) {
                uint32_t largest = 0;
                for (size_t i = pool->first_room; i < pool->first_room + pool->n_rooms; i++) {
                        const Room *room = inventory->rooms.items + i;
                        if (inventory_node_takes_vms(inventory, room->node) && room->free > largest)
                                largest = room->free;
                }
                fprintf(to, "pool %s: %" PRIu32 " usable, %" PRIu32 " in use, %" PRIu32 " free, at most %" PRIu32
                        " of them on one node\n", pool->pool->name, pool->usable, pool->in_use, pool->free, largest);
        }
}

static int tell_all(Inventory *inventory, const Roster *roster, const size_t *waiting, size_t n, FILE *to) {
        ClassCount classes[CLASSES_MAX];
        size_t n_waiting = roster->preempted.n;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                int r = tell_vm(inventory, roster, i, to);
                if (r < 0)
                        return r;
        }
        size_t n_classes = count_classes(inventory, waiting, n, classes);
        for (size_t i = 0; i < n_classes; i++) {
                fprintf(to, "priority %" PRId32 ": %" PRIu32 " of %" PRIu32 " that waited start\n", classes[i].priority,
                        classes[i].placed, classes[i].wanted);
                n_waiting += classes[i].wanted - classes[i].placed;
        }
        tell_pools(inventory, to);
        return n_waiting > 0;
}

static int place_described(const Described *described, FILE *to) {
        const RosterRules rules = roster_rules(described->world.registry);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_free_ size_t *waiting = NULL;
        Roster roster = {};
        size_t n;
        int r = inventory_new(&described->world, &inventory);
        if (r >= 0)
                r = list_waiting(inventory, &waiting, &n);
        if (r >= 0)
                r = roster_make(inventory, waiting, n, &rules, &roster);
        if (r >= 0)
                r = tell_all(inventory, &roster, waiting, n, to);
        roster_clear(&roster);
        return r;
}

int place_file(const char *file, FILE *to) {
        const char *name = text_equal(file, "-") ? "standard input" : file;
        _cleanup_free_ char *text = NULL, *sentence = NULL;
        _cleanup_(described_freep) Described *described = NULL;
        if (read_file(file, &text) < 0)
                return 2;
        int r = describe_read(text, &described, &sentence);
        if (r == DESCRIBE_READ)
                r = place_described(described, to);
        else if (r == DESCRIBE_BAD) {
                fprintf(stderr, "%s, %s.\n", name, sentence);
                return 2;
        }
        if (r < 0)
                fprintf(stderr, "%s cannot be placed: %s.\n", name, strerror(-r));
        return r < 0 ? 2 : r;
}
