/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client on the system bus (series.h), as whoever starts it:
 *
 *     write N     SetPolicy of pool "bench", each with another value: from call to answer
 *     asked N     the same without a write: who calls is found out, polkit asked (a dry run of SetFunctionalLevel)
 *     read N      GetPool: nobody is asked
 *     polkit N    a question to polkit by itself, of the kind that gpupoold asks
 *     many N      as write, by 16 clients at once, N in all; the times from call to answer, and at last the time of all
 *     dogged N    as write, but what is refused is tried again until it is done (N writes, each one's time) */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "core/names.h"
#include "series.h"
#include "util/cleanup.h"

#define CLIENTS 16U
#define POOL "bench"
#define POLKIT "org.freedesktop.PolicyKit1"
#define PATIENCE_US 30e6

static sd_bus *bus;
static char *pool_path;
static uint32_t value;

static int call_write(sd_bus *on, sd_bus_message **ret) {
        int r = sd_bus_message_new_method_call(on, ret, BUS_NAME, pool_path, INTERFACE_POOL, "SetPolicy");
        return r < 0 ? r : sd_bus_message_append(*ret, "a{sv}a{sv}", 1, "reserve", "u", ++value % 1000, 0);
}

static int write_once(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = call_write(bus, &m);
        if (r >= 0)
                r = sd_bus_call(bus, m, 0, &error, NULL);
        if (r < 0 && error.message)
                fprintf(stderr, "bench-writer: %s\n", error.message);
        return r;
}

static int asked_once(void) {
        return sd_bus_call_method(bus, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER, "SetFunctionalLevel", NULL, NULL,
                                  "ua{sv}", 1, 1, "dry-run", "b", true);
}

static int read_once(void) {
        return sd_bus_call_method(bus, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER, "GetPool", NULL, NULL, "s", POOL);
}

static int polkit_once(void) {
        const char *self;
        int r = sd_bus_get_unique_name(bus, &self);
        if (r < 0)
                return r;
        return sd_bus_call_method(bus, POLKIT, "/org/freedesktop/PolicyKit1/Authority", POLKIT ".Authority",
                                  "CheckAuthorization", NULL, NULL, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name",
                                  "s", self, ACTION_MANAGE_POOL, 2, "pool", POOL, "verb", "set-policy", 0, "");
}

static int repeat(int (*once)(void), unsigned count, double *times) {
        for (unsigned i = 0; i < count; i++) {
                double began = series_now_us();
                int r = once();
                if (r < 0)
                        return r;
                times[i] = series_now_us() - began;
        }
        return 0;
}

static int run_write(unsigned count, double *times) {
        return repeat(write_once, count, times);
}

static int run_asked(unsigned count, double *times) {
        return repeat(asked_once, count, times);
}

static int run_read(unsigned count, double *times) {
        return repeat(read_once, count, times);
}

static int run_polkit(unsigned count, double *times) {
        return repeat(polkit_once, count, times);
}

static int dogged_once(void) {
        double give_up = series_now_us() + PATIENCE_US;
        int r;
        do
                r = write_once();
        while (r < 0 && series_now_us() < give_up);
        return r;
}

static int run_dogged(unsigned count, double *times) {
        return repeat(dogged_once, count, times);
}

/* ---- many at once */

typedef struct Crowd {
        sd_event *event;
        unsigned begun, done, count;
        double *times;
        int error;
} Crowd;

typedef struct Client {
        Crowd *crowd;
        sd_bus *bus;
        double began;
} Client;

static int client_go_on(Client *client);

static int on_written(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Client *client = userdata;
        Crowd *crowd = client->crowd;
        if (sd_bus_message_is_method_error(reply, NULL))
                crowd->error = -sd_bus_message_get_errno(reply);
        else
                crowd->times[crowd->done++] = series_now_us() - client->began;
        if (crowd->error >= 0)
                crowd->error = client_go_on(client);
        if (crowd->error < 0 || crowd->done == crowd->count)
                return sd_event_exit(crowd->event, 0);
        return 0;
}

static int client_go_on(Client *client) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Crowd *crowd = client->crowd;
        if (crowd->begun == crowd->count)
                return 0;
        crowd->begun++;
        client->began = series_now_us();
        int r = call_write(client->bus, &m);
        return r < 0 ? r : sd_bus_call_async(client->bus, NULL, m, on_written, client, 0);
}

static int run_many(unsigned count, double *times) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Client clients[CLIENTS] = {};
        int r = sd_event_new(&event);
        Crowd crowd = { .event = event, .count = count ? count - 1 : 0, .times = times };
        for (unsigned i = 0; r >= 0 && i < CLIENTS; i++) {
                clients[i].crowd = &crowd;
                r = sd_bus_open_system(&clients[i].bus);
                if (r >= 0)
                        r = sd_bus_attach_event(clients[i].bus, event, 0);
        }
        double began = series_now_us();
        for (unsigned i = 0; r >= 0 && i < CLIENTS; i++)
                r = client_go_on(clients + i);
        if (r >= 0 && crowd.count > 0)
                r = sd_event_loop(event);
        if (r >= 0 && count > 0)
                times[crowd.count] = series_now_us() - began;
        for (unsigned i = 0; i < CLIENTS; i++) {
                (void) sd_bus_detach_event(clients[i].bus);
                sd_bus_flush_close_unref(clients[i].bus);
        }
        return crowd.error < 0 ? crowd.error : r;
}

static const Series all[] = {
        { "write", run_write }, { "asked", run_asked }, { "read", run_read }, { "polkit", run_polkit },
        { "many", run_many }, { "dogged", run_dogged },
};

int main(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_call_method(bus, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER, "GetPool", NULL, &reply, "s",
                                       POOL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        pool_path = r >= 0 ? strdup(path) : NULL;
        if (!pool_path) {
                fprintf(stderr, "bench-writer: there is no pool " POOL ": %s\n", strerror(r < 0 ? -r : ENOMEM));
                return 1;
        }
        value = (uint32_t) getpid();
        series_ready();
        while (series_serve_line(all, sizeof(all) / sizeof(all[0])))
                ;
        sd_bus_flush_close_unref(bus);
        free(pool_path);
        return 0;
}
