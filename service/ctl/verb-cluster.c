/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl cluster: its members, its level, and when failover rests. */

#include "core/names.h"
#include "ctl/job-wait.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

static void begin(Ctl *ctl, Request *request, RequestKind kind, const char *method, const char *doing) {
        request_begin(ctl, request, kind, OBJECT_ROOT, INTERFACE_MANAGER, method);
        request_explain(request, ACTION_MANAGE_CLUSTER, "%s", doing);
}

static void answer_done(Ctl *ctl) {
        if (!ctl->json)
                return;
        Json *document = json_map();
        json_put_truth(document, "done", true);
        ctl_answer(ctl, document);
}

Status verb_cluster_invite(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        uint64_t seconds = INVITE_SECONDS_DEFAULT;
        const char *token;
        Status status = option_seconds(ctl, args, "--expires", INVITE_SECONDS_LEAST, INVITE_SECONDS_MOST, &seconds);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Invite", "inviting a node");
        request_option(&request, "expires", "t", seconds);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 's', &token);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        if (ctl->json) {
                Json *document = json_map();
                json_put_text(document, "invitation", token);
                json_put_number(document, "good_for_seconds", seconds);
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        _cleanup_free_ char *lifetime = lifetime_to_text(seconds);
        ctl_hint(ctl, "Run this on the new host within %s:", lifetime);
        screen_say(&ctl->out, "  gpupoolctl cluster join %s", token);
        return STATUS_DONE;
}

Status verb_cluster_join(Ctl *ctl, const Args *args) {
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        _cleanup_request_ Request request = {};
        Status status = job_wait_new(ctl, &wait);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Join", "joining another cluster");
        request_append(&request, "s", args->words.items[0]);
        status = job_wait_send(wait, &request, "join", "the cluster");
        return status == STATUS_DONE ? job_wait_run(wait) : status;
}

/* The answer comes before the service starts anew, so that what is there now is no use to ask. */
static Status tell_gone(Ctl *ctl, const char *node, const char *cluster, const char *how) {
        ctl_tell(ctl, "%s %s cluster %s. It starts anew, as a cluster of its own without pools and VMs.", node, how,
                 cluster);
        answer_done(ctl);
        return STATUS_DONE;
}

Status verb_cluster_leave(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        const ClusterObject *cluster = &objects->cluster;
        const NodeObject *here = objects_node(objects, cluster->local_node);
        const char *name = objects_name(objects, cluster->local_node);
        if (here && text_equal(here->state, "removed"))
                return ctl_fail(ctl, STATUS_FAILED, ERROR_CONFLICT,
                                "%s was removed from cluster %s already. To make it a cluster of its own: gpupoolctl "
                                "cluster reset", name, cluster->name);
        status = ctl_confirm(ctl, ASK_OR_BE_TOLD,
                             "Take %s out of cluster %s? It forgets the cluster's pools and VMs and becomes a cluster "
                             "of its own.", name, cluster->name);
        if (status != STATUS_DONE)
                return status;

        begin(ctl, &request, REQUEST_CHANGE, "Leave", "leaving the cluster");
        status = request_send(ctl, &request, NULL);
        return status == STATUS_DONE ? tell_gone(ctl, name, cluster->name, "has left") : status;
}

/* What is lost, in whole sentences. */
static char *warn_of_reset(const Objects *objects) {
        const ClusterObject *cluster = &objects->cluster;
        const NodeObject *here = objects_node(objects, cluster->local_node);
        const char *name = objects_name(objects, cluster->local_node);
        char *warning = must_printf("%s forgets all that it knows of cluster %s: %zu pool%s, %zu VM%s (what was "
                                    "defined, not their disks), and the log of what was done. Nobody is asked.", name,
                                    cluster->name, objects->pools.n, plural(objects->pools.n), objects->vms.n,
                                    plural(objects->vms.n));
        if (here && text_equal(here->state, "removed"))
                return warning;
        if (objects->nodes.n == 1)
                must_append(&warning, " There is no other node that knows it too; a backup would (gpupoolctl export).");
        else if (cluster->quorate)
                must_append(&warning, " The cluster is at work and would let it go in order: gpupoolctl cluster "
                            "leave.");
        else
                must_append(&warning, " If the others come back, they still hold %s for a member: gpupoolctl node "
                            "remove %s, there.", name, name);
        return warning;
}

