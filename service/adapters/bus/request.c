/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/request.h"

#include <errno.h>
#include <stdlib.h>

#include "adapters/bus/bus-internal.h"
#include "core/names.h"
#include "util/log.h"
#include "util/text.h"

struct Request {
        Bus *bus;                       /* NULL: nobody waits for the answer any more */
        sd_bus_message *message;
        char *reply_path;
        uint32_t level;                 /* that SetFunctionalLevel wants */
        Request *next, *previous;
};

static Request *request_free(Request *request) {
        if (!request)
                return NULL;
        if (request->bus) {
                if (request->previous)
                        request->previous->next = request->next;
                else
                        request->bus->requests = request->next;
                if (request->next)
                        request->next->previous = request->previous;
        }
        sd_bus_message_unref(request->message);
        free(request->reply_path);
        free(request);
        return NULL;
}
DEFINE_CLEANUP(Request *, request_free);

static int request_new(Request **ret, Bus *bus, sd_bus_message *m, const char *reply_path) {
        Request *request = calloc(1, sizeof(*request));
        if (!request)
                return -ENOMEM;
        int r = text_set(&request->reply_path, reply_path);
        if (r < 0) {
                free(request);
                return r;
        }
        request->bus = bus;
        request->message = sd_bus_message_ref(m);
        request->next = bus->requests;
        if (request->next)
                request->next->previous = request;
        bus->requests = request;
        *ret = request;
        return 0;
}

/* ---- the answer */

static void reply_error(Request *request, const char *name, const char *sentence) {
        int r = sd_bus_reply_method_errorf(request->message, name, "%s", sentence);
        if (r < 0 && r != -ENOTCONN)
                log_warning("a caller could not be told that %s: %s", sentence, strerror(-r));
}

static void reply_path(Request *request, const char *path) {
        int r = path ? sd_bus_reply_method_return(request->message, "o", path) :
                       sd_bus_reply_method_return(request->message, NULL);
        if (r < 0 && r != -ENOTCONN)
                log_warning("a caller could not be told that it is done: %s", strerror(-r));
}

/* A node that was removed has no majority to wait for. */
static void reply_no_quorum(Request *request) {
        const World *world = bus_world(request->bus);
        if (!world->removed) {
                reply_error(request, ERROR_NO_QUORUM,
                            "a majority of the voters cannot be reached, so nothing was changed: bring nodes or the "
                            "network back (gpupoolctl status)");
                return;
        }
        reply_error(request, ERROR_CONFLICT,
                    "this node was removed from its cluster, so nothing was changed: make it a cluster of its own "
                    "(gpupoolctl cluster reset), then join again");
}

/* True if it was committed and the registry took it; else the answer is given. */
static bool is_done(Request *request, SubmitOutcome outcome, const Result *result) {
        switch (outcome) {
        case SUBMIT_COMMITTED:
                if (result->verdict == VERDICT_DONE)
                        return true;
                reply_error(request, verdict_to_error(result->verdict), result->sentence ?: "the registry refuses it");
                return false;
        case SUBMIT_NO_QUORUM:
                reply_no_quorum(request);
                return false;
        case SUBMIT_STORAGE_FULL:
                reply_error(request, ERROR_STORAGE_FULL,
                            "the registry's file system is full, so nothing was changed: make room for it under "
                            "/var/lib/gpupool");
                return false;
        case SUBMIT_STORAGE_WAITED_FOR:
                reply_error(request, ERROR_OUTCOME_UNKNOWN,
                            "the registry's file system has just become full: this change happens as soon as there is "
                            "room under /var/lib/gpupool, unless gpupoold ends before");
                return false;
        case SUBMIT_OUTCOME_UNKNOWN:
                reply_error(request, ERROR_OUTCOME_UNKNOWN,
                            "the change was not confirmed in time and may or may not have happened: look, or send it "
                            "again with the same request-id");
                return false;
        case SUBMIT_STOPPING:
                reply_error(request, ERROR_UNREACHABLE,
                            "gpupoold is going down; nothing was changed. Try again in a moment");
                return false;
        }
        return false;
}

