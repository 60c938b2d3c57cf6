/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/describe-internal.h"
#include "core/describe-page.h"

void page_put(Page *page, const char *format, ...) {
        char room[512];
        va_list list;
        va_start(list, format);
        int n = vsnprintf(room, sizeof(room), format, list);
        va_end(list);
        if (page->error < 0 || n < 0)
                return;
        size_t size = (size_t) n < sizeof(room) ? (size_t) n : sizeof(room) - 1;
        page->error = array_reserve(&page->text.items, &page->text.allocated, page->text.n + size + 1, 1);
        if (page->error < 0)
                return;
        memcpy(page->text.items + page->text.n, room, size + 1);
        page->text.n += size;
}

static void put_pools(Page *page, const Registry *registry) {
        ARRAY_EACH(pool, &registry->pools) {
                page_put(page, "pool %s %s", pool->name, pool_placement_to_text(pool->placement));
                if (pool->reserve > 0)
                        page_put(page, " reserve %" PRIu32, pool->reserve);
                if (pool->max_in_use > 0)
                        page_put(page, " max-in-use %" PRIu32, pool->max_in_use);
                page_put(page, "\n");
        }
}

static void put_node(Page *page, const World *world, const Wanted *wanted, const NodeRecord *node) {
        const NodeFacts *facts = world_find_facts(world, &node->id);
        const NodeLife *life = world_find_life(world, &node->id);
        const Registry *registry = world->registry;
        page_put(page, "node %s", node->name);
        if (node->level != registry->level)
                page_put(page, " level %" PRIu32, node->level);
        page_put_flag(page, node->witness, "witness");
        page_put_flag(page, node->lost, "lost");
        page_put_flag(page, node->drain != DRAIN_NONE, "drained");
        page_put_flag(page, node->bring_home, "brings-home");
        page_put_flag(page, life && life->silent, "silent");
        page_put_flag(page, registry->level >= LEVEL_FAILOVER && !node->witness && node->lease_ms == 0, "joining");
        page_put_flag(page, !facts, "unknown");
        if (facts) {
                page_put_flag(page, facts->hypervisor != HYPERVISOR_CONNECTED, "no-hypervisor");
                page_put_flag(page, !facts->guard_connected, "no-guard");
                put_supply(page, wanted, facts);
        }
        page_put(page, "\n");
}

static int rank(const GpuView *view) {
        return view->facts ? 2 : view->pool ? 1 : 0;
}

/* Of GPUs at one address nobody could tell which is meant. One is told: that which is there, else one of a pool. */
static bool is_told(const GpuViews *views, size_t index) {
        const GpuView *view = views->items + index;
        size_t first = index;
        while (first > 0 && ID_EQUAL(&views->items[first - 1].identity.node, &view->identity.node) &&
               pci_address_equal(views->items[first - 1].identity.address, view->identity.address))
                first--;
        for (size_t i = first; i < views->n; i++) {
                const GpuView *other = views->items + i;
                if (!ID_EQUAL(&other->identity.node, &view->identity.node) ||
                    !pci_address_equal(other->identity.address, view->identity.address))
                        break;
                if (rank(other) > rank(view) || (rank(other) == rank(view) && i < index))
                        return false;
        }
        return true;
}

/* One group for several GPUs, or, of VFIO, none, is told; a group of its own is a matter of course. */
static bool shares_group(const GpuView *view) {
        for (size_t i = 0; view->host && i < view->host->n_gpus; i++)
                if (view->host->gpus + i != view->facts && view->host->gpus[i].iommu_group == view->facts->iommu_group)
                        return true;
        return false;
}

/* A GPU's place among the sets of its node: those that are linked by whoever's word have the same root. */
typedef struct Link {
        size_t root;                    /* the first of them, from the first of the node on */
        bool in_set;
        bool broken;                    /* of a root: one of its set is nowhere to be seen */
} Link;

/* The GPUs of one node. */
typedef struct Host {
        const GpuViews *views;
        size_t first, n;
        Link *links;
} Host;

