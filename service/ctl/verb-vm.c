/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl vm: what VMs there are, what each needs, where it runs and why not. Starting and stopping is in
 * verb-vm-run.c. */

#include "ctl/verb-vm.h"

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

Status vm_load(Ctl *ctl, const char *typed, Objects **ret_objects, const VmObject **ret_vm) {
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status != STATUS_DONE)
                return status;
        status = ctl_find(ctl, *ret_objects, KIND_VM, typed, &i);
        if (status == STATUS_DONE)
                *ret_vm = (*ret_objects)->vms.items + i;
        return status;
}

Status verb_vm_list(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "vms", json_of_all(objects, KIND_VM));
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        if (objects->vms.n == 0) {
                ctl_hint(ctl, "There is no VM. Hand one to the cluster: "
                              "gpupoolctl vm define FILE --pool POOL --gpus N");
                return STATUS_DONE;
        }

        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "VM", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "STATE", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "NODE", TABLE_LEFT, 60, 0);
        table_column(table, "GPUS", TABLE_LEFT, 40, 0);
        table_column(table, "POOL", TABLE_LEFT, 50, 0);
        table_column(table, "PRIORITY", TABLE_LEFT, 10, 0);
        table_column(table, "NOTE", TABLE_LEFT, 30, 12);
        ARRAY_EACH(vm, &objects->vms) {
                table_cell(table, STYLE_PLAIN, "%s", vm->name);
                table_cell(table, state_style(vm->state), "%s", or_dash(vm->state));
                table_cell(table, STYLE_PLAIN, "%s", or_dash(objects_name(objects, vm->node)));
                table_cell(table, STYLE_PLAIN, "%u", vm->gpus_needed);
                table_cell(table, STYLE_PLAIN, "%s", or_dash(vm->pool));
                table_cell(table, STYLE_PLAIN, "%d", vm->priority);
                table_cell(table, STYLE_PLAIN, "%s", vm_reason(vm));
        }
        table_print(table, &ctl->out);
        return STATUS_DONE;
}

static void print_last_placement(const VmObject *vm, const Screen *screen) {
        const char *title = "Last placed";
        ARRAY_EACH(note, &vm->last_placement) {
                screen_fact(screen, title, "%s %s%s%s", note->chosen ? screen_tick(screen) : screen_cross(screen),
                            note->node, *note->why ? ": " : "", note->why);
                title = "";
        }
}

/* A rule as people say it; one that is newer than this program as it is. */
static const char *affinity_words(const char *rule) {
        static const struct {
                const char *rule, *words;
        } known[] = {
                { "together", "together with" },
                { "apart", "apart from" },
                { "rather-together", "rather together with" },
                { "rather-apart", "rather apart from" },
        };
        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (text_equal(known[i].rule, rule))
                        return known[i].words;
        return rule;
}

static void print_affinity(const VmObject *vm, const Screen *screen) {
        _cleanup_free_ char *text = must_copy("");
        ARRAY_EACH(pair, &vm->affinity)
                must_append(&text, "%s%s %s", *text ? ", " : "", affinity_words(pair->first), pair->second);
        screen_fact(screen, "Affinity", "%s", text);
}

static void print_vm(const Objects *objects, const VmObject *vm, const Screen *screen) {
        const char *node = objects_name(objects, vm->node);
        _cleanup_free_ char *preferred = must_join(&vm->preferred_nodes, ", "), *gpus = must_copy("");
        screen_say(screen, "vm %s  %s", vm->name, vm->uuid);
        screen_fact(screen, "Needs", "%u of pool %s%s%s", vm->gpus_needed, vm->pool, *vm->model ? ", model " : "",
                    vm->model);
        bool runs = text_equal(vm->state, "running") || text_equal(vm->state, "starting");
        const char *other = runs ? " (wanted: stopped)" : " (wanted: running)";
        const char *wanted = text_equal(vm->desired, "running") == runs ? "" : other;
        screen_fact(screen, "State", "%s%s%s%s", vm->state, *node ? " on " : "", node, wanted);
        screen_fact(screen, "Why", "%s", vm_reason(vm));
        for (size_t i = 0; i < vm->gpus.n; i++)
                must_append(&gpus, "%s%s", i > 0 ? ", " : "", objects_name(objects, vm->gpus.items[i]));
        screen_fact(screen, "GPUs", "%s", gpus);
        screen_fact(screen, "Priority", "%d%s%s", vm->priority, vm->preempt ? ", may stop preemptible VMs below it" :
                    "", vm->preemptible ? ", may be stopped for VMs above it" : "");
        screen_fact(screen, "Restart", "%s", vm->restart_policy);
        screen_fact(screen, "Prefers", "%s", preferred);
        print_affinity(vm, screen);
        screen_fact(screen, "Owner", "%s (uid %u)", or_dash(vm->owner), vm->owner_uid);
        screen_fact(screen, "Epoch", "%llu", (unsigned long long) vm->epoch);
        print_last_placement(vm, screen);
}

static void answer_vm(Ctl *ctl, const Objects *objects, const VmObject *vm) {
        Json *document = json_map();
        json_put(document, "vm", json_of_vm(objects, vm));
        ctl_answer(ctl, document);
}

Status verb_vm_show(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const VmObject *vm;
        Status status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json)
                answer_vm(ctl, objects, vm);
        else
                print_vm(objects, vm, &ctl->out);
        return STATUS_DONE;
}

