/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/json.h"

#include <time.h>

#include "core/names.h"
#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "ctl/words.h"

static Json *must_json(Json *made) {
        if (!made)
                out_of_memory();
        return made;
}

Json *json_map(void) {
        return must_json(json_object_new_object());
}

Json *json_list(void) {
        return must_json(json_object_new_array());
}

void json_put(Json *map, const char *key, Json *value) {
        MUST(json_object_object_add(map, key, value));
}

void json_push(Json *list, Json *value) {
        MUST(json_object_array_add(list, value));
}

static Json *json_text(const char *text) {
        return text_is_empty(text) ? NULL : must_json(json_object_new_string(text));
}

static Json *json_number(uint64_t number) {
        return must_json(json_object_new_uint64(number));
}

void json_put_text(Json *map, const char *key, const char *text) {
        json_put(map, key, json_text(text));
}

void json_put_number(Json *map, const char *key, uint64_t number) {
        json_put(map, key, json_number(number));
}

void json_put_truth(Json *map, const char *key, bool truth) {
        json_put(map, key, must_json(json_object_new_boolean(truth)));
}

void json_put_list(Json *map, const char *key, const TextList *list) {
        Json *items = json_list();
        for (size_t i = 0; i < list->n; i++)
                json_push(items, must_json(json_object_new_string(list->items[i])));
        json_put(map, key, items);
}

void json_put_time(Json *map, const char *key, uint64_t realtime_us) {
        char text[64];
        struct tm when;
        time_t seconds = (time_t) (realtime_us / 1000000U);
        if (realtime_us == 0 || !gmtime_r(&seconds, &when) ||
            strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &when) == 0) {
                json_put(map, key, NULL);
                return;
        }
        _cleanup_free_ char *whole = must_printf("%s.%06uZ", text, (unsigned) (realtime_us % 1000000U));
        json_put_text(map, key, whole);
}

/* The name of the object at @path; null for "/". */
static void put_name(Json *map, const char *key, const Objects *objects, const char *path) {
        bool named = !text_equal(path, OBJECT_NONE) && !text_equal(path, OBJECT_ROOT);
        json_put_text(map, key, named ? objects_name(objects, path) : NULL);
}

static void put_names(Json *map, const char *key, const Objects *objects, const TextList *paths) {
        Json *items = json_list();
        for (size_t i = 0; i < paths->n; i++)
                json_push(items, json_text(objects_name(objects, paths->items[i])));
        json_put(map, key, items);
}

/* -1 stands for none on the bus. */
static void put_number_or_none(Json *map, const char *key, int32_t number) {
        json_put(map, key, number < 0 ? NULL : json_number((uint64_t) number));
}

static void put_hex(Json *map, const char *key, const char *prefix, int digits, unsigned number) {
        _cleanup_free_ char *text = must_printf("%s%0*x", prefix, digits, number);
        json_put_text(map, key, text);
}

Json *json_of_cluster(const Objects *objects) {
        const ClusterObject *cluster = &objects->cluster;
        Json *map = json_map();
        json_put_text(map, "id", cluster->id);
        json_put_text(map, "name", cluster->name);
        put_name(map, "local_node", objects, cluster->local_node);
        put_name(map, "leader", objects, cluster->leader);
        json_put_truth(map, "quorate", cluster->quorate);
        put_names(map, "voters", objects, &cluster->voters);
        json_put_truth(map, "frozen", cluster->frozen);
        json_put_number(map, "frozen_seconds", cluster->frozen_s);
        json_put_number(map, "functional_level", cluster->functional_level);
        json_put_number(map, "supported_level", cluster->supported_level);
        json_put_text(map, "version", cluster->version);
        json_put_list(map, "features", &cluster->features);
        return map;
}

