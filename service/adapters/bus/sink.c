/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/sink.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* FNV-1a, 64 bits. */
static void mix(Sink *sink, const void *bytes, size_t size) {
        const uint8_t *p = bytes;
        uint64_t hash = sink->fingerprint;
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        sink->fingerprint = hash;
}

static void mix_text(Sink *sink, const char *text) {
        if (!text)
                text = "";
        mix(sink, text, strlen(text) + 1);
}

static int put_fingerprint(Sink *sink, const char *types, va_list ap) {
        for (const char *type = types; *type; type++)
                switch (*type) {
                case SD_BUS_TYPE_STRING:
                case SD_BUS_TYPE_OBJECT_PATH:
                        mix_text(sink, va_arg(ap, const char *));
                        break;
                case SD_BUS_TYPE_BOOLEAN:
                case SD_BUS_TYPE_BYTE:
                case SD_BUS_TYPE_UINT16:
                case SD_BUS_TYPE_INT32:
                case SD_BUS_TYPE_UINT32: {
                        uint32_t value = va_arg(ap, uint32_t);
                        mix(sink, &value, sizeof(value));
                        break;
                }
                case SD_BUS_TYPE_UINT64: {
                        uint64_t value = va_arg(ap, uint64_t);
                        mix(sink, &value, sizeof(value));
                        break;
                }
                case SD_BUS_TYPE_DOUBLE: {
                        double value = va_arg(ap, double);
                        mix(sink, &value, sizeof(value));
                        break;
                }
                case SD_BUS_TYPE_STRUCT_BEGIN:
                case SD_BUS_TYPE_STRUCT_END:
                case SD_BUS_TYPE_DICT_ENTRY_BEGIN:
                case SD_BUS_TYPE_DICT_ENTRY_END:
                        break;
                default:
                        return -EINVAL;
                }
        return 0;
}

int sink_put(Sink *sink, const char *types, ...) {
        va_list ap;
        va_start(ap, types);
        int r = sink->message ? sd_bus_message_appendv(sink->message, types, ap) : put_fingerprint(sink, types, ap);
        va_end(ap);
        return r < 0 ? r : 0;
}

int sink_open(Sink *sink, const char *contents) {
        if (sink->message)
                return sd_bus_message_open_container(sink->message, SD_BUS_TYPE_ARRAY, contents);
        mix_text(sink, "[");
        return 0;
}

int sink_close(Sink *sink) {
        if (sink->message)
                return sd_bus_message_close_container(sink->message);
        mix_text(sink, "]");
        return 0;
}
