/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "adapters/peer/peer.h"
#include "util/text.h"

static int copy_host(const char *text, size_t length, char ret[static ADDRESS_HOST_SIZE]) {
        if (length == 0 || length >= ADDRESS_HOST_SIZE)
                return -EINVAL;
        memcpy(ret, text, length);
        ret[length] = '\0';
        return 0;
}

static int copy_port(const char *text, char ret[static ADDRESS_PORT_SIZE]) {
        uint64_t port;
        if (text_to_u64(text, 10, &port) < 0 || port > UINT16_MAX)
                return -EINVAL;
        (void) snprintf(ret, ADDRESS_PORT_SIZE, "%u", (unsigned) (uint16_t) port);
        return 0;
}

int address_split(const char *text, char ret_host[static ADDRESS_HOST_SIZE], char ret_port[static ADDRESS_PORT_SIZE]) {
        const char *end, *port = NULL;
        struct in6_addr ignored;
        if (*text == '[') {
                text++;
                end = strchr(text, ']');
                if (!end || (end[1] != '\0' && end[1] != ':'))
                        return -EINVAL;
                port = end[1] == ':' ? end + 2 : NULL;
        } else {
                end = strrchr(text, ':');
                if (!end || inet_pton(AF_INET6, text, &ignored) == 1)
                        end = text + strlen(text);
                else
                        port = end + 1;
        }
        int r = copy_host(text, (size_t) (end - text), ret_host);
        if (r < 0)
                return r;
        if (port)
                return copy_port(port, ret_port);
        (void) snprintf(ret_port, ADDRESS_PORT_SIZE, "%u", PEER_PORT_DEFAULT);
        return 0;
}

int address_from_number(const char *host, const char *port, SocketAddress *ret) {
        const struct addrinfo hints = {
                .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                .ai_socktype = SOCK_STREAM,
        };
        struct addrinfo *found = NULL;
        if (getaddrinfo(host, port, &hints, &found) != 0 || !found)
                return -EINVAL;
        memcpy(&ret->storage, found->ai_addr, found->ai_addrlen);
        ret->size = found->ai_addrlen;
        freeaddrinfo(found);
        return 0;
}

void address_to_text(const SocketAddress *address, char ret[static ADDRESS_TEXT_SIZE]) {
        char host[64], port[ADDRESS_PORT_SIZE];
        if (getnameinfo((const struct sockaddr *) &address->storage, address->size, host, sizeof(host), port,
                        sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                (void) snprintf(ret, ADDRESS_TEXT_SIZE, "an unknown address");
        else if (address->storage.ss_family == AF_INET6)
                (void) snprintf(ret, ADDRESS_TEXT_SIZE, "[%s]:%s", host, port);
        else
                (void) snprintf(ret, ADDRESS_TEXT_SIZE, "%s:%s", host, port);
}

static void to_v6(const SocketAddress *address, struct in6_addr *ret) {
        const struct sockaddr_in *in = (const struct sockaddr_in *) &address->storage;
        if (address->storage.ss_family == AF_INET6) {
                *ret = ((const struct sockaddr_in6 *) &address->storage)->sin6_addr;
                return;
        }
        *ret = (struct in6_addr) { .s6_addr = { [10] = 0xff, [11] = 0xff } };
        memcpy(&ret->s6_addr[12], &in->sin_addr, sizeof(in->sin_addr));
}

/* Who has one IPv6 address has a network of them. */
bool address_is_same_network(const SocketAddress *a, const SocketAddress *b) {
        static const uint8_t none[8];
        struct in6_addr one, other;
        to_v6(a, &one);
        to_v6(b, &other);
        bool alone = memcmp(&one, none, sizeof(none)) == 0;     /* IPv4, or this host */
        return memcmp(&one, &other, alone ? sizeof(one) : sizeof(none)) == 0;
}

bool address_is_same_host(const SocketAddress *a, const SocketAddress *b) {
        struct in6_addr one, other;
        to_v6(a, &one);
        to_v6(b, &other);
        return memcmp(&one, &other, sizeof(one)) == 0;
}
