/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Event: one thing that was decided or has happened, as the service tells it, and rows of them. */

#include "ctl/json.h"
#include "ctl/request.h"

#define EVENT_NOBODY UINT32_MAX         /* it happened by itself */

typedef struct Event {
        uint64_t seq, time_us;          /* realtime */
        uint32_t uid;
        char *kind, *object, *node, *user, *action, *message;
} Event;

typedef ARRAY(Event) Events;

/* Reads the arguments of the signal Event, or one struct of the answer of Events. 1, 0 at the end of a row, or negative
 * errno. */
typedef enum EventForm { EVENT_SIGNAL, EVENT_STRUCT } EventForm;
int event_read(sd_bus_message *m, EventForm form, Event *ret);
void event_clear(Event *event);
void events_clear(Events *events);

/* Asks for what came after @since; with @max > 0 only the newest of them are kept. */
Status events_load(Ctl *ctl, uint64_t since, uint64_t max, Events *ret);

Json *json_of_event(const Event *event);
