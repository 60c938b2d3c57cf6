/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/survey.h"

#include <errno.h>
#include <stdlib.h>

#include "core/survey-internal.h"
#include "util/array.h"

#define SURVEY_CODE(code, name, find, about_host, meaning, remedy) \
        [BLOCKER_##code] = { name, meaning, remedy, find, about_host },
static const struct {
        const char *name, *meaning, *remedy;
        int (*find)(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret);
        bool about_host;
} rows[BLOCKER_CODE_COUNT] = { SURVEY_CODES(SURVEY_CODE) };
#undef SURVEY_CODE

static void clear_blocker(Blocker *blocker) {
        free(blocker->sentence);
        free(blocker->remedy);
}

/* What was never read says nothing: only that, and what is true of the host, is told. */
static bool row_applies(BlockerCode code, const GpuFacts *gpu) {
        return gpu->identity.vendor != 0 || rows[code].about_host || code == BLOCKER_UNREADABLE;
}

/* 0 or -ENOMEM. */
static int ask_row(BlockerCode code, const NodeFacts *host, const GpuFacts *gpu, Blockers *ret) {
        Blocker blocker = { .code = code };
        int r = rows[code].find(host, gpu, &blocker);
        if (r > 0 && !blocker.remedy && text_set(&blocker.remedy, rows[code].remedy) < 0)
                r = -ENOMEM;
        if (r > 0)
                r = array_append(ret, &blocker) < 0 ? -ENOMEM : 1;
        if (r > 0)
                return 0;
        clear_blocker(&blocker);
        return r;
}

int survey_gpu(const NodeFacts *host, const GpuFacts *gpu, Blockers *ret) {
        int r = 0;
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT && r >= 0; code++)
                if (row_applies(code, gpu))
                        r = ask_row(code, host, gpu, ret);
        return r;
}

int survey_host(const NodeFacts *host, Blockers *ret) {
        GpuFacts any = { .iommu_group = -1, .numa_node = -1 };
        int r = 0;
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT && r >= 0; code++)
                if (rows[code].about_host)
                        r = ask_row(code, host, &any, ret);
        return r;
}

bool blocker_code_is_about_host(BlockerCode code) {
        return rows[code].about_host;
}

void blockers_clear(Blockers *blockers) {
        ARRAY_EACH(blocker, blockers)
                clear_blocker(blocker);
        array_clear(blockers);
}

const char *blocker_code_to_text(BlockerCode code) {
        return rows[code].name;
}

int blocker_code_from_text(const char *text, BlockerCode *ret) {
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT; code++)
                if (text_equal(text, rows[code].name)) {
                        *ret = code;
                        return 0;
                }
        return -EINVAL;
}

const char *blocker_code_meaning(BlockerCode code) {
        return rows[code].meaning;
}

const char *blocker_code_remedy(BlockerCode code) {
        return rows[code].remedy;
}
