/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/clearance.h"

#include <errno.h>
#include <inttypes.h>

#include "core/defragment.h"
#include "core/names.h"
#include "core/vm-reason.h"

#define WORK_MAX (2U * 1024U * 1024U)           /* as of a plan */
#define PATIENCE_US (10U * 1000000U)
#define LOOK_AGAIN_US 1000000U
#define REFUSED_MAX 3U
#define NAMED_MAX 3U                            /* VMs in a sentence */

#define PLURAL(n) ((n) == 1 ? "" : "s")

Clearance *clearance_free(Clearance *clearance) {
        if (!clearance)
                return NULL;
        text_list_clear(&clearance->pools);
        free(clearance->user);
        free(clearance);
        return NULL;
}

int clearance_new(Clearance **ret, const char *user, const RequestId *request, const TextList *pools,
                  uint64_t timeout_ms, const Moves *plan) {
        _cleanup_(clearance_freep) Clearance *clearance = calloc(1, sizeof(*clearance));
        if (!clearance)
                return -ENOMEM;
        clearance->request = *request;
        clearance->timeout_ms = timeout_ms;
        clearance->n_promised = (uint32_t) plan->n;
        int r = text_set(&clearance->user, user);
        if (r >= 0)
                r = text_list_copy(pools, &clearance->pools);
        if (r < 0)
                return r;
        *ret = STEAL(clearance);
        return 0;
}

static const char *vm_name(const World *world, const VmId *id) {
        const Vm *vm = registry_find_vm(world->registry, id);
        return vm ? vm->name : "a VM";
}

static bool has_place(const Vm *vm) {
        return vm->assignment.phase == ASSIGNMENT_STARTING || vm->assignment.phase == ASSIGNMENT_RUNNING;
}

/* ---- which moves */

static int refuse(Result *result, Verdict verdict, int r) {
        if (r >= 0)
                result->verdict = verdict;
        return r;
}

/* Why there is nothing to be worked out. 1: there is; 0: refused; or -ENOMEM. */
static int check_vm(const World *world, const Vm *vm, Result *result) {
        const char *name = vm->name;
        int r;
        if (!vm->run)
                r = text_printf(&result->sentence, "vm %s is not to run, so no room is made for it: start it first "
                                "(gpupoolctl vm start %s). To see what would move: gpupoolctl plan --defragment %s",
                                name, name, name);
        else if (vm->failed)
                r = text_printf(&result->sentence, "vm %s has failed to start too often, and is not tried again: mend "
                                "that, then start it (gpupoolctl vm start %s)", name, name);
        else if (has_place(vm))
                r = text_printf(&result->sentence, "vm %s does not wait: it has its place on node %s", name,
                                world_node_name(world, &vm->assignment.node));
        else if (vm->assignment.phase != ASSIGNMENT_NONE)
                r = text_printf(&result->sentence, "vm %s is %s: wait until it has, and see whether it gets a place "
                                "(gpupoolctl vm show %s)", name, vm_state_to_text(vm_state(vm)), name);
        else
                return 1;
        return refuse(result, VERDICT_CONFLICT, r);
}

static int say_why_not(Inventory *inventory, const Vm *vm, DefragmentVerdict verdict, Result *result) {
        _cleanup_(placement_clear) Placement placement = {};
        const char *name = vm->name;
        if (verdict == DEFRAGMENT_GAVE_UP)
                return refuse(result, VERDICT_LIMITS_EXCEEDED,
                              text_printf(&result->sentence, "whether moves of other VMs make room for vm %s is too "
                                          "much to work out, and nothing was moved: move some by hand (gpupoolctl vm "
                                          "move), or see what else would help (gpupoolctl vm explain %s)", name, name));
        if (verdict == DEFRAGMENT_FOUND)
                return refuse(result, VERDICT_CONFLICT,
                              text_printf(&result->sentence, "there is room for vm %s now, so nobody need move: it "
                                          "starts by itself in a moment (gpupoolctl vm show %s)", name, name));
        int r = placement_find_in(inventory, vm, &placement);
        if (r < 0)
                return r;
        return refuse(result, VERDICT_NO_CAPACITY,
                      text_printf(&result->sentence, "no %u moves of VMs of its priority or lower make room for vm %s, "
                                  "and nothing was moved%s%s. See what would change that: gpupoolctl vm explain %s",
                                  DEFRAGMENT_MOVES_MAX, name, placement.summary ? ": " : "",
                                  placement.summary ? placement.summary : "", name));
}