Status vm_answer_changed(Ctl *ctl, const char *path) {
        if (!ctl->json)
                return STATUS_DONE;
        _cleanup_(objects_freep) Objects *objects = NULL;
        const VmObject *vm;
        Status status = vm_load(ctl, path, &objects, &vm);
        if (status == STATUS_DONE)
                answer_vm(ctl, objects, vm);
        return status;
}

typedef struct Reason { char *code, *sentence, *remedy; } Reason;

typedef struct Explanation {
        char *node;
        bool fits;
        ARRAY(Reason) reasons;
} Explanation;

typedef ARRAY(Explanation) Explanations;

static void explanations_clear(Explanations *explanations) {
        ARRAY_EACH(explanation, explanations) {
                ARRAY_EACH(reason, &explanation->reasons) {
                        free(reason->code);
                        free(reason->sentence);
                        free(reason->remedy);
                }
                array_clear(&explanation->reasons);
                free(explanation->node);
        }
        array_clear(explanations);
}

static int read_explanation(sd_bus_message *m, Explanation *ret) {
        const char *node, *code, *sentence, *remedy;
        int fits;
        int r = sd_bus_message_read(m, "sb", &node, &fits);
        if (r < 0)
                return r;
        *ret = (Explanation) { .node = must_copy(node), .fits = fits };
        r = sd_bus_message_enter_container(m, 'a', "(sss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sss)", &code, &sentence, &remedy)) > 0) {
                Reason reason = { must_copy(code), must_copy(sentence), must_copy(remedy) };
                MUST(array_append(&ret->reasons, &reason));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_explanations(sd_bus_message *m, Explanations *explanations) {
        int r = sd_bus_message_enter_container(m, 'a', "(sba(sss))");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'r', "sba(sss)")) > 0) {
                Explanation explanation = {};
                r = read_explanation(m, &explanation);
                MUST(array_append(explanations, &explanation));
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static void print_explanations(const Objects *objects, const VmObject *vm, const Explanations *explanations,
                               const Screen *screen) {
        const char *node = objects_name(objects, vm->node);
        bool runs = text_equal(vm->state, "running");
        size_t width = 0;
        bool waits = text_equal(vm->state, "waiting");
        _cleanup_free_ char *summary = must_printf("%s needs %u of %s and %s%s.", vm->name, vm->gpus_needed, vm->pool,
                                                   runs ? "runs on " : waits ? "waits" : "is ", runs ? node :
                                                   waits ? "" : vm->state);
        screen_paragraph(screen, "", STYLE_PLAIN, summary);
        ARRAY_EACH(explanation, explanations)
                width = text_width(explanation->node) > width ? text_width(explanation->node) : width;
        ARRAY_EACH(explanation, explanations) {
                _cleanup_free_ char *first = must_printf("%-*s  %-3s  ", (int) width, explanation->node,
                                                         explanation->fits ? "yes" : "no");
                if (explanation->reasons.n == 0)
                        screen_paragraph(screen, first, STYLE_PLAIN, explanation->fits ? "it could run here now" : "");
                ARRAY_EACH(reason, &explanation->reasons) {
                        _cleanup_free_ char *whole = must_printf("%s%s%s", reason->sentence, *reason->remedy ? ": " :
                                                                 "", reason->remedy);
                        screen_paragraph(screen, first, STYLE_PLAIN, whole);
                        memset(first, ' ', strlen(first));
                }
        }
}

static void answer_explanations(Ctl *ctl, const Objects *objects, const VmObject *vm,
                                const Explanations *explanations) {
        Json *document = json_map(), *nodes = json_list();
        ARRAY_EACH(explanation, explanations) {
                Json *item = json_map(), *reasons = json_list();
                json_put_text(item, "node", explanation->node);
                json_put_truth(item, "fits", explanation->fits);
                ARRAY_EACH(reason, &explanation->reasons) {
                        Json *why = json_map();
                        json_put_text(why, "code", reason->code);
                        json_put_text(why, "sentence", reason->sentence);
                        json_put_text(why, "remedy", reason->remedy);
                        json_push(reasons, why);
                }
                json_put(item, "reasons", reasons);
                json_push(nodes, item);
        }
        json_put(document, "vm", json_of_vm(objects, vm));
        json_put(document, "nodes", nodes);
        ctl_answer(ctl, document);
}

Status verb_vm_explain(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(explanations_clear) Explanations explanations = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        const VmObject *vm;
        Status status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_READ, vm->path, INTERFACE_VM, "Explain");
        request_options(&request);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = read_explanations(answer, &explanations);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        bool can_run = text_equal(vm->state, "running");
        ARRAY_EACH(explanation, &explanations)
                can_run = can_run || explanation->fits;
        if (ctl->json) {
                answer_explanations(ctl, objects, vm, &explanations);
        } else {
                print_explanations(objects, vm, &explanations, &ctl->out);
                if (can_run && text_equal(vm->desired, "stopped"))
                        ctl_hint(ctl, "Start it with: gpupoolctl vm start %s", vm->name);
        }
        return can_run ? STATUS_DONE : STATUS_WAITS;
}

Status verb_vm_xml(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        const VmObject *vm;
        const char *xml;
        Status status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_GUARDED_READ, vm->path, INTERFACE_VM, "GetXML");
        request_explain(&request, ACTION_READ_VM, "reading the XML of a VM of pool %s", vm->pool);
        request_options(&request);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 's', &xml);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        if (ctl->json) {
                Json *document = json_map();
                json_put_text(document, "vm", vm->name);
                json_put_text(document, "xml", xml);
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        screen_text(&ctl->out, xml);
        return STATUS_DONE;
}
