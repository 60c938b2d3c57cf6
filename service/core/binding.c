/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/binding.h"

#include <errno.h>

#include "core/mutant.h"
#include "util/wake.h"

static void binding_clear(Binding *binding) {
        free(binding->stuck);
        free(binding->trouble);
        free(binding->reason);
        *binding = (Binding) {};
}

void bindings_clear(Bindings *bindings) {
        ARRAY_EACH(binding, &bindings->items)
                binding_clear(binding);
        array_clear(&bindings->items);
}

static int compare_binding(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, ((const Binding *) item)->gpu.address);
}

Binding *bindings_find(const Bindings *bindings, PciAddress gpu) {
        size_t i;
        return array_find(&bindings->items, &gpu, compare_binding, &i) ? bindings->items.items + i : NULL;
}

/* ---- what there is */

static int forget_words(Binding *binding) {
        int r = text_set(&binding->trouble, NULL);
        return r < 0 ? r : text_set(&binding->reason, NULL);
}

/* Its serial may not be read yet; whose it is counts before that. */
static const Pool *find_pool_of(const GpuIdentity *seen, const Registry *registry) {
        ARRAY_EACH(pool, &registry->pools)
                ARRAY_EACH(gpu, &pool->gpus)
                        if (gpu_identity_matches(gpu, seen))
                                return pool;
        return NULL;
}

/* What is new here. On vfio-pci and in a pool: whoever had it before, it was not given back. Without a driver: it may
 * have lost it to a take that was broken off; so it is given back, which does nothing to what was never taken. */
static BindingState find_first_state(const GpuFacts *gpu, const Registry *registry) {
        if (!find_pool_of(&gpu->identity, registry))
                return BINDING_FREE;
        if (pci_driver_is_vfio(gpu->driver))
                return BINDING_DIRTY;
        return !gpu->driver && !gpu->unreadable && !gpu->boot_vga ? BINDING_CLEAN : BINDING_FREE;
}

static void take_up(Binding *binding, const GpuFacts *gpu, const Registry *registry) {
        binding->gpu = gpu->identity;
        binding->gpu.address = gpu->address;
        binding->state = find_first_state(gpu, registry);
        binding->parked = binding->given = binding->take_failed = binding->to_quarantine = false;
        binding->quarantining = false;
        binding->epoch = binding->wanted_epoch = 0;
        binding->not_before_us = binding->failures = binding->answered_us = 0;
}

/* Inspected, and nobody of ours has it. */
static bool is_inspected(const Binding *binding) {
        return binding->state == BINDING_CLEAN || (binding->state == BINDING_FREE && binding->parked);
}

/* Somebody else makes use of it: it is inspected anew. */
static void lose_inspection(Binding *binding) {
        if (!is_inspected(binding) || MUTANT(NO_INSPECTION))
                return;
        binding->state = BINDING_DIRTY;
        binding->parked = false;
}

/* Facts that are older than the last answer may still show the VM before it, and the driver before it. */
static void follow_use(Binding *binding, const GpuFacts *gpu) {
        if (gpu->read_us >= binding->answered_us && !pci_driver_is_vfio(gpu->driver))
                binding->given = false;
        if (binding->asked || !is_inspected(binding))
                return;
        if (gpu->holders_us >= binding->answered_us && gpu_facts_held_through_vfio(gpu))
                lose_inspection(binding);
        else if (binding->parked && gpu->read_us >= binding->answered_us && !pci_driver_is_vfio(gpu->driver))
                binding->parked = false;
}

static int follow_gpu(Bindings *bindings, const GpuFacts *gpu, const Registry *registry) {
        Binding *binding = bindings_find(bindings, gpu->address);
        if (!binding) {
                Binding new = {};
                size_t i;
                take_up(&new, gpu, registry);
                (void) array_find(&bindings->items, &gpu->address, compare_binding, &i);
                int r = array_insert(&bindings->items, i, &new);
                if (r < 0)
                        return r;
                binding = bindings->items.items + i;
        } else if (!gpu_identity_matches(&binding->gpu, &gpu->identity)) {
                int r = forget_words(binding);
                if (r < 0)
                        return r;
                take_up(binding, gpu, registry);
        } else if (!binding->gpu.serial[0]) {
                binding->gpu = gpu->identity;
                binding->gpu.address = gpu->address;
        }
        binding->seen = true;
        if (!binding->asked && binding->state != BINDING_TAKEN)
                binding->n_functions = gpu_facts_list_given(gpu, binding->functions);
        follow_use(binding, gpu);
        return 0;
}