static void on_submitted(SubmitOutcome outcome, const Result *result, void *userdata) {
        _cleanup_(request_freep) Request *request = userdata;
        if (!request->bus)
                return;
        bus_flush(request->bus);
        if (is_done(request, outcome, result))
                reply_path(request, request->reply_path);
}

static void on_operated(SubmitOutcome outcome, const Result *result, const Job *job, void *userdata) {
        _cleanup_(request_freep) Request *request = userdata;
        if (!request->bus)
                return;
        bus_flush(request->bus);
        if (!is_done(request, outcome, result))
                return;
        if (job)
                reply_path(request, path_of_job(job->id).text);
        else
                reply_error(request, ERROR_OUTCOME_UNKNOWN,
                            "it is committed, but there is no job to follow it by: look at what it is about");
}

static void on_invited(SubmitOutcome outcome, const Result *result, const char *token, void *userdata) {
        _cleanup_(request_freep) Request *request = userdata;
        if (!request->bus)
                return;
        bus_flush(request->bus);
        if (!is_done(request, outcome, result))
                return;
        int r = sd_bus_reply_method_return(request->message, "s", token);
        if (r < 0 && r != -ENOTCONN)
                log_warning("a caller could not be given the invitation: %s", strerror(-r));
}

int reply_obstacles(Bus *bus, sd_bus_message *m, uint32_t level, ObstacleNeed need) {
        _cleanup_(text_list_clear) TextList obstacles = {};
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r = registry_level_obstacles(bus_world(bus)->registry, level, &obstacles);
        if (r < 0 || (obstacles.n == 0 && need == OBSTACLES_ONLY))
                return r;
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "s");
        ARRAY_EACH(sentence, &obstacles)
                if (r >= 0)
                        r = sd_bus_message_append(reply, "s", *sentence);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_message_send(reply);
        return r < 0 ? r : 1;
}

/* A level that members are too old for is no error: the answer says who they are. */
static void on_level_set(SubmitOutcome outcome, const Result *result, void *userdata) {
        _cleanup_(request_freep) Request *request = userdata;
        if (!request->bus)
                return;
        bus_flush(request->bus);
        bool in_the_way = outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_LEVEL_TOO_LOW;
        if (in_the_way && reply_obstacles(request->bus, request->message, request->level, OBSTACLES_ONLY) > 0)
                return;
        if (!is_done(request, outcome, result))
                return;
        int r = sd_bus_reply_method_return(request->message, "as", 0);
        if (r < 0 && r != -ENOTCONN)
                log_warning("a caller could not be told that the level is raised: %s", strerror(-r));
}

/* ---- the request */

static void fill_in(Entry *entry, EntryAuthor *author, const Caller *caller, const char *action,
                    const RequestOption *id) {
        *author = (EntryAuthor) GPUPOOL1__AUTHOR__INIT;
        author->uid = caller->uid;
        author->user = caller->user;
        author->action = (char *) action;
        entry->format = ENTRY_FORMAT;
        entry->level = entry->command_case == GPUPOOL1__ENTRY__COMMAND__NOT_SET ? LEVEL_OLDEST : entry_level(entry);
        entry->author = author;
        if (id->given)
                entry->request_id = id_message_borrow(id->id.bytes);
}

static int refuse_errno(int r, sd_bus_error *error) {
        if (r == -EBUSY || r == -EAGAIN || r == -ENOBUFS)
                return sd_bus_error_set(error, ERROR_LIMITS_EXCEEDED,
                                        "too many changes wait to be committed; nothing was changed, try again");
        if (r == -E2BIG)
                return sd_bus_error_set(error, ERROR_LIMITS_EXCEEDED,
                                        "the request is too large for the registry; nothing was changed");
        return r;
}

/* The service has @request, or with @r < 0 has not. */
static int hand_over(Bus *bus, sd_bus_message *m, Request *request, int r, sd_bus_error *error) {
        ask_done(bus, m);
        if (r < 0) {
                request_free(request);
                return refuse_errno(r, error);
        }
        return 1;
}

