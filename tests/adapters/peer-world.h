/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* PeerWorld: up to eight nodes in one process and one loop, over real TCP on loopback, each with a key of its own and a
 * note of what it was told; and raw clients that speak TLS by themselves, to say what a node never says. Time does not
 * pass for them while the process stands still (loop-clock.h), so nobody is late because the machine is busy. */

#include <glib.h>
#include <gnutls/gnutls.h>

#include "adapters/peer/peer.h"

#define PEER_WORLD_NODES_MAX 8
#define PEER_WORLD_PATIENCE_US (60ULL * 1000 * 1000)

/* Fast enough for a test, slow enough for a loaded machine. */
#define BEAT_MS 50U
#define SILENCE_MS 1500U
#define CONNECT_MS 1500U

typedef struct PeerWorld PeerWorld;
typedef struct PeerNode PeerNode;

/* What one node was told of another. */
typedef struct PeerNote {
        unsigned ups, downs, frames, beats, removed, writable[PEER_STREAM_COUNT];
        uint8_t nonce[8];               /* of the last Hello */
        char version[64];
        char why[256];                  /* of the last down or removal */
        GString *order;                 /* u, d and f, as they came */
        uint64_t last_call;             /* id of the last Call */
        bool is_up;
} PeerNote;

struct PeerNode {
        PeerWorld *world;
        NodeId id;
        char *key_path;
        PeerKey *key;
        PeerNet *net;                   /* NULL: down */
        uint16_t port;
        const char *listen;
        uint64_t term;                  /* said in beats */
        PeerNote notes[PEER_WORLD_NODES_MAX];
        PeerStranger *stranger;         /* that waits for its answer */
        uint8_t stranger_key[PEER_KEY_SIZE];
        NodeId stranger_node;
        unsigned join_requests, strangers_gone;
        bool wants[PEER_WORLD_NODES_MAX];
        bool removes[PEER_WORLD_NODES_MAX];
        char *address_of[PEER_WORLD_NODES_MAX];         /* NULL: the right one */
        void (*on_frame)(PeerNode *node, unsigned from, const Gpupool1__Frame *frame);
        void (*on_up)(PeerNode *node, unsigned with);
        void (*on_down)(PeerNode *node, unsigned with);
        PeerNetConfig config;
};

struct PeerWorld {
        sd_event *event;
        char *folder;
        ClusterId cluster;
        unsigned n;
        sd_event_source *tick;          /* NULL: time passes as it does */
        PeerNode nodes[PEER_WORLD_NODES_MAX];
};

PeerWorld *peer_world_new(unsigned n);          /* keys are there, nets are not */
PeerWorld *peer_world_new_in_real_time(unsigned n);     /* for nodes in other processes, or to count the loop's turns */
void peer_world_free(PeerWorld *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerWorld, peer_world_free)

void node_up(PeerNode *node);                   /* listens; knows nobody yet */
void node_down(PeerNode *node);
void node_meet(PeerNode *node);                 /* set_peers: everybody, with the ports that they have now */
void world_up(PeerWorld *world);                /* all of them up and introduced */

void world_turn(PeerWorld *world);              /* one turn of the loop, a few ms at most */
uint64_t world_now_us(void);                    /* CLOCK_BOOTTIME, as the nodes see it */
void world_for(PeerWorld *world, unsigned ms);  /* runs the loop until so much time has passed for the nodes */

/* Runs the loop until it is so. */
#define AWAIT(world, condition)                                                                                 \
        do {                                                                                                    \
                gint64 _end = g_get_monotonic_time() + (gint64) PEER_WORLD_PATIENCE_US;                         \
                while (!(condition)) {                                                                          \
                        if (g_get_monotonic_time() > _end)                                                      \
                                g_error("%s:%d: in vain: %s", __FILE__, __LINE__, #condition);                  \
                        world_turn(world);                                                                      \
                }                                                                                               \
        } while (0)

bool is_up(const PeerNode *a, const PeerNode *b);       /* both ways */
int send_call(PeerNode *from, const PeerNode *to, PeerStream stream, uint64_t id, size_t size);
unsigned count_descriptors(void);

/* ---- raw clients ---- */

typedef struct Raw {
        PeerWorld *world;
        int fd;
        gnutls_session_t session;
        gnutls_certificate_credentials_t credentials;
        PeerKey *key;                   /* owned; NULL: none shown or somebody else's */
} Raw;

typedef struct RawOptions {
        const char *priorities;         /* NULL: what the protocol wants */
        const char *protocol;           /* NULL: ditto; "": none */
        bool no_certificate;
        const PeerKey *key;             /* borrowed; NULL: a fresh one */
        const char *from;               /* the host that it comes from; NULL: 127.0.0.1 */
} RawOptions;

int listen_anywhere(uint16_t *ret_port);         /* on loopback */
int raw_socket(uint16_t port);          /* connected, non-blocking */
int raw_socket_from(const char *host, uint16_t port);
Raw *raw_connect(PeerWorld *world, uint16_t port, const RawOptions *options);
int raw_handshake(Raw *raw);            /* 0, or what GnuTLS says */
Raw *raw_server(PeerWorld *world, int fd, const PeerKey *key);  /* the other role, on an accepted socket */
void raw_free(Raw *raw);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Raw, raw_free)

int raw_write(Raw *raw, const void *bytes, size_t size);
int raw_send(Raw *raw, const Gpupool1__Frame *frame);
/* NULL: the other side closed. */
Gpupool1__Frame *raw_read(Raw *raw);
void raw_hello(Raw *raw, const NodeId *node, const ClusterId *cluster, uint32_t protocol, uint64_t nonce);
void raw_join_request(Raw *raw);
/* Reads until the end and returns the goodbye, if there was one. */
Gpupool1__Frame *raw_read_to_end(Raw *raw);
