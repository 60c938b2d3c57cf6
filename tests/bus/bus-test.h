/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A private system bus with the real bus policy, a fake service with the real bus library, a mock polkit, and a client
 * that calls in one line and compares text:
 *
 *     HOST(host);
 *     expect_reply(host, "/org/gpupool1", "Manager.CreatePool", "('training', @a{sv} {})",
 *                  "(objectpath '/org/gpupool1/pool/training',)");
 */

#include <gio/gio.h>
#include <stdio.h>

#include "mock-polkit.h"

#define ROOT "/org/gpupool1"
#define POOL(name) ROOT "/pool/" name
#define NODE_A ROOT "/node/a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"
#define GPU(bus) ROOT "/gpu/a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0_0000_" bus "_00_0"
#define VM_UUID "11111111-2222-4333-8444-555555555555"
#define VM_PATH ROOT "/vm/11111111_2222_4333_8444_555555555555"
#define NO_OPTIONS "@a{sv} {}"

typedef struct Host {
        char *folder;
        char *address;
        GPid bus, service;
        int to_service;
        FILE *from_service;
        MockPolkit *polkit;             /* says yes, until told otherwise */
        GDBusConnection *client;
        GPtrArray *signals;             /* lines "PATH MEMBER ARGUMENTS", what org.gpupool1 emitted */
} Host;

/* @arguments: of the fake service, or NULL. */
Host *host_new(const char *arguments);
Host *host_free(Host *host);
static inline void host_freep(Host **host) {
        host_free(*host);
}
#define HOST(name) __attribute__((cleanup(host_freep))) Host *name = host_new(NULL)
#define HOST_WITH(name, arguments) __attribute__((cleanup(host_freep))) Host *name = host_new(arguments)

/* Parts of a host, for tests that put one together themselves. */
Host *host_new_bus_only(const char *config_tail);       /* more lines of the bus's configuration, or NULL */
/* The bus dies, and another one comes up at the same address, with a new client and a new mock polkit. */
void host_restart_bus(Host *host);
void host_start_service(Host *host, const char *arguments);
/* Runs until it is ended with the host's other processes. */
GPid host_spawn(const char *const *arguments, const char *address);
void host_end(GPid *pid);

/* Tells the fake service; returns what it says before its "ok". Several commands, one a line, are carried out before it
 * does anything else. */
char *tell(Host *host, const char *command);
void told(Host *host, const char *command);     /* the same, for nothing */

/* Calls "Interface.Method" of org.gpupool1. Returns the printed reply, or "ErrorName: sentence" with the leading
 * "org.gpupool1.Error." cut off. */
char *call(Host *host, const char *path, const char *method, const char *arguments);
char *call_flags(Host *host, const char *path, const char *method, const char *arguments, GDBusCallFlags flags);

/* Calls a method of the bus itself; the printed reply, or the error as call() prints it. */
char *call_bus(GDBusConnection *connection, const char *member, const char *arguments);

void expect_reply(Host *host, const char *path, const char *method, const char *arguments, const char *reply);
/* @name: of the error, as call() prints it. The sentence must have @part in it. */
void expect_error(Host *host, const char *path, const char *method, const char *arguments, const char *name,
                  const char *part);

/* A call that is not waited for, on a connection of its own. */
typedef struct Call {
        GDBusConnection *connection;
        char *answer;                   /* NULL: none yet */
} Call;

Call *call_begin(Host *host, const char *path, const char *method, const char *arguments);
Call *call_begin_on(GDBusConnection *connection, const char *path, const char *method, const char *arguments);
char *call_end(Call *call);             /* waits; frees the call */
void call_leave(Call *call);            /* the caller leaves the bus without waiting */
GDBusConnection *connect_to(const char *address);

/* The printed value of a property, "Interface.Property". */
char *get(Host *host, const char *path, const char *property);
void expect_property(Host *host, const char *path, const char *property, const char *value);

/* Signals since the last time; owned by the caller. Waits until there are at least @n. */
char **take_signals(Host *host, unsigned n);
/* The first signal since the last time that begins with @beginning; others before it are dropped. */
char *wait_signal(Host *host, const char *beginning);
/* Handles what has arrived. */
void settle(Host *host);

/* Common states. */
void make_pool(Host *host, const char *name, const char *gpus); /* "['/org...']" or NULL */
void make_vm(Host *host, const char *name, const char *pool);   /* with VM_UUID */
char *domain_xml(const char *name, const char *uuid);           /* uuid may be NULL */
