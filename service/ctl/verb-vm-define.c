/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl vm define, update, requirement, policy, delete: what a VM is. */

#include "core/names.h"
#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "ctl/verb-vm.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

/* Options of define and policy that say how a VM is placed and restarted. */
typedef struct VmPolicy {
        int64_t priority;               /* PRIORITY_NOT_GIVEN */
        const char *restart;            /* NULL: not given */
        const char *preempt, *preemptible;      /* "yes", "no", NULL: not given */
        bool has_preferred, has_affinity;
        TextList preferred;
        Pairs affinity;                 /* borrowed texts */
} VmPolicy;

#define PRIORITY_NOT_GIVEN INT64_MAX

static void vm_policy_clear(VmPolicy *policy) {
        text_list_clear(&policy->preferred);
        array_clear(&policy->affinity);
}

static void add_affinity(VmPolicy *policy, const char *rule, const char *vm) {
        policy->has_affinity = true;
        if (!*vm)
                return;
        Pair pair = { (char *) rule, (char *) vm };
        MUST(array_append(&policy->affinity, &pair));
}

/* The contract's word for each option. */
static const char *affinity_rule(const char *option) {
        static const struct {
                const char *option, *rule;
        } rules[] = {
                { "--with", "together" },
                { "--apart", "apart" },
                { "--rather-with", "rather-together" },
                { "--rather-apart", "rather-apart" },
        };
        for (size_t i = 0; i < ELEMENTS(rules); i++)
                if (text_equal(rules[i].option, option))
                        return rules[i].rule;
        return NULL;
}

static Status read_yes_or_no(Ctl *ctl, const Args *args, const char *option, const char **ret) {
        const char *value = args_value(args, option);
        if (value && !text_equal(value, "yes") && !text_equal(value, "no"))
                return ctl_refuse_usage(ctl, "%s is yes or no, not \"%s\".", option, value);
        *ret = value;
        return STATUS_DONE;
}

static Status read_policy(Ctl *ctl, const Args *args, VmPolicy *policy) {
        policy->priority = PRIORITY_NOT_GIVEN;
        policy->restart = args_value(args, "--restart");
        if (policy->restart && !text_equal(policy->restart, "always") && !text_equal(policy->restart, "on-failure") &&
            !text_equal(policy->restart, "never"))
                return ctl_refuse_usage(ctl, "--restart is always, on-failure or never, not \"%s\".", policy->restart);
        ARRAY_EACH(given, &args->options) {
                if (text_equal(given->option->name, "--prefer")) {
                        policy->has_preferred = true;
                        if (*given->value)
                                must_list_add(&policy->preferred, given->value);
                } else if (affinity_rule(given->option->name)) {
                        add_affinity(policy, affinity_rule(given->option->name), given->value);
                }
        }
        Status status = read_yes_or_no(ctl, args, "--preempt", &policy->preempt);
        if (status == STATUS_DONE)
                status = read_yes_or_no(ctl, args, "--preemptible", &policy->preemptible);
        if (status != STATUS_DONE)
                return status;
        return option_number(ctl, args, "--priority", INT32_MIN, INT32_MAX, &policy->priority);
}

static bool policy_is_empty(const VmPolicy *policy) {
        return policy->priority == PRIORITY_NOT_GIVEN && !policy->restart && !policy->has_preferred &&
               !policy->has_affinity && !policy->preempt && !policy->preemptible;
}

static void append_policy(Request *request, const VmPolicy *policy) {
        if (policy->priority != PRIORITY_NOT_GIVEN)
                request_option(request, "priority", "i", (int32_t) policy->priority);
        if (policy->restart)
                request_option(request, "restart-policy", "s", policy->restart);
        if (policy->has_preferred)
                request_option_list(request, "preferred-nodes", 's', &policy->preferred);
        if (policy->preempt)
                request_option(request, "preempt", "b", (int) text_equal(policy->preempt, "yes"));
        if (policy->preemptible)
                request_option(request, "preemptible", "b", (int) text_equal(policy->preemptible, "yes"));
        if (!policy->has_affinity)
                return;
        request_open_option(request, "affinity", "a(ss)");
        request_open(request, 'a', "(ss)");
        ARRAY_EACH(pair, &policy->affinity)
                request_append(request, "(ss)", pair->first, pair->second);
        request_close(request);
        request_close_option(request);
}

/* Reads domain XML. What libvirt and the service will not take is left to them; what cannot be sent is said here. */
static Status read_xml(Ctl *ctl, const char *file, char **ret) {
        _cleanup_free_ char *xml = NULL;
        size_t size;
        Status status = file_read(ctl, file, XML_SIZE_MAX, &xml, &size);
        if (status != STATUS_DONE)
                return status;
        const char *shown = text_equal(file, "-") ? "Standard input" : file;
        if (size == 0)
                return ctl_fail(ctl, STATUS_FAILED, ERROR_INVALID_XML,
                                "%s is empty; it should hold a libvirt domain XML.", shown);
        if (strlen(xml) != size || !text_is_utf8(xml))
                return ctl_fail(ctl, STATUS_FAILED, ERROR_INVALID_XML, "%s is not UTF-8 text, so it is no domain XML.",
                                shown);
        *ret = STEAL(xml);
        return STATUS_DONE;
}

static Status tell_defined(Ctl *ctl, const char *path) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const VmObject *vm;
        if (ctl->quiet && !ctl->json)
                return STATUS_DONE;
        Status status = vm_load(ctl, path, &objects, &vm);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "vm %s (%.8s%s): needs %u of %s%s%s. Start it with: gpupoolctl vm start %s", vm->name, vm->uuid,
                 screen_mark_of_cut(&ctl->out), vm->gpus_needed, vm->pool, *vm->model ? ", model " : "", vm->model,
                 vm->name);
        return vm_answer_changed(ctl, path);
}

