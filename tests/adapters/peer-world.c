/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "peer-world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "adapters/peer/key.h"
#include "loop-clock.h"
#include "util/clock.h"

static unsigned index_of(const NodeId *id) {
        g_assert_cmpuint(id->bytes[0], >=, 1);
        g_assert_cmpuint(id->bytes[0], <=, PEER_WORLD_NODES_MAX);
        return id->bytes[0] - 1U;
}

/* ---- what nodes are told ---- */

static void on_up(const NodeId *node, const Gpupool1__Hello *hello, void *userdata) {
        PeerNode *me = userdata;
        unsigned i = index_of(node);
        PeerNote *note = &me->notes[i];
        g_assert_false(note->is_up);
        note->is_up = true;
        note->ups++;
        g_string_append_c(note->order, 'u');
        memcpy(note->nonce, hello->nonce.data, sizeof(note->nonce));
        g_strlcpy(note->version, hello->version, sizeof(note->version));
        g_assert_true(peer_net_is_up(me->net, node));
        if (me->on_up)
                me->on_up(me, i);
}

static void on_down(const NodeId *node, const char *why, void *userdata) {
        PeerNode *me = userdata;
        PeerNote *note = &me->notes[index_of(node)];
        g_assert_true(note->is_up);
        note->is_up = false;
        note->downs++;
        g_string_append_c(note->order, 'd');
        g_strlcpy(note->why, why, sizeof(note->why));
        g_test_message("node %u lost %u: %s", me->id.bytes[0], node->bytes[0], why);
        if (me->on_down)
                me->on_down(me, index_of(node));
}

static void on_frame(const NodeId *node, const Gpupool1__Frame *frame, void *userdata) {
        PeerNode *me = userdata;
        unsigned from = index_of(node);
        PeerNote *note = &me->notes[from];
        g_assert_true(note->is_up);
        note->frames++;
        if (frame->body_case == GPUPOOL1__FRAME__BODY_BEAT)
                note->beats++;
        if (frame->body_case == GPUPOOL1__FRAME__BODY_CALL)
                note->last_call = frame->call->id;
        if (me->on_frame)
                me->on_frame(me, from, frame);
}

static void on_fill_beat(Gpupool1__Beat *beat, void *userdata) {
        beat->term = ((PeerNode *) userdata)->term;
}

static void on_writable(const NodeId *node, PeerStream stream, void *userdata) {
        ((PeerNode *) userdata)->notes[index_of(node)].writable[stream]++;
}

static void on_join_request(PeerStranger *stranger, const NodeId *node, const uint8_t key[static PEER_KEY_SIZE],
                            const Gpupool1__JoinRequest *request, void *userdata) {
        PeerNode *me = userdata;
        me->join_requests++;
        me->stranger = stranger;
        me->stranger_node = *node;
        memcpy(me->stranger_key, key, PEER_KEY_SIZE);
        g_assert_cmpstr(request->name, ==, "bert");
}

static void on_stranger_gone(PeerStranger *stranger, void *userdata) {
        PeerNode *me = userdata;
        g_assert_true(stranger == me->stranger);
        me->stranger = NULL;
        me->strangers_gone++;
}

static void on_removed(const NodeId *by, const char *sentence, void *userdata) {
        PeerNote *note = &((PeerNode *) userdata)->notes[index_of(by)];
        note->removed++;
        g_strlcpy(note->why, sentence, sizeof(note->why));
}

static const PeerCallbacks callbacks = {
        .up = on_up,
        .down = on_down,
        .frame = on_frame,
        .fill_beat = on_fill_beat,
        .writable = on_writable,
        .join_request = on_join_request,
        .stranger_gone = on_stranger_gone,
        .removed = on_removed,
};

/* ---- nodes ---- */

