/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is true, told by nobody in the cluster, and what must hold of it at every step.
 *
 *  P1  No VM's vCPUs run in two processes; nor in one that is not the assignment of this moment, by the history as it
 *      was committed. An assignment only ends when its vCPUs run no more; by its node's own word, when the process is
 *      over. What a host does in the first moments after it stood still is counted, not held against anybody (design,
 *      5.10).
 *  P2  No GPU is in two processes.
 *  P3  An index of the history is the same entry with the same verdict everywhere, for ever, and what was answered
 *      "done" is in it.
 *  P4, P5  heart_judge_missing(): what should run, could, and does not.
 *
 * A start that comes true when the gpupoold that asked for it is gone is nobody's word broken: it is paused, libvirt
 * keeps its GPUs from others, and it is ended when it is found.
 *
 * No vCPU runs before the guard holds the process (design, 5.3). A node that was lost comes back when all it ran is
 * over. When a leader decides a loss by time, nothing runs there already. */

#include <inttypes.h>
#include <string.h>

#include "core/vm-reason.h"
#include "heart.h"

#define WINDOW_US (60 * MS)             /* a host that goes on may run its VMs so long before its guard is scheduled */

typedef struct Condemned {              /* of an entry that is on its way: LoseNode by lease */
        uint8_t request[ID_SIZE];
        bool ran;                       /* something ran there when it was decided */
        char what[64];
} Condemned;

static SimTime *time_of(const HeartJudge *judge) {
        return &judge->heart->time;
}

void heart_judge_init(HeartJudge *judge, Heart *heart) {
        *judge = (HeartJudge) { .heart = heart };
        g_assert_cmpint(registry_new(&judge->truth), ==, 0);
        judge->condemned = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
}

void heart_judge_clear(HeartJudge *judge) {
        registry_free(judge->truth);
        heart_echo_clear(judge);
        array_clear(&judge->facts);
        array_clear(&judge->words);
        if (judge->condemned)
                g_hash_table_destroy(judge->condemned);
}

HeartVm *heart_judge_vm(HeartJudge *judge, const VmId *vm) {
        g_assert_cmpuint(vm->bytes[15], >, 0);
        g_assert_cmpuint(vm->bytes[15], <=, HEART_VMS_MAX);
        return judge->vms + vm->bytes[15] - 1;
}

/* ---- processes */

/* Does a documented window allow that it runs just now? */
static bool is_in_window(const HeartJudge *judge, const Qemu *qemu) {
        const HeartHost *host = qemu->host;
        uint64_t now = judge->heart->time.now_us;
        return (host->thawed_us > 0 && now <= host->thawed_us + WINDOW_US + judge->heart->times.kill_us) ||
               now <= host->blind_until_us;
}

bool heart_judge_is_assigned(const HeartJudge *judge, const VmId *id, uint64_t epoch, const HeartHost *host) {
        const Vm *vm = registry_find_vm(judge->truth, id);
        return vm && vm->assignment.phase != ASSIGNMENT_NONE && vm->epoch == epoch &&
               ID_EQUAL(&vm->assignment.node, &host->id);
}

static bool is_assigned(const HeartJudge *judge, const Qemu *qemu) {
        return heart_judge_is_assigned(judge, &qemu->vm, qemu->epoch, qemu->host);
}

static void begins_to_run(HeartJudge *judge, Qemu *qemu) {
        HeartVm *vm = heart_judge_vm(judge, &qemu->vm);
        const Qemu *other = vm->runs;
        if (!qemu->begun_us && !heart_guard_holds(&qemu->host->guard, qemu) && qemu->host->guard.loop)
                sim_broken(time_of(judge), "P1: %s runs on %s, and the guard there does not hold it", vm->name,
                           qemu->host->name);
        qemu->begun_us = time_of(judge)->now_us;
        if ((other || !is_assigned(judge, qemu)) && is_in_window(judge, qemu)) {
                qemu->in_window = true;
                judge->n_windows++;
                judge->visits.windows++;
                return;
        }
        if (other && is_in_window(judge, other)) {
                vm->runs->in_window = true;
                judge->n_windows++;
                judge->visits.windows++;
        } else if (other)
                sim_broken(time_of(judge), "P1: %s runs on %s (epoch %" PRIu64 ") and on %s (epoch %" PRIu64 ")",
                           vm->name, other->host->name, other->epoch, qemu->host->name, qemu->epoch);
        if (!is_assigned(judge, qemu))
                sim_broken(time_of(judge), "P1: %s runs on %s in epoch %" PRIu64 ", which is not its assignment",
                           vm->name, qemu->host->name, qemu->epoch);
        judge->visits.starts++;
        vm->runs = qemu;
        vm->started_us = time_of(judge)->now_us;
        heart_say(judge->heart, "%s: %s runs, epoch %" PRIu64, qemu->host->name, vm->name, qemu->epoch);
        if (vm->failed && vm->failed != qemu->host)
                judge->visits.failovers++;
        vm->failed = NULL;
}

