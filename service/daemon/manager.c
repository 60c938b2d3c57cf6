/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager.h"

#include <errno.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "core/mutant.h"
#include "core/names.h"
#include "daemon/manager-private.h"
#include "daemon/node-id.h"
#include "daemon/reset.h"
#include "util/log.h"
#include "util/wake.h"

#define PROBE_INTERVAL_US 5000000U      /* how often an idle libvirt is asked whether it still answers */
#define ANNOUNCED_WITHIN_US 3000000U    /* a write and an election of one */
#define IDS_PER_START 100000U           /* job ids of one run of the service */
#define LIST_INTERVAL_US 500000U        /* a listing that leads to the next one, or fails, leaves libvirt some air */
#define CATCH_UP_INTERVAL_US 200000U    /* between two questions whether this node knows the newest */
#define HAND_OVER_US 1000000U           /* a stop waits so long for another leader */
#define SETTLED_US 1500000U             /* the leader had time to try all that can be tried */
#define PRIORITY_END SD_EVENT_PRIORITY_IMPORTANT        /* before the bus's own */

uint64_t manager_now_us(const Manager *manager) {
        uint64_t now = 0;
        (void) sd_event_now(manager->event, CLOCK_BOOTTIME, &now);
        return now;
}

void manager_wake(Manager *manager) {
        (void) sd_event_source_set_enabled(manager->turn, SD_EVENT_ONESHOT);
}

static void on_something(void *userdata) {
        manager_wake(userdata);
}

/* What the bus shows is derived from the world: before any of it changes under the bus's feet, it is told. */
void manager_world_changed(Manager *manager) {
        if (manager->bus)
                bus_invalidate(manager->bus);
        manager_wake(manager);
}

static void on_shown_changed(void *userdata) {
        manager_world_changed(userdata);
}

/* Without memory for all of them the other nodes' facts are as they were. */
const World *manager_look(Manager *manager) {
        World *world = &manager->world;
        world->registry = history_registry(manager->history);
        world->local = manager->node;
        world->lives = manager->network.lives.all.items;
        world->n_lives = manager->network.lives.all.n;
        world->fenced = manager->fencing.shown.items;
        world->n_fenced = manager->fencing.shown.n;
        world->removed = network_is_removed(&manager->network);
        (void) cluster_facts_list(manager->network.facts, local_facts_get(manager->facts), &world->nodes,
                                  &world->n_nodes);
        return world;
}

/* ---- the turn */

void manager_failed(Manager *manager, int r) {
        if (r >= 0)
                return;
        log_error("a step could not be taken: %s", strerror(-r));
        if (r == -ENOMEM)
                manager->fault = r;
}

static void on_caught_up(bool confirmed, void *userdata) {
        Manager *manager = userdata;
        manager->catching_up = false;
        manager->caught_up = manager->caught_up || confirmed;
        manager->catch_up_not_before_us = manager_now_us(manager) + CATCH_UP_INTERVAL_US;
        manager_wake(manager);
}

/* What this node remembers may be old: a VM that the cluster gave it since would be a stranger, and be ended. */
static void catch_up(Manager *manager, uint64_t now, uint64_t *wake_us) {
        if (manager->caught_up || manager->catching_up)
                return;
        if (now >= manager->catch_up_not_before_us)
                manager->catching_up = history_confirm(manager->history, on_caught_up, manager) >= 0;
        if (manager->catching_up)
                return;
        if (now >= manager->catch_up_not_before_us)
                manager->catch_up_not_before_us = now + CATCH_UP_INTERVAL_US;
        wake_by(wake_us, manager->catch_up_not_before_us);
}

/* The bus name is the right to touch this host's VMs: a second gpupoold, on whatever state directory, knows none of
 * those that the guard holds, and would end them all before it found out that it is the second. */
static void take_steps(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        RunTask task;
        uint64_t due = UINT64_MAX;
        if (!manager->name_taken || (!manager->caught_up && !MUTANT(NO_CATCH_UP)) || !member_is_current(world))
                return;
        manager_failed(manager, runner_follow(&manager->runner, world, local_facts_are_complete(manager->facts)));
        while (runner_next(&manager->runner, world, now, &task, &due))
                manager_failed(manager, steps_begin(manager->steps, world, &task));
        /* What has just come to its end makes room for what comes after it. */
        manager_failed(manager, runner_follow(&manager->runner, world, local_facts_are_complete(manager->facts)));
        steps_tidy(manager->steps);
        wake_by(wake_us, due);
}

