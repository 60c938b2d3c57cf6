/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Facts as gossip carries them: keys and values of interfaces/facts.proto. A node lays its facts into its own part of
 * gossip; everybody takes out those of the others, and trusts nothing: each field has its bounds, texts are printable,
 * a value that breaks a rule is passed over and counted, and the rest is used.
 *
 * What comes out is what was laid in, with these exceptions: free memory in whole FACTS_MEMORY_STEP; an empty text is
 * an unknown one; texts and rows are cut where they are over the limits here. */

#include "core/facts.h"
#include "core/fence.h"
#include "core/gossip.h"

/* Free memory changes all the time: so the word of it goes around only when somebody could notice. */
#define FACTS_MEMORY_STEP (UINT64_C(64) * 1024 * 1024)

/* What a node says at most. A GPU's value stays below GOSSIP_VALUE_MAX with all of them: where it would not, what
 * functions are called is left out, and all holders of the GPU but FACTS_BRIEF_HOLDERS_MAX, and all its USB
 * devices but FACTS_BRIEF_USB_MAX. */
#define FACTS_WORD_MAX 63U              /* bytes of a name: driver, speed, method, address, ... */
#define FACTS_TEXT_MAX 511U             /* of a longer text */
#define FACTS_VERSIONS_MAX 16U
#define FACTS_HUGEPAGES_MAX 16U         /* sizes; the kernel knows 7 at most, on arm64 */
#define FACTS_REGIONS_MAX 32U
#define FACTS_RESETS_MAX 16U            /* the kernel knows 8 ways */
#define FACTS_SIBLINGS_MAX 32U         /* 16 share the largest board */
#define FACTS_FUNCTIONS_MAX 64U         /* a group of more is foreign enough with these */
#define FACTS_HOLDERS_MAX 64U
#define FACTS_USB_MAX 16U
#define FACTS_BRIEF_USB_MAX 4U
#define FACTS_BRIEF_HOLDERS_MAX 16U
#define FACTS_PARAMETERS_MAX 16U        /* of the kernel's command line */
#define FACTS_NUMA_MAX 256U              /* kinds of memory of all nodes; three of each of 64, and more */
#define FACTS_CPU_MODELS_MAX 224U       /* libvirt 11 knows 160, of all makers */
#define FACTS_PATHS_MAX 1000U           /* missing, and as many whose storage hangs; see path_set_gather() */
#define FACTS_AGENTS_MAX 16U            /* missing fence agents; who lacks more has none */
#define FACTS_FENCED_MAX 48U            /* nodes that are switched off, or were to be in vain; others are not shown */
#define FACTS_FENCED_SAID_MAX 255U      /* bytes of what an agent says */
#define FACTS_SILENT_MAX 512U           /* nodes; without more of its nodes than that a leader hardly leads */

/* Changes our own part of @gossip so that it has exactly these facts; facts->node must be its own, like each GPU's
 * node. What it says of VMs and other nodes is not touched. The host's facts come last (see FactsHost.gpus). 0, -EINVAL
 * or -ENOMEM; then part of it may be done. */
int facts_publish(Gossip *gossip, const NodeFacts *facts);

typedef enum FactsVerdict {
        FACTS_NONE,                     /* nothing is known of the host: it is new, or it begins anew */
        FACTS_PARTIAL,                  /* facts of some GPUs are on the way: keep what you had, if whole */
        FACTS_WHOLE,
} FactsVerdict;

/* What @node says of itself. With FACTS_PARTIAL and FACTS_WHOLE *@ret is set (node_facts_clear()), and *@ret_skipped,
 * which may be NULL: values that were not used. Returns a FactsVerdict or -ENOMEM. */
int facts_collect(const Gossip *gossip, const NodeId *node, NodeFacts *ret, unsigned *ret_skipped);

/* Whether two say the same as gossip would carry it, the GPUs too. */
bool facts_equal(const NodeFacts *a, const NodeFacts *b);

/* ---- a VM, as the runner of a node sees it */

typedef struct VmFacts {
        uint64_t epoch;
        char *stage, *code, *sentence;  /* NULL: none */
} VmFacts;

void vm_facts_clear(VmFacts *facts);
/* NULL: nothing is to be said of it any more. 0 or -ENOMEM. */
int vm_facts_publish(Gossip *gossip, const VmId *vm, const VmFacts *facts);
/* True, with *@ret set, where @node says something of it that can be read; else false. Or -ENOMEM. */
int vm_facts_collect(const Gossip *gossip, const NodeId *node, const VmId *vm, VmFacts *ret);
/* The node's first VM behind @vm (NULL: the first of all) of which it says something. */
bool vm_facts_next(const Gossip *gossip, const NodeId *node, const VmId *vm, VmId *ret);

/* ---- whom the leader does not hear */

typedef struct SilentNode {
        NodeId node;
        uint64_t since_ms;              /* realtime, for people's eyes */
} SilentNode;

typedef struct SilentFacts {
        uint64_t term;
        SilentNode *nodes;              /* by id, each once */
        size_t n_nodes;
        uint32_t more;                  /* were left out */
} SilentFacts;

void silent_facts_clear(SilentFacts *facts);
/* NULL: we do not lead. What is over FACTS_SILENT_MAX is counted as more. 0 or -ENOMEM. */
int silent_facts_publish(Gossip *gossip, const SilentFacts *facts);
/* True, with *@ret set, where @node says something that can be read; else false. Or -ENOMEM. */
int silent_facts_collect(const Gossip *gossip, const NodeId *node, SilentFacts *ret);

/* ---- whom the leader has switched off */

typedef ARRAY(FencedNode) FencingFacts; /* by node */

void fencing_facts_clear(FencingFacts *facts);
int fencing_facts_copy(const FencingFacts *from, FencingFacts *ret);
bool fencing_facts_equal(const FencingFacts *a, const FencingFacts *b);
/* NULL: we do not lead. Those over FACTS_FENCED_MAX are left out. 0 or -ENOMEM. */
int fencing_facts_publish(Gossip *gossip, const FencingFacts *facts);
/* True, with *@ret set, where @node says something that can be read; else false. Or -ENOMEM. */
int fencing_facts_collect(const Gossip *gossip, const NodeId *node, FencingFacts *ret);