static void join(Host *host, size_t a, size_t b) {
        size_t keep = host->links[a].root, drop = host->links[b].root;
        if (drop == keep)
                return;
        if (drop < keep) {
                size_t other = keep;
                keep = drop;
                drop = other;
        }
        host->links[keep].broken = host->links[keep].broken || host->links[drop].broken;
        for (size_t i = 0; i < host->n; i++)
                if (host->links[i].root == drop)
                        host->links[i].root = keep;
}

static int link_gpu(Host *host, const World *world, size_t gpu) {
        _cleanup_(text_list_clear) TextList slots = {};
        int r = world_list_set(world, host->views->items + host->first + gpu, &slots);
        if (r < 0 || slots.n == 0)
                return r;
        host->links[gpu].in_set = true;
        for (size_t i = 0; i < slots.n; i++) {
                bool seen = false;
                for (size_t j = 0; j < host->n; j++) {
                        if (!text_equal(host->views->items[host->first + j].identity.slot, slots.items[i]) ||
                            !is_told(host->views, host->first + j))
                                continue;
                        seen = true;
                        host->links[j].in_set = true;
                        join(host, gpu, j);
                }
                if (!seen)
                        host->links[host->links[gpu].root].broken = true;
        }
        return 0;
}

/* What is linked is told once, whoever knows of it. */
static int link_gpus(Host *host, const World *world) {
        int r = 0;
        host->links = calloc(host->n + 1, sizeof(*host->links));
        if (!host->links)
                return -ENOMEM;
        for (size_t i = 0; i < host->n; i++)
                host->links[i].root = i;
        for (size_t i = 0; r >= 0 && i < host->n; i++)
                if (is_told(host->views, host->first + i))
                        r = link_gpu(host, world, i);
        return r;
}

/* A set is named after the address of its first GPU. */
static void put_gpu(Page *page, const NodeRecord *node, const Host *host, size_t gpu) {
        const GpuView *view = host->views->items + host->first + gpu;
        const Link *link = host->links + gpu;
        bool broken = link->in_set && host->links[link->root].broken;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(view->identity.address, address);
        page_put(page, "gpu %s %s", node->name, address);
        if (view->pool)
                page_put(page, " pool %s", view->pool->name);
        if (view->identity.vendor != DESCRIBED_VENDOR || view->identity.device != DESCRIBED_DEVICE)
                page_put(page, " model %04x:%04x", (unsigned) view->identity.vendor, (unsigned) view->identity.device);
        page_put_flag(page, !view->facts, "absent");
        page_put_flag(page, view->quarantine != NULL, "quarantined");
        page_put_flag(page, view->facts && !view->assignable && !broken, "blocked");
        if (view->facts && view->facts->numa_node >= 0)
                page_put(page, " numa %" PRId32, view->facts->numa_node);
        if (view->facts && view->facts->switch_address)
                page_put(page, " switch %s", view->facts->switch_address);
        if (view->facts && view->facts->iommu_group >= 0 && shares_group(view))
                page_put(page, " group %" PRId32, view->facts->iommu_group);
        if (link->in_set) {
                pci_address_to_text(host->views->items[host->first + link->root].identity.address, address);
                page_put(page, " set %s", address);
                page_put_flag(page, broken, "set-broken");
        }
        page_put(page, "\n");
}