/* ---- whose it is */

static const Run *find_run(const Runner *runner, const VmId *vm, uint64_t epoch) {
        const Run *run = epoch > 0 ? runner_find(runner, vm) : NULL;
        return run && run->epoch == epoch ? run : NULL;
}

static void follow_run_of(Binding *binding, const Runner *runner) {
        const Run *run = find_run(runner, &binding->wanted_by, binding->wanted_epoch);
        if (!run || run->ending)
                binding->wanted_epoch = 0;
        if (binding->asked || binding->state != BINDING_TAKEN)
                return;
        run = find_run(runner, &binding->vm, binding->epoch);
        if (run && !run->vacated)
                return;
        binding->state = MUTANT(NO_INSPECTION) ? BINDING_CLEAN : BINDING_DIRTY;
        binding->epoch = 0;
}

bool binding_is_odd(const Binding *binding, const Runner *runner) {
        const Run *run = binding->state == BINDING_TAKEN ? find_run(runner, &binding->vm, binding->epoch) : NULL;
        return run && run->odd_since_us > 0 && !run->busy && !run->holding && !run->ending;
}

/* A VM that was found running has what it was assigned. 0 or -ENOMEM. */
static int give_to_owner(Bindings *bindings, const GpuIdentity *gpu, const Run *run) {
        ARRAY_EACH(binding, &bindings->items) {
                if (binding->asked || binding->state == BINDING_TAKEN || !gpu_identity_matches(gpu, &binding->gpu))
                        continue;
                binding->state = BINDING_TAKEN;
                binding->vm = run->vm;
                binding->epoch = run->epoch;
                return text_set(&binding->trouble, NULL);
        }
        return 0;
}

