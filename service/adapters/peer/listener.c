/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "util/log.h"

#define BACKLOG 128
#define ACCEPTS_A_TURN 16U              /* so that a flood does not keep members waiting */
#define REST_US (200ULL * 1000)         /* when there are no descriptors left */

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

struct Listener {
        int fd;
        sd_event *event;
        sd_event_source *io, *rest;
        bool told;                      /* that there are no descriptors */
        ListenerAccepted accepted;
        void *userdata;
};

/* Looking again at once would only burn the processor. */
static void take_rest(Listener *listener, int error) {
        uint64_t now = 0;
        if (!listener->told)
                log_warning("Connections of other nodes wait: %s", strerror(error));
        listener->told = true;
        (void) sd_event_now(listener->event, CLOCK_BOOTTIME, &now);
        (void) sd_event_source_set_enabled(listener->io, SD_EVENT_OFF);
        (void) sd_event_source_set_time(listener->rest, now + REST_US);
        (void) sd_event_source_set_enabled(listener->rest, SD_EVENT_ONESHOT);
}

static int on_rested(sd_event_source *source, uint64_t usec, void *userdata) {
        Listener *listener = userdata;
        (void) sd_event_source_set_enabled(listener->io, SD_EVENT_ON);
        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Listener *listener = userdata;
        for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
                SocketAddress from = { .size = sizeof(from.storage) };
                int accepted = accept4(fd, (struct sockaddr *) &from.storage, &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (accepted < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
                        take_rest(listener, errno);
                        return 0;
                }
                if (accepted < 0 && errno == EAGAIN)
                        return 0;
                if (accepted < 0)
                        continue;       /* this one broke before it was taken */
                listener->told = false;
                listener->accepted(accepted, &from, listener->userdata);
        }
        return 0;
}

static int open_socket(const SocketAddress *address, bool v6_only, int *ret) {
        int on = 1, only = v6_only;
        bool is_v6 = address->storage.ss_family == AF_INET6;
        _cleanup_close_ int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                        IPPROTO_TCP);
        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                return -errno;
        if (is_v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
                return -errno;
        if (setsockopt(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, is_v6 ? IPV6_FREEBIND : IP_FREEBIND, &on, sizeof(on)) < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *) &address->storage, address->size) < 0)
                return -errno;
        if (listen(fd, BACKLOG) < 0)
                return -errno;
        *ret = steal_fd(&fd);
        return 0;
}

/* A host whose kernel has no IPv6 listens everywhere it can. */
static int open_or_fall_back(SocketAddress *address, const char *port, bool v6_only, int *ret) {
        int r = open_socket(address, v6_only, ret);
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &address->storage;
        if (r != -EAFNOSUPPORT || address->storage.ss_family != AF_INET6 || v6_only ||
            memcmp(&in6->sin6_addr, &in6addr_any, sizeof(in6addr_any)) != 0)
                return r;
        r = address_from_number("0.0.0.0", port, address);
        return r < 0 ? r : open_socket(address, false, ret);
}

static int add_sources(Listener *listener) {
        int r = sd_event_add_io(listener->event, &listener->io, listener->fd, EPOLLIN, on_io, listener);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(listener->io, "peer-listener");
        r = sd_event_add_time(listener->event, &listener->rest, CLOCK_BOOTTIME, 0, REST_US / 4, on_rested, listener);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(listener->rest, SD_EVENT_OFF);
}

int listener_new(Listener **ret, sd_event *event, const char *text, bool v6_only, ListenerAccepted accepted,
                 void *userdata) {
        char host[ADDRESS_HOST_SIZE], port[ADDRESS_PORT_SIZE];
        SocketAddress address;
        int r = address_split(text, host, port);
        if (r < 0)
                return r;
        r = address_from_number(host, port, &address);
        if (r < 0)
                return r;
        _cleanup_(listener_freep) Listener *listener = calloc(1, sizeof(Listener));
        if (!listener)
                return -ENOMEM;
        listener->fd = -1;
        listener->event = sd_event_ref(event);
        listener->accepted = accepted;
        listener->userdata = userdata;
        r = open_or_fall_back(&address, port, v6_only, &listener->fd);
        if (r < 0)
                return r;
        r = add_sources(listener);
        if (r < 0)
                return r;
        *ret = STEAL(listener);
        return 0;
}

Listener *listener_free(Listener *listener) {
        if (!listener)
                return NULL;
        (void) sd_event_source_disable_unref(listener->io);
        (void) sd_event_source_disable_unref(listener->rest);
        closep(&listener->fd);
        sd_event_unref(listener->event);
        free(listener);
        return NULL;
}

uint16_t listener_port(const Listener *listener) {
        SocketAddress address = { .size = sizeof(address.storage) };
        if (getsockname(listener->fd, (struct sockaddr *) &address.storage, &address.size) < 0)
                return 0;
        if (address.storage.ss_family == AF_INET6)
                return ntohs(((const struct sockaddr_in6 *) &address.storage)->sin6_port);
        return ntohs(((const struct sockaddr_in *) &address.storage)->sin_port);
}