static void ends_running(HeartJudge *judge, Qemu *qemu) {
        HeartVm *vm = heart_judge_vm(judge, &qemu->vm);
        judge->n_windows -= qemu->in_window;
        qemu->in_window = false;
        if (vm->runs == qemu)
                vm->runs = NULL;
}

void heart_judge_qemu(HeartJudge *judge, Qemu *qemu) {
        const HeartHost *host = qemu->host;
        bool runs = host->on && !heart_host_is_frozen(host) && !qemu->paused && !qemu->stopped && !qemu->halted &&
                    !qemu->gone;
        if (runs == qemu->runs)
                return;
        qemu->runs = runs;
        if (runs)
                begins_to_run(judge, qemu);
        else
                ends_running(judge, qemu);
}

void heart_judge_new_qemu(HeartJudge *judge, Qemu *qemu) {
        for (const Qemu *other = qemu->next; other; other = other->next)
                for (unsigned i = 0; !other->gone && i < other->n_gpus; i++)
                        for (unsigned j = 0; j < qemu->n_gpus; j++)
                                if (other->gpus[i] == qemu->gpus[j] && is_assigned(judge, other))
                                        sim_broken(time_of(judge), "P2: GPU %u of %s is in %s and in %s",
                                                   qemu->gpus[j], qemu->host->name,
                                                   heart_judge_vm(judge, &other->vm)->name,
                                                   heart_judge_vm(judge, &qemu->vm)->name);
}

/* After each step: a window does not last. */
static void look_at_windows(HeartJudge *judge) {
        for (unsigned i = 0; i < judge->heart->n_hosts; i++)
                for (Qemu *qemu = judge->heart->hosts[i].qemus; qemu; qemu = qemu->next) {
                        if (!qemu->in_window || !qemu->runs || is_in_window(judge, qemu))
                                continue;
                        const HeartVm *vm = heart_judge_vm(judge, &qemu->vm);
                        if (is_assigned(judge, qemu) && (!vm->runs || vm->runs == qemu))
                                continue;
                        sim_broken(time_of(judge), "P1: %s still runs on %s in epoch %" PRIu64
                                   ", long after that host went on", vm->name, qemu->host->name, qemu->epoch);
                }
}

/* ---- the history */

/* What runs on @node in this incarnation; NULL: nothing. */
static const char *what_runs(HeartJudge *judge, const NodeId *node, uint64_t incarnation) {
        HeartHost *host = heart_host_by_id(judge->heart, node);
        for (Qemu *qemu = host ? host->qemus : NULL; qemu; qemu = qemu->next) {
                const Vm *vm = registry_find_vm(judge->truth, &qemu->vm);
                if (qemu->runs && !qemu->in_window && is_assigned(judge, qemu) &&
                    vm->assignment.incarnation == incarnation && !is_in_window(judge, qemu))
                        return vm->name;
        }
        return NULL;
}

static void stall_all(HeartJudge *judge, uint64_t us) {
        for (unsigned i = 0; i < judge->heart->n_hosts; i++)
                judge->heart->hosts[i].disk->stalled_until_us = time_of(judge)->now_us + us;
}

