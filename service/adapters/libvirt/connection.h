/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Connection: one connection to libvirt, used by one thread. Everything here may hang.
 *
 * libvirt needs an event loop of its own in the process, for keepalive and for events; one thread runs it, from the
 * first connection on, and makes no call. A libvirt that does not answer keepalive for KEEPALIVE_S * (KEEPALIVE_COUNT
 * + 1) loses the connection, which frees the threads that hang in it. */

#include <libvirt/libvirt.h>

#include "adapters/libvirt/exchange.h"

typedef struct Connection {
        virConnectPtr handle;           /* NULL: closed */
        int events;                     /* id of the registration, -1: none */
        bool watches_close;
} Connection;

#define CONNECTION_CLOSED ((Connection) { .events = -1 })

/* Once per process. Returns 0 or a negative errno. */
int libvirt_connection_prepare(void);

/* @watcher: its events and its end go there, in the name of worker @number; NULL: nobody listens. Returns true, or
 * false with libvirt's sentence, owned by the caller (or NULL without memory). */
bool libvirt_connection_open(Connection *connection, const char *uri, Exchange *watcher, uint64_t number,
                     char **reterr_sentence);
bool libvirt_connection_is_open(const Connection *connection);
void libvirt_connection_close(Connection *connection);
