/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/changes.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "adapters/bus/bus-internal.h"
#include "util/log.h"

#define ROUND_INTERVAL_US (1000000U / CHANGES_PER_SECOND)
#define ROUND_ACCURACY_US 5000U

static int on_round(sd_event_source *source, uint64_t usec, void *userdata) {
        changes_tell(userdata);
        return 0;
}

int changes_init(Changes *changes, Bus *bus) {
        *changes = (Changes) {};
        int r = sd_event_add_time(bus->event, &changes->round, CLOCK_MONOTONIC, 0, ROUND_ACCURACY_US, on_round, bus);
        if (r >= 0)
                r = sd_event_source_set_enabled(changes->round, SD_EVENT_OFF);
        return r < 0 ? r : 0;
}

void changes_clear(Changes *changes) {
        changes->round = sd_event_source_disable_unref(changes->round);
}

void changes_note(Bus *bus) {
        Changes *changes = &bus->changes;
        bus->objects.stale = true;
        if (changes->pending || !changes->round)
                return;

        changes->pending = true;
        if (sd_event_source_set_time(changes->round, changes->last_us ? changes->last_us + ROUND_INTERVAL_US : 0) < 0 ||
            sd_event_source_set_enabled(changes->round, SD_EVENT_ONESHOT) < 0)
                log_warning("the bus cannot gather changes; they are told with the next call");
}

/* ---- one object */

static int fingerprint(Object *object, const Property *property, uint64_t *ret) {
        Sink sink = SINK_FINGERPRINT;
        int r = property->put(&sink, object);
        if (r < 0)
                return r;
        *ret = sink.fingerprint;
        return 0;
}

/* Brings the fingerprints up to date; *ret_names (FACE_PROPERTIES_MAX + 1 places) gets the names of what changed. */
static int update_fingerprints(Object *object, const char **ret_names) {
        const Face *face = object->face;
        bool first = !object->fingerprints;
        size_t n = 0;
        if (first) {
                object->fingerprints = calloc(face->n_properties, sizeof(*object->fingerprints));
                if (!object->fingerprints)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < face->n_properties; i++) {
                uint64_t now;
                if (face->properties[i].change != PROPERTY_CHANGES)
                        continue;
                int r = fingerprint(object, face->properties + i, &now);
                if (r < 0)
                        return r;
                if (first || now != object->fingerprints[i])
                        ret_names[n++] = face->properties[i].name;
                object->fingerprints[i] = now;
        }
        ret_names[n] = NULL;
        return 0;
}

static int tell_object(Bus *bus, Object *object) {
        const char *names[FACE_PROPERTIES_MAX + 1];
        bool known = object->announced;
        int r = update_fingerprints(object, names);
        if (r < 0)
                return r;

        if (!known) {
                object->announced = true;
                return sd_bus_emit_object_added(bus->connection, object->path);
        }
        if (!names[0])
                return 0;
        return sd_bus_emit_properties_changed_strv(bus->connection, object->path, object->face->interface,
                                                   (char **) names);
}

static void tell_departed(Bus *bus) {
        Objects *objects = &bus->objects;
        ARRAY_EACH(departed, &objects->departed) {
                objects->departing = departed->path;
                int r = sd_bus_emit_object_removed(bus->connection, departed->path);
                if (r < 0)
                        log_warning("the bus could not tell that %s is gone: %s", departed->path, strerror(-r));
                free(departed->path);
        }
        objects->departing = NULL;
        array_clear(&objects->departed);
}

/* ---- a round */

void changes_tell(Bus *bus) {
        Changes *changes = &bus->changes;
        if (!changes->pending || !bus->connection || !bus->name_wanted)
                return;
        int r = objects_refresh(&bus->objects);
        if (r < 0) {
                log_error("the bus cannot tell what changed: %s", strerror(-r));
                return;
        }
        changes->pending = false;
        (void) sd_event_source_set_enabled(changes->round, SD_EVENT_OFF);
        (void) sd_event_now(bus->event, CLOCK_MONOTONIC, &changes->last_us);

        r = tell_object(bus, &bus->objects.manager);
        ARRAY_EACH(object, &bus->objects.all)
                if (r >= 0 && !object->announced)
                        r = tell_object(bus, object);
        ARRAY_EACH(object, &bus->objects.all)
                if (r >= 0)
                        r = tell_object(bus, object);
        if (r < 0)
                log_warning("the bus could not tell of every change: %s", strerror(-r));
        tell_departed(bus);
}

int changes_begin(Bus *bus) {
        const char *names[FACE_PROPERTIES_MAX + 1];
        bus->objects.stale = true;
        int r = objects_refresh(&bus->objects);
        if (r >= 0)
                r = update_fingerprints(&bus->objects.manager, names);
        ARRAY_EACH(object, &bus->objects.all) {
                if (r >= 0)
                        r = update_fingerprints(object, names);
                object->announced = true;
        }
        ARRAY_EACH(departed, &bus->objects.departed)
                free(departed->path);
        array_clear(&bus->objects.departed);
        bus->changes.pending = false;
        return r;
}
