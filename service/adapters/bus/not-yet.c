/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods of the contract that later versions carry out: they say so. */

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"

METHOD(method_defragment) {
        return sd_bus_error_set(error, ERROR_NOT_SUPPORTED,
                                "gpupool " GPUPOOL_VERSION " does not carry out Defragment yet; Features of "
                                INTERFACE_MANAGER " says what it does");
}
