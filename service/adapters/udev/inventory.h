/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Inventory: the GPUs that are watched, what is known of each, and what of it has been told already. Knows no file, no
 * clock and no loop; udev-watch.c drives it. */

#include "adapters/udev/reader.h"
#include "core/facts.h"
#include "util/array.h"

/* One GPU, from the first sign of it until it was told that it is gone. */
typedef struct Watched {
        PciAddress address;
        ScannedGpu scanned;             /* what the last scan told of it; empty if it came by an event */
        GpuFacts facts;                 /* as last read and merged */
        GpuFacts fresh;                 /* read, and waiting for the probe */
        GpuFacts probed;                /* only what the probe tells: holders, ACS, serial, config */
        char *vendor_name, *device_name;        /* as udev's events named it; for when there is no database here */
        uint64_t hive, vram_bytes;      /* XGMI, memory, VBIOS: kept when the driver that told it is gone */
        char *vbios;
        uint64_t asked_us;              /* when the probe was, CLOCK_BOOTTIME */
        uint64_t due_us;                /* to be read at, CLOCK_MONOTONIC; 0: nothing to do */
        bool known;                     /* .facts are filled */
        bool gone;                      /* udev or sysfs says so */
        bool reading, asking;           /* a job is out; a question to the probe is out */
        bool reading_is_old;            /* it was pulled since: what comes of the job is about what was there before */
        bool ask_probe;                 /* with the next reading */
        bool refresh_asked;             /* somebody waits for the next facts */
        bool published, changed;        /* it is in the list last told; its facts are others since */
} Watched;

typedef struct Inventory {
        ARRAY(Watched *) devices;       /* by address */
        bool has_nvswitch;              /* as its modules are linked through these, whatever driver is there or not */
} Inventory;

void inventory_clear(Inventory *inventory);
Watched *inventory_find(const Inventory *inventory, PciAddress address);
/* Finds or adds. 0 or -ENOMEM. */
int inventory_add(Inventory *inventory, PciAddress address, Watched **ret);

/* Whether the device at @address, in @group (-1: not known), is the GPU, a function of its card, or in its group. */
bool watched_relates(const Watched *device, PciAddress address, int32_t group);

/* What is known of a GPU that could not be read: what it is, and what did not answer. 0 or -ENOMEM. */
int watched_set_unreadable(Watched *device, const char *what);

/* .fresh and .probed become .facts. 0 or -ENOMEM. */
int watched_merge(Watched *device);

/* It was taken out: what the probe told of it does not hold for what comes next. */
void watched_set_gone(Watched *device);
/* Something is there again, and it is another card until it is read. */
void watched_come_back(Watched *device);
/* Forgets what is gone and in no list. */
void inventory_tidy(Inventory *inventory);

/* Whether the list is another than the one last told. Works out the siblings. */
int inventory_has_news(Inventory *inventory, bool *ret);

/* The list of all GPUs that are known and not gone, by address. Rows are borrowed until the inventory changes, the row
 * of rows is the caller's. What is gone is forgotten. 0 or -ENOMEM. */
int inventory_publish(Inventory *inventory, GpuFacts **ret, size_t *ret_n);
