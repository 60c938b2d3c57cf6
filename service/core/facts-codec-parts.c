/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Words on their way out and in. */

#include <errno.h>

#include "core/facts-codec-internal.h"
#include "core/wire.h"

/* Fields and items of one value: the largest, of silent nodes, has fewer than half as many. */
#define VALUE_ITEMS_MAX 4096U

void keep_clear(Keep *keep) {
        ARRAY_EACH(item, &keep->items)
                free(*item);
        array_clear(&keep->items);
}

void *keep_row(Keep *keep, size_t n, size_t size) {
        _cleanup_free_ void *row = n > 0 ? calloc(n, size) : NULL;
        if (n > 0 && (!row || array_append(&keep->items, &row) < 0)) {
                keep->failed = true;
                return NULL;
        }
        return STEAL(row);
}

char *keep_text(Keep *keep, const char *text, size_t most) {
        static char empty[1];
        if (text_is_empty(text))
                return empty;
        size_t size = strlen(text);
        if (size <= most && text_is_printable(text))
                return (char *) text;

        char *copy = keep_row(keep, size + 1, 1);
        if (!copy)
                return empty;
        memcpy(copy, text, size + 1);
        text_make_printable(copy, most);
        return copy;
}

char **keep_list(Keep *keep, const TextList *list, size_t most, size_t *ret_n) {
        size_t n = list->n < most ? list->n : most;
        char **row = keep_row(keep, n, sizeof(*row));
        for (size_t i = 0; row && i < n; i++)
                row[i] = keep_text(keep, list->items[i], FACTS_WORD_MAX);
        *ret_n = row ? n : 0;
        return row;
}

int publish_message(Gossip *gossip, const char *key, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        if (size > GOSSIP_VALUE_MAX)
                return GOSSIP_SET_REFUSED;
        _cleanup_free_ uint8_t *bytes = malloc(size + 1);
        if (!bytes)
                return -ENOMEM;
        protobuf_c_message_pack(message, bytes);
        return gossip_set(gossip, key, bytes, size);
}

int publish_or_withdraw(Gossip *gossip, const char *key, const ProtobufCMessage *message) {
        int r = publish_message(gossip, key, message);
        if (r == GOSSIP_SET_REFUSED) {
                int removed = gossip_remove(gossip, key);
                return removed < 0 ? removed : r;
        }
        return r;
}

int unpack_value(const ProtobufCMessageDescriptor *kind, const void *value, size_t size, ProtobufCMessage **ret) {
        if (wire_check(kind, value, size, VALUE_ITEMS_MAX) != WIRE_GOOD)
                return -EBADMSG;
        ProtobufCMessage *message = protobuf_c_message_unpack(kind, NULL, size, value);
        if (!message)
                return -ENOMEM;
        *ret = message;
        return 0;
}

int read_text(const char *text, size_t most, char **ret) {
        if (text_is_empty(text))
                return 0;
        if (strlen(text) > most || !text_is_printable(text))
                return -EBADMSG;
        return text_set(ret, text);
}

int read_list(char *const *items, size_t n, size_t most, TextList *ret) {
        if (n > most)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++) {
                if (text_is_empty(items[i]) || strlen(items[i]) > FACTS_WORD_MAX || !text_is_printable(items[i]))
                        return -EBADMSG;
                int r = text_list_add(ret, items[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}
