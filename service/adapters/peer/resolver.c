/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

typedef enum LookupState {
        LOOKUP_QUEUED,
        LOOKUP_RUNNING,
        LOOKUP_DONE,
} LookupState;

typedef struct Lookup {
        struct Lookup *next;
        LookupState state;
        char host[ADDRESS_HOST_SIZE];
        char port[ADDRESS_PORT_SIZE];
        SocketAddress addresses[RESOLVER_ADDRESSES_MAX];
        size_t n_addresses;
        char sentence[128];
} Lookup;

/* What the loop and the threads have in common; it lives as long as one of them does. */
typedef struct Shared {
        pthread_mutex_t lock;
        unsigned references;
        unsigned n_threads;
        int event_fd;
        bool ends;
        Lookup *lookups;                /* in the order in which they were asked for */
} Shared;

struct ResolverRequest {
        ResolverRequest *next;
        Resolver *resolver;
        Lookup *lookup;
        ResolverFound found;
        void *userdata;
};

struct Resolver {
        Shared *shared;
        sd_event_source *source;
        ResolverRequest *requests;
};

/* With the lock held, which it gives back. */
static void unlock_and_unref(Shared *shared) {
        bool last = --shared->references == 0;
        (void) pthread_mutex_unlock(&shared->lock);
        if (!last)
                return;
        for (Lookup *lookup; (lookup = shared->lookups);) {
                shared->lookups = lookup->next;
                free(lookup);
        }
        (void) close(shared->event_fd);
        (void) pthread_mutex_destroy(&shared->lock);
        free(shared);
}

/* In a thread, without the lock. */
static void look_up(Lookup *lookup) {
        const struct addrinfo hints = {
                .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG,
                .ai_socktype = SOCK_STREAM,
        };
        struct addrinfo *found = NULL;
        int r = getaddrinfo(lookup->host, lookup->port, &hints, &found);
        if (r != 0) {
                (void) snprintf(lookup->sentence, sizeof(lookup->sentence), "the name does not resolve: %s",
                                gai_strerror(r));
                return;
        }
        for (struct addrinfo *a = found; a && lookup->n_addresses < RESOLVER_ADDRESSES_MAX; a = a->ai_next) {
                SocketAddress *address = &lookup->addresses[lookup->n_addresses++];
                memcpy(&address->storage, a->ai_addr, a->ai_addrlen);
                address->size = a->ai_addrlen;
        }
        freeaddrinfo(found);
}

static Lookup *next_queued(Shared *shared) {
        if (shared->ends)
                return NULL;
        for (Lookup *lookup = shared->lookups; lookup; lookup = lookup->next)
                if (lookup->state == LOOKUP_QUEUED)
                        return lookup;
        return NULL;
}

static void *work(void *userdata) {
        Shared *shared = userdata;
        (void) pthread_mutex_lock(&shared->lock);
        for (Lookup *lookup; (lookup = next_queued(shared));) {
                lookup->state = LOOKUP_RUNNING;
                (void) pthread_mutex_unlock(&shared->lock);
                look_up(lookup);
                (void) pthread_mutex_lock(&shared->lock);
                lookup->state = LOOKUP_DONE;
                (void) eventfd_write(shared->event_fd, 1);
        }
        shared->n_threads--;
        unlock_and_unref(shared);
        return NULL;
}

/* With the lock held. */
static int start_thread(Shared *shared) {
        if (shared->n_threads >= RESOLVER_THREADS_MAX)
                return 0;
        pthread_attr_t attributes;
        sigset_t all, before;
        pthread_t thread;

        (void) pthread_attr_init(&attributes);
        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&thread, &attributes, work, shared);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        if (r != 0)
                return shared->n_threads > 0 ? 0 : -r;
        shared->n_threads++;
        shared->references++;
        return 0;
}

static void remove_lookup(Shared *shared, Lookup *lookup) {
        for (Lookup **place = &shared->lookups; *place; place = &(*place)->next)
                if (*place == lookup) {
                        *place = lookup->next;
                        break;
                }
        free(lookup);
}

static void take_request_out(ResolverRequest *request) {
        for (ResolverRequest **place = &request->resolver->requests; *place; place = &(*place)->next)
                if (*place == request) {
                        *place = request->next;
                        return;
                }
}

static bool is_asked_for(const Resolver *resolver, const Lookup *lookup) {
        for (const ResolverRequest *request = resolver->requests; request; request = request->next)
                if (request->lookup == lookup)
                        return true;
        return false;
}

