/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands about pools, and about single GPUs. */

#include <errno.h>
#include <stdio.h>

#include "core/fabric.h"
#include "core/names.h"
#include "core/registry-internal.h"

#define RULE_LENGTH_MAX 63U

int pool_policy_read(Pool *pool, const Gpupool1__PoolPolicy *message) {
        if (!message)
                return 0;
        if (message->set_placement && (unsigned) message->placement >= POOL_PLACEMENT_COUNT)
                return -EINVAL;
        if ((message->set_reserve && message->reserve > POOL_GPUS_MAX) ||
            (message->set_max_in_use && message->max_in_use > POOL_GPUS_MAX))
                return -EINVAL;
        if (message->set_after_use && (unsigned) message->after_use >= AFTER_USE_COUNT)
                return -EINVAL;

        if (message->set_placement)
                pool->placement = (PoolPlacement) message->placement;
        if (message->set_reserve)
                pool->reserve = message->reserve;
        if (message->set_max_in_use)
                pool->max_in_use = message->max_in_use;
        if (message->set_after_use)
                pool->after_use = (AfterUse) message->after_use;
        return 0;
}

static bool pattern_is_valid(const char *pattern) {
        return strlen(pattern) <= RULE_LENGTH_MAX && text_is_printable(pattern);
}

int pool_rules_read(PoolRules *rules, Gpupool1__PoolRule *const *messages, size_t n) {
        if (n > POOL_RULES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                const Gpupool1__PoolRule *m = messages[i];
                if (!pattern_is_valid(m->vendor) || !pattern_is_valid(m->device) || !pattern_is_valid(m->node))
                        return -EINVAL;
                if ((!*m->vendor && !*m->device && !*m->node) || !fabric_rule_is_valid(m->set))
                        return -EINVAL;
                int r = pool_rules_add(rules, m->vendor, m->device, m->node, m->set);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The pool that this command names, or a refusal. */
static Pool *find_pool(Apply *apply, const char *name, int *ret_r) {
        size_t i;
        if (registry_pool_place(apply->registry, name, &i))
                return apply->registry->pools.items + i;
        *ret_r = apply_refuse(apply, VERDICT_NOT_FOUND, "there is no pool %.*s", (int) NAME_LENGTH_MAX,
                              name_is_valid(name) ? name : "of that name");
        return NULL;
}

static int refuse_gpu(Apply *apply, Verdict verdict, const GpuIdentity *gpu, const char *why) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        return apply_refuse(apply, verdict, "GPU %s:%s %s", apply_node_name(apply, &gpu->node), address, why);
}

/* Holds the GPUs that are to come in against the registry. 1: good; 0: refused; or -ENOMEM. */
static int check_gpus_to_add(Apply *apply, const char *pool_name, Gpupool1__Gpu *const *messages, size_t n) {
        int r;
        if (n > GPUS_PER_CALL_MAX) {
                r = apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "at most %u GPUs may be named in one call",
                                 GPUS_PER_CALL_MAX);
                return r < 0 ? r : 0;
        }
        for (size_t i = 0; i < n; i++) {
                GpuIdentity gpu;
                if (gpu_message_read(messages[i], &gpu) < 0) {
                        r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "a GPU of the request has no valid identity");
                        return r < 0 ? r : 0;
                }
                if (!registry_find_node(apply->registry, &gpu.node)) {
                        r = refuse_gpu(apply, VERDICT_NOT_FOUND, &gpu, "is of a node that is no member");
                        return r < 0 ? r : 0;
                }
                const Pool *pool = registry_find_pool_of_gpu(apply->registry, &gpu);
                if (pool && !text_equal(pool->name, pool_name)) {
                        _cleanup_free_ char *why = NULL;
                        r = text_printf(&why, "is in pool %s: take it out there first", pool->name);
                        if (r >= 0)
                                r = refuse_gpu(apply, VERDICT_IN_USE, &gpu, why);
                        return r < 0 ? r : 0;
                }
        }
        return 1;
}

