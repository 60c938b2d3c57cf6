/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/check-internal.h"
#include "core/placement.h"
#include "core/vm-reason.h"

void check_findings_clear(CheckFindings *findings) {
        ARRAY_EACH(finding, findings) {
                free(finding->object);
                free(finding->sentence);
                free(finding->remedy);
        }
        array_clear(findings);
}

const char *check_severity_to_text(CheckSeverity severity) {
        switch (severity) {
        case CHECK_ERROR:
                return "error";
        case CHECK_WARNING:
                return "warning";
        case CHECK_NOTE:
        case CHECK_SEVERITY_COUNT:
                break;
        }
        return "note";
}

/* ---- making a finding */

static Subject about_cluster(CheckFindings *findings) {
        return (Subject) { .findings = findings, .kind = OBJECT_KIND_CLUSTER };
}

Subject about_node(CheckFindings *findings, const NodeId *node) {
        Subject subject = { .findings = findings, .kind = OBJECT_KIND_NODE };
        id_to_text(node->bytes, subject.object);
        return subject;
}

Subject about_gpu(CheckFindings *findings, const GpuIdentity *gpu) {
        Subject subject = { .findings = findings, .kind = OBJECT_KIND_GPU };
        char id[ID_TEXT_SIZE], address[PCI_ADDRESS_TEXT_SIZE];
        id_to_text(gpu->node.bytes, id);
        pci_address_to_text(gpu->address, address);
        (void) snprintf(subject.object, sizeof(subject.object), "%s %s", id, address);
        return subject;
}

static Subject about_pool(CheckFindings *findings, const Pool *pool) {
        Subject subject = { .findings = findings, .kind = OBJECT_KIND_POOL };
        (void) snprintf(subject.object, sizeof(subject.object), "%s", pool->name);
        return subject;
}

Subject about_vm(CheckFindings *findings, const Vm *vm) {
        Subject subject = { .findings = findings, .kind = OBJECT_KIND_VM };
        id_to_uuid(vm->id.bytes, subject.object);
        return subject;
}

