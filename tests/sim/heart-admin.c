/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What people ask of the cluster, on any node that is up, through what stands behind its bus. First they bring it
 * about: the first node begins a cluster, the others are admitted as an invitation would have it, VMs are defined. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/entry.h"
#include "heart.h"

#define FOUND_EVERY_US (100 * MS)

typedef struct HeartWrite {
        struct HeartWrite *next;
        HeartAdmin *admin;
        HeartHost *host;
        RequestId request;
} HeartWrite;

static const char xml[] =
        "<domain type='kvm'><name>x</name><memory unit='GiB'>8</memory><vcpu>4</vcpu><os><type arch='x86_64' "
        "machine='q35'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>";

static SimTime *time_of(const HeartAdmin *admin) {
        return &admin->heart->time;
}

static const Registry *truth_of(const HeartAdmin *admin) {
        return admin->heart->judge.truth;
}

/* ---- writing */

static void write_free(HeartWrite *write) {
        for (HeartWrite **at = &write->admin->writes; *at; at = &(*at)->next)
                if (*at == write) {
                        *at = write->next;
                        break;
                }
        write->admin->open--;
        g_free(write);
}

static void on_written(SubmitOutcome outcome, const Result *result, void *userdata) {
        HeartWrite *write = userdata;
        HeartJudge *judge = &write->admin->heart->judge;
        switch (outcome) {
        case SUBMIT_COMMITTED:
                if (result->verdict != VERDICT_DONE) {
                        judge->visits.writes_refused++;
                        break;
                }
                judge->visits.writes_done++;
                heart_judge_word(judge, &write->request);
                break;
        case SUBMIT_OUTCOME_UNKNOWN:
        case SUBMIT_STORAGE_WAITED_FOR:
                judge->visits.writes_unknown++;
                break;
        case SUBMIT_NO_QUORUM:
        case SUBMIT_STORAGE_FULL:
        case SUBMIT_STOPPING:
                judge->visits.writes_refused++;
                break;
        }
        write_free(write);
}

static HeartHost *any_host(HeartAdmin *admin) {
        Heart *heart = admin->heart;
        HeartHost *found = NULL;
        unsigned n = 0;
        for (unsigned i = 0; i < heart->n_hosts; i++)
                if (heart->hosts[i].bus && !heart->hosts[i].removed && heart_host_has_daemon(heart->hosts + i) &&
                    sim_pick(&heart->time, ++n) == 0)
                        found = heart->hosts + i;
        return found;
}

static void ask_of(HeartAdmin *admin, HeartHost *host, Gpupool1__Entry__CommandCase kind, void *command) {
        SimTime *time = time_of(admin);
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Gpupool1__Author author = GPUPOOL1__AUTHOR__INIT;
        uint64_t drawn[2] = { sim_random(time) };
        HeartWrite *write = g_new0(HeartWrite, 1);
        *write = (HeartWrite) { .next = admin->writes, .admin = admin, .host = host };
        drawn[1] = sim_random(time);
        memcpy(write->request.bytes, drawn, ID_SIZE);
        admin->writes = write;
        admin->open++;
        author.user = (char *) "root";
        author.action = (char *) ACTION_MANAGE_CLUSTER;
        entry.author = &author;
        entry.request_id = id_message_borrow(write->request.bytes);
        entry.command_case = kind;
        entry.init_cluster = command;   /* any of the union */
        if (heart_host_submit(host, &entry, on_written, write) < 0)
                write_free(write);
}

static void ask(HeartAdmin *admin, Gpupool1__Entry__CommandCase kind, void *command) {
        HeartHost *host = any_host(admin);
        if (host)
                ask_of(admin, host, kind, command);
}

/* All that waited there was answered when the daemon went. */
void heart_admin_daemon_gone(HeartAdmin *admin, HeartHost *host) {
        for (HeartWrite *next, *write = admin->writes; write; write = next) {
                next = write->next;
                if (write->host == host)
                        write_free(write);
        }
}

/* ---- the beginning */

static void invite_id(const HeartHost *host, unsigned kind, uint8_t *bytes, size_t size) {
        memset(bytes, (int) (0x10 * kind + host->number + 1), size);
}

