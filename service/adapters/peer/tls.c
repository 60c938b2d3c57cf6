/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/tls.h"

#include <errno.h>
#include <string.h>

#include <gnutls/x509.h>

#include "adapters/peer/key.h"

/* Only what our own side speaks. Names of algorithms that a host's policy forbids are simply not offered. */
#define PRIORITIES "NONE:+VERS-TLS1.3:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:+AEAD:+COMP-NULL:+CTYPE-X509:" \
        "+GROUP-X25519:+GROUP-SECP256R1:+SIGN-EdDSA-Ed25519"
#define PROTOCOL "gpupool/1"

/* Of a message of the handshake: ours is 400 bytes with the certificate. */
#define HANDSHAKE_SIZE_MAX 8192U

struct Tls {
        gnutls_session_t session;
        uint8_t pin[PEER_KEY_SIZE];
        const char *trouble;
};

static int open_session(Tls *tls, const PeerKey *key, int fd, bool is_server) {
        unsigned flags = (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                         GNUTLS_NO_TICKETS;
        const gnutls_datum_t protocol = { .data = (void *) PROTOCOL, .size = sizeof(PROTOCOL) - 1 };
        int r = gnutls_init(&tls->session, flags);
        if (r < 0)
                return r;
        r = gnutls_priority_set_direct(tls->session, PRIORITIES, NULL);
        if (r < 0)
                return r;
        r = gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, peer_key_credentials(key));
        if (r < 0)
                return r;
        r = gnutls_alpn_set_protocols(tls->session, &protocol, 1, GNUTLS_ALPN_MANDATORY);
        if (r < 0)
                return r;
        if (is_server)
                gnutls_certificate_server_set_request(tls->session, GNUTLS_CERT_REQUIRE);
        gnutls_handshake_set_max_packet_length(tls->session, HANDSHAKE_SIZE_MAX);
        gnutls_transport_set_int(tls->session, fd);
        return 0;
}

int tls_new(Tls **ret, const PeerKey *key, int fd, bool is_server) {
        _cleanup_(tls_freep) Tls *tls = calloc(1, sizeof(Tls));
        if (!tls)
                return -ENOMEM;
        tls->trouble = "nothing";
        int r = open_session(tls, key, fd, is_server);
        if (r < 0)
                return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO;
        *ret = STEAL(tls);
        return 0;
}

Tls *tls_free(Tls *tls) {
        if (!tls)
                return NULL;
        if (tls->session)
                gnutls_deinit(tls->session);
        free(tls);
        return NULL;
}

static int fail(Tls *tls, ssize_t error) {
        switch (error) {
        case GNUTLS_E_PUSH_ERROR:
        case GNUTLS_E_PULL_ERROR:
        case GNUTLS_E_PREMATURE_TERMINATION:
                tls->trouble = "the connection broke";
                return -ECONNRESET;
        case GNUTLS_E_MEMORY_ERROR:
                tls->trouble = "out of memory";
                return -ENOMEM;
        case GNUTLS_E_FATAL_ALERT_RECEIVED:
                tls->trouble = gnutls_alert_get_name(gnutls_alert_get(tls->session));
                return -EPROTO;
        default:
                tls->trouble = gnutls_strerror((int) error);
                return -EPROTO;
        }
}

static int check_peer(Tls *tls) {
        gnutls_datum_t protocol;
        if (gnutls_alpn_get_selected_protocol(tls->session, &protocol) < 0 || protocol.size != sizeof(PROTOCOL) - 1 ||
            memcmp(protocol.data, PROTOCOL, protocol.size) != 0) {
                tls->trouble = "it does not speak gpupool's protocol";
                return -EPROTO;
        }

        unsigned n = 0;
        const gnutls_datum_t *chain = gnutls_certificate_get_peers(tls->session, &n);
        gnutls_pubkey_t key = NULL;
        gnutls_x509_crt_t certificate = NULL;
        int r = n == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : gnutls_x509_crt_init(&certificate);
        if (r >= 0)
                r = gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER);
        if (r >= 0)
                r = gnutls_pubkey_init(&key);
        if (r >= 0)
                r = gnutls_pubkey_import_x509(key, certificate, 0);
        if (r >= 0 && pin_of_public_key(key, tls->pin) < 0)
                r = GNUTLS_E_CERTIFICATE_ERROR;
        if (key)
                gnutls_pubkey_deinit(key);
        if (certificate)
                gnutls_x509_crt_deinit(certificate);
        return r < 0 ? fail(tls, r) : 0;
}

int tls_handshake(Tls *tls) {
        int r;
        do
                r = gnutls_handshake(tls->session);
        while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED);
        if (r == GNUTLS_E_AGAIN)
                return -EAGAIN;
        if (r < 0) {
                int error = fail(tls, r);
                /* So that the other side can say what was wrong. */
                (void) gnutls_alert_send_appropriate(tls->session, r);
                return error;
        }
        return check_peer(tls);
}

bool tls_waits_for_room(const Tls *tls) {
        return gnutls_record_get_direction(tls->session) == 1;
}

const uint8_t *tls_pin(const Tls *tls) {
        return tls->pin;
}

ssize_t tls_read(Tls *tls, void *bytes, size_t size) {
        ssize_t n;
        do
                n = gnutls_record_recv(tls->session, bytes, size);
        while (n == GNUTLS_E_INTERRUPTED);
        if (n >= 0)
                return n;
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_WARNING_ALERT_RECEIVED)
                return -EAGAIN;
        return fail(tls, n);
}

ssize_t tls_write(Tls *tls, const void *bytes, size_t size) {
        ssize_t n;
        do
                n = gnutls_record_send(tls->session, bytes, size);
        while (n == GNUTLS_E_INTERRUPTED);
        if (n >= 0)
                return n;
        return n == GNUTLS_E_AGAIN ? -EAGAIN : fail(tls, n);
}

void tls_finish(Tls *tls) {
        (void) gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

const char *tls_trouble(const Tls *tls) {
        return tls->trouble;
}
