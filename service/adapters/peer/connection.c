/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "adapters/peer/frame.h"
#include "adapters/peer/queue.h"
#include "adapters/peer/tls.h"
#include "util/text.h"

/* What the kernel may hold that was not sent yet: nothing that is queued later can overtake it. */
#define NOT_SENT_MAX (128U * 1024U)
/* In one turn of the loop, so that one connection does not keep the others waiting. */
#define RECORDS_A_TURN 16U

#define SENTENCE_MAX 255U               /* of a goodbye, by the protocol */

typedef enum ConnectionState {
        CONNECTION_CONNECTING,
        CONNECTION_SECURING,
        CONNECTION_OPEN,
        CONNECTION_CLOSING,             /* what is queued goes out; what comes in is thrown away */
        CONNECTION_CLOSED,
} ConnectionState;

struct Connection {
        ConnectionState state;
        int fd;
        sd_event *event;
        sd_event_source *io, *deadline, *turn;
        const PeerKey *key;
        Tls *tls;
        FrameReader reader;
        uint8_t *kept;                  /* what was read when the owner paused it */
        size_t kept_size;
        Queue queue;
        const ConnectionEvents *events;
        void *userdata;
        size_t frame_size_max;
        uint64_t deadline_us;
        uint64_t silence_us;            /* 0: not kept yet */
        uint64_t heard_us;
        bool paused;
        bool blocked;                   /* the socket has no room */
        bool said_all;                  /* closing: our side is shut */
        ConnectionEnd end;
        char why[SENTENCE_MAX + 1];
};

static uint64_t now_us(const Connection *c) {
        uint64_t now = 0;
        (void) sd_event_now(c->event, CLOCK_BOOTTIME, &now);
        return now;
}

static void watch(Connection *c) {
        uint32_t events = 0;
        switch (c->state) {
        case CONNECTION_CONNECTING:
                events = EPOLLOUT;
                break;
        case CONNECTION_SECURING:
                events = c->paused ? 0 : tls_waits_for_room(c->tls) ? EPOLLOUT : EPOLLIN;
                break;
        case CONNECTION_OPEN:
        case CONNECTION_CLOSING:
                events = (c->paused ? 0 : EPOLLIN) | (c->blocked ? EPOLLOUT : 0);
                break;
        case CONNECTION_CLOSED:
                return;
        }
        (void) sd_event_source_set_io_events(c->io, events);
}

static void set_deadline(Connection *c, uint64_t at_us) {
        c->deadline_us = at_us;
        (void) sd_event_source_set_time(c->deadline, at_us);
        (void) sd_event_source_set_enabled(c->deadline, SD_EVENT_ONESHOT);
}

static void want_turn(Connection *c) {
        (void) sd_event_source_set_enabled(c->turn, SD_EVENT_ONESHOT);
}

void connection_close(Connection *c, ConnectionEnd end, const char *why) {
        if (c->state == CONNECTION_CLOSED)
                return;
        c->state = CONNECTION_CLOSED;
        c->end = end;
        (void) snprintf(c->why, sizeof(c->why), "%s", why);
        text_make_printable(c->why, SENTENCE_MAX);
        c->io = sd_event_source_disable_unref(c->io);
        c->tls = tls_free(c->tls);
        closep(&c->fd);
        c->fd = -1;
        queue_clear(&c->queue);
        frame_reader_clear(&c->reader);
        free(STEAL(c->kept));
        c->kept_size = 0;
        (void) sd_event_source_set_enabled(c->deadline, SD_EVENT_OFF);
        want_turn(c);
}

static void close_for_tls(Connection *c, int error) {
        if (error == -ENOMEM)
                connection_close(c, CONNECTION_NO_MEMORY, "out of memory");
        else
                connection_close(c, error == -EPROTO ? CONNECTION_GARBAGE : CONNECTION_LOST, tls_trouble(c->tls));
}

/* ---- writing ---- */

static void say_all(Connection *c) {
        if (c->state != CONNECTION_CLOSING || c->said_all || !queue_is_empty(&c->queue))
                return;
        c->said_all = true;
        tls_finish(c->tls);
        (void) shutdown(c->fd, SHUT_WR);
}

static void tell_writable(Connection *c) {
        PeerStream stream;
        while (c->state == CONNECTION_OPEN && queue_take_writable(&c->queue, &stream))
                c->events->writable(c, stream, c->userdata);
}

/* False: there is nothing more to do for now. */
static bool write_some(Connection *c) {
        const uint8_t *bytes;
        ssize_t size = queue_next(&c->queue, &bytes);
        if (size < 0) {
                connection_close(c, CONNECTION_NO_MEMORY, "out of memory");
                return false;
        }
        if (size == 0)
                return false;
        ssize_t n = tls_write(c->tls, bytes, (size_t) size);
        c->blocked = n == -EAGAIN;
        if (c->blocked)
                return false;
        if (n < 0) {
                close_for_tls(c, (int) n);
                return false;
        }
        queue_sent(&c->queue, (size_t) n);
        return true;
}

