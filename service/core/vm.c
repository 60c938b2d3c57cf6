/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/names.h"
#include "core/pci-pattern.h"

/* Above what protobuf puts around a note. */
#define NOTE_OVERHEAD 16U

size_t placement_note_size(const char *node, const char *why) {
        return strlen(node) + strlen(why) + NOTE_OVERHEAD;
}

void vm_notes_clear(Vm *vm) {
        for (size_t i = 0; i < vm->n_notes; i++) {
                free(vm->notes[i].node);
                free(vm->notes[i].why);
        }
        free(vm->notes);
        vm->notes = NULL;
        vm->n_notes = 0;
}

void vm_affinity_clear(Vm *vm) {
        for (size_t i = 0; i < vm->n_affinity; i++)
                free(vm->affinity[i].vm);
        free(vm->affinity);
        vm->affinity = NULL;
        vm->n_affinity = 0;
}

void assignment_clear(Assignment *assignment) {
        free(assignment->gpus);
        *assignment = (Assignment) {};
}

void vm_clear(Vm *vm) {
        free(vm->name);
        free(vm->xml);
        free(vm->pool);
        free(vm->model);
        text_list_clear(&vm->preferred_nodes);
        vm_affinity_clear(vm);
        free(vm->owner_user);
        free(vm->reason_code);
        free(vm->reason);
        assignment_clear(&vm->assignment);
        vm_notes_clear(vm);
        vm_needs_clear(&vm->needs);
        *vm = (Vm) {};
}

static const char *const affinity_kinds[AFFINITY_KIND_COUNT] = {
        [AFFINITY_WITH] = "with",
        [AFFINITY_APART] = "apart",
        [AFFINITY_RATHER_WITH] = "rather-with",
        [AFFINITY_RATHER_APART] = "rather-apart",
};

const char *affinity_kind_to_text(AffinityKind kind) {
        return affinity_kinds[kind];
}

