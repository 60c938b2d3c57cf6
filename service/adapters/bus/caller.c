/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/caller.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "util/text.h"

#define PASSWD_BUFFER_SIZE 16384

struct UserLookup {
        uint32_t uid;
        int socket;
        sd_event_source *answer, *timeout;
        UserLookupCallback callback;
        void *userdata;
};

/* All that the thread has; it frees it. */
typedef struct Errand {
        uint32_t uid;
        int socket;
} Errand;

static void *run_errand(void *argument) {
        _cleanup_free_ Errand *errand = argument;
        _cleanup_close_ int socket = errand->socket;
        _cleanup_free_ char *buffer = malloc(PASSWD_BUFFER_SIZE);
        struct passwd passwd, *found = NULL;
        const char *name = "";
        if (buffer && getpwuid_r(errand->uid, &passwd, buffer, PASSWD_BUFFER_SIZE, &found) == 0 && found)
                name = found->pw_name;
        (void) send(socket, name, strlen(name) + 1, MSG_NOSIGNAL);
        return NULL;
}

static void finish(UserLookup *lookup, const char *name) {
        char number[16];
        (void) snprintf(number, sizeof(number), "%u", lookup->uid);
        if (text_is_empty(name) || strlen(name) >= USER_NAME_SIZE || !text_is_printable(name))
                name = number;
        lookup->answer = sd_event_source_disable_unref(lookup->answer);
        lookup->timeout = sd_event_source_disable_unref(lookup->timeout);
        lookup->callback(name, lookup->userdata);       /* may free the lookup */
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        char name[256] = "";
        ssize_t n = recv(fd, name, sizeof(name) - 1, MSG_DONTWAIT);
        name[n > 0 ? n : 0] = '\0';
        finish(userdata, name);
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        finish(userdata, NULL);
        return 0;
}

static int start_errand(uint32_t uid, int socket) {
        _cleanup_free_ Errand *errand = malloc(sizeof(*errand));
        if (!errand)
                return -ENOMEM;
        *errand = (Errand) { .uid = uid, .socket = socket };

        pthread_attr_t attributes;
        pthread_t thread;
        int r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        if (r == 0)
                r = pthread_create(&thread, &attributes, run_errand, errand);
        (void) pthread_attr_destroy(&attributes);
        if (r != 0)
                return -r;
        (void) STEAL(errand);
        return 0;
}

int user_lookup_new(UserLookup **ret, sd_event *event, uint32_t uid, UserLookupCallback callback, void *userdata) {
        _cleanup_(user_lookup_freep) UserLookup *lookup = calloc(1, sizeof(*lookup));
        if (!lookup)
                return -ENOMEM;
        *lookup = (UserLookup) { .uid = uid, .socket = -1, .callback = callback, .userdata = userdata };

        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        lookup->socket = pair[0];
        _cleanup_close_ int other = pair[1];

        int r = sd_event_add_io(event, &lookup->answer, lookup->socket, EPOLLIN, on_answer, lookup);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &lookup->timeout, CLOCK_BOOTTIME, USER_NAME_TIMEOUT_US, 0,
                                               on_timeout, lookup);
        if (r >= 0)
                r = start_errand(uid, other);
        if (r < 0)
                return r;
        (void) steal_fd(&other);
        *ret = STEAL(lookup);
        return 0;
}

UserLookup *user_lookup_free(UserLookup *lookup) {
        if (!lookup)
                return NULL;
        sd_event_source_disable_unref(lookup->answer);
        sd_event_source_disable_unref(lookup->timeout);
        if (lookup->socket >= 0)
                (void) close(lookup->socket);
        free(lookup);
        return NULL;
}