int clearance_plan(const World *world, const Vm *vm, Moves *ret, Result *ret_result) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        Moves moves = {};
        int r = check_vm(world, vm, ret_result);
        if (r <= 0)
                return r;
        r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        r = defragment_find(inventory, inventory_find_tenant(inventory, &vm->id), WORK_MAX, &moves);
        if (r < 0)
                return r;
        if (r != DEFRAGMENT_FOUND || moves.n == 0)
                return say_why_not(inventory, vm, (DefragmentVerdict) r, ret_result);
        *ret = moves;
        return 0;
}

int clearance_plan_in_words(const World *world, const Vm *vm, Moves *ret, Result *ret_result) {
        _cleanup_(moves_clear) Moves moves = {};
        int r = clearance_plan(world, vm, &moves, ret_result);
        ARRAY_EACH(move, &moves) {
                const Vm *mover = registry_find_vm(world->registry, &move->vm);
                if (r >= 0 && mover)
                        r = text_printf(&move->why, "%" PRIu32 " GPU%s of %s", mover->count, PLURAL(mover->count),
                                        mover->pool);
        }
        if (r < 0)
                return r;
        *ret = moves;
        moves = (Moves) {};
        return 0;
}

int clearance_list_pools(const World *world, const Moves *moves, TextList *ret) {
        ARRAY_EACH(move, moves) {
                const Vm *vm = registry_find_vm(world->registry, &move->vm);
                int r = !vm || text_list_has(ret, vm->pool) ? 0 : text_list_add(ret, vm->pool);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* "x from a to b, y from b to c" */
static int list_moves(const World *world, const Moves *moves, char **ret) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < moves->n && i < NAMED_MAX; i++) {
                const Move *move = moves->items + i;
                r = text_append(ret, "%s%s from %s to %s", i > 0 ? ", then " : "", vm_name(world, &move->vm),
                                world_node_name(world, &move->from), world_node_name(world, &move->to));
        }
        if (r >= 0 && moves->n > NAMED_MAX)
                r = text_append(ret, ", and %zu more", moves->n - NAMED_MAX);
        return r;
}

int job_end_with_clearance(Job *job, const World *world, Moves *plan, uint64_t now_boottime_us) {
        _cleanup_free_ char *list = NULL, *message = NULL;
        int r = list_moves(world, plan, &list);
        if (r >= 0)
                r = text_printf(&message, "%zu VM%s would move for %s: %s", plan->n, PLURAL(plan->n),
                                vm_name(world, &job->about.vm), list);
        if (r < 0)
                return r;
        job->plan = *plan;
        *plan = (Moves) {};
        job_finish(job, JOB_DONE, NULL, message, now_boottime_us);
        return 0;
}

/* ---- the end */

/* How things stand when it ends, behind what it ended by. */
static int say_state(const Job *job, const World *world, char **sentence) {
        const Clearance *clearance = job->clearance;
        const Vm *vm = registry_find_vm(world->registry, &job->about.vm);
        int r = text_append(sentence, ". Moves made for vm %s: %" PRIu32 " of %" PRIu32 "; ",
                            vm_name(world, &job->about.vm), clearance->n_done, clearance->n_promised);
        if (r < 0 || !vm)
                return r < 0 ? r : text_append(sentence, "it is gone");
        if (has_place(vm))
                return text_append(sentence, "it has its place on node %s",
                                   world_node_name(world, &vm->assignment.node));
        if (!vm->run)
                return text_append(sentence, "it is stopped");
        return text_append(sentence, "it still waits. See why: gpupoolctl vm explain %s", vm->name);
}