static void bind_gpus(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        uint64_t due = UINT64_MAX;
        if (!manager->runner.followed)
                return;
        int r = binder_turn(manager->binder, world, now, &due);
        manager_failed(manager, r);
        wake_by(wake_us, due);
        if (r <= 0)
                return;
        network_facts_changed(&manager->network);
        manager_world_changed(manager);
}

/* A list that the guard did not give in time is asked for again: without it no VM of this node begins or ends. */
static void list_guard_again(Manager *manager, uint64_t now, uint64_t *wake_us) {
        Runner *runner = &manager->runner;
        if (runner->guard_listed || manager->listing_guard || !runner->guard_usable)
                return;
        if (now < manager->guard_not_before_us) {
                wake_by(wake_us, manager->guard_not_before_us);
                return;
        }
        manager->guard_not_before_us = now + LIST_INTERVAL_US;
        manager->listing_guard = guard_list(manager->guard, manager_guard_listed, manager) >= 0;
        if (!manager->listing_guard)
                wake_by(wake_us, manager->guard_not_before_us);
}

/* A new connection lists by itself; one that hung and answers again does not. */
static void list_again(Manager *manager, uint64_t now, uint64_t *wake_us) {
        Runner *runner = &manager->runner;
        if ((!runner->relist && runner->domains_known) || manager->listing || !runner->hypervisor_usable)
                return;
        if (now < manager->list_not_before_us) {
                wake_by(wake_us, manager->list_not_before_us);
                return;
        }
        manager->list_not_before_us = now + LIST_INTERVAL_US;
        manager->listing = hypervisor_list(manager->hypervisor, manager_domains_listed, manager) >= 0;
        runner->relist = !manager->listing;
}

/* The name is taken once there is a whole tree to show: the registry is read, the GPUs are known, and the registry
 * knows this boot. The last needs a write; where that cannot be (a full disk), what there is is shown after a while. */
