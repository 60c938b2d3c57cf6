/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/member.h"

#include <errno.h>
#include <systemd/sd-id128.h>

#include "core/names.h"
#include "util/log.h"

#define RETRY_US 2000000U

void member_clear(Member *member) {
        free(member->told_refusal);
        member->told_refusal = NULL;
}

static void on_decided(SubmitOutcome outcome, const Result *result, void *userdata) {
        Member *member = userdata;
        member->announcing = false;
        if (outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE && member->announces_boot)
                member->began_boot = true;
        if (outcome != SUBMIT_COMMITTED || result->verdict != VERDICT_DONE) {
                uint64_t now = 0;
                (void) sd_event_now(member->event, CLOCK_BOOTTIME, &now);
                member->not_before_us = now + RETRY_US;
        }
        if (outcome == SUBMIT_COMMITTED && result->verdict != VERDICT_DONE &&
            !text_equal(member->told_refusal, result->sentence)) {
                log_error("the cluster does not take this node: %s", result->sentence);
                (void) text_set(&member->told_refusal, result->sentence);
        }
        member->decided(member->userdata);
}

bool member_is_current(const World *world) {
        const NodeRecord *self = registry_find_node(world->registry, &world->local);
        const NodeFacts *facts = world_find_facts(world, &world->local);
        return self && facts && facts->boot_id && text_equal(self->boot_id, facts->boot_id);
}

static int begin_cluster(Member *member, const char *name) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        Gpupool1__InitCluster init = GPUPOOL1__INIT_CLUSTER__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        init.cluster = id_message_borrow(id.bytes);
        init.name = (char *) name;
        init.level = LEVEL_SUPPORTED;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER;
        entry.init_cluster = &init;
        return history_submit(member->history, &entry, on_decided, member);
}

/* What the registry is to know of this node's leases, where the cluster goes by any. While the guard still goes by
 * longer ones, what it knows stands, whatever else there is to tell: others count on it (P1). */
static void choose_times(const Member *member, const World *world, const NodeRecord *self, uint32_t *ret_lease_ms,
                         uint32_t *ret_death_ms) {
        *ret_lease_ms = *ret_death_ms = 0;
        if (world->registry->level >= LEVEL_FAILOVER &&
            !leases_may_announce(member->leases, self, ret_lease_ms, ret_death_ms)) {
                *ret_lease_ms = self->lease_ms;
                *ret_death_ms = self->death_ms;
        }
}

/* It was declared lost, and all that it ran is dead, proven: a new life, in which it may run VMs again. */
static bool may_return(const Member *member, const NodeRecord *self) {
        return self->lost && runner_is_clean(member->runner);
}

static int announce(Member *member, const World *world, const NodeFacts *facts, const NodeRecord *self,
                    const char *name) {
        Gpupool1__AnnounceNode announcement = GPUPOOL1__ANNOUNCE_NODE__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        bool same_boot = self && text_equal(self->boot_id, facts->boot_id);
        bool same_life = same_boot && !may_return(member, self);
        choose_times(member, world, self, &announcement.lease_ms, &announcement.death_ms);
        member->announces_boot = !same_boot;
        announcement.node = id_message_borrow(world->local.bytes);
        announcement.name = (char *) name;
        announcement.boot_id = facts->boot_id;
        announcement.incarnation = !self ? 1 : same_life ? self->incarnation : self->incarnation + 1;
        announcement.n_addresses = member->addresses->n;
        announcement.addresses = member->addresses->items;
        announcement.key = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = (uint8_t *) member->key };
        announcement.witness = member->witness;
        announcement.level = LEVEL_SUPPORTED;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE;
        entry.announce_node = &announcement;
        return history_submit(member->history, &entry, on_decided, member);
}

static bool is_told(const Member *member, const World *world, const NodeFacts *facts, const NodeRecord *self,
                    const char *name) {
        uint32_t lease_ms, death_ms;
        choose_times(member, world, self, &lease_ms, &death_ms);
        return !may_return(member, self) && self->lease_ms == lease_ms && self->death_ms == death_ms &&
               text_equal(self->name, name) && text_equal(self->boot_id, facts->boot_id) &&
               self->level == LEVEL_SUPPORTED && text_list_equal(&self->addresses, member->addresses) &&
               self->has_key && memcmp(self->key, member->key, HASH_SIZE) == 0 && self->witness == member->witness;
}

int member_turn(Member *member, const World *world, const char *name, uint64_t now_us, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        const NodeFacts *facts = world_find_facts(world, &world->local);
        const NodeRecord *self = registry_find_node(world->registry, &world->local);
        bool fresh = id_is_null(world->registry->cluster.bytes);
        Lead lead;
        history_lead(member->history, &lead);
        /* Who waits for its first history begins no cluster, and one that does not know this node yet is not told of
         * it. Nor is anything told by an old one: this boot may seem to be new by it though a program before this one
         * announced it, and leases to be of another length. */
        if (member->announcing || !member->caught_up || !lead.quorate || !facts || !facts->boot_id || world->removed ||
            (fresh && !lead.is_local) || (!fresh && !self && world->registry->nodes.n > 0) ||
            (self && is_told(member, world, facts, self, name)))
                return 0;
        if (now_us < member->not_before_us) {
                *ret_wake_us = member->not_before_us;
                return 0;
        }
        int r = fresh ? begin_cluster(member, name) : announce(member, world, facts, self, name);
        if (r < 0) {
                member->not_before_us = *ret_wake_us = now_us + RETRY_US;
                return r == -ENOMEM ? r : 0;
        }
        member->announcing = true;
        return 0;
}