/* What is on its way stays on its way for a while. */
static void stall_on_word(HeartJudge *judge, const LogEntry *logged) {
        Entry *entry = NULL;
        Heart *heart = judge->heart;
        if ((!judge->stalls && !judge->begins_anew && !judge->blinks) || logged->type != LOG_ENTRY_COMMAND ||
            entry_decode(logged->data, logged->size, &entry) != ENTRY_GOOD)
                return;
        if (judge->stalls && entry->command_case == GPUPOOL1__ENTRY__COMMAND_ASSIGN) {
                heart_say(heart, "all disks hang, with an assignment on its way");
                judge->stalls = false;
                stall_all(judge, heart->call_timeout_us + 3 * SECOND);
        }
        if (judge->begins_anew && entry->command_case == GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED &&
            entry->report_ended->cause == GPUPOOL1__END_CAUSE__END_CAUSE_START_FAILED && heart->victim &&
            memcmp(entry->report_ended->node.data, heart->victim->id.bytes, ID_SIZE) == 0) {
                heart_say(heart, "all disks but that of %s hang, with its report of an end on its way",
                          heart->victim->name);
                judge->begins_anew = false;
                stall_all(judge, 4 * SECOND);
                heart->victim->disk->stalled_until_us = 0;
                sim_alarm_set(time_of(judge), &heart->stop, time_of(judge)->now_us + MS);
        }
        if (judge->blinks && entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE && heart->victim &&
            memcmp(entry->lose_node->node.data, heart->victim->id.bytes, ID_SIZE) == 0) {
                judge->blinks = false;
                sim_alarm_set(time_of(judge), &heart->stop, time_of(judge)->now_us);
        }
        entry_free(entry);
}

static const Entry *decode_loss(const LogEntry *logged, Entry **ret) {
        if (logged->type != LOG_ENTRY_COMMAND || entry_decode(logged->data, logged->size, ret) != ENTRY_GOOD)
                return NULL;
        const Entry *entry = *ret;
        return entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE &&
                               entry->lose_node->evidence == GPUPOOL1__LOSS_EVIDENCE__LOSS_EVIDENCE_LEASE &&
                               entry->request_id.len == ID_SIZE
                       ? entry
                       : NULL;
}

/* Held against the history when this entry has its place in it: then it was a leader who decided it, now. */
void heart_judge_queued(HeartJudge *judge, const LogWrite *write) {
        for (size_t i = 0; i < write->n_entries; i++) {
                Entry *decoded = NULL;
                stall_on_word(judge, write->entries[i]);
                const Entry *entry = decode_loss(write->entries[i], &decoded);
                if (entry) {
                        void *key = (void *) (uintptr_t) (write->first_index + i);
                        Condemned *known = g_hash_table_lookup(judge->condemned, key);
                        NodeId node;
                        memcpy(node.bytes, entry->lose_node->node.data, ID_SIZE);
                        if (!known || memcmp(known->request, entry->request_id.data, ID_SIZE) != 0) {
                                const char *ran = what_runs(judge, &node, entry->lose_node->incarnation);
                                known = g_new0(Condemned, 1);
                                memcpy(known->request, entry->request_id.data, ID_SIZE);
                                known->ran = ran != NULL;
                                g_strlcpy(known->what, ran ? ran : "", sizeof(known->what));
                                g_hash_table_insert(judge->condemned, key, known);
                        }
                }
                if (decoded)
                        entry_free(decoded);
        }
}

typedef struct Before {
        AssignmentPhase phase;
        NodeId node;
        uint64_t epoch;
} Before;

static void note_before(const HeartJudge *judge, Before before[static HEART_VMS_MAX]) {
        for (unsigned i = 0; i < judge->n_vms; i++) {
                const Vm *vm = registry_find_vm(judge->truth, &judge->vms[i].id);
                before[i] = vm ? (Before) { vm->assignment.phase, vm->assignment.node, vm->epoch } : (Before) {};
        }
}

static bool assignment_ended(const HeartJudge *judge, const HeartVm *known, const Before *before) {
        const Vm *vm = registry_find_vm(judge->truth, &known->id);
        return before->phase != ASSIGNMENT_NONE &&
               (!vm || vm->assignment.phase == ASSIGNMENT_NONE || vm->epoch != before->epoch ||
                !ID_EQUAL(&vm->assignment.node, &before->node));
}

