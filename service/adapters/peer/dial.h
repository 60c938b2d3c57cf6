/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Dial: walks through somebody's addresses, one socket address at a time: names are resolved, each address is given
 * out once, in the order of the list beginning with the one that is said to be best. It opens nothing. */

#include <systemd/sd-event.h>

#include "adapters/peer/address.h"
#include "adapters/peer/resolver.h"
#include "util/text.h"

typedef struct Dial Dial;

typedef struct DialEvents {
        /* @index: of @text in the list. */
        void (*found)(const SocketAddress *address, const char *text, size_t index, void *userdata);
        /* This one leads nowhere; the walk goes on by itself. */
        void (*useless)(const char *text, const char *why, void *userdata);
        /* There are no more. */
        void (*exhausted)(void *userdata);
} DialEvents;

/* @addresses is copied. A name may take @resolve_us. */
int dial_new(Dial **ret, sd_event *event, Resolver *resolver, const TextList *addresses, size_t first,
             uint64_t resolve_us, const DialEvents *events, void *userdata);
Dial *dial_free(Dial *dial);            /* also from within its events */
DEFINE_CLEANUP(Dial *, dial_free);

/* Asks for the next one. The answer comes from the loop: found() or exhausted(), once. */
void dial_next(Dial *dial);
