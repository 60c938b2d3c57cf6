/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/face.h"

#include <errno.h>
#include <stdlib.h>

#include "adapters/bus/objects.h"
#include "util/text.h"

const Face *face_of(FaceKind kind) {
        switch (kind) {
        case FACE_MANAGER:
                return &manager_face;
        case FACE_NODE:
                return &node_face;
        case FACE_GPU:
                return &gpu_face;
        case FACE_POOL:
                return &pool_face;
        case FACE_VM:
                return &vm_face;
        case FACE_JOB:
                return &job_face;
        case FACE_COUNT:
                break;
        }
        return NULL;
}

/* sd-bus hands us the name that stands in the vtable, which is the row's own: comparing pointers finds it. */
static const Property *find_property(const Face *face, const char *name) {
        for (size_t i = 0; i < face->n_properties; i++)
                if (face->properties[i].name == name)
                        return face->properties + i;
        for (size_t i = 0; i < face->n_properties; i++)
                if (text_equal(face->properties[i].name, name))
                        return face->properties + i;
        return NULL;
}

static int get_property(sd_bus *connection, const char *path, const char *interface, const char *name,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Object *object = userdata;
        const Property *property = find_property(object->face, name);
        if (!property)
                return -ENOENT;
        Sink sink = SINK_MESSAGE(reply);
        return property->put(&sink, object);
}

static uint64_t flags_of(PropertyChange change) {
        switch (change) {
        case PROPERTY_CHANGES:
                return SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
        case PROPERTY_CONST:
                return SD_BUS_VTABLE_PROPERTY_CONST;
        case PROPERTY_SILENT:
                return 0;
        }
        return 0;
}

int face_make_vtable(const Face *face, sd_bus_vtable **ret) {
        size_t n_methods = 0;
        while (face->methods[n_methods].type != _SD_BUS_VTABLE_END)
                n_methods++;

        sd_bus_vtable *vtable = calloc(n_methods + face->n_properties + 1, sizeof(*vtable));
        if (!vtable)
                return -ENOMEM;
        memcpy(vtable, face->methods, n_methods * sizeof(*vtable));
        for (size_t i = 0; i < face->n_properties; i++) {
                const Property *p = face->properties + i;
                vtable[n_methods + i] = (sd_bus_vtable) SD_BUS_PROPERTY(p->name, p->signature, get_property, 0,
                                                                        flags_of(p->change));
        }
        vtable[n_methods + face->n_properties] = (sd_bus_vtable) SD_BUS_VTABLE_END;
        *ret = vtable;
        return 0;
}
