/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/files/path-reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define STACK_SIZE (512U * 1024U)
#define TIMER_ACCURACY_US 1000U

/* Shared by the loop and the thread; the last to let go frees it. sights[i] is written before at is more than i. */
typedef struct Round {
        _Atomic unsigned references;
        PathSight (*look)(const char *path);
        TextList paths;
        PathSight *sights;
        _Atomic size_t at;              /* is being looked at */
        _Atomic uint64_t since_us;      /* CLOCK_MONOTONIC; so long */
        _Atomic bool given_up;          /* the look was told as hung: no further one */
        int wake_fd;                    /* thread → loop: over */
} Round;

struct PathReader {
        sd_event *event;
        PathReaderConfig config;
        sd_event_source *wake, *watchdog;
        Round *round;                   /* NULL: none is under way */
};

static uint64_t now_us(void) {
        struct timespec now = {};
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static Round *round_unref(Round *round) {
        if (!round || --round->references > 0)
                return NULL;
        text_list_clear(&round->paths);
        free(round->sights);
        closep(&round->wake_fd);
        free(round);
        return NULL;
}
DEFINE_CLEANUP(Round *, round_unref);

static void *run_round(void *argument) {
        Round *round = argument;
        for (size_t i = 0; i < round->paths.n && !round->given_up; i++) {
                round->at = i;
                round->since_us = now_us();
                PathSight sight = round->look(round->paths.items[i]);
                if (!round->given_up)
                        round->sights[i] = sight;
                round->at = i + 1;
        }
        (void) eventfd_write(round->wake_fd, 1);
        (void) round_unref(round);
        return NULL;
}

/* A thread that takes no signals: they are the loop's. */
static int start_thread(Round *round) {
        sigset_t all, before;
        pthread_attr_t attributes;
        pthread_t thread;
        int r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        round->references++;
        r = pthread_create(&thread, &attributes, run_round, round);
        if (r != 0)
                round->references--;
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -r;
}

static void let_go(PathReader *reader) {
        reader->wake = sd_event_source_disable_unref(reader->wake);
        (void) sd_event_source_set_enabled(reader->watchdog, SD_EVENT_OFF);
        reader->round = round_unref(reader->round);
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        PathReader *reader = userdata;
        _cleanup_(round_unrefp) Round *round = STEAL(reader->round);
        let_go(reader);
        reader->config.done(reader->config.userdata, &round->paths, round->sights);
        return 0;
}

static void arm_watchdog(PathReader *reader, uint64_t at_us) {
        (void) sd_event_source_set_time(reader->watchdog, at_us);
        (void) sd_event_source_set_enabled(reader->watchdog, SD_EVENT_ONESHOT);
}

/* Not the round has the deadline, but each look. */
static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata) {
        PathReader *reader = userdata;
        Round *round = reader->round;
        uint64_t since_us = round->since_us, now = now_us();
        size_t at = round->at;
        if (now < since_us + reader->config.deadline_us || at >= round->paths.n) {
                arm_watchdog(reader, (at < round->paths.n ? since_us : now) + reader->config.deadline_us);
                return 0;
        }
        round->given_up = true;
        reader->config.hung(reader->config.userdata, &round->paths, round->sights, at);
        return 0;
}

int path_reader_new(PathReader **ret, sd_event *event, const PathReaderConfig *config) {
        _cleanup_(path_reader_freep) PathReader *reader = calloc(1, sizeof(*reader));
        if (!reader)
                return -ENOMEM;
        reader->event = sd_event_ref(event);
        reader->config = *config;
        if (!reader->config.look)
                reader->config.look = path_look;
        int r = sd_event_add_time(event, &reader->watchdog, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, on_watchdog,
                                  reader);
        if (r >= 0)
                r = sd_event_source_set_enabled(reader->watchdog, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(reader);
        return 0;
}

PathReader *path_reader_free(PathReader *reader) {
        if (!reader)
                return NULL;
        if (reader->round)
                reader->round->given_up = true;
        let_go(reader);
        reader->watchdog = sd_event_source_disable_unref(reader->watchdog);
        reader->event = sd_event_unref(reader->event);
        free(reader);
        return NULL;
}

static int make_round(const PathReader *reader, size_t n, Round **ret) {
        _cleanup_(round_unrefp) Round *round = calloc(1, sizeof(*round));
        if (!round)
                return -ENOMEM;
        round->references = 1;
        round->look = reader->config.look;
        round->since_us = now_us();
        round->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (round->wake_fd < 0)
                return -errno;
        round->sights = calloc(n + 1, sizeof(*round->sights));
        if (!round->sights)
                return -ENOMEM;
        *ret = STEAL(round);
        return 0;
}

int path_reader_look(PathReader *reader, TextList *paths) {
        _cleanup_(round_unrefp) Round *round = NULL;
        if (reader->round)
                return 0;
        int r = make_round(reader, paths->n, &round);
        if (r >= 0)
                r = sd_event_add_io(reader->event, &reader->wake, round->wake_fd, EPOLLIN, on_wake, reader);
        if (r < 0)
                return r;
        round->paths = *paths;
        r = start_thread(round);
        if (r < 0) {
                round->paths = (TextList) {};
                reader->wake = sd_event_source_disable_unref(reader->wake);
                return r;
        }
        *paths = (TextList) {};
        reader->round = STEAL(round);
        arm_watchdog(reader, now_us() + reader->config.deadline_us);
        return 1;
}

bool path_reader_is_busy(const PathReader *reader) {
        return reader->round;
}
