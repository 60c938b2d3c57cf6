/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/admission.h"

#include <errno.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "core/names.h"
#include "core/token.h"
#include "daemon/seats.h"
#include "util/clock.h"
#include "util/log.h"

#define PEERS_TOLD_MAX 16U              /* of a JoinAnswer */
#define REFUSAL_LOG_MS 10000U           /* between two lines, on a clock that nobody sets */

/* ---- inviting */

typedef struct Invitation {
        char *token;
        InviteCallback callback;
        void *userdata;
} Invitation;

static void invitation_free(Invitation *invitation) {
        free(invitation->token);
        free(invitation);
}

static void on_invited(SubmitOutcome outcome, const Result *result, void *userdata) {
        Invitation *invitation = userdata;
        invitation->callback(outcome, result, invitation->token, invitation->userdata);
        invitation_free(invitation);
}

static int make_token(const Admission *admission, uint64_t expires_ms, Token *ret) {
        const Registry *registry = history_registry(admission->history);
        sd_id128_t id, secret;
        int r = sd_id128_randomize(&id);
        if (r >= 0)
                r = sd_id128_randomize(&secret);
        if (r < 0)
                return r;
        *ret = (Token) { .cluster = registry->cluster, .expires_ms = expires_ms };
        memcpy(ret->invite.bytes, id.bytes, ID_SIZE);
        memcpy(ret->secret, secret.bytes, sizeof(ret->secret));
        memcpy(ret->key, peer_key_pin(admission->key), PEER_KEY_SIZE);
        r = text_set(&ret->cluster_name, registry->name);
        for (size_t i = 0; r >= 0 && i < admission->addresses->n && i < TOKEN_ADDRESSES_MAX; i++)
                r = text_list_add(&ret->addresses, admission->addresses->items[i]);
        if (r < 0)
                token_clear(ret);
        return r;
}

int admission_invite(Admission *admission, Entry *entry, uint64_t lifetime_ms, InviteCallback callback,
                     void *userdata) {
        _cleanup_(token_clear) Token token = {};
        uint8_t hash[PEER_KEY_SIZE];
        uint64_t expires_ms = clock_realtime_ms() + lifetime_ms;
        Invitation *invitation = calloc(1, sizeof(*invitation));
        if (!invitation)
                return -ENOMEM;
        *invitation = (Invitation) { .callback = callback, .userdata = userdata };
        int r = make_token(admission, expires_ms, &token);
        if (r >= 0)
                r = token_encode(&token, &invitation->token);
        if (r >= 0)
                r = peer_hash(token.secret, sizeof(token.secret), hash);
        if (r >= 0) {
                Gpupool1__CreateInvite command = GPUPOOL1__CREATE_INVITE__INIT;
                command.invite = id_message_borrow(token.invite.bytes);
                command.secret_hash = (ProtobufCBinaryData) { .len = sizeof(hash), .data = hash };
                command.expires_ms = expires_ms;
                entry->command_case = GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE;
                entry->create_invite = &command;
                r = history_submit(admission->history, entry, on_invited, invitation);
        }
        if (r < 0)
                invitation_free(invitation);
        return r;
}

/* ---- admitting */

struct Guest {
        Admission *admission;
        Guest *next;
        PeerStranger *stranger;         /* NULL: gone; its entry goes its way */
};

static void answer_no(PeerStranger *stranger, const char *error, const char *sentence) {
        Gpupool1__JoinAnswer answer = GPUPOOL1__JOIN_ANSWER__INIT;
        answer.error = (char *) error;
        answer.sentence = (char *) sentence;
        (void) peer_stranger_answer(stranger, &answer);
}

typedef struct PeerMessages {
        Gpupool1__PeerRecord records[PEERS_TOLD_MAX];
        Gpupool1__PeerRecord *pointers[PEERS_TOLD_MAX];
        size_t n;
} PeerMessages;

