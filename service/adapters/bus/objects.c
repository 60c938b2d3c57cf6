/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/objects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapters/bus/bus-internal.h"
#include "core/names.h"
#include "core/vm-reason.h"

void objects_init(Objects *objects, Bus *bus) {
        *objects = (Objects) {
                .stale = true,
                .manager = { .bus = bus, .face = &manager_face, .path = (char *) OBJECT_ROOT, .announced = true },
        };
}

static void object_forget_derived(Object *object) {
        if (!object->derived)
                return;
        if (object->face == &gpu_face)
                blockers_clear(&object->gpu.blockers);
        else if (object->face == &pool_face)
                pool_counts_clear(&object->pool.counts);
        else if (object->face == &vm_face) {
                free(object->vm.reason_code);
                free(object->vm.reason);
                placement_notes_clear(&object->vm.notes);
        }
        object->derived = false;
}

static void object_clear(Object *object) {
        object_forget_derived(object);
        free(object->path);
        free(object->fingerprints);
        *object = (Object) {};
}

static void clear_table(Objects *objects) {
        ARRAY_EACH(object, &objects->all)
                object_clear(object);
        array_clear(&objects->all);
        objects->inventory = inventory_free(objects->inventory);
        free(objects->by_pool);
        free(objects->by_vm);
        objects->by_pool = objects->by_vm = NULL;
        objects->n_by_pool = objects->n_by_vm = 0;
}

void objects_clear(Objects *objects) {
        clear_table(objects);
        free(objects->manager.fingerprints);
        objects->manager.fingerprints = NULL;
        ARRAY_EACH(departed, &objects->departed)
                free(departed->path);
        array_clear(&objects->departed);
        objects->stale = true;
}

int object_derive(Object *object) {
        if (object->derived)
                return 0;

        int r = 0;
        if (object->face == &gpu_face) {
                r = gpu_view_survey(object->gpu.view, &object->gpu.blockers);
                if (r < 0)
                        blockers_clear(&object->gpu.blockers);
        } else if (object->face == &pool_face)
                r = pool_count_in(object->bus->objects.inventory, object->pool.pool, &object->pool.counts);
        else if (object->face == &vm_face)
                r = vm_account_in(object->bus->objects.inventory, object->vm.vm, &object->vm.reason_code,
                                  &object->vm.reason, &object->vm.notes);
        if (r < 0)
                return r;
        object->derived = true;
        return 0;
}

/* ---- making the table */

static int add(Objects *objects, Object object, const char *path) {
        object.bus = objects->manager.bus;
        object.path = strdup(path);
        if (!object.path)
                return -ENOMEM;
        int r = array_append(&objects->all, &object);
        if (r < 0)
                free(object.path);
        return r;
}

