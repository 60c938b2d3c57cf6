/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Options: a{sv}, where a key that nobody knows is refused by its name, a value of another type too, and a key that
 * stands twice. A method says what it takes as a list of rows. */

#include <systemd/sd-bus.h>

#include "core/entry.h"
#include "core/id.h"
#include "util/array.h"

typedef struct Bus Bus;
typedef struct Option Option;

/* Reads the value that is next in @m, whose type has been checked, into option->value. */
typedef int (*OptionRead)(sd_bus_message *m, const Option *option, sd_bus_error *error);

struct Option {
        const char *key;
        const char *signature;
        OptionRead read;
        void *value;
        bool *given;                    /* or NULL */
};

/* Reads the next argument of @m. Refuses with InvalidArgument. */
int options_read(sd_bus_message *m, const Option *options, size_t n, sd_bus_error *error);

/* The option that every change takes: a retry with the same id is recognised. */
typedef struct RequestOption {
        bool given;
        RequestId id;
} RequestOption;

#define OPTION_REQUEST(request) { "request-id", "ay", option_read_id, &(request)->id, &(request)->given }

/* For methods that take nothing else. */
int options_read_request(sd_bus_message *m, RequestOption *ret, sd_bus_error *error);

/* For methods that take nothing yet. */
int options_read_none(sd_bus_message *m, sd_bus_error *error);

/* Values; what points into the message lives as long as it does. option->value is a ... */
int option_read_id(sd_bus_message *m, const Option *option, sd_bus_error *error);       /* RequestId */
int option_read_text(sd_bus_message *m, const Option *option, sd_bus_error *error);     /* const char * */
int option_read_u32(sd_bus_message *m, const Option *option, sd_bus_error *error);      /* uint32_t */
int option_read_i32(sd_bus_message *m, const Option *option, sd_bus_error *error);      /* int32_t */
int option_read_boolean(sd_bus_message *m, const Option *option, sd_bus_error *error);  /* bool */
int option_read_u64(sd_bus_message *m, const Option *option, sd_bus_error *error);      /* uint64_t */
/* t, in seconds, 0 for never -> uint64_t in milliseconds, as an entry has it. */
int option_read_timeout_ms(sd_bus_message *m, const Option *option, sd_bus_error *error);

/* A list of strings or object paths, borrowed from the message. */
typedef ARRAY(const char *) TextRow;
void text_row_clear(TextRow *row);
int option_read_texts(sd_bus_message *m, const Option *option, sd_bus_error *error);    /* TextRow */
/* The same for an argument; at most @most, @what for people. */
int read_texts(sd_bus_message *m, char type, size_t most, const char *what, TextRow *ret, sd_bus_error *error);

/* Pairs of strings, borrowed. */
typedef struct TextPair {
        const char *first, *second;
} TextPair;
typedef ARRAY(TextPair) PairRow;
void pair_row_clear(PairRow *row);
int option_read_pairs(sd_bus_message *m, const Option *option, sd_bus_error *error);    /* PairRow */

/* aa{ss}: what puts GPUs into a pool, as an entry has it; borrowed. */
typedef struct RuleRow {
        Gpupool1__PoolRule *items;
        size_t n, allocated;
        Gpupool1__PoolRule **pointers;  /* to the items, once all are read */
} RuleRow;
void rule_row_clear(RuleRow *row);
int read_rules(sd_bus_message *m, RuleRow *ret, sd_bus_error *error);
int option_read_rules(sd_bus_message *m, const Option *option, sd_bus_error *error);    /* RuleRow */

/* What a caller wrote, fit to stand in a sentence; or a word for it. */
const char *fit_to_quote(const char *text);
