/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Runner stage: node a with VM(1) "bert", whose runner a test leads step by step:
 *
 *      STAGE s = stage_of_an_assigned_vm();
 *      ASSERT_DOES(s, RUN_START);              // it is the next step, and is answered as done
 *      ASSERT_TAKES(s, RUN_HOLD);              // it is the next step, and is under way
 *      answers(s, RUN_ANSWER_FAILED);
 *      ASSERT_RESTS(s);                        // nothing to do now
 */

#include "chronicle.h"
#include "core/runner.h"

#define SECOND UINT64_C(1000000)

typedef struct Stage {
        Chronicle c;
        GpuFacts gpus[4];
        NodeFacts facts;
        const NodeFacts *nodes[1];
        World world;
        Runner runner;
        RunTask task;           /* under way */
        uint64_t now_us, wake_us;
        bool shows_binding;     /* else GPUs are bound without a word of it */
        bool facts_are_old;     /* the GPUs are not read any more */
} Stage;

/* Assigned to this node with GPU 0; libvirt and guard are there and have listed that they have nothing. */
Stage *stage_of_an_assigned_vm(void);
/* The same, once its claim is through. */
Stage *stage_of_a_running_vm(void);
Stage *stage_free(Stage *s);
DEFINE_CLEANUP(Stage *, stage_free);
#define STAGE _cleanup_(stage_freep) Stage *

/* ---- what happens */

void follow(Stage *s);
void passes(Stage *s, uint64_t us);
void assign(Stage *s, unsigned gpu);
void is_to(Stage *s, VmDesire desire, uint64_t timeout_ms);
/* The service begins anew: it knows nothing of libvirt and guard. */
void service_begins(Stage *s);
void libvirt_lists_nothing(Stage *s);
void guard_lists_nothing(Stage *s);
void sees_domain(Stage *s, uint64_t epoch, bool paused);        /* the only one of the listing */
void guard_holds(Stage *s, uint64_t epoch, bool alive);         /* nothing else */
void libvirt_says_stopped(Stage *s, EndCause cause);
void process_dies(Stage *s);                                    /* of the epoch of now */
void answers(Stage *s, RunAnswer answer);
void answers_with(Stage *s, RunAnswer answer, const char *sentence);

/* ---- what the runner does */

const Run *run_of(const Stage *s);
RunStep next_step(Stage *s);            /* RUN_STEP_COUNT: none */
const char *step_text(RunStep step);
/* The happy path up to the step before @until. */
void claims_until(Stage *s, RunStep until);

/* The next step is this one, and is under way now. */
#define ASSERT_TAKES(s, wanted) g_assert_cmpstr(step_text(next_step(s)), ==, step_text(wanted))

/* ... and is done. */
#define ASSERT_DOES(s, step)                            \
        do {                                            \
                ASSERT_TAKES(s, step);                  \
                answers((s), RUN_ANSWER_DONE);          \
        } while (0)

/* There is no step to take now. */
#define ASSERT_RESTS(s) ASSERT_TAKES(s, RUN_STEP_COUNT)

/* ... but by time alone there will be one then. */
#define ASSERT_RESTS_FOR(s, us)                                         \
        do {                                                            \
                ASSERT_RESTS(s);                                        \
                g_assert_cmpuint((s)->wake_us, ==, (s)->now_us + (us)); \
        } while (0)

/* The end is reported with this cause, taken by the registry, and nothing is left. */
#define ASSERT_REPORTS(s, wanted)                                       \
        do {                                                            \
                ASSERT_TAKES(s, RUN_REPORT_ENDED);                      \
                g_assert_cmpint((s)->task.cause, ==, wanted);           \
                ASSERT_DONE(tell_ended(&(s)->c, 1, (s)->task.cause, 0)); \
                answers((s), RUN_ANSWER_DONE);                          \
                ASSERT_RESTS(s);                                        \
                g_assert_null(run_of(s));                               \
        } while (0)