static void show_up(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        if (manager->name_taken || !local_facts_are_complete(manager->facts))
                return;
        uint64_t patience_us = manager->started_us + ANNOUNCED_WITHIN_US;
        if (!member_is_current(world) && now < patience_us) {
                wake_by(wake_us, patience_us);
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

/* Has all been tried that can be? On the leader that is known; elsewhere it shows by nothing happening. */
static bool is_settled(const Manager *manager, uint64_t now, uint64_t *wake_us) {
        Lead lead;
        history_lead(manager->history, &lead);
        if (lead.is_local)
                return manager->leader.settled;
        if (now < manager->moved_us + SETTLED_US)
                wake_by(wake_us, manager->moved_us + SETTLED_US);
        return lead.quorate && now >= manager->moved_us + SETTLED_US;
}

static void network_part(Manager *manager, uint64_t now, uint64_t *wake_us) {
        uint64_t due = UINT64_MAX;
        bool known = local_facts_are_complete(manager->facts);
        int r = network_turn(&manager->network, known ? local_facts_get(manager->facts) : NULL, now, &due);
        manager_failed(manager, r);
        wake_by(wake_us, due);
        if (r > 0)
                bus_invalidate(manager->bus);
        joining_turn(manager->joining);
}

/* Before all is known of this host it would take its addresses back, by which the others dial it. */
static void member_part(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        uint64_t due;
        if (!local_facts_are_complete(manager->facts))
                return;
        manager->member.caught_up = manager->caught_up;
        manager_failed(manager, member_turn(&manager->member, world, manager->conf->node_name, now, &due));
        wake_by(wake_us, due);
}

/* A leader that goes without a word costs the others an election. */
static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Manager *manager = userdata;
        if (manager->stop_by_us > 0 || !history_leads(manager->history) ||
            raft_engine_transfer(history_engine(manager->history), 0) != RAFT_SUBMIT_TAKEN)
                return sd_event_exit(manager->event, 0);
        log_info("handing the lead over before the stop");
        manager->stop_by_us = manager_now_us(manager) + HAND_OVER_US;
        manager_wake(manager);
        return 0;
}

static int stop_turn(Manager *manager, uint64_t now) {
        RaftStatus status;
        if (manager->stop_by_us == 0)
                return 0;
        history_status(manager->history, &status);
        return !status.is_leader || now >= manager->stop_by_us ? sd_event_exit(manager->event, 0) : 0;
}

/* Only the guard knows its watchdog, and only the engine whether the disk takes what it writes. */
static void follow_own_state(Manager *manager) {
        GuardState guard;
        RaftStatus engine;
        TextList missing = {};
        guard_get_state(manager->guard, &guard);
        history_status(manager->history, &engine);
        bool news = guard_link_is_connected(manager->guard) &&
                    local_facts_set_watchdog(manager->facts, guard.watchdog_us);
        news = local_facts_set_registry_stuck(manager->facts, engine.store_error < 0) || news;
        if (fencing_look_for_agents(&manager->fencing, history_registry(manager->history), manager_now_us(manager),
                                    &missing))
                news = local_facts_set_missing_agents(manager->facts, &missing) || news;
        if (!news)
                return;
        network_facts_changed(&manager->network);
        bus_invalidate(manager->bus);
}

/* Once this program knows all that was decided, and nothing of that is a VM of this node, or it has itself told the
 * others of this boot, then whatever runs here from now on it has started itself. */
static void note_idleness(Manager *manager, const World *world) {
        const NodeRecord *self = registry_find_node(world->registry, &manager->node);
        bool idle = manager->caught_up && self && registry_node_is_idle(world->registry, self);
        manager->runner.nothing_before = manager->runner.nothing_before || manager->member.began_boot || idle;
}

static void storage_part(Manager *manager, uint64_t now, uint64_t *wake_us) {
        uint64_t due = UINT64_MAX;
        if (!manager->storage)
                return;
        int r = storage_turn(manager->storage, history_registry(manager->history), manager->facts, now, &due);
        manager_failed(manager, r);
        wake_by(wake_us, due);
        if (r <= 0)
                return;
        network_facts_changed(&manager->network);
        bus_invalidate(manager->bus);
}

static void fencing_part(Manager *manager, const World *world, uint64_t now, uint64_t *wake_us) {
        uint64_t due = UINT64_MAX;
        manager_failed(manager, fencing_turn(&manager->fencing, world, &manager->leases.book, now, &due));
        wake_by(wake_us, due);
        int r = fencing_show(&manager->fencing, manager->network.facts);
        manager_failed(manager, r);
        (void) manager_look(manager);
        if (r > 0)
                bus_invalidate(manager->bus);
}

static int on_turn(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;
        uint64_t now = manager_now_us(manager), due = UINT64_MAX, other;

        follow_own_state(manager);
        storage_part(manager, now, &due);
        network_part(manager, now, &due);
        const World *world = manager_look(manager);
        note_idleness(manager, world);
        manager->leases.caught_up = manager->caught_up;
        manager_failed(manager, leases_turn(&manager->leases, world, &other));
        wake_by(&due, other);
        fencing_part(manager, world, now, &due);
        member_part(manager, world, now, &due);
        manager_failed(manager, leader_turn(&manager->leader, world, now, &other));
        wake_by(&due, other);
        if (manager->stop_by_us > 0)
                wake_by(&due, manager->stop_by_us);
        show_up(manager, world, now, &due);
        catch_up(manager, now, &due);
        take_steps(manager, world, now, &due);
        bind_gpus(manager, world, now, &due);
        int r = stages_tell(manager->network.facts, &manager->runner);
        manager_failed(manager, r);
        if (r > 0)
                bus_invalidate(manager->bus);
        list_again(manager, now, &due);
        list_guard_again(manager, now, &due);
        manager_leave_turn(manager, now, &due);
        manager_failed(manager, operations_follow(manager->operations, world, is_settled(manager, now, &due)));

        (void) sd_event_source_set_time(manager->timer, due);
        (void) sd_event_source_set_enabled(manager->timer, SD_EVENT_ONESHOT);
        if (manager->fault < 0)
                return sd_event_exit(manager->event, manager->fault);
        return stop_turn(manager, now);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        manager_wake(userdata);
        return 0;
}

/* ---- birth and death */

/* The registry is another one, of another cluster; this node has told it nothing yet. */
static void on_adopted(void *userdata) {
        Manager *manager = userdata;
        leader_clear(&manager->leader);
        manager->leader.proposing = manager->member.announcing = manager->caught_up = false;
        manager->leases.reporting_thaw = false;
        int r = history_adopt(manager->history, &manager->network.peers.file.cluster);
        if (r < 0) {
                log_error("the registry of the new cluster cannot be begun: %s", strerror(-r));
                manager->fault = r;
        }
        network_adopted(&manager->network);
        manager_world_changed(manager);
}

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
        int r = node_id_read(manager->conf->state_directory, &manager->node);
        *ret_fresh = r == -ENOENT;
        if (r == -ENOENT)
                return begin_id(manager, reterr_sentence);
        return r < 0 ? refuse_id(manager->conf->state_directory, "node-id", r, reterr_sentence) : MANAGER_READY;
}

