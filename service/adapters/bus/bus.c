/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/log-control.h"
#include "core/names.h"
#include "util/log.h"
#include "util/text.h"

#define RECONNECT_US 1000000U

int bus_keep_slot(Bus *bus, sd_bus_slot *slot) {
        int r = array_append(&bus->slots, &slot);
        if (r < 0)
                sd_bus_slot_unref(slot);
        return r;
}

void bus_disconnect(Bus *bus) {
        inquiries_clear(bus);
        requests_abandon(bus);
        ARRAY_EACH(slot, &bus->slots)
                sd_bus_slot_unref(*slot);
        array_clear(&bus->slots);
        bus->connection = sd_bus_flush_close_unref(bus->connection);
}

/* ---- connecting */

static int on_name_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *old_owner, *new_owner;
        int r = sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner);
        if (r >= 0 && text_is_empty(new_owner))
                inquiries_drop_sender(userdata, name);
        return 0;
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata);

/* The bus has closed the connection, which on a running system it should not: a lease and VMs hang on this service, so
 * it does not end with it, but comes back when the bus does. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;
        log_error("the system bus has closed the connection; connecting again");
        int r = sd_event_source_set_time_relative(bus->reconnect, 0);
        if (r >= 0)
                r = sd_event_source_set_enabled(bus->reconnect, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("the system bus cannot be connected to again: %s", strerror(-r));
        return 0;
}

/* The default handler would end the whole connection when the bus refuses a match. */
static int on_match_added(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("the bus does not tell when callers leave: %s", sd_bus_message_get_error(m)->message);
        return 0;
}

static int add_matches(Bus *bus) {
        sd_bus_slot *slot = NULL;
        int r = sd_bus_add_match_async(bus->connection, &slot,
                                       "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                       "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                                       on_name_owner_changed, on_match_added, bus);
        if (r >= 0)
                r = bus_keep_slot(bus, slot);
        if (r < 0)
                return r;
        slot = NULL;
        r = sd_bus_match_signal_async(bus->connection, &slot, "org.freedesktop.DBus.Local",
                                      "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected",
                                      on_disconnected, on_match_added, bus);
        return r < 0 ? r : bus_keep_slot(bus, slot);
}

static int add_fallback(Bus *bus, Mount *mount) {
        sd_bus_slot *slot = NULL;
        int r = sd_bus_add_fallback_vtable(bus->connection, &slot, mount->face->root, mount->face->interface,
                                           mount->vtable, objects_on_find, mount);
        if (r >= 0)
                r = bus_keep_slot(bus, slot);
        if (r < 0)
                return r;
        slot = NULL;
        r = sd_bus_add_node_enumerator(bus->connection, &slot, mount->face->root, objects_on_enumerate, mount);
        return r < 0 ? r : bus_keep_slot(bus, slot);
}

static int add_objects(Bus *bus) {
        sd_bus_slot *slot = NULL;
        int r = sd_bus_add_object_manager(bus->connection, &slot, OBJECT_ROOT);
        if (r >= 0)
                r = bus_keep_slot(bus, slot);
        if (r < 0)
                return r;
        slot = NULL;
        r = sd_bus_add_object_vtable(bus->connection, &slot, OBJECT_ROOT, INTERFACE_MANAGER,
                                     bus->mounts[FACE_MANAGER].vtable, &bus->objects.manager);
        if (r >= 0)
                r = bus_keep_slot(bus, slot);
        for (int kind = FACE_MANAGER + 1; r >= 0 && kind < FACE_COUNT; kind++)
                r = add_fallback(bus, bus->mounts + kind);
        return r < 0 ? r : log_control_add(bus);
}

