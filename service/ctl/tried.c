/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/tried.h"

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/planned.h"

static Status show_plan(Ctl *ctl, const Objects *objects, const char *path, const char *nothing) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        _cleanup_(job_object_clear) JobObject job = { .path = must_copy(path) };
        request_begin(ctl, &request, REQUEST_READ, path, "org.freedesktop.DBus.Properties", "GetAll");
        request_append(&request, "s", INTERFACE_JOB);
        Status status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = job_object_read(&job, answer);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        if (ctl->json) {
                Json *document = json_map(), *jobs = json_list();
                json_push(jobs, json_of_job(objects, &job));
                json_put(document, "jobs", jobs);
                ctl_answer(ctl, document);
        } else if (job.plan.n == 0)
                ctl_tell(ctl, "%s", nothing);
        else
                planned_moves_print(&job.plan, objects, &ctl->out);
        return planned_moves_all_run(&job.plan) ? STATUS_DONE : STATUS_WAITS;
}

Status tried_show(Ctl *ctl, Request *request, const Objects *objects, const char *nothing) {
        _cleanup_message_ sd_bus_message *answer = NULL;
        const char *path;
        request_option(request, "dry-run", "b", 1);
        Status status = request_send(ctl, request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 'o', &path);
        return r < 0 ? request_refuse_answer(ctl, request, r) : show_plan(ctl, objects, path, nothing);
}
