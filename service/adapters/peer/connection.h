/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Connection: one TCP connection with TLS on it that carries frames. It knows nothing of nodes: whoever owns it looks
 * at the pin and says what may be said.
 *
 *     dial -> CONNECTING -> SECURING -> OPEN -> CLOSING (says what it has to say, waits for the other end) -> CLOSED
 *     accept ---------------^
 *
 * One deadline holds until connection_keep(), which puts silence in its place. Nothing is written and no event is told
 * from inside a call of this header, so a caller never finds its connection gone under its hands. */

#include <systemd/sd-event.h>

#include "adapters/peer/address.h"
#include "adapters/peer/peer.h"

typedef struct Connection Connection;

typedef enum ConnectionEnd {
        CONNECTION_ENDED_BY_US,         /* connection_close(), connection_goodbye(), connection_finish() */
        CONNECTION_UNREACHABLE,         /* TCP did not come about */
        CONNECTION_INSECURE,            /* TLS did not come about */
        CONNECTION_LATE,                /* the deadline passed */
        CONNECTION_SILENT,
        CONNECTION_LOST,                /* closed or broken by the other end or the network */
        CONNECTION_GARBAGE,             /* the other end broke a limit */
        CONNECTION_NO_MEMORY,
} ConnectionEnd;

typedef struct ConnectionEvents {
        /* TLS stands; connection_pin() is known. */
        void (*secured)(Connection *connection, void *userdata);
        /* Borrowed. */
        void (*frame)(Connection *connection, const Gpupool1__Frame *frame, void *userdata);
        void (*writable)(Connection *connection, PeerStream stream, void *userdata);
        /* Some of what was queued is on its way. */
        void (*wrote)(Connection *connection, void *userdata);
        /* Once, as the last; the owner frees it here. @why: a sentence for people. */
        void (*closed)(Connection *connection, ConnectionEnd end, const char *why, void *userdata);
} ConnectionEvents;

typedef struct ConnectionConfig {
        sd_event *event;
        const PeerKey *key;
        uint64_t deadline_us;           /* from now */
        size_t frame_size_max;          /* until connection_keep() */
        const ConnectionEvents *events;
        void *userdata;
} ConnectionConfig;

int connection_dial(Connection **ret, const ConnectionConfig *config, const SocketAddress *address);
/* Takes @fd, also on failure. */
int connection_accept(Connection **ret, const ConnectionConfig *config, int fd);
/* Not from within an event of this connection but closed(). Tells nothing. */
Connection *connection_free(Connection *connection);
DEFINE_CLEANUP(Connection *, connection_free);

const uint8_t *connection_pin(const Connection *connection);
/* When something came last (CLOCK_BOOTTIME); 0: nothing yet. */
uint64_t connection_heard_us(const Connection *connection);
bool connection_is_open(const Connection *connection);
size_t connection_queued_bytes(const Connection *connection);
bool connection_has_queued(const Connection *connection, PeerStream stream);

/* From now on frames may have PEER_FRAME_SIZE_MAX, and silence ends it. */
void connection_keep(Connection *connection, uint64_t silence_us);
/* Reads nothing until it is told to go on, nor goes on with its handshake. */
void connection_pause(Connection *connection, bool paused);

/* Returns a PeerSendVerdict or -ENOMEM. */
int connection_send(Connection *connection, PeerStream stream, const Gpupool1__Frame *frame);

/* Says what is queued, then nothing more, and closes when the other end has closed too, at the latest after
 * @linger_us. */
void connection_finish(Connection *connection, uint64_t linger_us);
/* The same, with a goodbye in place of all that waits. */
void connection_goodbye(Connection *connection, Gpupool1__GoodbyeReason reason, const char *sentence,
                        uint64_t linger_us);
/* Now; closed() comes in a turn of its own. */
void connection_close(Connection *connection, ConnectionEnd end, const char *why);
/* Writes a goodbye if that does not block. For the end of the program. */
void connection_last_word(Connection *connection, Gpupool1__GoodbyeReason reason, const char *sentence);
