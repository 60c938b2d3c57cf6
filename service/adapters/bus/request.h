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

/* Fills in who and what for (format, request id, author), submits, and answers @m later: with @reply_path, or with
 * nothing when it is NULL. Returns 1, or a refusal. The inquiry about @m ends here. */
int request_submit(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const char *reply_path, sd_bus_error *error);

/* The same for what becomes a job; answers with its path. */
int request_operate(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                    Entry *entry, JobOperation operation, sd_bus_error *error);

/* The same for the end of @job by a stop of its VM; answers with nothing. */
int request_cancel(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const Job *job, sd_bus_error *error);

/* The connection goes away: answers all that is owed. What the service still says of these requests, nobody hears. */
void requests_abandon(Bus *bus);
