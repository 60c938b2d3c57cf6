/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The node's id: drawn once, kept beside the registry in the file "node-id". Apart from the machine's id, which clones
 * share and installers change.
 *
 * Until the registry is there too the file is called "node-id.new". So a first start that was cut short goes on, and a
 * node-id without a registry means that the registry was lost. */

#include "core/id.h"

/* Reads the id below @state_directory. 0; -ENOENT: there is none yet; -EBADMSG: the file is no id; or -errno. */
int node_id_read(const char *state_directory, NodeId *ret);

/* The same of the id of a first start that was cut short. */
int node_id_read_new(const char *state_directory, NodeId *ret);

/* Draws an id and stores it, durably, as new; never over another one. 0 or -errno. */
int node_id_create(const char *state_directory, NodeId *ret);

/* The registry is there: the id is new no longer. 0 or -errno. */
int node_id_keep(const char *state_directory);

/* The engine of the registry knows its members by 64 bits. Never 0. */
uint64_t node_id_to_raft(const NodeId *id);