static PeerWorld *new_world(unsigned n, bool has_real_time) {
        PeerWorld *world = g_new0(PeerWorld, 1);
        if (!has_real_time)
                loop_clock_begin();
        g_assert_cmpint(sd_event_new(&world->event), ==, 0);
        if (!has_real_time)
                world->tick = loop_clock_tick(world->event);
        world->folder = g_dir_make_tmp("gpupool-peer-XXXXXX", NULL);
        g_assert_nonnull(world->folder);
        world->cluster.bytes[0] = 0xc1;
        world->n = n;
        for (unsigned i = 0; i < PEER_WORLD_NODES_MAX; i++) {
                PeerNode *node = &world->nodes[i];
                node->world = world;
                node->id.bytes[0] = (uint8_t) (i + 1);
                node->listen = "127.0.0.1:0";
                for (unsigned other = 0; other < PEER_WORLD_NODES_MAX; other++) {
                        node->notes[other].order = g_string_new(NULL);
                        node->wants[other] = true;
                }
                if (i >= n)
                        continue;
                node->key_path = g_strdup_printf("%s/key-%u", world->folder, i + 1);
                g_assert_cmpint(peer_key_create(node->key_path, &node->key), ==, 0);
                node->config = (PeerNetConfig) {
                        .node = node->id,
                        .cluster = world->cluster,
                        .key = node->key,
                        .version = "1.2.3",
                        .level = 1,
                        .beat_us = BEAT_MS * 1000U,
                        .silence_us = SILENCE_MS * 1000U,
                        .connect_us = CONNECT_MS * 1000U,
                };
        }
        return world;
}

PeerWorld *peer_world_new(unsigned n) {
        return new_world(n, false);
}

PeerWorld *peer_world_new_in_real_time(unsigned n) {
        return new_world(n, true);
}

void peer_world_free(PeerWorld *world) {
        for (unsigned i = 0; i < PEER_WORLD_NODES_MAX; i++) {
                PeerNode *node = &world->nodes[i];
                node_down(node);
                (void) peer_key_free(node->key);
                if (node->key_path)
                        (void) g_unlink(node->key_path);
                g_free(node->key_path);
                for (unsigned other = 0; other < PEER_WORLD_NODES_MAX; other++) {
                        g_string_free(node->notes[other].order, TRUE);
                        g_free(node->address_of[other]);
                }
        }
        if (world->tick)
                loop_clock_end();
        sd_event_source_disable_unref(world->tick);
        sd_event_unref(world->event);
        g_assert_cmpint(g_rmdir(world->folder), ==, 0);
        g_free(world->folder);
        g_free(world);
}

void node_up(PeerNode *node) {
        _cleanup_free_ char *sentence = NULL;
        node->config.listen = &node->listen;
        node->config.n_listen = 1;
        int r = peer_net_new(&node->net, node->world->event, &node->config, &callbacks, node, &sentence);
        if (r < 0)
                g_error("node %u: %s: %s", node->id.bytes[0], strerror(-r), sentence);
        node->port = peer_net_port(node->net);
        g_assert_cmpuint(node->port, !=, 0);
}

void node_down(PeerNode *node) {
        node->net = peer_net_free(node->net);
        for (unsigned i = 0; i < PEER_WORLD_NODES_MAX; i++)
                node->notes[i].is_up = false;
        node->stranger = NULL;
}

void node_meet(PeerNode *node) {
        PeerWorld *world = node->world;
        PeerInfo peers[PEER_WORLD_NODES_MAX] = {};
        char addresses[PEER_WORLD_NODES_MAX][64];
        const char *lists[PEER_WORLD_NODES_MAX];
        unsigned n = 0;
        for (unsigned i = 0; i < world->n; i++) {
                PeerNode *other = &world->nodes[i];
                g_snprintf(addresses[i], sizeof(addresses[i]), "127.0.0.1:%u", other->port);
                lists[i] = node->address_of[i] ? node->address_of[i] : addresses[i];
                peers[n] = (PeerInfo) {
                        .node = other->id,
                        .addresses = &lists[i],
                        .n_addresses = 1,
                        .wanted = node->wants[i],
                        .removed = node->removes[i],
                };
                memcpy(peers[n++].key, peer_key_pin(other->key), PEER_KEY_SIZE);
        }
        g_assert_cmpint(peer_net_set_peers(node->net, peers, n), ==, 0);
}

void world_up(PeerWorld *world) {
        for (unsigned i = 0; i < world->n; i++)
                node_up(&world->nodes[i]);
        for (unsigned i = 0; i < world->n; i++)
                node_meet(&world->nodes[i]);
}

void world_turn(PeerWorld *world) {
        g_assert_cmpint(sd_event_run(world->event, 5000), >=, 0);
}

uint64_t world_now_us(void) {
        return clock_boottime_us();
}

