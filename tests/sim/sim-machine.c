/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-machine.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#define INSTALL_MS 2000U

/* ---- the disk's reports */

static void on_write_queued(void *userdata, const LogWrite *write) {
        SimMachine *machine = userdata;
        sim_judge_write_queued(machine->judge, machine, write);
}

static void on_write_durable(void *userdata, const LogFileVote *before, const LogWrite *write) {
        SimMachine *machine = userdata;
        sim_judge_write_durable(machine->judge, machine, before, write);
}

static void on_write_failed(void *userdata, const LogWrite *write, int error) {
        SimMachine *machine = userdata;
        sim_say(machine->time, "m%u cannot write: %s", machine->number, g_strerror(-error));
        sim_judge_write_failed(machine->judge, machine, write);
}

/* ---- birth */

static void take_identity(SimMachine *machine) {
        machine->identity++;
        /* Real ids use all 64 bits. */
        machine->id = UINT64_C(0xfedcba9800000000) | (uint64_t) machine->identity << 8 | (machine->number + 1);
        g_assert_cmpint(snprintf(machine->address, sizeof(machine->address), "machine-%u-%u", machine->number,
                                 machine->identity), >, 0);
}

static void on_restart(void *userdata) {
        sim_machine_up(userdata);
}

void sim_machine_init(SimMachine *machine, unsigned number, SimTime *time, SimNetwork *network, SimJudge *judge,
                      SimMachine *all, unsigned n_all, unsigned n_founders) {
        g_autofree char *path = g_strdup_printf("machine-%u", number);
        *machine = (SimMachine) {
                .time = time,
                .network = network,
                .judge = judge,
                .all = all,
                .n_all = n_all,
                .n_founders = n_founders,
                .number = number,
                .restart = { .ring = on_restart, .userdata = machine },
        };
        take_identity(machine);
        machine->disk = sim_disk_new(time, path, &(SimDiskWatch) {
                        .queued = on_write_queued,
                        .durable = on_write_durable,
                        .failed = on_write_failed,
                        .userdata = machine,
                });
}

void sim_machine_clear(SimMachine *machine) {
        sim_machine_down(machine, false, UINT64_MAX);
        sim_alarm_unset(machine->time, &machine->restart);
        machine->disk = sim_disk_free(machine->disk);
}

void sim_machine_renew(SimMachine *machine) {
        g_assert_null(machine->engine);
        sim_disk_wipe(machine->disk);
        take_identity(machine);
        sim_say(machine->time, "m%u is another machine now", machine->number);
}

/* ---- the engine's callbacks */

static int on_restore(void *userdata, uint64_t index, const void *data, size_t size) {
        SimMachine *machine = userdata;
        Registry *registry = NULL;

        int r = registry_decode(data, size, &registry);
        if (r != SNAPSHOT_GOOD)
                return -EBADMSG;
        registry_free(machine->registry);
        machine->registry = registry;
        sim_say(machine->time, "m%u restores the snapshot at %" PRIu64, machine->number, index);
        sim_judge_restored(machine->judge, machine, data, size);
        return 0;
}

static int on_apply(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size) {
        SimMachine *machine = userdata;
        _cleanup_(entry_freep) Entry *entry = NULL;
        Result result = {};

        sim_judge_applies(machine->judge, machine, index, term, data, size);
        if (entry_decode(data, size, &entry) != ENTRY_GOOD)
                return -EBADMSG;
        int r = registry_apply(machine->registry, index, entry, &result);
        result_clear(&result);
        if (r == 0)
                sim_judge_applied(machine->judge, machine, index);
        return r;
}

/* Voters as m1, standbys as s1, spares as p1. */
static const char *members_text(const SimMachine *machine, char text[static 64]) {
        RaftMember members[SIM_MACHINES_MAX];
        size_t n = raft_engine_get_members(machine->engine, members, SIM_MACHINES_MAX), used = 0;

        text[0] = '\0';
        for (size_t i = 0; i < n && i < SIM_MACHINES_MAX && used < 60; i++) {
                const SimMachine *member = sim_machine_by_id(machine, members[i].id);
                char letter = members[i].role == RAFT_MEMBER_VOTER ? 'm' : members[i].role == RAFT_MEMBER_STANDBY ?
                              's' : 'p';
                used += (size_t) snprintf(text + used, 64 - used, " %c%c", letter,
                                          member ? (char) ('0' + member->number) : '?');
        }
        return text;
}

static void on_changed(void *userdata) {
        SimMachine *machine = userdata;
        RaftStatus status = sim_machine_status(machine);
        SimMachine *leader = sim_machine_by_id(machine, status.leader_id);
        char members[64];

        sim_say(machine->time, "m%u term %" PRIu64 " %s%s, leader %c%u, members%s", machine->number, status.term,
                status.is_leader ? "leads" : "follows", status.is_ready ? " ready" : "", leader ? 'm' : '-',
                leader ? leader->number : 0, members_text(machine, members));
        if (machine->on_changed)
                machine->on_changed(machine->userdata, machine);
}

static void on_store_changed(void *userdata, int error) {
        SimMachine *machine = userdata;
        sim_say(machine->time, "m%u store: %s", machine->number, error < 0 ? g_strerror(-error) : "well");
}

