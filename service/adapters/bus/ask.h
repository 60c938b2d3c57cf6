/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Ask: what must be known before a call may act: who calls (the bus daemon knows), whether they may (polkit knows), and
 * whether libvirt takes an XML. None of them answers at once, and nothing in the loop may wait. So the message itself
 * waits, is dispatched a second time when the answer is there, and the method runs again from its first line:
 *
 *     method(m)  -> ask_caller(m)   nothing known: the question goes out          -> ASK_WAIT, return 1
 *     (answer)   -> kept beside m, m is put back into the queue
 *     method(m)  -> ask_caller(m)   known: ASK_GO
 *                -> ask_right(m)    not asked yet: the question goes out          -> ASK_WAIT, return 1
 *     (answer)   -> ...
 *     method(m)  -> ask_caller(m), ask_right(m): ASK_GO -> act
 *
 * Nothing of the method outlives a wait: no pointer to an object, no half-made request. If the object is gone by then,
 * sd-bus does not find it; if its state asks for another right now, that right is asked for. What stands before the
 * last question therefore runs several times and must be without effect. A refusal is final for its message. A caller
 * who leaves the bus while a question is open is not acted for.
 *
 * A method does:  r = ask_right(...);  if (r != ASK_GO) return r; */

#include <systemd/sd-bus.h>

#include "adapters/bus/bus.h"
#include "util/array.h"

#define ASK_GO 0
#define ASK_WAIT 1

#define RIGHTS_PER_CALL_MAX 8U                  /* an object that changes with each question would go on for ever */
#define ANSWER_TIMEOUT_US (25U * 1000000U)      /* of the bus daemon, and of polkit where no person is asked */
#define PERSON_TIMEOUT_US (600U * 1000000U)     /* for a password: then nobody is there any more */

/* What a caller wants to be allowed. What is NULL is not among the details of the question. */
typedef struct Right {
        const char *action;
        const char *pool;
        const char *vm;
        const char *node;
        const char *verb;
        const char *owner;
} Right;

typedef struct Inquiry Inquiry;

typedef struct Inquiries {
        ARRAY(Inquiry *) all;
        uint64_t next_cancellation;
} Inquiries;

/* Who sent @m. *ret is good until the method returns. */
int ask_caller(Bus *bus, sd_bus_message *m, const Caller **ret, sd_bus_error *error);

/* May the sender of @m do this? ask_caller() has said ASK_GO before. polkit is asked always, whoever calls. */
int ask_right(Bus *bus, sd_bus_message *m, const Right *right, sd_bus_error *error);

/* Does libvirt take @xml, which is made of nothing but the message? */
int ask_hypervisor(Bus *bus, sd_bus_message *m, const char *xml, sd_bus_error *error);

/* The method has acted, or answered: forgets what was asked for @m. */
void ask_done(Bus *bus, sd_bus_message *m);

/* For an object that is not there: 0, or a refusal if the message that is being dispatched had a question open, so that
 * the object was there when it came. */
int inquiry_refuse_vanished(Bus *bus, sd_bus_error *error);

/* @sender has left the bus. */
void inquiries_drop_sender(Bus *bus, const char *sender);

/* Answers all that wait: the service is going down. */
void inquiries_clear(Bus *bus);
