/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Manager.DefineVM, and the methods of org.gpupool1.VM that say what a VM is */

#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-id128.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/domain-xml.h"
#include "core/names.h"
#include "util/text.h"

#define PRIORITY_DEFAULT 50

/* ---- what the methods share */

static int ask_define(Bus *bus, sd_bus_message *m, const char *vm, const char *pool, const char *verb,
                      const char *owner, sd_bus_error *error) {
        const Right right = { .action = ACTION_DEFINE_VM, .vm = vm, .pool = pool, .verb = verb, .owner = owner };
        return ask_right(bus, m, &right, error);
}

static int ask_define_known(sd_bus_message *m, const Object *object, const char *verb, const Caller **ret,
                            sd_bus_error *error) {
        const Vm *vm = object->vm.vm;
        int r = ask_caller(object->bus, m, ret, error);
        return r != ASK_GO ? r : ask_define(object->bus, m, vm->name, vm->pool, verb, vm->owner_user, error);
}

static int ask_use_pool(Bus *bus, sd_bus_message *m, const char *pool, const char *vm, const char *verb,
                        sd_bus_error *error) {
        return ask_right(bus, m, &((Right) { .action = ACTION_USE_POOL, .pool = pool, .vm = vm, .verb = verb }), error);
}

static int check_requirement(Bus *bus, const char *pool, uint32_t count, const char *model, sd_bus_error *error) {
        if (!name_is_valid(pool))
                return refuse_name("the name of a pool", error);
        if (count < 1 || count > GPUS_PER_VM_MAX)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "a VM needs 1 to %u GPUs, and not %u",
                                         GPUS_PER_VM_MAX, count);
        if (!text_is_empty(model) && !vm_model_is_valid(model))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "model is VENDOR:DEVICE in hexadecimal digits, like 10de:2330, with * and ? "
                                         "where any will do, and not %s: gpupoolctl gpu GPU shows the ids of one",
                                         fit_to_quote(model));
        if (!registry_find_pool(bus_world(bus)->registry, pool))
                return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no pool %s: gpupoolctl pool lists them",
                                         pool);
        return 0;
}

/* Borrows all; @model NULL: not said. */
static Gpupool1__Requirement requirement_of(const char *pool, uint32_t count, const char *model) {
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        requirement.pool = (char *) pool;
        requirement.count = count;
        requirement.set_model = model != NULL;
        if (model)
                requirement.model = (char *) model;
        return requirement;
}

/* ---- policy */

typedef struct PolicyOptions {
        Gpupool1__VmPolicy message;
        const char *restart;
        TextRow preferred_nodes;
        PairRow affinity;
        Gpupool1__Affinity *affinity_messages;
        Gpupool1__Affinity **affinity_pointers;
        bool preempt, preemptible;
        bool set_priority, set_restart, set_preferred_nodes, set_affinity, set_preempt, set_preemptible;
} PolicyOptions;

#define POLICY_OPTIONS_INIT { .message = GPUPOOL1__VM_POLICY__INIT }
#define OPTIONS_OF_POLICY(policy)                                                                               \
        { "priority", "i", option_read_i32, &(policy).message.priority, &(policy).set_priority },               \
        { "restart-policy", "s", option_read_text, &(policy).restart, &(policy).set_restart },                  \
        { "preferred-nodes", "as", option_read_texts, &(policy).preferred_nodes, &(policy).set_preferred_nodes },     \
        { "affinity", "a(ss)", option_read_pairs, &(policy).affinity, &(policy).set_affinity },                 \
        { "preempt", "b", option_read_boolean, &(policy).preempt, &(policy).set_preempt },                      \
        { "preemptible", "b", option_read_boolean, &(policy).preemptible, &(policy).set_preemptible }

static void policy_options_clear(PolicyOptions *policy) {
        text_row_clear(&policy->preferred_nodes);
        pair_row_clear(&policy->affinity);
        free(policy->affinity_messages);
        free(policy->affinity_pointers);
}

/* The contract's words; the registry has its own. */
static const char *const affinity_rules[AFFINITY_KIND_COUNT] = {
        [AFFINITY_WITH] = "together",
        [AFFINITY_APART] = "apart",
        [AFFINITY_RATHER_WITH] = "rather-together",
        [AFFINITY_RATHER_APART] = "rather-apart",
};

const char *affinity_kind_to_show(AffinityKind kind) {
        return affinity_rules[kind];
}

