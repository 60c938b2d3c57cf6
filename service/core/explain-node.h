/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One node in words: every reason why a VM cannot run there, with what would change it; or why it was taken, or not. */

#include "core/explain-room.h"

/* @findings are one per node; @node is an index. */
Case explain_case(const Request *request, const Finding *findings, size_t node);

const char *hindrance_code(Hindrance hindrance);

/* Sentence and remedy of one hindrance. Of those that are about the node alone, for no VM, @c needs but the node. 0 or
 * -ENOMEM. */
int explain_hindrance(const Case *c, Hindrance hindrance, PlacementReason *ret);

/* All of them. @best and @second are indexes or NOWHERE. 0 or -ENOMEM. */
int explain_node(const Request *request, const Finding *findings, size_t node, size_t best, size_t second,
                 PlacementAnswer *ret);
