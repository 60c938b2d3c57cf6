/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/wire.h"

#include <stdbool.h>
#include <string.h>

#define FIELD_NUMBER_MAX 0x1fffffffU
#define SHORT_VARINT_MAX 5U     /* bytes of a tag or a length: protobuf-c reads no longer ones */
#define FIELDS_MAX 256U         /* of one message type */

typedef enum WireType {
        WIRE_VARINT = 0,
        WIRE_FIXED64 = 1,
        WIRE_LENGTH = 2,
        WIRE_FIXED32 = 5,
} WireType;

/* What is left to be read of one message. */
typedef struct Reader {
        const uint8_t *at;
        size_t left;
} Reader;

/* At most ten bytes, of which the last has one bit. */
static bool read_varint(Reader *reader, uint64_t *ret) {
        uint64_t value = 0;
        for (unsigned i = 0; i < 10 && i < reader->left; i++) {
                uint8_t byte = reader->at[i];
                if (i == 9 && byte > 1)
                        return false;
                value |= (uint64_t) (byte & 0x7f) << (7 * i);
                if (byte & 0x80)
                        continue;
                reader->at += i + 1;
                reader->left -= i + 1;
                *ret = value;
                return true;
        }
        return false;
}

static bool take(Reader *reader, size_t size, Reader *ret) {
        if (size > reader->left)
                return false;
        *ret = (Reader) { .at = reader->at, .left = size };
        reader->at += size;
        reader->left -= size;
        return true;
}

typedef struct Field {
        uint32_t number;
        WireType type;
        Reader value;           /* of WIRE_LENGTH: what is in it */
} Field;

static bool read_field(Reader *reader, Field *ret) {
        uint64_t tag, size;
        Reader before = *reader;
        if (!read_varint(reader, &tag) || before.left - reader->left > SHORT_VARINT_MAX || tag >> 3 == 0 ||
            tag >> 3 > FIELD_NUMBER_MAX)
                return false;
        ret->number = (uint32_t) (tag >> 3);
        ret->type = (WireType) (tag & 7);
        before = *reader;
        switch (ret->type) {
        case WIRE_VARINT:
                return read_varint(reader, &size) && take(&before, before.left - reader->left, &ret->value);
        case WIRE_FIXED64:
                return take(reader, 8, &ret->value);
        case WIRE_LENGTH:
                return read_varint(reader, &size) && before.left - reader->left <= SHORT_VARINT_MAX &&
                       size <= reader->left &&
                       take(reader, (size_t) size, &ret->value);
        case WIRE_FIXED32:
                return take(reader, 4, &ret->value);
        }
        return false;           /* groups, and what does not exist */
}

static WireType wire_type_of(ProtobufCType type) {
        switch (type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_BOOL:
        case PROTOBUF_C_TYPE_ENUM:
                return WIRE_VARINT;
        case PROTOBUF_C_TYPE_SFIXED32:
        case PROTOBUF_C_TYPE_FIXED32:
        case PROTOBUF_C_TYPE_FLOAT:
                return WIRE_FIXED32;
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return WIRE_FIXED64;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
        case PROTOBUF_C_TYPE_MESSAGE:
                break;
        }
        return WIRE_LENGTH;
}

/* How many numbers stand in a packed row; false: they do not fill it. */
static bool count_packed(const ProtobufCFieldDescriptor *field, Reader row, size_t *ret) {
        size_t n = 0, size = row.left;
        switch (wire_type_of(field->type)) {
        case WIRE_FIXED32:
                *ret = row.left / 4;
                return row.left % 4 == 0;
        case WIRE_FIXED64:
                *ret = row.left / 8;
                return row.left % 8 == 0;
        case WIRE_VARINT:
                for (uint64_t value; row.left > 0; n++)
                        if (!read_varint(&row, &value) || (field->type == PROTOBUF_C_TYPE_BOOL && value > 1))
                                return false;
                *ret = n;
                /* protobuf-c takes a bool of a row for one byte. */
                return field->type != PROTOBUF_C_TYPE_BOOL || n == size;
        case WIRE_LENGTH:
                break;
        }
        return false;
}

/* One message being walked through. */
typedef struct Level {
        const ProtobufCMessageDescriptor *descriptor;
        Reader reader;
        uint8_t seen[FIELDS_MAX / 8];
} Level;

/* Notes that this submessage or member of a oneof is there; false: it, or another member, was there already. */
static bool note_once(Level *level, const ProtobufCFieldDescriptor *field) {
        const ProtobufCMessageDescriptor *d = level->descriptor;
        bool one_of = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
        if (field->label == PROTOBUF_C_LABEL_REPEATED || (!one_of && field->type != PROTOBUF_C_TYPE_MESSAGE))
                return true;
        /* The first member stands for all of its oneof: they share the place of the case. */
        size_t i = (size_t) (field - d->fields);
        for (size_t j = 0; one_of && j < i; j++)
                if ((d->fields[j].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                    d->fields[j].quantifier_offset == field->quantifier_offset)
                        i = j;
        uint8_t bit = (uint8_t) (1U << i % 8);
        if (level->seen[i / 8] & bit)
                return false;
        level->seen[i / 8] |= bit;
        return true;
}

/* A field that the descriptor knows, apart from what is in a submessage. */
static WireVerdict check_known(Level *level, const ProtobufCFieldDescriptor *known, const Field *field,
                               size_t *items_left) {
        WireType wanted = wire_type_of(known->type);
        if (field->type == WIRE_LENGTH && wanted != WIRE_LENGTH && known->label == PROTOBUF_C_LABEL_REPEATED) {
                size_t n;
                if (!count_packed(known, field->value, &n))
                        return WIRE_GARBAGE;
                if (n > *items_left)
                        return WIRE_TOO_MANY;
                *items_left -= n;
                return WIRE_GOOD;
        }
        if (field->type != wanted)
                return WIRE_GARBAGE;
        if (known->type == PROTOBUF_C_TYPE_STRING && memchr(field->value.at, 0, field->value.left))
                return WIRE_GARBAGE;
        return note_once(level, known) ? WIRE_GOOD : WIRE_TWICE;
}

static bool enter(Level *level, const ProtobufCMessageDescriptor *descriptor, Reader reader) {
        if (descriptor->n_fields > FIELDS_MAX)
                return false;
        *level = (Level) { .descriptor = descriptor, .reader = reader };
        return true;
}

WireVerdict wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                       size_t max_items) {
        Level levels[WIRE_DEPTH_MAX];
        size_t depth = 1;
        if (!enter(levels, descriptor, (Reader) { .at = bytes, .left = size }))
                return WIRE_GARBAGE;

        while (depth > 0) {
                Level *level = levels + depth - 1;
                Field field;
                if (level->reader.left == 0) {
                        depth--;
                        continue;
                }
                if (!read_field(&level->reader, &field))
                        return WIRE_GARBAGE;
                if (max_items-- == 0)
                        return WIRE_TOO_MANY;
                const ProtobufCFieldDescriptor *known =
                        protobuf_c_message_descriptor_get_field(level->descriptor, field.number);
                if (!known)
                        continue;
                WireVerdict verdict = check_known(level, known, &field, &max_items);
                if (verdict != WIRE_GOOD)
                        return verdict;
                if (known->type != PROTOBUF_C_TYPE_MESSAGE)
                        continue;
                if (depth == WIRE_DEPTH_MAX)
                        return WIRE_TOO_DEEP;
                if (!enter(levels + depth++, known->descriptor, field.value))
                        return WIRE_GARBAGE;
        }
        return WIRE_GOOD;
}