/* Takes over @sentence; without memory it ends without it. */
static int end(Job *job, const World *world, JobResult result, const char *error, char *sentence,
               uint64_t now_boottime_us) {
        if (sentence && result != JOB_DONE)
                (void) say_state(job, world, &sentence);
        job_finish(job, result, error, sentence, now_boottime_us);
        free(sentence);
        return CLEARANCE_ENDED;
}

static int end_placed(Job *job, const World *world, const Vm *vm, uint64_t now_boottime_us) {
        uint32_t n = job->clearance->n_done;
        char *sentence = NULL;
        (void) text_printf(&sentence, "vm %s has its place on node %s; %" PRIu32 " VM%s moved for it", vm->name,
                           world_node_name(world, &vm->assignment.node), n, PLURAL(n));
        return end(job, world, JOB_DONE, NULL, sentence, now_boottime_us);
}

/* ---- the move that is under way */

static int end_astray(Job *job, const World *world, const Vm *mover, uint64_t now_boottime_us) {
        const Move *move = &job->clearance->now;
        char *sentence = NULL;
        (void) text_printf(&sentence, "vm %s was to move from %s to %s, and runs on %s: there was no room for it when "
                           "it had stopped. No further VM moves", mover->name, world_node_name(world, &move->from),
                           world_node_name(world, &move->to), world_node_name(world, &mover->assignment.node));
        return end(job, world, JOB_FAILED, ERROR_NO_CAPACITY, sentence, now_boottime_us);
}

static int end_broken(Job *job, const World *world, const Vm *mover, uint64_t now_boottime_us) {
        const Move *move = &job->clearance->now;
        char *sentence = NULL;
        (void) text_printf(&sentence, "vm %s left %s for %s and did not start: %s. %s. No further VM moves",
                           mover->name, world_node_name(world, &move->from), world_node_name(world, &move->to),
                           mover->reason ? mover->reason : "it could not be started",
                           mover->failed ? "Mend that, then start it again" : "It tries again by itself");
        return end(job, world, JOB_FAILED, ERROR_FAILED, sentence, now_boottime_us);
}

static int end_homeless(Job *job, const World *world, const Vm *mover, uint64_t now_boottime_us) {
        const Move *move = &job->clearance->now;
        _cleanup_free_ char *code = NULL, *why = NULL;
        char *sentence = NULL;
        int r = vm_reason(world, mover, &code, &why);
        if (r < 0)
                return r;
        (void) text_printf(&sentence, "vm %s left %s for %s, and there is no room for it any more (%s). It starts by "
                           "itself when there is. No further VM moves", mover->name,
                           world_node_name(world, &move->from), world_node_name(world, &move->to),
                           text_is_empty(why) ? "gpupoolctl vm explain says why" : why);
        return end(job, world, JOB_FAILED, ERROR_NO_CAPACITY, sentence, now_boottime_us);
}

static void move_is_over(Clearance *clearance, uint64_t now_boottime_us) {
        clearance->n_done++;
        clearance->now = (Move) {};
        clearance->patient_until_us = now_boottime_us + PATIENCE_US;
}

