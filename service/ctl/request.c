/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/request.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/random.h>

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/errors.h"
#include "ctl/must.h"

#define READ_TIMEOUT_US (25 * 1000000ULL)
#define HUMAN_TIMEOUT_US (300 * 1000000ULL)     /* someone looks for a password */
#define COMEBACK_US (10 * 1000000ULL)           /* the service restarts within a second; systemd waits a little */
#define ATTEMPTS 3U
#define REQUEST_ID_SIZE 16U                     /* "request-id" of the contract */

void request_begin(Ctl *ctl, Request *request, RequestKind kind, const char *path, const char *interface,
                   const char *method) {
        *request = (Request) { .kind = kind };
        request->error = sd_bus_message_new_method_call(ctl->bus, &request->message, BUS_NAME, path, interface, method);
        if (request->error < 0 || kind == REQUEST_READ)
                return;
        request->error = sd_bus_message_set_allow_interactive_authorization(request->message, !ctl->no_ask_password);
}

void request_clear(Request *request) {
        request->message = sd_bus_message_unref(request->message);
        free(request->doing);
        request->doing = NULL;
}

void request_explain(Request *request, const char *action, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        free(request->doing);
        request->doing = must_vprintf(format, ap);
        va_end(ap);
        request->action = action;
}

static void note_error(Request *request, int r) {
        if (r < 0 && request->error >= 0)
                request->error = r;
}

void request_append(Request *request, const char *types, ...) {
        if (request->error < 0)
                return;
        va_list ap;
        va_start(ap, types);
        note_error(request, sd_bus_message_appendv(request->message, types, ap));
        va_end(ap);
}

void request_open(Request *request, char type, const char *contents) {
        if (request->error >= 0)
                note_error(request, sd_bus_message_open_container(request->message, type, contents));
}

void request_close(Request *request) {
        if (request->error >= 0)
                note_error(request, sd_bus_message_close_container(request->message));
}

void request_append_file(Request *request, int fd) {
        if (request->error >= 0)
                note_error(request, sd_bus_message_append_basic(request->message, 'h', &fd));
}

void request_append_list(Request *request, char type, const TextList *list) {
        if (request->error < 0)
                return;
        request_open(request, 'a', (const char[]) { type, 0 });
        for (size_t i = 0; i < list->n && request->error >= 0; i++)
                note_error(request, sd_bus_message_append_basic(request->message, type, list->items[i]));
        request_close(request);
}

void request_options(Request *request) {
        if (request->error < 0 || request->options_open)
                return;
        request_open(request, 'a', "{sv}");
        request->options_open = true;
}

void request_open_option(Request *request, const char *key, const char *type) {
        request_options(request);
        request_open(request, 'e', "sv");
        request_append(request, "s", key);
        request_open(request, 'v', type);
}

void request_close_option(Request *request) {
        request_close(request);
        request_close(request);
}

void request_option(Request *request, const char *key, const char *type, ...) {
        request_open_option(request, key, type);
        if (request->error < 0)
                return;
        va_list ap;
        va_start(ap, type);
        note_error(request, sd_bus_message_appendv(request->message, type, ap));
        va_end(ap);
        request_close_option(request);
}

void request_option_list(Request *request, const char *key, char type, const TextList *list) {
        request_open_option(request, key, (const char[]) { 'a', type, 0 });
        request_append_list(request, type, list);
        request_close_option(request);
}

void request_end_options(Request *request) {
        if (request->error < 0)
                return;
        request_options(request);
        request_close(request);
        request->options_open = false;
}

/* Several changes of one run have ids of their own, the same ones when the same command is given the id again. */
static int make_request_id(Ctl *ctl, uint8_t id[static REQUEST_ID_SIZE]) {
        if (!ctl->has_request_id && getrandom(ctl->request_id, REQUEST_ID_SIZE, 0) != (ssize_t) REQUEST_ID_SIZE)
                return -EIO;
        ctl->has_request_id = true;
        memcpy(id, ctl->request_id, REQUEST_ID_SIZE);
        uint32_t n = ctl->n_changes++;
        for (size_t i = 0; i < sizeof(n); i++)
                id[i] ^= (uint8_t) (n >> (8 * i));
        return 0;
}

static void append_request_id(Ctl *ctl, Request *request) {
        uint8_t id[REQUEST_ID_SIZE];
        int r = make_request_id(ctl, id);
        if (r < 0) {
                note_error(request, r);
                return;
        }
        request_open_option(request, "request-id", "ay");
        if (request->error >= 0)
                note_error(request, sd_bus_message_append_array(request->message, 'y', id, sizeof(id)));
        request_close_option(request);
}