void world_for(PeerWorld *world, unsigned ms) {
        uint64_t end = world_now_us() + ms * 1000U;
        AWAIT(world, world_now_us() >= end);
}

bool is_up(const PeerNode *a, const PeerNode *b) {
        return a->net && b->net && peer_net_is_up(a->net, &b->id) && peer_net_is_up(b->net, &a->id);
}

int send_call(PeerNode *from, const PeerNode *to, PeerStream stream, uint64_t id, size_t size) {
        g_autofree uint8_t *bytes = g_malloc0(size + 1);
        Gpupool1__Call call;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        gpupool1__call__init(&call);
        call.id = id;
        call.what_case = GPUPOOL1__CALL__WHAT_SUBMIT;
        call.submit = (ProtobufCBinaryData) { size, bytes };
        frame.body_case = GPUPOOL1__FRAME__BODY_CALL;
        frame.call = &call;
        return peer_net_send(from->net, &to->id, stream, &frame);
}

unsigned count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;
        g_assert_nonnull(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

/* ---- raw clients ---- */

#define PRIORITIES "NONE:+VERS-TLS1.3:+AES-256-GCM:+AEAD:+COMP-NULL:+CTYPE-X509:+GROUP-X25519:+SIGN-EdDSA-Ed25519"

int raw_socket(uint16_t port) {
        return raw_socket_from("127.0.0.1", port);
}

int raw_socket_from(const char *host, uint16_t port) {
        struct sockaddr_in from = { .sin_family = AF_INET };
        struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_port = htons(port),
                .sin_addr = { htonl(INADDR_LOOPBACK) },
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(inet_pton(AF_INET, host, &from.sin_addr), ==, 1);
        g_assert_cmpint(bind(fd, (struct sockaddr *) &from, sizeof(from)), ==, 0);
        g_assert_cmpint(connect(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(fcntl(fd, F_SETFL, O_NONBLOCK), ==, 0);
        return fd;
}

int listen_anywhere(uint16_t *ret_port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(fd, 16), ==, 0);
        g_assert_cmpint(getsockname(fd, (struct sockaddr *) &address, &size), ==, 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

static void begin_session(Raw *raw, const RawOptions *options, unsigned role) {
        const char *protocol = options->protocol ? options->protocol : "gpupool/1";
        const gnutls_datum_t datum = { .data = (void *) protocol, .size = (unsigned) strlen(protocol) };
        const PeerKey *key = options->key;
        if (!options->no_certificate && !key) {
                g_autofree char *path = g_strdup_printf("%s/raw-key", raw->world->folder);
                g_assert_cmpint(peer_key_create(path, &raw->key), ==, 0);
                g_unlink(path);
                key = raw->key;
        }
        g_assert_cmpint(gnutls_init(&raw->session, role | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL), ==, 0);
        g_assert_cmpint(gnutls_priority_set_direct(raw->session, options->priorities ? options->priorities : PRIORITIES,
                                                   NULL), ==, 0);
        if (options->no_certificate)
                g_assert_cmpint(gnutls_certificate_allocate_credentials(&raw->credentials), ==, 0);
        g_assert_cmpint(gnutls_credentials_set(raw->session, GNUTLS_CRD_CERTIFICATE,
                                               key ? peer_key_credentials(key) : raw->credentials), ==, 0);
        if (datum.size > 0)
                g_assert_cmpint(gnutls_alpn_set_protocols(raw->session, &datum, 1, 0), ==, 0);
        if (role == GNUTLS_SERVER)
                gnutls_certificate_server_set_request(raw->session, GNUTLS_CERT_REQUEST);
        gnutls_transport_set_int(raw->session, raw->fd);
}

Raw *raw_connect(PeerWorld *world, uint16_t port, const RawOptions *options) {
        static const RawOptions usual;
        Raw *raw = g_new0(Raw, 1);
        raw->world = world;
        raw->fd = raw_socket_from(options && options->from ? options->from : "127.0.0.1", port);
        begin_session(raw, options ? options : &usual, GNUTLS_CLIENT);
        return raw;
}

Raw *raw_server(PeerWorld *world, int fd, const PeerKey *key) {
        const RawOptions options = { .key = key };
        Raw *raw = g_new0(Raw, 1);
        raw->world = world;
        raw->fd = fd;
        begin_session(raw, &options, GNUTLS_SERVER);
        return raw;
}

void raw_free(Raw *raw) {
        if (!raw)
                return;
        gnutls_deinit(raw->session);
        if (raw->credentials)
                gnutls_certificate_free_credentials(raw->credentials);
        (void) peer_key_free(raw->key);
        close(raw->fd);
        g_free(raw);
}

static bool is_again(ssize_t r) {
        return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
}

int raw_handshake(Raw *raw) {
        int r = GNUTLS_E_AGAIN;
        AWAIT(raw->world, !is_again(r = gnutls_handshake(raw->session)));
        return r;
}

int raw_write(Raw *raw, const void *bytes, size_t size) {
        const uint8_t *p = bytes;
        while (size > 0) {
                ssize_t n = GNUTLS_E_AGAIN;
                AWAIT(raw->world, !is_again(n = gnutls_record_send(raw->session, p, size)));
                if (n < 0)
                        return (int) n;
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

int raw_send(Raw *raw, const Gpupool1__Frame *frame) {
        size_t size = gpupool1__frame__get_packed_size(frame);
        g_autofree uint8_t *bytes = g_malloc(size + 4);
        for (unsigned i = 0; i < 4; i++)
                bytes[i] = (uint8_t) (size >> (24 - 8 * i));
        gpupool1__frame__pack(frame, bytes + 4);
        return raw_write(raw, bytes, size + 4);
}

static bool read_exactly(Raw *raw, uint8_t *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = GNUTLS_E_AGAIN;
                AWAIT(raw->world, !is_again(n = gnutls_record_recv(raw->session, bytes, size)));
                if (n <= 0)
                        return false;
                bytes += n;
                size -= (size_t) n;
        }
        return true;
}

Gpupool1__Frame *raw_read(Raw *raw) {
        uint8_t h[4];
        if (!read_exactly(raw, h, sizeof(h)))
                return NULL;
        size_t size = (size_t) h[0] << 24 | (size_t) h[1] << 16 | (size_t) h[2] << 8 | h[3];
        g_assert_cmpuint(size, >, 0);
        g_assert_cmpuint(size, <=, PEER_FRAME_SIZE_MAX);
        g_autofree uint8_t *bytes = g_malloc(size);
        if (!read_exactly(raw, bytes, size))
                return NULL;
        Gpupool1__Frame *frame = gpupool1__frame__unpack(NULL, size, bytes);
        g_assert_nonnull(frame);
        return frame;
}

Gpupool1__Frame *raw_read_to_end(Raw *raw) {
        Gpupool1__Frame *goodbye = NULL;
        for (Gpupool1__Frame *frame; (frame = raw_read(raw));) {
                if (frame->body_case == GPUPOOL1__FRAME__BODY_GOODBYE && !goodbye)
                        goodbye = frame;
                else
                        gpupool1__frame__free_unpacked(frame, NULL);
        }
        return goodbye;
}

void raw_hello(Raw *raw, const NodeId *node, const ClusterId *cluster, uint32_t protocol, uint64_t nonce) {
        Gpupool1__Hello hello = GPUPOOL1__HELLO__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        hello.protocol = protocol;
        hello.minor = 7;
        hello.node = (ProtobufCBinaryData) { ID_SIZE, (uint8_t *) node->bytes };
        if (cluster)
                hello.cluster = (ProtobufCBinaryData) { ID_SIZE, (uint8_t *) cluster->bytes };
        hello.version = (char *) "raw";
        hello.nonce = (ProtobufCBinaryData) { sizeof(nonce), (uint8_t *) &nonce };
        frame.body_case = GPUPOOL1__FRAME__BODY_HELLO;
        frame.hello = &hello;
        (void) raw_send(raw, &frame);
}

void raw_join_request(Raw *raw) {
        Gpupool1__JoinRequest request = GPUPOOL1__JOIN_REQUEST__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        uint8_t secret[16] = { 1 };
        request.invite = (ProtobufCBinaryData) { sizeof(secret), secret };
        request.secret = (ProtobufCBinaryData) { sizeof(secret), secret };
        request.name = (char *) "bert";
        frame.body_case = GPUPOOL1__FRAME__BODY_JOIN_REQUEST;
        frame.join_request = &request;
        (void) raw_send(raw, &frame);
}
