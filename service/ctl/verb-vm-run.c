/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl vm start, shutdown, stop, restart, move, defragment: each makes a job and waits for it. */

#include "core/names.h"
#include "ctl/job-wait.h"
#include "ctl/must.h"
#include "ctl/tried.h"
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

typedef struct Wishes {
        const char *node;               /* move: where to; empty: anywhere else; NULL: no move */
        int64_t timeout_s;
        bool at_once;                   /* move: the guest is not asked */
} Wishes;

static Status send_one(Ctl *ctl, JobWait *wait, const VmObject *vm, const Operation *operation, const Wishes *wishes) {
        _cleanup_request_ Request request = {};
        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, operation->method);
        request_explain(&request, ACTION_OPERATE_VM, "%s a VM of pool %s", operation->doing, vm->pool);
        if (wishes->node)
                request_append(&request, "s", wishes->node);
        if (wishes->timeout_s != TIMEOUT_NOT_GIVEN)
                request_option(&request, "timeout", "t", (uint64_t) wishes->timeout_s);
        if (wishes->at_once)
                request_option(&request, "shutdown", "b", 0);
        return job_wait_send(wait, &request, operation->word, vm->name);
}

static Status operate(Ctl *ctl, char const *const *names, size_t n, const Operation *operation, const Wishes *wishes) {
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
                        status = send_one(ctl, wait, objects->vms.items + found, operation, wishes);
                if (first == STATUS_DONE)
                        first = status;
        }
        status = job_wait_run(wait);
        return first == STATUS_DONE ? status : first;
}

static Status operate_plainly(Ctl *ctl, const Args *args, const Operation *operation) {
        return operate(ctl, args->words.items, args->words.n, operation, &(Wishes) { .timeout_s = TIMEOUT_NOT_GIVEN });
}

Status verb_vm_start(Ctl *ctl, const Args *args) {
        return operate_plainly(ctl, args, &start);
}

Status verb_vm_shutdown(Ctl *ctl, const Args *args) {
        Wishes wishes = { .timeout_s = TIMEOUT_NOT_GIVEN };
        Status status = option_number(ctl, args, "--timeout", 0, INT32_MAX, &wishes.timeout_s);
        if (status != STATUS_DONE)
                return status;
        return operate(ctl, args->words.items, args->words.n, &shutdown_cleanly, &wishes);
}

Status verb_vm_stop(Ctl *ctl, const Args *args) {
        return operate_plainly(ctl, args, &stop);
}

Status verb_vm_restart(Ctl *ctl, const Args *args) {
        return operate_plainly(ctl, args, &restart);
}

Status verb_vm_move(Ctl *ctl, const Args *args) {
        Wishes wishes = { .timeout_s = TIMEOUT_NOT_GIVEN, .at_once = args_has(args, "--stop"),
                          .node = args->words.n > 1 ? args->words.items[1] : "" };
        Status status = option_number(ctl, args, "--timeout", 0, INT32_MAX, &wishes.timeout_s);
        if (status == STATUS_DONE && wishes.at_once && wishes.timeout_s != TIMEOUT_NOT_GIVEN)
                return ctl_refuse_usage(ctl, "--stop and --timeout do not go together: what is stopped at once is not "
                                        "waited for.");
        return status == STATUS_DONE ? operate(ctl, args->words.items, 1, &move, &wishes) : status;
}

Status verb_vm_defragment(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        _cleanup_request_ Request request = {};
        const VmObject *vm;
        int64_t timeout_s = TIMEOUT_NOT_GIVEN;
        Status status = option_number(ctl, args, "--timeout", 0, INT32_MAX, &timeout_s);
        if (status == STATUS_DONE)
                status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status == STATUS_DONE)
                status = job_wait_new(ctl, &wait);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, "Defragment");
        request_explain(&request, ACTION_MANAGE_POOL, "moving VMs of pool %s", vm->pool);
        if (args_has(args, "--dry-run")) {
                _cleanup_free_ char *nothing = must_printf("No VM would have to move for %s.", vm->name);
                return tried_show(ctl, &request, objects, nothing);
        }
        if (timeout_s != TIMEOUT_NOT_GIVEN)
                request_option(&request, "timeout", "t", (uint64_t) timeout_s);
        status = job_wait_send(wait, &request, "defragment", vm->name);
        return status == STATUS_DONE ? job_wait_run(wait) : status;
}