/* A ClearanceStep; CLEARANCE_MOVES: it is over, and the next one may follow. */
static int follow_move(Job *job, const World *world, bool settled, uint64_t now_boottime_us) {
        Clearance *clearance = job->clearance;
        const Vm *mover = registry_find_vm(world->registry, &clearance->now.vm);
        /* Who was deleted or stopped meanwhile is not in the way any more. */
        bool gone = !mover || (!mover->run && mover->assignment.phase == ASSIGNMENT_NONE);
        bool arrived = !gone && ID_EQUAL(&mover->assignment.node, &clearance->now.to);
        if (gone) {
                move_is_over(clearance, now_boottime_us);
                return CLEARANCE_MOVES;
        }
        switch (vm_state(mover)) {
        case VM_STATE_RUNNING:
                if (!arrived)
                        return end_astray(job, world, mover, now_boottime_us);
                move_is_over(clearance, now_boottime_us);
                return CLEARANCE_MOVES;
        case VM_STATE_FAILED:
        case VM_STATE_BACKOFF:
                return end_broken(job, world, mover, now_boottime_us);
        case VM_STATE_WAITING:
                return settled ? end_homeless(job, world, mover, now_boottime_us) : CLEARANCE_WAITS;
        case VM_STATE_STARTING:
        case VM_STATE_STOPPING:
        case VM_STATE_STOPPED:
        case VM_STATE_COUNT:
                break;
        }
        return CLEARANCE_WAITS;
}

/* ---- the next one */

static const Vm *find_stranger(const Clearance *clearance, const World *world, const Moves *moves) {
        ARRAY_EACH(move, moves) {
                const Vm *vm = registry_find_vm(world->registry, &move->vm);
                if (vm && !text_list_has(&clearance->pools, vm->pool))
                        return vm;
        }
        return NULL;
}

/* Things have changed for the worse: is it the end? Not while it may be for a moment only. */
static int end_unless_patient(Job *job, const World *world, JobResult result, const char *error, char *sentence,
                              uint64_t now_boottime_us) {
        if (now_boottime_us >= job->clearance->patient_until_us)
                return end(job, world, result, error, sentence, now_boottime_us);
        free(sentence);
        job->clearance->look_again_us = now_boottime_us + LOOK_AGAIN_US;
        return CLEARANCE_WAITS;
}

static int judge_plan(Job *job, const World *world, const Vm *vm, const Moves *moves, uint64_t now_boottime_us) {
        Clearance *clearance = job->clearance;
        const Vm *stranger = find_stranger(clearance, world, moves);
        char *sentence = NULL;
        if (clearance->n_done + moves->n > clearance->n_promised) {
                (void) text_printf(&sentence, "it takes %zu more move%s now, which is more than was asked for: things "
                                   "have changed. To go on: gpupoolctl vm defragment %s", moves->n, PLURAL(moves->n),
                                   vm->name);
                return end_unless_patient(job, world, JOB_FAILED, ERROR_CONFLICT, sentence, now_boottime_us);
        }
        if (stranger) {
                (void) text_printf(&sentence, "vm %s of pool %s would have to move now, which was not asked for: "
                                   "things have changed. To go on: gpupoolctl vm defragment %s", stranger->name,
                                   stranger->pool, vm->name);
                return end_unless_patient(job, world, JOB_FAILED, ERROR_CONFLICT, sentence, now_boottime_us);
        }
        clearance->now = moves->items[0];
        clearance->now.why = NULL;
        clearance->proposing = true;
        return CLEARANCE_MOVES;
}

static int find_next(Job *job, const World *world, const Vm *vm, uint64_t now_boottime_us) {
        _cleanup_(moves_clear) Moves moves = {};
        _cleanup_(result_clear) Result result = {};
        int r = clearance_plan(world, vm, &moves, &result);
        if (r < 0)
                return r;
        if (result.verdict == VERDICT_DONE)
                return judge_plan(job, world, vm, &moves, now_boottime_us);
        /* A conflict: there is room, and it was not placed yet. */
        bool fits = result.verdict == VERDICT_CONFLICT;
        return end_unless_patient(job, world, fits ? JOB_WAITING : JOB_FAILED,
                                  fits ? NULL : verdict_to_error(result.verdict), STEAL(result.sentence),
                                  now_boottime_us);
}

