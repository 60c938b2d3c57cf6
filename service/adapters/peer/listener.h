/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Listener: one socket that others connect to. An address that this host does not have yet is fine. */

#include <systemd/sd-event.h>

#include "adapters/peer/address.h"
#include "util/cleanup.h"

typedef struct Listener Listener;

/* Owns @fd. */
typedef void (*ListenerAccepted)(int fd, const SocketAddress *from, void *userdata);

/* @text: a number and a port. @v6_only: of "[::]", else it takes IPv4 too. 0 or -errno; -EINVAL: it is no address. */
int listener_new(Listener **ret, sd_event *event, const char *text, bool v6_only, ListenerAccepted accepted,
                 void *userdata);
Listener *listener_free(Listener *listener);
DEFINE_CLEANUP(Listener *, listener_free);

uint16_t listener_port(const Listener *listener);
