/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager.h"

#include <errno.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "adapters/bus/bus.h"
#include "adapters/guard/guard-link.h"
#include "adapters/libvirt/hypervisor.h"
#include "core/domain-xml.h"
#include "core/names.h"
#include "daemon/history.h"
#include "daemon/leader.h"
#include "daemon/local-facts.h"
#include "daemon/member.h"
#include "daemon/node-id.h"
#include "daemon/operations.h"
#include "daemon/steps.h"
#include "util/log.h"

#define PROBE_INTERVAL_US 5000000U      /* how often an idle libvirt is asked whether it still answers */
#define ANNOUNCED_WITHIN_US 3000000U    /* a write and an election of one */
#define IDS_PER_START 100000U           /* job ids of one run of the service */
#define LIST_INTERVAL_US 500000U        /* a listing that leads to the next one, or fails, leaves libvirt some air */
#define PRIORITY_END SD_EVENT_PRIORITY_IMPORTANT        /* before the bus's own */

struct Manager {
        const Conf *conf;
        NodeId node;
        sd_event *event;
        sd_event_source *turn;          /* something changed */
        sd_event_source *timer;         /* something is due though nothing changed */
        sd_event_source *end;           /* the loop ends */
        History *history;
        LocalFacts *facts;
        Hypervisor *hypervisor;
        GuardLink *guard;
        Runner runner;
        Steps *steps;
        Leader leader;
        Member member;
        Operations *operations;
        Bus *bus;
        uint64_t started_us;
        bool name_taken;
        bool listing;                   /* libvirt is listing its domains */
        uint64_t list_not_before_us;
        World world;
        const NodeFacts *world_nodes[1];
        NodeId voters[1];
        struct XmlCheck *checks;        /* under way */
        int fault;
};

static uint64_t now_us(const Manager *manager) {
        uint64_t now = 0;
        (void) sd_event_now(manager->event, CLOCK_BOOTTIME, &now);
        return now;
}

static void wake(Manager *manager) {
        (void) sd_event_source_set_enabled(manager->turn, SD_EVENT_ONESHOT);
}

static void on_something(void *userdata) {
        wake(userdata);
}

/* What the bus shows is derived from the world: before any of it changes under the bus's feet, it is told. */
static void world_changed(Manager *manager) {
        if (manager->bus)
                bus_invalidate(manager->bus);
        wake(manager);
}

static void on_shown_changed(void *userdata) {
        world_changed(userdata);
}

static const World *look(Manager *manager) {
        manager->world_nodes[0] = local_facts_get(manager->facts);
        manager->world = (World) { .registry = history_registry(manager->history), .nodes = manager->world_nodes,
                                   .n_nodes = 1, .local = manager->node };
        return &manager->world;
}

/* ---- the turn */

static void out_of_memory(Manager *manager, int r) {
        if (r >= 0)
                return;
        log_error("a step could not be taken: %s", strerror(-r));
        if (r == -ENOMEM)
                manager->fault = r;
}

/* The bus name is the right to touch this host's VMs: a second gpupoold, on whatever state directory, knows none of
 * those that the guard holds, and would end them all before it found out that it is the second. */
static void take_steps(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        RunTask task;
        uint64_t due = UINT64_MAX;
        if (!manager->name_taken || !member_is_current(world))
                return;
        out_of_memory(manager, runner_follow(&manager->runner, world, local_facts_are_complete(manager->facts)));
        while (runner_next(&manager->runner, world, now, &task, &due))
                out_of_memory(manager, steps_begin(manager->steps, world, &task));
        /* What has just come to its end makes room for what comes after it. */
        out_of_memory(manager, runner_follow(&manager->runner, world, local_facts_are_complete(manager->facts)));
        steps_tidy(manager->steps);
        *wake_us = due < *wake_us ? due : *wake_us;
}

static void on_listed(HypervisorResult result, HypervisorReply *reply, void *userdata);

/* A new connection lists by itself; one that hung and answers again does not. */
static void list_again(Manager *manager, uint64_t now, uint64_t *wake_us) {
        Runner *runner = &manager->runner;
        if ((!runner->relist && runner->domains_known) || manager->listing || !runner->hypervisor_usable)
                return;
        if (now < manager->list_not_before_us) {
                *wake_us = manager->list_not_before_us < *wake_us ? manager->list_not_before_us : *wake_us;
                return;
        }
        manager->list_not_before_us = now + LIST_INTERVAL_US;
        manager->listing = hypervisor_list(manager->hypervisor, on_listed, manager) >= 0;
        runner->relist = !manager->listing;
}