static ResolverRequest *request_of(Resolver *resolver, const Lookup *lookup) {
        for (ResolverRequest *request = resolver->requests; request; request = request->next)
                if (request->lookup == lookup)
                        return request;
        return NULL;
}

static Lookup *take_done(Shared *shared) {
        Lookup *found = NULL;
        (void) pthread_mutex_lock(&shared->lock);
        for (Lookup **place = &shared->lookups; *place; place = &(*place)->next)
                if ((*place)->state == LOOKUP_DONE) {
                        found = *place;
                        *place = found->next;
                        break;
                }
        (void) pthread_mutex_unlock(&shared->lock);
        return found;
}

static int on_told(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Resolver *resolver = userdata;
        eventfd_t count;
        (void) eventfd_read(fd, &count);
        for (Lookup *done; (done = take_done(resolver->shared)); free(done))
                for (ResolverRequest *request; (request = request_of(resolver, done));) {
                        take_request_out(request);
                        request->found(done->addresses, done->n_addresses, done->sentence, request->userdata);
                        free(request);
                }
        return 0;
}

int resolver_new(Resolver **ret, sd_event *event) {
        _cleanup_(resolver_freep) Resolver *resolver = calloc(1, sizeof(Resolver));
        if (!resolver)
                return -ENOMEM;
        Shared *shared = resolver->shared = calloc(1, sizeof(Shared));
        if (!shared)
                return -ENOMEM;
        (void) pthread_mutex_init(&shared->lock, NULL);
        shared->references = 1;
        shared->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (shared->event_fd < 0)
                return -errno;
        int r = sd_event_add_io(event, &resolver->source, shared->event_fd, EPOLLIN, on_told, resolver);
        if (r < 0)
                return r;
        *ret = STEAL(resolver);
        return 0;
}

Resolver *resolver_free(Resolver *resolver) {
        if (!resolver)
                return NULL;
        (void) sd_event_source_disable_unref(resolver->source);
        if (resolver->shared) {
                (void) pthread_mutex_lock(&resolver->shared->lock);
                resolver->shared->ends = true;
                unlock_and_unref(resolver->shared);
        }
        free(resolver);
        return NULL;
}

/* With the lock held. */
static Lookup *find_or_add(Shared *shared, const char *host, const char *port) {
        Lookup **end = &shared->lookups;
        for (; *end; end = &(*end)->next)
                if ((*end)->state != LOOKUP_DONE && strcmp((*end)->host, host) == 0 && strcmp((*end)->port, port) == 0)
                        return *end;
        Lookup *lookup = calloc(1, sizeof(Lookup));
        if (!lookup)
                return NULL;
        (void) snprintf(lookup->host, sizeof(lookup->host), "%s", host);
        (void) snprintf(lookup->port, sizeof(lookup->port), "%s", port);
        *end = lookup;
        return lookup;
}

int resolver_ask(Resolver *resolver, const char *host, const char *port, ResolverFound found, void *userdata,
                 ResolverRequest **ret) {
        Shared *shared = resolver->shared;
        ResolverRequest *request = calloc(1, sizeof(ResolverRequest));
        if (!request)
                return -ENOMEM;

        (void) pthread_mutex_lock(&shared->lock);
        Lookup *lookup = find_or_add(shared, host, port);
        int r = !lookup ? -ENOMEM : lookup->state == LOOKUP_QUEUED ? start_thread(shared) : 0;
        if (r < 0 && lookup && !is_asked_for(resolver, lookup))
                remove_lookup(shared, lookup);
        (void) pthread_mutex_unlock(&shared->lock);
        if (r < 0) {
                free(request);
                return r;
        }
        *request = (ResolverRequest) {
                .next = resolver->requests,
                .resolver = resolver,
                .lookup = lookup,
                .found = found,
                .userdata = userdata,
        };
        resolver->requests = request;
        *ret = request;
        return 0;
}

ResolverRequest *resolver_request_free(ResolverRequest *request) {
        if (!request)
                return NULL;
        Shared *shared = request->resolver->shared;
        take_request_out(request);
        (void) pthread_mutex_lock(&shared->lock);
        if (request->lookup->state == LOOKUP_QUEUED && !is_asked_for(request->resolver, request->lookup))
                remove_lookup(shared, request->lookup);
        (void) pthread_mutex_unlock(&shared->lock);
        free(request);
        return NULL;
}
