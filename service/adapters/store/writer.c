/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "util/array.h"

/* One transaction takes at most this many writes: a bound on what one failure makes wait. */
#define BATCH_MAX 256U

#define PAUSE_FIRST_MS 20U
#define PAUSE_LAST_MS 1000U

typedef struct Job {
        struct Job *next;
        bool read;              /* a read of the snapshot, else a write */
        uint64_t sequence;
        LogWrite write;
        LogSnapshot *answer;
        int error;
} Job;

typedef struct JobQueue {
        Job *first;
        Job **end;              /* where the next one is hung in; NULL means at first */
} JobQueue;

struct Writer {
        LogFile *file;          /* the thread's while it runs */
        sd_event_source *source;
        WriterCallbacks callbacks;
        void *userdata;
        pthread_t thread;
        bool has_thread;
        int event_fd;
        uint64_t last_sequence;
        int error;              /* as told to the loop */
        bool told_urgent;       /* the loop's own copy */

        pthread_mutex_t lock;   /* for what follows */
        pthread_cond_t wake;
        JobQueue queued;
        JobQueue finished;
        int trouble;
        const Job *postponed;   /* an own snapshot that finds no room; queued */
        bool urgent;
        bool news;                      /* came that may find room where what is tried again finds none */
        bool stop;
};

static void queue_push(JobQueue *queue, Job *job) {
        job->next = NULL;
        *(queue->end ? queue->end : &queue->first) = job;
        queue->end = &job->next;
}

static Job *queue_pop(JobQueue *queue) {
        Job *job = queue->first;
        if (!job)
                return NULL;
        queue->first = job->next;
        if (!queue->first)
                queue->end = NULL;
        job->next = NULL;
        return job;
}

static void write_clear(LogWrite *write) {
        log_snapshot_free(write->snapshot);
        log_entries_unref(write->entries, write->n_entries);
        *write = (LogWrite) {};
}

static void job_free(Job *job) {
        write_clear(&job->write);
        log_snapshot_free(job->answer);
        free(job);
}

/* ---- the thread ---- */

static void tell_loop(Writer *writer) {
        const uint64_t one = 1;
        /* Can only fail when 2^64 tellings are unread. */
        ssize_t n = write(writer->event_fd, &one, sizeof(one));
        (void) n;
}

/* Sleeps, holding the lock, until the pause is over, the writer is to stop, there is something else to try, or things
 * have become urgent. */
static void pause_or_stop(Writer *writer, unsigned pause_ms) {
        struct timespec until;
        bool urgent = writer->urgent;

        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += pause_ms / 1000;
        until.tv_nsec += (long) (pause_ms % 1000) * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000L;
        }
        while (!writer->stop && !writer->news && (urgent || !writer->urgent))
                if (pthread_cond_timedwait(&writer->wake, &writer->lock, &until) == ETIMEDOUT)
                        return;
}

static void set_trouble(Writer *writer, int error) {
        if (writer->trouble == error)
                return;
        writer->trouble = error;
        tell_loop(writer);
}

static void set_well(Writer *writer) {
        if (!writer->postponed)
                set_trouble(writer, 0);
}

static bool is_own_snapshot(const LogWrite *write) {
        return write->snapshot && write->keep_from != UINT64_MAX;
}

/* An own snapshot can wait, and must not take the room of what cannot. */
static bool may_be_urgent(const LogWrite *writes, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (is_own_snapshot(writes + i))
                        return false;
        return true;
}

/* Moves up to @limit writes from the queue's head into @batch, leaving them queued. Returns how many; 0 if a read (or
 * nothing) is at the head. */
static size_t gather(const JobQueue *queue, LogWrite *batch, size_t limit) {
        size_t n = 0;
        for (const Job *job = queue->first; job && !job->read && n < limit; job = job->next)
                batch[n++] = job->write;
        return n;
}

static void finish(Writer *writer, size_t n) {
        for (size_t i = 0; i < n; i++) {
                Job *job = queue_pop(&writer->queued);
                if (job == writer->postponed)
                        writer->postponed = NULL;
                queue_push(&writer->finished, job);
        }
        tell_loop(writer);
}

/* Behind all that is queued, if that is the first of it. Entries of later indexes and a snapshot of earlier ones come
 * to the same in either order, and no snapshot of a leader is taken while an own one is being written. */
