/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl vm start, shutdown, stop, restart, move: each makes a job and waits for it. */

#include "core/names.h"
#include "ctl/job-wait.h"
#include "ctl/verb-vm.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

typedef struct Operation {
        const char *word;               /* as Job.Operation */
        const char *method;
        const char *doing;
} Operation;

static const Operation start = { "start", "Start", "starting" };
static const Operation shutdown_cleanly = { "shutdown", "Shutdown", "shutting down" };
static const Operation stop = { "stop", "Stop", "stopping" };
static const Operation restart = { "restart", "Restart", "restarting" };
static const Operation move = { "move", "Move", "moving" };

#define TIMEOUT_NOT_GIVEN (-1)

static Status send_one(Ctl *ctl, JobWait *wait, const VmObject *vm, const Operation *operation, const char *node,
                       int64_t timeout_s) {
        _cleanup_request_ Request request = {};
        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, operation->method);
        request_explain(&request, ACTION_OPERATE_VM, "%s a VM of pool %s", operation->doing, vm->pool);
        if (node)
                request_append(&request, "s", node);
        if (timeout_s != TIMEOUT_NOT_GIVEN)
                request_option(&request, "timeout", "t", (uint64_t) timeout_s);
        return job_wait_send(wait, &request, operation->word, vm->name);
}

static Status operate(Ctl *ctl, char const *const *names, size_t n, const Operation *operation, const char *node,
                      int64_t timeout_s) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status == STATUS_DONE)
                status = job_wait_new(ctl, &wait);
        if (status != STATUS_DONE)
                return status;

        /* One that cannot be had does not keep the others from it. */
        Status first = STATUS_DONE;
        for (size_t i = 0; i < n; i++) {
                size_t found;
                status = ctl_find(ctl, objects, KIND_VM, names[i], &found);
                if (status == STATUS_DONE)
                        status = send_one(ctl, wait, objects->vms.items + found, operation, node, timeout_s);
                if (first == STATUS_DONE)
                        first = status;
        }
        status = job_wait_run(wait);
        return first == STATUS_DONE ? status : first;
}

Status verb_vm_start(Ctl *ctl, const Args *args) {
        return operate(ctl, args->words.items, args->words.n, &start, NULL, TIMEOUT_NOT_GIVEN);
}

Status verb_vm_shutdown(Ctl *ctl, const Args *args) {
        int64_t timeout_s = TIMEOUT_NOT_GIVEN;
        Status status = option_number(ctl, args, "--timeout", 0, INT32_MAX, &timeout_s);
        if (status != STATUS_DONE)
                return status;
        return operate(ctl, args->words.items, args->words.n, &shutdown_cleanly, NULL, timeout_s);
}

Status verb_vm_stop(Ctl *ctl, const Args *args) {
        return operate(ctl, args->words.items, args->words.n, &stop, NULL, TIMEOUT_NOT_GIVEN);
}

Status verb_vm_restart(Ctl *ctl, const Args *args) {
        return operate(ctl, args->words.items, args->words.n, &restart, NULL, TIMEOUT_NOT_GIVEN);
}

Status verb_vm_move(Ctl *ctl, const Args *args) {
        return operate(ctl, args->words.items, 1, &move, args->words.items[1], TIMEOUT_NOT_GIVEN);
}