static int add_nodes(Objects *objects, const World *world) {
        const Registry *registry = world->registry;
        ARRAY_EACH(record, &registry->nodes) {
                Object object = { .face = &node_face, .node = { record, world_find_facts(world, &record->id) } };
                int r = add(objects, object, path_of_node(&record->id).text);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < world->n_nodes; i++) {
                const NodeFacts *facts = world->nodes[i];
                if (registry_find_node(registry, &facts->node))
                        continue;
                int r = add(objects, (Object) { .face = &node_face, .node = { NULL, facts } },
                            path_of_node(&facts->node).text);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A card that is gone may have left its address to another. It keeps an object all the same, under a path of its own,
 * or nobody could take it out of its pool. */
static Path path_of_view(const GpuViews *views, size_t i) {
        const GpuView *view = views->items + i;
        Path path = path_of_gpu(&view->identity.node, view->identity.address);
        size_t same = 0;
        for (size_t k = i; k > 0; k--) {
                const GpuIdentity *before = &views->items[k - 1].identity;
                if (!ID_EQUAL(&before->node, &view->identity.node) ||
                    !pci_address_equal(before->address, view->identity.address))
                        break;
                same++;
        }
        if (same > 0) {
                Sink sink = SINK_FINGERPRINT;
                (void) sink_put(&sink, "squuus", view->identity.slot, view->identity.vendor, view->identity.device,
                                view->identity.subsystem_vendor, view->identity.subsystem_device,
                                view->identity.serial);
                size_t length = strlen(path.text);
                (void) snprintf(path.text + length, sizeof(path.text) - length, "_%08x",
                                (unsigned) (sink.fingerprint >> 32));
        }
        return path;
}

static int add_gpus(Objects *objects, const World *world) {
        int r = inventory_new(world, &objects->inventory);
        if (r < 0)
                return r;
        const GpuViews *views = &objects->inventory->views;
        for (size_t i = 0; r >= 0 && i < views->n; i++)
                r = add(objects, (Object) { .face = &gpu_face, .gpu = { .view = views->items + i } },
                        path_of_view(views, i).text);
        return r;
}

static int add_pools_and_vms(Objects *objects, const World *world) {
        ARRAY_EACH(pool, &world->registry->pools) {
                int r = add(objects, (Object) { .face = &pool_face, .pool = { .pool = pool } },
                            path_of_pool(pool->name).text);
                if (r < 0)
                        return r;
        }
        ARRAY_EACH(vm, &world->registry->vms) {
                int r = add(objects, (Object) { .face = &vm_face, .vm = { .vm = vm } }, path_of_vm(&vm->id).text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_jobs(Objects *objects, Jobs *jobs) {
        if (!jobs)
                return 0;
        ARRAY_EACH(job, &jobs->all) {
                int r = add(objects, (Object) { .face = &job_face, .job = *job }, path_of_job((*job)->id).text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare_paths(const void *a, const void *b) {
        return strcmp(((const Object *) a)->path, ((const Object *) b)->path);
}

static int compare_pointers(const void *a, const void *b) {
        return (uintptr_t) a < (uintptr_t) b ? -1 : (uintptr_t) a > (uintptr_t) b;
}

static int compare_pools(const void *a, const void *b) {
        const Object *x = *(Object *const *) a, *y = *(Object *const *) b;
        int c = compare_pointers(x->gpu.view->pool, y->gpu.view->pool);
        return c ? c : compare_paths(x, y);
}

static int compare_vms(const void *a, const void *b) {
        const Object *x = *(Object *const *) a, *y = *(Object *const *) b;
        int c = compare_pointers(x->gpu.view->vm, y->gpu.view->vm);
        return c ? c : compare_paths(x, y);
}

static int index_gpus(Objects *objects) {
        objects->by_pool = calloc(objects->inventory->views.n + 1, sizeof(*objects->by_pool));
        objects->by_vm = calloc(objects->inventory->views.n + 1, sizeof(*objects->by_vm));
        if (!objects->by_pool || !objects->by_vm)
                return -ENOMEM;
        ARRAY_EACH(object, &objects->all) {
                if (object->face != &gpu_face)
                        continue;
                if (object->gpu.view->pool)
                        objects->by_pool[objects->n_by_pool++] = object;
                if (object->gpu.view->vm)
                        objects->by_vm[objects->n_by_vm++] = object;
        }
        qsort(objects->by_pool, objects->n_by_pool, sizeof(*objects->by_pool), compare_pools);
        qsort(objects->by_vm, objects->n_by_vm, sizeof(*objects->by_vm), compare_vms);
        return 0;
}

static void sort_and_drop_doubles(Objects *objects) {
        qsort(objects->all.items, objects->all.n, sizeof(*objects->all.items), compare_paths);
        size_t kept = 0;
        for (size_t i = 0; i < objects->all.n; i++) {
                Object *object = objects->all.items + i;
                if (kept > 0 && strcmp(object->path, objects->all.items[kept - 1].path) == 0)
                        object_clear(object);
                else
                        objects->all.items[kept++] = *object;
        }
        objects->all.n = kept;
}

static int make_table(Objects *objects) {
        Bus *bus = objects->manager.bus;
        const World *world = bus_world(bus);
        int r = add_nodes(objects, world);
        if (r >= 0)
                r = add_gpus(objects, world);
        if (r >= 0)
                r = add_pools_and_vms(objects, world);
        if (r >= 0)
                r = add_jobs(objects, bus->service->jobs(bus->service_userdata));
        if (r < 0)
                return r;
        sort_and_drop_doubles(objects);
        return index_gpus(objects);
}

/* Room for all that may depart is made first, so that nothing can fail half way. */
static int inherit(Objects *objects, Objects *old) {
        int r = array_reserve(&objects->departed.items, &objects->departed.allocated, objects->departed.n + old->all.n,
                              sizeof(*objects->departed.items));
        if (r < 0)
                return r;

        size_t i = 0;
        ARRAY_EACH(before, &old->all) {
                while (i < objects->all.n && strcmp(objects->all.items[i].path, before->path) < 0)
                        i++;
                Object *now = i < objects->all.n ? objects->all.items + i : NULL;
                if (now && strcmp(now->path, before->path) == 0) {
                        now->announced = before->announced;
                        now->fingerprints = STEAL(before->fingerprints);
                } else if (before->announced)
                        objects->departed.items[objects->departed.n++] =
                                (Departed) { .path = STEAL(before->path), .face = before->face };
        }
        return 0;
}

/* One that came back before anybody was told that it had gone: as if it had stayed, but all of it is told anew. */
static void forget_returned(Objects *objects) {
        for (size_t i = objects->departed.n; i > 0; i--) {
                Departed *departed = objects->departed.items + i - 1;
                Object key = { .path = departed->path };
                Object *object = objects->all.n == 0 ? NULL :
                        bsearch(&key, objects->all.items, objects->all.n, sizeof(key), compare_paths);
                if (!object)
                        continue;
                object->announced = true;
                free(departed->path);
                array_remove(&objects->departed, i - 1);
        }
}

int objects_refresh(Objects *objects) {
        if (!objects->stale)
                return 0;

        Objects made = { .manager = objects->manager, .departed = objects->departed, .departing = objects->departing };
        int r = make_table(&made);
        if (r >= 0)
                r = inherit(&made, objects);
        if (r < 0) {
                objects->departed = made.departed;
                clear_table(&made);
                return r;
        }
        clear_table(objects);
        *objects = made;
        forget_returned(objects);
        return 0;
}

/* ---- looking things up */

Object *objects_find(Objects *objects, const char *path) {
        if (objects_refresh(objects) < 0 || objects->all.n == 0)
                return NULL;
        Object key = { .path = (char *) path };
        return bsearch(&key, objects->all.items, objects->all.n, sizeof(key), compare_paths);
}

Object *objects_find_kind(Objects *objects, const char *path, FaceKind kind) {
        Object *object = objects_find(objects, path);
        return object && object->face == face_of(kind) ? object : NULL;
}

/* The part of @row whose key, as @key_of tells it, is @key. */
static ObjectRange find_range(Object *const *row, size_t n, const void *key,
                              const void *(*key_of)(const Object *object)) {
        size_t low = 0, high = n;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (compare_pointers(key_of(row[middle]), key) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        size_t end = low;
        while (end < n && key_of(row[end]) == key)
                end++;
        return (ObjectRange) { .items = row + low, .n = end - low };
}

static const void *pool_of(const Object *object) {
        return object->gpu.view->pool;
}

static const void *vm_of(const Object *object) {
        return object->gpu.view->vm;
}

ObjectRange objects_gpus_of_pool(const Objects *objects, const Pool *pool) {
        return find_range(objects->by_pool, objects->n_by_pool, pool, pool_of);
}

ObjectRange objects_gpus_of_vm(const Objects *objects, const Vm *vm) {
        return find_range(objects->by_vm, objects->n_by_vm, vm, vm_of);
}

/* ---- what sd-bus asks */

int objects_on_find(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found,
                    sd_bus_error *error) {
        const Mount *mount = userdata;
        Objects *objects = &mount->bus->objects;
        int r = objects_refresh(objects);
        if (r < 0)
                return r;

        Object *object = objects_find(objects, path);
        if (object && object->face == mount->face) {
                *ret_found = object;
                return 1;
        }
        /* sd-bus names its interfaces and reads none of its properties */
        if (text_equal(objects->departing, path)) {
                *ret_found = &objects->manager;
                return 1;
        }
        return inquiry_refuse_vanished(mount->bus, error);
}

int objects_on_enumerate(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes,
                         sd_bus_error *error) {
        const Mount *mount = userdata;
        Objects *objects = &mount->bus->objects;
        int r = objects_refresh(objects);
        if (r < 0)
                return r;

        size_t n = 0;
        ARRAY_EACH(object, &objects->all)
                n += object->face == mount->face;
        char **nodes = calloc(n + 1, sizeof(*nodes));
        if (!nodes)
                return -ENOMEM;

        size_t i = 0;
        ARRAY_EACH(object, &objects->all) {
                if (object->face != mount->face)
                        continue;
                nodes[i] = strdup(object->path);
                if (!nodes[i]) {
                        for (size_t k = 0; k < i; k++)
                                free(nodes[k]);
                        free(nodes);
                        return -ENOMEM;
                }
                i++;
        }
        *ret_nodes = nodes;
        return 1;
}
