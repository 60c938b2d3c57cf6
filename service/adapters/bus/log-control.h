/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Log control: org.freedesktop.LogControl1, so that "systemctl service-log-level gpupoold debug" works on the running
 * service. Only root, and the service's own user, may change something. */

#include "adapters/bus/bus.h"

int log_control_add(Bus *bus);
