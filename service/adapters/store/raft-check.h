/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* RaftCheck: libraft believes what it is told. Distributions build it without its assertions, so a message that breaks
 * them (entries from the leader of a term to that leader itself, say) overwrites its memory. Each message is held
 * against them first. Private to the engine. */

#include <raft.h>

#include "adapters/store/raft-engine.h"
#include "adapters/store/raft-log.h"

typedef enum RaftCheckVerdict {
        RAFT_CHECK_GOOD,
        RAFT_CHECK_STALE,       /* harmless, and of no use any more: to be dropped */
        RAFT_CHECK_BAD,         /* no correct member sends this */
} RaftCheckVerdict;

RaftCheckVerdict raft_check_message(const struct raft *raft, const RaftLog *log, const RaftMessage *message);

/* The term of what stands at @index; 0 if neither log nor snapshot says it. */
uint64_t raft_check_term_at(const struct raft *raft, const RaftLog *log, uint64_t index);

/* libraft's decoder of members, which reads past the end of what is too short, behind a check of the bounds. Returns 0
 * (to be closed with raft_configuration_close()), -EBADMSG or -ENOMEM. */
int raft_check_decode_members(const void *bytes, size_t size, struct raft_configuration *ret);
