/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* User name of a uid. The name service may ask the network and then takes as long as it likes, so a thread of its own
 * asks, which shares nothing with this one but a socket. Who does not answer in time is called by the number. */

#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

#define USER_NAME_SIZE 64               /* with NUL; as long as an entry of the registry allows */
#define USER_NAME_TIMEOUT_US 2000000U

typedef struct UserLookup UserLookup;

typedef void (*UserLookupCallback)(const char *name, void *userdata);

/* Calls back once, with a name or the number as text, never from within; not after user_lookup_free(). */
int user_lookup_new(UserLookup **ret, sd_event *event, uint32_t uid, UserLookupCallback callback, void *userdata);
UserLookup *user_lookup_free(UserLookup *lookup);
DEFINE_CLEANUP(UserLookup *, user_lookup_free);
