/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "year.h"

#include <errno.h>
#include <glib.h>
#include <math.h>

#include "core/describe.h"

#define NODES 32U
#define GPUS 8U
#define STEPS_PER_HOUR 10U
#define HOURS (365U * 24U)
#define STEPS (HOURS * STEPS_PER_HOUR)
#define PATIENCE (14U * 24U * STEPS_PER_HOUR)
#define COME_PER_HOUR 1.55              /* on average; with the durations below, a little less than there is room for */
#define FAILURES_PER_NODE 3.0           /* in the year, each for FAILURE_HOURS on average */
#define FAILURE_HOURS 8.0
#define DRAIN_EVERY (30U * 24U * STEPS_PER_HOUR)        /* each node, one after another, ... */
#define DRAIN_FOR (2U * STEPS_PER_HOUR)                 /* ... for so long */
#define HIGHEST 30

/* One VM that comes. */
typedef struct Job {
        unsigned came, needs;           /* steps */
        unsigned had;                   /* steps with a place */
        unsigned first_ran;             /* 0: not yet */
        unsigned gpus;
        int priority;
        bool over;
} Job;

typedef struct Outage {
        unsigned node, from, until;
} Outage;

typedef struct Course {
        GArray *jobs;                   /* in the order in which they come, and so in that of the registry */
        GArray *outages;                /* by node, then time */
        Inventory *inventory;
        size_t *present;                /* VMs that came and are not over */
        size_t n_present;
        size_t next;                    /* that comes */
        unsigned failing[NODES];        /* how many outages it has at the moment */
        Year year;
} Course;

#define JOB(course, i) (&g_array_index((course)->jobs, Job, (i)))

/* ---- what will happen */

static double draw_normal(GRand *rand) {
        double u = 1 - g_rand_double(rand), v = g_rand_double(rand);
        return sqrt(-2 * log(u)) * cos(2 * G_PI * v);
}

static double draw_exponential(GRand *rand, double mean) {
        return -mean * log(1 - g_rand_double(rand));
}

/* Twice as many in the afternoon as at night, few at the week's end. */
static double rhythm(unsigned hour) {
        double of_day = 1 + 0.6 * sin(2 * G_PI * ((double) (hour % 24) - 8) / 24);
        return of_day * (hour / 24 % 7 < 5 ? 1.2 : 0.5);
}

/* Experiments of hours, and services that stay for days. */
static Job draw_job(GRand *rand, unsigned step) {
        double n = g_rand_double(rand), hours = g_rand_double(rand) < 0.6 ? 4 * exp(0.9 * draw_normal(rand))
                                                                           : 80 * exp(1.1 * draw_normal(rand));
        Job job = { .came = step, .gpus = n < 0.5 ? 1 : n < 0.72 ? 2 : n < 0.9 ? 4 : 8 };
        double of_class = g_rand_double(rand);
        job.priority = of_class < 0.2 ? HIGHEST : of_class < 0.7 ? 20 : 10;
        job.needs = (unsigned) CLAMP(hours * STEPS_PER_HOUR, 1, STEPS);
        return job;
}

static void draw_year(GRand *rand, Course *course) {
        for (unsigned hour = 0; hour < HOURS; hour++) {
                double rate = COME_PER_HOUR * rhythm(hour), at = draw_exponential(rand, 1 / rate);
                for (; at < 1; at += draw_exponential(rand, 1 / rate)) {
                        Job job = draw_job(rand, hour * STEPS_PER_HOUR + (unsigned) (at * STEPS_PER_HOUR));
                        if (course->jobs->len < VMS_MAX)
                                g_array_append_val(course->jobs, job);
                }
        }
        for (unsigned node = 0; node < NODES; node++) {
                double at = draw_exponential(rand, HOURS / FAILURES_PER_NODE);
                for (; at < HOURS; at += draw_exponential(rand, HOURS / FAILURES_PER_NODE)) {
                        Outage outage = { node, (unsigned) (at * STEPS_PER_HOUR), 0 };
                        outage.until = outage.from + 1 +
                                       (unsigned) (draw_exponential(rand, FAILURE_HOURS) * STEPS_PER_HOUR);
                        g_array_append_val(course->outages, outage);
                }
                for (unsigned step = DRAIN_EVERY + node * DRAIN_FOR; step < STEPS; step += DRAIN_EVERY) {
                        Outage outage = { node, step, step + DRAIN_FOR };
                        g_array_append_val(course->outages, outage);
                }
        }
}

static Described *describe_year(const Course *course) {
        GString *text = g_string_new("pool p pack\n");
        for (unsigned i = 0; i < NODES; i++)
                g_string_append_printf(text, "node n%02u\ngpus n%02u %u pool p\n", i, i, GPUS);
        for (guint i = 0; i < course->jobs->len; i++)
                g_string_append_printf(text, "vm v%05u pool p count %u priority %d\n", i, JOB(course, i)->gpus,
                                       JOB(course, i)->priority);
        Described *described = NULL;
        char *sentence = NULL;
        if (describe_read(text->str, &described, &sentence) != DESCRIBE_READ)
                g_error("%s", sentence ? sentence : "out of memory");
        g_string_free(text, TRUE);
        return described;
}

/* ---- one step */

static void end_job(Course *course, size_t index) {
        if (course->inventory->tenants.items[index].node != NOWHERE)
                inventory_vacate(course->inventory, index);
        JOB(course, index)->over = true;
}