static void admit(HeartAdmin *admin, HeartHost *host) {
        Gpupool1__CreateInvite invite = GPUPOOL1__CREATE_INVITE__INIT;
        Gpupool1__AdmitNode admission = GPUPOOL1__ADMIT_NODE__INIT;
        uint8_t id[ID_SIZE], hash[HASH_SIZE];
        char address[] = "10.0.0.1:7411", *addresses[] = { address };
        bool invited = false;
        invite_id(host, 1, id, sizeof(id));
        invite_id(host, 2, hash, sizeof(hash));
        ARRAY_EACH(known, &truth_of(admin)->invites)
                invited = invited || memcmp(known->id.bytes, id, ID_SIZE) == 0;
        if (!invited) {
                invite.invite = id_message_borrow(id);
                invite.secret_hash = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = hash };
                invite.expires_ms = UINT64_C(1900000000000);
                ask(admin, GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE, &invite);
                return;
        }
        address[7] = (char) ('1' + host->number);
        admission.invite = id_message_borrow(id);
        admission.secret_hash = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = hash };
        admission.node = id_message_borrow(host->id.bytes);
        admission.key = (ProtobufCBinaryData) { .len = PEER_KEY_SIZE, .data = host->key };
        admission.name = host->name;
        admission.addresses = addresses;
        admission.n_addresses = 1;
        admission.level = LEVEL_SUPPORTED;
        admission.witness = host->witness;
        admission.boot_id = (char *) "00000000-0000-4000-8000-000000000000";
        ask(admin, GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE, &admission);
}

static void create_pool(HeartAdmin *admin) {
        Gpupool1__CreatePool create = GPUPOOL1__CREATE_POOL__INIT;
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT, *rules[] = { &rule };
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        rule.vendor = (char *) "10de";
        rule.device = (char *) "*";
        rule.node = (char *) "*";
        policy.set_placement = true;
        policy.placement = sim_chance(time_of(admin), 50) ? GPUPOOL1__PLACEMENT_KIND__PLACEMENT_KIND_SPREAD
                                                          : GPUPOOL1__PLACEMENT_KIND__PLACEMENT_KIND_PACK;
        create.name = (char *) HEART_POOL;
        create.policy = &policy;
        create.rules = rules;
        create.n_rules = 1;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_CREATE_POOL, &create);
}

static void define_vm(HeartAdmin *admin, HeartVm *vm) {
        SimTime *time = time_of(admin);
        Gpupool1__DefineVm define = GPUPOOL1__DEFINE_VM__INIT;
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        requirement.pool = (char *) HEART_POOL;
        requirement.count = vm->count;
        policy.set_priority = true;
        policy.priority = (int32_t) sim_pick(time, 100);
        policy.set_restart = true;
        policy.restart = GPUPOOL1__RESTART_KIND__RESTART_KIND_ALWAYS;
        policy.set_preempt = policy.set_preemptible = true;
        policy.preempt = sim_chance(time, 50);
        policy.preemptible = sim_chance(time, 70);
        define.vm = id_message_borrow(vm->id.bytes);
        define.name = vm->name;
        define.xml = (char *) xml;
        define.requirement = &requirement;
        define.policy = &policy;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_DEFINE_VM, &define);
}

static void desire(HeartAdmin *admin, const VmId *vm, Gpupool1__DesireKind kind) {
        Gpupool1__SetDesired set = GPUPOOL1__SET_DESIRED__INIT;
        set.vm = id_message_borrow((uint8_t *) vm->bytes);
        set.desire = kind;
        set.timeout_ms = 4000;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_SET_DESIRED, &set);
}

static bool has_all_gpus(const HeartAdmin *admin) {
        const Pool *pool = registry_find_pool(truth_of(admin), HEART_POOL);
        unsigned n = 0;
        for (unsigned i = 0; i < admin->heart->n_founders; i++)
                n += admin->heart->hosts[i].witness ? 0 : admin->heart->hosts[i].n_gpus;
        return pool && pool->gpus.n >= n;
}

/* Whom this host's own start has announced. */
static bool has_announced(const HeartAdmin *admin, const HeartHost *host) {
        const NodeRecord *node = registry_find_node(truth_of(admin), &host->id);
        return node && text_equal(node->boot_id, host->boot_id) && (host->witness || node->lease_ms > 0);
}