Json *json_of_node(const Objects *objects, const NodeObject *node) {
        Json *map = json_map(), *versions = json_map(), *hugepages = json_list();
        json_put_text(map, "name", node->name);
        json_put_text(map, "id", node->id);
        json_put_text(map, "path", node->path);
        json_put_text(map, "state", node->state);
        json_put_time(map, "silent_since", node->silent_since_us);
        json_put_text(map, "evidence", node->evidence);
        json_put_text(map, "drain_cause", node->drain_cause);
        json_put_text(map, "role", node->role);
        json_put_list(map, "addresses", &node->addresses);
        json_put_text(map, "hypervisor", node->hypervisor);
        json_put_text(map, "guard", node->guard);
        json_put(map, "watchdog_us", node->watchdog_us > 0 ? json_number(node->watchdog_us) : NULL);
        json_put_text(map, "fencing", node->fencing);
        json_put_text(map, "fencing_action", node->fencing_action);
        json_put_text(map, "fencing_state", node->fencing_state);
        json_put_text(map, "fencing_note", node->fencing_note);
        json_put_text(map, "virtualization", node->virtualization);
        json_put_text(map, "boot_id", node->boot_id);
        json_put_text(map, "kernel", node->kernel);
        json_put_text(map, "cpu_model", node->cpu_model);
        json_put_number(map, "memory_total_bytes", node->memory_total_bytes);
        json_put_number(map, "memory_free_bytes", node->memory_free_bytes);
        ARRAY_EACH(pages, &node->hugepages) {
                Json *item = json_map();
                json_put_number(item, "size_bytes", pages->size_bytes);
                json_put_number(item, "total", pages->total);
                json_put_number(item, "free", pages->free);
                json_push(hugepages, item);
        }
        json_put(map, "hugepages", hugepages);
        ARRAY_EACH(version, &node->versions)
                json_put_text(versions, version->first, version->second);
        json_put(map, "versions", versions);
        return map;
}

static void put_hardware(Json *map, const GpuObject *gpu) {
        Json *holders = json_list(), *functions = json_list(), *bars = json_list(), *link = json_map();
        ARRAY_EACH(holder, &gpu->holders) {
                Json *item = json_map();
                json_put_number(item, "pid", holder->pid);
                json_put_text(item, "command", holder->command);
                json_push(holders, item);
        }
        json_put(map, "holders", holders);
        ARRAY_EACH(function, &gpu->functions) {
                Json *item = json_map();
                json_put_text(item, "address", function->address);
                put_hex(item, "class", "0x", 6, function->class);
                json_put_text(item, "driver", function->driver);
                json_put_text(item, "description", function->description);
                json_push(functions, item);
        }
        json_put(map, "functions", functions);
        ARRAY_EACH(bar, &gpu->bars) {
                Json *item = json_map();
                json_put_number(item, "index", bar->index);
                json_put_number(item, "start", bar->start);
                json_put_number(item, "size_bytes", bar->size_bytes);
                json_put_truth(item, "prefetchable", bar->prefetchable);
                json_push(bars, item);
        }
        json_put(map, "bars", bars);
        json_put_text(link, "speed", gpu->link_speed);
        json_put(link, "width", gpu->link_width > 0 ? json_number(gpu->link_width) : NULL);
        json_put_text(link, "speed_max", gpu->link_speed_max);
        json_put(link, "width_max", gpu->link_width_max > 0 ? json_number(gpu->link_width_max) : NULL);
        json_put(map, "link", link);
        json_put(map, "vram_bytes", gpu->vram_bytes > 0 ? json_number(gpu->vram_bytes) : NULL);
        json_put_text(map, "vbios", gpu->vbios);
}

