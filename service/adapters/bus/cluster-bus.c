/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What changes the cluster itself: who is a member, at what level it works, and backups of what it has decided. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/describe.h"
#include "core/names.h"
#include "util/log.h"
#include "util/text.h"

static int ask_manage_cluster(Bus *bus, sd_bus_message *m, const char *node, const char *verb, const Caller **ret,
                              sd_bus_error *error) {
        int r = ask_caller(bus, m, ret, error);
        if (r != ASK_GO)
                return r;
        return ask_right(bus, m, &((Right) { .action = ACTION_MANAGE_CLUSTER, .node = node, .verb = verb }), error);
}

/* ---- coming */

METHOD(method_invite) {
        Bus *bus = ((Object *) userdata)->bus;
        uint64_t seconds = INVITE_SECONDS_DEFAULT;
        RequestOption request = {};
        const Option options[] = {
                { "expires", "t", option_read_u64, &seconds, NULL },
                OPTION_REQUEST(&request),
        };
        const Caller *caller;
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r < 0)
                return r;
        if (seconds < INVITE_SECONDS_LEAST || seconds > INVITE_SECONDS_MOST)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "expires is %u to %u seconds",
                                         INVITE_SECONDS_LEAST, INVITE_SECONDS_MOST);
        r = ask_manage_cluster(bus, m, NULL, "invite", &caller, error);
        if (r != ASK_GO)
                return r;
        return request_invite(bus, m, caller, seconds * 1000, error);
}

METHOD(method_join) {
        Bus *bus = ((Object *) userdata)->bus;
        RequestOption request;
        const Caller *caller;
        const char *token, *name = NULL;
        _cleanup_free_ char *sentence = NULL;
        const Job *job = NULL;
        int r = sd_bus_message_read(m, "s", &token);
        if (r >= 0 && (text_is_empty(token) || strlen(token) > TOKEN_LENGTH_MAX))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "the token is what gpupoolctl cluster invite printed, 1 to %u bytes",
                                         TOKEN_LENGTH_MAX);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "join", &caller, error);
        if (r != ASK_GO)
                return r;

        r = bus->service->join(bus->service_userdata, token, caller, &job, &name, &sentence);
        ask_done(bus, m);
        if (r < 0)
                return r;
        if (!job)
                return sd_bus_error_set(error, name ?: ERROR_FAILED, sentence ?: "joining could not be begun");
        return sd_bus_reply_method_return(m, "o", path_of_job(job->id).text);
}

/* ---- going */

METHOD(method_leave) {
        Bus *bus = ((Object *) userdata)->bus;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "leave", &caller, error);
        if (r != ASK_GO)
                return r;
        return request_leave(bus, m, caller, &request, error);
}

METHOD(method_reset) {
        Bus *bus = ((Object *) userdata)->bus;
        bool forget = false;
        RequestOption request = {};
        const Option options[] = {
                { "forget", "b", option_read_boolean, &forget, NULL },
                OPTION_REQUEST(&request),
        };
        const Caller *caller;
        const char *name = NULL;
        _cleanup_free_ char *sentence = NULL;
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0 && !forget)
                return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT,
                                        "all that this node knows of its cluster would be forgotten: option forget "
                                        "must be true");
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "reset", &caller, error);
        if (r != ASK_GO)
                return r;

        r = bus->service->reset(bus->service_userdata, caller, &name, &sentence);
        ask_done(bus, m);
        if (r < 0)
                return r;
        if (name)
                return sd_bus_error_set(error, name, sentence ?: "the node cannot be reset now");
        return sd_bus_reply_method_return(m, NULL);
}

METHOD(method_remove_node) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const NodeRecord *record = object->node.record;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (!record)
                return sd_bus_error_set(error, ERROR_CONFLICT, "it is no member yet, so it cannot be removed");
        r = ask_manage_cluster(bus, m, record->name, "remove", &caller, error);
        if (r != ASK_GO)
                return r;

        NodeId node = record->id;
        Gpupool1__RemoveNode command = GPUPOOL1__REMOVE_NODE__INIT;
        command.node = id_message_borrow(node.bytes);
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE;
        entry.remove_node = &command;
        return request_submit(bus, m, caller, ACTION_MANAGE_CLUSTER, &request, &entry, NULL, error);
}

/* ---- the level */

METHOD(method_set_functional_level) {
        Bus *bus = ((Object *) userdata)->bus;
        uint32_t level;
        bool dry_run = false;
        RequestOption request = {};
        const Option options[] = {
                { "dry-run", "b", option_read_boolean, &dry_run, NULL },
                OPTION_REQUEST(&request),
        };
        const Caller *caller;
        int r = sd_bus_message_read(m, "u", &level);
        if (r >= 0)
                r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0 && level == 0)
                return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT, "level is 1 or more");
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "set-functional-level", &caller, error);
        if (r != ASK_GO)
                return r;
        if (dry_run) {
                ask_done(bus, m);
                return reply_obstacles(bus, m, level, OBSTACLES_OR_NONE);
        }

        Gpupool1__SetLevel command = GPUPOOL1__SET_LEVEL__INIT;
        command.level = level;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_LEVEL;
        entry.set_level = &command;
        return request_set_level(bus, m, caller, &request, &entry, error);
}

