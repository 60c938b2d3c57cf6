/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl vm explain: for each node, could the VM run there; if not, every reason with what would change it; if so,
 * whether it would be taken, and why. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "ctl/verb-vm.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

/* How many ways out the last line has. */
#define WAYS_MAX 3

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
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static void print_node(const Explanation *explanation, size_t width, const Screen *screen) {
        _cleanup_free_ char *first = must_printf("%-*s  %-3s  ", (int) width, explanation->node,
                                                 explanation->fits ? "yes" : "no");
        if (explanation->reasons.n == 0)
                screen_paragraph(screen, first, STYLE_PLAIN, explanation->fits ? "it could run here now" : "");
        ARRAY_EACH(reason, &explanation->reasons) {
                bool chosen = text_equal(reason->code, "chosen");
                _cleanup_free_ char *sentence = must_printf("%s%s", chosen ? "taken first: " : "", reason->sentence);
                screen_paragraph(screen, first, STYLE_PLAIN, sentence);
                memset(first, ' ', strlen(first));
                if (!*reason->remedy)
                        continue;
                _cleanup_free_ char *arrow = must_printf("%s%s ", first, screen_arrow(screen));
                screen_paragraph(screen, arrow, STYLE_FAINT, reason->remedy);
        }
}

/* The one thing that would be enough on this node, or NULL. */
static const char *find_way(const Explanation *explanation) {
        if (explanation->fits || explanation->reasons.n != 1 ||
            text_equal(explanation->reasons.items[0].code, "witness"))
                return NULL;
        const char *remedy = explanation->reasons.items[0].remedy;
        return *remedy ? remedy : NULL;
}

/* Where one thing would be enough. What is wrong everywhere is said once. */
static void print_ways(const Explanations *explanations, const Screen *screen) {
        _cleanup_free_ char *ways = must_copy("To let it run, ");
        const char *said[WAYS_MAX];
        size_t n = 0;
        ARRAY_EACH(explanation, explanations) {
                const char *way = find_way(explanation);
                bool known = false;
                for (size_t i = 0; way && i < n; i++)
                        known = known || text_equal(said[i], way);
                if (!way || known || n == WAYS_MAX)
                        continue;
                _cleanup_free_ char *there = must_printf("on %s: ", explanation->node);
                must_append(&ways, "%s%s%s", n > 0 ? "; or " : "", strstr(way, there) ? "" : there, way);
                said[n++] = way;
        }
        if (n > 0)
                screen_paragraph(screen, "", STYLE_PLAIN, ways);
}

static void print_explanations(const Objects *objects, const VmObject *vm, const Explanations *explanations,
                               bool can_run, const Screen *screen) {
        const char *node = objects_name(objects, vm->node);
        bool runs = text_equal(vm->state, "running"), waits = text_equal(vm->state, "waiting");
        size_t width = 0;
        _cleanup_free_ char *model = must_printf("%s%s%s", *vm->model ? ", model " : "", vm->model,
                                                 *vm->model ? "," : "");
        _cleanup_free_ char *summary = must_printf("%s needs %u of %s%s and %s%s.", vm->name, vm->gpus_needed, vm->pool,
                                                   model, runs ? "runs on " : waits ? "waits" : "is ", runs ? node :
                                                   waits ? "" : vm->state);
        screen_paragraph(screen, "", STYLE_PLAIN, summary);
        ARRAY_EACH(explanation, explanations)
                width = text_width(explanation->node) > width ? text_width(explanation->node) : width;
        ARRAY_EACH(explanation, explanations)
                print_node(explanation, width, screen);
        if (!can_run)
                print_ways(explanations, screen);
}

static void answer_explanations(Ctl *ctl, const Objects *objects, const VmObject *vm,
                                const Explanations *explanations) {
        Json *document = json_map(), *nodes = json_list();
        ARRAY_EACH(explanation, explanations) {
                Json *item = json_map(), *reasons = json_list();
                bool chosen = false;
                json_put_text(item, "node", explanation->node);
                json_put_truth(item, "fits", explanation->fits);
                ARRAY_EACH(reason, &explanation->reasons) {
                        Json *why = json_map();
                        json_put_text(why, "code", reason->code);
                        json_put_text(why, "sentence", reason->sentence);
                        json_put_text(why, "remedy", reason->remedy);
                        json_push(reasons, why);
                        chosen = chosen || text_equal(reason->code, "chosen");
                }
                json_put_truth(item, "chosen", chosen);
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
                print_explanations(objects, vm, &explanations, can_run, &ctl->out);
                if (can_run && text_equal(vm->desired, "stopped"))
                        ctl_hint(ctl, "Start it with: gpupoolctl vm start %s", vm->name);
        }
        return can_run ? STATUS_DONE : STATUS_WAITS;
}
