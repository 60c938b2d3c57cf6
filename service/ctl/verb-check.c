/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl check: is this cluster, or one node of it, ready for a failure? */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

typedef struct Finding { char *severity, *code, *object, *sentence, *remedy; } Finding;

typedef ARRAY(Finding) Findings;

static void findings_clear(Findings *findings) {
        ARRAY_EACH(finding, findings) {
                free(finding->severity);
                free(finding->code);
                free(finding->object);
                free(finding->sentence);
                free(finding->remedy);
        }
        array_clear(findings);
}

static int read_findings(sd_bus_message *m, Findings *findings) {
        const char *severity, *code, *object, *sentence, *remedy;
        int r = sd_bus_message_enter_container(m, 'a', "(ssoss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(ssoss)", &severity, &code, &object, &sentence, &remedy)) > 0) {
                Finding finding = { must_copy(severity), must_copy(code), must_copy(object), must_copy(sentence),
                                    must_copy(remedy) };
                MUST(array_append(findings, &finding));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static unsigned count(const Findings *findings, const char *severity) {
        unsigned n = 0;
        ARRAY_EACH(finding, findings)
                n += text_equal(finding->severity, severity);
        return n;
}

static void print_findings(const Findings *findings, const char *severity, Style style, const Screen *screen) {
        ARRAY_EACH(finding, findings) {
                if (!text_equal(finding->severity, severity))
                        continue;
                _cleanup_free_ char *first = must_printf("%-9s", severity);
                screen_paragraph(screen, first, style, finding->sentence);
                if (!text_is_empty(finding->remedy))
                        screen_paragraph(screen, "         remedy: ", STYLE_FAINT, finding->remedy);
        }
}

static void print_all(Ctl *ctl, const Findings *findings) {
        unsigned errors = count(findings, "error"), warnings = count(findings, "warning");
        unsigned notes = count(findings, "note");
        /* The worst last would be out of sight: first what is broken. */
        print_findings(findings, "error", STYLE_BAD, &ctl->out);
        print_findings(findings, "warning", STYLE_DOUBTFUL, &ctl->out);
        print_findings(findings, "note", STYLE_PLAIN, &ctl->out);
        if (errors + warnings + notes == 0)
                ctl_tell(ctl, "Ready: nothing is in the way.");
        else
                ctl_tell(ctl, "%u error%s, %u warning%s, %u note%s", errors, plural(errors), warnings, plural(warnings),
                         notes, plural(notes));
}

static void answer(Ctl *ctl, const Findings *findings) {
        Json *document = json_map(), *list = json_list();
        ARRAY_EACH(finding, findings) {
                Json *item = json_map();
                json_put_text(item, "severity", finding->severity);
                json_put_text(item, "code", finding->code);
                json_put_text(item, "object_path", text_equal(finding->object, OBJECT_NONE) ? NULL : finding->object);
                json_put_text(item, "sentence", finding->sentence);
                json_put_text(item, "remedy", finding->remedy);
                json_push(list, item);
        }
        json_put(document, "findings", list);
        ctl_answer(ctl, document);
}

/* The node that is asked about, by name; NULL: all of the cluster. */
static Status find_node(Ctl *ctl, const Args *args, Objects **ret_objects, const char **ret) {
        if (args->words.n == 0)
                return ctl_connect(ctl);
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status == STATUS_DONE)
                status = ctl_find(ctl, *ret_objects, KIND_NODE, args->words.items[0], &i);
        if (status == STATUS_DONE)
                *ret = (*ret_objects)->nodes.items[i].name;
        return status;
}

Status verb_check(Ctl *ctl, const Args *args) {
        _cleanup_(findings_clear) Findings findings = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_(objects_freep) Objects *objects = NULL;
        const char *node = NULL;
        Status status = find_node(ctl, args, &objects, &node);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, INTERFACE_MANAGER, "Check");
        request_options(&request);
        if (node)
                request_option(&request, "node", "s", node);
        status = request_send(ctl, &request, &reply);
        if (status != STATUS_DONE)
                return status;
        int r = read_findings(reply, &findings);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        if (ctl->json)
                answer(ctl, &findings);
        else
                print_all(ctl, &findings);
        bool strict = args_has(args, "--strict");
        bool ready = count(&findings, "error") == 0 && (!strict || count(&findings, "warning") == 0);
        return ready ? STATUS_DONE : STATUS_WAITS;
}