Status verb_cluster_reset(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        const char *name = objects_name(objects, objects->cluster.local_node);
        _cleanup_free_ char *warning = warn_of_reset(objects);
        status = ctl_confirm_word(ctl, "--forget", args_has(args, "--forget"), name, warning);
        if (status != STATUS_DONE)
                return status;

        begin(ctl, &request, REQUEST_CHANGE, "Reset", "resetting this node");
        request_option(&request, "forget", "b", 1);
        status = request_send(ctl, &request, NULL);
        return status == STATUS_DONE ? tell_gone(ctl, name, objects->cluster.name, "has forgotten") : status;
}

static Status show_level(Ctl *ctl) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        const ClusterObject *cluster = &objects->cluster;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "cluster", json_of_cluster(objects));
                ctl_answer(ctl, document);
        } else {
                screen_say(&ctl->out, "level %u; this node's program can work at %u", cluster->functional_level,
                           cluster->supported_level);
        }
        return STATUS_DONE;
}

static Status tell_in_the_way(Ctl *ctl, const TextList *sentences, int64_t level, bool dry_run) {
        if (ctl->json) {
                Json *document = json_map();
                json_put_list(document, "in_the_way", sentences);
                json_put_truth(document, "raised", sentences->n == 0 && !dry_run);
                ctl_answer(ctl, document);
        } else if (sentences->n == 0) {
                ctl_tell(ctl, dry_run ? "Nothing is in the way of level %lld." : "The cluster works at level %lld now.",
                         (long long) level);
        }
        for (size_t i = 0; i < sentences->n && !ctl->json; i++)
                screen_say(&ctl->out, "%s", sentences->items[i]);
        return sentences->n == 0 ? STATUS_DONE : STATUS_WAITS;
}

Status verb_cluster_level(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        _cleanup_(text_list_clear) TextList sentences = {};
        _cleanup_free_ char *problem = NULL;
        bool dry_run = args_has(args, "--dry-run");
        const char *sentence;
        int64_t level;
        if (args->words.n == 0)
                return show_level(ctl);
        if (number_from_text("The level", args->words.items[0], 1, UINT32_MAX, &level, &problem) < 0)
                return ctl_refuse_usage(ctl, "%s", problem);
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;

        begin(ctl, &request, REQUEST_CHANGE, "SetFunctionalLevel", "raising the functional level");
        request_append(&request, "u", (uint32_t) level);
        if (dry_run)
                request_option(&request, "dry-run", "b", 1);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_enter_container(answer, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read_basic(answer, 's', &sentence)) > 0)
                must_list_add(&sentences, sentence);
        return r < 0 ? request_refuse_answer(ctl, &request, r) : tell_in_the_way(ctl, &sentences, level, dry_run);
}

Status verb_cluster_freeze(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        uint64_t seconds;
        Status status = seconds_from_text(ctl, "TIME", args->words.items[0], 1, FREEZE_MS_MAX / 1000, &seconds);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Freeze", "suspending failover");
        request_append(&request, "t", seconds);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        _cleanup_free_ char *lifetime = lifetime_to_text(seconds);
        ctl_tell(ctl, "For %s no node is held for lost because it is silent, and none ends its VMs. To end that early: "
                      "gpupoolctl cluster thaw", lifetime);
        answer_done(ctl);
        return STATUS_DONE;
}

Status verb_cluster_thaw(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Thaw", "ending a freeze");
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "Failover by time is at work again.");
        answer_done(ctl);
        return STATUS_DONE;
}
