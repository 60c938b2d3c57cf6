/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An inventory that follows the world is at each moment what a new one would be: on random worlds, through random
 * changes, while everything that it borrows is moved about. Replay one: GPUPOOL_TEST_SEED=N test-inventory-follow */

#include <glib.h>
#include <stdio.h>

#include "core/roster.h"
#include "core/room-index.h"
#include "world-builder.h"

#define WORLDS 300
#define CHANGES 40
#define NODES 5
#define VMS 12

/* ---- worlds */

static WorldBuilder *random_world(GRand *random) {
        WorldBuilder *w = world_of(NODES);
        w->registry->level = LEVEL_PLACEMENT;
        for (size_t i = 0; i < NODES; i++) {
                const char *name = w->registry->nodes.items[i].name;
                size_t n = (size_t) g_rand_int_range(random, 0, 9);
                node_named(w, name)->level = LEVEL_PLACEMENT;
                node_named(w, name)->lease_ms = 1000;
                with_gpus(w, name, n);
                if (n >= 4 && g_rand_boolean(random))
                        linked(w, name, 0, 2);
                if (n >= 4 && g_rand_boolean(random))
                        behind_switch(w, name, 0, 4, "0000:40:00.0");
                for (size_t g = 2; g < n; g++)
                        if (g_rand_int_range(random, 0, 4) == 0)
                                gpu_of(w, name, g)->iommu_group = gpu_of(w, name, g - 1)->iommu_group;
                if (n > 0 && g_rand_int_range(random, 0, 4) == 0)
                        quarantined(w, name, n - 1);
        }
        pool_of(w, "training", "a b c d");
        pool_of(w, "other", "e");
        for (size_t i = 0; i < VMS; i++) {
                g_autofree char *name = g_strdup_printf("vm%zu", i);
                Vm *vm = vm_of(w, name, g_rand_int_range(random, 0, 5) ? "training" : "other",
                               (uint32_t) g_rand_int_range(random, 1, 6));
                vm->priority = g_rand_int_range(random, 0, 3);
                vm->run = g_rand_int_range(random, 0, 4) > 0;
        }
        if (g_rand_boolean(random))
                must_be(w, "vm0", "with", "vm1");
        return w;
}

static Vm *any_vm(WorldBuilder *w, GRand *random) {
        return w->registry->vms.items + g_rand_int_range(random, 0, (gint32) w->registry->vms.n);
}

static NodeRecord *any_node(WorldBuilder *w, GRand *random) {
        return w->registry->nodes.items + g_rand_int_range(random, 0, (gint32) w->registry->nodes.n);
}

static void toggle_place(WorldBuilder *w, Vm *vm) {
        Placement found = {};
        if (vm->assignment.phase != ASSIGNMENT_NONE) {
                assignment_clear(&vm->assignment);
                return;
        }
        if (placement_find(world_now(w), vm, &found) == PLACEMENT_FOUND) {
                vm->assignment = (Assignment) { .phase = ASSIGNMENT_STARTING, .node = found.node,
                                                .gpus = STEAL(found.gpus), .n_gpus = found.n_gpus };
                found.n_gpus = 0;
        }
        placement_clear(&found);
}

static void change_a_node(WorldBuilder *w, GRand *random) {
        NodeRecord *node = any_node(w, random);
        NodeFacts *facts = facts_of(w, node->name);
        switch (g_rand_int_range(random, 0, 6)) {
        case 0:
                node->drain = node->drain == DRAIN_NONE ? DRAIN_BY_HAND : DRAIN_NONE;
                break;
        case 1:
                node->lost = !node->lost;
                break;
        case 2:
                node->lease_ms = node->lease_ms ? 0 : 1000;
                break;
        case 3:
                facts->guard_connected = !facts->guard_connected;
                break;
        case 4:
                facts->vfio_present = !facts->vfio_present;
                break;
        default:
                if (facts->n_gpus > 0) {
                        GpuFacts *gpu = facts->gpus + g_rand_int_range(random, 0, (gint32) facts->n_gpus);
                        gpu->config = gpu->config == CONFIG_ALL_ONES ? CONFIG_READABLE : CONFIG_ALL_ONES;
                }
                break;
        }
        if (facts->version > 0)
                facts->version++;
}

