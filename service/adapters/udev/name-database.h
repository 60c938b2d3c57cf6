/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Name database: what people call a vendor and a device, from udev's hardware database. A minimal system has none; then
 * everything is nameless and the ids are shown. Reads files: used by the reader's thread only. */

#include "util/cleanup.h"

typedef struct NameDatabase NameDatabase;

/* Succeeds without a database as well. 0 or -ENOMEM. */
int name_database_new(NameDatabase **ret);
NameDatabase *name_database_free(NameDatabase *database);
DEFINE_CLEANUP(NameDatabase *, name_database_free);

/* @modalias as sysfs has it ("pci:v000010DEd00002331..."). Sets what it finds, owned by the caller. 0 or -ENOMEM. */
int name_database_find(NameDatabase *database, const char *modalias, char **vendor, char **device);
