/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bind: what is asked of gpupool-bind about one GPU, and what may come of it. The words are those of its protocol
 * (bind/bind-protocol.h). */

#include "core/facts.h"

/* A GPU with its companions: as many functions as a slot can have. */
#define BIND_FUNCTIONS_MAX 8U

typedef enum BindVerb {
        BIND_TAKE,              /* from the host's drivers to vfio-pci */
        BIND_GIVE,              /* back, what was taken */
        BIND_INSPECT,           /* reset where there is a way, then look: may the next one have it? */
        BIND_VERB_COUNT,
} BindVerb;

typedef enum BindResult {
        BIND_DONE,              /* also: it was so already */
        BIND_HELD,              /* processes have it open; nothing was touched */
        BIND_BUSY,              /* another gpupool-bind is at work on it */
        BIND_REFUSED,           /* it is nothing that may be bound; nothing was touched */
        BIND_OTHER_CARD,        /* the card there is not the one that is meant; nothing was touched */
        BIND_FAILED,            /* it did not come about; the functions are where they were, as far as that went */
        BIND_BAD_CONFIG,        /* inspection: configuration space reads all ones, or as another device's */
        BIND_BAD_RESET,         /* inspection: the kernel could not reset it */
        BIND_BAD_LINK,          /* inspection: its link is down */
        BIND_BAD_BARS,          /* inspection: a memory region is gone from it */
        BIND_UNAVAILABLE,       /* gpupool-bind cannot be reached, or ended without a word */
        BIND_RESULT_COUNT,
} BindResult;

const char *bind_verb_to_text(BindVerb verb);                           /* "take" */
int bind_verb_from_text(const char *text, BindVerb *ret);               /* 0 or -EINVAL */
const char *bind_result_to_text(BindResult result);                     /* "done", "held", ... */
int bind_result_from_text(const char *text, BindResult *ret);           /* 0 or -EINVAL */

/* The card that is meant, all but its node and address: "10de:2331:10de:1626,48b02dffff1a7e01,pci0000:40/01.0/00.0",
 * which are the ids of the device and its subsystem, the serial, empty where it is not known, and the slot. */
#define BIND_CARD_SIZE (20U + GPU_SERIAL_SIZE + GPU_SLOT_SIZE)
int bind_card_to_text(const GpuIdentity *card, char ret[static BIND_CARD_SIZE]);        /* 0; -EINVAL: cannot be said */
int bind_card_from_text(const char *text, GpuIdentity *ret);                            /* 0 or -EINVAL */
