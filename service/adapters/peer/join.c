/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "adapters/peer/connection.h"
#include "adapters/peer/dial.h"
#include "adapters/peer/frame.h"
#include "adapters/peer/hello.h"
#include "util/text.h"

#include <gnutls/crypto.h>

#define ATTEMPT_US (5ULL * 1000 * 1000)         /* TCP, TLS and Hello with one address */
/* The inviter answers when its registry has taken the new member; it gives a stranger 5 s in all. */
#define ANSWER_US (10ULL * 1000 * 1000)
#define SENTENCE_SIZE 512U

typedef enum JoinStage {
        JOIN_SEEKING,                   /* no connection has got as far as Hello */
        JOIN_GREETED,                   /* our Hello is out */
        JOIN_ASKED,
        JOIN_DONE,                      /* the outcome is on its way */
} JoinStage;

struct PeerJoin {
        sd_event *event;
        const PeerKey *key;
        NodeId node;
        uint8_t inviter[PEER_KEY_SIZE];
        uint8_t *request;               /* packed */
        size_t request_size;
        uint32_t level;
        Resolver *resolver;
        Dial *dial;
        Connection *connection;
        char text[ADDRESS_TEXT_SIZE];   /* where it goes to */
        JoinStage stage;
        PeerJoinOutcome outcome;        /* the best of what the addresses came to so far */
        char sentence[SENTENCE_SIZE];
        Gpupool1__JoinAnswer *answer;
        sd_event_source *finish;
        PeerJoinCallback callback;
        void *userdata;
};

static void set_outcome(PeerJoin *join, PeerJoinOutcome outcome, const char *why) {
        join->outcome = outcome;
        (void) snprintf(join->sentence, sizeof(join->sentence), "%s: %s", join->text, why);
}

/* One address led nowhere. Somebody with another key, or who speaks another protocol, says more than silence. */
static void note_failure(PeerJoin *join, PeerJoinOutcome outcome, const char *why) {
        if (outcome == PEER_JOIN_UNREACHABLE && join->outcome != PEER_JOIN_UNREACHABLE)
                return;
        set_outcome(join, outcome, why);
}

/* The caller is told in a turn of its own, so that it may free all this. */
static void finish(PeerJoin *join) {
        join->stage = JOIN_DONE;
        join->dial = dial_free(join->dial);
        (void) sd_event_source_set_enabled(join->finish, SD_EVENT_ONESHOT);
}

static int on_finish(sd_event_source *source, void *userdata) {
        PeerJoin *join = userdata;
        join->callback(join->outcome, join->sentence, join->answer, join->userdata);
        return 0;
}

/* ---- the connection ---- */

static int send_hello(PeerJoin *join) {
        uint8_t nonce[HELLO_NONCE_SIZE];
        if (gnutls_rnd(GNUTLS_RND_NONCE, nonce, sizeof(nonce)) < 0)
                return -EIO;
        Gpupool1__Hello hello = GPUPOOL1__HELLO__INIT;
        hello.protocol = HELLO_PROTOCOL;
        hello.node = (ProtobufCBinaryData) { ID_SIZE, join->node.bytes };
        hello.version = (char *) GPUPOOL_VERSION;
        hello.level = join->level;
        hello.nonce = (ProtobufCBinaryData) { HELLO_NONCE_SIZE, nonce };
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_HELLO;
        frame.hello = &hello;
        return connection_send(join->connection, PEER_STREAM_CONTROL, &frame);
}

static int send_request(PeerJoin *join) {
        Gpupool1__JoinRequest *request = gpupool1__join_request__unpack(NULL, join->request_size, join->request);
        if (!request)
                return -ENOMEM;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_JOIN_REQUEST;
        frame.join_request = request;
        int r = connection_send(join->connection, PEER_STREAM_CALL, &frame);
        gpupool1__join_request__free_unpacked(request, NULL);
        return r;
}

static void on_secured(Connection *connection, void *userdata) {
        PeerJoin *join = userdata;
        if (memcmp(connection_pin(connection), join->inviter, PEER_KEY_SIZE) != 0) {
                note_failure(join, PEER_JOIN_WRONG_KEY, "somebody answers there who is not the inviter");
                connection_close(connection, CONNECTION_ENDED_BY_US, "it has another key");
                return;
        }
        if (send_hello(join) != PEER_SEND_QUEUED) {
                connection_close(connection, CONNECTION_NO_MEMORY, "out of memory");
                return;
        }
        join->stage = JOIN_GREETED;
}