static void check_end(HeartJudge *judge, HeartVm *known, const Before *before, const Entry *entry) {
        HeartHost *host = heart_host_by_id(judge->heart, &before->node);
        const Qemu *qemu = host ? qemu_find(host, &known->id, before->epoch) : NULL;
        bool by_word = entry->command_case == GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED;
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE)
                known->failed = host;
        if (!qemu)
                return;
        if (qemu->runs && !is_in_window(judge, qemu))
                sim_broken(time_of(judge), "P1: the assignment of %s to %s, epoch %" PRIu64 ", ends, and it runs there",
                           known->name, host->name, before->epoch);
        else if (by_word && !(qemu->is_orphan && qemu->begun_us == 0))
                sim_broken(time_of(judge), "P2: %s is said to have ended on %s, epoch %" PRIu64
                           ", and its process is there still", known->name, host->name, before->epoch);
}

static void check_return(HeartJudge *judge, const Entry *entry, const NodeRecord *before) {
        NodeId node;
        memcpy(node.bytes, entry->announce_node->node.data, ID_SIZE);
        HeartHost *host = heart_host_by_id(judge->heart, &node);
        const NodeRecord *after = registry_find_node(judge->truth, &node);
        if (!before || !after || !host || after->incarnation == before->incarnation)
                return;
        judge->visits.returns += before->lost;
        for (const Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                if (!qemu->gone && qemu->begun_us > 0)
                        sim_broken(time_of(judge), "P1: %s takes a new incarnation while a process of %s is there",
                                   host->name, heart_judge_vm(judge, &qemu->vm)->name);
}

static void check_loss(HeartJudge *judge, uint64_t index, const Entry *entry) {
        const Condemned *known = g_hash_table_lookup(judge->condemned, (void *) (uintptr_t) index);
        judge->visits.losses++;
        if (known && known->ran && memcmp(known->request, entry->request_id.data, ID_SIZE) == 0)
                sim_broken(time_of(judge), "P1: when the loss of a node was decided for its lease had run out, %s "
                           "still ran there", known->what);
}

static void count(HeartJudge *judge, const Entry *entry) {
        HeartVisits *visits = &judge->visits;
        visits->entries++;
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_FREEZE)
                visits->freezes++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_THAW)
                visits->thaws++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE)
                visits->drains++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_MOVE_VM)
                entry->move_vm->preemptor.len > 0 ? visits->preemptions++ : visits->conductor_moves++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE)
                visits->removed++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE)
                visits->rejoined++;
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE)
                visits->confirmed += entry->lose_node->evidence != GPUPOOL1__LOSS_EVIDENCE__LOSS_EVIDENCE_LEASE;
}

/* Applied for the first time anywhere: so it was committed just now. */
static void apply_truth(HeartJudge *judge, uint64_t index, const Entry *entry) {
        Before before[HEART_VMS_MAX];
        Result result = {};
        NodeRecord node = {};
        const NodeRecord *known = NULL;
        note_before(judge, before);
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE) {
                NodeId id;
                memcpy(id.bytes, entry->announce_node->node.data, ID_SIZE);
                known = registry_find_node(judge->truth, &id);
                if (known)
                        node = *known;
        }
        bool loses = entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE;
        g_assert_cmpint(registry_apply(judge->truth, index, entry, &result), ==, 0);
        bool done = result.verdict == VERDICT_DONE;
        if (result.verdict != VERDICT_DONE && judge->heart->options.told > 0)
                heart_say(judge->heart, "entry %" PRIu64 " (%d) is refused: %s", index, (int) entry->command_case,
                          result.sentence ? result.sentence : "");
        result_clear(&result);
        if (done && loses)
                check_loss(judge, index, entry);
        for (unsigned i = 0; i < judge->n_vms; i++)
                if (assignment_ended(judge, judge->vms + i, before + i))
                        check_end(judge, judge->vms + i, before + i, entry);
        if (done && known)
                check_return(judge, entry, &node);
        if (done)
                count(judge, entry);
        if (done)
                heart_echo_note(judge, entry);
}

static HeartFact fact_of(const Entry *entry, const Result *result) {
        HeartFact fact = { .kind = (uint32_t) entry->command_case, .time_ms = entry->time_ms,
                           .verdict = result->verdict };
        if (entry->request_id.len == ID_SIZE)
                memcpy(fact.request, entry->request_id.data, ID_SIZE);
        return fact;
}

