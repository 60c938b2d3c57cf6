/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/find.h"

#include <string.h>

#include "core/names.h"
#include "ctl/must.h"
#include "ctl/nearest.h"

/* What people call the object at @index of its row; a job has no name but its number. */
static const char *name_of(const Objects *objects, ObjectKind kind, size_t index) {
        switch (kind) {
        case KIND_NODE:
                return objects->nodes.items[index].name;
        case KIND_GPU:
                return objects->gpus.items[index].name;
        case KIND_POOL:
                return objects->pools.items[index].name;
        case KIND_VM:
                return objects->vms.items[index].name;
        case KIND_JOB:
                return strrchr(objects->jobs.items[index].path, '/') + 1;
        case KIND_COUNT:
                break;
        }
        return "";
}

const char *objects_name(const Objects *objects, const char *path) {
        const Place *place = objects_place(objects, path);
        if (place)
                return name_of(objects, place->kind, place->index);
        if (text_equal(path, OBJECT_ROOT))
                return "the cluster";
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

static bool is_other_name(const Objects *objects, ObjectKind kind, size_t index, const char *typed) {
        static const char no_domain[] = "0000:";
        if (kind == KIND_NODE)
                return strcasecmp(objects->nodes.items[index].id, typed) == 0;
        if (kind == KIND_VM)
                return strcasecmp(objects->vms.items[index].uuid, typed) == 0;
        if (kind != KIND_GPU)
                return false;

        const GpuObject *gpu = objects->gpus.items + index;
        if (strcasecmp(gpu->name, typed) == 0 || strcasecmp(gpu->address, typed) == 0)
                return true;
        if (strncmp(gpu->address, no_domain, strlen(no_domain)) != 0)
                return false;
        const char *brief = gpu->address + strlen(no_domain);
        if (strcasecmp(brief, typed) == 0)
                return true;
        _cleanup_free_ char *with_node = must_printf("%s:%s", objects_name(objects, gpu->node), brief);
        return strcasecmp(with_node, typed) == 0;
}

static size_t count_of(const Objects *objects, ObjectKind kind) {
        switch (kind) {
        case KIND_NODE:
                return objects->nodes.n;
        case KIND_GPU:
                return objects->gpus.n;
        case KIND_POOL:
                return objects->pools.n;
        case KIND_VM:
                return objects->vms.n;
        case KIND_JOB:
                return objects->jobs.n;
        case KIND_COUNT:
                break;
        }
        return 0;
}

static char *find_nearest(const Objects *objects, ObjectKind kind, const char *typed) {
        Nearest nearest = nearest_of(typed);
        for (size_t i = 0; i < count_of(objects, kind); i++) {
                nearest_consider(&nearest, name_of(objects, kind, i));
                if (kind == KIND_GPU)
                        nearest_consider_as(&nearest, objects->gpus.items[i].address, objects->gpus.items[i].name);
        }
        return must_copy(nearest_found(&nearest));
}

FindVerdict objects_find(const Objects *objects, ObjectKind kind, const char *typed, size_t *ret_index,
                         char **ret_hint) {
        *ret_hint = NULL;
        const Place *place = objects_place(objects, typed);
        if (place && place->kind == kind) {
                *ret_index = place->index;
                return FIND_FOUND;
        }

        _cleanup_free_ char *all = NULL;
        size_t n = 0, found = 0;
        for (size_t i = 0; i < count_of(objects, kind); i++) {
                if (text_equal(name_of(objects, kind, i), typed)) {
                        *ret_index = i;
                        return FIND_FOUND;
                }
                if (!is_other_name(objects, kind, i, typed))
                        continue;
                must_append(&all, "%s%s", n > 0 ? ", " : "", name_of(objects, kind, i));
                found = i;
                n++;
        }
        if (n > 1) {
                *ret_hint = STEAL(all);
                return FIND_SEVERAL;
        }
        if (n == 1) {
                *ret_index = found;
                return FIND_FOUND;
        }
        *ret_hint = find_nearest(objects, kind, typed);
        return FIND_NOTHING;
}