/* The name is taken once there is a whole tree to show: the registry is read, the GPUs are known, and the registry
 * knows this boot. The last needs a write; where that cannot be (a full disk), what there is is shown after a while. */
static void show_up(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        if (manager->name_taken || !local_facts_are_complete(manager->facts))
                return;
        uint64_t patience_us = manager->started_us + ANNOUNCED_WITHIN_US;
        if (!member_is_current(world) && now < patience_us) {
                *wake_us = patience_us < *wake_us ? patience_us : *wake_us;
                return;
        }
        int r = bus_acquire_name(manager->bus);
        if (r < 0) {
                log_error("the bus name " BUS_NAME " cannot be had: %s",
                          r == -EEXIST ? "another gpupoold runs" : strerror(-r));
                manager->fault = r;
                return;
        }
        manager->name_taken = true;
        (void) sd_notify(false, "READY=1\nSTATUS=Serving");
        log_info("node %s of cluster %s is ready", manager->conf->node_name,
                 world->registry->name ? world->registry->name : "(not begun yet)");
}

static int on_turn(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;
        uint64_t now = now_us(manager), due = UINT64_MAX, other;
        const World *world = look(manager);

        out_of_memory(manager, member_turn(&manager->member, world, manager->conf->node_name, now, &other));
        due = other < due ? other : due;
        out_of_memory(manager, leader_turn(&manager->leader, world, now, &other));
        due = other < due ? other : due;
        show_up(manager, world, now, &due);
        take_steps(manager, world, now, &due);
        list_again(manager, now, &due);
        out_of_memory(manager, operations_follow(manager->operations, world, manager->leader.settled));

        (void) sd_event_source_set_time(manager->timer, due);
        (void) sd_event_source_set_enabled(manager->timer, SD_EVENT_ONESHOT);
        return manager->fault < 0 ? sd_event_exit(manager->event, manager->fault) : 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        wake(userdata);
        return 0;
}

/* ---- what the adapters tell */

static void on_applied(uint64_t first_event, void *userdata) {
        Manager *manager = userdata;
        const Registry *registry = history_registry(manager->history);
        if (manager->bus)
                for (size_t i = 0; i < registry->events.n; i++)
                        if (registry->events.items[i].sequence >= first_event)
                                bus_emit_event(manager->bus, registry->events.items + i);
        world_changed(manager);
}

static void on_history_changed(void *userdata) {
        world_changed(userdata);
}

static void on_fault(const char *sentence, void *userdata) {
        Manager *manager = userdata;
        log_error("the registry has stopped: %s", sentence);
        manager->fault = -EIO;
        wake(manager);
}

static const HistoryCallbacks history_callbacks = {
        .applied = on_applied, .changed = on_history_changed, .fault = on_fault,
};

static void on_hypervisor_state(HypervisorState state, const char *detail, void *userdata) {
        Manager *manager = userdata;
        log_info("libvirt is %s%s%s", hypervisor_state_to_text(state), detail ? ": " : "", detail ? detail : "");
        manager->runner.hypervisor_usable = state == HYPERVISOR_CONNECTED;
        if (state != HYPERVISOR_CONNECTED)
                runner_hypervisor_lost(&manager->runner);
        local_facts_set_hypervisor(manager->facts, state, hypervisor_version(manager->hypervisor));
        world_changed(manager);
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
                out_of_memory(manager,
                              runner_domain_stopped(&manager->runner, vm, end_cause_of(kind, cause), now_us(manager)));
                break;
        case DOMAIN_EVENT_RESUMED:
                runner_domain_resumed(&manager->runner, vm, now_us(manager));
                break;
        case DOMAIN_EVENT_STARTED:
                runner_domain_started(&manager->runner, vm);
                break;
        case DOMAIN_EVENT_SUSPENDED:
        case DOMAIN_EVENT_SHUTTING_DOWN:
                break;
        }
        wake(manager);
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
                        out_of_memory(manager, steps_adopt(manager->steps, &domain->vm, domain->epoch,
                                                           steal_fd(&domain->pidfd)));
                out_of_memory(manager, runner_saw_domain(&manager->runner, &domain->vm, domain->epoch,
                                                         domain->state == DOMAIN_PAUSED, has_pidfd));
        }
        runner_listed_domains(&manager->runner, now_us(manager));
        wake(manager);
}

