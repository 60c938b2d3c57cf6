/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl node: the hosts, and what is done with a whole host. */

#include "core/names.h"
#include "ctl/job-wait.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/table.h"
#include "ctl/tried.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define FENCING_SIZE_MAX (64U * 1024U)

/* ---- looking */

static Status load_node(Ctl *ctl, const char *typed, Objects **ret_objects, const NodeObject **ret_node) {
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status != STATUS_DONE)
                return status;
        status = ctl_find(ctl, *ret_objects, KIND_NODE, typed, &i);
        if (status == STATUS_DONE)
                *ret_node = (*ret_objects)->nodes.items + i;
        return status;
}

Status verb_node_list(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "nodes", json_of_all(objects, KIND_NODE));
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }

        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "NODE", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "STATE", TABLE_LEFT, 90, 0);
        table_column(table, "ROLE", TABLE_LEFT, 18, 0);
        table_column(table, "GPUS", TABLE_LEFT, 50, 0);
        table_column(table, "FREE", TABLE_LEFT, 60, 0);
        table_column(table, "VMS", TABLE_LEFT, 55, 0);
        table_column(table, "MEMORY", TABLE_LEFT, 15, 0);
        table_column(table, "KERNEL", TABLE_LEFT, 10, 0);
        table_column(table, "ADDRESS", TABLE_LEFT, 5, 0);
        table_column(table, "NOTE", TABLE_LEFT, 17, 12);
        ARRAY_EACH(node, &objects->nodes) {
                NodeCount count = node_count(objects, node);
                _cleanup_free_ char *note = node_to_note(objects, node);
                _cleanup_free_ char *free_memory = size_to_text(node->memory_free_bytes);
                bool leads = text_equal(objects->cluster.leader, node->path);
                table_cell(table, STYLE_PLAIN, "%s", node->name);
                table_cell(table, state_style(node->state), "%s", or_dash(node->state));
                table_cell(table, STYLE_PLAIN, "%s", leads ? "leader" : or_dash(node->role));
                table_cell(table, STYLE_PLAIN, "%u", count.gpus);
                table_cell(table, STYLE_PLAIN, "%u", count.free);
                table_cell(table, STYLE_PLAIN, "%u", count.vms);
                table_cell(table, STYLE_PLAIN, "%s%s", free_memory, node->memory_free_bytes > 0 ? " free" : "");
                table_cell(table, STYLE_PLAIN, "%s", or_dash(node->kernel));
                table_cell(table, STYLE_PLAIN, "%s", node->addresses.n > 0 ? node->addresses.items[0] : "-");
                table_cell(table, STYLE_PLAIN, "%s", note);
        }
        table_print(table, &ctl->out);
        return STATUS_DONE;
}

static void print_memory(const NodeObject *node, const Screen *screen) {
        _cleanup_free_ char *total = size_to_text(node->memory_total_bytes);
        _cleanup_free_ char *free_memory = size_to_text(node->memory_free_bytes);
        screen_fact(screen, "Memory", "%s, %s free", total, free_memory);
        const char *title = "Huge pages";
        ARRAY_EACH(pages, &node->hugepages) {
                _cleanup_free_ char *size = size_to_text(pages->size_bytes);
                screen_fact(screen, title, "%llu of %s, %llu free", (unsigned long long) pages->total, size,
                            (unsigned long long) pages->free);
                title = "";
        }
}

static void print_state(const NodeObject *node, const Screen *screen) {
        _cleanup_free_ char *since = time_to_text(node->silent_since_us);
        bool known = text_equal(node->state, "silent") && node->silent_since_us > 0;
        screen_fact(screen, "State", "%s%s%s", node->state, known ? " since " : "", known ? since : "");
        if (!text_is_empty(node->drain_cause))
                screen_fact(screen, "Drained", "%s", text_equal(node->drain_cause, "flapping") ?
                                    "because it was lost three times within an hour" : "by hand");
}