static void list_peers(const Admission *admission, const Seats *seats, bool members, PeerMessages *ret) {
        ARRAY_EACH(node, &history_registry(admission->history)->nodes) {
                if (ret->n >= PEERS_TOLD_MAX || !node->has_key ||
                    seats_has_log(seats, &node->id) != members)
                        continue;
                Gpupool1__PeerRecord *record = ret->records + ret->n;
                gpupool1__peer_record__init(record);
                record->node = id_message_borrow(node->id.bytes);
                record->key = (ProtobufCBinaryData) { .len = PEER_KEY_SIZE, .data = node->key };
                record->name = node->name;
                record->addresses = node->addresses.items;
                record->n_addresses = node->addresses.n;
                record->member = members;
                ret->pointers[ret->n++] = record;
        }
}

static void answer_yes(Admission *admission, PeerStranger *stranger) {
        const Registry *registry = history_registry(admission->history);
        Gpupool1__JoinAnswer answer = GPUPOOL1__JOIN_ANSWER__INIT;
        PeerMessages peers = {};
        Seats seats;
        seats_get(history_engine(admission->history), &seats);
        /* The engine's members first: they can be followed. */
        list_peers(admission, &seats, true, &peers);
        list_peers(admission, &seats, false, &peers);
        answer.admitted = true;
        answer.cluster = id_message_borrow(registry->cluster.bytes);
        answer.cluster_name = registry->name;
        answer.level = registry->level;
        answer.peers = peers.pointers;
        answer.n_peers = peers.n;
        (void) peer_stranger_answer(stranger, &answer);
}

static void guest_free(Guest *guest) {
        for (Guest **p = &guest->admission->guests; *p; p = &(*p)->next)
                if (*p == guest) {
                        *p = guest->next;
                        break;
                }
        free(guest);
}

void admission_clear(Admission *admission) {
        while (admission->guests)
                guest_free(admission->guests);
}

void admission_stranger_gone(Admission *admission, PeerStranger *stranger) {
        for (Guest *i = admission->guests; i; i = i->next)
                if (i->stranger == stranger)
                        i->stranger = NULL;
}

static void on_admitted(SubmitOutcome outcome, const Result *result, void *userdata) {
        Guest *guest = userdata;
        Admission *admission = guest->admission;
        PeerStranger *stranger = guest->stranger;
        guest_free(guest);
        if (!stranger)
                return;
        switch (outcome) {
        case SUBMIT_COMMITTED:
                if (result->verdict == VERDICT_DONE)
                        answer_yes(admission, stranger);
                else
                        answer_no(stranger, verdict_to_error(result->verdict), result->sentence);
                return;
        case SUBMIT_NO_QUORUM:
        case SUBMIT_STOPPING:
                answer_no(stranger, ERROR_NO_QUORUM,
                          "the cluster has no quorum at present and can take no member: try again when gpupoolctl "
                          "status shows one");
                return;
        case SUBMIT_STORAGE_FULL:
        case SUBMIT_STORAGE_WAITED_FOR:
                answer_no(stranger, ERROR_STORAGE_FULL,
                          "the cluster cannot write its registry, because a disk is full: make room, then try again");
                return;
        case SUBMIT_OUTCOME_UNKNOWN:
                answer_no(stranger, ERROR_OUTCOME_UNKNOWN,
                          "the cluster did not answer in time, so this node may be a member or not: join again with "
                          "the same invitation");
                return;
        }
}

/* Of an invitation that was used: by this very node, which did not learn that it was admitted? */
static bool was_used_by(const Registry *registry, const Invite *invite, const NodeId *node, const uint8_t *key) {
        const NodeRecord *member = registry_find_node(registry, node);
        return ID_EQUAL(&invite->node, node) && member && member->has_key &&
               memcmp(member->key, key, PEER_KEY_SIZE) == 0;
}

/* NULL: it may come in. What is sure to be refused is refused here: an invitation that was used is in many hands, and
 * each entry costs all nodes a write. */