Json *json_of_gpu(const Objects *objects, const GpuObject *gpu) {
        _cleanup_free_ char *model = gpu_model(gpu);
        Json *map = json_map(), *blockers = json_list();
        json_put_text(map, "name", gpu->name);
        json_put_text(map, "path", gpu->path);
        put_name(map, "node", objects, gpu->node);
        json_put_text(map, "address", gpu->address);
        json_put_text(map, "slot_path", gpu->slot_path);
        json_put_text(map, "serial", gpu->serial);
        json_put_text(map, "model", model);
        json_put_text(map, "vendor", gpu->vendor);
        json_put_text(map, "device", gpu->device);
        put_hex(map, "vendor_id", "", 4, gpu->vendor_id);
        put_hex(map, "device_id", "", 4, gpu->device_id);
        put_hex(map, "subsystem_vendor_id", "", 4, gpu->subsystem_vendor_id);
        put_hex(map, "subsystem_device_id", "", 4, gpu->subsystem_device_id);
        put_hex(map, "class", "0x", 6, gpu->class);
        json_put_text(map, "state", gpu->state);
        json_put_truth(map, "assignable", gpu->assignable);
        ARRAY_EACH(blocker, &gpu->blockers) {
                Json *item = json_map();
                json_put_text(item, "code", blocker->code);
                json_put_text(item, "sentence", blocker->sentence);
                json_put_text(item, "remedy", blocker->remedy);
                json_push(blockers, item);
        }
        json_put(map, "blockers", blockers);
        json_put_text(map, "quarantine_reason", gpu->quarantine_reason);
        put_name(map, "pool", objects, gpu->pool);
        put_name(map, "vm", objects, gpu->vm);
        json_put_text(map, "driver", gpu->driver);
        put_number_or_none(map, "iommu_group", gpu->iommu_group);
        put_number_or_none(map, "numa_node", gpu->numa_node);
        json_put_text(map, "parent", gpu->parent);
        put_names(map, "siblings", objects, &gpu->siblings);
        json_put_list(map, "reset_methods", &gpu->reset_methods);
        put_hardware(map, gpu);
        return map;
}

Json *json_of_pool(const Objects *objects, const PoolObject *pool) {
        Json *map = json_map(), *rules = json_list();
        json_put_text(map, "name", pool->name);
        json_put_text(map, "path", pool->path);
        put_names(map, "gpus", objects, &pool->gpus);
        ARRAY_EACH(rule, &pool->rules) {
                Json *item = json_map();
                ARRAY_EACH(pair, rule)
                        json_put_text(item, pair->first, pair->second);
                json_push(rules, item);
        }
        json_put(map, "rules", rules);
        json_put_text(map, "placement", pool->placement);
        json_put_list(map, "mixed", &pool->mixed);
        json_put_number(map, "reserve", pool->reserve);
        json_put(map, "max_in_use", pool->max_in_use > 0 ? json_number(pool->max_in_use) : NULL);
        json_put_text(map, "after_use", pool->after_use);
        json_put_number(map, "total", pool->total);
        json_put_number(map, "usable", pool->usable);
        json_put_number(map, "free", pool->free);
        json_put_number(map, "largest_free", pool->largest_free);
        json_put_number(map, "survives", pool->survives);
        put_names(map, "at_risk", objects, &pool->at_risk);
        return map;
}

static Json *json_of_reason(const VmObject *vm) {
        if (text_is_empty(vm->reason_code) && text_is_empty(vm->reason))
                return NULL;
        Json *map = json_map();
        json_put_text(map, "code", vm->reason_code);
        json_put_text(map, "sentence", vm->reason);
        return map;
}

