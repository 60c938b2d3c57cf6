/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/joining.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/names.h"
#include "core/token.h"
#include "util/log.h"

#define TRIES_MAX 5U                    /* of a request that was lost on the way */
#define RETRY_US 1000000U

struct Joining {
        JoiningConfig config;
        Token token;
        uint64_t job;                   /* 0: none is under way */
        unsigned tries;
        bool adopted;
        PeerJoin *request;
        sd_event_source *retry;
};

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

int joining_new(Joining **ret, const JoiningConfig *config) {
        _cleanup_(joining_freep) Joining *joining = calloc(1, sizeof(*joining));
        if (!joining)
                return -ENOMEM;
        joining->config = *config;
        int r = sd_event_add_time(config->event, &joining->retry, CLOCK_BOOTTIME, UINT64_MAX, 0, on_retry, joining);
        if (r < 0)
                return r;
        *ret = STEAL(joining);
        return 0;
}

Joining *joining_free(Joining *joining) {
        if (!joining)
                return NULL;
        peer_join_free(joining->request);
        sd_event_source_disable_unref(joining->retry);
        token_clear(&joining->token);
        free(joining);
        return NULL;
}

static void end(Joining *joining, JobResult result, const char *error, const char *sentence) {
        /* The inviter's words, perhaps. */
        _cleanup_free_ char *line = NULL;
        uint64_t job = joining->job;
        joining->job = 0;
        token_clear(&joining->token);
        if (text_set(&line, sentence) >= 0 && line)
                text_make_printable(line, TEXT_LENGTH_MAX);
        if (result == JOB_DONE)
                log_notice("this node is a member of cluster %s", history_registry(joining->config.history)->name);
        else
                log_notice("this node did not join: %s", line ? line : "");
        operations_end_join(joining->config.operations, job, result, error, line);
}

static int take_peers(const Gpupool1__JoinAnswer *answer, PeersFile *ret) {
        PeersFile file = { .joining = true };
        int r = answer->cluster.len == ID_SIZE && name_is_valid(answer->cluster_name) ? 0 : -EBADMSG;
        if (r >= 0) {
                memcpy(file.cluster.bytes, answer->cluster.data, ID_SIZE);
                r = text_set(&file.cluster_name, answer->cluster_name);
        }
        for (size_t i = 0; r >= 0 && i < answer->n_peers; i++)
                r = peers_file_add(&file, answer->peers[i]);
        if (r < 0) {
                peers_file_clear(&file);
                return r;
        }
        *ret = file;
        return 0;
}

/* From the moment that the file is written this node belongs to the other cluster. */
static void admitted(Joining *joining, const Gpupool1__JoinAnswer *answer) {
        Peers *peers = joining->config.peers;
        _cleanup_(peers_file_clear) PeersFile file = {};
        int r = take_peers(answer, &file);
        if (r >= 0 && !ID_EQUAL(&file.cluster, &joining->token.cluster))
                r = -EBADMSG;
        if (r >= 0)
                r = peers_file_save(peers->state_directory, &file);
        if (r < 0) {
                _cleanup_free_ char *sentence = NULL;
                (void) text_printf(&sentence, "the cluster admitted this node, but that cannot be written down here: "
                                              "%s. Join again with the same invitation", strerror(-r));
                end(joining, JOB_FAILED, r == -ENOSPC ? ERROR_STORAGE_FULL : ERROR_FAILED, sentence);
                return;
        }
        PeersFile old = peers->file;
        peers->file = file;
        file = old;
        joining->adopted = true;
        operations_join_at(joining->config.operations, joining->job, JOIN_RECEIVING);
        joining->config.adopted(joining->config.userdata);
}

static void retry_or_end(Joining *joining, const char *error, const char *sentence) {
        if (++joining->tries >= TRIES_MAX) {
                end(joining, JOB_FAILED, error, sentence);
                return;
        }
        (void) sd_event_source_set_time_relative(joining->retry, RETRY_US);
        (void) sd_event_source_set_enabled(joining->retry, SD_EVENT_ONESHOT);
}

