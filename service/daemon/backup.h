/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Backup: brings an exported state into the registry, piece by piece; the last piece makes it valid. */

#include "daemon/history.h"

/* See Service.import in adapters/bus/bus.h. */
int backup_import(History *history, Entry *entry, const void *bytes, size_t size, SubmitCallback callback,
                  void *userdata);
