/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* A turn is due again at *wake_us (UINT64_MAX: not by time); something more is due at @due_us. */
static inline void wake_by(uint64_t *wake_us, uint64_t due_us) {
        if (due_us < *wake_us)
                *wake_us = due_us;
}
