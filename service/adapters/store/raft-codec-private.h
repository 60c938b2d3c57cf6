/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the codec of messages and that of snapshots share. */

#include <raft.h>

#include "adapters/store/raft-codec.h"

struct RaftInbound {
        RaftMessage message;            /* points into what follows */
        struct raft_message core;
        struct raft_entry *entries;     /* their bytes are the frame's */
        uint64_t announced;             /* bytes of a snapshot */
        char address[ID_TEXT_SIZE];
        char leader_address[ID_TEXT_SIZE];
};
