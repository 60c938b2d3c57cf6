/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/names.h"
#include "core/wire.h"

#define FILE_FORMAT 1U
#define FILE_SIZE_MAX (8U * 1024U * 1024U)      /* NODES_MAX peers with some addresses each */
#define FILE_ITEMS_MAX (NODES_MAX * 32U)

void known_peer_clear(KnownPeer *peer) {
        free(peer->name);
        text_list_clear(&peer->addresses);
        *peer = (KnownPeer) {};
}

void peers_file_clear(PeersFile *file) {
        free(file->cluster_name);
        ARRAY_EACH(peer, &file->peers)
                known_peer_clear(peer);
        array_clear(&file->peers);
        *file = (PeersFile) {};
}

int peers_file_add(PeersFile *file, const Gpupool1__PeerRecord *message) {
        KnownPeer peer = { .member = message->member };
        if (message->node.len != ID_SIZE || message->key.len != PEER_KEY_SIZE || !name_is_valid(message->name) ||
            message->n_addresses > ADDRESSES_MAX)
                return -EINVAL;
        memcpy(peer.node.bytes, message->node.data, ID_SIZE);
        memcpy(peer.key, message->key.data, PEER_KEY_SIZE);
        int r = text_set(&peer.name, message->name);
        for (size_t i = 0; r >= 0 && i < message->n_addresses; i++) {
                if (strlen(message->addresses[i]) > ADDRESS_LENGTH_MAX || !text_is_printable(message->addresses[i]))
                        r = -EINVAL;
                else
                        r = text_list_add(&peer.addresses, message->addresses[i]);
        }
        if (r >= 0)
                r = array_append(&file->peers, &peer);
        if (r < 0)
                known_peer_clear(&peer);
        return r;
}

static int decode(const uint8_t *bytes, size_t size, PeersFile *ret) {
        if (wire_check(&gpupool1__peers_file__descriptor, bytes, size, FILE_ITEMS_MAX) != WIRE_GOOD)
                return -EBADMSG;
        Gpupool1__PeersFile *message = gpupool1__peers_file__unpack(NULL, size, bytes);
        if (!message)
                return -EBADMSG;
        PeersFile file = { .removed = message->removed, .joining = message->joining };
        int r = message->format == FILE_FORMAT && message->cluster.len == ID_SIZE ? 0 : -EBADMSG;
        if (r >= 0) {
                memcpy(file.cluster.bytes, message->cluster.data, ID_SIZE);
                r = text_set(&file.cluster_name, message->cluster_name);
        }
        for (size_t i = 0; r >= 0 && i < message->n_peers; i++)
                r = peers_file_add(&file, message->peers[i]);
        gpupool1__peers_file__free_unpacked(message, NULL);
        if (r < 0) {
                peers_file_clear(&file);
                return r == -EINVAL ? -EBADMSG : r;
        }
        *ret = file;
        return 0;
}

int peers_file_load(const char *state_directory, PeersFile *ret) {
        _cleanup_free_ char *path = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        struct stat status;
        int r = text_printf(&path, "%s/" PEERS_FILE, state_directory);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > FILE_SIZE_MAX)
                return -EBADMSG;
        size_t size = (size_t) status.st_size;
        bytes = malloc(size);
        if (!bytes)
                return -ENOMEM;
        ssize_t n = read(fd, bytes, size);
        if (n < 0)
                return -errno;
        return (size_t) n == size ? decode(bytes, size, ret) : -EBADMSG;
}

static int encode(const PeersFile *file, uint8_t **ret_bytes, size_t *ret_size) {
        Gpupool1__PeersFile message = GPUPOOL1__PEERS_FILE__INIT;
        _cleanup_free_ Gpupool1__PeerRecord *records = calloc(file->peers.n + 1, sizeof(*records));
        _cleanup_free_ Gpupool1__PeerRecord **pointers = calloc(file->peers.n + 1, sizeof(*pointers));
        if (!records || !pointers)
                return -ENOMEM;
        for (size_t i = 0; i < file->peers.n; i++) {
                KnownPeer *peer = file->peers.items + i;
                gpupool1__peer_record__init(records + i);
                records[i].node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = peer->node.bytes };
                records[i].key = (ProtobufCBinaryData) { .len = PEER_KEY_SIZE, .data = peer->key };
                records[i].name = peer->name;
                records[i].addresses = peer->addresses.items;
                records[i].n_addresses = peer->addresses.n;
                records[i].member = peer->member;
                pointers[i] = records + i;
        }
        message.format = FILE_FORMAT;
        message.cluster = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) file->cluster.bytes };
        message.cluster_name = file->cluster_name ? file->cluster_name : (char *) "";
        message.peers = pointers;
        message.n_peers = file->peers.n;
        message.removed = file->removed;
        message.joining = file->joining;

        size_t size = gpupool1__peers_file__get_packed_size(&message);
        uint8_t *bytes = malloc(size);
        if (!bytes)
                return -ENOMEM;
        (void) gpupool1__peers_file__pack(&message, bytes);
        *ret_bytes = bytes;
        *ret_size = size;
        return 0;
}

int peers_file_save(const char *state_directory, const PeersFile *file) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r = encode(file, &bytes, &size);
        if (r < 0)
                return r;
        _cleanup_close_ int directory = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return -errno;
        _cleanup_close_ int fd = openat(directory, PEERS_FILE ".new",
                                        O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        ssize_t n = write(fd, bytes, size);
        if (n < 0)
                return -errno;
        if ((size_t) n != size)
                return -ENOSPC;
        if (fsync(fd) < 0 || renameat(directory, PEERS_FILE ".new", directory, PEERS_FILE) < 0 || fsync(directory) < 0)
                return -errno;
        return 0;
}