static void print_fencing(const NodeObject *node, const Screen *screen) {
        if (text_is_empty(node->fencing)) {
                screen_fact(screen, "Fencing", "none");
                return;
        }
        screen_fact(screen, "Fencing", "%s, %s: %s", node->fencing, or_dash(node->fencing_action),
                    or_dash(node->fencing_state));
        if (!text_is_empty(node->fencing_note))
                screen_fact(screen, "", "%s", node->fencing_note);
}

static void print_node(const Objects *objects, const NodeObject *node, const Screen *screen) {
        NodeCount count = node_count(objects, node);
        _cleanup_free_ char *addresses = must_join(&node->addresses, ", "), *note = node_to_note(objects, node);
        _cleanup_free_ char *versions = must_copy(""), *vms = must_copy("");
        ARRAY_EACH(version, &node->versions)
                must_append(&versions, "%s%s %s", *versions ? ", " : "", version->first, version->second);
        ARRAY_EACH(vm, &objects->vms)
                if (text_equal(vm->node, node->path))
                        must_append(&vms, "%s%s", *vms ? ", " : "", vm->name);

        screen_say(screen, "node %s  %s%s", node->name, node->id,
                   text_equal(objects->cluster.local_node, node->path) ? "  (this host)" : "");
        print_state(node, screen);
        screen_fact(screen, "Note", "%s", note);
        screen_fact(screen, "Role", "%s%s", node->role,
                    text_equal(objects->cluster.leader, node->path) ? ", leader" : "");
        screen_fact(screen, "Addresses", "%s", addresses);
        screen_fact(screen, "GPUs", "%u, %u ready", count.gpus, count.free);
        screen_fact(screen, "VMs", "%s", *vms ? vms : "none");
        screen_fact(screen, "libvirt", "%s", node->hypervisor);
        screen_fact(screen, "Guard", "%s", node->guard);
        if (node->watchdog_us > 0)
                screen_fact(screen, "Watchdog", "resets the host within %.1f s", (double) node->watchdog_us / 1e6);
        else
                screen_fact(screen, "Watchdog", "none");
        print_fencing(node, screen);
        if (!text_is_empty(node->virtualization))
                screen_fact(screen, "Itself", "a virtual machine (%s): it can be paused with all its clocks",
                            node->virtualization);
        screen_fact(screen, "CPU", "%s", node->cpu_model);
        print_memory(node, screen);
        screen_fact(screen, "Kernel", "%s", node->kernel);
        screen_fact(screen, "Versions", "%s", versions);
        screen_fact(screen, "Boot", "%s", node->boot_id);
}

static void answer_node(Ctl *ctl, const Objects *objects, const NodeObject *node) {
        Json *document = json_map();
        json_put(document, "node", json_of_node(objects, node));
        ctl_answer(ctl, document);
}

Status verb_node_show(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const NodeObject *node;
        Status status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json)
                answer_node(ctl, objects, node);
        else
                print_node(objects, node, &ctl->out);
        return STATUS_DONE;
}

/* Sends a change that returns nothing, and says that it is done. */
static Status change(Ctl *ctl, Request *request, const NodeObject *node, const char *done) {
        Status status = request_send(ctl, request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "node %s %s", node->name, done);
        if (!ctl->json)
                return STATUS_DONE;
        _cleanup_(objects_freep) Objects *objects = NULL;
        const NodeObject *now;
        status = load_node(ctl, node->path, &objects, &now);
        if (status == STATUS_DONE)
                answer_node(ctl, objects, now);
        return status;
}

Status verb_node_drain(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(job_wait_freep) JobWait *wait = NULL;
        _cleanup_request_ Request request = {};
        const NodeObject *node;
        int64_t timeout_s = -1;
        Status status = option_number(ctl, args, "--timeout", 0, INT32_MAX, &timeout_s);
        if (status == STATUS_DONE)
                status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status == STATUS_DONE)
                status = job_wait_new(ctl, &wait);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, node->path, INTERFACE_NODE, "Drain");
        request_explain(&request, ACTION_MANAGE_NODE, "draining node %s", node->name);
        if (args_has(args, "--dry-run")) {
                _cleanup_free_ char *nothing = must_printf("No VM would have to leave %s.", node->name);
                return tried_show(ctl, &request, objects, nothing);
        }
        if (timeout_s >= 0)
                request_option(&request, "timeout", "t", (uint64_t) timeout_s);
        status = job_wait_send(wait, &request, "drain", node->name);
        return status == STATUS_DONE ? job_wait_run(wait) : status;
}

