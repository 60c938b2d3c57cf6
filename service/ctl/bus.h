/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bus: the connection, and waiting on it without missing a key press. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "util/cleanup.h"

/* To @address, or to the system bus (NULL). Negative errno. */
int bus_open(const char *address, sd_bus **ret);

uint64_t now_boottime_us(void);
uint64_t now_realtime_us(void);

/* Why bus_turn() returned. */
typedef enum BusTurn {
        BUS_TURN_WORKED,        /* something was handled; there may be more */
        BUS_TURN_DEADLINE,
        BUS_TURN_INTERRUPTED,   /* Ctrl-C; only after bus_catch_interrupt() */
} BusTurn;

/* Handles one message, or waits for one until @deadline_boottime_us. Returns a BusTurn or negative errno. */
int bus_turn(sd_bus *bus, uint64_t deadline_boottime_us);

/* From now on Ctrl-C ends bus_turn() and not the program, until bus_release_interrupt(). */
void bus_catch_interrupt(void);
void bus_release_interrupt(void);
bool bus_was_interrupted(void);

/* Calls @callback when the service comes onto the bus or leaves it (NameOwnerChanged). */
int bus_match_owner(sd_bus *bus, sd_bus_slot **ret, sd_bus_message_handler_t callback, void *userdata);

/* Waits until the service is (again) on the bus, asking for its start where the bus can do that. True if it is. */
bool bus_await_service(sd_bus *bus, uint64_t deadline_boottime_us);