static const char *affinity_kind_to_keep(const char *shown) {
        for (AffinityKind kind = 0; kind < AFFINITY_KIND_COUNT; kind++)
                if (text_equal(affinity_rules[kind], shown))
                        return affinity_kind_to_text(kind);
        return NULL;
}

static int fill_affinity(PolicyOptions *policy) {
        size_t n = policy->affinity.n;
        policy->affinity_messages = calloc(n + 1, sizeof(*policy->affinity_messages));
        policy->affinity_pointers = calloc(n + 1, sizeof(*policy->affinity_pointers));
        if (!policy->affinity_messages || !policy->affinity_pointers)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Gpupool1__Affinity *message = policy->affinity_messages + i;
                gpupool1__affinity__init(message);
                message->kind = (char *) affinity_kind_to_keep(policy->affinity.items[i].first);
                message->vm = (char *) policy->affinity.items[i].second;
                policy->affinity_pointers[i] = message;
        }
        policy->message.n_affinity = n;
        policy->message.affinity = policy->affinity_pointers;
        return 0;
}

static Gpupool1__RestartKind restart_kind(RestartPolicy restart) {
        switch (restart) {
        case RESTART_ALWAYS:
                return GPUPOOL1__RESTART_KIND__RESTART_KIND_ALWAYS;
        case RESTART_ON_FAILURE:
                return GPUPOOL1__RESTART_KIND__RESTART_KIND_ON_FAILURE;
        case RESTART_NEVER:
        case RESTART_POLICY_COUNT:
                break;
        }
        return GPUPOOL1__RESTART_KIND__RESTART_KIND_NEVER;
}

static int finish_policy(PolicyOptions *policy, sd_bus_error *error) {
        Gpupool1__VmPolicy *message = &policy->message;
        RestartPolicy restart = RESTART_ON_FAILURE;
        if (policy->set_restart && restart_policy_from_text(policy->restart, &restart) < 0)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "restart-policy is always, on-failure or never, and not %s",
                                         fit_to_quote(policy->restart));
        if (policy->set_priority && (message->priority < VM_PRIORITY_MIN || message->priority > VM_PRIORITY_MAX))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "priority is from %d to %d, and not %d",
                                         VM_PRIORITY_MIN, VM_PRIORITY_MAX, message->priority);
        if (policy->preferred_nodes.n > PREFERRED_NODES_MAX)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "preferred-nodes: at most %u",
                                         PREFERRED_NODES_MAX);
        if (policy->affinity.n > AFFINITY_MAX)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "affinity: at most %u", AFFINITY_MAX);
        ARRAY_EACH(node, &policy->preferred_nodes)
                if (!name_is_valid(*node))
                        return refuse_name("preferred-nodes: the name of a node", error);
        ARRAY_EACH(pair, &policy->affinity) {
                if (!affinity_kind_to_keep(pair->first))
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                                 "affinity is together, apart, rather-together or rather-apart, and "
                                                 "not %s",
                                                 fit_to_quote(pair->first));
                if (!name_is_valid(pair->second))
                        return refuse_name("affinity: the name of the other VM", error);
        }

        message->set_priority = policy->set_priority;
        message->set_restart = policy->set_restart;
        message->restart = restart_kind(restart);
        message->set_preferred_nodes = policy->set_preferred_nodes;
        message->n_preferred_nodes = policy->preferred_nodes.n;
        message->preferred_nodes = (char **) policy->preferred_nodes.items;
        message->set_affinity = policy->set_affinity;
        message->set_preempt = policy->set_preempt;
        message->preempt = policy->preempt;
        message->set_preemptible = policy->set_preemptible;
        message->preemptible = policy->preemptible;
        return fill_affinity(policy);
}

/* What a policy or a @model (NULL: not said) asks for that came with the level of placement, below that level. */
static int check_level(Bus *bus, const PolicyOptions *policy, const char *model, sd_bus_error *error) {
        bool is_new = model || (policy && (policy->set_preempt || policy->set_preemptible));
        for (size_t i = 0; policy && i < policy->message.n_affinity; i++) {
                AffinityKind kind;
                is_new = is_new || (affinity_kind_from_text(policy->message.affinity[i]->kind, &kind) >= 0 &&
                                    affinity_kind_is_soft(kind));
        }
        return is_new ? refuse_level(bus, LEVEL_PLACEMENT, error) : 0;
}