static void take_hello(PeerJoin *join, const Gpupool1__Hello *hello) {
        char sentence[SENTENCE_SIZE / 2];
        switch (hello_check(hello)) {
        case HELLO_GOOD:
                break;
        case HELLO_OTHER_PROTOCOL:
                hello_protocol_sentence(hello, sentence, sizeof(sentence));
                note_failure(join, PEER_JOIN_PROTOCOL, sentence);
                connection_close(join->connection, CONNECTION_GARBAGE, sentence);
                return;
        case HELLO_MALFORMED:
                connection_close(join->connection, CONNECTION_GARBAGE, "what it says of itself cannot be read");
                return;
        }
        if (send_request(join) != PEER_SEND_QUEUED) {
                connection_close(join->connection, CONNECTION_NO_MEMORY, "the request cannot be sent");
                return;
        }
        join->stage = JOIN_ASKED;
        connection_keep(join->connection, ANSWER_US);
}

static void take_answer(PeerJoin *join, const Gpupool1__JoinAnswer *answer) {
        size_t size = gpupool1__join_answer__get_packed_size(answer);
        _cleanup_free_ uint8_t *bytes = malloc(size + 1);
        if (bytes) {
                (void) gpupool1__join_answer__pack(answer, bytes);
                join->answer = gpupool1__join_answer__unpack(NULL, size, bytes);
        }
        if (!join->answer) {
                connection_close(join->connection, CONNECTION_NO_MEMORY, "out of memory");
                return;
        }
        set_outcome(join, PEER_JOIN_ANSWERED, answer->admitted ? "admitted" : "refused");
        finish(join);
        connection_finish(join->connection, ATTEMPT_US);
}

static void take_goodbye(PeerJoin *join, const Gpupool1__Goodbye *goodbye) {
        char sentence[GOODBYE_TEXT_SIZE], why[GOODBYE_TEXT_SIZE + 32];
        goodbye_to_text(goodbye, sentence);
        (void) snprintf(why, sizeof(why), "it said goodbye: %s", sentence);
        if (join->stage == JOIN_GREETED)
                note_failure(join, goodbye->reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL
                                           ? PEER_JOIN_PROTOCOL
                                           : PEER_JOIN_UNREACHABLE,
                             why);
        connection_close(join->connection, CONNECTION_LOST, why);
}

static void on_frame(Connection *connection, const Gpupool1__Frame *frame, void *userdata) {
        PeerJoin *join = userdata;
        if (join->stage == JOIN_DONE)
                return;
        if (frame->body_case == GPUPOOL1__FRAME__BODY_GOODBYE)
                take_goodbye(join, frame->goodbye);
        else if (join->stage == JOIN_GREETED && frame->body_case == GPUPOOL1__FRAME__BODY_HELLO)
                take_hello(join, frame->hello);
        else if (join->stage == JOIN_ASKED && frame->body_case == GPUPOOL1__FRAME__BODY_JOIN_ANSWER)
                take_answer(join, frame->join_answer);
        else if (frame->body_case != GPUPOOL1__FRAME__BODY__NOT_SET)
                connection_close(connection, CONNECTION_GARBAGE, "it does not say what an inviter says");
}

static void on_writable(Connection *connection, PeerStream stream, void *userdata) {
}

static void on_wrote(Connection *connection, void *userdata) {
}

static void on_closed(Connection *connection, ConnectionEnd end, const char *why, void *userdata) {
        PeerJoin *join = userdata;
        _cleanup_(connection_freep) Connection *ended __attribute__((unused)) = STEAL(join->connection);
        switch (join->stage) {
        case JOIN_SEEKING:
                if (end != CONNECTION_ENDED_BY_US)
                        note_failure(join, end == CONNECTION_INSECURE ? PEER_JOIN_PROTOCOL : PEER_JOIN_UNREACHABLE,
                                     why);
                break;
        case JOIN_GREETED:
                if (end == CONNECTION_GARBAGE && join->outcome != PEER_JOIN_PROTOCOL)
                        note_failure(join, PEER_JOIN_PROTOCOL, why);
                break;
        case JOIN_ASKED:
                set_outcome(join, end == CONNECTION_GARBAGE ? PEER_JOIN_PROTOCOL : PEER_JOIN_LOST, why);
                finish(join);
                return;
        case JOIN_DONE:
                return;
        }
        join->stage = JOIN_SEEKING;
        dial_next(join->dial);
}

