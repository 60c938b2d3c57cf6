/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Changes: who watches is told what changed, and only that. After any change the table of objects is made anew and
 * held against the fingerprints of what clients know. At once for the first change, then gathered: at most
 * CHANGES_PER_SECOND rounds, however often something changes.
 *
 * In a round: InterfacesAdded, once per new object and before its first PropertiesChanged; PropertiesChanged, one per
 * object; InterfacesRemoved, while sd-bus still finds the object. */

#include <systemd/sd-event.h>

#include "adapters/bus/objects.h"

#define CHANGES_PER_SECOND 20U

typedef struct Changes {
        sd_event_source *round;
        uint64_t last_us;               /* CLOCK_MONOTONIC: when the last round was */
        bool pending;
} Changes;

int changes_init(Changes *changes, Bus *bus);
void changes_clear(Changes *changes);

/* Something changed: a round will follow. */
void changes_note(Bus *bus);

/* Has a round now, if anything changed. */
void changes_tell(Bus *bus);

/* Takes everything as known: nobody has looked yet. */
int changes_begin(Bus *bus);