static const char *judge(const Admission *admission, const Gpupool1__JoinRequest *request, const uint8_t *hash,
                         const NodeId *node, const uint8_t *key, const char **ret_error) {
        const Registry *registry = history_registry(admission->history);
        InviteId id;
        *ret_error = ERROR_NOT_FOUND;
        if (request->invite.len != ID_SIZE)
                return "this is no invitation";
        memcpy(id.bytes, request->invite.data, ID_SIZE);
        const Invite *invite = registry_find_invite(registry, &id);
        if (!invite)
                return "the cluster does not know this invitation any more: make a new one there, with gpupoolctl "
                       "cluster invite";
        *ret_error = ERROR_ACCESS_DENIED;
        if (memcmp(invite->secret_hash, hash, sizeof(invite->secret_hash)) != 0)
                return "the secret of the invitation is wrong: copy the invitation whole, or make a new one there, "
                       "with gpupoolctl cluster invite";
        *ret_error = ERROR_CONFLICT;
        if (!id_is_null(invite->node.bytes))
                return was_used_by(registry, invite, node, key)
                               ? NULL
                               : "this invitation was used already: make a new one there, with gpupoolctl cluster "
                                 "invite";
        if (clock_realtime_ms() > invite->expires_ms)
                return "the invitation has expired: make a new one there, with gpupoolctl cluster invite. If it is "
                       "new, compare the clocks of both hosts";
        return NULL;
}

static int admit(Admission *admission, Guest *guest, const NodeId *node, const uint8_t *key, const uint8_t *hash,
                 const Gpupool1__JoinRequest *request) {
        Gpupool1__AdmitNode command = GPUPOOL1__ADMIT_NODE__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        command.invite = request->invite;
        command.secret_hash = (ProtobufCBinaryData) { .len = PEER_KEY_SIZE, .data = (uint8_t *) hash };
        command.node = id_message_borrow(node->bytes);
        command.key = (ProtobufCBinaryData) { .len = PEER_KEY_SIZE, .data = (uint8_t *) key };
        command.name = request->name;
        command.n_addresses = request->n_addresses;
        command.addresses = request->addresses;
        command.level = request->level;
        command.witness = request->witness;
        command.boot_id = request->boot_id;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE;
        entry.admit_node = &command;
        return history_submit(admission->history, &entry, on_admitted, guest);
}

/* Anybody who reaches the port can be refused, as often as he likes and under any name: neither is for the log. */
static void log_refusal(Admission *admission, const Gpupool1__JoinRequest *request, const char *why) {
        uint64_t now_ms = clock_boottime_us() / 1000;
        if (now_ms < admission->refusal_not_before_ms) {
                admission->refusals_unsaid++;
                return;
        }
        const char *name = name_is_valid(request->name) ? request->name : "without a valid name";
        if (admission->refusals_unsaid > 0)
                log_notice("node %s asked to join and was refused: %s (and %u more were before it)", name, why,
                           admission->refusals_unsaid);
        else
                log_notice("node %s asked to join and was refused: %s", name, why);
        admission->refusal_not_before_ms = now_ms + REFUSAL_LOG_MS;
        admission->refusals_unsaid = 0;
}

void admission_asked(Admission *admission, PeerStranger *stranger, const NodeId *node,
                     const uint8_t key[static PEER_KEY_SIZE], const Gpupool1__JoinRequest *request) {
        uint8_t hash[PEER_KEY_SIZE];
        static const char out_of_memory[] = "the inviting node is out of memory: try again";
        const char *error = ERROR_FAILED, *no = out_of_memory;
        int r = peer_hash(request->secret.data, request->secret.len, hash);
        if (r >= 0)
                no = judge(admission, request, hash, node, key, &error);
        if (no) {
                log_refusal(admission, request, no);
                answer_no(stranger, error, no);
                return;
        }
        Guest *guest = calloc(1, sizeof(*guest));
        if (!guest) {
                answer_no(stranger, ERROR_FAILED, out_of_memory);
                return;
        }
        *guest = (Guest) { .admission = admission, .next = admission->guests, .stranger = stranger };
        admission->guests = guest;
        r = admit(admission, guest, node, key, hash, request);
        if (r < 0) {
                guest_free(guest);
                answer_no(stranger, ERROR_INVALID_ARGUMENT, "the request to join is too large");
        }
}
