/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/placement-notes.h"

#include <errno.h>

#include "core/names.h"

void placement_notes_clear(PlacementNotes *notes) {
        ARRAY_EACH(note, notes) {
                free(note->node);
                free(note->why);
        }
        array_clear(notes);
}

size_t placement_notes_room(const Registry *registry) {
        size_t share = NOTES_TOTAL_MAX / (registry->vms.n > 0 ? registry->vms.n : 1);
        return share < NOTES_SIZE_MAX ? share : NOTES_SIZE_MAX;
}

/* Nodes behind so many that were more interesting are not looked at, though a short note might fit still. */
#define TRIED_MAX (2 * NOTES_MAX)

/* What somebody wants to read first of a decision. */
typedef enum Interest {
        INTEREST_CHOSEN,
        INTEREST_NAMED,                 /* preferred, or the VM is moved there, or comes home, or ran there before */
        INTEREST_FITS,
        INTEREST_HAS_GPUS,
        INTEREST_NONE,
} Interest;

typedef struct Candidate {
        const PlacementAnswer *answer;
        const NodeRecord *node;
        Interest interest;
} Candidate;

static bool ran_there(const Vm *vm, const char *node) {
        for (size_t i = 0; i < vm->n_notes; i++)
                if (vm->notes[i].chosen && text_equal(vm->notes[i].node, node))
                        return true;
        return false;
}

static bool has_no_gpus(const PlacementAnswer *answer) {
        for (size_t i = 0; i < answer->n_reasons; i++)
                if (text_equal(answer->reasons[i].code, "no-gpus") || text_equal(answer->reasons[i].code, "witness"))
                        return true;
        return false;
}

static Interest find_interest(const Vm *vm, const NodeRecord *node, const PlacementAnswer *answer) {
        if (answer->chosen)
                return INTEREST_CHOSEN;
        if (text_list_has(&vm->preferred_nodes, node->name) || ID_EQUAL(&vm->target, &node->id) ||
            ID_EQUAL(&vm->home, &node->id) || ran_there(vm, node->name))
                return INTEREST_NAMED;
        if (answer->fits)
                return INTEREST_FITS;
        return has_no_gpus(answer) ? INTEREST_NONE : INTEREST_HAS_GPUS;
}

static int compare_candidates(const void *a, const void *b) {
        const Candidate *x = a, *y = b;
        if (x->interest != y->interest)
                return x->interest < y->interest ? -1 : 1;
        if (x->answer->n_reasons != y->answer->n_reasons)
                return x->answer->n_reasons < y->answer->n_reasons ? -1 : 1;
        return strcmp(x->node->name, y->node->name);
}

/* "2 usable, 2 of them run bert: stop bert (...); training keeps 1 free for failover ...: ..." */
static int say_why(const PlacementAnswer *answer, char **ret) {
        int r = text_set(ret, "");
        for (size_t i = 0; r >= 0 && i < answer->n_reasons; i++) {
                const PlacementReason *reason = answer->reasons + i;
                r = text_append(ret, "%s%s%s%s", i > 0 ? "; " : "", reason->sentence, reason->remedy ? ": " : "",
                                reason->remedy ? reason->remedy : "");
        }
        return r;
}

/* 0 also where there is no room for it: then one that is shorter may come after it. */
static int add_note(PlacementNotes *notes, const Candidate *candidate, size_t *room) {
        _cleanup_free_ char *node = NULL, *why = NULL;
        int r = text_set(&node, candidate->node->name);
        if (r >= 0)
                r = say_why(candidate->answer, &why);
        if (r < 0)
                return r;
        text_make_printable(why, TEXT_LENGTH_MAX);
        size_t size = placement_note_size(node, why);
        if (size > *room && !candidate->answer->chosen)
                return 0;
        if (size > *room) {
                size_t bare = placement_note_size(node, "");
                text_make_printable(why, *room > bare ? *room - bare : 0);
                size = placement_note_size(node, why);
        }
        PlacementNote note = { .node = node, .chosen = candidate->answer->chosen, .why = why };
        r = array_append(notes, &note);
        if (r < 0)
                return r;
        node = why = NULL;
        *room -= size < *room ? size : *room;
        return 0;
}

int placement_notes_make(const World *world, const Vm *vm, const Placement *placement, size_t most,
                         PlacementNotes *ret) {
        _cleanup_free_ Candidate *candidates = calloc(placement->n_answers + 1, sizeof(*candidates));
        _cleanup_(placement_notes_clear) PlacementNotes notes = {};
        size_t n = 0;
        if (!candidates)
                return -ENOMEM;
        for (size_t i = 0; i < placement->n_answers; i++) {
                const PlacementAnswer *answer = placement->answers + i;
                const NodeRecord *node = registry_find_node(world->registry, &answer->node);
                if (node && answer->n_reasons > 0)
                        candidates[n++] = (Candidate) { answer, node, find_interest(vm, node, answer) };
        }
        qsort(candidates, n, sizeof(*candidates), compare_candidates);
        for (size_t i = 0; i < n && i < TRIED_MAX && notes.n < NOTES_MAX; i++) {
                int r = add_note(&notes, candidates + i, &most);
                if (r < 0)
                        return r;
        }
        *ret = notes;
        notes = (PlacementNotes) {};
        return 0;
}