static void write_queue(Connection *c) {
        bool wrote = false;
        unsigned records = 0;
        c->blocked = false;
        while (records < RECORDS_A_TURN && write_some(c)) {
                wrote = true;
                records++;
        }
        if (c->state == CONNECTION_CLOSED)
                return;
        if (records == RECORDS_A_TURN)
                want_turn(c);
        say_all(c);
        watch(c);
        if (!wrote)
                return;
        tell_writable(c);
        if (c->state == CONNECTION_OPEN)
                c->events->wrote(c, c->userdata);
}

/* ---- reading ---- */

static void take_frame(Connection *c) {
        Gpupool1__Frame *decoded = NULL;
        int verdict = frame_decode(c->reader.payload, c->reader.size, &decoded);
        frame_reader_next(&c->reader);
        _cleanup_(frame_freep) Gpupool1__Frame *frame = decoded;
        if (verdict < 0)
                connection_close(c, CONNECTION_NO_MEMORY, "out of memory");
        else if (verdict != FRAME_GOOD)
                connection_close(c, CONNECTION_GARBAGE, frame_verdict_to_sentence((FrameVerdict) verdict));
        else
                c->events->frame(c, frame, c->userdata);
}

static void keep_bytes(Connection *c, const uint8_t *bytes, size_t size) {
        if (size == 0 || c->state != CONNECTION_OPEN)
                return;
        c->kept = malloc(size);
        if (!c->kept) {
                connection_close(c, CONNECTION_NO_MEMORY, "out of memory");
                return;
        }
        memcpy(c->kept, bytes, size);
        c->kept_size = size;
}

static void take_bytes(Connection *c, const uint8_t *bytes, size_t size) {
        while (size > 0 && c->state == CONNECTION_OPEN && !c->paused) {
                size_t used;
                int verdict = frame_reader_take(&c->reader, bytes, size, c->frame_size_max, &used);
                if (verdict < 0) {
                        connection_close(c, CONNECTION_NO_MEMORY, "out of memory");
                        return;
                }
                if (verdict != FRAME_GOOD && verdict != FRAME_MORE) {
                        connection_close(c, CONNECTION_GARBAGE, frame_verdict_to_sentence((FrameVerdict) verdict));
                        return;
                }
                bytes += used;
                size -= used;
                if (verdict == FRAME_GOOD)
                        take_frame(c);
        }
        keep_bytes(c, bytes, size);
}

static void take_kept(Connection *c) {
        if (!c->kept || c->paused)
                return;
        _cleanup_free_ uint8_t *kept = STEAL(c->kept);
        size_t size = c->kept_size;
        c->kept_size = 0;
        take_bytes(c, kept, size);
}

static void read_socket(Connection *c) {
        uint8_t bytes[TLS_RECORD_SIZE_MAX];
        for (unsigned i = 0; i < RECORDS_A_TURN; i++) {
                if ((c->state != CONNECTION_OPEN && c->state != CONNECTION_CLOSING) || c->paused)
                        return;
                ssize_t n = tls_read(c->tls, bytes, sizeof(bytes));
                if (n == -EAGAIN)
                        return;
                if (n == 0 || (n < 0 && c->state == CONNECTION_CLOSING)) {
                        connection_close(c, c->state == CONNECTION_CLOSING ? c->end : CONNECTION_LOST,
                                         c->state == CONNECTION_CLOSING ? c->why : "the other end closed it");
                        return;
                }
                if (n < 0) {
                        close_for_tls(c, (int) n);
                        return;
                }
                c->heard_us = now_us(c);
                take_bytes(c, bytes, (size_t) n);
        }
}

/* ---- beginning ---- */

static void secure(Connection *c) {
        int r = tls_handshake(c->tls);
        if (r == -EAGAIN) {
                watch(c);
                return;
        }
        if (r < 0) {
                connection_close(c, r == -EPROTO ? CONNECTION_INSECURE : CONNECTION_LOST, tls_trouble(c->tls));
                return;
        }
        c->state = CONNECTION_OPEN;
        c->heard_us = now_us(c);
        watch(c);
        c->events->secured(c, c->userdata);
        /* What came together with the handshake's last message may already be out of the socket. */
        read_socket(c);
}

static void begin_tls(Connection *c, bool is_server) {
        int r = tls_new(&c->tls, c->key, c->fd, is_server);
        if (r < 0) {
                connection_close(c, r == -ENOMEM ? CONNECTION_NO_MEMORY : CONNECTION_INSECURE, "TLS cannot begin");
                return;
        }
        c->state = CONNECTION_SECURING;
        secure(c);
}