Status verb_node_resume(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const NodeObject *node;
        Status status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_CHANGE, node->path, INTERFACE_NODE, "Resume");
        request_explain(&request, ACTION_MANAGE_NODE, "resuming node %s", node->name);
        if (args_has(args, "--bring-home"))
                request_option(&request, "bring-home", "b", 1);
        return change(ctl, &request, node, args_has(args, "--bring-home") ?
                              "takes VMs again; those that left it come home, one at a time" : "takes VMs again");
}

Status verb_node_remove(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const NodeObject *node;
        Status status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status != STATUS_DONE)
                return status;
        if (text_equal(node->path, objects->cluster.local_node))
                return ctl_refuse_usage(ctl, "%s is this host. To take it out: gpupoolctl cluster leave", node->name);
        status = ctl_confirm(ctl, ASK_OR_BE_TOLD, "Take node %s out of the cluster, for ever?", node->name);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, node->path, INTERFACE_NODE, "Remove");
        request_explain(&request, ACTION_MANAGE_CLUSTER, "removing node %s", node->name);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "node %s is no longer a member. To use that host again, on it: gpupoolctl cluster reset",
                 node->name);
        if (ctl->json) {
                _cleanup_(text_list_clear) TextList names = {};
                must_list_add(&names, node->name);
                ctl_answer_deleted(ctl, "node", &names);
        }
        return STATUS_DONE;
}

/* ---- how it is switched off */

static Status append_parameter(Ctl *ctl, Request *request, char *text, const char *where) {
        char *equals = strchr(text, '=');
        if (!equals || equals == text)
                return ctl_fail(ctl, STATUS_FAILED, ERROR_INVALID_ARGUMENT, "%s is not KEY=VALUE.", where);
        *equals = 0;
        request_append(request, "{ss}", text, equals + 1);
        return STATUS_DONE;
}

/* KEY=VALUE lines; empty ones and those that begin with # are passed over. */
static Status append_lines(Ctl *ctl, Request *request, char *text, const char *file) {
        unsigned number = 0;
        while (text && *text) {
                char *line = strsep(&text, "\n");
                size_t length = strlen(line);
                number++;
                if (length > 0 && line[length - 1] == '\r')
                        line[length - 1] = 0;
                if (!*line || *line == '#')
                        continue;
                _cleanup_free_ char *where = must_printf("Line %u of %s", number, file);
                Status status = append_parameter(ctl, request, line, where);
                if (status != STATUS_DONE)
                        return status;
        }
        return STATUS_DONE;
}

/* Whoever can log in sees the words of a command (ps); a script that prints the password is no secret. */
static bool is_secret(const char *word) {
        static const char *const parts[] = { "passw", "secret", "token", "community" };
        _cleanup_free_ char *key = must_printf("%.*s", (int) strcspn(word, "="), word);
        for (size_t i = 0; i < ELEMENTS(parts); i++)
                if (strcasestr(key, parts[i]) && !strcasestr(key, "script"))
                        return true;
        return false;
}

static Status append_words(Ctl *ctl, Request *request, const Args *args) {
        for (size_t i = 2; i < args->words.n; i++) {
                const char *word = args->words.items[i];
                if (is_secret(word))
                        return ctl_refuse_usage(ctl, "%.*s is a secret, and every user of this host can read what is "
                                                "on a command line: put it into a file, or into standard input, as a "
                                                "line KEY=VALUE, and say --parameters FILE or --parameters -.",
                                                (int) strcspn(word, "="), word);
                _cleanup_free_ char *text = must_copy(word), *where = must_printf("\"%s\"", word);
                Status status = append_parameter(ctl, request, text, where);
                if (status != STATUS_DONE)
                        return status;
        }
        return STATUS_DONE;
}

