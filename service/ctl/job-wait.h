/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Job wait: from a call that returns a job to that job's end. The signals are subscribed to before the call, so that
 * a job which ends before its call returns is not missed; the job is also asked now and then, so that a lost signal or
 * a service that restarted costs seconds and not for ever. Ctrl-C leaves the jobs running, and says so. */

#include "ctl/ctl.h"
#include "ctl/request.h"

typedef struct JobWait JobWait;

/* Subscribes (not with --no-wait). */
Status job_wait_new(Ctl *ctl, JobWait **ret);
JobWait *job_wait_free(JobWait *wait);
DEFINE_CLEANUP(JobWait *, job_wait_free);

/* Sends @request, which returns a job, and takes the job in. @name is what it works on, for people. */
Status job_wait_send(JobWait *wait, Request *request, const char *operation, const char *name);

/* Takes in a job that was made before; @object is the path of what it works on. */
void job_wait_add(JobWait *wait, const char *path, const char *operation, const char *object, const char *name);

/* Waits for all of them, tells how each ended, and answers with --json. Returns the status of the first that was not
 * done, or with --no-wait STATUS_DONE. */
Status job_wait_run(JobWait *wait);
