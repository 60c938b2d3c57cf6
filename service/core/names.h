/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Names: every bus name, path, interface, error, polkit action and limit that someone outside may meet, once. */

#define BUS_NAME "org.gpupool1"
#define OBJECT_ROOT "/org/gpupool1"
#define OBJECT_NODE OBJECT_ROOT "/node"
#define OBJECT_GPU OBJECT_ROOT "/gpu"
#define OBJECT_POOL OBJECT_ROOT "/pool"
#define OBJECT_VM OBJECT_ROOT "/vm"
#define OBJECT_JOB OBJECT_ROOT "/job"
#define OBJECT_NONE "/"

#define INTERFACE_MANAGER BUS_NAME ".Manager"
#define INTERFACE_NODE BUS_NAME ".Node"
#define INTERFACE_GPU BUS_NAME ".Gpu"
#define INTERFACE_POOL BUS_NAME ".Pool"
#define INTERFACE_VM BUS_NAME ".VM"
#define INTERFACE_JOB BUS_NAME ".Job"

#define ERROR_PREFIX BUS_NAME ".Error."
#define ERROR_NOT_FOUND ERROR_PREFIX "NotFound"
#define ERROR_EXISTS ERROR_PREFIX "Exists"
#define ERROR_IN_USE ERROR_PREFIX "InUse"
#define ERROR_NOT_ASSIGNABLE ERROR_PREFIX "NotAssignable"
#define ERROR_NO_CAPACITY ERROR_PREFIX "NoCapacity"
#define ERROR_NO_QUORUM ERROR_PREFIX "NoQuorum"
#define ERROR_UNREACHABLE ERROR_PREFIX "Unreachable"
#define ERROR_OUTCOME_UNKNOWN ERROR_PREFIX "OutcomeUnknown"
#define ERROR_INVALID_XML ERROR_PREFIX "InvalidXml"
#define ERROR_INVALID_ARGUMENT ERROR_PREFIX "InvalidArgument"
#define ERROR_CONFLICT ERROR_PREFIX "Conflict"
#define ERROR_LEVEL_TOO_LOW ERROR_PREFIX "LevelTooLow"
#define ERROR_QUARANTINED ERROR_PREFIX "Quarantined"
#define ERROR_BUSY ERROR_PREFIX "Busy"
#define ERROR_LIMITS_EXCEEDED ERROR_PREFIX "LimitsExceeded"
#define ERROR_NOT_SUPPORTED ERROR_PREFIX "NotSupported"
#define ERROR_STORAGE_FULL ERROR_PREFIX "StorageFull"
/* These keep the names that every client knows. */
#define ERROR_ACCESS_DENIED "org.freedesktop.DBus.Error.AccessDenied"
#define ERROR_FAILED "org.freedesktop.DBus.Error.Failed"        /* of a job: its VM did not come up */
#define ERROR_INTERACTIVE "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"

#define ACTION_USE_POOL BUS_NAME ".use-pool"
#define ACTION_OPERATE_VM BUS_NAME ".operate-vm"
#define ACTION_DEFINE_VM BUS_NAME ".define-vm"
#define ACTION_READ_VM BUS_NAME ".read-vm"
#define ACTION_MANAGE_POOL BUS_NAME ".manage-pool"
#define ACTION_MANAGE_NODE BUS_NAME ".manage-node"
#define ACTION_MANAGE_CLUSTER BUS_NAME ".manage-cluster"

/* The element that marks a libvirt domain as the cluster's, inside <metadata>. */
#define METADATA_NAMESPACE "https://gpupool.org/xmlns/vm/1"

/* The feature level that this build works at, at most and at least (design, part 7). */
#ifdef GPUPOOL_PRETEND_LEVEL
#define LEVEL_SUPPORTED GPUPOOL_PRETEND_LEVEL   /* a build that pretends to be older, for tests: -Dpretend_level= */
#else
#define LEVEL_SUPPORTED 5U
#endif
#define LEVEL_OLDEST 1U
/* What needs more than LEVEL_OLDEST. */
#define LEVEL_WITNESS 2U
#define LEVEL_IMPORT 2U
#define LEVEL_FAILOVER 3U              /* leases, losses, draining, fencing, freezing, moving */
#define LEVEL_DEVICES 4U               /* sets of linked GPUs, and what else pools say of how GPUs are used */
#define LEVEL_PLACEMENT 5U             /* models, wishes for company, and who makes room for whom */

