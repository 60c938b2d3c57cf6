/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Exchange: the way from threads to the loop: a queue and an eventfd. Threads put messages in from anywhere; the loop
 * takes them all when the eventfd wakes it. Lives as long as anybody has it: a thread that comes back from libvirt
 * after an hour still finds it, closed. Its mutex also guards what a worker and the loop share. */

#include <pthread.h>
#include <stdbool.h>

#include "adapters/libvirt/answer.h"
#include "util/array.h"

#define EXCHANGE_EVENTS_MAX 4096U       /* more than a host has domains; then events are dropped and the loss is told */

typedef enum MessageKind {
        MESSAGE_ANSWER,                 /* a request's answer */
        MESSAGE_CONNECTED,              /* the watching connection was opened; .answer has all domains */
        MESSAGE_CLOSED,                 /* the watching connection broke */
        MESSAGE_EVENT,
        MESSAGE_RETURNED,               /* an abandoned thread came back */
} MessageKind;

typedef struct Message {
        MessageKind kind;
        uint64_t request;               /* ANSWER */
        uint64_t worker;                /* who says it */
        Answer answer;
        unsigned long version;          /* CONNECTED: libvirt's, as 1000000 * major + 1000 * minor + release */
        VmId vm;                        /* EVENT, and ANSWER where the call was about one */
        DomainEventKind event;
        DomainEventCause cause;
} Message;

typedef ARRAY(Message) Messages;

typedef struct Exchange {
        pthread_mutex_t mutex;
        unsigned n_references;          /* all below: under the mutex */
        int wake_fd;
        bool closed;                    /* the loop is gone: messages are dropped */
        Messages messages;
        size_t n_events;
        bool events_lost;
} Exchange;

int exchange_new(Exchange **ret);
Exchange *exchange_ref(Exchange *exchange);
Exchange *exchange_unref(Exchange *exchange);
DEFINE_CLEANUP(Exchange *, exchange_unref);

/* Takes over what @message owns. The second is for who has the mutex. */
void exchange_put(Exchange *exchange, Message *message);
void exchange_put_locked(Exchange *exchange, Message *message);
/* The loop's: takes all there is. */
void exchange_take(Exchange *exchange, Messages *ret, bool *ret_events_lost);
/* The loop's last word. */
void exchange_close(Exchange *exchange);