/* A job's error outlives the answer that it came with; and a name that is none of ours is not shown for one. */
static const char *known_error(const char *name) {
        static const char *const known[] = { ERROR_ACCESS_DENIED, ERROR_NOT_FOUND, ERROR_CONFLICT, ERROR_EXISTS,
                                             ERROR_IN_USE, ERROR_INVALID_ARGUMENT, ERROR_LEVEL_TOO_LOW, ERROR_NO_QUORUM,
                                             ERROR_LIMITS_EXCEEDED, ERROR_STORAGE_FULL, ERROR_OUTCOME_UNKNOWN };
        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (text_equal(name, known[i]))
                        return known[i];
        return ERROR_FAILED;
}

__attribute__((format(printf, 3, 4))) static void end_with(Joining *joining, const char *error, const char *format,
                                                           ...) {
        _cleanup_free_ char *sentence = NULL;
        va_list arguments;
        va_start(arguments, format);
        if (vasprintf(&sentence, format, arguments) < 0)
                sentence = NULL;
        va_end(arguments);
        end(joining, JOB_FAILED, error, sentence ? sentence : "out of memory");
}

static void on_answer(PeerJoinOutcome outcome, const char *sentence, const Gpupool1__JoinAnswer *answer,
                      void *userdata) {
        Joining *joining = userdata;
        switch (outcome) {
        case PEER_JOIN_ANSWERED:
                if (answer->admitted)
                        admitted(joining, answer);
                else if (text_equal(answer->error, ERROR_OUTCOME_UNKNOWN))
                        retry_or_end(joining, ERROR_OUTCOME_UNKNOWN, answer->sentence);
                else
                        end(joining, JOB_FAILED, known_error(answer->error), answer->sentence);
                break;
        case PEER_JOIN_UNREACHABLE:
                end_with(joining, ERROR_UNREACHABLE, "no address of the invitation answers: %s. See that gpupoold runs "
                         "on the inviting node and that this one reaches it, then join again", sentence);
                break;
        case PEER_JOIN_WRONG_KEY:
                end_with(joining, ERROR_ACCESS_DENIED, "%s. It was told nothing. See which host has that address, or "
                         "make a new invitation on the right one, with gpupoolctl cluster invite", sentence);
                break;
        case PEER_JOIN_LOST:
                retry_or_end(joining, ERROR_OUTCOME_UNKNOWN, sentence);
                break;
        case PEER_JOIN_PROTOCOL:
                end(joining, JOB_FAILED, ERROR_FAILED, sentence);
                break;
        }
}

static int ask(Joining *joining) {
        Gpupool1__JoinRequest request = GPUPOOL1__JOIN_REQUEST__INIT;
        const JoiningConfig *config = &joining->config;
        PeerInviter inviter = { .addresses = (const char *const *) joining->token.addresses.items,
                                .n_addresses = joining->token.addresses.n };
        const char *boot_id = config->boot_id(config->userdata);
        memcpy(inviter.key, joining->token.key, PEER_KEY_SIZE);
        request.invite = id_message_borrow(joining->token.invite.bytes);
        request.secret = (ProtobufCBinaryData) { .len = sizeof(joining->token.secret), .data = joining->token.secret };
        request.name = (char *) config->name;
        request.addresses = config->addresses->items;
        request.n_addresses = config->addresses->n;
        request.level = LEVEL_SUPPORTED;
        request.witness = config->witness;
        request.boot_id = boot_id ? (char *) boot_id : (char *) "";
        joining->request = peer_join_free(joining->request);
        return peer_join_new(&joining->request, config->event, config->key, &config->node, &inviter, &request,
                             on_answer, joining);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Joining *joining = userdata;
        int r = ask(joining);
        if (r < 0)
                end(joining, JOB_FAILED, ERROR_FAILED, strerror(-r));
        return 0;
}

