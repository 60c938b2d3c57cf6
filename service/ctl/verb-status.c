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
                n += node && !text_equal(node->state, "silent") && !text_equal(node->state, "lost");
        }
        return n;
}

static void print_heading(const Objects *objects, const Screen *screen) {
        const ClusterObject *cluster = &objects->cluster;
        _cleanup_free_ char *left = must_printf("cluster %s (%zu node%s, %s %u/%zu, level %u)%s",
                                                or_dash(cluster->name), objects->nodes.n, plural(objects->nodes.n),
                                                cluster->quorate ? "quorum" : "NO QUORUM",
                                                count_reachable_voters(objects),
                                                cluster->voters.n, cluster->functional_level,
                                                cluster->frozen ? ", frozen: no failover by time" : "");
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

static Status answer(Ctl *ctl, const Objects *objects) {
        Json *document = json_map();
        json_put(document, "cluster", json_of_cluster(objects));
        json_put(document, "nodes", json_of_all(objects, KIND_NODE));
        json_put(document, "gpus", json_of_all(objects, KIND_GPU));
        json_put(document, "pools", json_of_all(objects, KIND_POOL));
        json_put(document, "vms", json_of_all(objects, KIND_VM));
        json_put(document, "jobs", json_of_all(objects, KIND_JOB));
        ctl_answer(ctl, document);
        return objects->cluster.quorate ? STATUS_DONE : STATUS_WAITS;
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
        if (!objects->cluster.quorate)
                ctl_hint(ctl, "Nothing can be changed until a majority of the voters is back. Running VMs go on by "
                              "their lease.");
        return objects->cluster.quorate ? STATUS_DONE : STATUS_WAITS;
}
