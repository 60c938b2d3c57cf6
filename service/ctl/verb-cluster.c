/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl cluster: its members, its level, its backups. A service that does not do one of these yet says so. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/names.h"
#include "ctl/job-wait.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define BACKUP_SIZE_MAX (127U * 1024U * 1024U)  /* D-Bus sends no larger message than 128 MiB */
#define FREEZE_MAX_S 86400

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
        const char *token;
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Invite", "inviting a node");
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 's', &token);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        if (ctl->json) {
                Json *document = json_map();
                json_put_text(document, "invitation", token);
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        ctl_hint(ctl, "Run this on the new host within 15 minutes:");
        screen_say(&ctl->out, "  gpupoolctl cluster join %s", token);
        return STATUS_DONE;
}

Status verb_cluster_join(Ctl *ctl, const Args *args) {
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        Status status = job_wait_new(ctl, &wait);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Join", "joining another cluster");
        request_append(&request, "s", args->words.items[0]);
        status = job_wait_send(wait, &request, "join", "the cluster");
        if (status == STATUS_DONE)
                status = job_wait_run(wait);
        if (status != STATUS_DONE || ctl->no_wait || ctl->quiet || ctl->json)
                return status;

        status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "joined %s as %s (%zu nodes).%s", objects->cluster.name,
                 objects_name(objects, objects->cluster.local_node), objects->nodes.n,
                 objects->nodes.n == 2 ? " A pair needs a third vote: gpupoolctl check explains a witness." : "");
        return STATUS_DONE;
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
        _cleanup_free_ char *problem = NULL;
        int64_t seconds;
        if (number_from_text("SECONDS", args->words.items[0], 1, FREEZE_MAX_S, &seconds, &problem) < 0)
                return ctl_refuse_usage(ctl, "%s", problem);
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Freeze", "suspending failover");
        request_append(&request, "t", (uint64_t) seconds);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "No node is held for lost because it is silent, for %lld s. "
                      "To end it early: gpupoolctl cluster thaw",
                 (long long) seconds);
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

static int write_all(int fd, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, bytes, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                bytes += n;
                size -= (size_t) n;
        }
        return 0;
}

/* A backup that could not be written whole is not left behind. */
static Status write_backup(Ctl *ctl, const char *file, const void *bytes, size_t size) {
        bool to_output = text_equal(file, "-");
        _cleanup_close_ int fd = to_output ? dup(STDOUT_FILENO) :
                                             open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be made: %s.", file, strerror(errno));
        int r = write_all(fd, bytes, size);
        if (r == 0 && !to_output && fsync(fd) < 0)
                r = -errno;
        if (r == 0)
                return STATUS_DONE;
        if (!to_output)
                (void) unlink(file);
        return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be written: %s.", file, strerror(-r));
}

Status verb_cluster_export(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        const char *file = args->words.items[0];
        const void *bytes;
        size_t size;
        if (text_equal(file, "-") && ctl->json)
                return ctl_refuse_usage(ctl, "--json and a backup cannot both go to standard output.");
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_GUARDED_READ, "Export", "exporting the registry");
        request_options(&request);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_array(answer, 'y', &bytes, &size);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        status = write_backup(ctl, file, bytes, size);
        if (status != STATUS_DONE || text_equal(file, "-"))
                return status;
        ctl_tell(ctl, "%s: %zu bytes. It holds the VMs' XML, so keep it as they are kept.", file, size);
        answer_done(ctl);
        return STATUS_DONE;
}

Status verb_cluster_import(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_free_ char *bytes = NULL;
        size_t size;
        Status status = file_read(ctl, args->words.items[0], BACKUP_SIZE_MAX, &bytes, &size);
        if (status == STATUS_DONE)
                status = ctl_confirm(ctl, ASK_IF_SOMEONE_IS_THERE, "Restore %s into this cluster?",
                                     args->words.items[0]);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Import", "restoring a backup");
        request_append_bytes(&request, bytes, size);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "The backup is restored: gpupoolctl status");
        answer_done(ctl);
        return STATUS_DONE;
}
