/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "place-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/describe.h"
#include "core/seating.h"
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

/* What comes of all who wait, as the conductor has it: a pass after the other. */
typedef struct Round {
        Seating seating;                /* first, so that it leads back here */
        Registry *registry;
        size_t *preempted_by;           /* one per tenant; NOBODY: none */
} Round;

static void round_clear(Round *round) {
        inventory_free(round->seating.inventory);
        free(round->seating.waiting);
        free(round->preempted_by);
}

static int come(Seating *seating, size_t tenant) {
        return 0;
}

/* It has stopped, and is to go on anywhere. */
static int give_way(Seating *seating, size_t tenant, size_t whom) {
        Round *round = (Round *) seating;
        const Vm *const first = round->registry->vms.items;
        Vm *vm = round->registry->vms.items + (seating->inventory->tenants.items[tenant].vm - first);
        inventory_vacate(seating->inventory, tenant);
        vm->assignment.phase = ASSIGNMENT_NONE;
        vm->target = (NodeId) {};
        round->preempted_by[tenant] = whom;
        return 0;
}

static void tell_gpus(const Inventory *inventory, const Tenant *tenant, FILE *to) {
        for (size_t i = 0; i < tenant->n_held; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                size_t gpu = inventory->held.items[tenant->first_held + i];
                pci_address_to_text(inventory->gpus.items[gpu].view->identity.address, address);
                fprintf(to, " %s", address);
        }
        fprintf(to, "\n");
}

static void tell_preempted(const Round *round, size_t index, FILE *to) {
        const Inventory *inventory = round->seating.inventory;
        const Tenant *tenant = inventory->tenants.items + index;
        const Vm *vm = tenant->vm, *preemptor = inventory->tenants.items[round->preempted_by[index]].vm;
        fprintf(to, "vm %s is stopped for %s, which has priority %" PRId32 " and it %" PRId32 "; then it ", vm->name,
                preemptor->name, preemptor->priority, vm->priority);
        if (tenant->node == NOWHERE) {
                fprintf(to, "waits\n");
                return;
        }
        fprintf(to, "starts on %s:", inventory->nodes.items[tenant->node].record->name);
        tell_gpus(inventory, tenant, to);
}

static void tell_place(const Inventory *inventory, const Tenant *tenant, FILE *to) {
        const Vm *vm = tenant->vm;
        bool had_it = vm->assignment.phase != ASSIGNMENT_NONE;
        fprintf(to, "vm %s %s on %s, priority %" PRId32 ":", vm->name, had_it ? "stays" : "starts",
                inventory->nodes.items[tenant->node].record->name, vm->priority);
        tell_gpus(inventory, tenant, to);
}

static int tell_vm(const Round *round, size_t index, FILE *to) {
        Inventory *inventory = round->seating.inventory;
        const Tenant *tenant = inventory->tenants.items + index;
        const Vm *vm = tenant->vm;
        if (round->preempted_by[index] != NOBODY) {
                tell_preempted(round, index, to);
                return 0;
        }
        if (tenant->node != NOWHERE) {
                tell_place(inventory, tenant, to);
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

/* @waited: those who waited at first. */
static int tell_all(const Round *round, const size_t *waited, size_t n, FILE *to) {
        const Inventory *inventory = round->seating.inventory;
        ClassCount classes[CLASSES_MAX];
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                int r = tell_vm(round, i, to);
                if (r < 0)
                        return r;
        }
        size_t n_classes = count_classes(inventory, waited, n, classes);
        for (size_t i = 0; i < n_classes; i++)
                fprintf(to, "priority %" PRId32 ": %" PRIu32 " of %" PRIu32 " that waited start\n", classes[i].priority,
                        classes[i].placed, classes[i].wanted);
        tell_pools(inventory, to);
        return round->seating.n_waiting > 0;
}

static int round_begin(Described *described, const size_t *waited, size_t n, Round *round) {
        size_t n_tenants = round->seating.inventory->tenants.n;
        round->registry = described->registry;
        round->seating.waiting = calloc(n_tenants + 1, sizeof(*round->seating.waiting));
        round->preempted_by = calloc(n_tenants + 1, sizeof(*round->preempted_by));
        if (!round->seating.waiting || !round->preempted_by)
                return -ENOMEM;
        for (size_t i = 0; i < n_tenants; i++)
                round->preempted_by[i] = NOBODY;
        for (size_t i = 0; i < n; i++)
                round->seating.waiting[round->seating.n_waiting++] = waited[i];
        return 0;
}

static int place_described(Described *described, FILE *to) {
        _cleanup_(round_clear) Round round = {
                .seating = { .work_left = UINT64_MAX, .comes = come, .goes = give_way },
        };
        _cleanup_free_ size_t *waited = NULL;
        size_t n;
        int r = inventory_new(&described->world, &round.seating.inventory);
        if (r >= 0)
                r = list_waiting(round.seating.inventory, &waited, &n);
        if (r >= 0)
                r = round_begin(described, waited, n, &round);
        if (r >= 0)
                r = seating_run(&round.seating);
        return r < 0 ? r : tell_all(&round, waited, n, to);
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
