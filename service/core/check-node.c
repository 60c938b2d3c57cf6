/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Check: what is to be said of a node. */

#include <inttypes.h>
#include <stdio.h>

#include "core/check-internal.h"
#include "core/fence.h"
#include "core/lease.h"
#include "core/move.h"

/* ---- what it needs to run VMs */

static int check_hypervisor(const Subject *subject, const char *name, HypervisorState state) {
        int r = 0;
        switch (state) {
        case HYPERVISOR_CONNECTED:
                return 0;
        case HYPERVISOR_ABSENT:
                r = add_finding(subject, CHECK_ERROR, "hypervisor-absent",
                                "node %s has no libvirt, so no VM can start on it", name);
                return r < 0 ? r : add_remedy(subject, "start libvirt on %s: systemctl start libvirtd", name);
        case HYPERVISOR_CONNECTING:
                r = add_finding(subject, CHECK_WARNING, "hypervisor-connecting",
                                "node %s is still connecting to libvirt", name);
                return r < 0 ? r :
                        add_remedy(subject, "wait a moment; if it stays so, see systemctl status libvirtd on %s", name);
        case HYPERVISOR_HUNG:
                r = add_finding(subject, CHECK_ERROR, "hypervisor-hung",
                                "libvirt on node %s does not answer, so no VM can start on it", name);
                return r < 0 ? r : add_remedy(subject,
                                              "see what it waits for (a storage pool, a hook), or restart libvirtd on "
                                              "%s; running VMs are not touched by that", name);
        }
        return 0;
}

static int check_guard(const Subject *subject, const char *name, const NodeFacts *facts) {
        if (facts->guard_connected)
                return 0;
        int r = add_finding(subject, CHECK_ERROR, "guard-absent", "node %s has no guard, so no VM can start on it",
                            name);
        return r < 0 ? r : add_remedy(subject, "start it on %s: systemctl start gpupool-guard", name);
}

static bool is_virtual(const NodeFacts *facts) {
        return !text_is_empty(facts->virtualization) && !text_equal(facts->virtualization, "none");
}

static int check_virtual(const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        if (!is_virtual(facts))
                return 0;
        if (node->fence.agent) {
                int r = add_finding(subject, CHECK_NOTE, "node-virtual",
                                    "node %s is itself a virtual machine (%s) and can be paused with all its clocks; "
                                    "%s switches it off before that does harm, if it is quick", node->name,
                                    facts->virtualization, node->fence.agent);
                return r < 0 ? r : add_remedy(subject, "run gpupool on real machines where VMs must never run twice");
        }
        int r = add_finding(subject, CHECK_WARNING, "node-virtual",
                            "node %s is itself a virtual machine (%s): it can be paused with all its clocks, and then "
                            "its lease alone does not keep a VM from running twice", node->name,
                            facts->virtualization);
        return r < 0 ? r : add_remedy(subject, "give %s a fence agent (gpupoolctl node fence-set %s AGENT), or run "
                                      "gpupool on real machines", node->name, node->name);
}

static int check_registry(const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        if (!facts->registry_stuck)
                return 0;
        int r = add_finding(subject, CHECK_ERROR, "registry-stuck",
                            "node %s cannot write its registry, so no change is kept there and its vote decides none; "
                            "running VMs go on", node->name);
        return r < 0 ? r : add_remedy(subject,
                                      "see why (journalctl -u gpupoold on %s); if its disk is full, make room under "
                                      "/var/lib/gpupool: then it heals by itself", node->name);
}

/* ---- what proves that its VMs are dead */

/* P4: a VM of a failed node runs again within 10 s. So much of it is for knowing that it is dead, the rest for starting
 * it elsewhere. */
#define LOSS_MS_MAX 8000U

static int check_lease(const Subject *subject, const NodeRecord *node) {
        if (node->lease_ms == 0) {
                int r = add_finding(subject, CHECK_WARNING, "lease-unknown",
                                    "node %s has not said how long its leases are, so when it fails no time proves "
                                    "that its VMs are dead", node->name);
                return r < 0 ? r : add_remedy(subject, "wait a moment; if it stays so, restart gpupoold on %s",
                                              node->name);
        }
        uint64_t loss_ms = lease_times_default.request_us / 1000 + node->lease_ms + node->death_ms;
        if (loss_ms <= LOSS_MS_MAX)
                return 0;
        int r = add_finding(subject, CHECK_WARNING, "lease-long",
                            "it takes up to %" PRIu64 ".%" PRIu64 " s until the VMs of node %s are known to be dead "
                            "when it fails (lease %" PRIu32 " ms, and %" PRIu32 " ms until all is surely ended): they "
                            "do not run elsewhere within 10 s", loss_ms / 1000, loss_ms / 100 % 10, node->name,
                            node->lease_ms, node->death_ms);
        return r < 0 ? r : add_remedy(subject, "shorten its times ([Lease] in gpupoold.conf on %s), unless that is "
                                      "meant to be so", node->name);
}