/* One thing at a time; the next when it is seen in the history. True: all is there. */
bool heart_admin_found(HeartAdmin *admin) {
        Heart *heart = admin->heart;
        if (admin->open > 0)
                return false;
        for (unsigned i = 0; i < heart->n_founders; i++) {
                HeartHost *host = heart->hosts + i;
                if (i > 0 && !registry_find_node(truth_of(admin), &host->id)) {
                        admit(admin, host);
                        return false;
                }
                if (!host->exists) {
                        heart_host_begin(host, i > 0);
                        heart_host_power_on(host);
                }
                if (!has_announced(admin, host))
                        return false;
        }
        if (!registry_find_pool(truth_of(admin), HEART_POOL)) {
                create_pool(admin);
                return false;
        }
        if (!has_all_gpus(admin))
                return false;
        for (unsigned i = 0; i < heart->judge.n_vms; i++) {
                HeartVm *vm = heart->judge.vms + i;
                const Vm *known = registry_find_vm(truth_of(admin), &vm->id);
                if (!known)
                        define_vm(admin, vm);
                else if (!known->run)
                        desire(admin, &vm->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RUN);
                else
                        continue;
                return false;
        }
        return true;
}

/* ---- what they want then */

static HeartVm *any_vm(HeartAdmin *admin) {
        return admin->heart->judge.vms + sim_pick(time_of(admin), admin->heart->judge.n_vms);
}

static HeartHost *any_member(HeartAdmin *admin) {
        HeartHost *host = admin->heart->hosts + sim_pick(time_of(admin), admin->heart->n_hosts);
        return host->exists && !host->removed && registry_find_node(truth_of(admin), &host->id) ? host : NULL;
}

static void move_vm(HeartAdmin *admin) {
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;
        const HeartHost *to = any_member(admin);
        move.vm = id_message_borrow(any_vm(admin)->id.bytes);
        if (to && sim_chance(time_of(admin), 50))
                move.node = id_message_borrow((uint8_t *) to->id.bytes);
        move.shutdown = sim_chance(time_of(admin), 50);
        move.timeout_ms = 3000;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_MOVE_VM, &move);
}

static void drain_or_resume(HeartAdmin *admin) {
        Gpupool1__DrainNode drain = GPUPOOL1__DRAIN_NODE__INIT;
        Gpupool1__ResumeNode resume = GPUPOOL1__RESUME_NODE__INIT;
        const HeartHost *host = any_member(admin);
        unsigned drained = 0;
        ARRAY_EACH(node, &truth_of(admin)->nodes)
                drained += node->drain != DRAIN_NONE;
        /* Those that came back drained are resumed too. */
        ARRAY_EACH(node, &truth_of(admin)->nodes) {
                if (node->drain == DRAIN_NONE || (drained < 2 && sim_chance(time_of(admin), 60)))
                        continue;
                resume.node = id_message_borrow(node->id.bytes);
                resume.bring_home = sim_chance(time_of(admin), 50);
                ask(admin, GPUPOOL1__ENTRY__COMMAND_RESUME_NODE, &resume);
                return;
        }
        if (!host || drained > 0 || sim_chance(time_of(admin), 50))
                return;
        drain.node = id_message_borrow((uint8_t *) host->id.bytes);
        drain.timeout_ms = 3000;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE, &drain);
}

void heart_admin_freeze(HeartAdmin *admin, uint64_t ms) {
        Gpupool1__Freeze freeze = GPUPOOL1__FREEZE__INIT;
        Gpupool1__Thaw thaw = GPUPOOL1__THAW__INIT;
        freeze.duration_ms = ms;
        if (ms > 0)
                ask(admin, GPUPOOL1__ENTRY__COMMAND_FREEZE, &freeze);
        else
                ask(admin, GPUPOOL1__ENTRY__COMMAND_THAW, &thaw);
}

static void freeze_or_thaw(HeartAdmin *admin) {
        bool thaws = truth_of(admin)->frozen_ms > 0 && sim_chance(time_of(admin), 60);
        heart_admin_freeze(admin, thaws ? 0 : sim_between(time_of(admin), 3000, 40000));
}

