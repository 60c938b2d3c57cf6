/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* UdevWorld: a host that is a folder (mock-sysfs.h), a watch on it, and all that the watch told. */

#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "adapters/udev/udev-watch.h"
#include "mock-sysfs.h"

#define DEADLINE_US (60U * 1000U * 1000U)
#define NOT_LATE_US (20U * 1000U * 1000U)       /* for what is to be in time on a busy machine, too */

extern const MockDevice NETWORK_CARD;   /* beside MOCK_H100, in its group */
extern const MockDevice FAR_CARD;       /* of no GPU's group */

typedef struct World {
        sd_event *event;
        MockSysfs *mock;
        UdevWatch *watch;
        GpuFacts *gpus;
        size_t n_gpus;
        unsigned lists;                 /* how often the list was told */
        unsigned hosts;
        GPtrArray *events;              /* "add 0000:41:00.0" */
        GHashTable *last_properties;
        unsigned refreshed;
        bool refreshed_gone;
        char *socket_path;              /* of the probe */
        int listener;
        sd_event_source *accept;
        bool probe_is_silent;
        unsigned probes;
        GArray *silent;                 /* connections that get no answer */
} World;

/* First in main(). Argument of the test: the probe's program. */
void world_init(int *argc, char ***argv);
const char *world_probe_program(void);
/* Also says so to the test's protocol. */
bool skip_without_uevents(void);

/* Opens a character device that nobody else has open; *ret_number as sysfs writes it, and to be freed. */
int hold_terminal(char **ret_number);

World world_of(const MockDevice *devices, size_t n);
void world_clear(World *w);
/* The real probe behind a socket; before the watch. */
void start_probe(World *w);
/* Never looks again by itself, and is patient, unless the config says so. */
void start_watch_with(World *w, UdevWatchConfig config);
void start_watch(World *w);

const GpuFacts *gpu_at(const World *w, const char *text);
bool has_driver(const World *w, const char *address, const char *driver);
bool is_unreadable(const World *w, const char *address, const char *what);
unsigned count_events(const World *w, const char *event);

/* Runs the loop until the condition holds; a test that waits for too long has failed. */
#define WAIT_UNTIL(w, condition)                                                                                \
        do {                                                                                                    \
                gint64 _deadline = g_get_monotonic_time() + DEADLINE_US;                                        \
                while (!(condition)) {                                                                          \
                        if (g_get_monotonic_time() > _deadline)                                                 \
                                g_error("waited in vain for: %s", #condition);                                  \
                        g_assert_cmpint(sd_event_run((w)->event, 100000), >=, 0);                               \
                }                                                                                               \
        } while (false)
