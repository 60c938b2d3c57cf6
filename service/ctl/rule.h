/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Rule: which GPUs come into a pool by themselves, as people write it: VENDOR[:DEVICE][@NODE][=SET], the first
 * three each a pattern; the set says which of them go to one VM together. */

#include "ctl/objects.h"

/* "10de:2331@gpu-*" to its keys; a part that is empty or "*" is left out. 0, or -EINVAL with a sentence in
 * *ret_problem, which the caller frees. Caller frees *ret with rule_clear(). */
int rule_from_text(const char *text, Pairs *ret, char **ret_problem);
/* Whether a GPU of these ids on that node comes in by @rule, as the service sees it. */
bool rule_matches(const Pairs *rule, unsigned vendor_id, unsigned device_id, const char *node, const char *slot);

char *rule_to_text(const Pairs *rule);
void rule_clear(Pairs *rule);
