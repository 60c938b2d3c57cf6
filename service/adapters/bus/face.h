/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Face: what objects of one kind show on the bus: interface, properties, methods. One row per property says its name,
 * type, how it tells of changes, and its value; the vtable that sd-bus wants is made of these rows, and so are the
 * change signals. */

#include <systemd/sd-bus.h>

#include "adapters/bus/sink.h"

typedef struct Object Object;

typedef enum PropertyChange {
        PROPERTY_CHANGES,               /* a change is told, with the value */
        PROPERTY_CONST,
        PROPERTY_SILENT,                /* changes all the time and is read when asked for */
} PropertyChange;

typedef struct Property {
        const char *name;
        const char *signature;
        PropertyChange change;
        /* Says the value. Only copies what the object has; fails for want of memory only. */
        int (*put)(Sink *sink, Object *object);
} Property;

#define FACE_PROPERTIES_MAX 64

typedef struct Face {
        const char *interface;
        const char *root;               /* path below which its objects stand; of the Manager its own */
        const Property *properties;
        size_t n_properties;
        const sd_bus_vtable *methods;   /* methods and signals, from START to END */
} Face;

typedef enum FaceKind {
        FACE_MANAGER,
        FACE_NODE,
        FACE_GPU,
        FACE_POOL,
        FACE_VM,
        FACE_JOB,
        FACE_COUNT,
} FaceKind;

extern const Face manager_face, node_face, gpu_face, pool_face, vm_face, job_face;

const Face *face_of(FaceKind kind);

/* The vtable of @face, owned by the caller. 0 or -ENOMEM. */
int face_make_vtable(const Face *face, sd_bus_vtable **ret);