static int finish_reset(const Conf *conf, char **reterr_sentence) {
        int r = reset_finish(conf->state_directory);
        if (r > 0)
                log_notice("what this node knew of its cluster is gone: it begins as a fresh one");
        if (r >= 0)
                return MANAGER_READY;
        (void) text_printf(reterr_sentence, "%s cannot be reset: %s", conf->state_directory, strerror(-r));
        return MANAGER_REFUSED;
}

static int open_network(Manager *manager, char **reterr_sentence) {
        NetworkConfig config = { .event = manager->event, .conf = manager->conf, .node = manager->node,
                                 .changed = on_shown_changed, .userdata = manager };
        int r = network_init(&manager->network, &config, reterr_sentence);
        return r == NETWORK_REFUSED ? MANAGER_REFUSED : r;
}

static int refuse_lost(const char *directory, char **reterr_sentence) {
        int r = history_refuse_lost(directory, reterr_sentence);
        if (r < 0)
                return r;
        return r == HISTORY_REFUSED ? MANAGER_REFUSED : MANAGER_READY;
}

static int open_history(Manager *manager, char **reterr_sentence) {
        bool fresh;
        int r = finish_reset(manager->conf, reterr_sentence);
        if (r == MANAGER_READY)
                r = read_or_begin_id(manager, &fresh, reterr_sentence);
        if (r == MANAGER_READY)
                r = open_network(manager, reterr_sentence);
        const PeersFile *file = &manager->network.peers.file;
        if (r == MANAGER_READY && !fresh && !file->joining)
                r = refuse_lost(manager->conf->state_directory, reterr_sentence);
        if (r != MANAGER_READY)
                return r;
        HistoryConfig config = { .state_directory = manager->conf->state_directory, .node = manager->node,
                                 .call_timeout_us = manager->conf->call_timeout_us,
                                 .fast = manager->conf->lease_fast,
                                 .snapshot_entries = manager->conf->snapshot_entries };
        if (file->joining) {
                config.cluster = file->cluster;
                r = history_finish_removal(config.state_directory);
                if (r < 0)
                        return r;
        }
        r = history_open(&manager->history, manager->event, &config, &manager_history_callbacks, manager,
                         reterr_sentence);
        if (r != HISTORY_OPENED)
                return r < 0 ? r : MANAGER_REFUSED;
        return fresh ? node_id_keep(config.state_directory) : MANAGER_READY;
}

/* A node that died between being admitted and throwing its old registry away does so now. */
static int start_history(Manager *manager) {
        const PeersFile *file = &manager->network.peers.file;
        int r = history_start(manager->history);
        if (r < 0)
                return r;
        /* By whose registry it was born as: of the old one, what it says may be lost already. */
        RaftStatus status;
        history_status(manager->history, &status);
        if (!file->joining || memcmp(status.cluster_id, file->cluster.bytes, ID_SIZE) == 0)
                return 0;
        return history_adopt(manager->history, &file->cluster);
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
        r = sd_event_add_signal(manager->event, NULL, SIGTERM, on_stop, manager);
        if (r >= 0)
                r = sd_event_add_signal(manager->event, NULL, SIGINT, on_stop, manager);
        if (r >= 0)
                r = sd_event_add_defer(manager->event, &manager->turn, on_turn, manager);
        if (r >= 0)
                r = sd_event_add_time(manager->event, &manager->timer, CLOCK_BOOTTIME, UINT64_MAX, 0, on_timer,
                                      manager);
        return r;
}

