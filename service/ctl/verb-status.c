/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl status: the cluster on one screen, and what is not well. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

static unsigned count_reachable_voters(const Objects *objects) {
        unsigned n = 0;
        for (size_t i = 0; i < objects->cluster.voters.n; i++) {
                const NodeObject *node = objects_node(objects, objects->cluster.voters.items[i]);
                n += node && !text_equal(node->state, "silent") && !text_equal(node->state, "lost") &&
                     !text_equal(node->state, "removed");
        }
        return n;
}

static bool is_removed(const Objects *objects) {
        const NodeObject *here = objects_node(objects, objects->cluster.local_node);
        return here && text_equal(here->state, "removed");
}

/* "quorum 2/3", "NO QUORUM 1/3", "REMOVED" */
static char *describe_quorum(const Objects *objects) {
        const ClusterObject *cluster = &objects->cluster;
        if (is_removed(objects))
                return must_copy("REMOVED");
        return must_printf("%s %u/%zu", cluster->quorate ? "quorum" : "NO QUORUM", count_reachable_voters(objects),
                           cluster->voters.n);
}

static char *describe_freeze(const ClusterObject *cluster) {
        if (!cluster->frozen)
                return must_copy("");
        if (cluster->frozen_s == 0)
                return must_copy(", frozen");
        _cleanup_free_ char *lifetime = lifetime_to_text(cluster->frozen_s);
        return must_printf(", frozen for %s", lifetime);
}

static void print_heading(const Objects *objects, const Screen *screen) {
        const ClusterObject *cluster = &objects->cluster;
        _cleanup_free_ char *quorum = describe_quorum(objects), *frozen = describe_freeze(cluster);
        _cleanup_free_ char *left = must_printf("cluster %s (%zu node%s, %s, level %u)%s", or_dash(cluster->name),
                                                objects->nodes.n, plural(objects->nodes.n), quorum,
                                                cluster->functional_level, frozen);
        const char *leader = objects_name(objects, cluster->leader);
        _cleanup_free_ char *right = *leader ? must_printf("leader %s", leader) : must_copy("no leader known");
        size_t used = text_width(left) + text_width(right), width = screen->width > 0 ? screen->width : 80;
        if (width > 80)
                width = 80;
        screen_say(screen, "%s%*s%s", left, used + 2 <= width ? (int) (width - used) : 2, "", right);
}

static void print_nodes(const Objects *objects, const Screen *screen) {
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "NODE", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "STATE", TABLE_LEFT, 80, 0);
        table_column(table, "GPUS", TABLE_LEFT, 40, 0);
        table_column(table, "FREE", TABLE_LEFT, 60, 0);
        table_column(table, "VMS", TABLE_LEFT, 50, 0);
        table_column(table, "NOTE", TABLE_LEFT, 20, 10);
        ARRAY_EACH(node, &objects->nodes) {
                NodeCount count = node_count(objects, node);
                _cleanup_free_ char *note = node_to_note(objects, node);
                table_cell(table, STYLE_PLAIN, "%s", node->name);
                table_cell(table, state_style(node->state), "%s", or_dash(node->state));
                table_cell(table, STYLE_PLAIN, "%u", count.gpus);
                table_cell(table, STYLE_PLAIN, "%u", count.free);
                table_cell(table, STYLE_PLAIN, "%u", count.vms);
                table_cell(table, STYLE_PLAIN, "%s", note);
        }
        table_print(table, screen);
}

static bool is_in_trouble(const VmObject *vm) {
        return text_equal(vm->state, "waiting") || text_equal(vm->state, "backoff") || text_equal(vm->state, "failed");
}

static const char *describe_trouble(const VmObject *vm) {
        if (text_equal(vm->state, "waiting"))
                return "waits";
        return text_equal(vm->state, "backoff") ? "failed and will be tried again" : "failed";
}

static void print_troubled_vms(const Objects *objects, const Screen *screen) {
        bool first = true;
        ARRAY_EACH(vm, &objects->vms) {
                if (!is_in_trouble(vm))
                        continue;
                if (first)
                        fputc('\n', screen->file);
                first = false;
                _cleanup_free_ char *begin = must_printf("vm %s %s: ", vm->name, describe_trouble(vm));
                if (text_is_empty(vm->reason))
                        screen_say(screen, "%sgpupoolctl vm explain %s", begin, vm->name);
                else
                        screen_paragraph(screen, begin, state_style(vm->state), vm_reason(vm));
        }
}

static Status judge(const Objects *objects) {
        return objects->cluster.quorate && !is_removed(objects) ? STATUS_DONE : STATUS_WAITS;
}

static void hint_at_trouble(Ctl *ctl, const Objects *objects) {
        const ClusterObject *cluster = &objects->cluster;
        if (is_removed(objects))
                ctl_hint(ctl, "This node was removed from cluster %s; it shows what it knew then. It can become a "
                              "cluster of its own (gpupoolctl cluster reset) and then join again.", cluster->name);
        else if (!cluster->quorate && cluster->voters.n > 0)
                ctl_hint(ctl, "What is known can be read; every change is refused until a majority of the voters "
                              "(%zu of %zu) is back. Running VMs go on.", cluster->voters.n / 2 + 1,
                         cluster->voters.n);
        else if (!cluster->quorate)
                ctl_hint(ctl, "What is known can be read; every change is refused until a leader is known. Running "
                              "VMs go on.");
        if (cluster->frozen)
                ctl_hint(ctl, "The cluster is frozen: a node that fails keeps its VMs until that is over. To end it "
                              "early: gpupoolctl cluster thaw");
}

static Status answer(Ctl *ctl, const Objects *objects) {
        Json *document = json_map();
        json_put(document, "cluster", json_of_cluster(objects));
        json_put(document, "nodes", json_of_all(objects, KIND_NODE));
        json_put(document, "gpus", json_of_all(objects, KIND_GPU));
        json_put(document, "pools", json_of_all(objects, KIND_POOL));
        json_put(document, "vms", json_of_all(objects, KIND_VM));
        json_put(document, "jobs", json_of_all(objects, KIND_JOB));
        ctl_answer(ctl, document);
        return judge(objects);
}

Status verb_status(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json)
                return answer(ctl, objects);

        print_heading(objects, &ctl->out);
        print_nodes(objects, &ctl->out);
        if (objects->pools.n > 0) {
                fputc('\n', ctl->out.file);
                pools_print(objects, &ctl->out);
        }
        print_troubled_vms(objects, &ctl->out);
        hint_at_trouble(ctl, objects);
        return judge(objects);
}
