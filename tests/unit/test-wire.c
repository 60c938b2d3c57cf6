/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Protobuf bytes before they are unpacked. */

#include <glib.h>

#include "core/wire.h"
#include "registry.pb-c.h"

#define ENTRY (&gpupool1__entry__descriptor)
#define SNAPSHOT (&gpupool1__snapshot__descriptor)
#define MANY 1000U

#define CHECK(descriptor, ...)                                                          \
        ({                                                                              \
                const uint8_t _bytes[] = { __VA_ARGS__ };                               \
                g_autofree uint8_t *_exact = g_memdup2(_bytes, sizeof(_bytes));         \
                wire_check((descriptor), _exact, sizeof(_bytes), MANY);                 \
        })
#define ASSERT_WIRE(verdict, descriptor, ...) g_assert_cmpint(CHECK(descriptor, __VA_ARGS__), ==, WIRE_##verdict)

static void test_nothing_is_a_message_without_fields(void) {
        g_assert_cmpint(wire_check(ENTRY, NULL, 0, 0), ==, WIRE_GOOD);
}

static void test_fields_of_every_kind_are_walked_through(void) {
        ASSERT_WIRE(GOOD, ENTRY, 0x08, 0x01);                           /* format */
        ASSERT_WIRE(GOOD, ENTRY, 0x12, 0x02, 0xff, 0x00);               /* request_id: bytes */
        ASSERT_WIRE(GOOD, ENTRY, 0x1a, 0x00);                           /* an author with nothing */
        ASSERT_WIRE(GOOD, ENTRY, 0x1a, 0x04, 0x1a, 0x02, 'a', 'b');     /* ... with a user */
        ASSERT_WIRE(GOOD, ENTRY, 0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01);
        /* What is not known: a number, 64 bits, bytes, 32 bits. */
        ASSERT_WIRE(GOOD, ENTRY, 0xa0, 0x06, 0x05);
        ASSERT_WIRE(GOOD, ENTRY, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8);
        ASSERT_WIRE(GOOD, ENTRY, 0xa2, 0x06, 0x01, 0x00);
        ASSERT_WIRE(GOOD, ENTRY, 0xa5, 0x06, 1, 2, 3, 4);
}

static void test_what_is_cut_off_is_garbage(void) {
        ASSERT_WIRE(GARBAGE, ENTRY, 0x08);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x08, 0x80);
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa0);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x12, 0x02, 0xff);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x1a, 0x02, 0x1a, 0x01);            /* inside the author */
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7);
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa5, 0x06, 1, 2, 3);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f);
}

static void test_what_protobuf_does_not_have_is_garbage(void) {
        ASSERT_WIRE(GARBAGE, ENTRY, 0x00, 0x01);                        /* field 0 */
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa3, 0x06);                        /* a group */
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa4, 0x06);
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa6, 0x06);
        ASSERT_WIRE(GARBAGE, ENTRY, 0xa7, 0x06);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x80, 0x80, 0x80, 0x80, 0x10, 0x00);        /* beyond the last field number */
        ASSERT_WIRE(GOOD, ENTRY, 0xf8, 0xff, 0xff, 0xff, 0x0f, 0x00);           /* the last */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 0x01);  /* a tag of six bytes */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00);  /* a length of six bytes */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00);
}

static void test_a_known_field_has_its_type(void) {
        ASSERT_WIRE(GARBAGE, ENTRY, 0x0a, 0x00);                        /* format as bytes */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x0d, 1, 2, 3, 4);
        ASSERT_WIRE(GARBAGE, ENTRY, 0x10, 0x00);                        /* request_id as a number */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x18, 0x00);                        /* author as a number */
        ASSERT_WIRE(GARBAGE, ENTRY, 0x1a, 0x03, 0x1a, 0x01, 0x00);      /* a user with a NUL */
}

static void test_a_submessage_stands_once_where_one_belongs(void) {
        ASSERT_WIRE(TWICE, ENTRY, 0x1a, 0x00, 0x1a, 0x00);
        ASSERT_WIRE(TWICE, ENTRY, 0x1a, 0x00, 0x08, 0x01, 0x1a, 0x02, 0x10, 0x07);
        ASSERT_WIRE(GOOD, ENTRY, 0x08, 0x01, 0x08, 0x02);               /* the last number counts */
        ASSERT_WIRE(GOOD, SNAPSHOT, 0x3a, 0x00, 0x3a, 0x00);            /* two nodes */
        /* Two quarantines with a GPU each, and one with two. */
        ASSERT_WIRE(GOOD, SNAPSHOT, 0x52, 0x02, 0x0a, 0x00, 0x52, 0x02, 0x0a, 0x00);
        ASSERT_WIRE(TWICE, SNAPSHOT, 0x52, 0x04, 0x0a, 0x00, 0x0a, 0x00);
}

