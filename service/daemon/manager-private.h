/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the three files of the manager share: manager.c gives birth and takes the turn, manager-news.c hears what the
 * adapters tell, manager-service.c does what the bus asks. */

#include "adapters/bus/bus.h"
#include "adapters/guard/guard-link.h"
#include "adapters/libvirt/hypervisor.h"
#include "daemon/binder.h"
#include "daemon/fencing.h"
#include "daemon/history.h"
#include "daemon/joining.h"
#include "daemon/leader.h"
#include "daemon/leases.h"
#include "daemon/local-facts.h"
#include "daemon/manager.h"
#include "daemon/member.h"
#include "daemon/network.h"
#include "daemon/operations.h"
#include "daemon/stages.h"
#include "daemon/steps.h"
#include "daemon/storage.h"

typedef struct XmlCheck XmlCheck;
typedef struct Leaving Leaving;

struct Manager {
        const Conf *conf;
        NodeId node;
        sd_event *event;
        sd_event_source *turn;          /* something changed */
        sd_event_source *timer;         /* something is due though nothing changed */
        sd_event_source *end;           /* the loop ends */
        History *history;
        LocalFacts *facts;
        Storage *storage;               /* NULL: a witness, which runs no VM */
        Hypervisor *hypervisor;
        GuardLink *guard;
        Runner runner;
        Binder *binder;
        Steps *steps;
        Leases leases;
        Fencing fencing;
        Leader leader;
        Member member;
        Network network;
        Joining *joining;
        Operations *operations;
        Bus *bus;
        uint64_t started_us;
        bool name_taken;
        bool listing;                   /* libvirt is listing its domains */
        uint64_t list_not_before_us;
        bool listing_guard;             /* the guard is */
        uint64_t guard_not_before_us;
        bool caught_up;                 /* since it started this node has once known all that was committed */
        bool catching_up;               /* it has asked */
        uint64_t catch_up_not_before_us;
        uint64_t moved_us;              /* the registry did, last */
        World world;
        ARRAY(NodeId) voters;
        char stage[STAGE_SIZE];         /* as told last */
        XmlCheck *checks;              /* under way */
        uint64_t stop_by_us;            /* it was asked to stop and hands the lead over first; 0: not so */
        Leaving *leaving;               /* this node is out of its registry, and the caller waits; NULL: not so */
        bool again;                     /* ends to start anew, as another node */
        int fault;
};

uint64_t manager_now_us(const Manager *manager);        /* CLOCK_BOOTTIME */
void manager_wake(Manager *manager);                    /* take a turn */
void manager_world_changed(Manager *manager);           /* ... and show what came of it */
/* Logs what went wrong; the service ends when memory is out. */
void manager_failed(Manager *manager, int r);
const World *manager_look(Manager *manager);

/* Of the adapters; userdata is the Manager. */
extern const HistoryCallbacks manager_history_callbacks;
extern const HypervisorCallbacks manager_hypervisor_callbacks;
extern const GuardCallbacks manager_guard_callbacks;
void manager_device_event(const BusDeviceEvent *event, void *userdata);
void manager_domains_listed(HypervisorResult result, HypervisorReply *reply, void *userdata);
void manager_guard_listed(GuardResult result, GuardEntry *entries, size_t n, void *userdata);

/* Of the bus; userdata is the Manager. */
extern const Service manager_service;
/* Tells those that wait for libvirt's word on an XML that there will be none. */
void manager_end_checks(Manager *manager);
/* A node that leaves goes as soon as the others can do without it. */
void manager_leave_turn(Manager *manager, uint64_t now, uint64_t *wake_us);
void manager_end_leave(Manager *manager);
