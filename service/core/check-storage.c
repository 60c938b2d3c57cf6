/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Check: files that VMs need, on a node that may be the next to run them. */

#include "core/capacity.h"
#include "core/check-internal.h"

#define PATHS_NAMED 3U

/* What is lost in one way. */
typedef struct LostPaths {
        TextList named;
        bool more;                      /* were not named */
        unsigned n_vms;
} LostPaths;

static void lost_paths_clear(LostPaths *lost) {
        text_list_clear(&lost->named);
}

static int note_vm(const Vm *vm, const NodeFacts *facts, bool hangs, LostPaths *lost) {
        bool any = false, path_hangs;
        for (const char *path = NULL; (path = capacity_next_lost_path(&vm->needs, facts, path, &path_hangs));) {
                if (path_hangs != hangs)
                        continue;
                any = true;
                if (text_list_has(&lost->named, path))
                        continue;
                lost->more = lost->named.n == PATHS_NAMED;      /* and stays so: no more are named */
                int r = lost->more ? 0 : text_list_add(&lost->named, path);
                if (r < 0)
                        return r;
        }
        lost->n_vms += any;
        return 0;
}

/* Nobody places a VM where its pool has no GPU. */
static bool may_run_there(const World *world, const Vm *vm, const NodeId *node) {
        size_t first;
        const Pool *pool = registry_find_pool(world->registry, vm->pool);
        return pool && pool_gpus_of_node(pool, node, &first) > 0;
}

/* "/a, /b, /c and others", to be freed. */
static int list_named(const LostPaths *lost, char **ret) {
        _cleanup_free_ char *text = NULL;
        for (size_t i = 0; i < lost->named.n; i++) {
                int r = text_append(&text, "%s%s", i > 0 ? ", " : "", lost->named.items[i]);
                if (r < 0)
                        return r;
        }
        int r = lost->more ? text_append(&text, " and others") : 0;
        if (r < 0)
                return r;
        *ret = STEAL(text);
        return 0;
}

/* Storage of one node alone is nothing wrong: a note. */
static int say_missing(const Subject *subject, const NodeRecord *node, const LostPaths *lost) {
        _cleanup_free_ char *paths = NULL;
        int r = lost->n_vms > 0 ? list_named(lost, &paths) : 0;
        if (r < 0 || !paths)
                return r;
        r = add_finding(subject, CHECK_NOTE, "storage-missing", "node %s has not %s: %u VM%s of its pools cannot run "
                        "on it", node->name, paths, lost->n_vms, PLURAL(lost->n_vms));
        return r < 0 ? r : add_remedy(subject, "if other nodes see it, mount it on %s in the same place", node->name);
}

static int say_hanging(const Subject *subject, const NodeRecord *node, const LostPaths *lost) {
        _cleanup_free_ char *paths = NULL;
        int r = lost->n_vms > 0 ? list_named(lost, &paths) : 0;
        if (r < 0 || !paths)
                return r;
        r = add_finding(subject, CHECK_WARNING, "storage-hangs", "the storage of %s does not answer on node %s: %u "
                        "VM%s of its pools cannot start on it", paths, node->name, lost->n_vms, PLURAL(lost->n_vms));
        return r < 0 ? r : add_remedy(subject, "see on %s what serves it (findmnt), and whether that is up and can be "
                                      "reached", node->name);
}

int check_storage(const World *world, const Subject *subject, const NodeRecord *node, const NodeFacts *facts) {
        _cleanup_(lost_paths_clear) LostPaths missing = {}, hanging = {};
        if (facts->missing_paths.n == 0 && facts->hanging_paths.n == 0)
                return 0;
        ARRAY_EACH(vm, &world->registry->vms) {
                if (!may_run_there(world, vm, &node->id))
                        continue;
                int r = note_vm(vm, facts, false, &missing);
                if (r >= 0)
                        r = note_vm(vm, facts, true, &hanging);
                if (r < 0)
                        return r;
        }
        int r = say_missing(subject, node, &missing);
        return r < 0 ? r : say_hanging(subject, node, &hanging);
}