static const char *read_token(Joining *joining, const char *text, char **ret_sentence) {
        int r = token_decode(text, &joining->token);
        const char *sentence = NULL;
        switch (r) {
        case TOKEN_GOOD:
                return NULL;
        case TOKEN_NOT_ONE:
                sentence = "this is no invitation: it begins with gp1- and comes from gpupoolctl cluster invite on a "
                           "member";
                break;
        case TOKEN_DAMAGED:
                sentence = "the invitation is damaged: copy it whole";
                break;
        case TOKEN_NEWER:
                sentence = "the invitation is of a newer gpupool: upgrade this node first";
                break;
        default:
                sentence = strerror(-r);
        }
        (void) text_set(ret_sentence, sentence);
        return ERROR_INVALID_ARGUMENT;
}

/* A node with something of its own would lose it. */
static const char *judge_self(const Joining *joining, char **ret_sentence) {
        const Registry *registry = history_registry(joining->config.history);
        if (joining->config.peers->file.removed) {
                (void) text_set(ret_sentence, "this node was removed from its cluster and is still full of it: "
                                              "gpupoolctl cluster reset, then join");
                return ERROR_CONFLICT;
        }
        if (ID_EQUAL(&registry->cluster, &joining->token.cluster)) {
                (void) text_printf(ret_sentence, "this node is a member of cluster %s already", registry->name);
                return ERROR_CONFLICT;
        }
        if (registry->nodes.n > 1) {
                (void) text_printf(ret_sentence,
                                   "this node is a member of cluster %s: gpupoolctl cluster leave, then join",
                                   registry->name);
                return ERROR_CONFLICT;
        }
        if (registry->pools.n > 0 || registry->vms.n > 0) {
                (void) text_printf(ret_sentence,
                                   "this node has %zu pool%s and %zu VM%s of its own, which joining would lose: delete "
                                   "them (gpupoolctl export keeps a copy), or join the other way round",
                                   registry->pools.n, registry->pools.n == 1 ? "" : "s", registry->vms.n,
                                   registry->vms.n == 1 ? "" : "s");
                return ERROR_IN_USE;
        }
        return NULL;
}

int joining_begin(Joining *joining, const char *token, const Caller *caller, const Job **ret_job,
                  const char **ret_error, char **ret_sentence) {
        if (joining->job != 0) {
                *ret_error = ERROR_BUSY;
                return text_set(ret_sentence,
                                "this node is joining a cluster already: gpupoolctl job shows how far it is");
        }
        const char *error = read_token(joining, token, ret_sentence);
        if (!error)
                error = judge_self(joining, ret_sentence);
        const Job *job = NULL;
        int r = error ? 0 : operations_begin_join(joining->config.operations, caller, &job);
        if (r == JOB_LIMIT) {
                error = ERROR_LIMITS_EXCEEDED;
                r = text_set(ret_sentence, "you have too many unfinished jobs on this node: wait for one");
        }
        if (error || r < 0) {
                token_clear(&joining->token);
                *ret_error = error;
                return r;
        }
        joining->job = job->id;
        joining->tries = 0;
        joining->adopted = false;
        r = ask(joining);
        if (r < 0)
                end(joining, JOB_FAILED, ERROR_FAILED, strerror(-r));
        *ret_job = job;
        return 0;
}

/* It can be given VMs once the registry knows how long its leases are (member.c); before that it is not done. */
void joining_turn(Joining *joining) {
        const Registry *registry = history_registry(joining->config.history);
        if (joining->job == 0 || !joining->adopted)
                return;
        const NodeRecord *self = registry_find_node(registry, &joining->config.node);
        if (self && (self->witness || self->lease_ms > 0 || registry->level < LEVEL_FAILOVER))
                end(joining, JOB_DONE, NULL, NULL);
        else if (self && self->lost)
                end(joining, JOB_FAILED, ERROR_FAILED, "the cluster admitted this node, but it could not tell in time "
                    "what it is, as its GPUs are not surveyed yet: it is a member, and comes by itself when they are");
}
