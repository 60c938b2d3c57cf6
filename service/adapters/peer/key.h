/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The key as TLS wants it, and the pin of a key. The public face is in peer.h. */

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "adapters/peer/peer.h"

/* Borrowed: the private key with the certificate that was made of it. */
gnutls_certificate_credentials_t peer_key_credentials(const PeerKey *key);

/* SHA-256 of the key's SubjectPublicKeyInfo. 0, -EBADMSG or -ENOMEM. */
int pin_of_public_key(gnutls_pubkey_t key, uint8_t ret[static PEER_KEY_SIZE]);
