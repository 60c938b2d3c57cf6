/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Import of a backup: its pieces are gathered in the registry, and with the last one its pools, VMs and quarantines
 * become this cluster's. Members, invitations, ids and level stay this cluster's own; the VMs are stopped. A GPU goes
 * to the node that has the name its node had. */

#include <errno.h>

#include "core/names.h"
#include "core/registry-internal.h"

/* What refuses a piece drops those before it, so that nothing of an import that failed stays behind. */
static int refuse(Apply *apply, Verdict verdict, const char *sentence) {
        import_clear(&apply->registry->import);
        return apply_refuse(apply, verdict, "%s", sentence);
}

/* 1: the piece may be taken; 0: refused; or -ENOMEM. */
static int check_piece(Apply *apply, const Gpupool1__ImportState *command) {
        const Registry *registry = apply->registry;
        const Import *import = &registry->import;
        bool begins = command->offset == 0;
        size_t size = command->chunk.len;
        int r;
        if (size == 0 || size > IMPORT_CHUNK_MAX || command->total == 0)
                r = refuse(apply, VERDICT_INVALID_ARGUMENT, "a piece of a backup is not valid");
        else if (command->total > IMPORT_SIZE_MAX)
                r = refuse(apply, VERDICT_LIMITS_EXCEEDED, "the backup is too large to be imported");
        else if (registry->pools.n > 0 || registry->vms.n > 0)
                r = refuse(apply, VERDICT_IN_USE,
                           "a backup is imported into a cluster without pools and VMs: delete them first, or take a "
                           "new cluster");
        else if (!begins && (import->total != command->total || import->checksum != command->checksum ||
                             import->n != command->offset))
                r = refuse(apply, VERDICT_CONFLICT, "a piece of the backup does not continue what came before: begin "
                           "again");
        else if (command->offset + size > command->total)
                r = refuse(apply, VERDICT_INVALID_ARGUMENT, "the backup has more bytes than it says");
        else
                return 1;
        return r < 0 ? r : 0;
}

static int take_piece(Import *import, const Gpupool1__ImportState *command) {
        if (command->offset == 0) {
                import_clear(import);
                import->checksum = command->checksum;
                import->total = command->total;
        }
        size_t size = command->chunk.len;
        int r = array_reserve(&import->items, &import->allocated, import->n + size, 1);
        if (r < 0)
                return r;
        memcpy(import->items + import->n, command->chunk.data, size);
        import->n += size;
        return 0;
}

/* ---- what the nodes of the backup are here */

typedef struct Mapping {
        NodeId from, to;
        bool known;             /* there is such a node here */
} Mapping;

typedef ARRAY(Mapping) Mappings;

static bool is_taken(const Mappings *mappings, const NodeId *to) {
        ARRAY_EACH(mapping, mappings)
                if (mapping->known && ID_EQUAL(&mapping->to, to))
                        return true;
        return false;
}

/* By name; a node that only has another name now is known by its id. No two come to be one. */
static int map_nodes(const Registry *registry, const Registry *backup, Mappings *ret) {
        ARRAY_EACH(node, &backup->nodes) {
                Mapping mapping = { .from = node->id };
                const NodeRecord *namesake = registry_find_node_name(registry, node->name);
                if (namesake) {
                        mapping.to = namesake->id;
                        mapping.known = true;
                }
                int r = array_append(ret, &mapping);
                if (r < 0)
                        return r;
        }
        ARRAY_EACH(mapping, ret)
                if (!mapping->known && registry_find_node(registry, &mapping->from) &&
                    !is_taken(ret, &mapping->from)) {
                        mapping->to = mapping->from;
                        mapping->known = true;
                }
        return 0;
}

static int compare_mapping(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const Mapping *) item)->from);
}

static bool map_gpu(const Mappings *mappings, GpuIdentity *gpu) {
        size_t i;
        if (!array_find(mappings, &gpu->node, compare_mapping, &i) || !mappings->items[i].known)
                return false;
        gpu->node = mappings->items[i].to;
        return true;
}

/* ---- adoption */