Status verb_vm_define(Ctl *ctl, const Args *args) {
        _cleanup_(vm_policy_clear) VmPolicy policy = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        _cleanup_free_ char *xml = NULL;
        const char *pool = args_value(args, "--pool"), *path;
        int64_t count = 1;
        if (!pool)
                return ctl_refuse_usage(ctl,
                                        "Say from which pool it gets its GPUs: --pool POOL (gpupoolctl pool list).");
        Status status = option_number(ctl, args, "--gpus", 1, GPUS_PER_VM_MAX, &count);
        if (status == STATUS_DONE)
                status = read_policy(ctl, args, &policy);
        if (status == STATUS_DONE)
                status = read_xml(ctl, args->words.items[0], &xml);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, OBJECT_ROOT, INTERFACE_MANAGER, "DefineVM");
        request_explain(&request, ACTION_DEFINE_VM " and " ACTION_USE_POOL, "defining a VM of pool %s", pool);
        request_append(&request, "ssu", xml, pool, (uint32_t) count);
        if (args_has(args, "--model"))
                request_option(&request, "model", "s", args_value(args, "--model"));
        append_policy(&request, &policy);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 'o', &path);
        return r < 0 ? request_refuse_answer(ctl, &request, r) : tell_defined(ctl, path);
}

Status verb_vm_update(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        _cleanup_free_ char *xml = NULL;
        const VmObject *vm;
        Status status = read_xml(ctl, args->words.items[1], &xml);
        if (status == STATUS_DONE)
                status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, "Update");
        request_explain(&request, ACTION_DEFINE_VM, "changing a VM of pool %s", vm->pool);
        request_append(&request, "s", xml);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "vm %s: the new XML counts from its next start on%s%s", vm->name,
                 text_equal(vm->state, "running") ? ": gpupoolctl vm restart " : "",
                 text_equal(vm->state, "running") ? vm->name : "");
        return vm_answer_changed(ctl, vm->path);
}

Status verb_vm_requirement(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const VmObject *vm;
        const char *pool = args_value(args, "--pool"), *model = args_value(args, "--model");
        int64_t count = 0;
        if (!pool && !model && !args_has(args, "--gpus"))
                return ctl_refuse_usage(ctl, "Say what it needs: --gpus N, --pool POOL or --model VENDOR:DEVICE.");
        Status status = option_number(ctl, args, "--gpus", 1, GPUS_PER_VM_MAX, &count);
        if (status == STATUS_DONE)
                status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;

        pool = pool ? pool : vm->pool;
        uint32_t needed = count > 0 ? (uint32_t) count : vm->gpus_needed;
        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, "SetRequirement");
        request_explain(&request, ACTION_DEFINE_VM " and " ACTION_USE_POOL, "giving GPUs of pool %s to a VM", pool);
        request_append(&request, "su", pool, needed);
        if (model)
                request_option(&request, "model", "s", model);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        model = model ? model : vm->model;
        ctl_tell(ctl, "vm %s: needs %u of %s%s%s, from its next start on", vm->name, needed, pool,
                 *model ? ", model " : "", model);
        return vm_answer_changed(ctl, vm->path);
}

Status verb_vm_policy(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(vm_policy_clear) VmPolicy policy = {};
        _cleanup_request_ Request request = {};
        const VmObject *vm;
        Status status = read_policy(ctl, args, &policy);
        if (status != STATUS_DONE)
                return status;
        if (policy_is_empty(&policy))
                return ctl_refuse_usage(ctl, "Say what to set: --priority, --restart, --prefer, --with, --apart, "
                                             "--rather-with, --rather-apart, --preempt or --preemptible.");
        status = vm_load(ctl, args->words.items[0], &objects, &vm);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, "SetPolicy");
        request_explain(&request, ACTION_DEFINE_VM, "changing a VM of pool %s", vm->pool);
        append_policy(&request, &policy);
        request_end_options(&request);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "vm %s: policy set", vm->name);
        return vm_answer_changed(ctl, vm->path);
}

static Status delete_one(Ctl *ctl, const Objects *objects, const char *typed, TextList *deleted) {
        _cleanup_request_ Request request = {};
        size_t i;
        Status status = ctl_find(ctl, objects, KIND_VM, typed, &i);
        if (status != STATUS_DONE)
                return status;
        const VmObject *vm = objects->vms.items + i;
        status = ctl_confirm(ctl, ASK_IF_SOMEONE_IS_THERE, "Delete vm %s? Its disks stay.", vm->name);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, vm->path, INTERFACE_VM, "Delete");
        request_explain(&request, ACTION_DEFINE_VM, "deleting a VM of pool %s", vm->pool);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        must_list_add(deleted, vm->name);
        ctl_tell(ctl, "vm %s is deleted; its disks stay", vm->name);
        return STATUS_DONE;
}

Status verb_vm_delete(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(text_list_clear) TextList deleted = {};
        Status first = ctl_load(ctl, &objects);
        if (first != STATUS_DONE)
                return first;
        for (size_t i = 0; i < args->words.n; i++) {
                Status status = delete_one(ctl, objects, args->words.items[i], &deleted);
                if (first == STATUS_DONE)
                        first = status;
        }
        if (ctl->json)
                ctl_answer_deleted(ctl, "vm", &deleted);
        return first;
}
