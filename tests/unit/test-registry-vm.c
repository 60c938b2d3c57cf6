/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The registry: VMs as their owners give them. */

#include <stdio.h>

#include "chronicle.h"

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

/* ---- definition */

static void test_a_defined_vm_belongs_to_who_defined_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_vm(&c, 1, "bert", "training", 2));
        const Vm *vm = vm_told(&c, 1);
        g_assert_cmpstr(vm->name, ==, "bert");
        g_assert_cmpstr(vm->pool, ==, "training");
        g_assert_cmpuint(vm->count, ==, 2);
        g_assert_cmpint(vm->priority, ==, VM_PRIORITY_DEFAULT);
        g_assert_cmpint(vm->restart, ==, RESTART_ALWAYS);
        g_assert_cmpuint(vm->owner_uid, ==, 1000);
        g_assert_cmpstr(vm->owner_user, ==, "alice");
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_STOPPED);
}

static void test_a_vms_name_and_uuid_are_taken_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_REFUSED(EXISTS, tell_vm(&c, 2, "bert", "training", 1));
        ASSERT_REFUSED(EXISTS, tell_vm(&c, 1, "other", "training", 1));
        ASSERT_DONE(tell_vm(&c, 2, "other", "training", 1));
        ASSERT_REFUSED(EXISTS, tell_vm_xml(&c, 2, "bert", "<domain/>"));
}

static Gpupool1__DefineVm definition(Gpupool1__Requirement *requirement, const VmId *id) {
        Gpupool1__DefineVm m = GPUPOOL1__DEFINE_VM__INIT;
        *requirement = (Gpupool1__Requirement) GPUPOOL1__REQUIREMENT__INIT;
        requirement->pool = (char *) "training";
        requirement->count = 1;
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) id->bytes };
        m.name = (char *) "bert";
        m.xml = (char *) "<domain/>";
        m.requirement = requirement;
        return m;
}

static void test_a_definition_with_a_bad_part_is_refused(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__Requirement requirement;
        VmId id = VM(1), null = {};

        Gpupool1__DefineVm m = definition(&requirement, &null);
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        m = definition(&requirement, &id);
        m.vm.len = 3;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        m = definition(&requirement, &id);
        m.name = (char *) "be rt";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        m = definition(&requirement, &id);
        m.xml = (char *) "";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        m = definition(&requirement, &id);
        m.requirement = NULL;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        m = definition(&requirement, &id);
        requirement.pool = (char *) "none";
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, DEFINE_VM, m));
        requirement.pool = (char *) "\x1b[2J";
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, DEFINE_VM, m));
        g_assert_cmpuint(c.registry->vms.n, ==, 0);
}

static void test_a_vm_needs_one_to_so_many_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm(&c, 1, "bert", "training", 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm(&c, 1, "bert", "training", GPUS_PER_VM_MAX + 1));
        ASSERT_DONE(tell_vm(&c, 1, "bert", "training", GPUS_PER_VM_MAX));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_requirement(&c, 1, "training", 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_requirement(&c, 1, "training", GPUS_PER_VM_MAX + 1));
        ASSERT_REFUSED(NOT_FOUND, tell_vm_requirement(&c, 1, "none", 1));
        ASSERT_DONE(tell_vm_requirement(&c, 1, "training", 1));
        g_assert_cmpuint(vm_told(&c, 1)->count, ==, 1);
}

static void test_domain_xml_has_a_largest(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        g_autofree char *largest = g_strnfill(XML_SIZE_MAX, 'x'), *larger = g_strnfill(XML_SIZE_MAX + 1, 'x');
        ASSERT_DONE(tell_vm_xml(&c, 1, "bert", largest));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_xml(&c, 1, "bert", larger));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_xml(&c, 1, "bert", ""));
        g_assert_cmpstr(vm_told(&c, 1)->xml, ==, largest);
}

