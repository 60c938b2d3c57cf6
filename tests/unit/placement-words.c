/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "placement-words.h"

#include <glib.h>

#include "core/placement.h"

char *place_of(WorldBuilder *w, const char *vm) {
        Placement placement = {};
        int r = placement_find(world_now(w), vm_named(w, vm), &placement);
        g_assert_cmpint(r, >=, 0);
        GString *text = g_string_new(NULL);
        if (r == PLACEMENT_FOUND) {
                g_string_printf(text, "%s:", world_node_name(world_now(w), &placement.node));
                for (size_t i = 0; i < placement.n_gpus; i++)
                        g_string_append_printf(text, " %02x", placement.gpus[i].gpu.address.bus);
        } else
                g_string_assign(text, placement.code);
        placement_clear(&placement);
        return g_string_free(text, FALSE);
}

char *reasons_of(WorldBuilder *w, const char *vm, const char *node) {
        Placement placement = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, vm), &placement), >=, 0);
        GString *text = g_string_new(NULL);
        for (size_t i = 0; i < placement.n_answers; i++) {
                const PlacementAnswer *answer = placement.answers + i;
                if (!text_equal(world_node_name(world_now(w), &answer->node), node))
                        continue;
                for (size_t j = 0; j < answer->n_reasons; j++) {
                        g_string_append_printf(text, "%s%s: %s", j > 0 ? " | " : "", answer->reasons[j].code,
                                               answer->reasons[j].sentence);
                        g_assert_true(answer->fits || answer->reasons[j].remedy);
                }
        }
        placement_clear(&placement);
        return g_string_free(text, FALSE);
}
