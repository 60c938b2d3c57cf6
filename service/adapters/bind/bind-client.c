/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bind/bind-client.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bind/bind-protocol.h"
#include "util/text.h"

#define TIMER_ACCURACY_US 1000U

/* One question on its way. */
typedef struct Question {
        struct Question *next;
        BindClient *client;
        PciAddress gpu;
        BindVerb verb;
        int fd;                         /* -1: it could not even be put */
        sd_event_source *io, *timer;
        char text[BIND_ANSWER_MAX];
        size_t length;
} Question;

struct BindClient {
        sd_event *event;
        struct sockaddr_un socket;
        uint64_t deadline_us;
        BindEvents events;
        void *userdata;
        Question *questions;
};

int bind_answer_parse(const char *text, size_t size, BindResult *ret, char **ret_sentence) {
        static const char end[] = "\nend\n";
        *ret = BIND_UNAVAILABLE;
        *ret_sentence = NULL;
        if (size < strlen(end) || size > BIND_ANSWER_MAX || memcmp(text + size - strlen(end), end, strlen(end)) != 0)
                return 0;
        _cleanup_free_ char *line = strndup(text, size - strlen(end));
        if (!line)
                return -ENOMEM;
        BindResult result;
        char *sentence = line, *word = strsep(&sentence, " ");
        if (strlen(line) + (sentence ? strlen(sentence) + 1 : 0) != size - strlen(end) ||
            bind_result_from_text(word, &result) < 0)
                return 0;
        if (!text_is_empty(sentence)) {
                text_make_printable(sentence, BIND_SENTENCE_MAX);
                int r = text_set(ret_sentence, sentence);
                if (r < 0)
                        return r;
        }
        *ret = result;
        return 0;
}

static void question_free(Question *question) {
        for (Question **at = &question->client->questions; *at; at = &(*at)->next)
                if (*at == question) {
                        *at = question->next;
                        break;
                }
        sd_event_source_disable_unref(question->io);
        sd_event_source_disable_unref(question->timer);
        if (question->fd >= 0)
                (void) close(question->fd);
        free(question);
}

/* The question is gone before the callback runs, which may ask again. */
static void finish(Question *question, BindResult result, const char *sentence) {
        BindClient *client = question->client;
        PciAddress gpu = question->gpu;
        BindVerb verb = question->verb;
        question_free(question);
        client->events.answered(client->userdata, gpu, verb, result, sentence);
}

static void finish_with_answer(Question *question) {
        _cleanup_free_ char *sentence = NULL;
        BindResult result;
        if (bind_answer_parse(question->text, question->length, &result, &sentence) < 0)
                result = BIND_UNAVAILABLE;
        if (result == BIND_UNAVAILABLE)
                finish(question, result, "gpupool-bind ended without an answer: journalctl -u 'gpupool-bind@*'");
        else
                finish(question, result, sentence);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Question *question = userdata;
        ssize_t n = recv(fd, question->text + question->length, sizeof(question->text) - question->length, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0) {
                question->length += (size_t) n;
                if (question->length < sizeof(question->text))
                        return 0;
        }
        finish_with_answer(question);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Question *question = userdata;
        question->client->events.overdue(question->client->userdata, question->gpu, question->verb);
        return 0;
}

static int on_unreachable(sd_event_source *source, uint64_t usec, void *userdata) {
        finish(userdata, BIND_UNAVAILABLE, "gpupool-bind cannot be reached: systemctl start gpupool-bind.socket");
        return 0;
}

static int put_question(Question *question, const GpuIdentity *card, const PciAddress *functions, size_t n) {
        char text[BIND_REQUEST_MAX], meant[BIND_CARD_SIZE] = "";
        bool has_card = question->verb == BIND_TAKE;
        int r = has_card ? bind_card_to_text(card, meant) : 0;
        if (r < 0)
                return r;
        size_t length = (size_t) snprintf(text, sizeof(text), "%s%s%s", bind_verb_to_text(question->verb),
                                          has_card ? " " : "", meant);
        for (size_t i = 0; i < n; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(functions[i], address);
                length += (size_t) snprintf(text + length, sizeof(text) - length, " %s", address);
        }
        length += (size_t) snprintf(text + length, sizeof(text) - length, "\n");

        const BindClient *client = question->client;
        question->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (question->fd < 0 ||
            connect(question->fd, (const struct sockaddr *) &client->socket, sizeof(client->socket)) < 0)
                return -errno;
        return send(question->fd, text, length, MSG_NOSIGNAL) == (ssize_t) length ? 0 : -EIO;
}

static int watch(Question *question) {
        const BindClient *client = question->client;
        int r = sd_event_add_io(client->event, &question->io, question->fd, EPOLLIN, on_readable, question);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(client->event, &question->timer, CLOCK_MONOTONIC, client->deadline_us,
                                          TIMER_ACCURACY_US, on_deadline, question);
}

int bind_client_ask(BindClient *client, BindVerb verb, const GpuIdentity *card, const PciAddress *functions, size_t n) {
        for (const Question *question = client->questions; question; question = question->next)
                if (pci_address_equal(question->gpu, functions[0]))
                        return -EBUSY;
        Question *question = calloc(1, sizeof(*question));
        if (!question)
                return -ENOMEM;
        *question = (Question) { .next = client->questions, .client = client, .gpu = functions[0], .verb = verb,
                                 .fd = -1 };
        client->questions = question;
        int r = put_question(question, card, functions, n);
        if (r >= 0)
                r = watch(question);
        else
                r = sd_event_add_time_relative(client->event, &question->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US,
                                               on_unreachable, question);
        if (r < 0)
                question_free(question);
        return r;
}

int bind_client_new(BindClient **ret, sd_event *event, const char *socket_path, uint64_t deadline_us,
                    const BindEvents *events, void *userdata) {
        _cleanup_(bind_client_freep) BindClient *client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;
        *client = (BindClient) { .event = sd_event_ref(event), .deadline_us = deadline_us, .events = *events,
                                 .userdata = userdata, .socket.sun_family = AF_UNIX };
        if (strlen(socket_path) >= sizeof(client->socket.sun_path))
                return -ENAMETOOLONG;
        memcpy(client->socket.sun_path, socket_path, strlen(socket_path) + 1);
        *ret = STEAL(client);
        return 0;
}

BindClient *bind_client_free(BindClient *client) {
        if (!client)
                return NULL;
        while (client->questions)
                question_free(client->questions);
        sd_event_unref(client->event);
        free(client);
        return NULL;
}