/* Nodes, each with its GPUs; both are in the order of the nodes' ids. */
static int put_nodes(Page *page, const World *world, const Wanted *wanted, const GpuViews *views) {
        size_t i = 0;
        ARRAY_EACH(node, &world->registry->nodes) {
                Host host = { .views = views };
                put_node(page, world, wanted, node);
                while (i < views->n && ID_COMPARE(&views->items[i].identity.node, &node->id) < 0)
                        i++;
                host.first = i;
                while (i < views->n && ID_EQUAL(&views->items[i].identity.node, &node->id))
                        i++;
                host.n = i - host.first;
                int r = link_gpus(&host, world);
                for (size_t gpu = 0; r >= 0 && gpu < host.n; gpu++)
                        if (is_told(views, host.first + gpu))
                                put_gpu(page, node, &host, gpu);
                free(host.links);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const char *phase_to_word(AssignmentPhase phase) {
        switch (phase) {
        case ASSIGNMENT_STARTING:
                return "starting";
        case ASSIGNMENT_RUNNING:
                return "running";
        case ASSIGNMENT_STOPPING:
                return "stopping";
        case ASSIGNMENT_NONE:
        case ASSIGNMENT_PHASE_COUNT:
                break;
        }
        return "";
}

static const GpuView *find_view(const GpuViews *views, const GpuIdentity *gpu) {
        size_t low = 0, high = views->n;
        while (low < high) {
                size_t middle = (low + high) / 2;
                if (ID_COMPARE(&views->items[middle].identity.node, &gpu->node) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (; low < views->n && ID_EQUAL(&views->items[low].identity.node, &gpu->node); low++)
                if (gpu_identity_equal(&views->items[low].identity, gpu))
                        return views->items + low;
        return NULL;
}

static void put_assignment(Page *page, const World *world, const GpuViews *views, const Vm *vm) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        if (vm->assignment.phase == ASSIGNMENT_NONE || !node)
                return;
        page_put(page, " on %s %s", node->name, phase_to_word(vm->assignment.phase));
        for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                const GpuView *view = find_view(views, &vm->assignment.gpus[i].gpu);
                if (!view || !is_told(views, (size_t) (view - views->items)))
                        continue;
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(view->identity.address, address);
                page_put(page, " %s", address);
        }
}

static void put_vm(Page *page, const World *world, const Wanted *wanted, const GpuViews *views, const Vm *vm) {
        const NodeRecord *target = registry_find_node(world->registry, &vm->target);
        const NodeRecord *home = registry_find_node(world->registry, &vm->home);
        page_put(page, "vm %s pool %s count %" PRIu32 " priority %" PRId32, vm->name, vm->pool, vm->count,
                 vm->priority);
        if (vm->model)
                page_put(page, " model %s", vm->model);
        page_put_flag(page, vm->preempt, "preempt");
        page_put_flag(page, vm->preemptible, "preemptible");
        put_needs(page, wanted, &vm->needs);
        page_put_flag(page, !vm->run, "stopped");
        page_put_flag(page, vm->failed, "failed");
        page_put_flag(page, vm_lost_its_place(vm), "displaced");
        for (size_t i = 0; i < vm->preferred_nodes.n; i++)
                page_put(page, " prefers %s", vm->preferred_nodes.items[i]);
        for (size_t i = 0; i < vm->n_affinity; i++)
                page_put(page, " %s %s", affinity_kind_to_text(vm->affinity[i].kind), vm->affinity[i].vm);
        for (size_t i = 0; i < vm->n_notes; i++)
                if (vm->notes[i].chosen)
                        page_put(page, " ran %s", vm->notes[i].node);
        if (target)
                page_put(page, " target %s", target->name);
        if (home)
                page_put(page, " home %s", home->name);
        put_assignment(page, world, views, vm);
        page_put(page, "\n");
}

int describe_write(const World *world, char **ret) {
        GpuViews views = {};
        Wanted wanted = {};
        Page page = {};
        int r = wanted_list(world, &wanted);
        if (r >= 0)
                r = world_list_gpus(world, &views);
        if (r >= 0) {
                page_put(&page, "cluster %s level %" PRIu32 "\n",
                         world->registry->name ? world->registry->name : "cluster",
                         world->registry->level);
                put_pools(&page, world->registry);
                r = put_nodes(&page, world, &wanted, &views);
        }
        if (r >= 0)
                ARRAY_EACH(vm, &world->registry->vms)
                        put_vm(&page, world, &wanted, &views, vm);
        gpu_views_clear(&views);
        wanted_clear(&wanted);
        if (r >= 0)
                r = page.error;
        if (r < 0)
                array_clear(&page.text);
        else
                *ret = page.text.items;
        return r;
}