static int find_owners(Bindings *bindings, const World *world, const Runner *runner) {
        ARRAY_EACH(run, &runner->runs) {
                const Vm *vm = run->started && !run->vacated ? registry_find_vm(world->registry, &run->vm) : NULL;
                if (!vm || vm->epoch != run->epoch || !ID_EQUAL(&vm->assignment.node, &world->local))
                        continue;
                for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                        int r = give_to_owner(bindings, &vm->assignment.gpus[i].gpu, run);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* Who is released need not rest any longer. */
static void follow_quarantine(Binding *binding, const Registry *registry) {
        bool is_in = registry_find_quarantine(registry, &binding->gpu) != NULL;
        if (is_in)
                binding->to_quarantine = false;
        else if (binding->quarantined)
                binding->not_before_us = binding->failures = 0;
        binding->quarantined = is_in;
}

int bindings_follow(Bindings *bindings, const World *world, const Runner *runner) {
        const NodeFacts *host = world_find_facts(world, &world->local);
        ARRAY_EACH(binding, &bindings->items)
                binding->seen = false;
        for (size_t i = 0; host && i < host->n_gpus; i++) {
                int r = follow_gpu(bindings, host->gpus + i, world->registry);
                if (r < 0)
                        return r;
        }
        for (size_t i = bindings->items.n; i > 0; i--) {
                Binding *binding = bindings->items.items + i - 1;
                if (!binding->seen && !binding->asked) {
                        binding_clear(binding);
                        array_remove(&bindings->items, i - 1);
                        continue;
                }
                follow_quarantine(binding, world->registry);
                follow_run_of(binding, runner);
        }
        return find_owners(bindings, world, runner);
}

/* ---- claims */

static bool is_of(const VmId *vm, uint64_t epoch, const VmId *other_vm, uint64_t other_epoch) {
        return epoch > 0 && epoch == other_epoch && ID_EQUAL(vm, other_vm);
}

void bindings_claim(Bindings *bindings, const Vm *vm) {
        ARRAY_EACH(binding, &bindings->items)
                for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                        if (!gpu_identity_matches(&vm->assignment.gpus[i].gpu, &binding->gpu) ||
                            is_of(&binding->vm, binding->epoch, &vm->id, vm->epoch))
                                continue;
                        binding->wanted_by = vm->id;
                        binding->wanted_epoch = vm->epoch;
                        binding->wanted_card = vm->assignment.gpus[i].gpu;
                }
}

static const Binding *find_identity(const Bindings *bindings, const GpuIdentity *gpu) {
        ARRAY_EACH(binding, &bindings->items)
                if (binding->seen && gpu_identity_matches(gpu, &binding->gpu))
                        return binding;
        return NULL;
}

static BindingClaim judge_claim(const Binding *binding, const Registry *registry, const VmId *vm, uint64_t epoch,
                                uint64_t now_us, uint64_t *wake_us, const char **ret_sentence) {
        /* Who gives up would be placed here again before everybody knows that it cannot be. */
        if (binding->to_quarantine)
                return BINDING_CLAIM_WAITS;
        if (is_of(&binding->vm, binding->epoch, vm, epoch) ||
            (MUTANT(GPU_TWICE) && binding->state == BINDING_TAKEN))
                return binding->asked ? BINDING_CLAIM_WAITS : BINDING_CLAIM_DONE;
        const Quarantine *quarantine = registry_find_quarantine(registry, &binding->gpu);
        if (is_of(&binding->wanted_by, binding->wanted_epoch, vm, epoch) && !quarantine && !binding->overdue &&
            !binding->trouble) {
                uint64_t until_us = binding->unsure_since_us + BINDING_UNSURE_US;
                if (binding->unsure_since_us == 0)
                        return BINDING_CLAIM_WAITS;
                if (now_us < until_us) {
                        wake_by(wake_us, until_us);
                        return BINDING_CLAIM_WAITS;
                }
                *ret_sentence = "whether a GPU of it is still the same card is not known, its serial cannot be read: "
                                "systemctl start gpupool-probe.socket";
                return BINDING_CLAIM_FAILED;
        }
        if (binding->trouble && now_us < binding->failed_us + BINDING_TELL_US) {
                wake_by(wake_us, binding->failed_us + BINDING_TELL_US);
                return BINDING_CLAIM_WAITS;
        }
        if (quarantine && text_is_empty(quarantine->sentence))
                *ret_sentence = quarantine_cause_to_sentence(quarantine->cause);
        else
                *ret_sentence = quarantine ? quarantine->sentence : binding->stuck ? binding->stuck : binding->trouble;
        return BINDING_CLAIM_FAILED;
}

BindingClaim bindings_claim_state(const Bindings *bindings, const World *world, const VmId *vm_id, uint64_t epoch,
                                  uint64_t now_us, uint64_t *wake_us, const char **ret_sentence) {
        const Vm *vm = registry_find_vm(world->registry, vm_id);
        *ret_sentence = NULL;
        if (!vm || vm->epoch != epoch || vm->assignment.phase == ASSIGNMENT_NONE)
                return BINDING_CLAIM_FAILED;
        BindingClaim claim = BINDING_CLAIM_DONE;
        for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                const Binding *binding = find_identity(bindings, &vm->assignment.gpus[i].gpu);
                BindingClaim one = BINDING_CLAIM_FAILED;
                if (binding)
                        one = judge_claim(binding, world->registry, vm_id, epoch, now_us, wake_us, ret_sentence);
                else
                        *ret_sentence = "a GPU of it is gone from the host";
                if (one == BINDING_CLAIM_FAILED)
                        return one;
                if (one == BINDING_CLAIM_WAITS)
                        claim = one;
        }
        return claim;
}

/* ---- what to ask */

/* In quarantine it stays as it is, for whoever wants to look at it; unless somebody put it there by hand, before or
 * while a VM had it. */
static bool is_kept(const Binding *binding, const Registry *registry) {
        const Quarantine *quarantine = registry_find_quarantine(registry, &binding->gpu);
        return binding->to_quarantine || (quarantine && quarantine->cause != QUARANTINE_BY_HAND);
}

static bool stays_on_vfio(const Binding *binding, const Registry *registry) {
        const Pool *pool = find_pool_of(&binding->gpu, registry);
        return pool && pool->after_use == AFTER_USE_VFIO;
}

/* On vfio-pci without our doing, since nobody saw it come there. */
static bool is_of_unknown_use(const Binding *binding, const World *world) {
        const NodeFacts *host = world_find_facts(world, &world->local);
        const GpuFacts *gpu = host ? node_facts_find_address(host, binding->gpu.address) : NULL;
        return !binding->parked && gpu && pci_driver_is_vfio(gpu->driver) && !MUTANT(NO_INSPECTION);
}

/* Nobody wants it, and it is on vfio-pci all the same: a take came about that nobody waits for any more, as one that an
 * earlier gpupoold asked for. What was given back and stays there is there by an administrator's doing. */
static bool is_left_behind(const Binding *binding, const World *world) {
        const NodeFacts *host = world_find_facts(world, &world->local);
        const GpuFacts *gpu = host ? node_facts_find_address(host, binding->gpu.address) : NULL;
        return !binding->given && gpu && gpu->read_us >= binding->answered_us && is_of_unknown_use(binding, world) &&
               find_pool_of(&binding->gpu, world->registry);
}