/* Gives the GPUs of @pool to the nodes here. Returns how many have none, or -ENOMEM. */
static int map_pool(const Mappings *mappings, Pool *pool) {
        Pool mapped = {};
        int r = 0, left_out = 0;
        ARRAY_EACH(gpu, &pool->gpus) {
                if (!map_gpu(mappings, gpu))
                        left_out++;
                else if (r >= 0)
                        r = pool_add(&mapped, gpu);
        }
        array_clear(&pool->gpus);
        pool->gpus = mapped.gpus;
        return r < 0 ? r : left_out;
}

static void stop_vm(Vm *vm) {
        free(vm->reason_code);
        free(vm->reason);
        vm->reason_code = vm->reason = NULL;
        assignment_clear(&vm->assignment);
        vm->run = vm->failed = false;
        vm->attempts = 0;
        vm->stop_kind = VM_RUN;
        vm->stop_timeout_ms = 0;
        vm->target = vm->home = (NodeId) {};
}

static int adopt_quarantines(Registry *registry, Registry *backup, const Mappings *mappings) {
        ARRAY_EACH(quarantine, &backup->quarantines) {
                size_t place;
                if (!map_gpu(mappings, &quarantine->gpu) ||
                    registry_quarantine_place(registry, &quarantine->gpu, &place))
                        continue;
                int r = array_insert(&registry->quarantines, place, quarantine);
                if (r < 0)
                        return r;
                *quarantine = (Quarantine) {};
        }
        return 0;
}

#define SWAP(a, b)                              \
        do {                                    \
                __typeof__(a) _kept = (a);      \
                (a) = (b);                      \
                (b) = _kept;                    \
        } while (0)

static int adopt(Apply *apply, Registry *backup) {
        Registry *registry = apply->registry;
        Mappings mappings = {};
        size_t left_out = 0;
        int r = map_nodes(registry, backup, &mappings);
        for (size_t i = 0; r >= 0 && i < backup->pools.n; i++) {
                r = map_pool(&mappings, backup->pools.items + i);
                left_out += r > 0 ? (size_t) r : 0;
        }
        if (r >= 0)
                r = adopt_quarantines(registry, backup, &mappings);
        array_clear(&mappings);
        if (r < 0)
                return r;

        ARRAY_EACH(vm, &backup->vms)
                stop_vm(vm);
        SWAP(registry->pools, backup->pools);
        SWAP(registry->vms, backup->vms);
        registry->xml_total = backup->xml_total;
        registry->notes_total = backup->notes_total;
        return apply_note(apply, "state-imported", OBJECT_KIND_CLUSTER, registry->name,
                          "%zu pools and %zu VMs imported of a backup of cluster %s; %zu GPUs of nodes that are no "
                          "members were left out", registry->pools.n, registry->vms.n, backup->name, left_out);
}

/* All pieces are there. */
static int finish(Apply *apply) {
        Registry *registry = apply->registry;
        const Import *import = &registry->import;
        if (bytes_fingerprint(import->items, import->n) != import->checksum)
                return refuse(apply, VERDICT_INVALID_ARGUMENT,
                              "the backup was changed on its way: its checksum does not fit");

        /* By the cluster's level, not the build's: all members come to the same end. */
        _cleanup_(registry_freep) Registry *backup = NULL;
        int r = registry_decode_at(import->items, import->n, registry->level, &backup);
        if (r < 0)
                return r;
        switch ((SnapshotVerdict) r) {
        case SNAPSHOT_GARBAGE:
                return refuse(apply, VERDICT_INVALID_ARGUMENT, "this is no backup of a cluster, or it is damaged");
        case SNAPSHOT_NEWER:
                return refuse(apply, VERDICT_LEVEL_TOO_LOW,
                              "the backup is of a cluster at a higher functional level: raise this one's first");
        case SNAPSHOT_GOOD:
                break;
        }
        if (id_is_null(backup->cluster.bytes))
                return refuse(apply, VERDICT_INVALID_ARGUMENT, "the backup is of no cluster");
        if (registry->quarantines.n + backup->quarantines.n > QUARANTINES_MAX)
                return refuse(apply, VERDICT_LIMITS_EXCEEDED, "too many GPUs would be in quarantine");
        import_clear(&registry->import);
        return adopt(apply, backup);
}

int apply_import_state(Apply *apply, const Gpupool1__ImportState *command) {
        Import *import = &apply->registry->import;
        int r = check_piece(apply, command);
        if (r <= 0)
                return r;
        r = take_piece(import, command);
        if (r < 0)
                return r;
        return import->n == import->total ? finish(apply) : 0;
}
