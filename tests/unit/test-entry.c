/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Entries as bytes: what is taken, what is not, and that a request is known by what it asks for. */

#include <errno.h>
#include <stdio.h>

#include "chronicle.h"

/* An entry with all that its messages point to. */
typedef struct Draft {
        NodeId node;
        RequestId request;
        EntryAuthor author;
        Gpupool1__DeletePool command;
        Entry entry;
} Draft;

static Draft *draft_new(void) {
        Draft *d = g_new0(Draft, 1);
        d->node = NODE(1);
        d->request = REQUEST(1);
        d->author = (EntryAuthor) GPUPOOL1__AUTHOR__INIT;
        d->author.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = d->node.bytes };
        d->author.uid = 1000;
        d->author.user = (char *) "alice";
        d->author.action = (char *) ACTION_MANAGE_POOL;
        d->command = (Gpupool1__DeletePool) GPUPOOL1__DELETE_POOL__INIT;
        d->command.name = (char *) "training";
        d->entry = (Entry) GPUPOOL1__ENTRY__INIT;
        d->entry.format = ENTRY_FORMAT;
        d->entry.author = &d->author;
        d->entry.request_id = (ProtobufCBinaryData) { .len = ID_SIZE, .data = d->request.bytes };
        d->entry.time_ms = 1;
        d->entry.level = 1;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_POOL;
        d->entry.delete_pool = &d->command;
        return d;
}

/* Packed without asking whether it may be. */
static EntryVerdict verdict_on(const Entry *entry) {
        size_t size = gpupool1__entry__get_packed_size(entry);
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        gpupool1__entry__pack(entry, bytes);
        _cleanup_(entry_freep) Entry *read = NULL;
        EntryVerdict verdict = (EntryVerdict) entry_decode(bytes, size, &read);
        g_assert_cmpint(verdict == ENTRY_GOOD, ==, read != NULL);

        return verdict;
}

static void test_an_entry_comes_back_as_it_went(void) {
        g_autofree Draft *d = draft_new();
        _cleanup_free_ uint8_t *bytes = NULL, *again = NULL;
        size_t size, again_size;
        _cleanup_(entry_freep) Entry *read = NULL;
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, 0);
        g_assert_cmpint(entry_decode(bytes, size, &read), ==, ENTRY_GOOD);
        g_assert_cmpstr(read->author->user, ==, "alice");
        g_assert_cmpstr(read->delete_pool->name, ==, "training");
        g_assert_cmpint(entry_encode(read, &again, &again_size), ==, 0);
        g_assert_cmpmem(bytes, size, again, again_size);
}

static void test_garbage_is_no_entry(void) {
        static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00 };
        Entry *read = NULL;
        g_assert_cmpint(entry_decode(garbage, sizeof(garbage), &read), ==, ENTRY_GARBAGE);
        g_assert_cmpint(entry_decode(garbage, 0, &read), ==, ENTRY_GARBAGE);
        g_assert_null(read);
}

static void test_a_truncated_entry_is_never_taken_for_whole(void) {
        g_autofree Draft *d = draft_new();
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, 0);
        for (size_t i = 0; i < size; i++) {
                Entry *read = NULL;
                g_autofree uint8_t *part = g_memdup2(bytes, i + (i == 0));
                g_assert_cmpint(entry_decode(part, i, &read), !=, ENTRY_GOOD);
                g_assert_null(read);
        }
}

static void test_what_this_build_does_not_know_is_unknown(void) {
        g_autofree Draft *d = draft_new();
        d->entry.format = ENTRY_FORMAT + 1;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_UNKNOWN);
        d->entry.format = 0;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_UNKNOWN);
        d->entry.format = ENTRY_FORMAT;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND__NOT_SET;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_UNKNOWN);

        /* Field 100: a command of tomorrow. */
        static const uint8_t tomorrow[] = { 0x08, 0x01, 0x1a, 0x12, 0x0a, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
                                            13, 14, 15, 16, 0xa2, 0x06, 0x00 };
        Entry *read = NULL;
        g_assert_cmpint(entry_decode(tomorrow, sizeof(tomorrow), &read), ==, ENTRY_UNKNOWN);
}

static void test_an_entry_has_an_author(void) {
        g_autofree Draft *d = draft_new();
        d->entry.author = NULL;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
        d->entry.author = &d->author;
        d->author.node.len = ID_SIZE - 1;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
        d->author.node.len = 0;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
}

static void test_a_request_id_is_of_one_size_or_not_there(void) {
        g_autofree Draft *d = draft_new();
        for (size_t n = 0; n <= ID_SIZE; n++) {
                d->entry.request_id.len = n;
                g_assert_cmpint(verdict_on(&d->entry), ==, n == 0 || n == ID_SIZE ? ENTRY_GOOD : ENTRY_GARBAGE);
        }
}

