/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/exchange.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/names.h"
#include "util/text.h"

void answer_clear(Answer *answer) {
        free(answer->sentence);
        free(answer->xml);
        closep(&answer->pidfd);
        for (size_t i = 0; i < answer->n_domains; i++) {
                free(answer->domains[i].name);
                closep(&answer->domains[i].pidfd);
        }
        free(answer->domains);
        *answer = ANSWER_NONE;
}

/* libvirt quotes what it was given, over several lines. */
static void make_printable(char *sentence) {
        for (char *p = sentence; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        *p = ' ';
        for (char *p = sentence; !text_is_printable(sentence) && *p; p++)
                if ((unsigned char) *p >= 0x80)
                        *p = '?';
}

void answer_set(Answer *answer, HypervisorResult result, const char *sentence) {
        char *copy = sentence ? strndup(sentence, TEXT_LENGTH_MAX) : NULL;
        if (copy)
                make_printable(copy);
        answer_clear(answer);
        answer->result = result;
        answer->sentence = copy;
}

int exchange_new(Exchange **ret) {
        Exchange *exchange = calloc(1, sizeof(*exchange));
        if (!exchange)
                return -ENOMEM;
        exchange->n_references = 1;
        exchange->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (exchange->wake_fd < 0) {
                int r = -errno;
                free(exchange);
                return r;
        }
        (void) pthread_mutex_init(&exchange->mutex, NULL);
        *ret = exchange;
        return 0;
}

Exchange *exchange_ref(Exchange *exchange) {
        pthread_mutex_lock(&exchange->mutex);
        exchange->n_references++;
        pthread_mutex_unlock(&exchange->mutex);
        return exchange;
}

static void clear_messages(Messages *messages) {
        ARRAY_EACH(message, messages)
                answer_clear(&message->answer);
        array_clear(messages);
}

Exchange *exchange_unref(Exchange *exchange) {
        if (!exchange)
                return NULL;
        pthread_mutex_lock(&exchange->mutex);
        bool is_last = --exchange->n_references == 0;
        pthread_mutex_unlock(&exchange->mutex);
        if (!is_last)
                return NULL;
        clear_messages(&exchange->messages);
        (void) close(exchange->wake_fd);
        (void) pthread_mutex_destroy(&exchange->mutex);
        free(exchange);
        return NULL;
}

void exchange_put_locked(Exchange *exchange, Message *message) {
        bool is_event = message->kind == MESSAGE_EVENT;
        bool keep = !exchange->closed && !(is_event && exchange->n_events >= EXCHANGE_EVENTS_MAX);
        if (keep && array_append(&exchange->messages, message) < 0)
                keep = false;
        if (keep)
                exchange->n_events += is_event;
        else {
                exchange->events_lost = exchange->events_lost || is_event;
                answer_clear(&message->answer);
        }
        *message = (Message) { .answer = ANSWER_NONE };
        (void) eventfd_write(exchange->wake_fd, 1);
}

void exchange_put(Exchange *exchange, Message *message) {
        pthread_mutex_lock(&exchange->mutex);
        exchange_put_locked(exchange, message);
        pthread_mutex_unlock(&exchange->mutex);
}

void exchange_take(Exchange *exchange, Messages *ret, bool *ret_events_lost) {
        eventfd_t count;
        (void) eventfd_read(exchange->wake_fd, &count);
        pthread_mutex_lock(&exchange->mutex);
        *ret = exchange->messages;
        *ret_events_lost = exchange->events_lost;
        exchange->messages = (Messages) {};
        exchange->n_events = 0;
        exchange->events_lost = false;
        pthread_mutex_unlock(&exchange->mutex);
}

void exchange_close(Exchange *exchange) {
        pthread_mutex_lock(&exchange->mutex);
        exchange->closed = true;
        Messages messages = exchange->messages;
        exchange->messages = (Messages) {};
        pthread_mutex_unlock(&exchange->mutex);
        clear_messages(&messages);
}
