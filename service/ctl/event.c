/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/event.h"

#include "core/names.h"
#include "ctl/must.h"

void event_clear(Event *event) {
        free(event->kind);
        free(event->object);
        free(event->node);
        free(event->user);
        free(event->action);
        free(event->message);
        *event = (Event) {};
}

void events_clear(Events *events) {
        ARRAY_EACH(event, events)
                event_clear(event);
        array_clear(events);
}

int event_read(sd_bus_message *m, EventForm form, Event *ret) {
        const char *kind, *object, *node, *user, *action, *message;
        Event event = {};
        int r = sd_bus_message_read(m, form == EVENT_STRUCT ? "(ttsosusss)" : "ttsosusss", &event.seq, &event.time_us,
                                    &kind, &object, &node, &event.uid, &user, &action, &message);
        if (r <= 0)
                return r;
        event.kind = must_copy(kind);
        event.object = must_copy(object);
        event.node = must_copy(node);
        event.user = must_copy(user);
        event.action = must_copy(action);
        event.message = must_copy(message);
        *ret = event;
        return 1;
}

static int read_all(sd_bus_message *m, Events *events) {
        Event event;
        int r = sd_bus_message_enter_container(m, 'a', "(ttsosusss)");
        if (r < 0)
                return r;
        while ((r = event_read(m, EVENT_STRUCT, &event)) > 0)
                MUST(array_append(events, &event));
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static Status load_once(Ctl *ctl, uint64_t since, Events *events) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, INTERFACE_MANAGER, "Events");
        request_append(&request, "tu", since, 0U);
        Status status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = read_all(answer, events);
        return r < 0 ? request_refuse_answer(ctl, &request, r) : STATUS_DONE;
}

Status events_load(Ctl *ctl, uint64_t since, uint64_t max, Events *ret) {
        Status status = ctl_connect(ctl);
        /* One answer holds a limited number: ask until there is no more. */
        while (status == STATUS_DONE) {
                size_t before = ret->n;
                status = load_once(ctl, since, ret);
                if (ret->n == before || ret->items[ret->n - 1].seq <= since)
                        break;
                since = ret->items[ret->n - 1].seq;
        }
        while (max > 0 && ret->n > max) {
                size_t surplus = ret->n - (size_t) max;
                for (size_t i = 0; i < surplus; i++)
                        event_clear(ret->items + i);
                memmove(ret->items, ret->items + surplus, (size_t) max * sizeof(Event));
                ret->n = (size_t) max;
        }
        return status;
}

Json *json_of_event(const Event *event) {
        Json *map = json_map();
        json_put_number(map, "seq", event->seq);
        json_put_time(map, "time", event->time_us);
        json_put_number(map, "time_us", event->time_us);
        json_put_text(map, "kind", event->kind);
        json_put_text(map, "object_path", text_equal(event->object, OBJECT_NONE) ? NULL : event->object);
        json_put_text(map, "node", event->node);
        if (event->uid == EVENT_NOBODY)
                json_put(map, "uid", NULL);
        else
                json_put_number(map, "uid", event->uid);
        json_put_text(map, "user", event->user);
        json_put_text(map, "action", event->action);
        json_put_text(map, "message", event->message);
        return map;
}
