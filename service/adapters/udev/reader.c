/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "adapters/udev/host-reader.h"

#define TIMER_ACCURACY_US 1000U
#define STACK_SIZE (512U * 1024U)

/* Shared by the loop and the thread; the last to let go frees it. Behind the lock: job, state, result, skip, quit. */
typedef struct ReadThread {
        _Atomic unsigned references;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        int wake_fd;                    /* thread → loop: a result is there */
        Sysfs sysfs;
        ReadProgress progress;
        ReadJob job;
        enum { THREAD_IDLE, THREAD_BUSY, THREAD_DONE } state;
        ReadResult result;
        ARRAY(PciAddress) skip;         /* devices that a scan must not touch */
        bool quit;
        /* The loop's alone. */
        pthread_t id;
        Reader *reader;
        sd_event_source *wake;
        PciAddress stuck_in;
} ReadThread;

struct Reader {
        sd_event *event;
        Sysfs sysfs;                    /* each thread has its own copy */
        uint64_t deadline_us;
        ReaderEvents events;
        void *userdata;
        sd_event_source *next, *watchdog;
        ARRAY(ReadJob) queue;
        ReadThread *current;            /* NULL: none yet, or the last got stuck */
        bool busy;
        ARRAY(ReadThread *) stuck;
};

static void clear_result(ReadResult *result) {
        array_clear(&result->gpus);
        device_reading_clear(&result->device);
        node_facts_clear(&result->host);
}

static ReadThread *thread_unref(ReadThread *thread) {
        if (!thread || --thread->references > 0)
                return NULL;
        clear_result(&thread->result);
        array_clear(&thread->skip);
        sysfs_close(&thread->sysfs);
        closep(&thread->wake_fd);
        (void) pthread_cond_destroy(&thread->changed);
        (void) pthread_mutex_destroy(&thread->lock);
        free(thread);
        return NULL;
}
DEFINE_CLEANUP(ReadThread *, thread_unref);

static bool must_skip(const ReadThread *thread, PciAddress address) {
        for (size_t i = 0; i < thread->skip.n; i++)
                if (pci_address_equal(thread->skip.items[i], address))
                        return true;
        return false;
}

static bool is_nvswitch(const ReadThread *thread, PciAddress address, uint32_t class) {
        GpuIdentity identity;
        if (!pci_class_is_nvswitch(class))
                return false;
        gpu_identity_read(&thread->sysfs, address, &identity);
        return identity.vendor == PCI_VENDOR_NVIDIA;
}

static int scan(ReadThread *thread, ReadResult *result) {
        TextList names = {};
        int r = sysfs_list(&thread->sysfs, &names, "sys/bus/pci/devices");
        for (size_t i = 0; i < names.n && r >= 0; i++) {
                PciAddress address;
                uint32_t class;
                if (pci_address_from_text(names.items[i], &address) < 0 || must_skip(thread, address))
                        continue;
                thread->progress.device = pci_address_pack(address);
                if (pci_class_read(&thread->sysfs, address, &class) < 0)
                        continue;
                result->has_nvswitch = result->has_nvswitch || is_nvswitch(thread, address, class);
                if (!pci_class_is_gpu(class))
                        continue;
                ScannedGpu gpu = { .class = class };
                gpu_identity_read(&thread->sysfs, address, &gpu.identity);
                /* Names of one domain sort like addresses; longer domains need not. */
                size_t at = result->gpus.n;
                while (at > 0 && pci_address_compare(result->gpus.items[at - 1].identity.address, address) > 0)
                        at--;
                r = array_insert(&result->gpus, at, &gpu);
        }
        text_list_clear(&names);
        /* A host without a PCI bus has no GPUs. */
        return r == -ENOENT ? 0 : r;
}

static ReadResult do_job(ReadThread *thread, NameDatabase **names, ReadJob job) {
        ReadResult result = { .job = job };
        thread->progress.device = pci_address_pack(job.address);
        switch (job.kind) {
        case READ_SCAN:
                /* The database may have been installed or updated since. */
                *names = name_database_free(*names);
                result.error = name_database_new(names);
                if (result.error >= 0)
                        result.error = scan(thread, &result);
                break;
        case READ_DEVICE:
                result.error = gpu_read(&thread->sysfs, *names, job.address, &result.device);
                break;
        case READ_HOST:
                result.error = host_read(&thread->sysfs, &result.host);
                break;
        }
        if (result.error < 0)
                clear_result(&result);
        return result;
}