static size_t count_pool_gpus(const Registry *registry) {
        size_t n = 0;
        ARRAY_EACH(pool, &registry->pools)
                n += pool->gpus.n;
        return n;
}

static int add_gpus(Pool *pool, Gpupool1__Gpu *const *messages, size_t n) {
        for (size_t i = 0; i < n; i++) {
                GpuIdentity gpu;
                int r = gpu_message_read(messages[i], &gpu);
                if (r >= 0)
                        r = pool_add(pool, &gpu);
                if (r < 0)
                        return r;
        }
        return 0;
}

int apply_create_pool(Apply *apply, const Gpupool1__CreatePool *command) {
        Registry *registry = apply->registry;
        size_t place;
        if (!name_is_valid(command->name))
                return apply_refuse(
                        apply, VERDICT_INVALID_ARGUMENT,
                        "a pool's name is 1 to %u letters, digits, dots, dashes and underscores, and begins with a "
                        "letter or digit",
                        NAME_LENGTH_MAX);
        if (registry_pool_place(registry, command->name, &place))
                return apply_refuse(apply, VERDICT_EXISTS, "there is a pool %s already", command->name);
        if (registry->pools.n >= POOLS_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "a cluster has at most %u pools", POOLS_MAX);
        if (count_pool_gpus(registry) + command->n_gpus > POOL_GPUS_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "all pools together have at most %u GPUs",
                                    POOL_GPUS_MAX);
        int r = check_gpus_to_add(apply, command->name, command->gpus, command->n_gpus);
        if (r <= 0)
                return r;

        _cleanup_(pool_clear) Pool pool = {};
        r = pool_policy_read(&pool, command->policy);
        if (r >= 0)
                r = pool_rules_read(&pool.rules, command->rules, command->n_rules);
        if (r == -EINVAL)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "pool %s: a rule or policy is not valid",
                                    command->name);
        if (r >= 0)
                r = add_gpus(&pool, command->gpus, command->n_gpus);
        if (r >= 0)
                r = text_set(&pool.name, command->name);
        if (r >= 0)
                r = array_insert(&registry->pools, place, &pool);
        if (r < 0)
                return r;
        size_t n = pool.gpus.n;
        pool = (Pool) {};
        return apply_note(apply, "pool-created", OBJECT_KIND_POOL, command->name, "pool %s created with %zu GPU%s",
                          command->name, n, n == 1 ? "" : "s");
}

/* 1: all may leave; 0: refused; or -ENOMEM. */
static int check_gpus_to_remove(Apply *apply, const Pool *pool, const Gpupool1__ChangePoolGpus *command) {
        for (size_t i = 0; i < command->n_remove; i++) {
                GpuIdentity gpu;
                int r;
                if (gpu_message_read(command->remove[i], &gpu) < 0)
                        r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "a GPU of the request has no valid identity");
                else if (!pool_has(pool, &gpu))
                        r = refuse_gpu(apply, VERDICT_NOT_FOUND, &gpu, "is not in this pool");
                else if (registry_find_vm_of_gpu(apply->registry, &gpu))
                        r = refuse_gpu(apply, VERDICT_IN_USE, &gpu, "runs a VM: stop it first");
                else if (pool_rules_match(&pool->rules, &gpu, apply_node_name(apply, &gpu.node)))
                        r = refuse_gpu(apply, VERDICT_CONFLICT, &gpu,
                                       "would be brought back by a rule of the pool: change the rules first");
                else
                        continue;
                return r < 0 ? r : 0;
        }
        return 1;
}