static void on_facts_changed(void *userdata) {
        Manager *manager = userdata;
        network_facts_changed(&manager->network);
        manager_world_changed(manager);
}

static int start_adapters(Manager *manager) {
        const Conf *conf = manager->conf;
        LocalFactsConfig facts = {.node = manager->node,
                                  .coalesce_us = conf->coalesce_us,
                                  .probe_socket = conf->probe_socket,
                                  .probe_timeout_us = conf->probe_timeout_us,
                                  .changed = on_facts_changed,
                                  .device_event = manager_device_event,
                                  .userdata = manager};
        HypervisorConfig hypervisor = {.uri = conf->libvirt_uri,
                                       .query_timeout_us = conf->query_timeout_us,
                                       .start_timeout_us = conf->start_timeout_us,
                                       .stop_timeout_us = conf->stop_timeout_us,
                                       .probe_interval_us = PROBE_INTERVAL_US};
        StorageConfig storage = { .event = manager->event, .changed = on_something, .userdata = manager };
        int r = local_facts_new(&manager->facts, manager->event, &facts);
        if (r >= 0 && !conf->witness)
                r = storage_new(&manager->storage, &storage);
        if (r >= 0)
                r = hypervisor_new(&manager->hypervisor, manager->event, &hypervisor, &manager_hypervisor_callbacks,
                                   manager);
        if (r >= 0)
                r = guard_link_new(&manager->guard, manager->event, conf->guard_socket, &manager_guard_callbacks,
                                   manager);
        return r;
}

static const char *own_boot_id(void *userdata) {
        return local_facts_get(((Manager *) userdata)->facts)->boot_id;
}

static const char *stage_of(const Vm *vm, void *userdata) {
        Manager *manager = userdata;
        return stages_find(manager->network.facts, &manager->runner, &manager->node, vm, manager->stage);
}

static int start_binder(Manager *manager) {
        BinderConfig config = { .event = manager->event, .runner = &manager->runner, .history = manager->history,
                                .facts = manager->facts, .socket = manager->conf->bind_socket,
                                .timeout_us = manager->conf->bind_timeout_us, .changed = on_something,
                                .userdata = manager };
        return binder_new(&manager->binder, &config);
}

static int start_joining(Manager *manager) {
        JoiningConfig config = { .event = manager->event, .key = manager->network.key, .history = manager->history,
                                 .peers = &manager->network.peers, .operations = manager->operations,
                                 .node = manager->node, .name = manager->conf->node_name,
                                 .addresses = &manager->network.addresses, .witness = manager->conf->witness,
                                 .boot_id = own_boot_id, .adopted = on_adopted, .userdata = manager };
        return joining_new(&manager->joining, &config);
}