static const ConnectionEvents connection_events = {
        .secured = on_secured,
        .frame = on_frame,
        .writable = on_writable,
        .wrote = on_wrote,
        .closed = on_closed,
};

/* ---- the addresses ---- */

static void on_found(const SocketAddress *address, const char *text, size_t index, void *userdata) {
        PeerJoin *join = userdata;
        const ConnectionConfig config = {
                .event = join->event,
                .key = join->key,
                .deadline_us = ATTEMPT_US,
                .frame_size_max = PEER_FRAME_SIZE_MAX,
                .events = &connection_events,
                .userdata = join,
        };
        address_to_text(address, join->text);
        int r = connection_dial(&join->connection, &config, address);
        if (r >= 0)
                return;
        note_failure(join, PEER_JOIN_UNREACHABLE, strerror(-r));
        dial_next(join->dial);
}

static void on_useless(const char *text, const char *why, void *userdata) {
        PeerJoin *join = userdata;
        (void) snprintf(join->text, sizeof(join->text), "%s", text);
        note_failure(join, PEER_JOIN_UNREACHABLE, why);
}

static void on_exhausted(void *userdata) {
        finish(userdata);
}

static const DialEvents dial_events = {
        .found = on_found,
        .useless = on_useless,
        .exhausted = on_exhausted,
};

/* ---- the owner's ---- */

static int begin(PeerJoin *join, const PeerInviter *inviter) {
        TextList addresses = {};
        int r = resolver_new(&join->resolver, join->event);
        for (size_t i = 0; i < inviter->n_addresses && r >= 0; i++)
                r = text_list_add(&addresses, inviter->addresses[i]);
        if (r >= 0)
                r = dial_new(&join->dial, join->event, join->resolver, &addresses, 0, ATTEMPT_US, &dial_events, join);
        text_list_clear(&addresses);
        if (r < 0)
                return r;
        r = sd_event_add_defer(join->event, &join->finish, on_finish, join);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(join->finish, SD_EVENT_OFF);
        if (r < 0)
                return r;
        dial_next(join->dial);
        return 0;
}

int peer_join_new(PeerJoin **ret, sd_event *event, const PeerKey *key, const NodeId *node, const PeerInviter *inviter,
                  const Gpupool1__JoinRequest *request, PeerJoinCallback callback, void *userdata) {
        size_t size = gpupool1__join_request__get_packed_size(request);
        if (size > STRANGER_FRAME_SIZE_MAX - 16)         /* what the frame adds */
                return -E2BIG;
        _cleanup_(peer_join_freep) PeerJoin *join = calloc(1, sizeof(PeerJoin));
        if (!join)
                return -ENOMEM;
        join->event = sd_event_ref(event);
        join->key = key;
        join->node = *node;
        join->level = request->level;
        memcpy(join->inviter, inviter->key, PEER_KEY_SIZE);
        join->outcome = PEER_JOIN_UNREACHABLE;
        (void) snprintf(join->sentence, sizeof(join->sentence), "the invitation has no address");
        join->callback = callback;
        join->userdata = userdata;
        join->request = malloc(size + 1);
        if (!join->request)
                return -ENOMEM;
        join->request_size = gpupool1__join_request__pack(request, join->request);
        int r = begin(join, inviter);
        if (r < 0)
                return r;
        *ret = STEAL(join);
        return 0;
}

PeerJoin *peer_join_free(PeerJoin *join) {
        if (!join)
                return NULL;
        (void) dial_free(join->dial);
        (void) connection_free(join->connection);
        (void) resolver_free(join->resolver);
        (void) sd_event_source_disable_unref(join->finish);
        if (join->request)
                explicit_bzero(join->request, join->request_size);
        free(join->request);
        gpupool1__join_answer__free_unpacked(join->answer, NULL);
        sd_event_unref(join->event);
        free(join);
        return NULL;
}