int affinity_kind_from_text(const char *text, AffinityKind *ret) {
        for (AffinityKind i = 0; i < AFFINITY_KIND_COUNT; i++)
                if (text_equal(affinity_kinds[i], text)) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

bool vm_model_is_valid(const char *model) {
        const char *colon = strchr(model, ':');
        if (!colon || colon == model || !colon[1] || strlen(model) > VM_MODEL_LENGTH_MAX)
                return false;
        return pattern_may_match_pci_id(model, (size_t) (colon - model)) &&
               pattern_may_match_pci_id(colon + 1, strlen(colon + 1));
}

bool vm_model_matches(const Vm *vm, uint16_t vendor, uint16_t device) {
        if (!vm->model)
                return true;
        char text[sizeof("10de:2330")];
        (void) snprintf(text, sizeof(text), "%04x:%04x", (unsigned) vendor, (unsigned) device);
        return text_matches(vm->model, text);
}

int vm_read_needs(Vm *vm) {
        VmNeeds needs;
        int r = vm_needs_read(vm->xml, strlen(vm->xml), &needs);
        if (r < 0)
                return r;
        vm_needs_clear(&vm->needs);
        vm->needs = needs;
        return 0;
}

static VmState state_without_assignment(const Vm *vm) {
        if (!vm->run)
                return VM_STATE_STOPPED;
        if (vm->failed)
                return VM_STATE_FAILED;
        return vm->attempts > 0 ? VM_STATE_BACKOFF : VM_STATE_WAITING;
}

VmState vm_state(const Vm *vm) {
        switch (vm->assignment.phase) {
        case ASSIGNMENT_STARTING:
                return VM_STATE_STARTING;
        case ASSIGNMENT_RUNNING:
                return VM_STATE_RUNNING;
        case ASSIGNMENT_STOPPING:
                return VM_STATE_STOPPING;
        case ASSIGNMENT_NONE:
        case ASSIGNMENT_PHASE_COUNT:
                break;
        }
        return state_without_assignment(vm);
}

const char *vm_state_to_text(VmState state) {
        static const char *const texts[VM_STATE_COUNT] = {
                [VM_STATE_STOPPED] = "stopped",
                [VM_STATE_WAITING] = "waiting",
                [VM_STATE_STARTING] = "starting",
                [VM_STATE_RUNNING] = "running",
                [VM_STATE_STOPPING] = "stopping",
                [VM_STATE_BACKOFF] = "backoff",
                [VM_STATE_FAILED] = "failed",
        };
        return texts[state];
}

static const char *const restart_policies[RESTART_POLICY_COUNT] = {
        [RESTART_ALWAYS] = "always",
        [RESTART_ON_FAILURE] = "on-failure",
        [RESTART_NEVER] = "never",
};

const char *restart_policy_to_text(RestartPolicy policy) {
        return restart_policies[policy];
}

int restart_policy_from_text(const char *text, RestartPolicy *ret) {
        for (RestartPolicy i = 0; i < RESTART_POLICY_COUNT; i++)
                if (text_equal(restart_policies[i], text)) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

/* What an end means for the VM, by cause and policy. */
typedef enum Consequence {
        CONSEQUENCE_AS_ASKED,           /* nothing went wrong */
        CONSEQUENCE_RUN_AGAIN,          /* not counted as a failure */
        CONSEQUENCE_TRY_AGAIN,          /* counted; too many in a row are one too many */
        CONSEQUENCE_STAY_STOPPED,
        CONSEQUENCE_FAIL,
} Consequence;

static Consequence judge_end(EndCause cause, RestartPolicy policy) {
        switch (cause) {
        case END_GUEST_SHUTDOWN:
                return policy == RESTART_ALWAYS ? CONSEQUENCE_RUN_AGAIN : CONSEQUENCE_STAY_STOPPED;
        case END_CRASHED:
        case END_DESTROYED:
        case END_GPU_LOST:
                return policy == RESTART_NEVER ? CONSEQUENCE_STAY_STOPPED : CONSEQUENCE_TRY_AGAIN;
        case END_START_FAILED:
                return policy == RESTART_NEVER ? CONSEQUENCE_FAIL : CONSEQUENCE_TRY_AGAIN;
        case END_NODE_LOST:
        case END_LEASE_ENDED:
        case END_GUARD_LOST:
                return policy == RESTART_NEVER ? CONSEQUENCE_STAY_STOPPED : CONSEQUENCE_RUN_AGAIN;
        case END_GPU_UNUSABLE:
                return CONSEQUENCE_RUN_AGAIN;
        case END_REQUESTED:
        case END_CAUSE_COUNT:
                break;
        }
        return CONSEQUENCE_AS_ASKED;
}

static const char *cause_sentence(EndCause cause) {
        switch (cause) {
        case END_GUEST_SHUTDOWN:
                return "it was shut down from inside";
        case END_CRASHED:
                return "its process died";
        case END_START_FAILED:
                return "it could not be started";
        case END_DESTROYED:
                return "somebody destroyed its domain outside of gpupool";
        case END_GPU_LOST:
                return "a GPU of it was lost";
        case END_NODE_LOST:
                return "its node was lost";
        case END_LEASE_ENDED:
                return "its node was cut off from the cluster for longer than its lease";
        case END_GUARD_LOST:
                return "its node's guard was gone";
        case END_GPU_UNUSABLE:
                return "a GPU of it could not be bound";
        case END_REQUESTED:
        case END_CAUSE_COUNT:
                break;
        }
        return NULL;
}

static int set_reason(Vm *vm, EndCause cause, const char *sentence) {
        int r = text_set(&vm->reason_code, end_cause_to_text(cause));
        if (r < 0)
                return r;
        return text_set(&vm->reason, text_is_empty(sentence) ? cause_sentence(cause) : sentence);
}

int vm_ended(Vm *vm, EndCause cause, const char *sentence, uint64_t ran_ms) {
        /* Who was to stop has stopped, whatever the process said in the end. */
        Consequence consequence = vm->run ? judge_end(cause, vm->restart) : CONSEQUENCE_AS_ASKED;
        int r;
        if (consequence == CONSEQUENCE_AS_ASKED) {
                r = text_set(&vm->reason_code, NULL);
                if (r >= 0)
                        r = text_set(&vm->reason, NULL);
        } else
                r = set_reason(vm, cause, sentence);
        if (r < 0)
                return r;

        if (ran_ms >= VM_STABLE_MS)
                vm->attempts = 0;
        switch (consequence) {
        case CONSEQUENCE_AS_ASKED:
                vm->attempts = 0;
                vm->failed = false;
                break;
        case CONSEQUENCE_RUN_AGAIN:
                if (cause == END_GUEST_SHUTDOWN)
                        vm->attempts = 0;       /* a clean end: no failure before it is in a row with the next */
                break;
        case CONSEQUENCE_TRY_AGAIN:
                vm->attempts++;
                vm->failed = vm->attempts >= VM_ATTEMPTS_MAX;
                break;
        case CONSEQUENCE_STAY_STOPPED:
                vm->attempts = 0;
                vm->run = false;
                break;
        case CONSEQUENCE_FAIL:
                vm->attempts++;
                vm->failed = true;
                break;
        }
        return 0;
}

const char *end_cause_to_text(EndCause cause) {
        static const char *const texts[END_CAUSE_COUNT] = {
                [END_REQUESTED] = "requested",
                [END_GUEST_SHUTDOWN] = "guest-shutdown",
                [END_CRASHED] = "crashed",
                [END_START_FAILED] = "start-failed",
                [END_DESTROYED] = "destroyed",
                [END_GPU_LOST] = "gpu-lost",
                [END_NODE_LOST] = "node-lost",
                [END_LEASE_ENDED] = "lease-ended",
                [END_GUARD_LOST] = "guard-lost",
                [END_GPU_UNUSABLE] = "gpu-unusable",
        };
        return texts[cause];
}

bool vm_lost_its_place(const Vm *vm) {
        static const EndCause causes[] = { END_GPU_LOST, END_NODE_LOST, END_LEASE_ENDED, END_GUARD_LOST };
        if (!vm->run || vm->assignment.phase != ASSIGNMENT_NONE)
                return false;
        for (size_t i = 0; i < ELEMENTS(causes); i++)
                if (text_equal(vm->reason_code, end_cause_to_text(causes[i])))
                        return true;
        return false;
}

bool vm_may_preempt(const Vm *vm, const Vm *other) {
        return vm->preempt && other->preemptible && other->priority < vm->priority && vm_is_to_run(other) &&
               other->assignment.phase == ASSIGNMENT_RUNNING;
}

bool vm_makes_way(const Vm *vm) {
        return vm->assignment.phase == ASSIGNMENT_STOPPING && text_equal(vm->reason_code, REASON_PREEMPTED);
}
