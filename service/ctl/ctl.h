/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Ctl: one run of gpupoolctl. What was asked for everywhere (--json, --quiet, ...), the bus, and the two screens. A
 * verb answers with a Status, having said itself what there is to say. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/agent.h"
#include "ctl/objects.h"
#include "ctl/screen.h"

struct json_object;

#define REQUEST_ID_SIZE 16U     /* "request-id" of the contract */

/* The exit status; gpupoolctl(1) documents it. */
typedef enum Status {
        STATUS_DONE = 0,
        STATUS_FAILED = 1,      /* refused, or broken */
        STATUS_USAGE = 2,       /* the command line is wrong; nothing was asked of the service */
        STATUS_WAITS = 3,       /* something waits, would not run, or is not ready */
        STATUS_DENIED = 4,      /* not allowed */
        STATUS_UNREACHABLE = 5, /* the service, the majority or another node cannot be reached; nothing was changed */
        STATUS_UNKNOWN = 6,     /* it may or may not have happened */
} Status;

typedef struct Ctl {
        bool json, no_wait, quiet, yes, no_ask_password;
        const char *address;    /* of the bus; NULL: the system bus */
        uint8_t request_id[REQUEST_ID_SIZE];    /* of this run: given or drawn; each change has one made of it */
        bool has_request_id;
        uint32_t n_changes;     /* that were put together so far */
        Screen out, err;
        sd_bus *bus;            /* NULL until a verb needs it */
        Agent agent;
        bool answered;          /* the JSON document was written */
        struct json_object *error;      /* owned; the first refusal, for that document */
} Ctl;

/* The whole program: options, verb, bus, exit status. */
int ctl_main(int argc, char **argv);

/* Connects, if that has not been done. */
Status ctl_connect(Ctl *ctl);

/* Reads all objects. */
Status ctl_load(Ctl *ctl, Objects **ret);

/* Finds what a person typed, or says what it could have been. */
Status ctl_find(Ctl *ctl, const Objects *objects, ObjectKind kind, const char *typed, size_t *ret_index);

/* One line for people about what was done: not with --quiet, and not with --json. */
void ctl_tell(Ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line on standard error, beside the answer: not with --quiet. */
void ctl_hint(Ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The JSON document of this run. Takes @document over. */
void ctl_answer(Ctl *ctl, struct json_object *document);

/* The document of a deletion. */
void ctl_answer_deleted(Ctl *ctl, const char *kind, const TextList *names);

/* Says why not, on standard error, and with --json as "error" of the document. @error_name may be NULL. Returns
 * @status. */
Status ctl_fail(Ctl *ctl, Status status, const char *error_name, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Wrong use: says it and where help is. Returns STATUS_USAGE. */
Status ctl_refuse_usage(Ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Asks "QUESTION [y/N]" if a person sits there and --yes was not given; else goes on, unless @must_be_said: then --yes
 * is required. */
typedef enum Certainty { ASK_IF_SOMEONE_IS_THERE, ASK_OR_BE_TOLD } Certainty;
Status ctl_confirm(Ctl *ctl, Certainty certainty, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* For what cannot be taken back: @word must be typed. @assent is the option that says the same as --yes, beside it.
 * @warning has been made of whole sentences. */
Status ctl_confirm_word(Ctl *ctl, const char *assent, bool assented, const char *word, const char *warning);
