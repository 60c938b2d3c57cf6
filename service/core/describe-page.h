/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Page: what the parts of describe-write.c write on, and what describe-supply.c adds to the lines of nodes and VMs. */

#include "core/world.h"
#include "util/array.h"

/* Text that grows; text_append() would measure all of it for each word. */
typedef struct Page {
        ARRAY(char) text;
        int error;
} Page;

__attribute__((format(printf, 2, 3))) void page_put(Page *page, const char *format, ...);

static inline void page_put_flag(Page *page, bool is_so, const char *word) {
        if (is_so)
                page_put(page, " %s", word);
}

typedef ARRAY(const char *) Texts;

/* What VMs need beside GPUs, and hosts do not have alike: of all else a text is spared. */
typedef struct Wanted {
        Texts cpu_models;               /* borrowed, sorted, each once */
        Texts lost_paths;               /* likewise: those that some node lacks, or cannot reach */
        bool numa;                      /* some VM is bound to memory of certain NUMA nodes */
} Wanted;

void wanted_clear(Wanted *wanted);
/* 0 or -ENOMEM. */
int wanted_list(const World *world, Wanted *ret);

void put_supply(Page *page, const Wanted *wanted, const NodeFacts *facts);
void put_needs(Page *page, const Wanted *wanted, const VmNeeds *needs);