static bool postpone_snapshot(Writer *writer) {
        const Job *first = writer->queued.first;
        if (first->read || !is_own_snapshot(&first->write) || first->write.set_vote || first->write.first_index > 0 ||
            !first->next)
                return false;
        writer->postponed = first;
        queue_push(&writer->queued, queue_pop(&writer->queued));
        return true;
}

static bool is_vote_only(const Job *job) {
        return !job->read && job->write.set_vote && !job->write.snapshot && job->write.first_index == 0;
}

/* The newest one, which makes the earlier ones true as well. */
static const Job *find_vote(const JobQueue *queue) {
        const Job *found = NULL;
        for (const Job *job = queue->first; job; job = job->next)
                if (is_vote_only(job))
                        found = job;
        return found;
}

static void finish_votes(Writer *writer, uint64_t sequence) {
        JobQueue queued = writer->queued;

        writer->queued = (JobQueue) {};
        for (Job *job; (job = queue_pop(&queued));)
                queue_push(is_vote_only(job) && job->sequence <= sequence ? &writer->finished : &writer->queued, job);
        tell_loop(writer);
}

/* After a failure: what is written is not what was given first, but nothing depends on that between vote and log. */
static void write_vote_first(Writer *writer) {
        const Job *job = find_vote(&writer->queued);
        if (!job)
                return;
        const LogWrite vote = job->write;
        uint64_t sequence = job->sequence;

        (void) pthread_mutex_unlock(&writer->lock);
        int r = log_file_write(writer->file, &vote, 1);
        (void) pthread_mutex_lock(&writer->lock);
        if (r == 0)
                finish_votes(writer, sequence);
}

static void do_read(Writer *writer) {
        Job *job = queue_pop(&writer->queued);

        (void) pthread_mutex_unlock(&writer->lock);
        job->error = log_file_read_snapshot(writer->file, &job->answer);
        (void) pthread_mutex_lock(&writer->lock);
        queue_push(&writer->finished, job);
        tell_loop(writer);
}

/* Only this thread takes from the queue's head, so the gathered writes stay valid without the lock. */
static void *work(void *userdata) {
        Writer *writer = userdata;
        LogWrite batch[BATCH_MAX];
        unsigned pause_ms = PAUSE_FIRST_MS;
        size_t limit = BATCH_MAX;

        (void) pthread_mutex_lock(&writer->lock);
        for (;;) {
                while (!writer->queued.first && !writer->stop)
                        (void) pthread_cond_wait(&writer->wake, &writer->lock);
                if (!writer->queued.first)
                        break;

                writer->news = false;
                size_t n = gather(&writer->queued, batch, limit);
                if (n == 0) {
                        do_read(writer);
                        continue;
                }
                bool urgent = writer->urgent && may_be_urgent(batch, n);
                (void) pthread_mutex_unlock(&writer->lock);
                int r = urgent ? log_file_write_urgently(writer->file, batch, n)
                               : log_file_write(writer->file, batch, n);
                (void) pthread_mutex_lock(&writer->lock);

                if (r < 0) {
                        set_trouble(writer, r);
                        write_vote_first(writer);
                        if (writer->stop)
                                break;
                        if (!writer->queued.first) {
                                set_well(writer);
                                continue;
                        }
                        bool one = limit == 1;
                        limit = 1;      /* a small one may find room where many do not */
                        if (r == -ENOSPC && postpone_snapshot(writer))
                                continue;
                        if (!one && n > 1)
                                continue;
                        pause_or_stop(writer, pause_ms);
                        pause_ms = pause_ms * 2 < PAUSE_LAST_MS ? pause_ms * 2 : PAUSE_LAST_MS;
                        continue;
                }
                finish(writer, n);
                set_well(writer);
                limit = writer->postponed ? 1 : BATCH_MAX;
                pause_ms = PAUSE_FIRST_MS;

                bool idle = !writer->queued.first;
                (void) pthread_mutex_unlock(&writer->lock);
                (void) log_file_tidy(writer->file, idle);
                (void) pthread_mutex_lock(&writer->lock);
        }
        (void) pthread_mutex_unlock(&writer->lock);
        return NULL;
}

/* ---- the loop ---- */

