/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Hypervisor: this host's libvirt, at arm's length. Every call of libvirt may hang for ever, so threads make them, each
 * with a connection of its own and a deadline, and the loop only ever reads their answers. A thread that passes its
 * deadline is abandoned together with its connection; so many may be lost that way, then further calls are told
 * "hung" at once until one comes back. Connects again by itself, and then tells all domains anew.
 *
 * Only domains that bear the cluster's mark (core/domain-xml.h) are listed. Events are told of every domain: the
 * caller knows its VMs. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "core/facts.h"
#include "core/id.h"
#include "util/cleanup.h"

typedef struct Hypervisor Hypervisor;

typedef enum HypervisorResult {
        HYPERVISOR_CALL_OK,
        HYPERVISOR_CALL_NO_DOMAIN, /* libvirt knows no such domain, or none that runs; its process may live all the
                                    * same, when libvirtd was restarted and is on its way back to it */
        HYPERVISOR_CALL_FAILED, /* libvirt said no; its sentence */
        HYPERVISOR_CALL_TIMED_OUT, /* the deadline passed: it may still happen. A start that comes true late is
                                    * destroyed by the thread that made it, before any vCPU ran; after a resume
                                    * that timed out only the guard's kill makes sure */
        HYPERVISOR_CALL_LOST, /* the connection broke before the answer: it may have happened, the list tells */
        HYPERVISOR_CALL_HUNG, /* not tried: too many calls are stuck in libvirt */
        HYPERVISOR_CALL_UNAVAILABLE, /* not tried: no connection; the sentence says why */
} HypervisorResult;

typedef enum DomainState {
        DOMAIN_PAUSED,
        DOMAIN_RUNNING,
        DOMAIN_STOPPING,                /* shutting down, or stopped and not yet gone */
        DOMAIN_CRASHED,
        DOMAIN_OTHER,                   /* suspended by its guest, saving, ... */
} DomainState;

typedef struct HypervisorDomain {
        VmId vm;
        ClusterId cluster;
        NodeId node;
        uint64_t epoch;
        char *name;
        DomainState state;
        pid_t pid;                      /* 0: its process was not found */
        int pidfd;                      /* the list's, unless taken by steal_fd(); -1 where pid is 0 */
} HypervisorDomain;

/* What an answer may bring; borrowed during the callback. */
typedef struct HypervisorReply {
        const char *sentence;           /* why not, one printable line; NULL with OK */
        pid_t pid;                      /* start */
        int pidfd;                      /* start: the new process's; the adapter's, unless taken by steal_fd() */
        const char *xml;                /* capabilities */
        HypervisorDomain *domains;      /* list */
        size_t n_domains;
} HypervisorReply;

typedef enum DomainEventKind {
        DOMAIN_EVENT_STARTED,
        DOMAIN_EVENT_SUSPENDED,
        DOMAIN_EVENT_RESUMED,
        DOMAIN_EVENT_SHUTTING_DOWN,     /* the guest has powered off; the process still stands */
        DOMAIN_EVENT_STOPPED,
        DOMAIN_EVENT_CRASHED,           /* the guest panicked */
} DomainEventKind;

typedef enum DomainEventCause {
        DOMAIN_CAUSE_NONE,              /* none is known */
        DOMAIN_CAUSE_GUEST,             /* the guest shut itself down */
        DOMAIN_CAUSE_HOST,              /* somebody on the host asked for it: shutdown by signal, destroy */
        DOMAIN_CAUSE_CRASHED,           /* the guest panicked */
        DOMAIN_CAUSE_FAILED,            /* its process died, killed by whomever */
        DOMAIN_CAUSE_ERROR,             /* paused by an I/O error, a watchdog, ... */
} DomainEventCause;

typedef struct HypervisorCallbacks {
        /* @detail: a sentence, or NULL. Called at each change. */
        void (*state_changed)(HypervisorState state, const char *detail, void *userdata);
        void (*domain_event)(const VmId *vm, DomainEventKind kind, DomainEventCause cause, void *userdata);
        /* After each connection, and after events were lost: all marked domains. What is not among them does not run,
         * as far as libvirt knows. Entries as in HypervisorReply. */
        void (*domains_listed)(HypervisorDomain *domains, size_t n_domains, void *userdata);
} HypervisorCallbacks;

typedef struct HypervisorConfig {
        const char *uri;                /* "qemu:///system" */
        uint64_t query_timeout_us;      /* list, check, probe */
        uint64_t start_timeout_us;      /* pinning guest memory takes long */
        uint64_t stop_timeout_us;       /* resume, shutdown, destroy */
        uint64_t probe_interval_us;     /* how often an idle connection is asked whether it still answers */
} HypervisorConfig;

typedef void (*HypervisorDone)(HypervisorResult result, HypervisorReply *reply, void *userdata);

/* Begins to connect. @callbacks is borrowed and must outlive it; @config is copied. Callbacks come from the loop; none
 * of them may free the hypervisor. */
int hypervisor_new(Hypervisor **ret, sd_event *event, const HypervisorConfig *config,
                   const HypervisorCallbacks *callbacks, void *userdata);
/* Never waits: threads that are inside libvirt end by themselves. Pending calls are dropped without a word. */
Hypervisor *hypervisor_free(Hypervisor *h);
DEFINE_CLEANUP(Hypervisor *, hypervisor_free);

HypervisorState hypervisor_state(const Hypervisor *h);
const char *hypervisor_detail(const Hypervisor *h);     /* why it is in that state; NULL if all is well */
const char *hypervisor_version(const Hypervisor *h);    /* "9.0.0" of libvirt; NULL until known */

/* Each returns 0 and calls @done exactly once, later and from the loop; or -ENOMEM. @xml is copied. */

/* Has libvirt make a QEMU command line of it and throws that away: nothing is kept, nothing runs. Finds what libvirt
 * or this host's QEMU does not know; an element that libvirt does not know it passes over, as it does at the start. */
int hypervisor_check_xml(Hypervisor *h, const char *xml, HypervisorDone done, void *userdata);
int hypervisor_list(Hypervisor *h, HypervisorDone done, void *userdata);
/* What a domain of KVM may be here, in libvirt's XML (core/domain-cpus.h). Where there is no KVM libvirt says no. */
int hypervisor_capabilities(Hypervisor *h, HypervisorDone done, void *userdata);
/* A transient domain, paused, from XML that bears the mark (-EINVAL without). OK only if its process was found too;
 * otherwise the domain is destroyed again. */
int hypervisor_start_paused(Hypervisor *h, const char *xml, HypervisorDone done, void *userdata);
int hypervisor_resume(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata);
/* Asks the guest; OK means asked. */
int hypervisor_shutdown(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata);
int hypervisor_destroy(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata);

/* Forgets every pending call that would come back to @userdata. A forgotten start is undone if it succeeds. */
void hypervisor_forget(Hypervisor *h, const void *userdata);

const char *hypervisor_result_to_text(HypervisorResult result);