static void change_a_vm(WorldBuilder *w, GRand *random) {
        Vm *vm = any_vm(w, random);
        switch (g_rand_int_range(random, 0, 8)) {
        case 0:
                vm->run = !vm->run;
                break;
        case 1:
                vm->priority = g_rand_int_range(random, 0, 3);
                break;
        case 2:
                vm->failed = !vm->failed;
                break;
        case 3:
                if (vm->assignment.phase != ASSIGNMENT_NONE)
                        vm->assignment.phase = ASSIGNMENT_STOPPING;
                break;
        default:
                toggle_place(w, vm);
                break;
        }
}

/* What cannot be followed. */
static void change_the_structure(WorldBuilder *w, GRand *random) {
        Vm *vm = any_vm(w, random);
        NodeRecord *node = any_node(w, random);
        switch (g_rand_int_range(random, 0, 5)) {
        case 0:
                if (vm->assignment.phase == ASSIGNMENT_NONE)
                        vm->count = vm->count % 5 + 1;
                break;
        case 1:
                if (facts_of(w, node->name)->n_gpus > 0)
                        facts_of(w, node->name)->gpus[0].numa_node ^= 1;
                break;
        case 2:
                if (w->registry->quarantines.n > 0) {
                        free(w->registry->quarantines.items[0].sentence);
                        array_remove(&w->registry->quarantines, 0);
                }
                break;
        case 3:
                forget_facts(w, node->name);
                break;
        default:
                if (w->registry->pools.items[1].gpus.n > 0)
                        array_remove(&w->registry->pools.items[1].gpus, 0);
                break;
        }
        facts_of(w, node->name)->version += facts_of(w, node->name)->version > 0;
}

static void *move_rows(void *items, size_t n, size_t size) {
        void *moved = g_malloc(n * size + 1);
        if (n > 0)
                memcpy(moved, items, n * size);
        if (items)
                memset(items, 0xaa, n * size);
        free(items);
        return moved;
}

#define MOVE_ROWS(array)                                                                                        \
        do {                                                                                                    \
                (array)->items = move_rows((array)->items, (array)->n, sizeof(*(array)->items));               \
                (array)->allocated = (array)->n;                                                                \
        } while (0)

/* As if the world had been freed and made again between two turns. */
static void move_everything(WorldBuilder *w) {
        MOVE_ROWS(&w->registry->nodes);
        MOVE_ROWS(&w->registry->pools);
        MOVE_ROWS(&w->registry->vms);
        MOVE_ROWS(&w->registry->quarantines);
        for (size_t i = 0; i < w->n_nodes; i++) {
                NodeFacts *before = w->facts[i];
                before->gpus = move_rows(before->gpus, before->n_gpus, sizeof(*before->gpus));
                NodeFacts *after = move_rows(before, 1, sizeof(*before));
                for (size_t k = 0; k < w->world.n_nodes; k++)
                        if (w->known[k] == before)
                                w->known[k] = after;
                w->facts[i] = after;
        }
}

/* ---- the same? */

static void assert_same_views(const Inventory *a, const Inventory *b) {
        g_assert_cmpuint(a->views.n, ==, b->views.n);
        for (size_t i = 0; i < a->views.n; i++) {
                const GpuView *x = a->views.items + i, *y = b->views.items + i;
                g_assert_true(gpu_identity_equal(&x->identity, &y->identity));
                g_assert_true(x->facts == y->facts && x->host == y->host && x->pool == y->pool);
                g_assert_true(x->vm == y->vm && x->group_vm == y->group_vm && x->quarantine == y->quarantine);
                g_assert_cmpint(x->state, ==, y->state);
                g_assert_cmpint(x->assignable, ==, y->assignable);
                g_assert_cmpuint(x->set_size, ==, y->set_size);
                g_assert_cmpstr(x->set_missing, ==, y->set_missing);
        }
}

