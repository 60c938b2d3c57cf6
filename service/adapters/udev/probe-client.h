/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Probe client: asks gpupool-probe what only root can read (probe/probe-protocol.h), without ever waiting for it: an
 * answer, or word that there is none, comes by callback. A few questions run at once, the others queue; a device whose
 * question was not answered in time is left alone for a while, so that a hanging one piles up no processes. */

#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/facts.h"
#include "util/cleanup.h"

typedef struct ProbeClient ProbeClient;

/* Questions that run at once, below what the socket unit allows (MaxConnections=). */
#define PROBE_CONNECTIONS_MAX 8U
/* How long a device is left alone after a question about it ran out of time. */
#define PROBE_PAUSE_US (30U * 1000U * 1000U)

typedef struct ProbeAnswer {
        GpuFacts facts;                 /* only holders, identity.serial and what config space tells are filled */
} ProbeAnswer;

void probe_answer_clear(ProbeAnswer *answer);

/* Reads a whole answer; bytes may be anything. 0, -EBADMSG, or -ENOMEM. */
int probe_answer_parse(const char *text, size_t size, ProbeAnswer *ret);

/* @answer: NULL when there is none: the probe is absent, refused or silent. What it owns may be taken. */
typedef void (*ProbeAnswered)(void *userdata, PciAddress gpu, ProbeAnswer *answer);

/* @socket is copied. 0 or -errno. */
int probe_client_new(ProbeClient **ret, sd_event *event, const char *socket, uint64_t deadline_us,
                     ProbeAnswered answered, void *userdata);
ProbeClient *probe_client_free(ProbeClient *client);
DEFINE_CLEANUP(ProbeClient *, probe_client_free);

/* Asks about @gpu; a question that still queues is not put twice. Never calls back before it returns. 0 or -ENOMEM. */
int probe_client_ask(ProbeClient *client, PciAddress gpu);
/* Drops the question about @gpu: no callback comes. */
void probe_client_forget(ProbeClient *client, PciAddress gpu);