static void on_listed(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        Manager *manager = userdata;
        manager->listing = false;
        if (result == HYPERVISOR_CALL_OK)
                on_domains_listed(reply->domains, reply->n_domains, manager);
        wake(manager);
}

static const HypervisorCallbacks hypervisor_callbacks = {
        .state_changed = on_hypervisor_state, .domain_event = on_domain_event, .domains_listed = on_domains_listed,
};

static void on_guard_listed(GuardResult result, GuardEntry *entries, size_t n, void *userdata) {
        Manager *manager = userdata;
        if (result != GUARD_CALL_OK)
                return;
        for (size_t i = 0; i < n; i++) {
                GuardEntry *entry = entries + i;
                if (entry->alive && entry->pidfd >= 0)
                        out_of_memory(manager,
                                      steps_adopt(manager->steps, &entry->vm, entry->epoch, steal_fd(&entry->pidfd)));
                out_of_memory(manager, runner_guard_holds(&manager->runner, &entry->vm, entry->epoch, entry->alive,
                                                          now_us(manager)));
        }
        runner_guard_listed(&manager->runner);
        wake(manager);
}

static void on_guard_connected(bool anew, void *userdata) {
        Manager *manager = userdata;
        log_info("the guard is connected%s", anew ? "" : " again");
        if (anew)
                runner_guard_anew(&manager->runner);
        manager->runner.guard_usable = true;
        local_facts_set_guard(manager->facts, true);
        out_of_memory(manager, guard_list(manager->guard, on_guard_listed, manager));
        world_changed(manager);
}

static void on_guard_disconnected(void *userdata) {
        Manager *manager = userdata;
        log_warning("the guard is not there: VMs that run go on, and no VM is started (systemctl start gpupool-guard)");
        runner_guard_lost(&manager->runner);
        local_facts_set_guard(manager->facts, false);
        world_changed(manager);
}

static void on_vm_died(const VmId *vm, uint64_t epoch, void *userdata) {
        Manager *manager = userdata;
        out_of_memory(manager, runner_process_died(&manager->runner, vm, epoch, now_us(manager)));
        wake(manager);
}

static const GuardCallbacks guard_callbacks = {
        .connected = on_guard_connected, .disconnected = on_guard_disconnected, .vm_died = on_vm_died,
};

static void on_device_event(const BusDeviceEvent *event, void *userdata) {
        Manager *manager = userdata;
        if (manager->bus)
                bus_emit_device_event(manager->bus, event);
}

/* ---- what the bus asks */

static const World *service_world(void *userdata) {
        return look(userdata);
}