/* An administrator vouches for what is true: that host is off. */
static void confirm_down(HeartAdmin *admin) {
        Gpupool1__LoseNode loss = GPUPOOL1__LOSE_NODE__INIT;
        HeartHost *host = any_member(admin);
        const NodeRecord *node = host && !host->on ? registry_find_node(truth_of(admin), &host->id) : NULL;
        if (!node || node->lost)
                return;
        loss.node = id_message_borrow(host->id.bytes);
        loss.incarnation = node->incarnation;
        loss.evidence = GPUPOOL1__LOSS_EVIDENCE__LOSS_EVIDENCE_CONFIRMED;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_LOSE_NODE, &loss);
}

static void set_policy(HeartAdmin *admin) {
        Gpupool1__SetVmPolicy set = GPUPOOL1__SET_VM_POLICY__INIT;
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        set.vm = id_message_borrow(any_vm(admin)->id.bytes);
        policy.set_priority = true;
        policy.priority = (int32_t) sim_pick(time_of(admin), 100);
        set.policy = &policy;
        ask(admin, GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY, &set);
}

/* Quarantined ones come back, sooner or later. */
static void quarantine_or_release(HeartAdmin *admin) {
        Gpupool1__QuarantineGpu quarantine = GPUPOOL1__QUARANTINE_GPU__INIT;
        Gpupool1__ReleaseGpu release = GPUPOOL1__RELEASE_GPU__INIT;
        Gpupool1__Gpu gpu = GPUPOOL1__GPU__INIT;
        const Pool *pool = registry_find_pool(truth_of(admin), HEART_POOL);
        bool releases = truth_of(admin)->quarantines.n > 0;
        if (!pool || pool->gpus.n == 0)
                return;
        const GpuIdentity *identity = releases ? &truth_of(admin)->quarantines.items[0].gpu
                                               : pool->gpus.items + sim_pick(time_of(admin), (unsigned) pool->gpus.n);
        gpu.node = id_message_borrow((uint8_t *) identity->node.bytes);
        gpu.slot = (char *) identity->slot;
        gpu.vendor = identity->vendor;
        gpu.device = identity->device;
        gpu.subsystem_vendor = identity->subsystem_vendor;
        gpu.subsystem_device = identity->subsystem_device;
        gpu.address = (char *) "0000:41:00.0";
        quarantine.gpu = release.gpu = &gpu;
        quarantine.sentence = (char *) "by hand";
        if (releases)
                ask(admin, GPUPOOL1__ENTRY__COMMAND_RELEASE_GPU, &release);
        else
                ask(admin, GPUPOOL1__ENTRY__COMMAND_QUARANTINE_GPU, &quarantine);
}

static bool has_vms(const HeartAdmin *admin, const NodeId *node) {
        ARRAY_EACH(vm, &truth_of(admin)->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node))
                        return true;
        return false;
}

static unsigned count_sound(const HeartAdmin *admin) {
        unsigned n = 0;
        for (unsigned i = 0; i < admin->heart->n_hosts; i++) {
                const HeartHost *host = admin->heart->hosts + i;
                n += host->exists && !host->removed && !host->ruined &&
                     registry_find_node(truth_of(admin), &host->id);
        }
        return n;
}

/* A new host comes, or one that is drained and empty goes. */
static void change_members(HeartAdmin *admin) {
        Heart *heart = admin->heart;
        Gpupool1__RemoveNode remove = GPUPOOL1__REMOVE_NODE__INIT;
        for (unsigned i = 0; i < heart->n_hosts; i++) {
                HeartHost *host = heart->hosts + i;
                if (!host->exists && registry_find_node(truth_of(admin), &host->id)) {
                        heart_host_begin(host, true);
                        heart_host_power_on(host);
                        return;
                }
                if (!host->exists) {
                        admit(admin, host);
                        return;
                }
        }
        HeartHost *host = any_member(admin);
        if (heart->n_hosts < HEART_HOSTS_MAX && sim_chance(time_of(admin), 40)) {
                heart_host_init(heart->hosts + heart->n_hosts, heart, heart->n_hosts);
                heart->n_hosts++;
                return;
        }
        if (!host || host->number == 0 || has_vms(admin, &host->id) || count_sound(admin) < (host->ruined ? 3 : 4))
                return;
        remove.node = id_message_borrow(host->id.bytes);
        ask(admin, GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE, &remove);
}

