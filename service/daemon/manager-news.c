/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the adapters tell the manager. */

#include <errno.h>

#include "core/domain-cpus.h"
#include "daemon/manager-private.h"
#include "util/log.h"

static void on_applied(uint64_t first_event, void *userdata) {
        Manager *manager = userdata;
        const Registry *registry = history_registry(manager->history);
        manager->moved_us = manager_now_us(manager);
        if (manager->bus)
                for (size_t i = 0; i < registry->events.n; i++)
                        if (registry->events.items[i].sequence >= first_event)
                                bus_emit_event(manager->bus, registry->events.items + i);
        manager_world_changed(manager);
}

static void on_history_changed(void *userdata) {
        manager_world_changed(userdata);
}

static void on_fault(const char *sentence, void *userdata) {
        Manager *manager = userdata;
        log_error("the registry has stopped: %s", sentence);
        manager->fault = history_is_too_old(manager->history) ? -ENOTSUP : -EIO;
        manager_wake(manager);
}

static void on_send(const RaftMessage *message, void *userdata) {
        network_send(&((Manager *) userdata)->network, message);
}

const HistoryCallbacks manager_history_callbacks = {
        .applied = on_applied, .changed = on_history_changed, .send = on_send, .fault = on_fault,
};

/* What was known before is not true for ever: libvirt or QEMU may be another one now. */
static void on_capabilities(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        Manager *manager = userdata;
        _cleanup_(text_list_clear) TextList models = {};
        _cleanup_free_ char *vendor = NULL;
        if (result != HYPERVISOR_CALL_OK && result != HYPERVISOR_CALL_FAILED)
                return;
        if (result == HYPERVISOR_CALL_FAILED)
                log_info("libvirt does not say which CPUs it can give: %s", reply->sentence);
        int r = reply->xml ? domain_cpus_read(reply->xml, strlen(reply->xml), &models, &vendor) : 0;
        manager_failed(manager, r);
        if (r < 0 || !local_facts_set_cpus(manager->facts, &models, &vendor))
                return;
        network_facts_changed(&manager->network);
        manager_world_changed(manager);
}

static void on_hypervisor_state(HypervisorState state, const char *detail, void *userdata) {
        Manager *manager = userdata;
        log_info("libvirt is %s%s%s", hypervisor_state_to_text(state), detail ? ": " : "", detail ? detail : "");
        manager->runner.hypervisor_usable = state == HYPERVISOR_CONNECTED;
        if (state != HYPERVISOR_CONNECTED)
                runner_hypervisor_lost(&manager->runner);
        if (state == HYPERVISOR_CONNECTED)
                manager_failed(manager, hypervisor_capabilities(manager->hypervisor, on_capabilities, manager));
        local_facts_set_hypervisor(manager->facts, state, hypervisor_version(manager->hypervisor));
        network_facts_changed(&manager->network);
        manager_world_changed(manager);
}

static EndCause end_cause_of(DomainEventKind kind, DomainEventCause cause) {
        if (kind == DOMAIN_EVENT_CRASHED)
                return END_CRASHED;
        switch (cause) {
        case DOMAIN_CAUSE_GUEST:
                return END_GUEST_SHUTDOWN;
        case DOMAIN_CAUSE_HOST:
                return END_DESTROYED;
        case DOMAIN_CAUSE_NONE:
        case DOMAIN_CAUSE_CRASHED:
        case DOMAIN_CAUSE_FAILED:
        case DOMAIN_CAUSE_ERROR:
                break;
        }
        return END_CRASHED;
}

static void on_domain_event(const VmId *vm, DomainEventKind kind, DomainEventCause cause, void *userdata) {
        Manager *manager = userdata;
        switch (kind) {
        case DOMAIN_EVENT_STOPPED:
        case DOMAIN_EVENT_CRASHED:
                manager_failed(manager, runner_domain_stopped(&manager->runner, vm, end_cause_of(kind, cause),
                                                              manager_now_us(manager)));
                break;
        case DOMAIN_EVENT_RESUMED:
                runner_domain_resumed(&manager->runner, vm, manager_now_us(manager));
                break;
        case DOMAIN_EVENT_STARTED:
                runner_domain_started(&manager->runner, vm);
                break;
        case DOMAIN_EVENT_SUSPENDED:
        case DOMAIN_EVENT_SHUTTING_DOWN:
                break;
        }
        manager_wake(manager);
}

