/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Objects: everything that is on the bus, made from the World as one table sorted by path. It is thrown away whenever
 * something changed and made anew when somebody next looks, so an object never says what was. What is derived with
 * effort (blockers, counts, reasons) is worked out at most once per table.
 *
 * The pointers into the World are good until the loop goes on after a change; a table that is stale is never read. */

#include "adapters/bus/face.h"
#include "adapters/bus/path.h"
#include "core/job.h"
#include "core/placement-notes.h"
#include "core/world.h"
#include "util/array.h"

typedef struct Bus Bus;

struct Object {
        Bus *bus;
        const Face *face;
        char *path;
        bool announced;                 /* clients know of it */
        uint64_t *fingerprints;         /* of its properties, as clients know them; NULL: not yet */
        bool derived;
        union {
                struct {
                        const NodeRecord *record;       /* NULL: seen, not a member yet */
                        const NodeFacts *facts;         /* NULL: nothing heard of it */
                } node;
                struct {
                        const GpuView *view;
                        Blockers blockers;              /* derived */
                } gpu;
                struct {
                        const Pool *pool;
                        PoolCounts counts;              /* derived */
                } pool;
                struct {
                        const Vm *vm;
                        char *reason_code, *reason;     /* derived */
                        PlacementNotes notes;           /* derived; none: the registry's */
                } vm;
                const Job *job;
        };
};

/* GPUs that belong to one pool or VM, by path. */
typedef struct ObjectRange {
        Object *const *items;
        size_t n;
} ObjectRange;

typedef struct Departed {
        char *path;
        const Face *face;
} Departed;

typedef struct Objects {
        bool stale;
        Object manager;                 /* stands apart: it is always there */
        ARRAY(Object) all;              /* by path */
        Inventory *inventory;           /* of all GPUs; counts and reasons are worked out of it */
        Object **by_pool, **by_vm;      /* the GPUs that have one, by pool or VM, then path */
        size_t n_by_pool, n_by_vm;
        ARRAY(Departed) departed;       /* announced once, gone now, and nobody has been told */
        const char *departing;          /* path of the one that is being told of: found once more */
} Objects;

void objects_init(Objects *objects, Bus *bus);
void objects_clear(Objects *objects);

/* Makes the table good again where it is stale. 0 or -ENOMEM. */
int objects_refresh(Objects *objects);

/* The object at @path, or NULL. */
Object *objects_find(Objects *objects, const char *path);
Object *objects_find_kind(Objects *objects, const char *path, FaceKind kind);

ObjectRange objects_gpus_of_pool(const Objects *objects, const Pool *pool);
ObjectRange objects_gpus_of_vm(const Objects *objects, const Vm *vm);

/* Works out what is derived, once. 0 or -ENOMEM. */
int object_derive(Object *object);

/* What sd-bus asks; @userdata is a Mount. */
int objects_on_find(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found,
                    sd_bus_error *error);
int objects_on_enumerate(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes,
                         sd_bus_error *error);