static void assert_same_rooms(const Inventory *a, const Inventory *b) {
        for (size_t i = 0; i < a->nodes.n; i++) {
                const InventoryNode *x = a->nodes.items + i, *y = b->nodes.items + i;
                g_assert_true(x->record == y->record && x->facts == y->facts);
                g_assert_cmpuint(x->troubles, ==, y->troubles);
                g_assert_cmpuint(x->by_name, ==, y->by_name);
                g_assert_cmpuint(x->first_room, ==, y->first_room);
        }
        g_assert_cmpuint(a->rooms.n, ==, b->rooms.n);
        for (size_t i = 0; i < a->rooms.n; i++) {
                const Room *x = a->rooms.items + i, *y = b->rooms.items + i;
                g_assert_cmpuint(x->usable, ==, y->usable);
                g_assert_cmpuint(x->free, ==, y->free);
                g_assert_cmpuint(x->in_use, ==, y->in_use);
                g_assert_cmpuint(x->shape, ==, y->shape);
                g_assert_true(x->indexed == y->indexed && x->has_sets == y->has_sets && x->n_gpus == y->n_gpus);
                g_assert_cmpmem(x->places, sizeof(x->places), y->places, sizeof(y->places));
        }
        for (size_t i = 0; i < a->gpus.n; i++) {
                const RoomGpu *x = a->gpus.items + i, *y = b->gpus.items + i;
                g_assert_cmpuint(x->tenant, ==, y->tenant);
                g_assert_true(x->view - a->views.items == y->view - b->views.items);
                g_assert_true(x->group_is_taken == y->group_is_taken && x->set_is_broken == y->set_is_broken);
                g_assert_true(x->next_in_group == y->next_in_group && x->next_in_set == y->next_in_set);
        }
}

static void assert_same_pools(const Inventory *a, const Inventory *b) {
        for (size_t i = 0; i < a->pools.n; i++) {
                const InventoryPool *x = a->pools.items + i, *y = b->pools.items + i;
                g_assert_true(x->pool == y->pool && x->sizes == y->sizes);
                g_assert_cmpuint(x->usable, ==, y->usable);
                g_assert_cmpuint(x->free, ==, y->free);
                g_assert_cmpuint(x->in_use, ==, y->in_use);
                g_assert_cmpuint(x->usable_anywhere, ==, y->usable_anywhere);
                g_assert_cmpmem(x->residents, sizeof(x->residents), y->residents, sizeof(y->residents));
                g_assert_cmpmem(x->waiting, sizeof(x->waiting), y->waiting, sizeof(y->waiting));
                g_assert_cmpmem(x->places, sizeof(x->places), y->places, sizeof(y->places));
                size_t room_x = room_index_first(a, i, 0), room_y = room_index_first(b, i, 0);
                while (room_x != NOWHERE || room_y != NOWHERE) {
                        g_assert_cmpuint(room_x, ==, room_y);
                        room_x = room_index_next(a, room_x);
                        room_y = room_index_next(b, room_y);
                }
        }
}

static void assert_same_tenants(const Inventory *a, const Inventory *b) {
        for (size_t i = 0; i < a->tenants.n; i++) {
                const Tenant *x = a->tenants.items + i, *y = b->tenants.items + i;
                g_assert_true(x->vm == y->vm && x->pool == y->pool);
                g_assert_cmpuint(x->node, ==, y->node);
                g_assert_cmpmem(a->held.items + x->first_held, x->n_held * sizeof(size_t),
                                b->held.items + y->first_held, y->n_held * sizeof(size_t));
        }
}

static Roster roster_of(Inventory *inventory) {
        size_t waiting[VMS], n = 0;
        Roster roster = {};
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *vm = inventory->tenants.items[i].vm;
                if (vm->run && !vm->failed && vm->assignment.phase == ASSIGNMENT_NONE)
                        waiting[n++] = i;
        }
        g_assert_cmpint(roster_make(inventory, waiting, n, NULL, &roster), ==, 0);
        roster_undo(inventory, &roster);
        return roster;
}

static void assert_same_roster(Inventory *a, Inventory *b) {
        Roster x = roster_of(a), y = roster_of(b);
        g_assert_cmpuint(x.items.n, ==, y.items.n);
        for (size_t i = 0; i < x.items.n; i++) {
                const RosterItem *s = x.items.items + i, *t = y.items.items + i;
                g_assert_true(s->tenant == t->tenant && s->verdict == t->verdict);
                if (s->verdict == PLACEMENT_FOUND)
                        g_assert_cmpmem(s->choice.gpus, s->choice.n_gpus * sizeof(size_t), t->choice.gpus,
                                        t->choice.n_gpus * sizeof(size_t));
        }
        roster_clear(&x);
        roster_clear(&y);
}

/* ---- tests */

typedef struct Trips {
        unsigned followed, renewed;
} Trips;