/* ---- backups */

static int write_all(int fd, const uint8_t *bytes, size_t size) {
        for (size_t done = 0; done < size;) {
                ssize_t n = pwrite(fd, bytes + done, size - done, (off_t) done);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        done += (size_t) n;
        }
        return 0;
}

/* Written by offset, so that whoever gets it finds it at its beginning. */
static int make_sealed(const uint8_t *bytes, size_t size, int *ret) {
        _cleanup_close_ int fd = memfd_create("gpupool-registry", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        int r = write_all(fd, bytes, size);
        if (r < 0)
                return r;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        *ret = steal_fd(&fd);
        return 0;
}

/* A backup, or what placement goes by as text. */
static int encode_cluster(const World *world, bool as_text, uint8_t **ret, size_t *ret_size) {
        char *text = NULL;
        if (!as_text)
                return registry_encode_backup(world->registry, ret, ret_size);
        int r = describe_write(world, &text);
        if (r < 0)
                return r;
        *ret = (uint8_t *) text;
        *ret_size = strlen(text);
        return 0;
}

METHOD(method_export) {
        Bus *bus = ((Object *) userdata)->bus;
        const Caller *caller;
        _cleanup_free_ uint8_t *bytes = NULL;
        _cleanup_close_ int fd = -1;
        bool as_text = false;
        size_t size;
        const Option options[] = {
                { "text", "b", option_read_boolean, &as_text, NULL },
        };
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "export", &caller, error);
        if (r != ASK_GO)
                return r;
        log_notice("user %s takes a %s of the cluster", caller->user, as_text ? "description" : "backup");
        ask_done(bus, m);

        r = encode_cluster(bus_world(bus), as_text, &bytes, &size);
        if (r == -E2BIG)
                return sd_bus_error_set(error, ERROR_LIMITS_EXCEEDED,
                                        "the registry is larger than a backup may be: delete VMs that nobody needs");
        if (r >= 0)
                r = make_sealed(bytes, size, &fd);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(m, "h", fd);
}

static int refuse_state(sd_bus_error *error, const char *why) {
        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "state: %s; give a file that gpupoolctl export wrote",
                                 why);
}

/* Only what cannot make the reader wait: no pipe, no socket, no device. */
static int read_state(int fd, uint8_t **ret, size_t *ret_size, sd_bus_error *error) {
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return refuse_state(error, "it is no regular file and no memory file");
        if (st.st_size <= 0)
                return refuse_state(error, "it is empty");
        if ((uint64_t) st.st_size > IMPORT_SIZE_MAX)
                return refuse_state(error, "it is larger than 64 MiB");

        size_t size = (size_t) st.st_size, done = 0;
        _cleanup_free_ uint8_t *bytes = malloc(size);
        if (!bytes)
                return -ENOMEM;
        while (done < size) {
                ssize_t n = pread(fd, bytes + done, size - done, (off_t) done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return refuse_state(error, "it cannot be read");
                if (n == 0)
                        return refuse_state(error, "it became shorter while it was read");
                done += (size_t) n;
        }
        *ret = STEAL(bytes);
        *ret_size = size;
        return 0;
}

/* Refused here already, so that nothing that cannot be restored goes through the history of all nodes. */
static int check_state(const uint8_t *bytes, size_t size, sd_bus_error *error) {
        _cleanup_(registry_freep) Registry *registry = NULL;
        int r = registry_decode(bytes, size, &registry);
        if (r == SNAPSHOT_GARBAGE)
                return refuse_state(error, "it is no backup of a cluster, or it is damaged");
        if (r == SNAPSHOT_NEWER)
                return sd_bus_error_set(error, ERROR_LEVEL_TOO_LOW,
                                        "state: the backup was written by a newer gpupool: upgrade this node first");
        return r;
}

METHOD(method_import) {
        Bus *bus = ((Object *) userdata)->bus;
        RequestOption request;
        const Caller *caller;
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size = 0;
        int fd;
        int r = sd_bus_message_read(m, "h", &fd);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_cluster(bus, m, NULL, "import", &caller, error);
        if (r != ASK_GO)
                return r;
        /* Not before: even the size of a file can keep the reader waiting where somebody's program is its file system,
         * and nobody but an administrator may do that. */
        r = read_state(fd, &bytes, &size, error);
        if (r >= 0)
                r = check_state(bytes, size, error);
        if (r < 0) {
                ask_done(bus, m);
                return r;
        }
        return request_import(bus, m, caller, &request, bytes, size, error);
}