static const RequestRecord *find_known(Bus *bus, const RequestOption *id) {
        const Registry *registry = bus_world(bus)->registry;
        for (size_t i = registry->requests.n; id->given && i > 0; i--)
                if (ID_EQUAL(&registry->requests.items[i - 1].id, &id->id))
                        return registry->requests.items + i - 1;
        return NULL;
}

bool request_is_known(Bus *bus, const RequestOption *id) {
        return find_known(bus, id);
}

bool request_is_same(Bus *bus, const RequestOption *id, const Entry *entry) {
        const RequestRecord *known = find_known(bus, id);
        Entry whole = *entry;
        whole.format = ENTRY_FORMAT;
        return known && known->fingerprint == entry_fingerprint(&whole);
}

int request_submit(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const char *path, sd_bus_error *error) {
        EntryAuthor author;
        Request *request;
        int r = request_new(&request, bus, m, path);
        if (r < 0)
                return r;
        fill_in(entry, &author, caller, action, id);
        r = bus->service->submit(bus->service_userdata, entry, on_submitted, request);
        return hand_over(bus, m, request, r, error);
}

int request_operate(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                    Entry *entry, JobOperation operation, sd_bus_error *error) {
        EntryAuthor author;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        fill_in(entry, &author, caller, action, id);
        r = bus->service->operate(bus->service_userdata, entry, operation, caller, on_operated, request);
        return hand_over(bus, m, request, r, error);
}

int request_cancel(Bus *bus, sd_bus_message *m, const Caller *caller, const char *action, const RequestOption *id,
                   Entry *entry, const Job *job, sd_bus_error *error) {
        EntryAuthor author;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        fill_in(entry, &author, caller, action, id);
        r = bus->service->cancel_job(bus->service_userdata, entry, job, on_submitted, request);
        ask_done(bus, m);
        if (r < 0)
                request_free(request);
        if (r == -EBUSY)
                return sd_bus_error_set(error, ERROR_BUSY, "the job cannot be given up any more: wait for it to end");
        return r < 0 ? refuse_errno(r, error) : 1;
}

int request_invite(Bus *bus, sd_bus_message *m, const Caller *caller, uint64_t lifetime_ms, sd_bus_error *error) {
        EntryAuthor author;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        fill_in(&entry, &author, caller, ACTION_MANAGE_CLUSTER, &(RequestOption) {});
        r = bus->service->invite(bus->service_userdata, &entry, lifetime_ms, on_invited, request);
        return hand_over(bus, m, request, r, error);
}

int request_leave(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, sd_bus_error *error) {
        EntryAuthor author;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        fill_in(&entry, &author, caller, ACTION_MANAGE_CLUSTER, id);
        r = bus->service->leave(bus->service_userdata, &entry, on_submitted, request);
        return hand_over(bus, m, request, r, error);
}

int request_import(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, const void *bytes,
                   size_t size, sd_bus_error *error) {
        EntryAuthor author;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        fill_in(&entry, &author, caller, ACTION_MANAGE_CLUSTER, id);
        r = bus->service->import(bus->service_userdata, &entry, bytes, size, on_submitted, request);
        return hand_over(bus, m, request, r, error);
}

int request_set_level(Bus *bus, sd_bus_message *m, const Caller *caller, const RequestOption *id, Entry *entry,
                      sd_bus_error *error) {
        EntryAuthor author;
        Request *request;
        int r = request_new(&request, bus, m, NULL);
        if (r < 0)
                return r;
        request->level = entry->set_level->level;
        fill_in(entry, &author, caller, ACTION_MANAGE_CLUSTER, id);
        r = bus->service->submit(bus->service_userdata, entry, on_level_set, request);
        return hand_over(bus, m, request, r, error);
}

void requests_abandon(Bus *bus) {
        while (bus->requests) {
                Request *request = bus->requests;
                bus->requests = request->next;
                if (request->next)
                        request->next->previous = NULL;
                request->next = request->previous = NULL;
                reply_error(request, ERROR_OUTCOME_UNKNOWN,
                            "gpupoold is going down, and the change may or may not have happened: look, or send it "
                            "again with the same request-id");
                request->message = sd_bus_message_unref(request->message);
                request->bus = NULL;
        }
}