static int follow(Job *job, const World *world, bool settled, uint64_t now_boottime_us) {
        Clearance *clearance = job->clearance;
        const Vm *vm = registry_find_vm(world->registry, &job->about.vm);
        if (clearance->proposing)
                return CLEARANCE_WAITS;
        if (!id_is_null(clearance->now.vm.bytes)) {
                int r = follow_move(job, world, settled, now_boottime_us);
                if (r != CLEARANCE_MOVES)
                        return r;
        }
        if (!vm) {
                job_finish(job, JOB_CANCELED, NULL, "the VM was deleted", now_boottime_us);
                return CLEARANCE_ENDED;
        }
        if (has_place(vm))
                return end_placed(job, world, vm, now_boottime_us);
        if (!vm_is_to_run(vm)) {
                char *sentence = NULL;
                (void) text_printf(&sentence, "vm %s is not to run any more", vm->name);
                return end(job, world, JOB_SUPERSEDED, NULL, sentence, now_boottime_us);
        }
        if (!settled || vm->assignment.phase != ASSIGNMENT_NONE || now_boottime_us < clearance->look_again_us)
                return CLEARANCE_WAITS;
        return find_next(job, world, vm, now_boottime_us);
}

static bool is_silent(const World *world, const Clearance *clearance) {
        const Vm *mover = registry_find_vm(world->registry, &clearance->now.vm);
        return mover && mover->assignment.phase != ASSIGNMENT_NONE &&
               world_node_state(world, &mover->assignment.node) == NODE_STATE_SILENT;
}

static bool show(Job *job, const World *world) {
        const Clearance *clearance = job->clearance;
        double half = id_is_null(clearance->now.vm.bytes) ? 0 : 0.5;
        double progress = (clearance->n_done + half) / (clearance->n_promised + 0.5);
        const char *stage = is_silent(world, clearance) ? "silent" : "moving";
        if (text_equal(job->stage, stage) && job->progress >= progress)
                return false;
        job->stage = stage;
        job->progress = progress > job->progress ? progress : job->progress;
        return true;
}

int job_follow_clearance(Job *job, const World *world, bool settled, uint64_t now_boottime_us, bool *ret_changed) {
        if (job->clearance->patient_until_us == 0)
                job->clearance->patient_until_us = now_boottime_us + PATIENCE_US;
        int r = follow(job, world, settled, now_boottime_us);
        if (r >= 0)
                *ret_changed = r == CLEARANCE_ENDED || show(job, world);
        return r;
}

void job_clearance_decided(Job *job) {
        job->clearance->proposing = false;
}

void job_clearance_refused(Job *job, const World *world, const char *error, const char *sentence,
                           uint64_t now_boottime_us) {
        Clearance *clearance = job->clearance;
        char *whole = NULL;
        const char *name = vm_name(world, &clearance->now.vm);
        clearance->proposing = false;
        /* The world was further: what it takes is worked out anew. */
        if (text_equal(error, ERROR_CONFLICT) && clearance->n_refused++ < REFUSED_MAX) {
                clearance->now = (Move) {};
                return;
        }
        (void) text_printf(&whole, "vm %s could not be moved: %s. No further VM moves", name, sentence);
        clearance->now = (Move) {};
        (void) end(job, world, JOB_FAILED, error, whole, now_boottime_us);
}

void job_cancel_clearance(Job *job, const World *world, uint64_t now_boottime_us) {
        const Clearance *clearance = job->clearance;
        char *sentence = NULL;
        if (id_is_null(clearance->now.vm.bytes))
                (void) text_printf(&sentence, "it was canceled, and no further VM moves");
        else
                (void) text_printf(&sentence, "it was canceled, and no further VM moves; vm %s is on its way to node "
                                   "%s and goes on there", vm_name(world, &clearance->now.vm),
                                   world_node_name(world, &clearance->now.to));
        (void) end(job, world, JOB_CANCELED, NULL, sentence, now_boottime_us);
}