static void service_status(void *userdata, ClusterStatus *ret) {
        Manager *manager = userdata;
        RaftStatus status;
        history_status(manager->history, &status);
        bool led = status.leader_id == node_id_to_raft(&manager->node);
        manager->voters[0] = manager->node;
        *ret = (ClusterStatus) { .quorate = led && status.is_ready, .voters = manager->voters, .n_voters = 1 };
        if (led)
                ret->leader = manager->node;
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

static int service_cancel_job(void *userdata, Entry *entry, const Job *job, SubmitCallback callback,
                              void *callback_userdata) {
        return operations_cancel(((Manager *) userdata)->operations, entry, job, callback, callback_userdata);
}

typedef struct XmlCheck {
        Manager *manager;
        struct XmlCheck *next;
        CheckXmlCallback callback;
        void *userdata;
} XmlCheck;

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
        _cleanup_free_ char *built = NULL;
        DomainBuild build = { .vm = { .bytes = { 1 } }, .cluster = history_registry(manager->history)->cluster,
                              .node = manager->node, .epoch = 1, .numa_node = -1 };
        int r = domain_xml_build(xml, strlen(xml), &build, &built);
        if (r < 0)
                return r;
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

static const Service service = {
        .world = service_world, .status = service_status, .jobs = service_jobs, .submit = service_submit,
        .operate = service_operate, .cancel_job = service_cancel_job, .check_xml = service_check_xml,
};

/* ---- birth and death */

static int refuse_id(const char *directory, const char *name, int r, char **reterr_sentence) {
        if (r == -EBADMSG)
                (void) text_printf(reterr_sentence, "%s/%s is damaged: restore it from a backup of this host",
                                   directory, name);
        else
                (void) text_printf(reterr_sentence, "%s/%s cannot be read: %s", directory, name, strerror(-r));
        return MANAGER_REFUSED;
}

/* The first start: draws an id, or goes on with that of a first start that was cut short. */
static int begin_id(Manager *manager, char **reterr_sentence) {
        const char *directory = manager->conf->state_directory;
        int r = node_id_read_new(directory, &manager->node);
        if (r == 0)
                return MANAGER_READY;
        if (r != -ENOENT)
                return refuse_id(directory, "node-id.new", r, reterr_sentence);
        r = history_refuse_leftover(directory, reterr_sentence);
        if (r != HISTORY_OPENED)
                return r < 0 ? r : MANAGER_REFUSED;
        r = node_id_create(directory, &manager->node);
        if (r == 0)
                return MANAGER_READY;
        (void) text_printf(reterr_sentence, "%s/node-id cannot be written: %s", directory, strerror(-r));
        return MANAGER_REFUSED;
}

static int read_or_begin_id(Manager *manager, bool *ret_fresh, char **reterr_sentence) {
        const char *directory = manager->conf->state_directory;
        int r = node_id_read(directory, &manager->node);
        *ret_fresh = r == -ENOENT;
        if (r == -ENOENT)
                return begin_id(manager, reterr_sentence);
        if (r < 0)
                return refuse_id(directory, "node-id", r, reterr_sentence);
        r = history_refuse_lost(directory, reterr_sentence);
        return r == HISTORY_REFUSED ? MANAGER_REFUSED : r;
}

static int open_history(Manager *manager, char **reterr_sentence) {
        bool fresh;
        int r = read_or_begin_id(manager, &fresh, reterr_sentence);
        if (r != MANAGER_READY)
                return r;
        HistoryConfig config = { .state_directory = manager->conf->state_directory, .node = manager->node,
                                 .call_timeout_us = manager->conf->call_timeout_us,
                                 .snapshot_entries = manager->conf->snapshot_entries };
        r = history_open(&manager->history, manager->event, &config, &history_callbacks, manager, reterr_sentence);
        if (r != HISTORY_OPENED)
                return r < 0 ? r : MANAGER_REFUSED;
        return fresh ? node_id_keep(config.state_directory) : MANAGER_READY;
}

static int start_event_loop(Manager *manager) {
        sigset_t signals;
        int r = sd_event_new(&manager->event);
        if (r < 0)
                return r;
        if (sigemptyset(&signals) < 0 || sigaddset(&signals, SIGTERM) < 0 || sigaddset(&signals, SIGINT) < 0 ||
            sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        r = sd_event_add_signal(manager->event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(manager->event, NULL, SIGINT, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_defer(manager->event, &manager->turn, on_turn, manager);
        if (r >= 0)
                r = sd_event_add_time(manager->event, &manager->timer, CLOCK_BOOTTIME, UINT64_MAX, 0, on_timer,
                                      manager);
        return r;
}

static int start_adapters(Manager *manager) {
        const Conf *conf = manager->conf;
        LocalFactsConfig facts = {.node = manager->node,
                                  .coalesce_us = conf->coalesce_us,
                                  .probe_socket = conf->probe_socket,
                                  .changed = on_shown_changed,
                                  .device_event = on_device_event,
                                  .userdata = manager};
        HypervisorConfig hypervisor = {.uri = conf->libvirt_uri,
                                       .query_timeout_us = conf->query_timeout_us,
                                       .start_timeout_us = conf->start_timeout_us,
                                       .stop_timeout_us = conf->stop_timeout_us,
                                       .probe_interval_us = PROBE_INTERVAL_US};
        int r = local_facts_new(&manager->facts, manager->event, &facts);
        if (r >= 0)
                r = hypervisor_new(&manager->hypervisor, manager->event, &hypervisor, &hypervisor_callbacks, manager);
        if (r >= 0)
                r = guard_link_new(&manager->guard, manager->event, conf->guard_socket, &guard_callbacks, manager);
        return r;
}

static int start_own(Manager *manager) {
        const Conf *conf = manager->conf;
        OperationsConfig operations = {.event = manager->event,
                                       .history = manager->history,
                                       .runner = &manager->runner,
                                       .jobs_per_user = conf->jobs_per_user,
                                       .linger_us = conf->job_linger_us,
                                       .changed = on_shown_changed,
                                       .userdata = manager};
        StepsConfig steps = { .event = manager->event, .runner = &manager->runner, .hypervisor = manager->hypervisor,
                              .guard = manager->guard, .history = manager->history, .node = manager->node,
                              .kill_timeout_us = conf->stop_timeout_us, .answered = on_something, .userdata = manager };
        manager->runner.shutdown_timeout_us = conf->shutdown_timeout_us;
        manager->leader = (Leader) { .event = manager->event, .history = manager->history, .decided = on_something,
                                     .userdata = manager };
        manager->member = (Member) { .event = manager->event, .history = manager->history, .decided = on_something,
                                     .userdata = manager };
        int r = operations_new(&manager->operations, &operations);
        if (r >= 0)
                r = steps_new(&manager->steps, &steps);
        return r;
}

static int start_bus(Manager *manager) {
        BusConfig config = { .questions_per_user = manager->conf->questions_per_user };
        int r = bus_new(&manager->bus, manager->event, &config, &service, manager);
        if (r < 0) {
                log_error("the system bus cannot be reached: %s", strerror(-r));
                return r;
        }
        operations_set_bus(manager->operations, manager->bus);
        return 0;
}

/* The bus closes its connection as soon as the loop ends; before that all that wait are answered. */
static int on_end(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;
        history_stop(manager->history);
        operations_set_bus(manager->operations, NULL);
        manager->bus = bus_free(manager->bus);
        return 0;
}

static int add_end(Manager *manager) {
        int r = sd_event_add_exit(manager->event, &manager->end, on_end, manager);
        return r < 0 ? r : sd_event_source_set_priority(manager->end, PRIORITY_END);
}

int manager_new(Manager **ret, const Conf *conf, char **reterr_sentence) {
        _cleanup_(manager_freep) Manager *manager = calloc(1, sizeof(*manager));
        if (!manager)
                return -ENOMEM;
        manager->conf = conf;
        int r = start_event_loop(manager);
        if (r < 0)
                return r;
        manager->started_us = now_us(manager);
        r = open_history(manager, reterr_sentence);
        if (r != MANAGER_READY)
                return r;
        r = start_adapters(manager);
        if (r >= 0)
                r = start_own(manager);
        if (r >= 0)
                r = start_bus(manager);
        if (r >= 0)
                r = history_start(manager->history);
        if (r >= 0)
                r = add_end(manager);
        if (r < 0)
                return r;
        operations_set_first_id(manager->operations, history_starts(manager->history) * IDS_PER_START + 1);
        *ret = STEAL(manager);
        return MANAGER_READY;
}

int manager_run(Manager *manager) {
        int r = sd_event_loop(manager->event);
        (void) sd_notify(false, "STOPPING=1");
        return r;
}

/* Requests are answered while the bus is still there to carry the answers; the adapters go while the steps that wait
 * for them are still there to be forgotten. */
Manager *manager_free(Manager *manager) {
        if (!manager)
                return NULL;
        if (manager->history)
                history_stop(manager->history);
        bus_free(manager->bus);
        manager->bus = NULL;
        hypervisor_free(manager->hypervisor);
        while (manager->checks)
                xml_check_end(manager->checks, ERROR_UNREACHABLE, "gpupoold is going down");
        guard_link_free(manager->guard);
        steps_free(manager->steps);
        operations_free(manager->operations);
        leader_clear(&manager->leader);
        member_clear(&manager->member);
        runner_clear(&manager->runner);
        local_facts_free(manager->facts);
        history_free(manager->history);
        sd_event_source_disable_unref(manager->end);
        sd_event_source_disable_unref(manager->turn);
        sd_event_source_disable_unref(manager->timer);
        sd_event_unref(manager->event);
        free(manager);
        return NULL;
}
