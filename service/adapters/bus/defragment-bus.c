/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* VM.Defragment: others are moved to make room for a VM. Who may do that with the pool of each one that moves may ask
 * for it; whose VMs those are is found out before. */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

static int ask_pool(sd_bus_message *m, const Object *object, const char *pool, sd_bus_error *error) {
        const Right right = { .action = ACTION_MANAGE_POOL, .pool = pool, .vm = object->vm.vm->name,
                              .verb = "defragment" };
        return ask_right(object->bus, m, &right, error);
}

/* The job that this very request has made on this node. */
static const Job *find_job_of_before(Bus *bus, const VmId *vm, const RequestOption *request, const Caller *caller) {
        ARRAY_EACH(item, &bus->service->jobs(bus->service_userdata)->all) {
                const Job *job = *item;
                if (request->given && job->clearance && job->uid == caller->uid && ID_EQUAL(&job->about.vm, vm) &&
                    ID_EQUAL(&job->clearance->request, &request->id))
                        return job;
        }
        return NULL;
}

static int refuse_second(Bus *bus, sd_bus_error *error) {
        const World *world = bus_world(bus);
        ARRAY_EACH(item, &bus->service->jobs(bus->service_userdata)->all) {
                const Job *job = *item;
                const Vm *vm = registry_find_vm(world->registry, &job->about.vm);
                if (job->clearance && job->result == JOB_PENDING)
                        return sd_bus_error_setf(error, ERROR_BUSY,
                                                 "job %llu makes room for vm %s, and one at a time is enough: wait for "
                                                 "it (gpupoolctl job wait %llu) or give it up (gpupoolctl job cancel "
                                                 "%llu)", (unsigned long long) job->id, vm ? vm->name : "another",
                                                 (unsigned long long) job->id, (unsigned long long) job->id);
        }
        return 0;
}

static int refuse_minority(Bus *bus, sd_bus_error *error) {
        ClusterStatus status;
        bus->service->status(bus->service_userdata, &status);
        if (status.quorate)
                return 0;
        return sd_bus_error_set(error, ERROR_NO_QUORUM,
                                "a majority of the voters cannot be reached, so no VM is moved: bring nodes or the "
                                "network back (gpupoolctl status)");
}

static int find_moves(Bus *bus, const Vm *vm, bool dry_run, Moves *ret, sd_bus_error *error) {
        _cleanup_(result_clear) Result result = {};
        int r = refuse_level(bus, LEVEL_FAILOVER, error);
        if (r >= 0 && !dry_run)
                r = refuse_minority(bus, error);
        if (r >= 0 && !dry_run)
                r = refuse_second(bus, error);
        if (r >= 0)
                r = clearance_plan_in_words(bus_world(bus), vm, ret, &result);
        if (r < 0 || result.verdict == VERDICT_DONE)
                return r;
        return sd_bus_error_set(error, verdict_to_error(result.verdict), result.sentence);
}

/* The VM's own pool is among them: its right was asked for first. */
static int ask_pools(sd_bus_message *m, const Object *object, const Moves *moves, TextList *pools,
                     sd_bus_error *error) {
        int r = text_list_add(pools, object->vm.vm->pool);
        if (r >= 0)
                r = clearance_list_pools(bus_world(object->bus), moves, pools);
        for (size_t i = 0; r == ASK_GO && i < pools->n; i++)
                r = ask_pool(m, object, pools->items[i], error);
        return r;
}

static int reply_job(sd_bus_message *m, const Job *job) {
        return sd_bus_reply_method_return(m, "o", path_of_job(job->id).text);
}

static int begin(sd_bus_message *m, Bus *bus, const Defragmentation *wish, const Caller *caller,
                 sd_bus_error *error) {
        const Job *job = NULL;
        int r = bus->service->defragment(bus->service_userdata, wish, caller, &job);
        if (r == -EUSERS)
                return sd_bus_error_set(error, ERROR_LIMITS_EXCEEDED,
                                        "you have as many unfinished jobs on this node as there may be: wait for one "
                                        "(gpupoolctl job list)");
        return r < 0 ? r : reply_job(m, job);
}

METHOD(method_defragment) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const Caller *caller;
        bool dry_run = false;
        uint64_t timeout_ms = 0;
        RequestOption request = {};
        _cleanup_(moves_clear) Moves moves = {};
        _cleanup_(text_list_clear) TextList pools = {};
        const Option options[] = {
                { "dry-run", "b", option_read_boolean, &dry_run, NULL },
                { "timeout", "t", option_read_timeout_ms, &timeout_ms, NULL },
                OPTION_REQUEST(&request),
        };
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = ask_caller(bus, m, &caller, error);
        if (r == ASK_GO)
                r = ask_pool(m, object, object->vm.vm->pool, error);
        if (r != ASK_GO)
                return r;

        const Job *known = find_job_of_before(bus, &object->vm.vm->id, &request, caller);
        if (!known)
                r = find_moves(bus, object->vm.vm, dry_run, &moves, error);
        if (r >= 0 && !known)
                r = ask_pools(m, object, &moves, &pools, error);
        if (r == ASK_WAIT)
                return r;
        const Defragmentation wish = { .vm = object->vm.vm->id, .request = request.id, .pools = &pools,
                                       .timeout_ms = timeout_ms, .plan = &moves, .dry_run = dry_run };
        if (r >= 0)
                r = known ? reply_job(m, known) : begin(m, bus, &wish, caller, error);
        ask_done(bus, m);
        return r;
}