static bool is_same_fact(const HeartFact *a, const HeartFact *b) {
        return a->kind == b->kind && a->time_ms == b->time_ms && a->verdict == b->verdict &&
               memcmp(a->request, b->request, ID_SIZE) == 0;
}

void heart_judge_applied(HeartJudge *judge, HeartHost *host, uint64_t index, const Entry *entry, const Result *result) {
        HeartFact fact = fact_of(entry, result);
        static const HeartFact none;
        if (index > judge->truth->index) {
                while (judge->facts.n <= index)
                        g_assert_cmpint(array_append(&judge->facts, &none), ==, 0);
                judge->facts.items[index] = fact;
                apply_truth(judge, index, entry);
                return;
        }
        if (!is_same_fact(judge->facts.items + index, &fact))
                sim_broken(time_of(judge), "P3: %s has another entry %" PRIu64 " than was committed before, or another "
                           "verdict of it", host->name, index);
}

/* In place of registry_apply() in the service: the judge sees what is applied. */
int sim_registry_apply(Registry *registry, uint64_t index, const Entry *entry, Result *ret_result);
int sim_registry_apply(Registry *registry, uint64_t index, const Entry *entry, Result *ret_result) {
        int r = registry_apply(registry, index, entry, ret_result);
        HeartHost *host = heart_host_current();
        if (r >= 0 && host)
                heart_judge_applied(&host->heart->judge, host, index, entry, ret_result);
        return r;
}

void heart_judge_word(HeartJudge *judge, const RequestId *request) {
        for (size_t i = judge->facts.n; i > 0; i--) {
                const HeartFact *fact = judge->facts.items + i - 1;
                if (memcmp(fact->request, request->bytes, ID_SIZE) == 0 && fact->verdict == VERDICT_DONE)
                        return;
        }
        sim_broken(time_of(judge), "P3: a write was acknowledged, and the history does not have it");
}

/* ---- P4 and P5 */

/* The node as an administrator would say: all is well with it, and VMs may run there. */
static bool is_fit(const HeartJudge *judge, const HeartHost *host) {
        const NodeRecord *node = registry_find_node(judge->truth, &host->id);
        return host->exists && host->on && !host->removed && !host->witness && node && !node->lost &&
               node->drain == DRAIN_NONE && heart_host_has_daemon(host);
}

static unsigned free_gpus(const HeartJudge *judge, const HeartHost *host) {
        const Pool *pool = registry_find_pool(judge->truth, HEART_POOL);
        unsigned n = 0;
        for (unsigned i = 0; i < host->n_gpus; i++) {
                char slot[GPU_SLOT_SIZE];
                g_snprintf(slot, sizeof(slot), "pci0000:00/%02x.0/00.0", i + 1);
                bool usable = false;
                for (size_t k = 0; pool && k < pool->gpus.n; k++) {
                        const GpuIdentity *gpu = pool->gpus.items + k;
                        if (ID_EQUAL(&gpu->node, &host->id) && strcmp(gpu->slot, slot) == 0)
                                usable = !registry_find_vm_of_gpu(judge->truth, gpu) &&
                                         !registry_find_quarantine(judge->truth, gpu);
                }
                n += usable && !host->gpu_lost[i];
        }
        return n;
}

bool heart_judge_fits_elsewhere(HeartJudge *judge, const HeartVm *vm, const HeartHost *but) {
        for (unsigned i = 0; i < judge->heart->n_hosts; i++) {
                const HeartHost *host = judge->heart->hosts + i;
                if (host != but && is_fit(judge, host) && free_gpus(judge, host) >= vm->count)
                        return true;
        }
        return false;
}

/* The host whose engine says that it leads. */
static HeartHost *find_leader(HeartJudge *judge, ClusterStatus *ret) {
        for (unsigned i = 0; i < judge->heart->n_hosts; i++) {
                HeartHost *host = judge->heart->hosts + i;
                ClusterStatus status = {};
                void *userdata;
                if (!host->bus || !heart_host_has_daemon(host))
                        continue;
                const Service *service = heart_bus_service(host->bus, &userdata);
                SimTurn turn = sim_loop_begin(host->loop);
                service->status(userdata, &status);
                sim_loop_end(turn);
                if (!ID_EQUAL(&status.leader, &host->id) || !status.quorate)
                        continue;
                *ret = status;
                return host;
        }
        return NULL;
}

