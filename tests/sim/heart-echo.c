/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What was written once comes again: a report that was given up and got through after all, a decision of one who has
 * not read what was decided since. Neither may change anything: the registry goes by epochs and incarnations. */

#include <string.h>

#include "core/entry.h"
#include "heart.h"

static bool is_word(const Entry *entry) {
        static const Gpupool1__Entry__CommandCase words[] = {
                GPUPOOL1__ENTRY__COMMAND_ASSIGN,       GPUPOOL1__ENTRY__COMMAND_LOSE_NODE,
                GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED, GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING,
                GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED,
        };
        for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
                if (entry->command_case == words[i])
                        return entry->author && entry->author->node.len == ID_SIZE;
        return false;
}

static Entry *copy(const Entry *entry) {
        g_autofree uint8_t *bytes = NULL;
        size_t size;
        Entry *same = NULL;
        g_assert_cmpint(entry_encode(entry, &bytes, &size), >=, 0);
        g_assert_cmpint(entry_decode(bytes, size, &same), ==, ENTRY_GOOD);
        return same;
}

void heart_echo_note(HeartJudge *judge, const Entry *entry) {
        if (!is_word(entry))
                return;
        Entry **place = judge->said + judge->n_said++ % HEART_WORDS_KEPT;
        if (*place)
                entry_free(*place);
        *place = copy(entry);
}

void heart_echo_clear(HeartJudge *judge) {
        for (unsigned i = 0; i < HEART_WORDS_KEPT; i++)
                if (judge->said[i])
                        entry_free(judge->said[i]);
}

static void on_written(SubmitOutcome outcome, const Result *result, void *userdata) {
}

/* As a write of its own: by the request's number the registry would know it. */
static bool write_again(HeartHost *host, Entry *entry) {
        SimTime *time = &host->heart->time;
        uint64_t drawn[2] = { sim_random(time) };
        if (!host->bus || !heart_host_has_daemon(host))
                return false;
        drawn[1] = sim_random(time);
        g_assert_cmpuint(entry->request_id.len, ==, ID_SIZE);
        memcpy(entry->request_id.data, drawn, ID_SIZE);
        return heart_host_submit(host, entry, on_written, NULL) >= 0;
}

/* A loss of a node that has come back since is what would do harm most. */
static const Entry *pick_word(HeartJudge *judge) {
        SimTime *time = &judge->heart->time;
        unsigned n = judge->n_said < HEART_WORDS_KEPT ? judge->n_said : HEART_WORDS_KEPT;
        if (n == 0)
                return NULL;
        const Entry *drawn = judge->said[sim_pick(time, n)];
        unsigned from = sim_pick(time, n);
        for (unsigned i = 0; i < n && sim_chance(time, 95); i++) {
                const Entry *said = judge->said[(from + i) % n];
                if (said->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE)
                        return said;
        }
        return drawn;
}

static bool write_old_word(Heart *heart) {
        HeartJudge *judge = &heart->judge;
        const Entry *said = pick_word(judge);
        NodeId author;
        if (!said)
                return false;
        memcpy(author.bytes, said->author->node.data, ID_SIZE);
        HeartHost *host = heart_host_by_id(heart, &author);
        if (said->command_case == GPUPOOL1__ENTRY__COMMAND_ASSIGN ||
            said->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE)
                host = heart_judge_leader(judge);
        if (!host || said->request_id.len != ID_SIZE)
                return false;
        Entry *again = copy(said);
        bool written = write_again(host, again);
        if (written)
                heart_say(heart, "%s: an old word is written again (%d)", host->name, (int) said->command_case);
        entry_free(again);
        return written;
}

bool heart_echo_again(Heart *heart) {
        bool any = false;
        for (unsigned i = 1 + sim_pick(&heart->time, 4); i > 0; i--)
                any = write_old_word(heart) || any;
        return any;
}

/* The last place of @vm, if that was on @node. */
static const Entry *find_place(const HeartJudge *judge, const VmId *vm, const NodeId *node) {
        unsigned n = judge->n_said < HEART_WORDS_KEPT ? judge->n_said : HEART_WORDS_KEPT;
        for (unsigned i = 1; i <= n; i++) {
                const Entry *said = judge->said[(judge->n_said - i) % HEART_WORDS_KEPT];
                if (said->command_case == GPUPOOL1__ENTRY__COMMAND_ASSIGN &&
                    memcmp(said->assign->vm.data, vm->bytes, ID_SIZE) == 0)
                        return memcmp(said->assign->node.data, node->bytes, ID_SIZE) == 0 ? said : NULL;
        }
        return NULL;
}

bool heart_echo_old_view(Heart *heart, const HeartHost *lost) {
        const Registry *truth = heart->judge.truth;
        const NodeRecord *node = registry_find_node(truth, &lost->id);
        HeartHost *leader = heart_judge_leader(&heart->judge);
        if (!node || !node->lost || !leader)
                return false;
        ARRAY_EACH(vm, &truth->vms) {
                const Entry *said = find_place(&heart->judge, &vm->id, &lost->id);
                if (!vm->run || vm->failed || vm->assignment.phase != ASSIGNMENT_NONE || !said ||
                    said->request_id.len != ID_SIZE)
                        continue;
                Entry *again = copy(said);
                again->assign->epoch = vm->epoch + 1;
                again->assign->incarnation = node->incarnation;
                bool written = write_again(leader, again);
                if (written)
                        heart_say(heart, "%s gives %s a place on %s, which is lost", leader->name, vm->name,
                                  lost->name);
                entry_free(again);
                return written;
        }
        return false;
}
