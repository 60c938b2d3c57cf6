/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/leader.h"

#include <errno.h>

#include "core/names.h"
#include "core/placement-notes.h"
#include "util/log.h"

void leader_clear(Leader *leader) {
        conductor_clear(&leader->conductor);
}

static void on_decided(SubmitOutcome outcome, const Result *result, void *userdata) {
        Leader *leader = userdata;
        leader->proposing = false;
        if (outcome != SUBMIT_COMMITTED || result->verdict != VERDICT_DONE) {
                uint64_t now = 0;
                (void) sd_event_now(leader->event, CLOCK_BOOTTIME, &now);
                bool not_written = outcome == SUBMIT_NO_QUORUM || outcome == SUBMIT_STORAGE_FULL;
                conductor_refused(&leader->conductor, leader->book, outcome == SUBMIT_COMMITTED ? REFUSAL_BY_REGISTRY
                                  : not_written ? REFUSAL_NOT_WRITTEN : REFUSAL_UNKNOWN, now);
                if (outcome == SUBMIT_COMMITTED)
                        log_debug("the registry refused a proposal: %s", result->sentence);
        }
        leader->decided(leader->userdata);
}

/* GPUs of a proposal as messages; all three rows are freed with it. */
typedef struct GpuMessages {
        Gpupool1__Gpu *gpus;
        char (*addresses)[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu **pointers;
        Gpupool1__AssignedGpu *assigned;
        Gpupool1__AssignedGpu **assigned_pointers;
} GpuMessages;

static void gpu_messages_clear(GpuMessages *messages) {
        free(messages->gpus);
        free(messages->addresses);
        free(messages->pointers);
        free(messages->assigned);
        free(messages->assigned_pointers);
}

static int gpu_messages_alloc(GpuMessages *messages, size_t n) {
        *messages = (GpuMessages) {
                .gpus = calloc(n + 1, sizeof(*messages->gpus)),
                .addresses = calloc(n + 1, sizeof(*messages->addresses)),
                .pointers = calloc(n + 1, sizeof(*messages->pointers)),
                .assigned = calloc(n + 1, sizeof(*messages->assigned)),
                .assigned_pointers = calloc(n + 1, sizeof(*messages->assigned_pointers)),
        };
        bool all = messages->gpus && messages->addresses && messages->pointers && messages->assigned &&
                   messages->assigned_pointers;
        return all ? 0 : -ENOMEM;
}

static void write_gpu(GpuMessages *messages, size_t i, const GpuIdentity *gpu, int32_t group) {
        gpu_message_borrow(gpu, messages->addresses[i], messages->gpus + i);
        messages->pointers[i] = messages->gpus + i;
        gpupool1__assigned_gpu__init(messages->assigned + i);
        messages->assigned[i].gpu = messages->gpus + i;
        messages->assigned[i].iommu_group = group;
        messages->assigned_pointers[i] = messages->assigned + i;
}

/* The notes of a decision as messages, which borrow their texts. */
typedef struct NoteMessages {
        PlacementNotes notes;
        Gpupool1__PlacementNote messages[NOTES_MAX];
        Gpupool1__PlacementNote *pointers[NOTES_MAX];
} NoteMessages;

static void note_messages_clear(NoteMessages *messages) {
        placement_notes_clear(&messages->notes);
}

static int write_notes(const World *world, const Proposal *proposal, NoteMessages *ret) {
        int r = placement_notes_make(world, proposal->vm, &proposal->placement,
                                     placement_notes_room(world->registry), &ret->notes);
        for (size_t i = 0; r >= 0 && i < ret->notes.n; i++) {
                const PlacementNote *note = ret->notes.items + i;
                gpupool1__placement_note__init(ret->messages + i);
                ret->messages[i].node = note->node;
                ret->messages[i].chosen = note->chosen;
                ret->messages[i].why = note->why;
                ret->pointers[i] = ret->messages + i;
        }
        return r;
}

static int propose_assign(Leader *leader, const World *world, const Proposal *proposal) {
        _cleanup_(gpu_messages_clear) GpuMessages gpus = {};
        _cleanup_(note_messages_clear) NoteMessages notes = {};
        const Placement *placement = &proposal->placement;
        int r = gpu_messages_alloc(&gpus, placement->n_gpus);
        if (r >= 0)
                r = write_notes(world, proposal, &notes);
        if (r < 0)
                return r;
        for (size_t i = 0; i < placement->n_gpus; i++)
                write_gpu(&gpus, i, &placement->gpus[i].gpu, placement->gpus[i].iommu_group);

        Gpupool1__Assign assign = GPUPOOL1__ASSIGN__INIT;
        assign.vm = id_message_borrow(proposal->vm->id.bytes);
        assign.node = id_message_borrow(placement->node.bytes);
        assign.incarnation = proposal->incarnation;
        assign.epoch = proposal->vm->epoch + 1;
        assign.n_gpus = placement->n_gpus;
        assign.gpus = gpus.assigned_pointers;
        assign.n_notes = notes.notes.n;
        assign.notes = notes.pointers;

        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ASSIGN;
        entry.assign = &assign;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int propose_pool_gpus(Leader *leader, const Proposal *proposal) {
        _cleanup_(gpu_messages_clear) GpuMessages gpus = {};
        int r = gpu_messages_alloc(&gpus, proposal->gpus.n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < proposal->gpus.n; i++)
                write_gpu(&gpus, i, proposal->gpus.items + i, -1);

        Gpupool1__ChangePoolGpus change = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        change.name = proposal->pool->name;
        change.n_add = proposal->gpus.n;
        change.add = gpus.pointers;

        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_CHANGE_POOL_GPUS;
        entry.change_pool_gpus = &change;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int propose_loss(Leader *leader, const World *world, const Proposal *proposal) {
        Gpupool1__LoseNode loss = GPUPOOL1__LOSE_NODE__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        loss.node = id_message_borrow((uint8_t *) proposal->loss.node.bytes);
        loss.incarnation = proposal->loss.incarnation;
        loss.evidence = (Gpupool1__LossEvidence) proposal->loss.evidence;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_LOSE_NODE;
        entry.lose_node = &loss;
        int r = history_decide(leader->history, &entry, on_decided, leader);
        if (r >= 0)             /* on a full disk it is tried again and again, and history.c has said why */
                log_warning("node %s is lost (evidence: %s)", world_node_name(world, &proposal->loss.node),
                            loss_evidence_to_text(proposal->loss.evidence));
        return r;
}

static int propose_thaw(Leader *leader, const World *world) {
        Gpupool1__Thaw thaw = GPUPOOL1__THAW__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        thaw.freezes = world->registry->freezes;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_THAW;
        entry.thaw = &thaw;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int propose_move(Leader *leader, const Proposal *proposal) {
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        move.vm = id_message_borrow((uint8_t *) proposal->vm->id.bytes);
        move.epoch = proposal->vm->epoch;
        if (!id_is_null(proposal->target.bytes))
                move.node = id_message_borrow((uint8_t *) proposal->target.bytes);
        move.shutdown = true;
        move.timeout_ms = proposal->timeout_ms;
        move.home = proposal->home;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        entry.move_vm = &move;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int propose_preemption(Leader *leader, const Proposal *proposal) {
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        move.vm = id_message_borrow((uint8_t *) proposal->vm->id.bytes);
        move.epoch = proposal->vm->epoch;
        move.preemptor = id_message_borrow((uint8_t *) proposal->preemptor->id.bytes);
        move.shutdown = true;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        entry.move_vm = &move;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int propose_fabric(Leader *leader, const Proposal *proposal) {
        Gpupool1__FabricSet sets[GPUS_PER_NODE_MAX], *pointers[GPUS_PER_NODE_MAX];
        Gpupool1__TellFabric command = GPUPOOL1__TELL_FABRIC__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        for (size_t i = 0; i < proposal->fabric.n && i < ELEMENTS(sets); i++) {
                gpupool1__fabric_set__init(sets + i);
                sets[i].n_slots = proposal->fabric.items[i].slots.n;
                sets[i].slots = proposal->fabric.items[i].slots.items;
                pointers[command.n_sets++] = sets + i;
        }
        command.node = id_message_borrow(proposal->node.bytes);
        command.sets = pointers;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_TELL_FABRIC;
        entry.tell_fabric = &command;
        return history_decide(leader->history, &entry, on_decided, leader);
}

static int commit(Leader *leader, const World *world, const Proposal *proposal) {
        switch (proposal->kind) {
        case PROPOSAL_LOSE_NODE:
                return propose_loss(leader, world, proposal);
        case PROPOSAL_THAW:
                return propose_thaw(leader, world);
        case PROPOSAL_ASSIGN:
                return propose_assign(leader, world, proposal);
        case PROPOSAL_PREEMPT:
                return propose_preemption(leader, proposal);
        case PROPOSAL_MOVE:
                return propose_move(leader, proposal);
        case PROPOSAL_POOL_GPUS:
                return propose_pool_gpus(leader, proposal);
        case PROPOSAL_FABRIC:
                return propose_fabric(leader, proposal);
        }
        return -EINVAL;
}

int leader_turn(Leader *leader, const World *world, uint64_t now_us, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        leader->settled = false;
        if (leader->proposing || !history_leads(leader->history))
                return 0;

        _cleanup_(proposal_clear) Proposal proposal = {};
        int r = conductor_next(&leader->conductor, world, leader->book, now_us, &proposal, ret_wake_us);
        if (r < 0)
                return r;
        if (r == CONDUCTOR_IDLE) {
                leader->settled = true;
                return 0;
        }
        r = commit(leader, world, &proposal);
        if (r < 0) {
                conductor_refused(&leader->conductor, leader->book, REFUSAL_NOT_WRITTEN, now_us);
                *ret_wake_us = now_us + CONDUCTOR_REFUSED_US;
                return r == -ENOMEM ? r : 0;
        }
        leader->proposing = true;
        return 0;
}