/* Why it has no place, as the leader shows it. */
static char *reason_of(HeartJudge *judge, const HeartVm *known) {
        _cleanup_free_ char *code = NULL, *sentence = NULL;
        ClusterStatus status;
        HeartHost *leader = find_leader(judge, &status);
        void *userdata;
        if (!leader)
                return g_strdup("nobody leads");
        const World *world = heart_bus_service(leader->bus, &userdata)->world(userdata);
        const Vm *vm = registry_find_vm(world->registry, &known->id);
        g_assert_cmpint(vm ? vm_reason(world, vm, &code, &sentence) : 0, >=, 0);
        return g_strdup_printf("%s (%s)", sentence, code);
}

HeartHost *heart_judge_leader(HeartJudge *judge) {
        ClusterStatus status;
        return find_leader(judge, &status);
}

bool heart_judge_status(HeartJudge *judge, ClusterStatus *ret) {
        return find_leader(judge, ret);
}

/* NULL: it is as it should be. */
static char *missing_of(HeartJudge *judge, HeartVm *known) {
        const Vm *vm = registry_find_vm(judge->truth, &known->id);
        if (!vm)
                return NULL;
        if (!vm->run)
                return vm->assignment.phase == ASSIGNMENT_NONE && !known->runs
                               ? NULL
                               : g_strdup_printf("P5: %s is to be stopped, and is not", known->name);
        if (known->runs && vm->assignment.phase == ASSIGNMENT_RUNNING)
                return NULL;
        if (vm->failed)
                return vm->reason ? NULL : g_strdup_printf("P5: %s failed without a reason", known->name);
        if (vm->assignment.phase != ASSIGNMENT_NONE)
                return g_strdup_printf("P5: %s is assigned and does not run", known->name);
        if (heart_judge_fits_elsewhere(judge, known, NULL)) {
                g_autofree char *reason = reason_of(judge, known);
                return g_strdup_printf("P5: %s is to run, there is room, and it has no place: %s", known->name,
                                       reason);
        }
        return NULL;
}

char *heart_judge_missing(HeartJudge *judge) {
        if (!heart_judge_leader(judge))
                return g_strdup("P4: nobody leads");
        for (unsigned i = 0; i < judge->n_vms; i++) {
                char *missing = missing_of(judge, judge->vms + i);
                if (missing)
                        return missing;
        }
        /* Who was mended is back. */
        ARRAY_EACH(node, &judge->truth->nodes) {
                const HeartHost *host = heart_host_by_id(judge->heart, &node->id);
                if (host && host->on && !host->removed && node->lost)
                        return g_strdup_printf("P5: %s is well, and still held for lost", host->name);
                /* Or P4 would not hold of it. */
                if (host && node->long_lease_ms > 0 && registry_has_ordinary_leases(judge->truth))
                        return g_strdup_printf("P5: the cluster is thawed, and %s has a long lease still", host->name);
        }
        return NULL;
}

void heart_judge_calm(HeartJudge *judge) {
        g_autofree char *missing = heart_judge_missing(judge);
        if (missing)
                sim_broken(time_of(judge), "%s, long after all was well", missing);
}

void heart_judge_look(HeartJudge *judge) {
        if (judge->n_windows > 0)
                look_at_windows(judge);
}

/* All that are up have the same history to the end. */
void heart_judge_end(HeartJudge *judge) {
        g_autofree uint8_t *expected = NULL;
        size_t expected_size;
        g_assert_cmpint(registry_encode(judge->truth, &expected, &expected_size), ==, 0);
        for (unsigned i = 0; i < judge->heart->n_hosts; i++) {
                const World *world = heart_host_world(judge->heart->hosts + i);
                g_autofree uint8_t *bytes = NULL;
                size_t size;
                if (!world || world->registry->index != judge->truth->index)
                        continue;
                g_assert_cmpint(registry_encode(world->registry, &bytes, &size), ==, 0);
                if (size != expected_size || memcmp(bytes, expected, size) != 0)
                        sim_broken(time_of(judge), "P3: %s ends with another registry", judge->heart->hosts[i].name);
        }
}
