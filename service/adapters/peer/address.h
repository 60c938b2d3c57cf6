/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Address: "10.0.0.1:7411", "[fd77::1]:7411", "name:7411"; without a port it is ours. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct SocketAddress {
        struct sockaddr_storage storage;
        socklen_t size;
} SocketAddress;

#define ADDRESS_HOST_SIZE 256U          /* ADDRESS_LENGTH_MAX and NUL */
#define ADDRESS_PORT_SIZE 6U
#define ADDRESS_TEXT_SIZE 80U           /* of a number: 45 digits, a scope, brackets, a port */

/* 0, -EINVAL. */
int address_split(const char *text, char ret_host[static ADDRESS_HOST_SIZE], char ret_port[static ADDRESS_PORT_SIZE]);

/* Only where @host is a number: asks no name service. 0, -EINVAL. */
int address_from_number(const char *host, const char *port, SocketAddress *ret);

void address_to_text(const SocketAddress *address, char ret[static ADDRESS_TEXT_SIZE]);

/* The same host, whatever the port; an IPv4 address in an IPv6 one is itself. */
bool address_is_same_host(const SocketAddress *a, const SocketAddress *b);
/* What one may have as its own: 64 bits of an IPv6 address, else the host. */
bool address_is_same_network(const SocketAddress *a, const SocketAddress *b);