int apply_change_pool_gpus(Apply *apply, const Gpupool1__ChangePoolGpus *command) {
        int r = 0;
        Pool *pool = find_pool(apply, command->name, &r);
        if (!pool)
                return r;
        if (command->n_remove > GPUS_PER_CALL_MAX || count_pool_gpus(apply->registry) + command->n_add > POOL_GPUS_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "too many GPUs at once, or in all pools together");
        r = check_gpus_to_remove(apply, pool, command);
        if (r > 0)
                r = check_gpus_to_add(apply, pool->name, command->add, command->n_add);
        if (r <= 0)
                return r;

        for (size_t i = 0; i < command->n_remove; i++) {
                GpuIdentity gpu;
                if (gpu_message_read(command->remove[i], &gpu) >= 0)
                        pool_remove(pool, &gpu);
        }
        r = add_gpus(pool, command->add, command->n_add);
        if (r < 0)
                return r;
        return apply_note(apply, "pool-changed", OBJECT_KIND_POOL, pool->name, "pool %s: %zu GPUs in, %zu out, %zu now",
                          pool->name, command->n_add, command->n_remove, pool->gpus.n);
}

int apply_set_pool_rules(Apply *apply, const Gpupool1__SetPoolRules *command) {
        int r = 0;
        Pool *pool = find_pool(apply, command->name, &r);
        if (!pool)
                return r;

        _cleanup_(pool_rules_clear) PoolRules rules = {};
        r = pool_rules_read(&rules, command->rules, command->n_rules);
        if (r == -EINVAL)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "pool %s: at most %u rules, each with a vendor, device or node pattern; a set is "
                                    "alone, board, or slots joined by +", pool->name, POOL_RULES_MAX);
        if (r < 0)
                return r;
        PoolRules old = pool->rules;
        pool->rules = rules;
        rules = old;
        return apply_note(apply, "pool-rules", OBJECT_KIND_POOL, pool->name, "pool %s has %zu rule%s now", pool->name,
                          pool->rules.n, pool->rules.n == 1 ? "" : "s");
}

int apply_set_pool_policy(Apply *apply, const Gpupool1__SetPoolPolicy *command) {
        int r = 0;
        Pool *pool = find_pool(apply, command->name, &r);
        if (!pool)
                return r;
        if (!command->policy || pool_policy_read(pool, command->policy) < 0)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "pool %s: the policy is not valid", pool->name);
        return apply_note(apply, "pool-policy", OBJECT_KIND_POOL, pool->name,
                          "pool %s: %s, reserve %u, at most %u in use, after use %s", pool->name,
                          pool_placement_to_text(pool->placement), pool->reserve, pool->max_in_use,
                          after_use_to_text(pool->after_use));
}

int apply_rename_pool(Apply *apply, const Gpupool1__RenamePool *command) {
        Registry *registry = apply->registry;
        int r = 0;
        Pool *pool = find_pool(apply, command->name, &r);
        if (!pool)
                return r;
        if (!name_is_valid(command->new_name))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "the new name of pool %s is not valid",
                                    command->name);
        size_t place;
        if (registry_pool_place(registry, command->new_name, &place))
                return apply_refuse(apply, VERDICT_EXISTS, "there is a pool %s already", command->new_name);

        r = text_set(&pool->name, command->new_name);
        if (r < 0)
                return r;
        Pool renamed = *pool;
        array_remove(&registry->pools, (size_t) (pool - registry->pools.items));
        (void) registry_pool_place(registry, renamed.name, &place);
        r = array_insert(&registry->pools, place, &renamed);
        for (size_t i = 0; r >= 0 && i < registry->vms.n; i++)
                if (text_equal(registry->vms.items[i].pool, command->name))
                        r = text_set(&registry->vms.items[i].pool, command->new_name);
        if (r < 0)
                return r;
        return apply_note(apply, "pool-renamed", OBJECT_KIND_POOL, command->new_name, "pool %s is called %s now",
                          command->name, command->new_name);
}