/* ---- XML */

typedef ARRAY(PciAddress) AddressRow;

static void address_row_clear(AddressRow *row) {
        array_clear(row);
}

/* Addresses of all GPUs and of their cards' functions, on every node. */
static int list_gpu_addresses(const World *world, AddressRow *ret) {
        int r = 0;
        for (size_t n = 0; n < world->n_nodes; n++)
                for (size_t i = 0; r >= 0 && i < world->nodes[n]->n_gpus; i++) {
                        const GpuFacts *gpu = world->nodes[n]->gpus + i;
                        r = array_append(ret, &gpu->address);
                        for (size_t k = 0; r >= 0 && k < gpu->n_functions; k++)
                                if (gpu->functions[k].same_slot)
                                        r = array_append(ret, &gpu->functions[k].address);
                }
        return r;
}

static int check_xml(Bus *bus, const char *xml, DomainXml *ret, sd_bus_error *error) {
        _cleanup_(address_row_clear) AddressRow gpus = {};
        _cleanup_free_ char *sentence = NULL;
        int r = list_gpu_addresses(bus_world(bus), &gpus);
        if (r >= 0)
                r = domain_xml_check(xml, strlen(xml), gpus.items, gpus.n, ret, &sentence);
        if (r < 0)
                return r;
        return r == DOMAIN_XML_OK ? 0 : sd_bus_error_set(error, ERROR_INVALID_XML, sentence);
}

/* A UUID for XML that has none. A retry must come to the same VM, so it is made of the request's id where there is one;
 * that is random, too. Version 4 in its form. */
static int draw_id(const RequestOption *request, VmId *ret) {
        sd_id128_t random;
        int r = sd_id128_randomize(&random);
        if (r < 0)
                return r;
        memcpy(ret->bytes, request->given ? request->id.bytes : random.bytes, ID_SIZE);
        ret->bytes[6] = (uint8_t) ((ret->bytes[6] & 0x0f) | 0x40);
        ret->bytes[8] = (uint8_t) ((ret->bytes[8] & 0x3f) | 0x80);
        return 0;
}

/* ---- methods */

METHOD(method_define_vm) {
        Bus *bus = ((Object *) userdata)->bus;
        const char *xml, *pool;
        uint32_t count;
        RequestOption request = {};
        _cleanup_(policy_options_clear) PolicyOptions policy = POLICY_OPTIONS_INIT;
        policy.message.priority = PRIORITY_DEFAULT;
        const char *model = NULL;
        const Option options[] = {
                OPTIONS_OF_POLICY(policy),
                { "model", "s", option_read_text, &model, NULL },
                OPTION_REQUEST(&request),
        };
        _cleanup_(domain_xml_clear) DomainXml domain = {};
        const Caller *caller;

        int r = sd_bus_message_read(m, "ssu", &xml, &pool, &count);
        if (r >= 0)
                r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = finish_policy(&policy, error);
        if (r >= 0)
                r = check_xml(bus, xml, &domain, error);
        if (r >= 0)
                r = check_requirement(bus, pool, count, model, error);
        if (r >= 0)
                r = check_level(bus, &policy, text_is_empty(model) ? NULL : model, error);
        if (r >= 0)
                r = ask_caller(bus, m, &caller, error);
        if (r == ASK_GO)
                r = ask_define(bus, m, domain.name, pool, "define", caller->user, error);
        if (r == ASK_GO)
                r = ask_use_pool(bus, m, pool, domain.name, "define", error);
        if (r == ASK_GO)
                r = ask_hypervisor(bus, m, xml, error);
        if (r != ASK_GO)
                return r;

        if (!domain.has_uuid) {
                r = draw_id(&request, &domain.vm);
                if (r < 0)
                        return r;
        }
        /* with defaults, where none was given */
        policy.message.set_priority = policy.message.set_restart = true;
        Gpupool1__Requirement requirement = requirement_of(pool, count, text_is_empty(model) ? NULL : model);
        Gpupool1__DefineVm command = GPUPOOL1__DEFINE_VM__INIT;
        command.vm = id_message_borrow(domain.vm.bytes);
        command.name = domain.name;
        command.xml = (char *) xml;
        command.requirement = &requirement;
        command.policy = &policy.message;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_DEFINE_VM;
        entry.define_vm = &command;
        return request_submit(bus, m, caller, ACTION_DEFINE_VM, &request, &entry, path_of_vm(&domain.vm).text, error);
}

