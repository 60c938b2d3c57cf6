/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The node's id: drawn once, kept beside the registry in the file "node-id". Apart from the machine's id, which clones
 * share and installers change. */

#include "core/id.h"

/* Reads the id below @state_directory. 0; -ENOENT: there is none yet; -EBADMSG: the file is no id; or -errno. */
int node_id_read(const char *state_directory, NodeId *ret);

/* Draws an id and stores it, durably, never over another one. 0 or -errno. */
int node_id_create(const char *state_directory, NodeId *ret);

/* The engine of the registry knows its members by 64 bits. Never 0. */
uint64_t node_id_to_raft(const NodeId *id);
