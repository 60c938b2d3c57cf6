/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim.h"

#include <stdio.h>

/* ---- time and chance */

unsigned pick(Sim *sim, unsigned n) {
        return n > 1 ? (unsigned) g_rand_int_range(sim->random, 0, (gint32) n) : 0;
}

bool chance(Sim *sim, unsigned percent) {
        return pick(sim, 100) < percent;
}

bool trouble(Sim *sim, unsigned percent) {
        return !sim->calm && chance(sim, percent);
}

uint64_t between(Sim *sim, uint64_t least_us, uint64_t most_us) {
        return least_us + pick(sim, (unsigned) (most_us - least_us) + 1);
}

void say(Sim *sim, const char *format, ...) {
        if (!sim->told)
                return;
        va_list ap;
        va_start(ap, format);
        printf("# %9.3f ", (double) sim->now_us / (double) SECOND);
        vprintf(format, ap);
        printf("\n");
        va_end(ap);
        fflush(stdout);
}

void broken(Sim *sim, const char *format, ...) {
        char text[256];
        va_list ap;
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        g_error("at %.3f s: %s", (double) sim->now_us / (double) SECOND, text);
}

static bool is_before(const SimEvent *a, const SimEvent *b) {
        return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(SimEvent *a, SimEvent *b) {
        SimEvent c = *a;
        *a = *b;
        *b = c;
}

void later(Sim *sim, uint64_t delay_us, SimEvent event) {
        event.at_us = sim->now_us + delay_us;
        event.order = ++sim->order;
        g_assert_cmpint(array_append(&sim->events, &event), ==, 0);
        SimEvent *heap = sim->events.items;
        for (size_t i = sim->events.n - 1; i > 0 && is_before(heap + i, heap + (i - 1) / 2); i = (i - 1) / 2)
                swap(heap + i, heap + (i - 1) / 2);
}

static bool take_first(Sim *sim, SimEvent *ret) {
        SimEvent *heap = sim->events.items;
        if (sim->events.n == 0)
                return false;
        *ret = heap[0];
        heap[0] = heap[--sim->events.n];
        for (size_t i = 0;;) {
                size_t least = i;
                for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < sim->events.n; child++)
                        if (is_before(heap + child, heap + least))
                                least = child;
                if (least == i)
                        return true;
                swap(heap + i, heap + least);
                i = least;
        }
}

/* ---- the rules */

/* P1 and P2 on what is true, not on what anybody believes. */
static void check_processes(Sim *sim) {
        unsigned vms = 0, gpus = 0;
        ARRAY_EACH(process, &sim->processes) {
                if (!process_counts(process))
                        continue;
                if (vms & 1U << process->vm)
                        broken(sim, "P1: two processes of VM %u live", process->vm);
                if (gpus & process->gpus)
                        broken(sim, "P2: a GPU of VM %u is in two processes", process->vm);
                vms |= 1U << process->vm;
                gpus |= process->gpus;
                /* A guard that was started anew is given it as soon as the service knows. */
                if (process->runs && !process->killed && process->guard_at_resume == sim->guard_life &&
                    !guard_has(sim, process->vm, process->epoch))
                        broken(sim, "VM %u runs and the guard does not hold it", process->vm);
        }
}

static void check_assignments(Sim *sim) {
        unsigned gpus = 0;
        ARRAY_EACH(vm, &sim->c.registry->vms)
                for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                        unsigned mask = 1U << vm->assignment.gpus[i].gpu.address.bus;
                        if (gpus & mask)
                                broken(sim, "P2: a GPU is assigned twice");
                        gpus |= mask;
                }
}

static bool has_pidfd(const Sim *sim, size_t index) {
        ARRAY_EACH(pidfd, &sim->pidfds)
                if (pidfd->process == index)
                        return true;
        return false;
}

/* Libvirt has forgotten it, and both guard and service were started anew before one could tell the other: what nobody
 * can know, nobody can promise anything of. */
static void end_what_nobody_can_know(Sim *sim) {
        for (size_t i = 0; i < sim->processes.n; i++) {
                const SimProcess *process = sim->processes.items + i;
                const SimDomain *domain = sim->domains + process->vm;
                if (process->alive && !(domain->there && domain->process == i) && !has_pidfd(sim, i) &&
                    !guard_has(sim, process->vm, process->epoch))
                        process_end(sim, i);
        }
}

bool sim_step(Sim *sim) {
        SimEvent event;
        if (!take_first(sim, &event))
                return false;
        sim->now_us = event.at_us;
        event.happen(sim, &event);
        service_turn(sim);
        end_what_nobody_can_know(sim);
        check_processes(sim);
        check_assignments(sim);
        sim->n_checked++;
        return true;
}

/* ---- birth and death */

unsigned vm_number(const VmId *id) {
        return id->bytes[3];
}

static void plug_all(Sim *sim) {
        sim->w = world_of(1);
        with_gpus(sim->w, "a", SIM_GPUS);
        NodeFacts *facts = facts_of(sim->w, "a");
        facts->node = NODE(1);
        for (unsigned i = 0; i < SIM_GPUS; i++) {
                facts->gpus[i].identity = GPU(1, i);
                facts->gpus[i].address = facts->gpus[i].identity.address;
                sim->gpu_facts[i] = facts->gpus[i];
        }
        sim->gpus = (1U << SIM_GPUS) - 1;
}

Sim *sim_new(uint64_t seed, bool told) {
        static const unsigned counts[SIM_VMS] = { 1, 1, 2 };
        static const char *const names[SIM_VMS] = { "bert", "ernie", "kermit" };
        Sim *sim = g_new0(Sim, 1);
        sim->seed = seed;
        sim->told = told;
        sim->random = g_rand_new_with_seed((guint32) seed);
        sim->now_us = 1000 * SECOND;
        sim->c = chronicle_of_a_pool();
        sim->c.quick = true;
        plug_all(sim);
        for (unsigned i = 0; i < SIM_VMS; i++)
                ASSERT_DONE(tell_vm(&sim->c, i + 1, names[i], "training", counts[i]));
        sim->world = (World) { .registry = sim->c.registry, .nodes = sim->w->known, .n_nodes = 1, .local = NODE(1) };
        sim->boot = 1;
        sim->libvirt_up = sim->guard_up = true;
        sim->libvirt_life = sim->guard_life = 1;
        service_begin(sim);
        return sim;
}

Sim *sim_free(Sim *sim) {
        /* All GPUs back into the facts, which own what hangs on them. */
        NodeFacts *facts = facts_of(sim->w, "a");
        memcpy(facts->gpus, sim->gpu_facts, sizeof(sim->gpu_facts));
        facts->n_gpus = SIM_GPUS;
        world_builder_free(sim->w);
        runner_clear(&sim->runner);
        conductor_clear(&sim->conductor);
        chronicle_clear(&sim->c);
        array_clear(&sim->events);
        array_clear(&sim->hung);
        array_clear(&sim->processes);
        array_clear(&sim->calls);
        array_clear(&sim->held);
        array_clear(&sim->pidfds);
        array_clear(&sim->permits);
        g_rand_free(sim->random);
        g_free(sim);
        return NULL;
}
