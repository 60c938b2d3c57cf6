/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Request: what a method wants from the service, and the answer that is owed to its caller from then on: whether the
 * change is committed, refused or lost, whether the object lives on or not, and also when the bus goes down. Before an
 * answer goes out, everybody is told what changed, so that nobody reads the old value after the answer. */

#include <systemd/sd-bus.h>

#include "adapters/bus/bus.h"
#include "adapters/bus/options.h"
#include "core/entry.h"

typedef struct Request Request;

/* Has the registry answered this request before? Then it is sent again, and gets the same answer, whatever the state
 * of things is by now. */
bool request_is_known(Bus *bus, const RequestOption *id);
/* Has it, and was it just this command? */
bool request_is_same(Bus *bus, const RequestOption *id, const Entry *entry);

/* Fills in who and what for (format, request id, author), submits, and answers @m later: with @reply_path, or with
 * nothing when it is NULL. Returns 1, or a refusal. The inquiry about @m ends here. */
int request_submit(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const char *reply_path, sd_bus_error *error);

/* The same for what becomes a job; answers with its path. */
int request_operate(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                    Entry *entry, JobOperation operation, sd_bus_error *error);

/* The same for the end of @job by what undoes it; answers with nothing. */
int request_cancel(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const Job *job, sd_bus_error *error);

/* An invitation; answers with its token. There is no request id: the secret is drawn anew each time, so a retry is
 * another invitation. */
int request_invite(Bus *bus, sd_bus_message *m, const Caller *caller, uint64_t lifetime_ms, sd_bus_error *error);

/* This node leaves its cluster; answers with nothing. */
int request_leave(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, sd_bus_error *error);

/* A backup is restored; answers with nothing. */
int request_import(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, const void *bytes,
                   size_t size, sd_bus_error *error);

/* @entry is a SetLevel; answers with what is in the way, as text. */
int request_set_level(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, Entry *entry,
                      sd_bus_error *error);

typedef enum ObstacleNeed {
        OBSTACLES_OR_NONE,
        OBSTACLES_ONLY,                 /* without any there is no answer */
} ObstacleNeed;

/* Answers @m with what keeps the cluster from @level. Returns 1, 0 when it gave no answer, or -errno. */
int reply_obstacles(Bus *bus, sd_bus_message *m, uint32_t level, ObstacleNeed need);

/* The connection goes away: answers all that is owed. What the service still says of these requests, nobody hears. */
void requests_abandon(Bus *bus);
