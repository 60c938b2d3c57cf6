/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Tls: a socket with TLS 1.3 on it, without waiting for anything. Both sides prove that they have the private key of
 * the certificate they show; no authority is asked about it: whoever uses this looks at the pin. No tickets, no
 * resumption, no early data, so each connection proves the keys anew. */

#include <sys/types.h>

#include "adapters/peer/peer.h"

typedef struct Tls Tls;

/* @fd is non-blocking and stays the caller's, who closes it after tls_free(). 0, -ENOMEM or -EIO. */
int tls_new(Tls **ret, const PeerKey *key, int fd, bool is_server);
Tls *tls_free(Tls *tls);
DEFINE_CLEANUP(Tls *, tls_free);

/* 0: done, tls_pin() is known; -EAGAIN: go on when the socket is ready; else it failed, see tls_trouble(). */
int tls_handshake(Tls *tls);
/* After -EAGAIN of the handshake: whether it waits for room to write, not for something to read. */
bool tls_waits_for_room(const Tls *tls);
/* PEER_KEY_SIZE bytes. */
const uint8_t *tls_pin(const Tls *tls);

/* One record at most, so @size should be TLS_RECORD_SIZE_MAX. > 0, 0: the other side closed, -EAGAIN, -errno. */
#define TLS_RECORD_SIZE_MAX 16384U
ssize_t tls_read(Tls *tls, void *bytes, size_t size);
/* After -EAGAIN the same bytes must be given again. > 0, -EAGAIN, -errno. */
ssize_t tls_write(Tls *tls, const void *bytes, size_t size);
/* Says that nothing more comes. Best effort. */
void tls_finish(Tls *tls);

/* What failed last, for people; borrowed. */
const char *tls_trouble(const Tls *tls);
