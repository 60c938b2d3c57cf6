/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl job: work that takes a while. */

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/job-wait.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

static const char *job_condition(const JobObject *job) {
        return text_equal(job->state, "done") && !text_is_empty(job->result) ? job->result : job->state;
}

static char *describe_age(const JobObject *job) {
        uint64_t now_us = now_realtime_us();
        return duration_to_text(now_us > job->started_at_us ? now_us - job->started_at_us : 0);
}

Status verb_job_list(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "jobs", json_of_all(objects, KIND_JOB));
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        if (objects->jobs.n == 0) {
                ctl_hint(ctl, "No job runs.");
                return STATUS_DONE;
        }

        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "JOB", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WHAT", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "STATE", TABLE_LEFT, 90, 0);
        table_column(table, "STAGE", TABLE_LEFT, 60, 0);
        table_column(table, "SINCE", TABLE_LEFT, 20, 0);
        table_column(table, "BY", TABLE_LEFT, 10, 0);
        table_column(table, "NOTE", TABLE_LEFT, 30, 12);
        ARRAY_EACH(job, &objects->jobs) {
                bool runs = text_equal(job->state, "running");
                _cleanup_free_ char *age = describe_age(job), *user = user_to_text(job->started_by_uid);
                table_cell(table, STYLE_PLAIN, "%llu", (unsigned long long) job->id);
                table_cell(table, STYLE_PLAIN, "%s %s", job->operation, objects_name(objects, job->object));
                table_cell(table, state_style(job_condition(job)), "%s", job_condition(job));
                table_cell(table, STYLE_PLAIN, "%s", runs ? or_dash(job->stage) : "-");
                table_cell(table, STYLE_PLAIN, "%s", age);
                table_cell(table, STYLE_PLAIN, "%s", user);
                table_cell(table, STYLE_PLAIN, "%s", job->message);
        }
        table_print(table, &ctl->out);
        return STATUS_DONE;
}

static Status load_job(Ctl *ctl, const char *typed, Objects **ret_objects, const JobObject **ret_job) {
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status != STATUS_DONE)
                return status;
        status = ctl_find(ctl, *ret_objects, KIND_JOB, typed, &i);
        if (status == STATUS_DONE)
                *ret_job = (*ret_objects)->jobs.items + i;
        return status;
}

Status verb_job_show(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const JobObject *job;
        Status status = load_job(ctl, args->words.items[0], &objects, &job);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "job", json_of_job(objects, job));
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }

        const Screen *screen = &ctl->out;
        _cleanup_free_ char *age = describe_age(job), *user = user_to_text(job->started_by_uid);
        _cleanup_free_ char *began = time_to_text(job->started_at_us);
        screen_say(screen, "job %llu  %s %s", (unsigned long long) job->id, job->operation,
                   objects_name(objects, job->object));
        screen_fact(screen, "State", "%s", job_condition(job));
        if (text_equal(job->state, "running"))
                screen_fact(screen, "Stage", "%s (%.0f %%)", or_dash(job->stage), job_progress(job) * 100);
        screen_fact(screen, "Began", "%s, %s ago, by %s", began, age, user);
        screen_fact(screen, "Says", "%s", job->message);
        screen_fact(screen, "Error", "%s", job->error);
        return STATUS_DONE;
}

Status verb_job_wait(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        if (ctl->no_wait)
                return ctl_refuse_usage(ctl, "job wait and --no-wait do not go together.");
        Status status = job_wait_new(ctl, &wait);
        if (status == STATUS_DONE)
                status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        for (size_t i = 0; i < args->words.n; i++) {
                size_t found;
                status = ctl_find(ctl, objects, KIND_JOB, args->words.items[i], &found);
                if (status != STATUS_DONE)
                        return status;
                const JobObject *job = objects->jobs.items + found;
                job_wait_add(wait, job->path, job->operation, job->object, objects_name(objects, job->object));
        }
        return job_wait_run(wait);
}

static const char *find_action(const JobObject *job) {
        if (text_equal(job->operation, "drain"))
                return ACTION_MANAGE_NODE;
        return text_equal(job->operation, "join") ? ACTION_MANAGE_CLUSTER : ACTION_OPERATE_VM;
}

static Status cancel_one(Ctl *ctl, const Objects *objects, const char *typed) {
        _cleanup_request_ Request request = {};
        size_t i;
        Status status = ctl_find(ctl, objects, KIND_JOB, typed, &i);
        if (status != STATUS_DONE)
                return status;
        const JobObject *job = objects->jobs.items + i;
        const char *name = objects_name(objects, job->object);
        request_begin(ctl, &request, REQUEST_CHANGE, job->path, INTERFACE_JOB, "Cancel");
        request_explain(&request, find_action(job), "canceling a job that someone else began");
        status = request_send(ctl, &request, NULL);
        if (status == STATUS_DONE)
                ctl_tell(ctl, "job %llu (%s %s) is given up", (unsigned long long) job->id, job->operation, name);
        return status;
}

/* The jobs that were named, as they are now. */
static Status answer_jobs(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        Json *document = json_map(), *jobs = json_list();
        ARRAY_EACH(job, &objects->jobs)
                for (size_t i = 0; i < args->words.n; i++)
                        if (text_equal(args->words.items[i], strrchr(job->path, '/') + 1))
                                json_push(jobs, json_of_job(objects, job));
        json_put(document, "jobs", jobs);
        ctl_answer(ctl, document);
        return STATUS_DONE;
}

Status verb_job_cancel(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status first = ctl_load(ctl, &objects);
        if (first != STATUS_DONE)
                return first;
        for (size_t i = 0; i < args->words.n; i++) {
                Status status = cancel_one(ctl, objects, args->words.items[i]);
                if (first == STATUS_DONE)
                        first = status;
        }
        if (!ctl->json)
                return first;
        Status status = answer_jobs(ctl, args);
        return first == STATUS_DONE ? status : first;
}
