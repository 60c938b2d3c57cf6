/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bus: the face of the service on the system bus. It translates: a method becomes a request to the Service, the World
 * becomes properties and signals. It decides nothing but who may ask (polkit) and whether the form of a call is right.
 *
 * A write, from the call to the answer:
 *
 *     client          bus                      polkit            service
 *       | method       |                          |                 |
 *       |------------->| form checked             |                 |
 *       |              |--- may they? ----------->|                 |
 *       |              |<-- yes ------------------|                 |
 *       |              | message dispatched again, form and answer held against each other
 *       |              |--- submit(entry) ------------------------->| committed, applied
 *       |              |<-- result ---------------------------------|
 *       |<- signals ---| PropertiesChanged first                    |
 *       |<- reply -----|                                            |
 */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "core/clearance.h"
#include "core/entry.h"
#include "core/job.h"
#include "core/world.h"

typedef struct Bus Bus;

/* How a request to the registry ended. */
typedef enum SubmitOutcome {
        SUBMIT_COMMITTED,               /* applied; the Result says what came of it */
        SUBMIT_NO_QUORUM,               /* surely did not happen */
        SUBMIT_STORAGE_FULL,            /* surely did not happen */
        SUBMIT_STORAGE_WAITED_FOR,      /* handed to a full disk: it happens when there is room, or never */
        SUBMIT_OUTCOME_UNKNOWN,         /* the deadline passed; a retry with the same request id finds out */
        SUBMIT_STOPPING,                /* the service is going down; surely did not happen */
} SubmitOutcome;

/* @result is borrowed and set with SUBMIT_COMMITTED only. Called exactly once, never from within submit(). */
typedef void (*SubmitCallback)(SubmitOutcome outcome, const Result *result, void *userdata);

/* @job is borrowed and set when the request was committed with VERDICT_DONE. */
typedef void (*OperateCallback)(SubmitOutcome outcome, const Result *result, const Job *job, void *userdata);

/* @error: a D-Bus error name, or NULL for "the XML is good". */
typedef void (*CheckXmlCallback)(const char *error, const char *sentence, void *userdata);

typedef struct ClusterStatus {
        NodeId leader;                  /* null: none known */
        bool quorate;
        const NodeId *voters;
        size_t n_voters;
} ClusterStatus;

/* @token: the invitation, with SUBMIT_COMMITTED and VERDICT_DONE; borrowed. */
typedef void (*InviteCallback)(SubmitOutcome outcome, const Result *result, const char *token, void *userdata);

/* Who called: asked from the bus, never from the message. */
typedef struct Caller {
        uint32_t uid;
        char *user;                     /* name, or the number */
        char *sender;                   /* unique bus name */
} Caller;

/* What VM.Defragment asks for, by a caller who may. */
typedef struct Defragmentation {
        VmId vm;
        RequestId request;              /* null: none */
        const TextList *pools;          /* whose VMs may move */
        uint64_t timeout_ms;
        Moves *plan;                    /* clearance_plan(); taken over by what is only tried */
        bool dry_run;
} Defragmentation;