static void begin_connecting(Connection *c, const SocketAddress *address) {
        c->fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
        if (c->fd < 0 || (connect(c->fd, (const struct sockaddr *) &address->storage, address->size) < 0 &&
                          errno != EINPROGRESS))
                connection_close(c, CONNECTION_UNREACHABLE, strerror(errno));
}

static void end_connecting(Connection *c) {
        int error = 0;
        socklen_t size = sizeof(error);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                error = errno;
        if (error != 0)
                connection_close(c, CONNECTION_UNREACHABLE, strerror(error));
        else
                begin_tls(c, false);
}

/* ---- the loop's ---- */

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Connection *c = userdata;
        switch (c->state) {
        case CONNECTION_CONNECTING:
                end_connecting(c);
                return 0;
        case CONNECTION_SECURING:
                if (c->paused)
                        connection_close(c, CONNECTION_LOST, "the other end closed it");
                else
                        secure(c);
                return 0;
        case CONNECTION_OPEN:
        case CONNECTION_CLOSING:
                if (c->paused && (revents & (EPOLLHUP | EPOLLERR))) {
                        connection_close(c, CONNECTION_LOST, "the other end closed it");
                        return 0;
                }
                if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
                        read_socket(c);
                if (c->state != CONNECTION_CLOSED && (revents & EPOLLOUT))
                        write_queue(c);
                return 0;
        case CONNECTION_CLOSED:
                return 0;
        }
        return 0;
}

static void check_silence(Connection *c) {
        /* If it was us who slept, what was said meanwhile is still in the socket. */
        read_socket(c);
        if (c->state != CONNECTION_OPEN)
                return;
        if (c->heard_us + c->silence_us > now_us(c)) {
                set_deadline(c, c->heard_us + c->silence_us);
                return;
        }
        char why[64];
        (void) snprintf(why, sizeof(why), "nothing was heard of it for %.1f s", (double) c->silence_us / 1e6);
        connection_close(c, CONNECTION_SILENT, why);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Connection *c = userdata;
        switch (c->state) {
        case CONNECTION_CONNECTING:
                connection_close(c, CONNECTION_UNREACHABLE, "it does not answer");
                return 0;
        case CONNECTION_SECURING:
                connection_close(c, CONNECTION_LATE, "TLS did not come about in time");
                return 0;
        case CONNECTION_OPEN:
                if (c->silence_us > 0)
                        check_silence(c);
                else
                        connection_close(c, CONNECTION_LATE, "it did not say in time who it is and what it wants");
                return 0;
        case CONNECTION_CLOSING:
                connection_close(c, c->end, c->why);
                return 0;
        case CONNECTION_CLOSED:
                return 0;
        }
        return 0;
}

static int on_turn(sd_event_source *source, void *userdata) {
        Connection *c = userdata;
        if (c->state == CONNECTION_CLOSED) {
                c->events->closed(c, c->end, c->why, c->userdata);
                return 0;
        }
        take_kept(c);
        if ((c->state == CONNECTION_OPEN || c->state == CONNECTION_CLOSING) && !c->blocked)
                write_queue(c);
        return 0;
}

/* ---- the owner's ---- */

