/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Reset: makes this node forget its cluster, whole or not at all. First the file "reset" is written; from then on each
 * start takes away what the node knew and goes on as a fresh one. */

/* Durable. 0 or -errno. */
int reset_mark(const char *state_directory);
/* Where the mark is: takes away the id, the key, the peers and the registry, then the mark. 1: done; 0: there was none;
 * or -errno, the mark stays. */
int reset_finish(const char *state_directory);
