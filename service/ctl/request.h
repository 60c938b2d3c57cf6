/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Request: one call to the service, from its arguments to its answer or the sentence why there is none. A change
 * carries a request id, so that it can be sent again when its outcome is unknown (the service was killed, a leader
 * went away) and still happens once. */

#include <systemd/sd-bus.h>

#include "ctl/ctl.h"

typedef enum RequestKind {
        REQUEST_READ,           /* asks nobody */
        REQUEST_GUARDED_READ,   /* polkit decides */
        REQUEST_CHANGE,         /* polkit decides, and it happens once */
} RequestKind;

typedef struct Request {
        RequestKind kind;
        sd_bus_message *message;
        int error;              /* the first that came up while it was put together */
        bool options_open;
        const char *action;     /* borrowed */
        char *doing;            /* owned */
} Request;

/* The bus must be there (ctl_connect). */
void request_begin(Ctl *ctl, Request *request, RequestKind kind, const char *path, const char *interface,
                   const char *method);
void request_clear(Request *request);

/* What to say to one who may not: "stopping a VM of pool training", and the polkit action. */
void request_explain(Request *request, const char *action, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

void request_append(Request *request, const char *types, ...);
void request_open(Request *request, char type, const char *contents);  /* 'a' or 'r' */
void request_close(Request *request);
void request_append_file(Request *request, int fd);                    /* a copy of it */
void request_append_list(Request *request, char type, const TextList *list);

/* The final a{sv}: begin it after the arguments; a change ends it by itself, and has one even if none is begun. */
void request_options(Request *request);
void request_option(Request *request, const char *key, const char *type, ...);
void request_option_list(Request *request, const char *key, char type, const TextList *list);
void request_open_option(Request *request, const char *key, const char *type);  /* a value that is put together */
void request_close_option(Request *request);

/* Ends a{sv} that is not the last argument (the policy of SetPolicy); request_options() begins the next one. */
void request_end_options(Request *request);

/* Sends it and waits. On STATUS_DONE *ret_answer is the reply, which the caller unrefs; it may be NULL. Else all has
 * been said. */
Status request_send(Ctl *ctl, Request *request, sd_bus_message **ret_answer);

/* For an answer of another form than the contract says. Returns STATUS_FAILED. */
Status request_refuse_answer(Ctl *ctl, const Request *request, int error);

static inline void request_clear_cleanup(Request *request) {
        request_clear(request);
}
#define _cleanup_request_ _cleanup_(request_clear_cleanup)
#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