/* Whom the history says is removed does no more, when it knows. */
static void notice_removed(HeartAdmin *admin) {
        for (unsigned i = 0; i < admin->heart->n_hosts; i++) {
                HeartHost *host = admin->heart->hosts + i;
                if (host->exists && !host->removed && registry_find_removed(truth_of(admin), &host->id))
                        host->removed = true;
        }
}

static void on_next(void *userdata) {
        HeartAdmin *admin = userdata;
        SimTime *time = time_of(admin);
        if (!admin->heart->founded) {
                admin->heart->founded = heart_admin_found(admin);
                sim_alarm_set(time, &admin->next, time->now_us + FOUND_EVERY_US);
                return;
        }
        notice_removed(admin);
        sim_alarm_set(time, &admin->next, time->now_us + sim_between(time, 10 * MS, admin->pause_us));
        if (admin->is_calm)
                return;
        switch (sim_pick(time, 20)) {
        case 0 ... 3:
                desire(admin, &any_vm(admin)->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RUN);
                break;
        case 4:
                desire(admin, &any_vm(admin)->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_STOP);
                break;
        case 5:
                desire(admin, &any_vm(admin)->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_SHUTDOWN);
                break;
        case 6:
                desire(admin, &any_vm(admin)->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RESTART);
                break;
        case 7 ... 9:
                move_vm(admin);
                break;
        case 10 ... 11:
                drain_or_resume(admin);
                break;
        case 12:
                if (admin->freezes)
                        freeze_or_thaw(admin);
                break;
        case 13 ... 14:
                confirm_down(admin);
                break;
        case 15:
                quarantine_or_release(admin);
                break;
        case 16:
                if (admin->changes_members)
                        change_members(admin);
                break;
        default:
                set_policy(admin);
                break;
        }
}

/* What was left open is closed: VMs are to run again, nobody is drained, frozen or in quarantine. False: all is so. */
bool heart_admin_tidy(HeartAdmin *admin) {
        Gpupool1__ResumeNode resume = GPUPOOL1__RESUME_NODE__INIT;
        Gpupool1__Thaw thaw = GPUPOOL1__THAW__INIT;
        if (admin->open > 0)
                return true;
        if (truth_of(admin)->frozen_ms > 0) {
                ask(admin, GPUPOOL1__ENTRY__COMMAND_THAW, &thaw);
                return true;
        }
        if (truth_of(admin)->quarantines.n > 0) {
                quarantine_or_release(admin);
                return true;
        }
        ARRAY_EACH(node, &truth_of(admin)->nodes)
                if (node->drain != DRAIN_NONE) {
                        resume.node = id_message_borrow(node->id.bytes);
                        ask(admin, GPUPOOL1__ENTRY__COMMAND_RESUME_NODE, &resume);
                        return true;
                }
        ARRAY_EACH(vm, &truth_of(admin)->vms)
                if (!vm->run || vm->failed) {
                        desire(admin, &vm->id, GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RUN);
                        return true;
                }
        notice_removed(admin);
        return false;
}

void heart_admin_init(HeartAdmin *admin, Heart *heart) {
        *admin = (HeartAdmin) { .heart = heart, .next = { .ring = on_next, .userdata = admin } };
        admin->pause_us = sim_between(&heart->time, 200 * MS, 3 * SECOND);
        admin->freezes = sim_chance(&heart->time, 35);
        admin->changes_members = sim_chance(&heart->time, 35);
}

void heart_admin_start(HeartAdmin *admin) {
        sim_alarm_set(time_of(admin), &admin->next, time_of(admin)->now_us + FOUND_EVERY_US);
}

void heart_admin_calm(HeartAdmin *admin, bool calm) {
        admin->is_calm = calm;
}

void heart_admin_clear(HeartAdmin *admin) {
        sim_alarm_unset(time_of(admin), &admin->next);
        while (admin->writes)
                write_free(admin->writes);
}
