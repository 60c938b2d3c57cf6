/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl events: what has happened, and what happens. */

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/event.h"
#include "ctl/must.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define NEWEST 50               /* without --max */
#define COMEBACK_US (3600 * 1000000ULL) /* who follows waits for a service that restarts, an hour if need be */

static void print_event(Ctl *ctl, const Event *event) {
        if (ctl->json) {
                Json *document = json_of_event(event);
                json_write(document, JSON_LINE, ctl->out.file);
                json_object_put(document);
                return;
        }
        _cleanup_free_ char *when = time_to_text(event->time_us), *first = must_printf("%s  ", when);
        screen_paragraph(&ctl->out, first, STYLE_FAINT, event->message);
}

static Status read_options(Ctl *ctl, const Args *args, uint64_t *ret_since, uint64_t *ret_max) {
        int64_t since = 0, max = NEWEST;
        Status status = option_number(ctl, args, "--since", 0, INT64_MAX, &since);
        if (status == STATUS_DONE)
                status = option_number(ctl, args, "--max", 0, INT32_MAX, &max);
        *ret_since = (uint64_t) since;
        *ret_max = (uint64_t) max;
        return status;
}

/* What is followed: the signals since we listen, and whether the service went away meanwhile. */
typedef struct Follow {
        Ctl *ctl;
        uint64_t last;          /* the number of the newest event shown */
        bool lost;              /* the service left the bus */
} Follow;

static void show(Follow *follow, const Event *event) {
        if (event->seq <= follow->last)
                return;
        follow->last = event->seq;
        print_event(follow->ctl, event);
        (void) fflush(follow->ctl->out.file);
}

static int on_event(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Follow *follow = userdata;
        Event event;
        if (event_read(m, EVENT_SIGNAL, &event) <= 0)
                return 0;
        show(follow, &event);
        event_clear(&event);
        return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Follow *follow = userdata;
        const char *name, *before, *now;
        if (sd_bus_message_read(m, "sss", &name, &before, &now) >= 0)
                follow->lost = true;
        return 0;
}

static Status show_missed(Follow *follow, uint64_t since, uint64_t max) {
        _cleanup_(events_clear) Events events = {};
        Status status = events_load(follow->ctl, since, max, &events);
        ARRAY_EACH(event, &events)
                show(follow, event);
        return status;
}

static Status follow_until_interrupted(Follow *follow) {
        Ctl *ctl = follow->ctl;
        bus_catch_interrupt();
        for (;;) {
                int r = bus_turn(ctl->bus, UINT64_MAX);
                if (r == BUS_TURN_INTERRUPTED)
                        return STATUS_DONE;
                if (r < 0)
                        return ctl_fail(ctl, STATUS_UNREACHABLE, NULL, "The connection to the bus was lost: %s.",
                                        strerror(-r));
                if (!follow->lost)
                        continue;
                follow->lost = false;
                if (!bus_await_service(ctl->bus, now_boottime_us() + COMEBACK_US)) {
                        if (bus_was_interrupted())
                                return STATUS_DONE;
                        return ctl_fail(ctl, STATUS_UNREACHABLE, NULL, "gpupoold went away and did not come back.");
                }
                Status status = show_missed(follow, follow->last, 0);
                if (status != STATUS_DONE && !follow->lost)
                        return status;
        }
}

static Status follow_events(Ctl *ctl, uint64_t since, uint64_t max) {
        Follow follow = { .ctl = ctl, .last = since };
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *events = NULL, *owner = NULL;
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        /* Listen first, ask then: what comes between is in both, and shown once. */
        int r = sd_bus_match_signal(ctl->bus, &events, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER, "Event", on_event,
                                    &follow);
        if (r >= 0)
                r = bus_match_owner(ctl->bus, &owner, on_owner, &follow);
        if (r < 0)
                return ctl_fail(ctl, STATUS_UNREACHABLE, NULL, "The bus does not let gpupoolctl listen: %s.",
                                strerror(-r));
        status = show_missed(&follow, since, max);
        ctl->answered = true;
        if (status == STATUS_DONE)
                status = follow_until_interrupted(&follow);
        bus_release_interrupt();
        return status;
}

Status verb_events(Ctl *ctl, const Args *args) {
        _cleanup_(events_clear) Events events = {};
        uint64_t since, max;
        Status status = read_options(ctl, args, &since, &max);
        if (status != STATUS_DONE)
                return status;
        if (args_has(args, "--follow"))
                return follow_events(ctl, since, max);

        status = events_load(ctl, since, max, &events);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map(), *list = json_list();
                ARRAY_EACH(event, &events)
                        json_push(list, json_of_event(event));
                json_put(document, "events", list);
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        if (since > 0 && events.n > 0 && events.items[0].seq > since + 1 && max == 0)
                ctl_hint(ctl, "The events %llu to %llu are no longer kept.", (unsigned long long) since + 1,
                         (unsigned long long) events.items[0].seq - 1);
        ARRAY_EACH(event, &events)
                print_event(ctl, event);
        return STATUS_DONE;
}