static void test_the_authors_name_is_short_and_printable(void) {
        g_autofree Draft *d = draft_new();
        g_autofree char *longest = g_strnfill(NAME_LENGTH_MAX, 'x'), *longer = g_strnfill(NAME_LENGTH_MAX + 1, 'x');
        d->author.user = d->author.action = longest;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GOOD);
        d->author.user = longer;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
        d->author.user = (char *) "al\x1b[2Jice";
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
        d->author.user = (char *) "alice";
        d->author.action = longer;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
        d->author.action = (char *) "\xff";
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GARBAGE);
}

static void test_what_could_not_be_read_again_is_not_written(void) {
        g_autofree Draft *d = draft_new();
        uint8_t *bytes = NULL;
        size_t size;
        d->entry.request_id.len = 3;
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, -EINVAL);
        d->entry.request_id.len = 0;
        d->author.user = (char *) "\xff";
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, -EINVAL);
        d->author.user = (char *) "alice";
        d->author.action = (char *) "a\nb";
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, -EINVAL);
        g_autofree char *large = g_strnfill(ENTRY_SIZE_MAX, 'x');
        d->author.action = (char *) "";
        d->command.name = large;
        g_assert_cmpint(entry_encode(&d->entry, &bytes, &size), ==, -E2BIG);
        g_assert_null(bytes);
}

static void test_an_entry_has_a_largest(void) {
        g_autofree Draft *d = draft_new();
        d->command.name = (char *) "";
        size_t frame = gpupool1__entry__get_packed_size(&d->entry) + 3 + 2;     /* longer lengths take more bytes */
        g_autofree char *name = g_strnfill(ENTRY_SIZE_MAX - frame + 1, 'x');
        d->command.name = name;
        while (gpupool1__entry__get_packed_size(&d->entry) > ENTRY_SIZE_MAX)
                name[strlen(name) - 1] = '\0';
        g_assert_cmpuint(gpupool1__entry__get_packed_size(&d->entry), ==, ENTRY_SIZE_MAX);
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GOOD);
        g_autofree char *longer = g_strconcat(name, "x", NULL);
        d->command.name = longer;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_TOO_LARGE);
}

static void test_domain_xml_of_the_largest_size_fits_an_entry(void) {
        g_autofree Draft *d = draft_new();
        g_autofree char *xml = g_strnfill(XML_SIZE_MAX, 'x'), *name = g_strnfill(NAME_LENGTH_MAX, 'x');
        Gpupool1__UpdateVm update = GPUPOOL1__UPDATE_VM__INIT;
        update.vm = d->author.node;
        update.name = name;
        update.xml = xml;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_UPDATE_VM;
        d->entry.update_vm = &update;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GOOD);
}

static void test_as_many_gpus_as_one_call_may_name_fit_an_entry(void) {
        g_autofree Draft *d = draft_new();
        g_autofree Gpupool1__Gpu *gpus = g_new0(Gpupool1__Gpu, GPUS_PER_CALL_MAX);
        Gpupool1__Gpu *pointers[GPUS_PER_CALL_MAX];
        Gpupool1__ChangePoolGpus change = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        GpuIdentity longest = { .node = NODE(1), .vendor = 0xffff, .device = 0xffff, .subsystem_vendor = 0xffff,
                                .subsystem_device = 0xffff, .address = { .domain = UINT32_MAX } };
        char address[PCI_ADDRESS_TEXT_SIZE];
        memset(longest.slot, 'x', sizeof(longest.slot) - 1);
        memset(longest.serial, 'x', sizeof(longest.serial) - 1);
        for (size_t i = 0; i < GPUS_PER_CALL_MAX; i++) {
                gpu_message_borrow(&longest, address, gpus + i);
                pointers[i] = gpus + i;
        }
        change.name = (char *) "training";
        change.add = pointers;
        change.n_add = GPUS_PER_CALL_MAX;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_CHANGE_POOL_GPUS;
        d->entry.change_pool_gpus = &change;
        g_assert_cmpint(verdict_on(&d->entry), ==, ENTRY_GOOD);
}

/* ---- fingerprints */

static void test_a_request_sent_again_has_the_same_fingerprint(void) {
        g_autofree Draft *d = draft_new();
        uint64_t first = entry_fingerprint(&d->entry);
        d->entry.time_ms = 77;
        d->author.uid = 0;
        d->entry.request_id.len = 0;
        d->entry.level = 0;
        d->entry.not_after_index = 99;
        g_assert_cmpuint(entry_fingerprint(&d->entry), ==, first);
}

