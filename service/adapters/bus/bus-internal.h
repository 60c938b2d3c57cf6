/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this folder share and nobody else sees: the Bus itself. */

#include "adapters/bus/ask.h"
#include "adapters/bus/bus.h"
#include "adapters/bus/changes.h"
#include "adapters/bus/face.h"
#include "adapters/bus/objects.h"
#include "adapters/bus/request.h"
#include "util/array.h"

/* Where a face is hung up: what sd-bus gives back when it looks for an object. */
typedef struct Mount {
        Bus *bus;
        const Face *face;
        sd_bus_vtable *vtable;          /* made of the face's methods and properties; owned */
} Mount;

struct Bus {
        sd_event *event;
        char *address;                  /* NULL: the system bus */
        uint32_t questions_per_user;
        const Service *service;
        void *service_userdata;

        sd_bus *connection;             /* NULL while it is lost */
        ARRAY(sd_bus_slot *) slots;     /* vtables, enumerators, matches of this connection */
        sd_event_source *reconnect;
        bool name_wanted;               /* bus_acquire_name() was called: a new connection takes it again */

        Mount mounts[FACE_COUNT];
        Objects objects;
        Changes changes;
        Inquiries inquiries;
        Request *requests;              /* answers that are owed */
};

static inline const World *bus_world(Bus *bus) {
        return bus->service->world(bus->service_userdata);
}

/* Keeps @slot for as long as the connection lives. Takes it over, also when it fails. */
int bus_keep_slot(Bus *bus, sd_bus_slot *slot);

/* Drops the connection and everything that hung on it. */
void bus_disconnect(Bus *bus);