/* A host that stands still as a whole, its guard included, is proven to be dead by nothing else. */
static int check_fencing(const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        if (facts->watchdog_us > 0 || node->fence.agent || is_virtual(facts))
                return 0;
        int r = add_finding(subject, CHECK_WARNING, "node-unfenced",
                            "node %s has neither a watchdog nor a fence agent: when the whole host stands still for a "
                            "while and goes on, its VMs can run for a moment beside those that took their place",
                            node->name);
        return r < 0 ? r : add_remedy(subject, "arm a watchdog (gpupool(7), \"Watchdog and fencing\"), or name a fence "
                                      "agent: gpupoolctl node fence-set %s AGENT", node->name);
}

static int check_objection(const Subject *subject, const NodeRecord *node) {
        const char *objection = node->fence.agent ? fence_objection(&node->fence) : NULL;
        if (!objection)
                return 0;
        int r = add_finding(subject, CHECK_WARNING, "fencing-unusable",
                            "node %s is not switched off when it is silent: %s %s", node->name, node->fence.agent,
                            objection);
        return r < 0 ? r : add_remedy(subject, "set it anew: gpupoolctl node fence-set %s AGENT", node->name);
}

/* ---- where it is */

/* "2026-01-02 14:31:05 UTC": of a leader's clock, so in no local time. */
typedef struct TimeText {
        char text[40];
} TimeText;

