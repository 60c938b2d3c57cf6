/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the facts' codec share: words on their way out and in. */

#include "core/entry.h"
#include "core/facts-codec.h"
#include "facts.pb-c.h"
#include "util/array.h"

#define ADDRESS_BITS_MAX 64U

#define KEY_HOST "host"
#define KEY_LOAD "load"
#define KEY_CPU "cpu"
#define KEY_STORAGE "storage"
#define KEY_NUMA "numa"
#define KEY_SILENT "silent"
#define KEY_FENCING "fencing"
#define KEY_GPU_PREFIX "gpu/"
#define KEY_VM_PREFIX "vm/"
#define KEY_GPU_SIZE (sizeof(KEY_GPU_PREFIX) - 1 + PCI_ADDRESS_TEXT_SIZE)
#define KEY_VM_SIZE (sizeof(KEY_VM_PREFIX) - 1 + ID_TEXT_SIZE)

static inline bool key_has_prefix(const char *key, const char *prefix) {
        return strncmp(key, prefix, strlen(prefix)) == 0;
}

/* ---- out: messages borrow what they say from the facts; what must be made for them is kept here until they are
 * packed. Whether anything went wrong is asked once, at the end. */

typedef struct Keep {
        ARRAY(void *) items;
        bool failed;                    /* out of memory: what was returned is not to be packed */
} Keep;

void keep_clear(Keep *keep);
/* Zeroed; NULL when it failed, and for 0 items. */
void *keep_row(Keep *keep, size_t n, size_t size);
/* The text itself, or one that is cut to @most bytes and printable; "" for NULL. */
char *keep_text(Keep *keep, const char *text, size_t most);
/* At most @most items, each at most FACTS_WORD_MAX bytes; empty ones are left out. */
char **keep_list(Keep *keep, const TextList *list, size_t most, size_t *ret_n);

/* Returns a GossipSet or -ENOMEM. */
int publish_message(Gossip *gossip, const char *key, const ProtobufCMessage *message);
/* As above, and where it is refused, what was said under this key before is taken back. */
int publish_or_withdraw(Gossip *gossip, const char *key, const ProtobufCMessage *message);

/* ---- in. 0, -EBADMSG where a bound is broken, or -ENOMEM. */

/* A message of this kind. */
int unpack_value(const ProtobufCMessageDescriptor *kind, const void *value, size_t size, ProtobufCMessage **ret);

static inline void message_free(ProtobufCMessage *message) {
        protobuf_c_message_free_unpacked(message, NULL);
}
DEFINE_CLEANUP(ProtobufCMessage *, message_free);

int read_text(const char *text, size_t most, char **ret);
int read_list(char *const *items, size_t n, size_t most, TextList *ret);

/* ---- what a host has for VMs beside its GPUs; as above and below */

int capacity_publish(Gossip *gossip, const NodeFacts *facts);
int cpu_collect(const GossipFact *fact, NodeFacts *facts);
int storage_collect(const GossipFact *fact, NodeFacts *facts);
int numa_collect(const GossipFact *fact, NodeFacts *facts);

/* ---- GPUs */

void gpu_key(PciAddress address, char ret[static KEY_GPU_SIZE]);
/* Returns a GossipSet or -ENOMEM. */
int gpu_publish(Gossip *gossip, const GpuFacts *gpu);
/* 0, -EBADMSG or -ENOMEM; *@ret is set with 0 only. */
int gpu_collect(const NodeId *node, const GossipFact *fact, GpuFacts *ret);