static int on_told(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Writer *writer = userdata;
        JobQueue finished;
        uint64_t count;
        int trouble;

        ssize_t n = read(fd, &count, sizeof(count));
        (void) n;

        (void) pthread_mutex_lock(&writer->lock);
        finished = writer->finished;
        writer->finished = (JobQueue) {};
        trouble = writer->trouble;
        (void) pthread_mutex_unlock(&writer->lock);

        if (trouble != writer->error) {
                writer->error = trouble;
                writer->callbacks.trouble(writer->userdata, trouble);
        }
        for (Job *job; (job = queue_pop(&finished)); job_free(job)) {
                if (job->read)
                        writer->callbacks.snapshot(writer->userdata, STEAL(job->answer), job->error);
                else
                        writer->callbacks.done(writer->userdata, job->sequence, &job->write);
        }
        return 0;
}

static int start_thread(Writer *writer) {
        sigset_t all, before;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&writer->thread, NULL, work, writer);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        writer->has_thread = r == 0;
        return -r;
}

int writer_new(LogFile *file, sd_event *event, const WriterCallbacks *callbacks, void *userdata, Writer **ret) {
        _cleanup_(writer_freep) Writer *writer = NULL;
        pthread_condattr_t attributes;
        int r;

        writer = calloc(1, sizeof(*writer));
        if (!writer)
                return -ENOMEM;
        writer->callbacks = *callbacks;
        writer->userdata = userdata;
        (void) pthread_mutex_init(&writer->lock, NULL);
        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&writer->wake, &attributes);
        (void) pthread_condattr_destroy(&attributes);

        writer->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (writer->event_fd < 0)
                return -errno;
        r = sd_event_add_io(event, &writer->source, writer->event_fd, EPOLLIN, on_told, writer);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(writer->source, "store-writer");
        writer->file = file;
        r = start_thread(writer);
        if (r < 0) {
                writer->file = NULL;
                return r;
        }
        *ret = STEAL(writer);
        return 0;
}

Writer *writer_free(Writer *writer) {
        if (!writer)
                return NULL;
        if (writer->has_thread) {
                (void) pthread_mutex_lock(&writer->lock);
                writer->stop = true;
                (void) pthread_cond_signal(&writer->wake);
                (void) pthread_mutex_unlock(&writer->lock);
                (void) pthread_join(writer->thread, NULL);
        }
        for (Job *job; (job = queue_pop(&writer->queued));)
                job_free(job);
        for (Job *job; (job = queue_pop(&writer->finished));)
                job_free(job);
        (void) sd_event_source_disable_unref(writer->source);
        if (writer->event_fd >= 0)
                (void) close(writer->event_fd);
        (void) log_file_close(writer->file);
        (void) pthread_cond_destroy(&writer->wake);
        (void) pthread_mutex_destroy(&writer->lock);
        free(writer);
        return NULL;
}

/* A vote overtakes what waits for room, and others overtake an own snapshot: neither waits for its next try, which on a
 * disk that stays full comes only once a second. */
static void enqueue(Writer *writer, Job *job) {
        (void) pthread_mutex_lock(&writer->lock);
        const Job *first = writer->queued.first;
        writer->news = writer->news || is_vote_only(job) || (first && !first->read && is_own_snapshot(&first->write));
        queue_push(&writer->queued, job);
        (void) pthread_cond_signal(&writer->wake);
        (void) pthread_mutex_unlock(&writer->lock);
}

int writer_submit(Writer *writer, const LogWrite *write, uint64_t *ret_sequence) {
        LogWrite taken = *write;

        Job *job = calloc(1, sizeof(*job));
        if (!job) {
                write_clear(&taken);
                return -ENOMEM;
        }
        job->write = taken;
        job->sequence = ++writer->last_sequence;
        if (ret_sequence)
                *ret_sequence = job->sequence;
        enqueue(writer, job);
        return 0;
}

int writer_read_snapshot(Writer *writer) {
        Job *job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        job->read = true;
        enqueue(writer, job);
        return 0;
}

void writer_set_urgent(Writer *writer, bool urgent) {
        if (writer->told_urgent == urgent)
                return;
        writer->told_urgent = urgent;
        (void) pthread_mutex_lock(&writer->lock);
        writer->urgent = urgent;
        (void) pthread_cond_signal(&writer->wake);
        (void) pthread_mutex_unlock(&writer->lock);
}

int writer_error(const Writer *writer) {
        return writer->error;
}
