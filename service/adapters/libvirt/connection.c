/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/connection.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "adapters/libvirt/worker.h"
#include "util/text.h"

#define KEEPALIVE_S 5
#define KEEPALIVE_COUNT 5U
#define EVENT_LOOP_FAILED_US 100000U

/* libvirt would write to standard error. */
static void swallow_error(void *userdata, virErrorPtr error) {
}

static void *run_event_loop(void *userdata) {
        for (;;)
                if (virEventRunDefaultImpl() < 0)
                        (void) usleep(EVENT_LOOP_FAILED_US);
        return NULL;
}

static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static int prepare_result;

static void prepare(void) {
        virSetErrorFunc(NULL, swallow_error);
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
                prepare_result = -EIO;
                return;
        }
        prepare_result = worker_start_thread(run_event_loop, NULL);
}

int libvirt_connection_prepare(void) {
        (void) pthread_once(&prepared, prepare);
        return prepare_result;
}

/* What libvirt gives back to each of our callbacks. */
typedef struct Watch {
        Exchange *exchange;
        uint64_t number;
} Watch;

static Watch *watch_new(Exchange *exchange, uint64_t number) {
        Watch *watch = malloc(sizeof(*watch));
        if (watch)
                *watch = (Watch) { .exchange = exchange_ref(exchange), .number = number };
        return watch;
}

static void free_watch(void *opaque) {
        Watch *watch = opaque;
        exchange_unref(watch->exchange);
        free(watch);
}

static DomainEventCause shutdown_cause(int detail) {
        return detail == VIR_DOMAIN_EVENT_SHUTDOWN_GUEST  ? DOMAIN_CAUSE_GUEST
               : detail == VIR_DOMAIN_EVENT_SHUTDOWN_HOST ? DOMAIN_CAUSE_HOST
                                                          : DOMAIN_CAUSE_NONE;
}

static DomainEventCause stop_cause(int detail) {
        switch (detail) {
        case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
                return DOMAIN_CAUSE_GUEST;
        case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
                return DOMAIN_CAUSE_HOST;
        case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
                return DOMAIN_CAUSE_CRASHED;
        case VIR_DOMAIN_EVENT_STOPPED_FAILED:
                return DOMAIN_CAUSE_FAILED;
        default:
                return DOMAIN_CAUSE_NONE;
        }
}

static DomainEventCause suspend_cause(int detail) {
        switch (detail) {
        case VIR_DOMAIN_EVENT_SUSPENDED_PAUSED:
                return DOMAIN_CAUSE_HOST;
        case VIR_DOMAIN_EVENT_SUSPENDED_IOERROR:
        case VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG:
        case VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR:
                return DOMAIN_CAUSE_ERROR;
        default:
                return DOMAIN_CAUSE_NONE;
        }
}

static bool event_from_libvirt(int event, int detail, DomainEventKind *ret_kind, DomainEventCause *ret_cause) {
        *ret_cause = DOMAIN_CAUSE_NONE;
        switch (event) {
        case VIR_DOMAIN_EVENT_STARTED:
                *ret_kind = DOMAIN_EVENT_STARTED;
                return true;
        case VIR_DOMAIN_EVENT_SUSPENDED:
                *ret_kind = DOMAIN_EVENT_SUSPENDED;
                *ret_cause = suspend_cause(detail);
                return true;
        case VIR_DOMAIN_EVENT_RESUMED:
                *ret_kind = DOMAIN_EVENT_RESUMED;
                return true;
        case VIR_DOMAIN_EVENT_SHUTDOWN:
                *ret_kind = DOMAIN_EVENT_SHUTTING_DOWN;
                *ret_cause = shutdown_cause(detail);
                return true;
        case VIR_DOMAIN_EVENT_STOPPED:
                *ret_kind = DOMAIN_EVENT_STOPPED;
                *ret_cause = stop_cause(detail);
                return true;
        case VIR_DOMAIN_EVENT_CRASHED:
                *ret_kind = DOMAIN_EVENT_CRASHED;
                *ret_cause = DOMAIN_CAUSE_CRASHED;
                return true;
        default:
                return false;           /* defined, undefined, suspended by the guest */
        }
}

static int on_lifecycle(virConnectPtr handle, virDomainPtr domain, int event, int detail, void *opaque) {
        Watch *watch = opaque;
        Message message = { .kind = MESSAGE_EVENT, .worker = watch->number, .answer = ANSWER_NONE };
        if (event_from_libvirt(event, detail, &message.event, &message.cause) &&
            virDomainGetUUID(domain, message.vm.bytes) == 0)
                exchange_put(watch->exchange, &message);
        return 0;
}

static void on_close(virConnectPtr handle, int reason, void *opaque) {
        Watch *watch = opaque;
        Message message = { .kind = MESSAGE_CLOSED, .worker = watch->number, .answer = ANSWER_NONE };
        exchange_put(watch->exchange, &message);
}

static bool watch_connection(Connection *connection, Exchange *watcher, uint64_t number) {
        Watch *watch = watch_new(watcher, number);
        if (!watch)
                return false;
        if (virConnectRegisterCloseCallback(connection->handle, on_close, watch, free_watch) < 0) {
                free_watch(watch);
                return false;
        }
        connection->watches_close = true;

        watch = watch_new(watcher, number);
        if (!watch)
                return false;
        connection->events =
                virConnectDomainEventRegisterAny(connection->handle, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                 VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), watch, free_watch);
        if (connection->events < 0)
                free_watch(watch);
        return connection->events >= 0;
}

bool libvirt_connection_open(Connection *connection, const char *uri, Exchange *watcher, uint64_t number,
                     char **reterr_sentence) {
        *connection = CONNECTION_CLOSED;
        /* Without callbacks for passwords: nobody is here to type one. */
        connection->handle = virConnectOpen(uri);
        if (connection->handle && virConnectSetKeepAlive(connection->handle, KEEPALIVE_S, KEEPALIVE_COUNT) >= 0 &&
            (!watcher || watch_connection(connection, watcher, number)))
                return true;
        (void) text_set(reterr_sentence, virGetLastErrorMessage());
        libvirt_connection_close(connection);
        return false;
}

bool libvirt_connection_is_open(const Connection *connection) {
        return connection->handle && virConnectIsAlive(connection->handle) == 1;
}

/* Each registration has a reference to the connection, so none may be left. */
void libvirt_connection_close(Connection *connection) {
        if (!connection->handle)
                return;
        if (connection->events >= 0)
                (void) virConnectDomainEventDeregisterAny(connection->handle, connection->events);
        if (connection->watches_close)
                (void) virConnectUnregisterCloseCallback(connection->handle, on_close);
        (void) virConnectClose(connection->handle);
        *connection = CONNECTION_CLOSED;
}