int apply_delete_pool(Apply *apply, const Gpupool1__DeletePool *command) {
        Registry *registry = apply->registry;
        int r = 0;
        Pool *pool = find_pool(apply, command->name, &r);
        if (!pool)
                return r;
        ARRAY_EACH(vm, &registry->vms) {
                if (text_equal(vm->pool, pool->name))
                        return apply_refuse(apply, VERDICT_IN_USE,
                                            "VM %s needs pool %s: delete the VM or give it another requirement first",
                                            vm->name, pool->name);
                /* It may have been given another requirement since it was started. */
                for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                        if (pool_has(pool, &vm->assignment.gpus[i].gpu))
                                return apply_refuse(apply, VERDICT_IN_USE,
                                                    "VM %s runs on GPUs of pool %s: stop it first", vm->name,
                                                    pool->name);
        }

        pool_clear(pool);
        array_remove(&registry->pools, (size_t) (pool - registry->pools.items));
        return apply_note(apply, "pool-deleted", OBJECT_KIND_POOL, command->name, "pool %s deleted", command->name);
}

static int note_gpu(Apply *apply, const char *kind, const GpuIdentity *gpu, const char *what, const char *why) {
        char id[ID_TEXT_SIZE], address[PCI_ADDRESS_TEXT_SIZE], object[ID_TEXT_SIZE + PCI_ADDRESS_TEXT_SIZE + 1];
        id_to_text(gpu->node.bytes, id);
        pci_address_to_text(gpu->address, address);
        (void) snprintf(object, sizeof(object), "%s %s", id, address);
        return apply_note(apply, kind, OBJECT_KIND_GPU, object, "GPU %s:%s %s%s%s", apply_node_name(apply, &gpu->node),
                          address, what, *why ? ": " : "", why);
}

int apply_quarantine_gpu(Apply *apply, const Gpupool1__QuarantineGpu *command) {
        Registry *registry = apply->registry;
        GpuIdentity gpu;
        if (gpu_message_read(command->gpu, &gpu) < 0 || (unsigned) command->cause >= QUARANTINE_CAUSE_COUNT ||
            strlen(command->sentence) > TEXT_LENGTH_MAX || !text_is_printable(command->sentence))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "a quarantine needs a GPU and a sentence of at most %u bytes", TEXT_LENGTH_MAX);
        if (!registry_find_node(registry, &gpu.node))
                return refuse_gpu(apply, VERDICT_NOT_FOUND, &gpu, "is of a node that is no member");
        if (registry_find_quarantine(registry, &gpu))
                return refuse_gpu(apply, VERDICT_EXISTS, &gpu, "is in quarantine already");
        if (registry->quarantines.n >= QUARANTINES_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "too many GPUs are in quarantine");

        Quarantine quarantine = {
                .gpu = gpu, .cause = (QuarantineCause) command->cause, .time_ms = apply->entry->time_ms};
        size_t place;
        (void) registry_quarantine_place(registry, &gpu, &place);
        int r = text_set(&quarantine.sentence, command->sentence);
        if (r >= 0)
                r = array_insert(&registry->quarantines, place, &quarantine);
        if (r < 0) {
                quarantine_clear(&quarantine);
                return r;
        }
        return note_gpu(apply, "gpu-quarantined", &gpu, "is in quarantine", command->sentence);
}

int apply_release_gpu(Apply *apply, const Gpupool1__ReleaseGpu *command) {
        Registry *registry = apply->registry;
        GpuIdentity gpu;
        if (gpu_message_read(command->gpu, &gpu) < 0)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "the GPU of the request has no valid identity");
        const Quarantine *quarantine = registry_find_quarantine(registry, &gpu);
        if (!quarantine)
                return refuse_gpu(apply, VERDICT_CONFLICT, &gpu, "is not in quarantine");

        for (; quarantine; quarantine = registry_find_quarantine(registry, &gpu)) {
                size_t place = (size_t) (quarantine - registry->quarantines.items);
                quarantine_clear(registry->quarantines.items + place);
                array_remove(&registry->quarantines, place);
        }
        return note_gpu(apply, "gpu-released", &gpu, "is out of quarantine", "");
}