static void test_a_cluster_has_room_for_so_many_vms(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        /* Through the commands it would take a minute: every name is held against all others. */
        for (unsigned n = 1; n <= VMS_MAX; n++) {
                Vm vm = { .id = VM(n), .count = 1 };
                char name[16];
                snprintf(name, sizeof(name), "v%u", n);
                g_assert_cmpint(text_set(&vm.name, name), ==, 0);
                g_assert_cmpint(text_set(&vm.pool, "training"), ==, 0);
                g_assert_cmpint(text_set(&vm.xml, "x"), ==, 0);
                c.registry->xml_total++;
                g_assert_cmpint(array_append(&c.registry->vms, &vm), ==, 0);
        }
        c.quick = true;
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_vm(&c, VMS_MAX + 1, "late", "training", 1));
        ASSERT_DONE(tell_vm_deleted(&c, 7));
        ASSERT_DONE(tell_vm(&c, VMS_MAX + 1, "late", "training", 1));
}

static void test_all_vms_together_have_so_much_xml(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        g_autofree char *largest = g_strnfill(XML_SIZE_MAX, 'x');
        unsigned n = 0;
        c.quick = true;
        while (c.registry->xml_total + XML_SIZE_MAX <= XML_TOTAL_MAX) {
                char name[16];
                snprintf(name, sizeof(name), "v%u", ++n);
                ASSERT_DONE(tell_vm(&c, n, name, "training", 1));
                ASSERT_DONE(tell_vm_xml(&c, n, name, largest));
        }
        c.quick = false;
        ASSERT_DONE(tell_vm(&c, n + 1, "last", "training", 1));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_vm_xml(&c, n + 1, "last", largest));

        size_t room = XML_TOTAL_MAX - c.registry->xml_total + strlen(vm_told(&c, n + 1)->xml);
        g_autofree char *rest = g_strnfill(room + 1, 'x');
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_vm_xml(&c, n + 1, "last", rest));
        rest[room] = '\0';
        ASSERT_DONE(tell_vm_xml(&c, n + 1, "last", rest));
        g_assert_cmpuint(c.registry->xml_total, ==, XML_TOTAL_MAX);
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_vm(&c, n + 2, "late", "training", 1));
        ASSERT_DONE(tell_vm_xml(&c, n + 1, "last", rest));
        ASSERT_DONE(tell_vm_deleted(&c, 1));
        ASSERT_DONE(tell_vm(&c, n + 2, "late", "training", 1));
}

static void test_policies_count_with_the_xml(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        char *nodes[] = { (char *) "somewhere" };
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        Gpupool1__SetVmPolicy m = GPUPOOL1__SET_VM_POLICY__INIT;
        VmId id = VM(1);
        policy.set_preferred_nodes = true;
        policy.preferred_nodes = nodes;
        policy.n_preferred_nodes = 1;
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.policy = &policy;

        size_t before = c.registry->xml_total;
        ASSERT_DONE(tell(&c, GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY, &m));
        g_assert_cmpuint(c.registry->xml_total, >, before);
        policy.n_preferred_nodes = 0;
        ASSERT_DONE(tell(&c, GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY, &m));
        g_assert_cmpuint(c.registry->xml_total, ==, before);

        policy.n_preferred_nodes = 1;
        c.quick = true;
        c.registry->xml_total = XML_TOTAL_MAX;
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell(&c, GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY, &m));
}

static void test_what_is_not_there_cannot_be_changed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(NOT_FOUND, tell_vm_xml(&c, 1, "bert", "<domain/>"));
        ASSERT_REFUSED(NOT_FOUND, tell_vm_requirement(&c, 1, "training", 1));
        ASSERT_REFUSED(NOT_FOUND, tell_vm_priority(&c, 1, 1));
        ASSERT_REFUSED(NOT_FOUND, tell_vm_deleted(&c, 1));
        ASSERT_REFUSED(NOT_FOUND, tell_desired(&c, 1, VM_RUN, 0));
        Gpupool1__DeleteVm m = GPUPOOL1__DELETE_VM__INIT;       /* no id at all */
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, DELETE_VM, m));
}