METHOD(method_update_vm) {
        Object *object = userdata;
        const char *xml;
        RequestOption request;
        _cleanup_(domain_xml_clear) DomainXml domain = {};
        const Caller *caller;

        int r = sd_bus_message_read(m, "s", &xml);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = check_xml(object->bus, xml, &domain, error);
        if (r < 0)
                return r;
        if (domain.has_uuid && !ID_EQUAL(&domain.vm, &object->vm.vm->id))
                return sd_bus_error_setf(error, ERROR_INVALID_XML,
                                         "the XML has another UUID than VM %s: take <uuid> out, or define a new VM",
                                         object->vm.vm->name);
        const Vm *vm = object->vm.vm;
        r = ask_define_known(m, object, "update", &caller, error);
        if (r == ASK_GO && !text_equal(domain.name, vm->name))  /* a rule that allows one name must not give another */
                r = ask_define(object->bus, m, domain.name, vm->pool, "update", vm->owner_user, error);
        if (r == ASK_GO)
                r = ask_hypervisor(object->bus, m, xml, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__UpdateVm command = GPUPOOL1__UPDATE_VM__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        command.name = domain.name;
        command.xml = (char *) xml;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_UPDATE_VM;
        entry.update_vm = &command;
        return request_submit(object->bus, m, caller, ACTION_DEFINE_VM, &request, &entry, NULL, error);
}

METHOD(method_set_requirement) {
        Object *object = userdata;
        const char *pool, *model = NULL;
        uint32_t count;
        RequestOption request = {};
        const Caller *caller;
        const Option options[] = {
                { "model", "s", option_read_text, &model, NULL },
                OPTION_REQUEST(&request),
        };
        int r = sd_bus_message_read(m, "su", &pool, &count);
        if (r >= 0)
                r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = check_requirement(object->bus, pool, count, model, error);
        if (r >= 0)
                r = check_level(object->bus, NULL, model, error);
        if (r >= 0)
                r = ask_define_known(m, object, "set-requirement", &caller, error);
        if (r == ASK_GO)
                r = ask_use_pool(object->bus, m, pool, object->vm.vm->name, "set-requirement", error);
        if (r != ASK_GO)
                return r;

        Gpupool1__Requirement requirement = requirement_of(pool, count, model);
        Gpupool1__SetRequirement command = GPUPOOL1__SET_REQUIREMENT__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        command.requirement = &requirement;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_REQUIREMENT;
        entry.set_requirement = &command;
        return request_submit(object->bus, m, caller, ACTION_DEFINE_VM, &request, &entry, NULL, error);
}

METHOD(method_set_vm_policy) {
        Object *object = userdata;
        RequestOption request;
        _cleanup_(policy_options_clear) PolicyOptions policy = POLICY_OPTIONS_INIT;
        const Option options[] = { OPTIONS_OF_POLICY(policy) };
        const Caller *caller;
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = finish_policy(&policy, error);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = check_level(object->bus, &policy, NULL, error);
        if (r >= 0)
                r = ask_define_known(m, object, "set-policy", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__SetVmPolicy command = GPUPOOL1__SET_VM_POLICY__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        command.policy = &policy.message;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY;
        entry.set_vm_policy = &command;
        return request_submit(object->bus, m, caller, ACTION_DEFINE_VM, &request, &entry, NULL, error);
}

METHOD(method_delete_vm) {
        Object *object = userdata;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_define_known(m, object, "delete", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__DeleteVm command = GPUPOOL1__DELETE_VM__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_VM;
        entry.delete_vm = &command;
        return request_submit(object->bus, m, caller, ACTION_DEFINE_VM, &request, &entry, NULL, error);
}

METHOD(method_get_xml) {
        Object *object = userdata;
        const Vm *vm = object->vm.vm;
        const Caller *caller;
        int r = options_read_none(m, error);
        if (r >= 0)
                r = ask_caller(object->bus, m, &caller, error);
        if (r != ASK_GO)
                return r;
        const Right right = {
                .action = ACTION_READ_VM,
                .vm = vm->name,
                .pool = vm->pool,
                .verb = "get-xml",
                .owner = vm->owner_user,
        };
        r = ask_right(object->bus, m, &right, error);
        if (r != ASK_GO)
                return r;
        ask_done(object->bus, m);
        return sd_bus_reply_method_return(m, "s", vm->xml);
}