static bool decide(Binding *binding, const World *world, BindVerb *ret) {
        bool wanted = binding->wanted_epoch > 0;
        if (is_kept(binding, world->registry))
                return false;
        if (binding->state == BINDING_CLEAN && !wanted && stays_on_vfio(binding, world->registry)) {
                binding->state = BINDING_FREE;
                binding->parked = true;
        }
        if (binding->state == BINDING_FREE &&
            (wanted ? is_of_unknown_use(binding, world) : is_left_behind(binding, world)))
                binding->state = BINDING_DIRTY;
        switch (binding->state) {
        case BINDING_TAKEN:
                break;
        case BINDING_DIRTY:
                *ret = BIND_INSPECT;
                return true;
        case BINDING_CLEAN:
                *ret = wanted ? BIND_TAKE : BIND_GIVE;
                return true;
        case BINDING_FREE:
                *ret = wanted ? BIND_TAKE : BIND_GIVE;
                return wanted || (binding->parked && !stays_on_vfio(binding, world->registry));
        }
        return false;
}

/* The facts tell it again when the probe does; what this service knew of the slot is of no use, as the card may have
 * been replaced since. */
static bool is_unsure(Binding *binding, const World *world, uint64_t now_us) {
        bool unsure = binding->wanted_epoch > 0 && !world_find_certain_gpu(world, &binding->wanted_card);
        if (!unsure || binding->unsure_since_us == 0)
                binding->unsure_since_us = unsure ? now_us : 0;
        return unsure;
}

const Binding *bindings_next(Bindings *bindings, const World *world, uint64_t now_us, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        ARRAY_EACH(binding, &bindings->items) {
                if (binding->asked || !binding->seen)
                        continue;
                if (now_us < binding->not_before_us) {
                        *ret_wake_us = binding->not_before_us < *ret_wake_us ? binding->not_before_us : *ret_wake_us;
                        continue;
                }
                /* Of one that is free there is no other way to find out than the next try. */
                if (binding->state == BINDING_FREE)
                        (void) text_set(&binding->trouble, NULL);
                bool unsure = is_unsure(binding, world, now_us);
                if (!decide(binding, world, &binding->verb) || (unsure && binding->verb == BIND_TAKE))
                        continue;
                binding->asked = true;
                if (binding->verb == BIND_TAKE) {
                        binding->vm = binding->wanted_by;
                        binding->epoch = binding->wanted_epoch;
                        binding->wanted_epoch = 0;
                        if (!binding->wanted_card.serial[0])
                                memcpy(binding->wanted_card.serial, binding->gpu.serial, GPU_SERIAL_SIZE);
                }
                return binding;
        }
        return NULL;
}

/* ---- answers */

static void rest(Binding *binding, uint64_t now_us) {
        uint64_t pause_us = BINDING_PAUSE_FIRST_US;
        for (unsigned i = 0; i < binding->failures && pause_us < BINDING_PAUSE_MOST_US; i++)
                pause_us *= 2;
        binding->failures++;
        binding->failed_us = now_us;
        binding->not_before_us = now_us + (pause_us < BINDING_PAUSE_MOST_US ? pause_us : BINDING_PAUSE_MOST_US);
}

static int put_off(Binding *binding, const char *sentence, uint64_t now_us) {
        rest(binding, now_us);
        return text_set(&binding->trouble, text_is_empty(sentence) ? "it could not be bound" : sentence);
}

static int put_in_quarantine(Binding *binding, QuarantineCause cause, const char *sentence) {
        binding->to_quarantine = true;
        binding->quarantining = false;
        binding->cause = cause;
        return text_set(&binding->reason, text_is_empty(sentence) ? quarantine_cause_to_sentence(cause) : sentence);
}

/* Where it is in quarantine already, for another cause, it is looked at again, but not all the time. */
static int fail_inspection(Binding *binding, QuarantineCause cause, const char *sentence, uint64_t now_us) {
        rest(binding, now_us);
        return put_in_quarantine(binding, cause, sentence);
}

static int answer_done(Binding *binding, bool was_overdue) {
        /* What cannot be taken is not tried more often for passing its inspection in between. */
        binding->take_failed = binding->take_failed && binding->verb != BIND_TAKE;
        if (!binding->take_failed)
                binding->failures = 0;
        switch (binding->verb) {
        case BIND_TAKE:
                /* Whoever wanted it has given up meanwhile. */
                binding->state = binding->epoch > 0 ? BINDING_TAKEN : BINDING_DIRTY;
                binding->parked = false;
                break;
        case BIND_GIVE:
                binding->state = BINDING_FREE;
                binding->parked = false;
                binding->given = true;
                break;
        case BIND_INSPECT:
                /* What took so long is looked at again, once an administrator has released it. */
                binding->state = was_overdue ? BINDING_DIRTY : BINDING_CLEAN;
                break;
        case BIND_VERB_COUNT:
                break;
        }
        return text_set(&binding->trouble, NULL);
}