static void test_another_request_has_another_fingerprint(void) {
        g_autofree Draft *d = draft_new();
        uint64_t first = entry_fingerprint(&d->entry);
        d->command.name = (char *) "training2";
        g_assert_cmpuint(entry_fingerprint(&d->entry), !=, first);

        Gpupool1__RenamePool rename = GPUPOOL1__RENAME_POOL__INIT;
        rename.name = (char *) "training";
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_RENAME_POOL;
        d->entry.rename_pool = &rename;
        g_assert_cmpuint(entry_fingerprint(&d->entry), !=, first);
}

/* ---- levels */

static void test_a_move_for_another_vm_needs_the_level_of_placement(void) {
        g_autofree Draft *d = draft_new();
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;
        uint8_t id[ID_SIZE] = { 1 };
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        d->entry.move_vm = &move;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_FAILOVER);
        move.preemptor = id_message_borrow(id);
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_PLACEMENT);
}

static void test_every_command_of_failover_needs_its_level(void) {
        g_autofree Draft *d = draft_new();
        static const Gpupool1__Entry__CommandCase commands[] = {
                GPUPOOL1__ENTRY__COMMAND_LOSE_NODE,   GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE,
                GPUPOOL1__ENTRY__COMMAND_RESUME_NODE, GPUPOOL1__ENTRY__COMMAND_MOVE_VM,
                GPUPOOL1__ENTRY__COMMAND_SET_FENCING, GPUPOOL1__ENTRY__COMMAND_FREEZE,
                GPUPOOL1__ENTRY__COMMAND_THAW,        GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED,
        };
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;       /* the only one of them that is looked into */
        d->entry.move_vm = &move;
        for (size_t i = 0; i < ELEMENTS(commands); i++) {
                d->entry.command_case = commands[i];
                g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_FAILOVER);
        }
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_POOL;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_OLDEST);
}

static void test_a_lease_or_what_it_ends_needs_the_level_of_failover(void) {
        g_autofree Draft *d = draft_new();
        Gpupool1__AnnounceNode announce = GPUPOOL1__ANNOUNCE_NODE__INIT;
        Gpupool1__ReportEnded ended = GPUPOOL1__REPORT_ENDED__INIT;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE;
        d->entry.announce_node = &announce;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_OLDEST);
        announce.witness = true;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_WITNESS);
        announce.lease_ms = 1;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_FAILOVER);
        announce.lease_ms = 0;
        announce.death_ms = 1;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_FAILOVER);

        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED;
        d->entry.report_ended = &ended;
        for (EndCause cause = 0; cause < END_CAUSE_COUNT; cause++) {
                bool by_lease = cause == END_LEASE_ENDED || cause == END_GUARD_LOST;
                uint32_t level = cause == END_GPU_UNUSABLE ? LEVEL_DEVICES : by_lease ? LEVEL_FAILOVER : LEVEL_OLDEST;
                ended.cause = (Gpupool1__EndCause) cause;
                g_assert_cmpuint(entry_level(&d->entry), ==, level);
        }
}

static void test_what_placement_was_given_later_needs_its_level(void) {
        g_autofree Draft *d = draft_new();
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        Gpupool1__Affinity affinity = GPUPOOL1__AFFINITY__INIT, *pointer = &affinity;
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        Gpupool1__DefineVm define = GPUPOOL1__DEFINE_VM__INIT;
        Gpupool1__SetRequirement set_requirement = GPUPOOL1__SET_REQUIREMENT__INIT;
        Gpupool1__SetVmPolicy set_policy = GPUPOOL1__SET_VM_POLICY__INIT;
        d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_DEFINE_VM;
        d->entry.define_vm = &define;
        g_assert_cmpuint(entry_level(&d->entry), ==, LEVEL_OLDEST);
        define.requirement = set_requirement.requirement = &requirement;
        define.policy = set_policy.policy = &policy;
        policy.affinity = &pointer;
        policy.n_affinity = 1;
        policy.set_affinity = true;

#define ASSERT_LEVELS(by_requirement, by_policy)                                                        \
        do {                                                                                            \
                uint32_t _r = (by_requirement), _p = (by_policy);                                       \
                d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_DEFINE_VM;                             \
                d->entry.define_vm = &define;                                                           \
                g_assert_cmpuint(entry_level(&d->entry), ==, MAX(_r, _p));                              \
                d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_REQUIREMENT;                       \
                d->entry.set_requirement = &set_requirement;                                            \
                g_assert_cmpuint(entry_level(&d->entry), ==, _r);                                       \
                d->entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY;                         \
                d->entry.set_vm_policy = &set_policy;                                                   \
                g_assert_cmpuint(entry_level(&d->entry), ==, _p);                                       \
        } while (0)
        affinity.kind = (char *) "with";
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_OLDEST);
        affinity.kind = (char *) "near";        /* nobody knows it: as every member has always refused it */
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_OLDEST);
        affinity.kind = (char *) "rather-apart";
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_PLACEMENT);
        policy.set_affinity = false;
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_OLDEST);
        policy.set_preempt = true;
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_PLACEMENT);
        policy.set_preempt = false;
        policy.set_preemptible = true;
        ASSERT_LEVELS(LEVEL_OLDEST, LEVEL_PLACEMENT);
        policy.set_preemptible = false;
        requirement.set_model = true;
        ASSERT_LEVELS(LEVEL_PLACEMENT, LEVEL_OLDEST);
}

