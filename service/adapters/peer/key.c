/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/key.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include "util/text.h"

#define KEY_FILE_SIZE_MAX 4096U         /* a key in PEM is 120 bytes; people put comments around it */

struct PeerKey {
        gnutls_certificate_credentials_t credentials;
        uint8_t pin[PEER_KEY_SIZE];
};

static void free_private_key(gnutls_x509_privkey_t key) {
        gnutls_x509_privkey_deinit(key);
}
DEFINE_CLEANUP(gnutls_x509_privkey_t, free_private_key);

static void free_certificate(gnutls_x509_crt_t certificate) {
        gnutls_x509_crt_deinit(certificate);
}
DEFINE_CLEANUP(gnutls_x509_crt_t, free_certificate);

static void free_public_key(gnutls_pubkey_t key) {
        gnutls_pubkey_deinit(key);
}
DEFINE_CLEANUP(gnutls_pubkey_t, free_public_key);

static int error_of_library(int error) {
        return error == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EBADMSG;
}

int peer_hash(const void *bytes, size_t size, uint8_t ret[static PEER_KEY_SIZE]) {
        int r = gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, size, ret);
        return r < 0 ? error_of_library(r) : 0;
}

int pin_of_public_key(gnutls_pubkey_t key, uint8_t ret[static PEER_KEY_SIZE]) {
        gnutls_datum_t der = {};
        int r = gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der);
        if (r < 0)
                return error_of_library(r);
        r = peer_hash(der.data, der.size, ret);
        gnutls_free(der.data);
        return r;
}

/* Nobody looks at its dates, names or signature, so they are the same for all: always valid. */
static int make_certificate(gnutls_x509_privkey_t private_key, gnutls_x509_crt_t *ret) {
        _cleanup_(free_certificatep) gnutls_x509_crt_t certificate = NULL;
        static const uint8_t serial[] = { 1 };
        int r = gnutls_x509_crt_init(&certificate);
        if (r >= 0)
                r = gnutls_x509_crt_set_version(certificate, 3);
        if (r >= 0)
                r = gnutls_x509_crt_set_serial(certificate, serial, sizeof(serial));
        if (r >= 0)
                r = gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, "gpupool", 7);
        if (r >= 0)
                r = gnutls_x509_crt_set_activation_time(certificate, 0);
        if (r >= 0)
                r = gnutls_x509_crt_set_expiration_time(certificate, GNUTLS_X509_NO_WELL_DEFINED_EXPIRATION);
        if (r >= 0)
                r = gnutls_x509_crt_set_key(certificate, private_key);
        if (r >= 0)
                r = gnutls_x509_crt_sign2(certificate, certificate, private_key, GNUTLS_DIG_SHA512, 0);
        if (r < 0)
                return error_of_library(r);
        *ret = STEAL(certificate);
        return 0;
}

static int find_pin(gnutls_x509_crt_t certificate, uint8_t ret[static PEER_KEY_SIZE]) {
        _cleanup_(free_public_keyp) gnutls_pubkey_t public_key = NULL;
        int r = gnutls_pubkey_init(&public_key);
        if (r >= 0)
                r = gnutls_pubkey_import_x509(public_key, certificate, 0);
        return r < 0 ? error_of_library(r) : pin_of_public_key(public_key, ret);
}

static int make_key(gnutls_x509_privkey_t private_key, PeerKey **ret) {
        _cleanup_(free_certificatep) gnutls_x509_crt_t certificate = NULL;
        int r = make_certificate(private_key, &certificate);
        if (r < 0)
                return r;
        _cleanup_(peer_key_freep) PeerKey *key = calloc(1, sizeof(PeerKey));
        if (!key)
                return -ENOMEM;
        r = find_pin(certificate, key->pin);
        if (r < 0)
                return r;
        r = gnutls_certificate_allocate_credentials(&key->credentials);
        if (r >= 0)
                r = gnutls_certificate_set_x509_key(key->credentials, &certificate, 1, private_key);
        if (r < 0)
                return error_of_library(r);
        *ret = STEAL(key);
        return 0;
}

static int read_private_key(const char *path, uint8_t *bytes, size_t *size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADMSG;
        if (st.st_mode & 077)
                return -EPERM;
        size_t have = 0;
        for (;;) {
                ssize_t n = read(fd, bytes + have, *size - have);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t) n;
                if (have == *size)
                        return -EBADMSG;
        }
        *size = have;
        return 0;
}

static int import_private_key(const uint8_t *bytes, size_t size, PeerKey **ret) {
        _cleanup_(free_private_keyp) gnutls_x509_privkey_t private_key = NULL;
        int r = gnutls_x509_privkey_init(&private_key);
        if (r < 0)
                return error_of_library(r);
        const gnutls_datum_t datum = { .data = (void *) bytes, .size = (unsigned) size };
        r = gnutls_x509_privkey_import_pkcs8(private_key, &datum, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN);
        if (r < 0)
                return error_of_library(r);
        if (gnutls_x509_privkey_get_pk_algorithm(private_key) != GNUTLS_PK_EDDSA_ED25519)
                return -EBADMSG;
        return make_key(private_key, ret);
}

int peer_key_load(const char *path, PeerKey **ret) {
        uint8_t bytes[KEY_FILE_SIZE_MAX];
        size_t size = sizeof(bytes);
        int r = read_private_key(path, bytes, &size);
        if (r >= 0)
                r = import_private_key(bytes, size, ret);
        explicit_bzero(bytes, sizeof(bytes));
        return r;
}

static int write_all(int fd, const uint8_t *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, bytes, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                bytes += n;
                size -= (size_t) n;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

static int sync_directory_of(const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        _cleanup_close_ int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 ? -errno : 0;
}

/* A link never replaces what is there, and the name never stands for half a key. */
static int write_durably(const char *path, const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *temporary = NULL;
        int r = text_printf(&temporary, "%s.XXXXXX", path);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_all(fd, bytes, size);
        if (r >= 0 && link(temporary, path) < 0)
                r = -errno;
        (void) unlink(temporary);
        return r < 0 ? r : sync_directory_of(path);
}

static int write_private_key(gnutls_x509_privkey_t private_key, const char *path) {
        gnutls_datum_t pem = {};
        int r = gnutls_x509_privkey_export2_pkcs8(private_key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem);
        if (r < 0)
                return error_of_library(r);
        r = write_durably(path, pem.data, pem.size);
        explicit_bzero(pem.data, pem.size);
        gnutls_free(pem.data);
        return r;
}

int peer_key_create(const char *path, PeerKey **ret) {
        if (access(path, F_OK) == 0)
                return -EEXIST;
        _cleanup_(free_private_keyp) gnutls_x509_privkey_t private_key = NULL;
        int r = gnutls_x509_privkey_init(&private_key);
        if (r >= 0)
                r = gnutls_x509_privkey_generate(private_key, GNUTLS_PK_EDDSA_ED25519, 0, 0);
        if (r < 0)
                return error_of_library(r);
        _cleanup_(peer_key_freep) PeerKey *key = NULL;
        r = make_key(private_key, &key);
        if (r < 0)
                return r;
        r = write_private_key(private_key, path);
        if (r < 0)
                return r;
        *ret = STEAL(key);
        return 0;
}

PeerKey *peer_key_free(PeerKey *key) {
        if (!key)
                return NULL;
        if (key->credentials)
                gnutls_certificate_free_credentials(key->credentials);
        free(key);
        return NULL;
}

const uint8_t *peer_key_pin(const PeerKey *key) {
        return key->pin;
}

gnutls_certificate_credentials_t peer_key_credentials(const PeerKey *key) {
        return key->credentials;
}