static void test_an_entry_has_one_command(void) {
        ASSERT_WIRE(GOOD, ENTRY, 0x82, 0x01, 0x00);                     /* InitCluster */
        ASSERT_WIRE(TWICE, ENTRY, 0x82, 0x01, 0x00, 0x82, 0x01, 0x00);
        ASSERT_WIRE(TWICE, ENTRY, 0x82, 0x01, 0x00, 0x8a, 0x01, 0x00);  /* ... and AnnounceNode */
        ASSERT_WIRE(TWICE, ENTRY, 0xc2, 0x02, 0x00, 0x82, 0x01, 0x00);  /* ImportState, InitCluster */
}

static void test_fields_are_counted_at_every_depth(void) {
        static const uint8_t bytes[] = { 0x08, 0x01, 0x1a, 0x06, 0x10, 0x01, 0x1a, 0x02, 'a', 'b', 0xa0, 0x06, 0x05 };
        for (size_t most = 0; most < 8; most++)
                g_assert_cmpint(wire_check(ENTRY, bytes, sizeof(bytes), most), ==,
                                most < 5 ? WIRE_TOO_MANY : WIRE_GOOD);
}

/* ---- what our own messages do not have yet: rows of numbers, and a message in itself */

static ProtobufCFieldDescriptor row_fields[4];
static const ProtobufCIntRange row_ranges[] = { { 1, 0 }, { 0, 4 } };
static const ProtobufCMessageDescriptor row_descriptor = {
        .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC, .n_fields = 4, .fields = row_fields, .n_field_ranges = 1,
        .field_ranges = row_ranges,
};

static void make_row_descriptor(void) {
        static const ProtobufCType types[] = { PROTOBUF_C_TYPE_UINT64, PROTOBUF_C_TYPE_FIXED32,
                                               PROTOBUF_C_TYPE_BOOL, PROTOBUF_C_TYPE_MESSAGE };
        for (unsigned i = 0; i < 4; i++)
                row_fields[i] = (ProtobufCFieldDescriptor) {
                        .id = i + 1, .label = i == 3 ? PROTOBUF_C_LABEL_NONE : PROTOBUF_C_LABEL_REPEATED,
                        .type = types[i], .descriptor = i == 3 ? &row_descriptor : NULL };
}

static void test_numbers_in_a_row_are_counted(void) {
        make_row_descriptor();
        ASSERT_WIRE(GOOD, &row_descriptor, 0x0a, 0x03, 0x01, 0x80, 0x01);
        ASSERT_WIRE(GARBAGE, &row_descriptor, 0x0a, 0x02, 0x01, 0x80);
        ASSERT_WIRE(GOOD, &row_descriptor, 0x08, 0x01);                 /* one by one is allowed */
        ASSERT_WIRE(GOOD, &row_descriptor, 0x12, 0x04, 1, 2, 3, 4);
        ASSERT_WIRE(GARBAGE, &row_descriptor, 0x12, 0x03, 1, 2, 3);
        ASSERT_WIRE(GOOD, &row_descriptor, 0x1a, 0x02, 0, 1);
        ASSERT_WIRE(GARBAGE, &row_descriptor, 0x1a, 0x02, 0x80, 0x01);
        ASSERT_WIRE(GARBAGE, &row_descriptor, 0x1a, 0x01, 0x02);

        static const uint8_t three[] = { 0x0a, 0x03, 0x01, 0x02, 0x03 };
        g_assert_cmpint(wire_check(&row_descriptor, three, sizeof(three), 3), ==, WIRE_TOO_MANY);
        g_assert_cmpint(wire_check(&row_descriptor, three, sizeof(three), 4), ==, WIRE_GOOD);
}

static void test_messages_in_messages_have_a_deepest(void) {
        uint8_t bytes[2 * WIRE_DEPTH_MAX];
        make_row_descriptor();
        for (size_t n = 0; n <= WIRE_DEPTH_MAX; n++) {
                for (size_t i = 0; i < n; i++) {
                        bytes[2 * i] = 0x22;
                        bytes[2 * i + 1] = (uint8_t) (2 * (n - i - 1));
                }
                g_assert_cmpint(wire_check(&row_descriptor, bytes, 2 * n, MANY), ==,
                                n < WIRE_DEPTH_MAX ? WIRE_GOOD : WIRE_TOO_DEEP);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/wire/" #name, test_##name)
        TEST(nothing_is_a_message_without_fields);
        TEST(fields_of_every_kind_are_walked_through);
        TEST(what_is_cut_off_is_garbage);
        TEST(what_protobuf_does_not_have_is_garbage);
        TEST(a_known_field_has_its_type);
        TEST(a_submessage_stands_once_where_one_belongs);
        TEST(an_entry_has_one_command);
        TEST(fields_are_counted_at_every_depth);
        TEST(numbers_in_a_row_are_counted);
        TEST(messages_in_messages_have_a_deepest);
        return g_test_run();
}