/* What the bus asks of the daemon. All pointers given are borrowed for the call. */
typedef struct Service {
        const World *(*world)(void *userdata);
        void (*status)(void *userdata, ClusterStatus *ret);
        Jobs *(*jobs)(void *userdata);
        /* How far @vm is on its way up or down, as its node says: runner_stage(). NULL: it says nothing. Borrowed until
         * the next call. */
        const char *(*stage)(void *userdata, const Vm *vm);
        /* Submits @entry. The bus has filled command, author.uid/user/action and, where the caller gave one,
         * request_id; the daemon fills the rest. 0, or -errno (then no callback comes). */
        int (*submit)(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata);
        /* Commits a SetDesired, a MoveVm or a DrainNode and makes a job of it; JobNew has been announced by
         * bus_job_added() before the callback. */
        int (*operate)(void *userdata, Entry *entry, JobOperation operation, const Caller *caller,
                       OperateCallback callback, void *callback_userdata);
        /* A drain's dry run: *ret_job has ended with its plan, and both was announced. -EUSERS: the caller has too many
         * jobs. */
        int (*try_drain)(void *userdata, const NodeId *node, const Caller *caller, const Job **ret_job);
        /* Makes room for a VM as a job, or only says how; it was announced before this returns. -EUSERS as above. */
        int (*defragment)(void *userdata, const Defragmentation *wish, const Caller *caller, const Job **ret_job);
        /* Nothing further is done for a JOB_DEFRAGMENT. -EBUSY: it has ended. */
        int (*stop_defragment)(void *userdata, const Job *job);
        /* Commits @entry, which undoes what @job has begun, and then ends the job. -EBUSY: it is too late. */
        int (*cancel_job)(void *userdata, Entry *entry, const Job *job, SubmitCallback callback,
                          void *callback_userdata);
        /* Commits an invitation good for @lifetime_ms. @entry as with submit, but without its command. */
        int (*invite)(void *userdata, Entry *entry, uint64_t lifetime_ms, InviteCallback callback,
                      void *callback_userdata);
        /* Begins to join the cluster that invited with @token, as a job (announced before this returns). 0 with
         * *ret_job; or 0 with *ret_error, a D-Bus error name, and *ret_sentence: not begun, nothing has changed; or
         * -errno. */
        int (*join)(void *userdata, const char *token, const Caller *caller, const Job **ret_job,
                    const char **ret_error, char **ret_sentence);
        /* Takes this node out of its cluster and makes it a cluster of one, under a new id: once the answer is out, the
         * service starts anew. @entry as with submit, without its command. */
        int (*leave)(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata);
        /* The same without asking anybody: for a node that was removed, or whose cluster is gone for ever. Refuses
         * like join while VMs run here. The answer goes out before the service starts anew. */
        int (*reset)(void *userdata, const Caller *caller, const char **ret_error, char **ret_sentence);
        /* Restores a backup, entry after entry; the last one says what came of it. @bytes is copied. @entry as with
         * submit, without its command. */
        int (*import)(void *userdata, Entry *entry, const void *bytes, size_t size, SubmitCallback callback,
                      void *callback_userdata);
        /* Asks the hypervisor whether it takes this XML (already checked by domain_xml_check()). May answer late. */
        int (*check_xml)(void *userdata, const char *xml, CheckXmlCallback callback, void *callback_userdata);
} Service;

typedef struct BusConfig {
        uint32_t questions_per_user;    /* polkit questions under way at once */
        const char *address;            /* NULL: the system bus */
} BusConfig;

/* Connects, adds all vtables; the name is not yet taken. */
int bus_new(Bus **ret, sd_event *event, const BusConfig *config, const Service *service,
            void *service_userdata);
Bus *bus_free(Bus *bus);
DEFINE_CLEANUP(Bus *, bus_free);

/* Has another process the name, at this moment? Waits for the bus's answer. 1, 0 or a negative errno. */
int bus_name_is_taken(Bus *bus);

/* Takes the name, once own state is complete: activated callers must not see half an object tree. -EEXIST: somebody
 * has it. */
int bus_acquire_name(Bus *bus);

/* Something of the World, the status or a job changed: what was derived from it is thrown away, and signals follow,
 * gathered and at a bounded rate. Must be called before the loop goes on after any change. */
void bus_invalidate(Bus *bus);

/* Emits what is pending now: before a reply, so that nobody reads the old value after the answer. */
void bus_flush(Bus *bus);

void bus_job_added(Bus *bus, const Job *job);
/* The job has ended (it stays visible); emits JobRemoved with its result. */
void bus_job_ended(Bus *bus, const Job *job);
/* Its time as an object is over; called before the job is freed. */
void bus_job_forgotten(Bus *bus, const Job *job);

void bus_emit_event(Bus *bus, const Event *event);

typedef struct BusDeviceEvent {
        const char *action;             /* add, remove, change, bind, unbind */
        NodeId node;
        PciAddress address;
        const char *subsystem;
        const char *const *properties;  /* "KEY=value", NULL-terminated */
} BusDeviceEvent;

/* At once, not gathered. */
void bus_emit_device_event(Bus *bus, const BusDeviceEvent *event);