static void test_a_vm_is_renamed_while_it_is_stopped_only(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_vm_xml(&c, 1, "ernie", "<domain/>"));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_REFUSED(IN_USE, tell_vm_xml(&c, 1, "bert", "<domain/>"));
        ASSERT_DONE(tell_vm_xml(&c, 1, "ernie", "<domain type='kvm'/>"));
        g_assert_cmpstr(vm_told(&c, 1)->xml, ==, "<domain type='kvm'/>");
}

static void test_a_vm_is_deleted_while_it_is_stopped_only(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_REFUSED(IN_USE, tell_vm_deleted(&c, 1));
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        ASSERT_REFUSED(IN_USE, tell_vm_deleted(&c, 1));
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        ASSERT_DONE(tell_vm_deleted(&c, 1));
        g_assert_null(vm_told(&c, 1));
}

/* ---- policy */

static Verdict tell_policy(Chronicle *c, Gpupool1__VmPolicy *policy) {
        Gpupool1__SetVmPolicy m = GPUPOOL1__SET_VM_POLICY__INIT;
        VmId id = VM(1);
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.policy = policy;
        return TELL(c, SET_VM_POLICY, m);
}

static void test_a_priority_has_limits(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_vm_priority(&c, 1, VM_PRIORITY_MAX));
        ASSERT_DONE(tell_vm_priority(&c, 1, VM_PRIORITY_MIN));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_priority(&c, 1, VM_PRIORITY_MAX + 1));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_priority(&c, 1, VM_PRIORITY_MIN - 1));
        g_assert_cmpint(vm_told(&c, 1)->priority, ==, VM_PRIORITY_MIN);
}

static void test_a_restart_policy_is_one_of_three(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_vm_restart(&c, 1, RESTART_NEVER));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_restart(&c, 1, RESTART_POLICY_COUNT));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, NULL));
        g_assert_cmpint(vm_told(&c, 1)->restart, ==, RESTART_NEVER);
}

static void test_preferred_nodes_and_affinity_have_limits(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        char *nodes[PREFERRED_NODES_MAX + 1];
        Gpupool1__Affinity affinity = GPUPOOL1__AFFINITY__INIT, *pointers[AFFINITY_MAX + 1];
        affinity.kind = (char *) "apart";
        affinity.vm = (char *) "ernie";
        for (size_t i = 0; i < ELEMENTS(nodes); i++)
                nodes[i] = (char *) "a";
        for (size_t i = 0; i < ELEMENTS(pointers); i++)
                pointers[i] = &affinity;
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_preferred_nodes = policy.set_affinity = true;
        policy.preferred_nodes = nodes;
        policy.n_preferred_nodes = PREFERRED_NODES_MAX;
        policy.affinity = pointers;
        policy.n_affinity = AFFINITY_MAX;
        ASSERT_DONE(tell_policy(&c, &policy));
        g_assert_cmpuint(vm_told(&c, 1)->preferred_nodes.n, ==, PREFERRED_NODES_MAX);
        g_assert_cmpuint(vm_told(&c, 1)->n_affinity, ==, AFFINITY_MAX);

        policy.n_preferred_nodes++;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        policy.n_preferred_nodes = 0;
        policy.n_affinity++;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        policy.n_affinity = 1;
        affinity.kind = (char *) "near";
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        affinity.kind = (char *) "with";
        affinity.vm = (char *) "a b";
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        nodes[0] = (char *) "\xff";
        policy.n_affinity = 0;
        policy.n_preferred_nodes = 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        g_assert_cmpuint(vm_told(&c, 1)->n_affinity, ==, AFFINITY_MAX);
}

