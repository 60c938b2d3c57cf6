/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the bus asks of the manager (Service of adapters/bus/bus.h). */

#include <errno.h>

#include "core/domain-xml.h"
#include "core/names.h"
#include "daemon/backup.h"
#include "daemon/manager-private.h"
#include "daemon/reset.h"
#include "util/log.h"

#define LEAVE_ANSWER_US 5000000U

static const World *service_world(void *userdata) {
        return manager_look(userdata);
}

static void service_status(void *userdata, ClusterStatus *ret) {
        Manager *manager = userdata;
        Lead lead;
        history_lead(manager->history, &lead);
        manager->voters.n = 0;
        ARRAY_EACH(life, &manager->network.lives.all)
                if (life->role == NODE_VOTER)
                        (void) array_append(&manager->voters, &life->node);
        *ret = (ClusterStatus) { .leader = lead.leader, .quorate = lead.quorate, .voters = manager->voters.items,
                                 .n_voters = manager->voters.n };
}

static Jobs *service_jobs(void *userdata) {
        return operations_jobs(((Manager *) userdata)->operations);
}

static int service_submit(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata) {
        return history_submit(((Manager *) userdata)->history, entry, callback, callback_userdata);
}

static int service_operate(void *userdata, Entry *entry, JobOperation operation, const Caller *caller,
                           OperateCallback callback, void *callback_userdata) {
        return operations_begin(((Manager *) userdata)->operations, entry, operation, caller, callback,
                                callback_userdata);
}

static int service_try_drain(void *userdata, const NodeId *node, const Caller *caller, const Job **ret_job) {
        Manager *manager = userdata;
        int r = operations_try_drain(manager->operations, manager_look(manager), node, caller, ret_job);
        return r == JOB_LIMIT ? -EUSERS : r < 0 ? r : 0;
}

static int service_defragment(void *userdata, const Defragmentation *wish, const Caller *caller,
                              const Job **ret_job) {
        Manager *manager = userdata;
        int r = operations_defragment(manager->operations, manager_look(manager), wish, caller, ret_job);
        return r == JOB_LIMIT ? -EUSERS : r < 0 ? r : 0;
}

static int service_stop_defragment(void *userdata, const Job *job) {
        Manager *manager = userdata;
        return operations_stop_defragment(manager->operations, manager_look(manager), job);
}

static int service_cancel_job(void *userdata, Entry *entry, const Job *job, SubmitCallback callback,
                              void *callback_userdata) {
        return operations_cancel(((Manager *) userdata)->operations, entry, job, callback, callback_userdata);
}

struct XmlCheck {
        Manager *manager;
        XmlCheck *next;
        CheckXmlCallback callback;
        void *userdata;
};

static void xml_check_end(XmlCheck *check, const char *error, const char *sentence) {
        for (XmlCheck **p = &check->manager->checks; *p; p = &(*p)->next)
                if (*p == check) {
                        *p = check->next;
                        break;
                }
        check->callback(error, sentence, check->userdata);
        free(check);
}

static void on_xml_checked(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        XmlCheck *check = userdata;
        const char *error = NULL, *sentence = reply ? reply->sentence : NULL;
        switch (result) {
        case HYPERVISOR_CALL_OK:
        case HYPERVISOR_CALL_NO_DOMAIN:
                break;
        case HYPERVISOR_CALL_FAILED:
                error = ERROR_INVALID_XML;
                break;
        case HYPERVISOR_CALL_TIMED_OUT:
        case HYPERVISOR_CALL_LOST:
        case HYPERVISOR_CALL_HUNG:
        case HYPERVISOR_CALL_UNAVAILABLE:
                error = ERROR_UNREACHABLE;
                sentence = "libvirt on this node does not answer, so the XML cannot be checked: see gpupoolctl node";
                break;
        }
        xml_check_end(check, error, sentence);
}

/* libvirt is shown what would be started, but for the GPUs. */
static int service_check_xml(void *userdata, const char *xml, CheckXmlCallback callback, void *callback_userdata) {
        Manager *manager = userdata;
        _cleanup_free_ char *built = NULL, *sentence = NULL;
        DomainBuild build = { .vm = { .bytes = { 1 } }, .cluster = history_registry(manager->history)->cluster,
                              .node = manager->node, .epoch = 1, .numa_node = -1 };
        int r = domain_xml_build(xml, strlen(xml), &build, &built, &sentence);
        if (r < 0)
                return r;
        if (r != DOMAIN_BUILD_OK)
                return -EINVAL;         /* without GPUs it has nothing to refuse */
        XmlCheck *check = malloc(sizeof(*check));
        if (!check)
                return -ENOMEM;
        *check = (XmlCheck) { .manager = manager, .next = manager->checks, .callback = callback,
                              .userdata = callback_userdata };
        r = hypervisor_check_xml(manager->hypervisor, built, on_xml_checked, check);
        if (r < 0)
                free(check);
        else
                manager->checks = check;
        return r;
}

static int service_invite(void *userdata, Entry *entry, uint64_t lifetime_ms, InviteCallback callback,
                          void *callback_userdata) {
        return admission_invite(&((Manager *) userdata)->network.admission, entry, lifetime_ms, callback,
                                callback_userdata);
}

static int service_join(void *userdata, const char *token, const Caller *caller, const Job **ret_job,
                        const char **ret_error, char **ret_sentence) {
        return joining_begin(((Manager *) userdata)->joining, token, caller, ret_job, ret_error, ret_sentence);
}