/* Some of its functions may be without a driver now, and nobody else would give them one. */
static void leave_half_way(Binding *binding) {
        binding->state = BINDING_DIRTY;
        binding->parked = false;
        binding->take_failed = true;
}

int bindings_answer(Bindings *bindings, PciAddress gpu, BindVerb verb, BindResult result, const char *sentence,
                    uint64_t now_us) {
        Binding *binding = bindings_find(bindings, gpu);
        if (!binding || !binding->asked || binding->verb != verb)
                return 0;
        bool was_overdue = binding->overdue;
        binding->asked = binding->overdue = false;
        int r = text_set(&binding->stuck, NULL);
        if (r < 0)
                return r;
        if (result != BIND_DONE && verb == BIND_TAKE)
                binding->epoch = 0;
        switch (result) {
        case BIND_DONE:
                binding->answered_us = now_us;
                return answer_done(binding, was_overdue);
        case BIND_HELD:
                lose_inspection(binding);
                return put_off(binding, sentence, now_us);
        case BIND_BUSY:
        case BIND_REFUSED:
        case BIND_OTHER_CARD:
                return put_off(binding, sentence, now_us);
        case BIND_FAILED:
        case BIND_UNAVAILABLE:
                if (verb == BIND_TAKE)
                        leave_half_way(binding);
                return put_off(binding, sentence, now_us);
        case BIND_BAD_CONFIG:
                return fail_inspection(binding, QUARANTINE_CONFIG_UNREADABLE, sentence, now_us);
        case BIND_BAD_RESET:
                return fail_inspection(binding, QUARANTINE_RESET_FAILED, sentence, now_us);
        case BIND_BAD_LINK:
        case BIND_BAD_BARS:
                return fail_inspection(binding, QUARANTINE_UNFIT, sentence, now_us);
        case BIND_RESULT_COUNT:
                break;
        }
        return 0;
}

int bindings_overdue(Bindings *bindings, PciAddress gpu, BindVerb verb) {
        static const char *const what[BIND_VERB_COUNT] = {
                [BIND_TAKE] = "taking it from the host's driver",
                [BIND_GIVE] = "giving it back to the host's driver",
                [BIND_INSPECT] = "its inspection after the last VM",
        };
        Binding *binding = bindings_find(bindings, gpu);
        if (!binding || !binding->asked || binding->verb != verb)
                return 0;
        binding->overdue = true;
        if (verb == BIND_TAKE)
                binding->epoch = 0;
        int r = text_printf(&binding->stuck, "%s hangs in the kernel", what[verb]);
        return r < 0 ? r : put_in_quarantine(binding, QUARANTINE_STUCK, binding->stuck);
}

/* The card about whose quarantine the registry is being told; NULL: it is gone, or that is over. */
static Binding *find_quarantining(const Bindings *bindings, const GpuIdentity *gpu) {
        Binding *binding = bindings_find(bindings, gpu->address);
        return binding && binding->quarantining && gpu_identity_matches(gpu, &binding->gpu) ? binding : NULL;
}

/* Until it is seen in the registry the pause after the failure keeps it from being asked about again. */
void bindings_quarantine_told(Bindings *bindings, const GpuIdentity *gpu) {
        Binding *binding = find_quarantining(bindings, gpu);
        if (binding)
                binding->to_quarantine = binding->quarantining = false;
}

int bindings_quarantine_refused(Bindings *bindings, const GpuIdentity *gpu, uint64_t now_us) {
        Binding *binding = find_quarantining(bindings, gpu);
        if (!binding || !binding->to_quarantine)
                return 0;
        binding->to_quarantine = binding->quarantining = false;
        return put_off(binding, binding->reason, now_us);
}

void bindings_quarantine_untold(Bindings *bindings, const GpuIdentity *gpu) {
        Binding *binding = find_quarantining(bindings, gpu);
        if (binding)
                binding->quarantining = false;
}

Binding *bindings_next_quarantine(Bindings *bindings) {
        ARRAY_EACH(binding, &bindings->items)
                if (binding->to_quarantine && !binding->quarantining)
                        return binding;
        return NULL;
}
