/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Reader: the one thread that reads sysfs, so that the loop never does, and the watchdog over it. A read that does not
 * come back within the deadline is told as hung; the thread in it is given up and another takes its place. When the
 * read comes back after all, that is told too. Where a thread is stuck nothing is read again until then, so a hanging
 * device costs one thread, and all of them together READERS_STUCK_MAX.
 *
 *      loop    submit ─► queue ─► hand over ───────────┐ watchdog armed
 *      thread                      read, read, read … ─┘ result ─► eventfd
 *      loop                                               done(), next job
 *
 * A thread that is stuck in the kernel cannot be ended, not even by the end of the process; it owns all that it needs
 * and frees it when it returns, also after the Reader itself is gone. */

#include <systemd/sd-event.h>

#include "adapters/udev/gpu-reader.h"
#include "core/facts.h"
#include "util/array.h"
#include "util/cleanup.h"

#define READERS_STUCK_MAX 16U

typedef enum ReadKind {
        READ_SCAN,                      /* which GPUs are there */
        READ_DEVICE,                    /* all about the device at .address */
        READ_HOST,
} ReadKind;

typedef struct ReadJob {
        ReadKind kind;
        PciAddress address;
        uint64_t begun_us;              /* when it was asked for, CLOCK_BOOTTIME; the first time, if twice */
} ReadJob;

/* What a scan tells of a GPU: what it is, so that it is known even if more cannot be read. */
typedef struct ScannedGpu {
        GpuIdentity identity;
        uint32_t class;
} ScannedGpu;

typedef struct ReadResult {
        ReadJob job;
        int error;                      /* 0, or -errno: nothing below is filled */
        ARRAY(ScannedGpu) gpus;         /* READ_SCAN; by address */
        bool has_nvswitch;              /* READ_SCAN: the host has a board of GPU modules with switches */
        DeviceReading device;           /* READ_DEVICE */
        NodeFacts host;                 /* READ_HOST; only the host's part */
} ReadResult;

typedef struct ReaderEvents {
        /* The contents of @result may be taken: what is left is freed. */
        void (*done)(void *userdata, ReadResult *result);
        /* @device: the one that did not answer, which may be another function of the group than the job's. @attribute:
         * what was read of it. */
        void (*hung)(void *userdata, ReadJob job, PciAddress device, const char *attribute);
        /* It could not be tried, and @why. */
        void (*refused)(void *userdata, ReadJob job, const char *why);
        /* A read told as hung came back. Its result is old and not told: submit the job again. */
        void (*returned)(void *userdata, ReadJob job, PciAddress device);
} ReaderEvents;

typedef struct Reader Reader;

/* @root: NULL for "/". 0 or -errno. No callback runs before the loop does. */
int reader_new(Reader **ret, sd_event *event, const char *root, uint64_t deadline_us, const ReaderEvents *events,
               void *userdata);
Reader *reader_free(Reader *reader);
DEFINE_CLEANUP(Reader *, reader_free);

/* Puts the job behind the others; one that waits already is not put twice. Returns > 0, or 0 where a thread is stuck in
 * the same: then nothing is read. Or -ENOMEM. */
int reader_submit(Reader *reader, ReadJob job);
bool reader_is_idle(const Reader *reader);
