/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* JSON: the objects for programs. The shape is a promise (docs/json.md, held by a test): members are added, never
 * renamed or taken away. A text or number without a value is null, objects are named as people name them, times are
 * microseconds since 1970 UTC, sizes are bytes. */

#include <json-c/json.h>
#include <stdio.h>

#include "ctl/objects.h"

typedef struct json_object Json;

Json *json_map(void);
Json *json_list(void);
void json_put(Json *map, const char *key, Json *value);         /* takes @value over */
void json_push(Json *list, Json *value);
void json_put_text(Json *map, const char *key, const char *text);       /* "" and NULL become null */
void json_put_number(Json *map, const char *key, uint64_t number);
void json_put_truth(Json *map, const char *key, bool truth);
void json_put_list(Json *map, const char *key, const TextList *list);
void json_put_time(Json *map, const char *key, uint64_t realtime_us);   /* RFC 3339 in UTC; 0 becomes null */

Json *json_of_cluster(const Objects *objects);
Json *json_of_node(const Objects *objects, const NodeObject *node);
Json *json_of_gpu(const Objects *objects, const GpuObject *gpu);
Json *json_of_pool(const Objects *objects, const PoolObject *pool);
Json *json_of_vm(const Objects *objects, const VmObject *vm);
Json *json_of_job(const Objects *objects, const JobObject *job);

/* The whole row of one kind, as a list. */
Json *json_of_all(const Objects *objects, ObjectKind kind);

typedef enum JsonForm {
        JSON_PRETTY,
        JSON_LINE,              /* one document a line, for a stream */
} JsonForm;

/* Writes it with a newline, and with what could harm a terminal as \uXXXX. */
void json_write(Json *document, JsonForm form, FILE *file);