/* Who has had what it needs goes, and who has waited too long. */
static bool let_go(Course *course, unsigned step) {
        size_t left = 0, before = course->n_present;
        for (size_t i = 0; i < before; i++) {
                Job *job = JOB(course, course->present[i]);
                bool gives_up = job->first_ran == 0 && step - job->came >= PATIENCE;
                if (job->had >= job->needs || gives_up)
                        end_job(course, course->present[i]);
                else
                        course->present[left++] = course->present[i];
                course->year.gave_up += gives_up;
        }
        course->n_present = left;
        return left < before;
}

static bool let_come(Course *course, unsigned step) {
        bool any = false;
        for (; course->next < course->jobs->len && JOB(course, course->next)->came <= step; course->next++) {
                course->present[course->n_present++] = course->next;
                any = true;
        }
        return any;
}

/* Marks those who lose their place. */
static void lose_node(Course *course, unsigned node, bool *lost) {
        for (size_t i = 0; i < course->n_present; i++) {
                size_t index = course->present[i];
                if (course->inventory->tenants.items[index].node != node)
                        continue;
                inventory_vacate(course->inventory, index);
                lost[i] = true;
                course->year.failovers++;
        }
        inventory_lose_node(course->inventory, node);
}

static bool let_fail(Course *course, unsigned step, bool *lost) {
        bool any = false;
        for (guint i = 0; i < course->outages->len; i++) {
                const Outage *outage = &g_array_index(course->outages, Outage, i);
                if (outage->from != step && outage->until != step)
                        continue;
                any = true;
                if (outage->from == step && course->failing[outage->node]++ == 0)
                        lose_node(course, outage->node, lost);
                if (outage->until == step && --course->failing[outage->node] == 0)
                        inventory_find_node_again(course->inventory, outage->node);
        }
        return any;
}

static int place_waiting(Course *course, Rule rule, const bool *lost) {
        size_t n = 0;
        _cleanup_free_ size_t *waiting = calloc(course->n_present + 1, sizeof(*waiting));
        if (!waiting)
                return -ENOMEM;
        for (size_t i = 0; i < course->n_present; i++)
                if (course->inventory->tenants.items[course->present[i]].node == NOWHERE)
                        waiting[n++] = course->present[i];
        int r = rule_place(rule, course->inventory, waiting, n);
        for (size_t i = 0; i < course->n_present; i++)
                course->year.at_once += lost[i] &&
                                        course->inventory->tenants.items[course->present[i]].node != NOWHERE;
        return r;
}

static void let_run(Course *course, unsigned step) {
        for (size_t i = 0; i < course->n_present; i++) {
                Job *job = JOB(course, course->present[i]);
                if (course->inventory->tenants.items[course->present[i]].node == NOWHERE)
                        continue;
                job->had++;
                if (job->first_ran == 0)
                        job->first_ran = step + 1;
        }
}

static int run_steps(Course *course, Rule rule) {
        for (unsigned step = 0; step < STEPS; step++) {
                bool changed = let_go(course, step);
                changed = let_come(course, step) || changed;
                _cleanup_free_ bool *lost = calloc(course->n_present + 1, sizeof(*lost));
                if (!lost)
                        return -ENOMEM;
                changed = let_fail(course, step, lost) || changed;
                if (changed) {
                        int r = place_waiting(course, rule, lost);
                        if (r < 0)
                                return r;
                }
                let_run(course, step);
        }
        return 0;
}

static void sum_up(Course *course) {
        Year *year = &course->year;
        for (guint i = 0; i < course->jobs->len; i++) {
                const Job *job = JOB(course, i);
                unsigned wanted = MIN(job->needs, STEPS - job->came);
                unsigned waited = job->first_ran ? job->first_ran - 1 - job->came : MIN(PATIENCE, STEPS - job->came);
                double gpu_hours = (double) job->gpus / STEPS_PER_HOUR;
                year->came++;
                year->wanted_hours += wanted * gpu_hours;
                year->had_hours += job->had * gpu_hours;
                year->wait_hours += (double) waited / STEPS_PER_HOUR;
                if (job->gpus >= 4) {
                        year->n_large++;
                        year->wait_large += (double) waited / STEPS_PER_HOUR;
                }
                if (job->priority == HIGHEST) {
                        year->wanted_first += wanted * gpu_hours;
                        year->had_first += job->had * gpu_hours;
                }
        }
}

int year_run(Rule rule, uint32_t seed, Year *ret) {
        Course course = {
                .jobs = g_array_new(FALSE, TRUE, sizeof(Job)),
                .outages = g_array_new(FALSE, TRUE, sizeof(Outage)),
        };
        GRand *rand = g_rand_new_with_seed(seed);
        draw_year(rand, &course);
        g_rand_free(rand);
        Described *described = describe_year(&course);
        course.present = calloc(course.jobs->len + 1, sizeof(*course.present));
        int r = course.present ? inventory_new(&described->world, &course.inventory) : -ENOMEM;
        if (r >= 0)
                r = run_steps(&course, rule);
        if (r >= 0) {
                sum_up(&course);
                *ret = course.year;
        }
        free(course.present);
        inventory_free(course.inventory);
        described_free(described);
        g_array_free(course.jobs, TRUE);
        g_array_free(course.outages, TRUE);
        return r;
}