static void test_a_vm_is_not_defined_with_a_bad_policy(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__Requirement requirement;
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        VmId id = VM(1);
        Gpupool1__DefineVm m = definition(&requirement, &id);
        m.policy = &policy;
        policy.set_priority = true;
        policy.priority = 1001;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, DEFINE_VM, m));
        policy.priority = 1000;
        ASSERT_DONE(TELL(&c, DEFINE_VM, m));
}

/* ---- what came with the level of placement */

static Chronicle chronicle_at_the_level_of_placement(void) {
        Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        return c;
}

static void test_below_its_level_a_vm_has_no_model_no_preemption_and_no_soft_affinity(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_vm_model(&c, 1, "training", 1, "10de:*"));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_vm_model(&c, 1, "training", 1, ""));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_vm_preemption(&c, 1, true, true));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_vm_affinity(&c, 1, "rather-with", "ernie"));

        Gpupool1__Requirement requirement;
        VmId id = VM(2);
        Gpupool1__DefineVm m = definition(&requirement, &id);
        m.name = (char *) "ernie";
        requirement.set_model = true;
        requirement.model = (char *) "10de:*";
        c.level = LEVEL_PLACEMENT;
        ASSERT_REFUSED(LEVEL_TOO_LOW, TELL(&c, DEFINE_VM, m));
        g_assert_null(vm_told(&c, 1)->model);
        g_assert_false(vm_told(&c, 1)->preempt || vm_told(&c, 1)->preemptible);
        g_assert_cmpuint(vm_told(&c, 1)->n_affinity, ==, 0);
}

/* An older member, which does not see the new fields, would take what is left for the whole of it. */
static void test_what_needs_the_level_must_say_so(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_the_level_of_placement();
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_preempt = policy.preempt = true;
        c.level = LEVEL_DEVICES;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_policy(&c, &policy));
        c.level = LEVEL_PLACEMENT;
        ASSERT_DONE(tell_policy(&c, &policy));
}

static void test_a_model_stays_until_another_is_said(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_the_level_of_placement();
        ASSERT_DONE(tell_vm_model(&c, 1, "training", 2, "10de:23*"));
        ASSERT_DONE(tell_vm_requirement(&c, 1, "training", 3));
        g_assert_cmpstr(vm_told(&c, 1)->model, ==, "10de:23*");
        g_assert_cmpuint(vm_told(&c, 1)->count, ==, 3);
        ASSERT_DONE(tell_vm_model(&c, 1, "training", 3, ""));
        g_assert_null(vm_told(&c, 1)->model);

        Gpupool1__Requirement requirement;
        VmId id = VM(2);
        Gpupool1__DefineVm m = definition(&requirement, &id);
        m.name = (char *) "ernie";
        requirement.set_model = true;
        requirement.model = (char *) "1002:73bf";
        c.level = LEVEL_PLACEMENT;
        ASSERT_DONE(TELL(&c, DEFINE_VM, m));
        g_assert_cmpstr(vm_told(&c, 2)->model, ==, "1002:73bf");
}

static void test_a_model_is_two_patterns_of_ids(void) {
        static const char *const bad[] = {
                "10de", ":", "10de:", ":2330", "10de:2330:1", "10dex:2330", "10de:23", "nvidia:h100", "10de: 2330",
                "10de:2330\n", "********************************:*",
        };
        static const char *const good[] = { "10de:2330", "10DE:23*", "*:*", "1002:73?f", "????:2330" };
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_the_level_of_placement();
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                g_test_message("%s", bad[i]);
                ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_model(&c, 1, "training", 1, bad[i]));
        }
        for (size_t i = 0; i < ELEMENTS(good); i++)
                ASSERT_DONE(tell_vm_model(&c, 1, "training", 1, good[i]));
        g_autofree char *longest = g_strnfill(VM_MODEL_LENGTH_MAX - 2, '*');
        g_autofree char *model = g_strdup_printf("%s:*", longest), *longer = g_strdup_printf("*%s:*", longest);
        ASSERT_DONE(tell_vm_model(&c, 1, "training", 1, model));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_vm_model(&c, 1, "training", 1, longer));
}