/* The mark is on disk: whatever happens now, the next start is that of a fresh node. */
static int begin_anew(Manager *manager) {
        int r = reset_mark(manager->conf->state_directory);
        if (r < 0)
                return r;
        log_notice("this node forgets its cluster and starts anew");
        manager->again = true;
        return sd_event_exit(manager->event, 0);
}

/* A node that leaves stays until the others can do without its vote: gone at once, the leader of two would leave one
 * behind that can never be elected. */
struct Leaving {
        Manager *manager;
        bool was_member;
        uint64_t answer_by_us;          /* the caller is kept waiting no longer */
        SubmitCallback callback;        /* NULL: was answered */
        void *userdata;
};

static void on_left(SubmitOutcome outcome, const Result *result, void *userdata) {
        Leaving *leaving = userdata;
        Manager *manager = leaving->manager;
        /* The others cut a removed node off, so that their answer may not come any more. */
        bool told = leaving->was_member && network_is_removed(&manager->network);
        bool left = told || (outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE);
        if (left && !manager->leaving) {
                leaving->answer_by_us = manager_now_us(manager) + LEAVE_ANSWER_US;
                manager->leaving = leaving;
                manager_wake(manager);
                return;
        }
        leaving->callback(outcome, result, leaving->userdata);
        free(leaving);
}

static bool has_seat(const Manager *manager) {
        RaftStatus status;
        history_status(manager->history, &status);
        return status.is_member && !manager->network.peers.file.removed;
}

static void answer_left(Leaving *leaving) {
        static const Result left = { .verdict = VERDICT_DONE };
        if (leaving->callback)
                leaving->callback(SUBMIT_COMMITTED, &left, leaving->userdata);
        leaving->callback = NULL;
}

void manager_leave_turn(Manager *manager, uint64_t now, uint64_t *wake_us) {
        Leaving *leaving = manager->leaving;
        if (!leaving || manager->again)
                return;
        bool seated = has_seat(manager);
        if (!seated || now >= leaving->answer_by_us)
                answer_left(leaving);
        else if (leaving->answer_by_us < *wake_us)
                *wake_us = leaving->answer_by_us;
        if (!seated && begin_anew(manager) < 0)
                log_error("this node has left its cluster and could not write that down: gpupoolctl cluster reset");
}

void manager_end_leave(Manager *manager) {
        if (manager->leaving)
                answer_left(manager->leaving);
        free(manager->leaving);
        manager->leaving = NULL;
}

static int service_leave(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata) {
        Manager *manager = userdata;
        Gpupool1__RemoveNode command = GPUPOOL1__REMOVE_NODE__INIT;
        Leaving *leaving = malloc(sizeof(*leaving));
        if (!leaving)
                return -ENOMEM;
        *leaving = (Leaving) { .manager = manager, .was_member = !network_is_removed(&manager->network),
                               .callback = callback, .userdata = callback_userdata };
        command.node = id_message_borrow(manager->node.bytes);
        entry->command_case = GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE;
        entry->remove_node = &command;
        int r = history_submit(manager->history, entry, on_left, leaving);
        if (r < 0)
                free(leaving);
        return r;
}

/* A VM that is proven dead may be forgotten, though its end is not reported: without a majority it never can be. */
static bool may_live(const Runner *runner) {
        ARRAY_EACH(run, &runner->runs)
                if (!run->ending || run->process != RUN_PROCESS_DEAD)
                        return true;
        return false;
}

static int service_reset(void *userdata, const Caller *caller, const char **ret_error, char **ret_sentence) {
        Manager *manager = userdata;
        if (may_live(&manager->runner)) {
                *ret_error = ERROR_IN_USE;
                return text_set(ret_sentence,
                                "VMs of the cluster run on this node: stop them first (gpupoolctl vm stop, or, where "
                                "no majority is left to decide it, virsh destroy)");
        }
        log_notice("user %s resets this node", caller->user);
        int r = begin_anew(manager);
        if (r >= 0)
                return 0;
        *ret_error = r == -ENOSPC ? ERROR_STORAGE_FULL : ERROR_FAILED;
        return text_printf(ret_sentence, "%s cannot be written: %s", manager->conf->state_directory, strerror(-r));
}

static int service_import(void *userdata, Entry *entry, const void *bytes, size_t size, SubmitCallback callback,
                          void *callback_userdata) {
        return backup_import(((Manager *) userdata)->history, entry, bytes, size, callback, callback_userdata);
}

static const char *service_stage(void *userdata, const Vm *vm) {
        Manager *manager = userdata;
        return stages_find(manager->network.facts, &manager->runner, &manager->node, vm, manager->stage);
}

const Service manager_service = {
        .world = service_world, .status = service_status, .jobs = service_jobs, .stage = service_stage,
        .submit = service_submit,
        .operate = service_operate, .try_drain = service_try_drain,
        .defragment = service_defragment, .stop_defragment = service_stop_defragment, .cancel_job = service_cancel_job,
        .check_xml = service_check_xml,
        .invite = service_invite, .join = service_join, .leave = service_leave, .reset = service_reset,
        .import = service_import,
};

void manager_end_checks(Manager *manager) {
        while (manager->checks)
                xml_check_end(manager->checks, ERROR_UNREACHABLE, "gpupoold is going down");
}