static TimeText time_to_text(uint64_t realtime_ms) {
        TimeText time;
        uint64_t seconds = realtime_ms / 1000, day = seconds / 86400;
        unsigned second = (unsigned) (seconds % 86400);
        /* Years begin in March here, so that the day that a leap year has more comes last. */
        uint64_t days = day + 719468, era = days / 146097, day_of_era = days % 146097;
        uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        unsigned day_of_year = (unsigned) (day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
        unsigned month_from_march = (5 * day_of_year + 2) / 153;
        unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
        unsigned day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        uint64_t year = year_of_era + era * 400 + (month <= 2);
        (void) snprintf(time.text, sizeof(time.text), "%04u-%02u-%02u %02u:%02u:%02u UTC", (unsigned) year % 10000,
                        month, day_of_month, second / 3600, second / 60 % 60, second % 60);
        return time;
}

/* Of what the leader tried, whether the node is back or not. */
static int check_fenced(const World *world, const Subject *subject, const NodeRecord *node) {
        const FencedNode *fenced = world_find_fenced(world, &node->id);
        if (!fenced || fenced->phase != FENCED_FAILED || !node->fence.agent)
                return 0;
        int r = add_finding(subject, CHECK_WARNING, "fencing-failed",
                            "%s could not switch node %s off when it was silent, last at %s: %s", node->fence.agent,
                            node->name, time_to_text(fenced->at_ms).text,
                            fenced->said ? fenced->said : "it did not say why");
        return r < 0 ? r : add_remedy(subject,
                                      "try it by hand on the leader, then set it anew: gpupoolctl node fence-set %s "
                                      "AGENT", node->name);
}

/* Who votes may lead, and so may who takes the place of one that votes. */
static int check_agents(const World *world, const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        const NodeLife *life = world_find_life(world, &node->id);
        if (!life || life->role == NODE_READER)
                return 0;
        for (size_t i = 0; i < facts->missing_agents.n; i++) {
                const char *agent = facts->missing_agents.items[i];
                int r = add_finding(subject, CHECK_WARNING, "fence-agent-missing",
                                    "node %s has no %s: while it leads, nobody is switched off by it", node->name,
                                    agent);
                if (r >= 0)
                        r = add_remedy(subject, "install the fence agents on %s, or say where they are "
                                       "(AgentDirectory in gpupoold.conf)", node->name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_silent(const World *world, const Subject *subject, const NodeRecord *node) {
        const NodeLife *life = world_find_life(world, &node->id);
        uint64_t since_ms = life ? life->silent_since_ms : 0;
        int r = since_ms > 0 ?
                add_finding(subject, CHECK_ERROR, "node-silent", "nothing is heard from node %s since %s", node->name,
                            time_to_text(since_ms).text) :
                add_finding(subject, CHECK_ERROR, "node-silent", "nothing is heard from node %s", node->name);
        return r < 0 ? r : add_remedy(subject,
                                      "see on %s: systemctl status gpupoold; if it is off for sure, and its VMs are to "
                                      "start elsewhere: gpupoolctl node confirm-down %s; one that never comes back is "
                                      "taken out by gpupoolctl node remove %s", node->name, node->name, node->name);
}

static int check_lost(const Subject *subject, const NodeRecord *node) {
        static const char *const grounds[LOSS_EVIDENCE_COUNT] = {
                [LOSS_BY_LEASE] = "its last possible lease has run out",
                [LOSS_BY_POWER_OFF] = "its fence agent confirmed that it is off",
                [LOSS_BY_NEW_BOOT] = "it booted anew",
                [LOSS_BY_WORD] = "an administrator confirmed that it is off",
        };
        int r = add_finding(subject, CHECK_ERROR, "node-lost", "node %s is lost: %s; its VMs run elsewhere, where "
                            "there is room", node->name, grounds[node->evidence]);
        return r < 0 ? r : add_remedy(subject,
                                      "switch it on, and see there: systemctl status gpupoold gpupool-guard; one that "
                                      "never comes back is taken out by gpupoolctl node remove %s", node->name);
}

/* What a drain waits for. */
static int check_obstacle(const World *world, const Subject *subject, const NodeRecord *node) {
        _cleanup_free_ char *obstacle = NULL;
        if (world_node_state(world, &node->id) != NODE_STATE_DRAINING)
                return 0;
        int r = drain_obstacle(world, &node->id, &obstacle);
        if (r < 0 || !obstacle)
                return r;
        r = add_finding(subject, CHECK_WARNING, "drain-waits", "node %s is not drained yet: %s", node->name, obstacle);
        return r < 0 ? r : add_remedy(subject, "see what would give them a place (gpupoolctl vm explain VM), or let "
                                      "them stay: gpupoolctl node resume %s", node->name);
}

static int check_drain(const World *world, const Subject *subject, const NodeRecord *node) {
        int r = check_obstacle(world, subject, node);
        if (r < 0)
                return r;
        switch (node->drain) {
        case DRAIN_BY_HAND:
                r = add_finding(subject, CHECK_NOTE, "node-drained", "node %s is drained: no VM is placed on it",
                                node->name);
                return r < 0 ? r : add_remedy(subject, "when the work on it is done: gpupoolctl node resume %s",
                                              node->name);
        case DRAIN_FLAPPING:
                r = add_finding(subject, CHECK_WARNING, "node-flapping",
                                "node %s was lost %u times within an hour, so no VM is placed on it any more",
                                node->name, FLAP_LOSSES);
                return r < 0 ? r : add_remedy(subject, "find out why (gpupoolctl events, its network, its journal), "
                                              "then: gpupoolctl node resume %s", node->name);
        case DRAIN_NONE:
        case DRAIN_CAUSE_COUNT:
                break;
        }
        return 0;
}

static int check_joining(const Subject *subject, const NodeRecord *node) {
        int r = add_finding(subject, CHECK_WARNING, "node-joining",
                            "node %s was admitted, and nothing is known of it yet", node->name);
        return r < 0 ? r : add_remedy(subject, "wait a moment; if it stays so, see on %s: systemctl status gpupoold",
                                      node->name);
}

static uint32_t highest_level(const World *world) {
        uint32_t highest = 0;
        ARRAY_EACH(node, &world->registry->nodes)
                highest = node->level > highest ? node->level : highest;
        return highest;
}

/* Only where some members are ahead of others: a cluster that is old as a whole is well. */
static int check_level(const World *world, const Subject *subject, const NodeRecord *node) {
        uint32_t highest = highest_level(world);
        if (node->level >= highest)
                return 0;
        int r = add_finding(subject, CHECK_WARNING, "node-older",
                            "node %s supports level %u at most and others support %u: until it is upgraded the "
                            "cluster stays at level %u", node->name, node->level, highest, world->registry->level);
        return r < 0 ? r : add_remedy(subject, "upgrade gpupool on %s", node->name);
}

/* Of a node that is here, and runs VMs. */
static int check_host(const World *world, const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        bool failover = world->registry->level >= LEVEL_FAILOVER && world->registry->nodes.n > 1;
        int r = check_hypervisor(subject, node->name, facts->hypervisor);
        if (r >= 0)
                r = check_guard(subject, node->name, facts);
        if (r >= 0)
                r = check_virtual(subject, node, facts);
        if (r >= 0 && failover)
                r = check_lease(subject, node);
        if (r >= 0 && failover)
                r = check_fencing(subject, node, facts);
        return r < 0 ? r : check_storage(world, subject, node, facts);
}

int check_node(const World *world, const NodeRecord *node, CheckFindings *findings) {
        Subject subject = about_node(findings, &node->id);
        const NodeFacts *facts = world_find_facts(world, &node->id);
        int r = check_level(world, &subject, node);
        if (r >= 0)
                r = check_drain(world, &subject, node);
        if (r >= 0)
                r = check_objection(&subject, node);
        if (r >= 0)
                r = check_fenced(world, &subject, node);
        if (r < 0)
                return r;
        switch (world_node_state(world, &node->id)) {
        case NODE_STATE_LOST:
                return check_lost(&subject, node);
        case NODE_STATE_SILENT:
                return check_silent(world, &subject, node);
        case NODE_STATE_JOINING:
                return check_joining(&subject, node);
        case NODE_STATE_REMOVED:
                return 0;
        case NODE_STATE_ONLINE:
        case NODE_STATE_DRAINING:
        case NODE_STATE_DRAINED:
                break;
        }
        if (!facts)
                return 0;
        r = check_registry(&subject, node, facts);
        if (r >= 0)
                r = check_agents(world, &subject, node, facts);
        return r < 0 || node->witness ? r : check_host(world, &subject, node, facts);
}