static void test_no_gpu_of_another_model_is_assigned(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        GpuIdentity gpu = GPU(2, 0);
        g_autofree char *model = g_strdup_printf("%04x:%04x", gpu.vendor, gpu.device);
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 1));
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        ASSERT_DONE(tell_vm_model(&c, 2, "training", 1, "1002:*"));
        Claim claim = claim_of(&c, 2, 2, 0, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        g_assert_nonnull(strstr(c.sentence, "it is no 1002:*"));
        ASSERT_DONE(tell_vm_model(&c, 2, "training", 1, model));
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_preemption_is_off_until_a_policy_allows_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_the_level_of_placement();
        g_assert_false(vm_told(&c, 1)->preempt || vm_told(&c, 1)->preemptible);
        ASSERT_DONE(tell_vm_preemption(&c, 1, true, false));
        g_assert_true(vm_told(&c, 1)->preempt && !vm_told(&c, 1)->preemptible);
        ASSERT_DONE(tell_vm_preemption(&c, 1, false, true));
        ASSERT_DONE(tell_vm_priority(&c, 1, 7));
        g_assert_true(!vm_told(&c, 1)->preempt && vm_told(&c, 1)->preemptible);
}

static void test_a_soft_affinity_counts_with_the_xml_for_all_that_a_snapshot_needs(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_the_level_of_placement();
        size_t before = c.registry->xml_total;
        ASSERT_DONE(tell_vm_affinity(&c, 1, "apart", "ernie"));
        size_t hard = c.registry->xml_total;
        ASSERT_DONE(tell_vm_affinity(&c, 1, "rather-apart", "ernie"));
        g_assert_cmpint(vm_told(&c, 1)->affinity[0].kind, ==, AFFINITY_RATHER_APART);
        g_assert_cmpuint(c.registry->xml_total, >=, hard + strlen("rather-"));
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_affinity = true;
        ASSERT_DONE(tell_policy(&c, &policy));
        g_assert_cmpuint(c.registry->xml_total, ==, before);
}

static void test_what_its_xml_needs_is_read_with_every_new_xml(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        g_assert_cmpuint(vm_told(&c, 1)->needs.memory_bytes, ==, 0);
        ASSERT_DONE(tell_vm_xml(&c, 1, "bert",
                                "<domain type='kvm'><name>bert</name><memory unit='GiB'>4</memory><devices><disk>"
                                "<source file='/srv/bert'/></disk></devices></domain>"));
        g_assert_cmpuint(vm_told(&c, 1)->needs.memory_bytes, ==, UINT64_C(4) << 30);
        g_assert_cmpuint(vm_told(&c, 1)->needs.paths.n, ==, 1);
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        _cleanup_(registry_freep) Registry *again = NULL;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        g_assert_cmpint(registry_decode(bytes, size, &again), ==, SNAPSHOT_GOOD);
        g_assert_cmpuint(again->vms.items[0].needs.memory_bytes, ==, UINT64_C(4) << 30);
        g_assert_cmpstr(again->vms.items[0].needs.paths.items[0], ==, "/srv/bert");
        ASSERT_DONE(tell_vm_xml(&c, 1, "bert", "not XML"));
        g_assert_cmpuint(vm_told(&c, 1)->needs.memory_bytes, ==, 0);
        g_assert_cmpuint(vm_told(&c, 1)->needs.paths.n, ==, 0);
}

/* ---- what it should do */

static Chronicle chronicle_of_a_running_vm(void) {
        Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_running(&c, 1));
        return c;
}

static void test_a_stopped_vm_waits_once_it_is_to_run(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
        ASSERT_DONE(tell_desired(&c, 1, VM_RESTART, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
}

static void test_nobody_knows_a_fifth_desire(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_running_vm();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_desired(&c, 1, VM_DESIRE_COUNT, 0));
}

static void test_a_vm_that_is_to_shut_down_is_stopping_until_it_has_ended(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_running_vm();
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 5000));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPING);
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_SHUTDOWN);
        g_assert_cmpuint(vm_told(&c, 1)->stop_timeout_ms, ==, 5000);
        ASSERT_DONE(tell_ended(&c, 1, END_GUEST_SHUTDOWN, 1000));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
        g_assert_null(vm_told(&c, 1)->reason);
}

