/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Survey: what stands between a GPU and a VM that wants it whole. Facts in, blockers out; each with a code for
 * scripts, a sentence for people, and a remedy (design, part 8). No blocker: the GPU is assignable.
 *
 * Not in the way, on purpose: a host driver that is bound (gpupool-bind takes it off and gives it back), the other
 * functions of the same card (they go along), and bridges in the group (they stay with the host). */

#include "core/facts.h"
#include "core/survey-codes.h"

#define SURVEY_CODE(code, ...) BLOCKER_##code,
typedef enum BlockerCode {
        SURVEY_CODES(SURVEY_CODE)
        BLOCKER_CODE_COUNT,
} BlockerCode;
#undef SURVEY_CODE

typedef struct Blocker {
        BlockerCode code;
        char *sentence;                 /* owned; what is in the way, without a full stop */
        char *remedy;                   /* owned; what to do about it, likewise */
} Blocker;

typedef struct Blockers {
        Blocker *items;
        size_t n;
        size_t allocated;
} Blockers;

/* Memory regions that are not 64-bit prefetchable must fit below 4 GiB of the guest, beside its own devices. */
#define BARS_BELOW_4G_MAX (UINT64_C(1024) * 1024 * 1024)
/* Where the CPU does not say how many bits an address has: what QEMU gives a guest then. */
#define ADDRESS_BITS_ASSUMED 40U

/* Judges @gpu on @host. Appends to @ret, in the order of the enum, each code at most once. 0 or -ENOMEM. */
int survey_gpu(const NodeFacts *host, const GpuFacts *gpu, Blockers *ret);
/* Only what is about the host, and so in the way of each GPU in it. */
int survey_host(const NodeFacts *host, Blockers *ret);
bool blocker_code_is_about_host(BlockerCode code);
void blockers_clear(Blockers *blockers);

const char *blocker_code_to_text(BlockerCode code);     /* "group-shared"; part of the D-Bus contract */
int blocker_code_from_text(const char *text, BlockerCode *ret);

/* For the manual: what the code means and what helps, without the names of one host's devices. */
const char *blocker_code_meaning(BlockerCode code);
const char *blocker_code_remedy(BlockerCode code);
