/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Words: small sentences and columns that several verbs share. */

#include "ctl/args.h"
#include "ctl/ctl.h"
#include "ctl/find.h"

const char *or_dash(const char *text);
static inline const char *plural(uint64_t n) {
        return n == 1 ? "" : "s";
}

Style state_style(const char *state);                   /* of a node, GPU, VM or job */

/* "NVIDIA H100 PCIe": vendor and device without what companies add. Caller frees. */
char *gpu_model(const GpuObject *gpu);

/* Progress from 0 to 1, whatever came over the bus. */
double job_progress(const JobObject *job);

/* One word for a table: ready, blocked, in use, quarantined, absent. */
const char *gpu_condition(const GpuObject *gpu);

/* Without "vm NAME waits: " where it begins so: for beside the name. Borrowed. */
const char *reason_without_name(const char *reason, const char *vm);
const char *vm_reason(const VmObject *vm);              /* why it is in its state; likewise */

/* "64.0 GiB"; "0" for none. Caller frees. */
char *size_to_text(uint64_t bytes);

/* "2 h", "3 min", "12 s" */
char *duration_to_text(uint64_t us);

/* "15 minutes", "90 seconds", "7 days": as it was said. */
char *lifetime_to_text(uint64_t seconds);

/* Local time, "14:31:07", and with the day where that is not today. */
char *time_to_text(uint64_t realtime_us);

/* Name of a local user, or the number. */
char *user_to_text(uint32_t uid);

/* The pools, as pool list and status show them. */
void pools_print(const Objects *objects, const Screen *screen);

/* "6 GPUs on a, b, c, all alike; survives the loss of 1 node" */
char *pool_to_sentence(const Objects *objects, const PoolObject *pool);

/* One node more than it survives, and what stops it is the cluster's votes and not the pool's GPUs. */
bool pool_is_out_of_votes(const Objects *objects, const PoolObject *pool);

/* What is not well with a node, or "". */
char *node_to_note(const Objects *objects, const NodeObject *node);

/* GPUs of a node, and those of them that a VM could get. */
typedef struct NodeCount { unsigned gpus, free, blocked, quarantined, vms; } NodeCount;
NodeCount node_count(const Objects *objects, const NodeObject *node);

/* Reads a whole file, or standard input for "-", up to @most bytes. Has said what is wrong unless STATUS_DONE. Caller
 * frees *ret, which ends with a NUL that does not count. */
Status file_read(Ctl *ctl, const char *name, size_t most, char **ret, size_t *ret_size);

/* The option @name as a whole number; *ret is untouched if it was not given. */
Status option_number(Ctl *ctl, const Args *args, const char *name, int64_t least, int64_t most, int64_t *ret);

/* A time such as 90s, 15min, 2h or 7d, in seconds, between @least and @most; @what says whose it is. */
Status seconds_from_text(Ctl *ctl, const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *ret);
/* The same of the option @name; *ret is untouched if it was not given. */
Status option_seconds(Ctl *ctl, const Args *args, const char *name, uint64_t least, uint64_t most, uint64_t *ret);