/* ---- GPUs */

static void test_a_gpu_comes_back_as_it_went(void) {
        GpuIdentity gpu = GPU(1, 300), read;
        gpu.address = (PciAddress) { .domain = 0x10000, .bus = 0xff, .device = 31, .function = 7 };
        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu message;
        gpu_message_borrow(&gpu, address, &message);
        g_assert_cmpint(gpu_message_read(&message, &read), ==, 0);
        g_assert_true(gpu_identity_equal(&gpu, &read));
        g_assert_true(pci_address_equal(gpu.address, read.address));
}

static Gpupool1__Gpu gpu_message(const GpuIdentity *gpu, char address[static PCI_ADDRESS_TEXT_SIZE]) {
        Gpupool1__Gpu message;
        gpu_message_borrow(gpu, address, &message);
        return message;
}

static void test_a_gpu_with_a_bad_part_is_none(void) {
        GpuIdentity gpu = GPU(1, 0), read;
        char address[PCI_ADDRESS_TEXT_SIZE];
        g_autofree char *slot = g_strnfill(GPU_SLOT_SIZE, 'x'), *serial = g_strnfill(GPU_SERIAL_SIZE, 'x');
#define ASSERT_BAD(change)                                                      \
        do {                                                                    \
                Gpupool1__Gpu m = gpu_message(&gpu, address);                   \
                change;                                                         \
                g_assert_cmpint(gpu_message_read(&m, &read), ==, -EINVAL);      \
        } while (0)
        g_assert_cmpint(gpu_message_read(NULL, &read), ==, -EINVAL);
        ASSERT_BAD(m.node.len = ID_SIZE - 1);
        ASSERT_BAD(m.slot = (char *) "");
        ASSERT_BAD(m.slot = slot);
        ASSERT_BAD(m.slot = (char *) "a\tb");
        ASSERT_BAD(m.serial = serial);
        ASSERT_BAD(m.serial = (char *) "\xff");
        ASSERT_BAD(m.vendor = 0x10000);
        ASSERT_BAD(m.device = 0x10000);
        ASSERT_BAD(m.subsystem_vendor = 0x10000);
        ASSERT_BAD(m.subsystem_device = 0x10000);
        ASSERT_BAD(m.address = (char *) "");
        ASSERT_BAD(m.address = (char *) "0000:41:00.8");

        Gpupool1__Gpu m = gpu_message(&gpu, address);
        slot[GPU_SLOT_SIZE - 1] = serial[GPU_SERIAL_SIZE - 1] = '\0';
        m.slot = slot;
        m.serial = serial;
        g_assert_cmpint(gpu_message_read(&m, &read), ==, 0);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/entry/" #name, test_##name)
        TEST(an_entry_comes_back_as_it_went);
        TEST(garbage_is_no_entry);
        TEST(a_truncated_entry_is_never_taken_for_whole);
        TEST(what_this_build_does_not_know_is_unknown);
        TEST(an_entry_has_an_author);
        TEST(a_request_id_is_of_one_size_or_not_there);
        TEST(the_authors_name_is_short_and_printable);
        TEST(what_could_not_be_read_again_is_not_written);
        TEST(an_entry_has_a_largest);
        TEST(domain_xml_of_the_largest_size_fits_an_entry);
        TEST(as_many_gpus_as_one_call_may_name_fit_an_entry);
        TEST(a_request_sent_again_has_the_same_fingerprint);
        TEST(another_request_has_another_fingerprint);
        TEST(a_move_for_another_vm_needs_the_level_of_placement);
        TEST(every_command_of_failover_needs_its_level);
        TEST(a_lease_or_what_it_ends_needs_the_level_of_failover);
        TEST(what_placement_was_given_later_needs_its_level);
        TEST(a_gpu_comes_back_as_it_went);
        TEST(a_gpu_with_a_bad_part_is_none);
        return g_test_run();
}