static int open_connection(const char *address, sd_bus **ret) {
        if (!address)
                return sd_bus_open_system_with_description(ret, "gpupoold");
        _cleanup_(sd_bus_unrefp) sd_bus *connection = NULL;
        int r = sd_bus_new(&connection);
        if (r >= 0)
                r = sd_bus_set_address(connection, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(connection, true);
        if (r >= 0)
                r = sd_bus_start(connection);
        if (r < 0)
                return r;
        *ret = STEAL(connection);
        return 0;
}

static int connect_bus(Bus *bus) {
        int r = open_connection(bus->address, &bus->connection);
        if (r >= 0)
                r = add_objects(bus);
        if (r >= 0)
                r = add_matches(bus);
        if (r >= 0)
                r = sd_bus_attach_event(bus->connection, bus->event, SD_EVENT_PRIORITY_NORMAL);
        return r < 0 ? r : 0;
}

static int on_name_requested(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_error("the name " BUS_NAME " cannot be had any more: %s", sd_bus_message_get_error(m)->message);
        else
                log_notice("back on the system bus");
        return 0;
}

static int reconnect(Bus *bus) {
        bus_disconnect(bus);
        int r = connect_bus(bus);
        if (r >= 0 && bus->name_wanted)
                r = changes_begin(bus);
        if (r >= 0 && bus->name_wanted) {
                sd_bus_slot *slot = NULL;
                r = sd_bus_request_name_async(bus->connection, &slot, BUS_NAME, 0, on_name_requested, bus);
                if (r >= 0)
                        r = bus_keep_slot(bus, slot);
        }
        return r;
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata) {
        Bus *bus = userdata;
        if (reconnect(bus) >= 0)
                return 0;
        bus_disconnect(bus);
        if (sd_event_source_set_time_relative(source, RECONNECT_US) >= 0)
                (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

/* ---- life */

static int make_mounts(Bus *bus) {
        for (FaceKind kind = FACE_MANAGER; kind < FACE_COUNT; kind++) {
                Mount *mount = bus->mounts + kind;
                *mount = (Mount) { .bus = bus, .face = face_of(kind) };
                int r = face_make_vtable(mount->face, &mount->vtable);
                if (r < 0)
                        return r;
        }
        return 0;
}

int bus_new(Bus **ret, sd_event *event, const BusConfig *config, const Service *service, void *service_userdata) {
        _cleanup_(bus_freep) Bus *bus = calloc(1, sizeof(*bus));
        if (!bus)
                return -ENOMEM;
        bus->event = sd_event_ref(event);
        bus->questions_per_user = config->questions_per_user;
        bus->service = service;
        bus->service_userdata = service_userdata;
        objects_init(&bus->objects, bus);

        int r = text_set(&bus->address, config->address);
        if (r >= 0)
                r = make_mounts(bus);
        if (r >= 0)
                r = changes_init(&bus->changes, bus);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &bus->reconnect, CLOCK_BOOTTIME, 0, 0, on_reconnect, bus);
        if (r >= 0)
                r = sd_event_source_set_enabled(bus->reconnect, SD_EVENT_OFF);
        if (r >= 0)
                r = connect_bus(bus);
        if (r < 0)
                return r;
        *ret = STEAL(bus);
        return 0;
}

Bus *bus_free(Bus *bus) {
        if (!bus)
                return NULL;
        bus_disconnect(bus);
        changes_clear(&bus->changes);
        objects_clear(&bus->objects);
        sd_event_source_disable_unref(bus->reconnect);
        for (FaceKind kind = FACE_MANAGER; kind < FACE_COUNT; kind++)
                free(bus->mounts[kind].vtable);
        free(bus->address);
        sd_event_unref(bus->event);
        free(bus);
        return NULL;
}

int bus_name_is_taken(Bus *bus) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = sd_bus_get_name_creds(bus->connection, BUS_NAME, 0, &creds);
        return r == -ENXIO ? 0 : r < 0 ? r : 1;
}

int bus_acquire_name(Bus *bus) {
        int r = changes_begin(bus);
        if (r < 0)
                return r;
        r = sd_bus_request_name(bus->connection, BUS_NAME, 0);
        if (r < 0)
                return r == -EALREADY ? -EEXIST : r;
        bus->name_wanted = true;
        return 0;
}

void bus_invalidate(Bus *bus) {
        changes_note(bus);
}

void bus_flush(Bus *bus) {
        changes_tell(bus);
}

/* ---- jobs */

void bus_job_added(Bus *bus, const Job *job) {
        changes_note(bus);
        changes_tell(bus);
        if (!bus->connection || !bus->name_wanted)
                return;
        int r = sd_bus_emit_signal(bus->connection, OBJECT_ROOT, INTERFACE_MANAGER, "JobNew", "to", job->id,
                                   path_of_job(job->id).text);
        if (r < 0)
                log_warning("nobody could be told of job %llu: %s", (unsigned long long) job->id, strerror(-r));
}

void bus_job_ended(Bus *bus, const Job *job) {
        changes_note(bus);
        changes_tell(bus);
        if (!bus->connection || !bus->name_wanted)
                return;
        int r = sd_bus_emit_signal(bus->connection, OBJECT_ROOT, INTERFACE_MANAGER, "JobRemoved", "tosss", job->id,
                                   path_of_job(job->id).text, job_result_to_text(job->result), job->error ?: "",
                                   job->message ?: "");
        if (r < 0)
                log_warning("nobody could be told how job %llu ended: %s", (unsigned long long) job->id, strerror(-r));
}

void bus_job_forgotten(Bus *bus, const Job *job) {
        changes_note(bus);
}
