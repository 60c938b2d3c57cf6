/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of describe-read.c share and nobody else sees: words (describe-words.c), the lines of GPUs
 * (describe-gpu.c), those of VMs (describe-vm.c), and what these need beside GPUs (describe-needs.c). All that return
 * an int return a DescribeVerdict or -ENOMEM. */

#include "core/describe.h"

#define NO_OTHER_CPU "-"                /* in the place of a CPU model: there is none of those that VMs need */
#define WORD_SHOWN_MAX 64               /* of what is wrong, in a sentence */

/* A GPU that goes with others. */
typedef struct Member {
        char *set;                      /* borrowed from the text */
        size_t gpu;                     /* of its node's draft */
        bool broken;
} Member;

typedef struct DraftGpu {
        GpuIdentity identity;
        const char *pool;               /* borrowed from the registry; NULL: none */
        int32_t iommu_group;
        bool absent;
        unsigned taken_in_line;         /* 0: by no VM */
} DraftGpu;

/* A node as far as it is read; in the order of the registry's nodes. */
typedef struct Draft {
        NodeFacts *facts;               /* owned until the end */
        size_t gpus_allocated;
        bool unknown;
        ARRAY(DraftGpu) gpus;           /* as they stand */
        ARRAY(Member) members;
} Draft;

typedef struct Name {
        const char *name;               /* borrowed from the text */
        size_t index;
} Name;

typedef ARRAY(Name) Names;

typedef struct Reader {
        Described *described;
        ARRAY(Draft) drafts;
        Names nodes, vms;
        size_t n_gpus;
        unsigned line;
        char *rest;                     /* of the line */
        bool has_cluster;
        char *sentence;
} Reader;

NodeId described_node_id(size_t index);

/* Says what is wrong in this line. DESCRIBE_BAD or -ENOMEM. */
int refuse(Reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));
int refuse_word(Reader *reader, const char *line_kind, const char *word);

/* The next word of the line, or NULL at its end. */
char *next_word(Reader *reader);
/* What must follow the word @after. */
int must_have_word(Reader *reader, const char *after, char **ret);
int read_name(Reader *reader, const char *after, char **ret);
int read_number(Reader *reader, const char *after, int64_t least, int64_t most, int64_t *ret);
int read_u32(Reader *reader, const char *after, uint32_t least, uint32_t most, uint32_t *ret);
int read_address(Reader *reader, const char *after, PciAddress *ret);
int read_node_name(Reader *reader, const char *after, size_t *ret);

/* @name is borrowed. */
int add_name(Reader *reader, Names *names, const char *what, const char *name, size_t index);

static inline int set_flag(bool *flag) {
        *flag = true;
        return DESCRIBE_READ;
}

/* Each reads one line behind its first word. */
int read_gpu(Reader *reader);
int read_gpus(Reader *reader);
int read_vm(Reader *reader);

/* A word of a line that nobody else knows, with what is behind it. */
int read_vm_need(Reader *reader, VmNeeds *needs, const char *word);
int read_node_supply(Reader *reader, NodeFacts *facts, const char *word);

/* At the end, of each node; 0 or -ENOMEM. */
int join_sets(Draft *draft, NodeRecord *node);
int fill_pools(Reader *reader, Draft *draft);