static void on_send(void *userdata, const RaftMessage *message) {
        SimMachine *machine = userdata;
        SimMachine *to = sim_machine_by_id(machine, message->to);

        sim_judge_sends(machine->judge, machine, message);
        if (to && to != machine)
                sim_network_send(machine->network, machine->number, to->number, machine->address, message);
}

static void on_fault(void *userdata, const char *sentence) {
        SimMachine *machine = userdata;
        sim_broken(machine->time, "m%u stopped: %s", machine->number, sentence);
}

/* ---- up and down */

static RaftEngineConfig config_of(SimMachine *machine, RaftMember members[static SIM_MACHINES_MAX]) {
        RaftEngineConfig config = {
                .path = machine->disk->path,
                .id = machine->id,
                .address = machine->address,
                .cluster_id = { 0xcc },
                .members = members,
                .install_ms = INSTALL_MS,
                .trailing = machine->trailing,
                .random_seed = (unsigned) sim_random(machine->time),
                .callbacks = { on_restore, on_apply, on_changed, on_store_changed, on_send, on_fault },
                .userdata = machine,
        };
        if (machine->number >= machine->n_founders || machine->identity > 1)
                return config;
        config.n_members = machine->n_founders;
        for (unsigned i = 0; i < machine->n_founders; i++)
                members[i] = (RaftMember) { machine->all[i].id, machine->all[i].address, RAFT_MEMBER_VOTER };
        return config;
}

void sim_machine_up(SimMachine *machine) {
        RaftMember members[SIM_MACHINES_MAX];
        g_autofree char *sentence = NULL;

        if (machine->engine)
                return;
        machine->life++;
        sim_alarm_unset(machine->time, &machine->restart);
        sim_say(machine->time, "m%u up, term %" PRIu64 ", log to %" PRIu64, machine->number, machine->disk->vote.term,
                sim_disk_last_index(machine->disk));
        machine->loop = sim_loop_new(machine->time, sim_between(machine->time, SECOND, 3600 * SECOND),
                                     (int) sim_pick(machine->time, 2001) - 1000);
        g_assert_cmpint(registry_new(&machine->registry), ==, 0);
        sim_judge_starts(machine->judge, machine);
        RaftEngineConfig config = config_of(machine, members);
        int r = raft_engine_open(&config, machine->loop, &machine->engine, &sentence);
        if (r != LOG_FILE_OPENED && r != LOG_FILE_CREATED)
                g_error("m%u cannot open: %d %s", machine->number, r, sentence);
        r = raft_engine_start(machine->engine);
        if (r < 0)
                sim_broken(machine->time, "m%u cannot start: %s", machine->number, g_strerror(-r));
}

void sim_machine_down(SimMachine *machine, bool orderly, uint64_t back_us) {
        if (!machine->engine)
                return;
        sim_say(machine->time, "m%u down, %s", machine->number, orderly ? "orderly" : "power cut");
        if (!orderly)
                sim_disk_cut(machine->disk);
        machine->engine = raft_engine_free(machine->engine);
        machine->registry = registry_free(machine->registry);
        machine->loop = sd_event_unref(machine->loop);
        if (machine->on_down)
                machine->on_down(machine->userdata, machine);
        if (back_us < UINT64_MAX)
                sim_alarm_set(machine->time, &machine->restart, back_us);
}

/* ---- asking it */

bool sim_machine_responds(const SimMachine *machine) {
        return machine->engine && sim_loop_free_at(machine->loop) == machine->time->now_us;
}

SimMachine *sim_machine_by_id(const SimMachine *any, uint64_t id) {
        for (unsigned i = 0; i < any->n_all; i++)
                if (any->all[i].id == id)
                        return any->all + i;
        return NULL;
}

RaftStatus sim_machine_status(const SimMachine *machine) {
        RaftStatus status;
        raft_engine_get_status(machine->engine, &status);
        return status;
}

SimMachine *sim_machine_leader(const SimMachine *any) {
        SimMachine *leader = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < any->n_all; i++) {
                SimMachine *machine = any->all + i;
                if (!machine->engine)
                        continue;
                RaftStatus status = sim_machine_status(machine);
                if (!status.is_leader || status.term < term)
                        continue;
                leader = machine;
                term = status.term;
        }
        return leader;
}

void sim_machine_take_snapshot(SimMachine *machine) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;

        if (!sim_machine_responds(machine) || sim_machine_status(machine).applied_index == 0)
                return;
        uint64_t index = sim_machine_status(machine).applied_index;
        g_assert_cmpint(registry_encode(machine->registry, &bytes, &size), ==, 0);
        int r = raft_engine_take_snapshot(machine->engine, index, bytes, size);
        if (r < 0)
                sim_broken(machine->time, "m%u cannot take a snapshot: %s", machine->number, g_strerror(-r));
        if (r != RAFT_SNAPSHOT_TAKEN)
                return;
        sim_say(machine->time, "m%u takes a snapshot at %" PRIu64, machine->number, index);
        sim_judge_takes_snapshot(machine->judge, machine, bytes, size);
}