/* Follows the world as far as it can be; a new one, where not. */
static void follow(WorldBuilder *w, Inventory **inventory, Trips *trips) {
        _cleanup_(inventory_freep) Inventory *fresh = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &fresh), ==, 0);
        int r = inventory_follow(*inventory, world_now(w));
        g_assert_cmpint(r, >=, 0);
        if (r == 0) {
                trips->renewed++;
                inventory_free(*inventory);
                g_assert_cmpint(inventory_new(world_now(w), inventory), ==, 0);
                g_assert_cmpint(inventory_keep(*inventory), ==, 0);
        } else
                trips->followed++;
        assert_same_views(*inventory, fresh);
        assert_same_rooms(*inventory, fresh);
        assert_same_pools(*inventory, fresh);
        assert_same_tenants(*inventory, fresh);
        assert_same_roster(*inventory, fresh);
}

static void roam(uint32_t seed, bool structure, bool versions, Trips *trips) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        WorldBuilder *w = random_world(random);
        Inventory *inventory = NULL;
        for (size_t i = 0; versions && i < w->n_nodes; i++)
                w->facts[i]->version = 1;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(inventory_keep(inventory), ==, 0);
        for (size_t i = 0; i < CHANGES; i++) {
                for (int more = g_rand_int_range(random, 0, 4); more >= 0; more--)
                        if (structure && g_rand_int_range(random, 0, 10) == 0)
                                change_the_structure(w, random);
                        else if (g_rand_boolean(random))
                                change_a_vm(w, random);
                        else
                                change_a_node(w, random);
                move_everything(w);
                follow(w, &inventory, trips);
        }
        inventory_free(inventory);
        world_builder_free(w);
}

static void roam_all(bool structure, bool versions, Trips *trips) {
        const char *only = g_getenv("GPUPOOL_TEST_SEED");
        uint32_t first = only ? (uint32_t) g_ascii_strtoull(only, NULL, 10) : (uint32_t) g_test_rand_int();
        for (uint32_t i = 0; i < (only ? 1 : WORLDS); i++) {
                g_test_message("GPUPOOL_TEST_SEED=%u", first + i);
                roam(first + i, structure, versions, trips);
        }
}

static void test_what_vms_and_nodes_do_is_followed(void) {
        for (int versions = 0; versions <= 1; versions++) {
                Trips trips = {};
                roam_all(false, versions, &trips);
                g_assert_cmpuint(trips.renewed, ==, 0);
                g_assert_cmpuint(trips.followed, >, 0);
        }
}

static void test_what_cannot_be_followed_is_said_so(void) {
        for (int versions = 0; versions <= 1; versions++) {
                Trips trips = {};
                roam_all(true, versions, &trips);
                g_assert_cmpuint(trips.renewed, >, 0);
        }
}

static void free_and_overwrite(WorldBuilder *w) {
        move_everything(w);
        world_builder_free(w);
}

/* Two nodes, one VM that runs, and @n that wait. */
static WorldBuilder *small_world(unsigned n) {
        WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "1");
        for (unsigned i = 0; i < n; i++) {
                char name[16];
                (void) snprintf(name, sizeof(name), "kermit%u", i);
                vm_of(w, name, "training", 1);
        }
        return w;
}

/* As by an import, or a snapshot from another leader: all that there was is freed. */
static void test_a_registry_that_is_replaced_is_followed_or_not(void) {
        WorldBuilder *before = small_world(3), *same = small_world(3), *other = small_world(1);
        Inventory *inventory = NULL;
        Trips trips = {};
        g_assert_cmpint(inventory_new(world_now(before), &inventory), ==, 0);
        g_assert_cmpint(inventory_keep(inventory), ==, 0);
        free_and_overwrite(before);
        move_everything(same);
        follow(same, &inventory, &trips);
        g_assert_cmpuint(trips.followed, ==, 1);
        free_and_overwrite(same);
        follow(other, &inventory, &trips);
        g_assert_cmpuint(trips.renewed, ==, 1);
        free_and_overwrite(other);
        inventory_free(inventory);
}

static void test_one_that_is_not_kept_follows_nothing(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(inventory_follow(inventory, world_now(w)), ==, 0);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/inventory-follow/" #name, test_##name)
        TEST(what_vms_and_nodes_do_is_followed);
        TEST(what_cannot_be_followed_is_said_so);
        TEST(a_registry_that_is_replaced_is_followed_or_not);
        TEST(one_that_is_not_kept_follows_nothing);
        return g_test_run();
}