static int start_own(Manager *manager) {
        const Conf *conf = manager->conf;
        OperationsConfig operations = {.event = manager->event,
                                       .history = manager->history,
                                       .stage = stage_of,
                                       .jobs_per_user = conf->jobs_per_user,
                                       .linger_us = conf->job_linger_us,
                                       .changed = on_shown_changed,
                                       .userdata = manager};
        StepsConfig steps = { .event = manager->event, .runner = &manager->runner, .hypervisor = manager->hypervisor,
                              .guard = manager->guard, .binder = manager->binder, .history = manager->history,
                              .node = manager->node,
                              .kill_timeout_us = conf->stop_timeout_us, .answered = on_something, .userdata = manager };
        manager->runner.shutdown_timeout_us = conf->shutdown_timeout_us;
        manager->runner.takes_over = true;
        LeasesConfig leases = { .history = manager->history, .guard = manager->guard,
                                .runner = &manager->runner, .node = manager->node, .times = conf->lease_times,
                                .witness = conf->witness, .changed = on_something, .userdata = manager };
        leases_init(&manager->leases, &leases);
        manager->network.leases = &manager->leases;
        FencingConfig fencing = { .event = manager->event, .history = manager->history,
                                  .directory = conf->fence_directory, .timeout_us = conf->fence_timeout_us,
                                  .changed = on_something, .userdata = manager };
        fencing_init(&manager->fencing, &fencing);
        manager->leader = (Leader) { .event = manager->event, .history = manager->history,
                                     .book = &manager->leases.book, .decided = on_something, .userdata = manager };
        manager->member = (Member) { .event = manager->event, .history = manager->history, .decided = on_something,
                                     .addresses = &manager->network.addresses, .witness = conf->witness,
                                     .leases = &manager->leases, .runner = &manager->runner,
                                     .key = peer_key_pin(manager->network.key), .userdata = manager };
        int r = operations_new(&manager->operations, &operations);
        if (r >= 0)
                r = steps_new(&manager->steps, &steps);
        if (r >= 0)
                r = start_joining(manager);
        return r;
}

/* A second gpupoold finds out before it speaks to the guard, which would take the lease of another node, or of another
 * cluster, for this host's. Where both start at once, show_up() finds out. */
static int start_bus(Manager *manager) {
        BusConfig config = { .questions_per_user = manager->conf->questions_per_user };
        int r = bus_new(&manager->bus, manager->event, &config, &manager_service, manager);
        int taken = r < 0 ? r : bus_name_is_taken(manager->bus);
        if (taken < 0) {
                log_error("the system bus cannot be reached: %s", strerror(-taken));
                return taken;
        }
        if (taken > 0) {
                log_error("the bus name " BUS_NAME " cannot be had: another gpupoold runs");
                return -EEXIST;
        }
        operations_set_bus(manager->operations, manager->bus);
        return 0;
}

/* The bus closes its connection as soon as the loop ends; before that all that wait are answered. */
static int on_end(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;
        history_stop(manager->history);
        manager_end_leave(manager);
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
        manager->started_us = manager_now_us(manager);
        r = open_history(manager, reterr_sentence);
        if (r != MANAGER_READY)
                return r;
        r = start_adapters(manager);
        if (r >= 0)
                r = start_binder(manager);
        if (r >= 0)
                r = start_own(manager);
        if (r >= 0)
                r = network_start(&manager->network, manager->history);
        if (r >= 0)
                r = start_bus(manager);
        if (r >= 0)
                r = start_history(manager);
        if (r == -ENOTSUP && history_is_too_old(manager->history)) {
                r = text_set(reterr_sentence, HISTORY_TOO_OLD);
                return r < 0 ? r : MANAGER_REFUSED;
        }
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
        if (r >= 0 && manager->again)
                return MANAGER_AGAIN;
        (void) sd_notify(false, "STOPPING=1");
        return r < 0 ? r : MANAGER_ENDED;
}

/* Requests are answered while the bus is still there to carry the answers; the adapters go while the steps that wait
 * for them are still there to be forgotten. */
Manager *manager_free(Manager *manager) {
        if (!manager)
                return NULL;
        if (manager->history)
                history_stop(manager->history);
        manager_end_leave(manager);
        bus_free(manager->bus);
        manager->bus = NULL;
        hypervisor_free(manager->hypervisor);
        manager_end_checks(manager);
        guard_link_free(manager->guard);
        binder_free(manager->binder);
        steps_free(manager->steps);
        joining_free(manager->joining);
        network_clear(&manager->network);
        operations_free(manager->operations);
        leader_clear(&manager->leader);
        leases_clear(&manager->leases);
        fencing_clear(&manager->fencing);
        member_clear(&manager->member);
        runner_clear(&manager->runner);
        storage_free(manager->storage);
        local_facts_free(manager->facts);
        history_free(manager->history);
        array_clear(&manager->voters);
        sd_event_source_disable_unref(manager->end);
        sd_event_source_disable_unref(manager->turn);
        sd_event_source_disable_unref(manager->timer);
        sd_event_unref(manager->event);
        free(manager);
        return NULL;
}
