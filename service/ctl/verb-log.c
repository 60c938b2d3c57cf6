/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl log: who did what, and by which right. The administrative acts among the events. */

#include "core/names.h"
#include "ctl/event.h"
#include "ctl/must.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define NEWEST 50               /* without --max */

static bool is_act(const Event *event) {
        return event->uid != EVENT_NOBODY || !text_is_empty(event->action);
}

/* Keeps the newest @max acts; 0: all. */
static void keep_acts(Events *events, uint64_t max) {
        size_t kept = 0;
        ARRAY_EACH(event, events) {
                if (is_act(event))
                        events->items[kept++] = *event;
                else
                        event_clear(event);
        }
        events->n = kept;
        while (max > 0 && events->n > max) {
                event_clear(events->items);
                array_remove(events, 0);
        }
}

static void print_acts(const Events *events, const Screen *screen) {
        static const char prefix[] = BUS_NAME ".";
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "TIME", TABLE_LEFT, 80, 0);
        table_column(table, "WHO", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "NODE", TABLE_LEFT, 20, 0);
        table_column(table, "BY RIGHT", TABLE_LEFT, 10, 0);
        table_column(table, "WHAT", TABLE_LEFT, 30, 20);
        ARRAY_EACH(event, events) {
                _cleanup_free_ char *when = time_to_text(event->time_us);
                bool ours = strncmp(event->action, prefix, strlen(prefix)) == 0;
                table_cell(table, STYLE_FAINT, "%s", when);
                if (text_is_empty(event->user))
                        table_cell(table, STYLE_PLAIN, "uid %u", event->uid);
                else
                        table_cell(table, STYLE_PLAIN, "%s (%u)", event->user, event->uid);
                table_cell(table, STYLE_PLAIN, "%s", or_dash(event->node));
                table_cell(table, STYLE_PLAIN, "%s", or_dash(event->action + (ours ? strlen(prefix) : 0)));
                table_cell(table, STYLE_PLAIN, "%s", event->message);
        }
        table_print(table, screen);
}

Status verb_log(Ctl *ctl, const Args *args) {
        _cleanup_(events_clear) Events events = {};
        int64_t since = 0, max = NEWEST;
        Status status = option_number(ctl, args, "--since", 0, INT64_MAX, &since);
        if (status == STATUS_DONE)
                status = option_number(ctl, args, "--max", 0, INT32_MAX, &max);
        if (status == STATUS_DONE)
                status = events_load(ctl, (uint64_t) since, 0, &events);
        if (status != STATUS_DONE)
                return status;
        keep_acts(&events, (uint64_t) max);
        if (ctl->json) {
                Json *document = json_map(), *list = json_list();
                ARRAY_EACH(event, &events)
                        json_push(list, json_of_event(event));
                json_put(document, "acts", list);
                ctl_answer(ctl, document);
        } else if (events.n == 0) {
                ctl_hint(ctl, "Nobody did anything that is still kept.");
        } else {
                print_acts(&events, &ctl->out);
        }
        return STATUS_DONE;
}