static Asked describe(const Request *request) {
        return (Asked) {
                .changes = request->kind == REQUEST_CHANGE,
                .doing = request->doing,
                .action = request->action,
                .method = request->message ? sd_bus_message_get_member(request->message) : NULL,
        };
}

static Status refuse_error(Ctl *ctl, const Request *request, const char *name, const char *message) {
        Asked asked = describe(request);
        Status status;
        _cleanup_free_ char *sentence = error_to_sentence(name, message, &asked, &status);
        if (status != STATUS_UNKNOWN || request->kind != REQUEST_CHANGE)
                return ctl_fail(ctl, status, name, "%s", sentence);
        char id[2 * REQUEST_ID_SIZE + 1];
        for (size_t i = 0; i < REQUEST_ID_SIZE; i++)
                (void) snprintf(id + 2 * i, 3, "%02x", ctl->request_id[i]);
        return ctl_fail(ctl, status, name, "%s To ask again so that it happens once: the same command with "
                        "--request-id %s", sentence, id);
}

Status request_refuse_answer(Ctl *ctl, const Request *request, int error) {
        return ctl_fail(ctl, STATUS_FAILED, NULL,
                        "The answer of gpupoold to %s is of another form than this gpupoolctl (%s) "
                        "knows: %s.", sd_bus_message_get_member(request->message), GPUPOOL_VERSION, strerror(-error));
}

/* Whether to send it once more: the same request id makes that harmless. */
static bool should_try_again(Ctl *ctl, const Request *request, const char *error_name) {
        if (text_equal(error_name, ERROR_OUTCOME_UNKNOWN))
                return request->kind == REQUEST_CHANGE;
        if (!text_equal(error_name, "org.freedesktop.DBus.Error.NoReply"))
                return false;
        return bus_await_service(ctl->bus, now_boottime_us() + COMEBACK_US);
}

static int copy_message(Ctl *ctl, Request *request) {
        _cleanup_message_ sd_bus_message *copy = NULL;
        sd_bus_message *old = request->message;
        int r = sd_bus_message_new_method_call(ctl->bus, &copy, sd_bus_message_get_destination(old),
                                               sd_bus_message_get_path(old), sd_bus_message_get_interface(old),
                                               sd_bus_message_get_member(old));
        if (r < 0)
                return r;
        r = sd_bus_message_set_allow_interactive_authorization(copy, request->kind != REQUEST_READ &&
                                                               !ctl->no_ask_password);
        if (r < 0)
                return r;
        r = sd_bus_message_rewind(old, true);
        if (r < 0)
                return r;
        r = sd_bus_message_copy(copy, old, true);
        if (r < 0)
                return r;
        sd_bus_message_unref(old);
        request->message = STEAL(copy);
        return 0;
}

static void finish_message(Ctl *ctl, Request *request) {
        if (request->kind == REQUEST_CHANGE)
                append_request_id(ctl, request);
        if (request->options_open)
                request_close(request);
}

Status request_send(Ctl *ctl, Request *request, sd_bus_message **ret_answer) {
        finish_message(ctl, request);
        if (request->error == -EINVAL)
                return ctl_refuse_usage(ctl, "What you gave cannot be sent: it is not UTF-8 text.");
        if (request->error < 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "The call could not be put together: %s.",
                                strerror(-request->error));
        if (request->kind != REQUEST_READ && !ctl->no_ask_password)
                agent_open(&ctl->agent);

        uint64_t timeout_us = request->kind == REQUEST_READ ? READ_TIMEOUT_US : HUMAN_TIMEOUT_US;
        for (unsigned attempt = 1;; attempt++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                int r = sd_bus_call(ctl->bus, request->message, timeout_us, &error, ret_answer);
                if (r >= 0)
                        return STATUS_DONE;
                if (!sd_bus_error_is_set(&error))
                        sd_bus_error_set_errno(&error, r);
                if (r == -ECONNRESET || r == -ENOTCONN)
                        return refuse_error(ctl, request, "org.freedesktop.DBus.Error.Disconnected", "");
                if (attempt == ATTEMPTS || !should_try_again(ctl, request, error.name))
                        return refuse_error(ctl, request, error.name, error.message);
                r = copy_message(ctl, request);
                if (r < 0)
                        return refuse_error(ctl, request, error.name, error.message);
        }
}
