/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Domain CPUs: which CPUs a host can give a VM, out of what libvirt says of its domains' capabilities. */

#include <stddef.h>

#include "util/text.h"

/* *@ret_models: those that are usable, in libvirt's order; *@ret_vendor: of the host's own CPU, NULL: not said. What is
 * no such XML has none. Both are set, or -ENOMEM. */
int domain_cpus_read(const char *xml, size_t size, TextList *ret_models, char **ret_vendor);