Json *json_of_vm(const Objects *objects, const VmObject *vm) {
        Json *map = json_map(), *affinity = json_list(), *placement = json_list(), *owner = json_map();
        json_put_text(map, "name", vm->name);
        json_put_text(map, "uuid", vm->uuid);
        json_put_text(map, "path", vm->path);
        json_put_text(map, "pool", vm->pool);
        json_put_number(map, "gpus_needed", vm->gpus_needed);
        json_put_text(map, "model", vm->model);
        json_put_text(map, "desired", vm->desired);
        json_put_text(map, "state", vm->state);
        json_put(map, "reason", json_of_reason(vm));
        put_name(map, "node", objects, vm->node);
        put_names(map, "gpus", objects, &vm->gpus);
        json_put_list(map, "gpu_paths", &vm->gpus);
        json_put_number(map, "epoch", vm->epoch);
        json_put(map, "priority", must_json(json_object_new_int(vm->priority)));
        json_put_truth(map, "preempt", vm->preempt);
        json_put_truth(map, "preemptible", vm->preemptible);
        json_put_text(map, "restart_policy", vm->restart_policy);
        json_put_list(map, "preferred_nodes", &vm->preferred_nodes);
        ARRAY_EACH(pair, &vm->affinity) {
                Json *item = json_map();
                json_put_text(item, "rule", pair->first);
                json_put_text(item, "vm", pair->second);
                json_push(affinity, item);
        }
        json_put(map, "affinity", affinity);
        json_put_number(owner, "uid", vm->owner_uid);
        json_put_text(owner, "name", vm->owner);
        json_put(map, "owner", owner);
        ARRAY_EACH(note, &vm->last_placement) {
                Json *item = json_map();
                json_put_text(item, "node", note->node);
                json_put_truth(item, "chosen", note->chosen);
                json_put_text(item, "why", note->why);
                json_push(placement, item);
        }
        json_put(map, "last_placement", placement);
        return map;
}

Json *json_of_job(const Objects *objects, const JobObject *job) {
        Json *map = json_map();
        json_put_number(map, "id", job->id);
        json_put_text(map, "path", job->path);
        json_put_text(map, "operation", job->operation);
        put_name(map, "object", objects, job->object);
        json_put_text(map, "object_path", job->object);
        json_put_text(map, "state", job->state);
        json_put(map, "progress", must_json(json_object_new_double(job_progress(job))));
        json_put_text(map, "stage", job->stage);
        json_put_number(map, "started_by_uid", job->started_by_uid);
        json_put_time(map, "started_at", job->started_at_us);
        json_put_number(map, "started_at_us", job->started_at_us);
        json_put_text(map, "result", job->result);
        json_put_text(map, "error", job->error);
        json_put_text(map, "message", job->message);
        json_put(map, "plan", job->plan.n > 0 ? planned_moves_to_json(&job->plan, objects) : NULL);
        return map;
}

Json *json_of_all(const Objects *objects, ObjectKind kind) {
        Json *list = json_list();
        switch (kind) {
        case KIND_NODE:
                ARRAY_EACH(node, &objects->nodes)
                        json_push(list, json_of_node(objects, node));
                break;
        case KIND_GPU:
                ARRAY_EACH(gpu, &objects->gpus)
                        json_push(list, json_of_gpu(objects, gpu));
                break;
        case KIND_POOL:
                ARRAY_EACH(pool, &objects->pools)
                        json_push(list, json_of_pool(objects, pool));
                break;
        case KIND_VM:
                ARRAY_EACH(vm, &objects->vms)
                        json_push(list, json_of_vm(objects, vm));
                break;
        case KIND_JOB:
                ARRAY_EACH(job, &objects->jobs)
                        json_push(list, json_of_job(objects, job));
                break;
        case KIND_COUNT:
                break;
        }
        return list;
}

/* What is no plain character can only stand inside a string, where \u says the same. */
void json_write(Json *document, JsonForm form, FILE *file) {
        int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
                    (form == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN);
        const char *text = json_object_to_json_string_ext(document, flags);
        if (!text)
                out_of_memory();
        while (*text) {
                uint32_t c = 0;
                size_t length = character_read(text, &c);
                if (c == '\n' || (length > 0 && !character_is_harmful(c)))
                        fwrite(text, 1, length, file);
                else if (c >= 0x10000)
                        fprintf(file, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                                0xdc00 + ((c - 0x10000) & 0x3ff));
                else if (length > 0)
                        fprintf(file, "\\u%04x", c);
                text += length > 0 ? length : 1;
        }
        fputc('\n', file);
}