static int new_connection(const ConnectionConfig *config, Connection **ret) {
        _cleanup_(connection_freep) Connection *c = calloc(1, sizeof(Connection));
        if (!c)
                return -ENOMEM;
        c->fd = -1;
        c->event = sd_event_ref(config->event);
        c->key = config->key;
        c->events = config->events;
        c->userdata = config->userdata;
        c->frame_size_max = config->frame_size_max;

        uint64_t accuracy_us = config->deadline_us / 16 < 100000 ? config->deadline_us / 16 : 100000;
        int r = sd_event_add_time(c->event, &c->deadline, CLOCK_BOOTTIME, now_us(c) + config->deadline_us, accuracy_us,
                                  on_deadline, c);
        if (r < 0)
                return r;
        r = sd_event_add_defer(c->event, &c->turn, on_turn, c);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(c->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(c);
        return 0;
}

/* Each of them is an improvement only. */
static void tune_socket(Connection *c, uint64_t timeout_us) {
        int on = 1, not_sent = (int) NOT_SENT_MAX;
        unsigned timeout_ms = (unsigned) (timeout_us / 1000);
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &not_sent, sizeof(not_sent));
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

int connection_dial(Connection **ret, const ConnectionConfig *config, const SocketAddress *address) {
        _cleanup_(connection_freep) Connection *c = NULL;
        int r = new_connection(config, &c);
        if (r < 0)
                return r;
        begin_connecting(c, address);
        if (c->state == CONNECTION_CONNECTING) {
                tune_socket(c, config->deadline_us);
                r = sd_event_add_io(c->event, &c->io, c->fd, EPOLLOUT, on_io, c);
                if (r < 0)
                        return r;
        }
        *ret = STEAL(c);
        return 0;
}

int connection_accept(Connection **ret, const ConnectionConfig *config, int fd) {
        _cleanup_close_ int taken = fd;
        _cleanup_(connection_freep) Connection *c = NULL;
        int r = new_connection(config, &c);
        if (r < 0)
                return r;
        c->fd = steal_fd(&taken);
        tune_socket(c, config->deadline_us);
        r = tls_new(&c->tls, c->key, c->fd, true);
        if (r < 0)
                return r;
        r = sd_event_add_io(c->event, &c->io, c->fd, EPOLLIN, on_io, c);
        if (r < 0)
                return r;
        c->state = CONNECTION_SECURING;
        *ret = STEAL(c);
        return 0;
}

Connection *connection_free(Connection *c) {
        if (!c)
                return NULL;
        (void) sd_event_source_disable_unref(c->io);
        (void) sd_event_source_disable_unref(c->deadline);
        (void) sd_event_source_disable_unref(c->turn);
        (void) tls_free(c->tls);
        closep(&c->fd);
        queue_clear(&c->queue);
        frame_reader_clear(&c->reader);
        free(c->kept);
        sd_event_unref(c->event);
        free(c);
        return NULL;
}

const uint8_t *connection_pin(const Connection *c) {
        return tls_pin(c->tls);
}

uint64_t connection_heard_us(const Connection *c) {
        return c->heard_us;
}

bool connection_is_open(const Connection *c) {
        return c->state == CONNECTION_OPEN;
}

size_t connection_queued_bytes(const Connection *c) {
        return queue_bytes(&c->queue);
}

bool connection_has_queued(const Connection *c, PeerStream stream) {
        return !queue_stream_is_empty(&c->queue, stream);
}

void connection_keep(Connection *c, uint64_t silence_us) {
        if (c->state != CONNECTION_OPEN)
                return;
        c->frame_size_max = PEER_FRAME_SIZE_MAX;
        c->silence_us = silence_us;
        set_deadline(c, now_us(c) + silence_us);
}

void connection_pause(Connection *c, bool paused) {
        if ((c->state != CONNECTION_SECURING && c->state != CONNECTION_OPEN) || c->paused == paused)
                return;
        c->paused = paused;
        watch(c);
        if (c->kept)
                want_turn(c);
}

int connection_send(Connection *c, PeerStream stream, const Gpupool1__Frame *frame) {
        if (c->state != CONNECTION_OPEN)
                return PEER_SEND_NOT_CONNECTED;
        int r = queue_add(&c->queue, stream, frame);
        if (r == PEER_SEND_QUEUED && !c->blocked)
                want_turn(c);
        return r;
}

static int queue_goodbye(Connection *c, Gpupool1__GoodbyeReason reason, const char *sentence) {
        char text[SENTENCE_MAX + 1];
        (void) snprintf(text, sizeof(text), "%s", sentence);
        text_make_printable(text, SENTENCE_MAX);
        Gpupool1__Goodbye goodbye = GPUPOOL1__GOODBYE__INIT;
        goodbye.reason = reason;
        goodbye.sentence = text;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_GOODBYE;
        frame.goodbye = &goodbye;
        queue_drop_waiting(&c->queue);
        return queue_add(&c->queue, PEER_STREAM_CONTROL, &frame);
}

void connection_finish(Connection *c, uint64_t linger_us) {
        if (c->state != CONNECTION_OPEN) {
                if (c->state != CONNECTION_CLOSING)
                        connection_close(c, CONNECTION_ENDED_BY_US, "this node ended it");
                return;
        }
        c->state = CONNECTION_CLOSING;
        c->end = CONNECTION_ENDED_BY_US;
        (void) snprintf(c->why, sizeof(c->why), "this node ended it");
        c->paused = false;
        set_deadline(c, now_us(c) + linger_us);
        watch(c);
        want_turn(c);
}

void connection_goodbye(Connection *c, Gpupool1__GoodbyeReason reason, const char *sentence, uint64_t linger_us) {
        if (c->state == CONNECTION_OPEN && queue_goodbye(c, reason, sentence) < 0)
                connection_close(c, CONNECTION_ENDED_BY_US, sentence);
        else
                connection_finish(c, linger_us);
}

void connection_last_word(Connection *c, Gpupool1__GoodbyeReason reason, const char *sentence) {
        if (c->state != CONNECTION_OPEN || c->blocked || queue_goodbye(c, reason, sentence) < 0)
                return;
        c->state = CONNECTION_CLOSING;
        for (unsigned i = 0; i < RECORDS_A_TURN && write_some(c);)
                i++;
        if (c->state == CONNECTION_CLOSING)
                say_all(c);
}