static void on_domains_listed(HypervisorDomain *domains, size_t n, void *userdata) {
        Manager *manager = userdata;
        const Registry *registry = history_registry(manager->history);
        for (size_t i = 0; i < n; i++) {
                HypervisorDomain *domain = domains + i;
                /* Marked by another cluster: not ours to judge. */
                if (!ID_EQUAL(&domain->cluster, &registry->cluster)) {
                        log_warning("domain %s belongs to another cluster and is left alone", domain->name);
                        continue;
                }
                bool has_pidfd = domain->pidfd >= 0;
                if (has_pidfd)
                        manager_failed(manager, steps_adopt(manager->steps, &domain->vm, domain->epoch,
                                                           steal_fd(&domain->pidfd)));
                manager_failed(manager, runner_saw_domain(&manager->runner, &domain->vm, domain->epoch,
                                                         domain->state == DOMAIN_PAUSED, has_pidfd));
        }
        runner_listed_domains(&manager->runner, manager_now_us(manager));
        manager_wake(manager);
}

void manager_domains_listed(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        Manager *manager = userdata;
        manager->listing = false;
        if (result == HYPERVISOR_CALL_OK)
                on_domains_listed(reply->domains, reply->n_domains, manager);
        manager_wake(manager);
}

const HypervisorCallbacks manager_hypervisor_callbacks = {
        .state_changed = on_hypervisor_state, .domain_event = on_domain_event, .domains_listed = on_domains_listed,
};

void manager_guard_listed(GuardResult result, GuardEntry *entries, size_t n, void *userdata) {
        Manager *manager = userdata;
        manager->listing_guard = false;
        manager_wake(manager);
        if (result != GUARD_CALL_OK)
                return;
        for (size_t i = 0; i < n; i++) {
                GuardEntry *entry = entries + i;
                if (entry->alive && entry->pidfd >= 0)
                        manager_failed(manager,
                                      steps_adopt(manager->steps, &entry->vm, entry->epoch, steal_fd(&entry->pidfd)));
                manager_failed(manager, runner_guard_holds(&manager->runner, &entry->vm, entry->epoch, entry->alive,
                                                          manager_now_us(manager)));
        }
        runner_guard_listed(&manager->runner);
}

static void on_guard_connected(bool anew, void *userdata) {
        Manager *manager = userdata;
        log_info("the guard is connected%s", anew ? "" : " again");
        if (anew)
                runner_guard_anew(&manager->runner);
        manager->runner.guard_usable = true;
        local_facts_set_guard(manager->facts, true);
        network_facts_changed(&manager->network);
        manager->guard_not_before_us = 0;
        manager_world_changed(manager);
}

static void on_guard_disconnected(void *userdata) {
        Manager *manager = userdata;
        log_warning("the guard is not there: no VM is started, and those that run end unless it is back at once "
                    "(systemctl start gpupool-guard)");
        runner_guard_lost(&manager->runner);
        manager->listing_guard = false;
        local_facts_set_guard(manager->facts, false);
        network_facts_changed(&manager->network);
        manager_world_changed(manager);
}

static void on_vm_died(const VmId *vm, uint64_t epoch, void *userdata) {
        Manager *manager = userdata;
        manager_failed(manager, runner_process_died(&manager->runner, vm, epoch, manager_now_us(manager)));
        manager_wake(manager);
}

/* What came of it leases_turn() finds in the guard's state. */
static void on_lease_ended(void *userdata) {
        manager_wake(userdata);
}

const GuardCallbacks manager_guard_callbacks = {
        .connected = on_guard_connected, .disconnected = on_guard_disconnected, .vm_died = on_vm_died,
        .lease_ended = on_lease_ended,
};

void manager_device_event(const BusDeviceEvent *event, void *userdata) {
        Manager *manager = userdata;
        if (manager->bus)
                bus_emit_device_event(manager->bus, event);
}
