/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Objects: the whole cluster as the service showed it at one moment, read with one GetManagedObjects call, with every
 * object found by path or by what a person would call it. Properties that this program does not know are passed over,
 * and those that an older service lacks keep their zero, so that tools and service of different versions get along. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/planned.h"
#include "util/array.h"
#include "util/cleanup.h"
#include "util/text.h"

typedef struct Pair { char *first, *second; } Pair;             /* a(ss), a{ss} */
typedef ARRAY(Pair) Pairs;

typedef struct ClusterObject {
        char *id, *name, *local_node, *leader, *version;
        bool quorate, frozen;
        uint64_t frozen_s;                                      /* for how long it was asked for */
        TextList voters, features;
        uint32_t functional_level, supported_level;
} ClusterObject;

typedef struct Hugepages { uint64_t size_bytes, total, free; } Hugepages;

typedef struct NodeObject {
        char *path;
        char *id, *name, *state, *evidence, *role, *boot_id, *kernel, *cpu_model, *fencing, *virtualization;
        char *fencing_action, *fencing_state, *fencing_note;
        char *hypervisor, *guard, *drain_cause;
        TextList addresses;
        Pairs versions;
        uint64_t memory_total_bytes, memory_free_bytes;
        uint64_t silent_since_us;                               /* realtime; 0: it is heard, or nobody knows */
        uint64_t watchdog_us;                                   /* 0: none is armed */
        ARRAY(Hugepages) hugepages;
} NodeObject;

typedef struct Holder { uint32_t pid; char *command; } Holder;
typedef struct Function { char *address; uint32_t class; char *driver, *description; } Function;
typedef struct Bar { uint8_t index; uint64_t start, size_bytes; bool prefetchable; } Bar;
typedef struct BlockerFound { char *code, *sentence, *remedy; } BlockerFound;

typedef struct GpuObject {
        char *path;
        char *name, *node, *address, *slot_path, *serial, *vendor, *device, *driver, *link_speed, *link_speed_max;
        char *vbios, *parent, *state, *quarantine_reason, *pool, *vm;
        uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_device_id;
        uint32_t class, link_width, link_width_max;
        uint64_t vram_bytes;
        int32_t iommu_group, numa_node;
        bool assignable;
        ARRAY(Holder) holders;
        ARRAY(Function) functions;
        ARRAY(Bar) bars;
        ARRAY(BlockerFound) blockers;
        TextList reset_methods, siblings;
} GpuObject;

typedef ARRAY(Pairs) Rules;                                     /* each a set of key and pattern */

typedef struct PoolObject {
        char *path;
        char *name, *placement, *after_use;
        TextList gpus, mixed, at_risk;
        Rules rules;
        uint32_t reserve, max_in_use, total, usable, free, largest_free, survives;
} PoolObject;

typedef struct PlacementNote { char *node; bool chosen; char *why; } PlacementNote;

typedef struct VmObject {
        char *path;
        char *name, *uuid, *pool, *model, *desired, *state, *reason_code, *reason, *node, *restart_policy, *owner;
        uint32_t gpus_needed, owner_uid;
        int32_t priority;
        bool preempt, preemptible;
        uint64_t epoch;
        TextList gpus, preferred_nodes;
        Pairs affinity;
        ARRAY(PlacementNote) last_placement;
} VmObject;

typedef struct JobObject {
        char *path;
        char *operation, *object, *state, *stage, *result, *error, *message, *started_by;
        uint64_t id, started_at_us;                             /* realtime */
        uint32_t started_by_uid;
        double progress;
        PlannedMoves plan;                                      /* of the dry run of a drain */
} JobObject;

typedef enum ObjectKind {
        KIND_NODE,
        KIND_GPU,
        KIND_POOL,
        KIND_VM,
        KIND_JOB,
        KIND_COUNT,
} ObjectKind;

/* Where the object of a path stands. The path is borrowed from the object. */
typedef struct Place { const char *path; ObjectKind kind; size_t index; } Place;

/* Each row in the order in which people read it: by name, numbers in names as numbers; jobs by number. */
typedef struct Objects {
        ClusterObject cluster;
        ARRAY(NodeObject) nodes;
        ARRAY(GpuObject) gpus;
        ARRAY(PoolObject) pools;
        ARRAY(VmObject) vms;
        ARRAY(JobObject) jobs;
        ARRAY(Place) places;                                    /* sorted by path */
} Objects;

Objects *objects_new(void);
Objects *objects_free(Objects *objects);
DEFINE_CLEANUP(Objects *, objects_free);

/* Reads the answer of GetManagedObjects (a{oa{sa{sv}}}), and sorts. Negative errno for an answer of another form. */
int objects_read(Objects *objects, sd_bus_message *answer);

/* Reads the answer of Properties.GetAll (a{sv}) into the cluster, or into a job. */
int objects_read_cluster(Objects *objects, sd_bus_message *answer);
int job_object_read(JobObject *job, sd_bus_message *answer);
void job_object_clear(JobObject *job);

/* By path; NULL if it is not there. Borrowed. */
const Place *objects_place(const Objects *objects, const char *path);
const NodeObject *objects_node(const Objects *objects, const char *path);
const GpuObject *objects_gpu(const Objects *objects, const char *path);
const VmObject *objects_vm(const Objects *objects, const char *path);