static void *run_thread(void *argument) {
        ReadThread *thread = argument;
        NameDatabase *names = NULL;
        if (name_database_new(&names) < 0)
                names = NULL;

        (void) pthread_mutex_lock(&thread->lock);
        while (!thread->quit) {
                if (thread->state != THREAD_BUSY) {
                        (void) pthread_cond_wait(&thread->changed, &thread->lock);
                        continue;
                }
                ReadJob job = thread->job;
                (void) pthread_mutex_unlock(&thread->lock);
                ReadResult result = do_job(thread, &names, job);
                (void) pthread_mutex_lock(&thread->lock);
                thread->result = result;
                thread->state = THREAD_DONE;
                (void) eventfd_write(thread->wake_fd, 1);
        }
        (void) pthread_mutex_unlock(&thread->lock);

        (void) name_database_free(names);
        (void) thread_unref(thread);
        return NULL;
}

/* A thread that takes no signals: they are the loop's. */
static int start_thread(ReadThread *thread) {
        sigset_t all, before;
        pthread_attr_t attributes;
        int r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        thread->references = 2;
        r = pthread_create(&thread->id, &attributes, run_thread, thread);
        if (r != 0)
                thread->references = 1;
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -r;
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int thread_new(ReadThread **ret, Reader *reader) {
        _cleanup_(thread_unrefp) ReadThread *thread = calloc(1, sizeof(ReadThread));
        if (!thread)
                return -ENOMEM;
        thread->references = 1;
        thread->sysfs = SYSFS_NONE;
        thread->reader = reader;
        (void) pthread_mutex_init(&thread->lock, NULL);
        (void) pthread_cond_init(&thread->changed, NULL);
        thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (thread->wake_fd < 0)
                return -errno;
        int r = sysfs_copy(&reader->sysfs, &thread->sysfs);
        if (r < 0)
                return r;
        thread->sysfs.progress = &thread->progress;
        r = sd_event_add_io(reader->event, &thread->wake, thread->wake_fd, EPOLLIN, on_wake, thread);
        if (r >= 0)
                r = start_thread(thread);
        if (r < 0) {
                thread->wake = sd_event_source_disable_unref(thread->wake);
                return r;
        }
        *ret = STEAL(thread);
        return 0;
}

/* Lets a thread go. One that is idle ends at once and is waited for; another frees itself whenever it comes back. */
static void thread_dismiss(ReadThread *thread, bool is_idle) {
        if (!thread)
                return;
        thread->wake = sd_event_source_disable_unref(thread->wake);
        (void) pthread_mutex_lock(&thread->lock);
        thread->quit = true;
        (void) pthread_cond_signal(&thread->changed);
        (void) pthread_mutex_unlock(&thread->lock);
        if (is_idle)
                (void) pthread_join(thread->id, NULL);
        else
                (void) pthread_detach(thread->id);
        (void) thread_unref(thread);
}

static void next_later(Reader *reader) {
        (void) sd_event_source_set_enabled(reader->next, SD_EVENT_ONESHOT);
}

static void come_back(Reader *reader, ReadThread *thread, size_t at) {
        ReadJob job = thread->job;
        PciAddress device = thread->stuck_in;
        array_remove(&reader->stuck, at);
        thread_dismiss(thread, true);
        next_later(reader);
        reader->events.returned(reader->userdata, job, device);
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        ReadThread *thread = userdata;
        Reader *reader = thread->reader;
        eventfd_t count;
        (void) eventfd_read(fd, &count);

        for (size_t i = 0; i < reader->stuck.n; i++)
                if (reader->stuck.items[i] == thread) {
                        come_back(reader, thread, i);
                        return 0;
                }

        (void) pthread_mutex_lock(&thread->lock);
        ReadResult result = thread->result;
        thread->result = (ReadResult) {};
        thread->state = THREAD_IDLE;
        (void) pthread_mutex_unlock(&thread->lock);

        reader->busy = false;
        (void) sd_event_source_set_enabled(reader->watchdog, SD_EVENT_OFF);
        next_later(reader);
        reader->events.done(reader->userdata, &result);
        clear_result(&result);
        return 0;
}

static void arm_watchdog(Reader *reader, uint64_t at_us) {
        (void) sd_event_source_set_time(reader->watchdog, at_us);
        (void) sd_event_source_set_enabled(reader->watchdog, SD_EVENT_ONESHOT);
}

/* Runs while a job is out. Not the job has the deadline, but each of its reads. */
static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata) {
        Reader *reader = userdata;
        ReadThread *thread = reader->current;
        uint64_t now, since = thread->progress.since_us;
        int r = sd_event_now(reader->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        if (since == 0 || now < since + reader->deadline_us) {
                arm_watchdog(reader, since == 0 ? now + reader->deadline_us / 4 : since + reader->deadline_us);
                return 0;
        }

        ReadJob job = thread->job;
        const char *attribute = thread->progress.attribute;
        thread->stuck_in = pci_address_unpack(thread->progress.device);
        PciAddress device = thread->stuck_in;
        reader->current = NULL;
        reader->busy = false;
        next_later(reader);
        if (array_append(&reader->stuck, &thread) < 0)
                thread_dismiss(thread, false);
        reader->events.hung(reader->userdata, job, device, attribute ? attribute : "sysfs");
        return 0;
}

/* Whether a thread is stuck in the same: in this device, or in another function while it read this one; in the list
 * of devices itself; in the host's own files. */
static bool is_stuck(const Reader *reader, ReadJob job) {
        for (size_t i = 0; i < reader->stuck.n; i++) {
                const ReadThread *thread = reader->stuck.items[i];
                bool same_kind = thread->job.kind == job.kind;
                switch (job.kind) {
                case READ_SCAN:
                        if (same_kind && pci_address_pack(thread->stuck_in) == 0)
                                return true;
                        break;
                case READ_DEVICE:
                        if (pci_address_equal(thread->stuck_in, job.address) ||
                            (same_kind && pci_address_equal(thread->job.address, job.address)))
                                return true;
                        break;
                case READ_HOST:
                        if (same_kind)
                                return true;
                        break;
                }
        }
        return false;
}

static int hand_over(Reader *reader, ReadJob job) {
        ReadThread *thread = reader->current;
        int r = 0;
        (void) pthread_mutex_lock(&thread->lock);
        thread->skip.n = 0;
        for (size_t i = 0; i < reader->stuck.n && r >= 0; i++)
                r = array_append(&thread->skip, &reader->stuck.items[i]->stuck_in);
        if (r >= 0) {
                thread->job = job;
                thread->state = THREAD_BUSY;
                (void) pthread_cond_signal(&thread->changed);
        }
        (void) pthread_mutex_unlock(&thread->lock);
        if (r < 0)
                return r;

        uint64_t now;
        r = sd_event_now(reader->event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        reader->busy = true;
        arm_watchdog(reader, now + reader->deadline_us);
        return 0;
}

static void refuse(Reader *reader, ReadJob job, const char *why) {
        next_later(reader);
        reader->events.refused(reader->userdata, job, why);
}

static int on_next(sd_event_source *source, void *userdata) {
        Reader *reader = userdata;
        if (reader->busy || reader->queue.n == 0)
                return 0;

        ReadJob job = reader->queue.items[0];
        array_remove(&reader->queue, 0);
        if (is_stuck(reader, job)) {
                next_later(reader);
                return 0;
        }
        if (!reader->current && reader->stuck.n >= READERS_STUCK_MAX) {
                refuse(reader, job, "too many devices hang");
                return 0;
        }
        if (!reader->current && thread_new(&reader->current, reader) < 0) {
                refuse(reader, job, "no thread to read it");
                return 0;
        }
        if (hand_over(reader, job) < 0)
                refuse(reader, job, "no memory to read it");
        return 0;
}

int reader_new(Reader **ret, sd_event *event, const char *root, uint64_t deadline_us, const ReaderEvents *events,
               void *userdata) {
        _cleanup_(reader_freep) Reader *reader = calloc(1, sizeof(Reader));
        if (!reader)
                return -ENOMEM;
        reader->sysfs = SYSFS_NONE;
        reader->event = sd_event_ref(event);
        reader->deadline_us = deadline_us;
        reader->events = *events;
        reader->userdata = userdata;

        int r = sysfs_open(root, &reader->sysfs);
        if (r >= 0)
                r = sd_event_add_defer(event, &reader->next, on_next, reader);
        if (r >= 0)
                r = sd_event_source_set_enabled(reader->next, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &reader->watchdog, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, on_watchdog,
                                      reader);
        if (r >= 0)
                r = sd_event_source_set_enabled(reader->watchdog, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(reader);
        return 0;
}

Reader *reader_free(Reader *reader) {
        if (!reader)
                return NULL;
        thread_dismiss(reader->current, !reader->busy);
        for (size_t i = 0; i < reader->stuck.n; i++)
                thread_dismiss(reader->stuck.items[i], false);
        reader->next = sd_event_source_disable_unref(reader->next);
        reader->watchdog = sd_event_source_disable_unref(reader->watchdog);
        reader->event = sd_event_unref(reader->event);
        array_clear(&reader->stuck);
        array_clear(&reader->queue);
        sysfs_close(&reader->sysfs);
        free(reader);
        return NULL;
}

int reader_submit(Reader *reader, ReadJob job) {
        if (is_stuck(reader, job))
                return 0;
        for (size_t i = 0; i < reader->queue.n; i++)
                if (reader->queue.items[i].kind == job.kind &&
                    pci_address_equal(reader->queue.items[i].address, job.address))
                        return 1;
        int r = array_append(&reader->queue, &job);
        if (r < 0)
                return r;
        next_later(reader);
        return 1;
}

bool reader_is_idle(const Reader *reader) {
        return !reader->busy && reader->queue.n == 0;
}
