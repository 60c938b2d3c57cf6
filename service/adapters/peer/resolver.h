/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Resolver: names to addresses in threads, because a name service may hang for minutes. A thread is there only while
 * there are names to look up, and at most RESOLVER_THREADS_MAX; one that hangs is left to itself, also beyond the end
 * of the resolver. Who asks again for a name that is being looked up waits for the same thread. */

#include <systemd/sd-event.h>

#include "adapters/peer/address.h"
#include "util/cleanup.h"

#define RESOLVER_THREADS_MAX 4U
#define RESOLVER_ADDRESSES_MAX 8U       /* of one name */

typedef struct Resolver Resolver;
typedef struct ResolverRequest ResolverRequest;

/* From the loop. The request is over. @n == 0: @sentence says why; both borrowed. */
typedef void (*ResolverFound)(const SocketAddress *addresses, size_t n, const char *sentence, void *userdata);

int resolver_new(Resolver **ret, sd_event *event);
/* Its requests must have ended or been freed. */
Resolver *resolver_free(Resolver *resolver);
DEFINE_CLEANUP(Resolver *, resolver_free);

/* 0 or -errno. */
int resolver_ask(Resolver *resolver, const char *host, const char *port, ResolverFound found, void *userdata,
                 ResolverRequest **ret);
/* Takes NULL, returns NULL; not after it was answered. */
ResolverRequest *resolver_request_free(ResolverRequest *request);