int add_remedy(const Subject *subject, const char *format, ...) {
        CheckFinding *finding = subject->findings->items + subject->findings->n - 1;
        va_list ap;
        va_start(ap, format);
        char *remedy = NULL;
        int n = vasprintf(&remedy, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        free(finding->remedy);
        finding->remedy = remedy;
        return 0;
}

int add_finding(const Subject *subject, CheckSeverity severity, const char *code, const char *format, ...) {
        CheckFinding finding = { .severity = severity, .code = code, .kind = subject->kind };
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&finding.sentence, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;

        finding.object = strdup(subject->object);
        finding.remedy = strdup("");
        if (finding.object && finding.remedy && array_append(subject->findings, &finding) >= 0)
                return 0;
        free(finding.object);
        free(finding.remedy);
        free(finding.sentence);
        return -ENOMEM;
}

/* ---- the cluster */

static int check_removed(const World *world, CheckFindings *findings) {
        Subject subject = about_node(findings, &world->local);
        int r = add_finding(&subject, CHECK_ERROR, "node-removed",
                            "this node was removed from cluster %s: it shows what it knew then, and can change "
                            "nothing", world->registry->name);
        return r < 0 ? r : add_remedy(&subject,
                                      "make it a node of its own (gpupoolctl cluster reset), then, if it is wanted "
                                      "again, join with a new invitation (gpupoolctl cluster invite, on a member)");
}

static int check_quorum(bool quorate, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        if (quorate)
                return 0;
        int r = add_finding(&subject, CHECK_ERROR, "no-quorum",
                            "this node reaches no leader that a majority of the voters follows: nothing can be "
                            "changed or restarted; what runs goes on");
        return r < 0 ? r : add_remedy(&subject, "bring nodes or the network back: gpupoolctl status shows who is "
                                      "missing");
}

static int check_size(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        size_t n = world->registry->nodes.n;
        int r = 0;
        if (n == 1) {
                r = add_finding(&subject, CHECK_NOTE, "single-node",
                                "the cluster has one node: when it fails, no VM runs elsewhere");
                return r < 0 ? r : add_remedy(&subject, "add nodes (gpupoolctl cluster invite), best three or more");
        }
        if (n == 2) {
                r = add_finding(&subject, CHECK_WARNING, "no-third-vote",
                                "the cluster has two nodes: when one fails, the other has no majority and restarts "
                                "nothing");
                return r < 0 ? r :
                        add_remedy(&subject,
                                   "add a third node, or a witness: any small machine whose gpupoold.conf has "
                                   "Role=witness under [Node]; it votes and runs no VM (gpupool(7), \"Witness\")");
        }
        return 0;
}

typedef struct VoteCount {
        unsigned voters, heard;
        const NodeId *silent;           /* one that is not heard, or NULL */
} VoteCount;

static VoteCount count_votes(const World *world) {
        VoteCount count = {};
        for (size_t i = 0; i < world->n_lives; i++) {
                const NodeLife *life = world->lives + i;
                if (life->role != NODE_VOTER)
                        continue;
                count.voters++;
                if (life->silent)
                        count.silent = &life->node;
                else
                        count.heard++;
        }
        return count;
}

/* Two nodes are told of by check_size(). */
static int check_votes(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        VoteCount count = count_votes(world);
        unsigned majority = count.voters / 2 + 1;
        int r = 0;
        if (world->registry->nodes.n < 3 || count.voters == 0)
                return 0;
        if (count.voters < 3) {
                r = add_finding(&subject, CHECK_WARNING, "few-voters",
                                "only %u of %zu nodes vote%s: when a voter fails, nothing can be decided",
                                count.voters, world->registry->nodes.n, count.voters == 1 ? "s" : "");
                return r < 0 ? r : add_remedy(&subject, "bring silent nodes back: a node that is heard becomes a voter "
                                              "by itself");
        }
        if (count.silent && count.heard <= majority) {
                const char *name = world_node_name(world, count.silent);
                r = add_finding(&subject, CHECK_WARNING, "no-vote-to-spare",
                                "%u of %u voters are heard: when one more fails, nothing can be decided", count.heard,
                                count.voters);
                return r < 0 ? r : add_remedy(&subject, "bring %s back, or take it out for ever: gpupoolctl node "
                                              "remove %s", name, name);
        }
        if (count.voters % 2 == 0) {
                r = add_finding(&subject, CHECK_NOTE, "even-voters",
                                "%u nodes vote, and %u of them make a majority: one voter less would survive as much",
                                count.voters, majority);
                return r < 0 ? r : add_remedy(&subject, "add a node or a witness, so that the number is odd");
        }
        return 0;
}

/* Told where there is somewhere else to go. */
static bool lacks_failover(const World *world) {
        return world->registry->level < LEVEL_FAILOVER && world->registry->nodes.n > 1;
}

static int check_failover(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        if (!lacks_failover(world))
                return 0;
        int r = add_finding(&subject, CHECK_WARNING, "no-failover",
                            "the cluster works at level %u, and failover begins with level %u: the VMs of a node that "
                            "fails start nowhere else", world->registry->level, LEVEL_FAILOVER);
        return r < 0 ? r : add_remedy(&subject, "see who is in the way (gpupoolctl cluster level %u --dry-run), then, "
                                      "once no node is to go back to an older gpupool: gpupoolctl cluster level %u",
                                      LEVEL_FAILOVER, LEVEL_FAILOVER);
}

static int check_frozen(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        uint64_t seconds = world->registry->frozen_ms / 1000;
        if (seconds == 0)
                return 0;
        int r = add_finding(&subject, CHECK_WARNING, "cluster-frozen",
                            "the cluster is frozen, for %" PRIu64 " s: a node that fails meanwhile keeps its VMs, and "
                            "they start nowhere else", seconds);
        return r < 0 ? r : add_remedy(&subject, "when the work on the network is done: gpupoolctl cluster thaw");
}

/* So many lengths are named, then "...". */
#define LENGTHS_MAX 4U

static bool is_first_of_length(const Registry *registry, const NodeRecord *node) {
        for (const NodeRecord *before = registry->nodes.items; before < node; before++)
                if (before->lease_ms == node->lease_ms)
                        return false;
        return node->lease_ms > 0;
}

/* "a 3000 ms, b 10000 ms": the first node of each length; NULL where all are alike. */
static int list_lease_lengths(const World *world, char **ret) {
        _cleanup_free_ char *list = NULL;
        unsigned n = 0;
        ARRAY_EACH(node, &world->registry->nodes) {
                if (n > LENGTHS_MAX || !is_first_of_length(world->registry, node))
                        continue;
                int r = n++ == LENGTHS_MAX ? text_append(&list, ", ...") :
                        text_append(&list, "%s%s %" PRIu32 " ms", list ? ", " : "", node->name, node->lease_ms);
                if (r < 0)
                        return r;
        }
        if (n > 1)
                *ret = STEAL(list);
        return 0;
}

static int check_lease_lengths(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        _cleanup_free_ char *lengths = NULL;
        int r = list_lease_lengths(world, &lengths);
        if (r < 0 || !lengths)
                return r;
        r = add_finding(&subject, CHECK_NOTE, "leases-differ",
                        "the nodes' leases are not of one length (%s), so how fast a VM runs again depends on where it "
                        "ran", lengths);
        return r < 0 ? r : add_remedy(&subject, "set the same times on all nodes ([Lease] in gpupoold.conf), unless "
                                      "that is meant to be so");
}

/* What nobody needs yet may wait, and is not a fault. */
static int check_rise(const World *world, CheckFindings *findings) {
        Subject subject = about_cluster(findings);
        const Registry *registry = world->registry;
        uint32_t lowest = registry->nodes.n > 0 ? registry->nodes.items[0].level : 0;
        ARRAY_EACH(node, &registry->nodes)
                lowest = node->level < lowest ? node->level : lowest;
        if (lowest <= registry->level || lacks_failover(world))
                return 0;
        int r = add_finding(&subject, CHECK_NOTE, "level-can-rise",
                            "every node supports level %u and the cluster works at level %u", lowest, registry->level);
        return r < 0 ? r : add_remedy(&subject, "once no node is to go back to an older gpupool: gpupoolctl cluster "
                                      "level %u", lowest);
}

/* ---- pools and VMs */

/* How many VMs a sentence names before it says "and N more". */
#define NAMED_MAX 3U

/* "bert, ernie" */
static int name_vms(const Registry *registry, const VmId *vms, size_t n, char **ret) {
        for (size_t i = 0; i < n && i < NAMED_MAX; i++) {
                const Vm *vm = registry_find_vm(registry, vms + i);
                int r = text_append(ret, "%s%s", i > 0 ? ", " : "", vm ? vm->name : "one that is gone");
                if (r < 0)
                        return r;
        }
        return n > NAMED_MAX ? text_append(ret, " and %zu more", n - NAMED_MAX) : 0;
}

/* Where no node can be done without, nothing is restarted, whatever is free: that is told with the votes and not of the
 * pool. A VM that has no other place even with them is told in either case. */
static int check_survival(Inventory *inventory, const Subject *subject, const Pool *pool, const PoolCounts *counts) {
        if (counts->n_at_risk == 0 || counts->survives > 0 || inventory->nodes.n == 1)
                return 0;
        if (inventory->world->registry->level < LEVEL_FAILOVER)        /* that is told once, of the cluster */
                return check_places(inventory, counts->at_risk, counts->n_at_risk, subject->findings);
        if (counts->majority_spares == 0)
                return check_places(inventory, counts->at_risk, counts->n_at_risk, subject->findings);
        _cleanup_free_ char *names = NULL;
        int r = name_vms(inventory->world->registry, counts->at_risk, counts->n_at_risk, &names);
        if (r >= 0)
                r = add_finding(subject, CHECK_WARNING, "pool-at-risk",
                                "pool %s does not survive the loss of a node: %zu VM%s would not run again (%s)",
                                pool->name, counts->n_at_risk, PLURAL(counts->n_at_risk), names);
        if (r >= 0)
                r = add_remedy(subject, "add GPUs of other nodes (gpupoolctl pool add %s GPU), or keep some free "
                               "(gpupoolctl pool policy %s --reserve N)", pool->name, pool->name);
        return r < 0 ? r : check_places(inventory, counts->at_risk, counts->n_at_risk, subject->findings);
}

static int check_alike(const Subject *subject, const Pool *pool, const PoolCounts *counts) {
        _cleanup_free_ char *how = NULL;
        for (size_t i = 0; i < counts->mixed.n; i++) {
                int r = text_append(&how, "%s%s", i > 0 ? "; " : "", counts->mixed.items[i]);
                if (r < 0)
                        return r;
        }
        if (!how)
                return 0;
        int r = add_finding(subject, CHECK_NOTE, "pool-mixed", "the GPUs of pool %s are not alike: %s", pool->name,
                            how);
        return r < 0 ? r : add_remedy(subject, "make a pool for each kind, if the VMs mind");
}

static int check_pool(Inventory *inventory, const Pool *pool, CheckFindings *findings) {
        Subject subject = about_pool(findings, pool);
        _cleanup_(pool_counts_clear) PoolCounts counts = {};
        int r = pool_count_in(inventory, pool, &counts);
        if (r >= 0)
                r = check_alike(&subject, pool, &counts);
        return r < 0 ? r : check_survival(inventory, &subject, pool, &counts);
}

/* It was started before there were leases, so its node may never be held for lost by time. */
static int check_unleased(const World *world, const Vm *vm, CheckFindings *findings) {
        Subject subject = about_vm(findings, vm);
        if (world->registry->level < LEVEL_FAILOVER || vm->assignment.phase == ASSIGNMENT_NONE ||
            vm->assignment.leased || world->registry->nodes.n == 1)
                return 0;
        int r = add_finding(&subject, CHECK_WARNING, "vm-unleased",
                            "vm %s was started before the cluster worked at level %u: when node %s fails, neither it "
                            "nor any other VM there starts elsewhere by itself", vm->name, LEVEL_FAILOVER,
                            world_node_name(world, &vm->assignment.node));
        return r < 0 ? r : add_remedy(&subject, "restart it when that suits: gpupoolctl vm restart %s, or move it",
                                      vm->name);
}

/* The reason is a whole sentence that says what to do. One that waits without a reason is about to be placed. */
static int check_vm(Inventory *inventory, const Vm *vm, CheckFindings *findings) {
        Subject subject = about_vm(findings, vm);
        VmState state = vm_state(vm);
        if (state != VM_STATE_WAITING && state != VM_STATE_BACKOFF && state != VM_STATE_FAILED)
                return 0;

        _cleanup_free_ char *code = NULL, *reason = NULL;
        int r = vm_reason_in(inventory, vm, &code, &reason);
        if (r < 0 || text_is_empty(reason))
                return r;
        if (state == VM_STATE_FAILED) {
                r = add_finding(&subject, CHECK_ERROR, "vm-failed", "%s", reason);
                return r < 0 ? r :
                        add_remedy(&subject, "see how it failed: gpupoolctl log, and libvirt's log of %s", vm->name);
        }
        r = add_finding(&subject, CHECK_WARNING, state == VM_STATE_WAITING ? "vm-waiting" : "vm-failing", "%s", reason);
        return r < 0 ? r : add_remedy(&subject, "see each node's answer: gpupoolctl vm explain %s", vm->name);
}

/* ---- all of it */

static int check_all(const World *world, bool quorate, Inventory *inventory, CheckFindings *findings) {
        int r = check_quorum(quorate, findings);
        if (r >= 0)
                r = check_size(world, findings);
        if (r >= 0)
                r = check_votes(world, findings);
        if (r >= 0)
                r = check_rise(world, findings);
        if (r >= 0)
                r = check_failover(world, findings);
        if (r >= 0)
                r = check_frozen(world, findings);
        if (r >= 0)
                r = check_lease_lengths(world, findings);
        ARRAY_EACH(node, &world->registry->nodes)
                if (r >= 0)
                        r = check_node(world, node, findings);
        if (r >= 0)
                r = check_gpus(inventory, NULL, findings);
        ARRAY_EACH(pool, &world->registry->pools)
                if (r >= 0)
                        r = check_pool(inventory, pool, findings);
        ARRAY_EACH(vm, &world->registry->vms) {
                if (r >= 0)
                        r = check_vm(inventory, vm, findings);
                if (r >= 0)
                        r = check_unleased(world, vm, findings);
        }
        return r;
}

/* Moves the findings over, severity by severity; their order within one stays. */
static int append_by_severity(CheckFindings *from, CheckFindings *to) {
        int r = array_reserve(&to->items, &to->allocated, to->n + from->n, sizeof(*to->items));
        if (r < 0)
                return r;
        for (CheckSeverity severity = CHECK_ERROR; severity < CHECK_SEVERITY_COUNT; severity++)
                ARRAY_EACH(finding, from)
                        if (finding->severity == severity)
                                to->items[to->n++] = *finding;
        array_clear(from);
        return 0;
}

int check_cluster(const World *world, bool quorate, CheckFindings *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        int r = world->removed ? check_removed(world, &findings) : inventory_new(world, &inventory);
        if (r >= 0 && inventory)
                r = check_all(world, quorate, inventory, &findings);
        return r < 0 ? r : append_by_severity(&findings, ret);
}

int check_one_node(const World *world, const NodeRecord *node, CheckFindings *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        int r = inventory_new(world, &inventory);
        if (r >= 0)
                r = check_node(world, node, &findings);
        if (r >= 0)
                r = check_gpus(inventory, &node->id, &findings);
        ARRAY_EACH(vm, &world->registry->vms) {
                if (vm->assignment.phase == ASSIGNMENT_NONE || !ID_EQUAL(&vm->assignment.node, &node->id))
                        continue;
                if (r >= 0)
                        r = check_vm(inventory, vm, &findings);
                if (r >= 0)
                        r = check_unleased(world, vm, &findings);
        }
        if (r >= 0)
                r = check_places_of_node(inventory, &node->id, &findings);
        return r < 0 ? r : append_by_severity(&findings, ret);
}