static void test_a_stop_is_only_ever_made_harder(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_running_vm();
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 5000));
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_STOP);
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 9000));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_STOP);
        ASSERT_DONE(tell_desired(&c, 1, VM_RESTART, 9000));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_STOP);
        g_assert_true(vm_told(&c, 1)->run);
}

static void test_a_wish_to_run_takes_effect_after_the_stop(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_running_vm();
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        ASSERT_DONE(tell_desired(&c, 1, VM_RUN, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPING);
        ASSERT_DONE(tell_ended(&c, 1, END_DESTROYED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_cmpuint(vm_told(&c, 1)->attempts, ==, 0);
}

static void test_a_restarted_vm_waits_for_its_next_place(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_running_vm();
        ASSERT_DONE(tell_desired(&c, 1, VM_RESTART, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPING);
        ASSERT_DONE(tell_ended(&c, 1, END_GUEST_SHUTDOWN, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
}

static void test_start_gives_a_failed_vm_another_chance(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        for (unsigned i = 0; i < VM_ATTEMPTS_MAX; i++) {
                Claim claim = claim_of(&c, 1, 1, 0, 1);
                ASSERT_DONE(tell_assign(&c, &claim));
                ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        }
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_FAILED);
        g_assert_cmpstr(vm_told(&c, 1)->reason_code, ==, "crashed");
        ASSERT_DONE(tell_desired(&c, 1, VM_RUN, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_cmpuint(vm_told(&c, 1)->attempts, ==, 0);
        g_assert_null(vm_told(&c, 1)->reason);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/vm/" #name, test_##name)
        TEST(a_defined_vm_belongs_to_who_defined_it);
        TEST(a_vms_name_and_uuid_are_taken_once);
        TEST(a_definition_with_a_bad_part_is_refused);
        TEST(a_vm_needs_one_to_so_many_gpus);
        TEST(domain_xml_has_a_largest);
        TEST(a_cluster_has_room_for_so_many_vms);
        TEST(all_vms_together_have_so_much_xml);
        TEST(policies_count_with_the_xml);
        TEST(what_is_not_there_cannot_be_changed);
        TEST(a_vm_is_renamed_while_it_is_stopped_only);
        TEST(a_vm_is_deleted_while_it_is_stopped_only);
        TEST(a_priority_has_limits);
        TEST(a_restart_policy_is_one_of_three);
        TEST(preferred_nodes_and_affinity_have_limits);
        TEST(a_vm_is_not_defined_with_a_bad_policy);
        TEST(below_its_level_a_vm_has_no_model_no_preemption_and_no_soft_affinity);
        TEST(what_needs_the_level_must_say_so);
        TEST(a_model_stays_until_another_is_said);
        TEST(a_model_is_two_patterns_of_ids);
        TEST(no_gpu_of_another_model_is_assigned);
        TEST(preemption_is_off_until_a_policy_allows_it);
        TEST(a_soft_affinity_counts_with_the_xml_for_all_that_a_snapshot_needs);
        TEST(what_its_xml_needs_is_read_with_every_new_xml);
        TEST(a_stopped_vm_waits_once_it_is_to_run);
        TEST(nobody_knows_a_fifth_desire);
        TEST(a_vm_that_is_to_shut_down_is_stopping_until_it_has_ended);
        TEST(a_stop_is_only_ever_made_harder);
        TEST(a_wish_to_run_takes_effect_after_the_stop);
        TEST(a_restarted_vm_waits_for_its_next_place);
        TEST(start_gives_a_failed_vm_another_chance);
        return g_test_run();
}