/* @args and @text have the parameters; neither: there is no fencing any more. */
static Status set_fencing(Ctl *ctl, const Args *args, const char *agent, char *text, const char *file,
                          const char *done) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const NodeObject *node;
        Status status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_CHANGE, node->path, INTERFACE_NODE, "SetFencing");
        request_explain(&request, ACTION_MANAGE_CLUSTER, "setting the fencing of node %s", node->name);
        request_append(&request, "s", agent);
        request_open(&request, 'a', "{ss}");
        status = append_words(ctl, &request, args);
        if (status == STATUS_DONE)
                status = append_lines(ctl, &request, text, file);
        request_close(&request);
        return status == STATUS_DONE ? change(ctl, &request, node, done) : status;
}

static bool is_reboot(const char *line, size_t length) {
        static const char wanted[] = "action=reboot";
        return length == strlen(wanted) && strncmp(line, wanted, length) == 0;
}

/* Among the words, or on a line of @text. */
static bool asks_to_reboot(const Args *args, const char *text) {
        for (size_t i = 2; i < args->words.n; i++)
                if (is_reboot(args->words.items[i], strlen(args->words.items[i])))
                        return true;
        while (text && *text) {
                if (is_reboot(text, strcspn(text, "\r\n")))
                        return true;
                text += strcspn(text, "\n");
                text += *text != 0;
        }
        return false;
}

Status verb_node_fence_set(Ctl *ctl, const Args *args) {
        _cleanup_free_ char *text = NULL;
        const char *file = args_value(args, "--parameters"), *agent = args->words.items[1];
        size_t size;
        Status status = file ? file_read(ctl, file, FENCING_SIZE_MAX, &text, &size) : STATUS_DONE;
        bool reboots = status == STATUS_DONE && asks_to_reboot(args, text);
        _cleanup_free_ char *done = must_printf("is %s by %s when it must be", reboots ? "rebooted" : "switched off",
                                                agent);
        return status == STATUS_DONE ? set_fencing(ctl, args, agent, text, file ? file : "", done) : status;
}

Status verb_node_fence_clear(Ctl *ctl, const Args *args) {
        return set_fencing(ctl, args, "", NULL, "", "has no fence agent any more");
}

/* ---- that it is off */

/* What would happen, in whole sentences. */
static char *warn_of_word(const Objects *objects, const NodeObject *node) {
        _cleanup_free_ char *vms = must_copy("");
        unsigned n = 0;
        ARRAY_EACH(vm, &objects->vms)
                if (text_equal(vm->node, node->path))
                        must_append(&vms, "%s%s", n++ > 0 ? ", " : "", vm->name);
        if (n == 0)
                return must_printf("Node %s is held for off then. No VM is assigned to it.", node->name);
        return must_printf("Node %s is held for off then, and its VM%s (%s) start%s elsewhere at once. If it is not "
                           "off, but only cut off, %s twice at the same time, and the disks are destroyed. Look at the "
                           "machine, or at its power supply, first.", node->name, plural(n), vms, n == 1 ? "s" : "",
                           n == 1 ? "it runs" : "they run");
}

Status verb_node_confirm_down(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const NodeObject *node;
        Status status = load_node(ctl, args->words.items[0], &objects, &node);
        if (status != STATUS_DONE)
                return status;
        /* The service decides; but nobody is asked to vouch for what it will refuse. With a request id of before it may
         * have been done. */
        if (!text_equal(node->state, "silent") && !ctl->has_request_id)
                return ctl_fail(ctl, STATUS_FAILED, ERROR_CONFLICT,
                                text_equal(node->state, "lost") ?
                                        "Node %s is %s already: nothing is left to confirm." :
                                        "Node %s is %s and not silent, so it cannot be held for off.",
                                node->name, node->state);
        _cleanup_free_ char *warning = warn_of_word(objects, node);
        status = ctl_confirm_word(ctl, "--yes", false, node->name, warning);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_CHANGE, node->path, INTERFACE_NODE, "ConfirmDown");
        request_explain(&request, ACTION_MANAGE_CLUSTER, "vouching that node %s is off", node->name);
        return change(ctl, &request, node, "is held for off; its VMs start elsewhere");
}
