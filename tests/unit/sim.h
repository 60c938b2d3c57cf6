/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sim: one host with libvirt, guard and gpupoold in virtual time, where everything fails, hangs, comes late or comes
 * true after it was given up. What is true (processes, domains, the guard's pidfds) stands apart from what the service
 * was told of it. The service's part is played by the real runner, conductor, placement and registry.
 *
 *      sim.c           time, the queue of what is to happen, the rules that are held after each of it
 *      sim-host.c      processes, libvirt, the guard
 *      sim-service.c   the service between them: steps carried out, answers and events brought
 */

#include "chronicle.h"
#include "core/conductor.h"
#include "core/runner.h"
#include "world-builder.h"

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define SIM_VMS 3U              /* VM(1) to VM(3) need 1, 1 and 2 of the GPUs */
#define SIM_GPUS 4U
#define CALL_TIMEOUT_US (5 * SECOND)

typedef struct Sim Sim;
typedef struct SimEvent SimEvent;

/* Something that is to happen. */
struct SimEvent {
        uint64_t at_us, order;
        void (*happen)(Sim *sim, const SimEvent *event);
        unsigned vm;
        uint64_t epoch;
        unsigned life;          /* of the service, of libvirt or of the guard: what is of an old one does not happen */
        unsigned connection;
        size_t index;           /* of a process or a call */
        RunStep step;
        RunAnswer answer;
        EndCause cause;
};

typedef struct SimProcess {
        unsigned vm;
        uint64_t epoch;
        unsigned gpus;          /* mask */
        bool alive;
        bool killed;            /* SIGKILL was sent; it may linger */
        bool late;              /* when it began, nobody waited for its start any more: never to run, to be undone */
        bool ran;               /* its vCPUs ran once */
        bool runs;              /* they run */
        unsigned guard_at_resume;       /* that held it when the resume was asked for */
        EndCause why;           /* it dies */
} SimProcess;

typedef struct SimDomain {
        bool there;
        uint64_t epoch;
        size_t process;
        bool launching, paused;
        bool noticed;           /* that the process is dead */
} SimDomain;

/* A call to libvirt. Answered once; it may be carried out long after that. */
typedef struct SimCall {
        RunStep step;           /* RUN_STEP_COUNT: list */
        unsigned vm;
        uint64_t epoch;
        unsigned gpus;
        unsigned life, libvirt_life, guard_life;
        bool answered;
        bool launched;          /* start: there is a process */
        size_t process;
} SimCall;

typedef struct SimHeld {
        unsigned vm;
        uint64_t epoch;
        size_t process;
} SimHeld;

typedef struct SimEpoch {
        unsigned vm;
        uint64_t epoch;
} SimEpoch;

struct Sim {
        uint64_t seed;
        GRand *random;
        bool told;              /* say what happens */
        bool calm;              /* nothing fails any more */
        uint64_t now_us, order;
        ARRAY(SimEvent) events; /* a heap */

        /* the host */
        ARRAY(SimProcess) processes;
        SimDomain domains[SIM_VMS + 1];
        ARRAY(SimCall) calls;
        ARRAY(SimEvent) hung;           /* what waits for libvirt to go on */
        unsigned libvirt_life;
        bool libvirt_up, libvirt_hung;
        unsigned guard_life, guard_link;
        bool guard_up;
        ARRAY(SimHeld) held;
        unsigned gpus;                  /* those that are plugged in */
        bool storage_full;
        unsigned boot;

        /* the service */
        unsigned service_life;
        bool service_up;
        unsigned connection;            /* to libvirt; 0: none */
        bool guard_linked;
        unsigned guard_known;           /* that it was linked to last; 0: none */
        Runner runner;
        Conductor conductor;
        bool proposing, listing;
        uint64_t wake_us;
        ARRAY(SimHeld) pidfds;          /* of the service */

        /* the cluster */
        Chronicle c;
        WorldBuilder *w;
        GpuFacts gpu_facts[SIM_GPUS];
        World world;
        ARRAY(SimEpoch) permits;

        unsigned n_checked, n_resumed, n_ended;
};

Sim *sim_new(uint64_t seed, bool told);
Sim *sim_free(Sim *sim);
DEFINE_CLEANUP(Sim *, sim_free);

/* ---- time and chance */

bool chance(Sim *sim, unsigned percent);
unsigned pick(Sim *sim, unsigned n);                    /* 0 .. n - 1 */
uint64_t between(Sim *sim, uint64_t least_us, uint64_t most_us);
/* Chance of trouble: never once all is calm. */
bool trouble(Sim *sim, unsigned percent);
void later(Sim *sim, uint64_t delay_us, SimEvent event);
void say(Sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A rule is broken: ends the test. */
void broken(Sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* The next thing happens, and all rules are held. False: nothing is to come. */
bool sim_step(Sim *sim);

/* ---- the host */

/* Alive, and not a paused one that is dying: that never ran and never will. */
bool process_counts(const SimProcess *process);
void process_end(Sim *sim, size_t index);       /* at once and unseen */
void process_kill(Sim *sim, size_t index, EndCause why);
size_t process_of_vm(const Sim *sim, unsigned vm, uint64_t epoch);     /* SIZE_MAX: none that counts */
void host_call(Sim *sim, RunStep step, unsigned vm, uint64_t epoch);   /* RUN_STEP_COUNT: list */
void libvirt_crash(Sim *sim);
void libvirt_hang(Sim *sim);
void libvirt_thaw(Sim *sim);
void guard_crash(Sim *sim);
void guard_lose_link(Sim *sim);
bool guard_has(const Sim *sim, unsigned vm, uint64_t epoch);
void guard_call(Sim *sim, RunStep step, unsigned vm, uint64_t epoch);
void host_reboot(Sim *sim);
void host_plug(Sim *sim, unsigned mask);

/* ---- the service */

void service_begin(Sim *sim);
void service_crash(Sim *sim);
/* Whatever may be done now is done. */
void service_turn(Sim *sim);
void service_answer(Sim *sim, uint64_t delay_us, RunStep step, unsigned vm, uint64_t epoch, RunAnswer answer);
void service_adopt(Sim *sim, unsigned vm, uint64_t epoch, size_t process);
void service_hears_of_death(Sim *sim, size_t process);
void service_connect_libvirt(Sim *sim);
void service_lose_libvirt(Sim *sim);
void service_connect_guard(Sim *sim);
void service_lose_guard(Sim *sim);
void service_listed(Sim *sim, bool good);
void admin_wants(Sim *sim, unsigned vm, VmDesire desire, uint64_t timeout_ms);

unsigned vm_number(const VmId *id);
