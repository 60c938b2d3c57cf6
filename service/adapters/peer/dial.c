/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/dial.h"

#include <errno.h>
#include <string.h>

struct Dial {
        sd_event *event;
        Resolver *resolver;
        TextList addresses;
        size_t first, n_tried;          /* places of the list, gone through */
        SocketAddress found[RESOLVER_ADDRESSES_MAX];
        size_t n_found, n_given;        /* of the present place */
        ResolverRequest *request;
        sd_event_source *turn, *deadline;
        uint64_t resolve_us;
        const DialEvents *events;
        void *userdata;
};

static size_t present(const Dial *dial) {
        return (dial->first + dial->n_tried - 1) % dial->addresses.n;
}

static const char *present_text(const Dial *dial) {
        return dial->addresses.items[present(dial)];
}

static void set_found(Dial *dial, const SocketAddress *addresses, size_t n) {
        dial->n_given = 0;
        dial->n_found = n;
        if (n > 0)
                memcpy(dial->found, addresses, n * sizeof(*addresses));
}

static void on_resolved(const SocketAddress *addresses, size_t n, const char *sentence, void *userdata) {
        Dial *dial = userdata;
        dial->request = NULL;
        (void) sd_event_source_set_enabled(dial->deadline, SD_EVENT_OFF);
        set_found(dial, addresses, n);
        dial_next(dial);
        if (n == 0)
                dial->events->useless(present_text(dial), sentence, dial->userdata);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Dial *dial = userdata;
        dial->request = resolver_request_free(dial->request);
        dial_next(dial);
        dial->events->useless(present_text(dial), "the name service does not answer", dial->userdata);
        return 0;
}

static int resolve(Dial *dial, const char *host, const char *port) {
        uint64_t now = 0;
        (void) sd_event_now(dial->event, CLOCK_BOOTTIME, &now);
        int r = sd_event_source_set_time(dial->deadline, now + dial->resolve_us);
        if (r >= 0)
                r = sd_event_source_set_enabled(dial->deadline, SD_EVENT_ONESHOT);
        if (r >= 0)
                r = resolver_ask(dial->resolver, host, port, on_resolved, dial, &dial->request);
        if (r < 0)
                (void) sd_event_source_set_enabled(dial->deadline, SD_EVENT_OFF);
        return r;
}

/* Goes to the next place of the list. */
static void advance(Dial *dial) {
        char host[ADDRESS_HOST_SIZE], port[ADDRESS_PORT_SIZE];
        SocketAddress number;
        dial->n_tried++;
        set_found(dial, NULL, 0);
        const char *why = NULL;
        if (address_split(present_text(dial), host, port) < 0)
                why = "it is no address";
        else if (address_from_number(host, port, &number) == 0)
                set_found(dial, &number, 1);
        else if (resolve(dial, host, port) >= 0)
                return;
        else
                why = "the name cannot be looked up";
        dial_next(dial);
        if (why)
                dial->events->useless(present_text(dial), why, dial->userdata);
}

static int on_turn(sd_event_source *source, void *userdata) {
        Dial *dial = userdata;
        if (dial->n_given < dial->n_found) {
                const SocketAddress *address = &dial->found[dial->n_given++];
                dial->events->found(address, present_text(dial), present(dial), dial->userdata);
        } else if (dial->n_tried < dial->addresses.n) {
                advance(dial);
        } else {
                dial->events->exhausted(dial->userdata);
        }
        return 0;
}

int dial_new(Dial **ret, sd_event *event, Resolver *resolver, const TextList *addresses, size_t first,
             uint64_t resolve_us, const DialEvents *events, void *userdata) {
        _cleanup_(dial_freep) Dial *dial = calloc(1, sizeof(Dial));
        if (!dial)
                return -ENOMEM;
        dial->event = sd_event_ref(event);
        dial->resolver = resolver;
        dial->first = first;
        dial->resolve_us = resolve_us;
        dial->events = events;
        dial->userdata = userdata;
        int r = text_list_copy(addresses, &dial->addresses);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &dial->turn, on_turn, dial);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(dial->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &dial->deadline, CLOCK_BOOTTIME, 0, resolve_us / 16, on_deadline, dial);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(dial->deadline, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(dial);
        return 0;
}

Dial *dial_free(Dial *dial) {
        if (!dial)
                return NULL;
        (void) resolver_request_free(dial->request);
        (void) sd_event_source_disable_unref(dial->turn);
        (void) sd_event_source_disable_unref(dial->deadline);
        text_list_clear(&dial->addresses);
        sd_event_unref(dial->event);
        free(dial);
        return NULL;
}

void dial_next(Dial *dial) {
        (void) sd_event_source_set_enabled(dial->turn, SD_EVENT_ONESHOT);
}