/* Limits. Each bounds what one caller or one entry can cost; tests stand at each edge. */
#define NAME_LENGTH_MAX 63U             /* a pool's, VM's, node's name: fits a DNS label and a table column */
#define TEXT_LENGTH_MAX 1024U           /* any sentence that a caller gives */
#define XML_SIZE_MAX (48U * 1024U)      /* domain XML: an entry of the registry stays below 64 KiB */
#define ENTRY_SIZE_MAX (60U * 1024U)
#define SNAPSHOT_SIZE_MAX (288U * 1024U * 1024U)
#define POOLS_MAX 1024U
#define VMS_MAX 16384U
#define NODES_MAX 4096U
#define SUPPOSED_NODES_MAX 64U          /* new ones in one what-if */
#define ADDRESSES_MAX 16U              /* of one node */
#define ADDRESS_LENGTH_MAX 255U
#define POOL_GPUS_MAX 65536U            /* of all pools together */
#define QUARANTINES_MAX 16384U
#define POOL_RULES_MAX 32U
#define POOL_SET_LENGTH_MAX 511U        /* slots of a rule's set, joined */
#define GPUS_PER_NODE_MAX 256U
#define GPUS_PER_VM_MAX 64U
#define GPUS_PER_CALL_MAX 256U
#define EVENTS_MAX 1024U                /* events that the registry remembers */
#define REQUESTS_MAX 4096U              /* request ids remembered, so that a retry is recognised */
#define INVITES_MAX 64U
#define INVITE_SECONDS_LEAST 60U        /* shorter, and nobody has walked to the other host */
#define INVITE_SECONDS_DEFAULT (15U * 60U)
#define INVITE_SECONDS_MOST (7U * 24U * 60U * 60U)      /* a secret should not lie about for long */
#define TOKEN_LENGTH_MAX 4096U          /* an invitation as text: its eight addresses may be long names */
#define REMOVED_MAX 256U                /* nodes remembered as removed */
#define XML_TOTAL_MAX (64U * 1024U * 1024U)             /* XML and policies of all VMs together */
#define NOTES_MAX 64U                   /* nodes of which a decision keeps why they were taken or not */
#define NOTES_SIZE_MAX (8U * 1024U)     /* all notes of one decision: its entry stays small */
#define NOTES_TOTAL_MAX (16U * 1024U * 1024U)           /* of all VMs; beyond it only the chosen node's name is kept */
#define NOTES_SIZE_WAITING (2U * 1024U) /* of a VM that waits: all that wait may change at once */
#define NOTES_SIZE_LEAST (NOTES_TOTAL_MAX / VMS_MAX)    /* what is left for one decision in a cluster full of VMs */
#define IMPORT_SIZE_MAX (64U * 1024U * 1024U)           /* a backup that can be imported */
#define IMPORT_CHUNK_MAX (48U * 1024U)
#define PREFERRED_NODES_MAX 64U
#define AFFINITY_MAX 64U
#define VM_MODEL_LENGTH_MAX 31U         /* "10de:2330", with room for wildcards */
#define FABRIC_TOTAL_MAX POOL_GPUS_MAX                  /* slots of linked GPUs, of all nodes together */
#define FREEZE_MS_MAX (24U * 60U * 60U * 1000U)
#define FENCE_PARAMETERS_MAX 64U
#define FENCE_TOTAL_MAX (4U * 1024U * 1024U)            /* parameters of all nodes together */
#define LEASE_ALONE_NODES 2U            /* with so many nodes or fewer, nobody can start another one's VMs ... */
#define LEASE_ALONE_MS (UINT64_C(10) * 365 * 24 * 60 * 60 * 1000)       /* ... so their leases are this long */
#define LEASE_MS_MAX (10U * 60U * 1000U)        /* announced lease and death times; longer is a mistake */
