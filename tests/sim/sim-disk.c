/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-disk.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim-loop.h"

/* As in writer.c. */
#define BATCH_MAX 256U
#define PAUSE_FIRST_US (20 * MS)
#define PAUSE_LAST_US (1000 * MS)

#define WAKE_MOST_US 200U               /* from the thread to the loop */

typedef struct Job {
        bool is_read;
        uint64_t sequence;
        LogWrite write;
        LogSnapshot *answer;
        int error;
} Job;

struct LogFile {
        SimDisk *disk;
};

struct Writer {
        LogFile *file;
        SimDisk *disk;
        sd_event *loop;
        WriterCallbacks callbacks;
        void *userdata;
        uint64_t last_sequence;
        int error;                      /* as told to the loop */
        int trouble;                    /* as the thread knows it */
        GQueue queued, finished;
        size_t n_busy;                  /* how many of the queued ones are in the transaction under way */
        size_t limit;
        uint64_t pause_us;
        const Job *postponed;           /* an own snapshot that found no room; queued */
        bool urgent;
        SimAlarm work, tell;
};

/* log_file_open() is given a path only. */
static SimDisk *disks;

/* ---- disks */

SimDisk *sim_disk_new(SimTime *time, const char *path, const SimDiskWatch *watch) {
        SimDisk *disk = g_new0(SimDisk, 1);
        *disk = (SimDisk) {
                .time = time,
                .next = disks,
                .path = g_strdup(path),
                .watch = *watch,
                .least_us = 100,
                .most_us = 3 * MS,
        };
        disks = disk;
        return disk;
}

static void drop_rows(SimDisk *disk, size_t from) {
        while (disk->rows.n > from)
                log_entry_unref(disk->rows.items[--disk->rows.n].entry);
}

void sim_disk_wipe(SimDisk *disk) {
        drop_rows(disk, 0);
        disk->snapshot = log_snapshot_free(disk->snapshot);
        disk->vote = (LogFileVote) {};
        disk->has_file = false;
}

SimDisk *sim_disk_free(SimDisk *disk) {
        SimDisk **at = &disks;
        while (*at != disk)
                at = &(*at)->next;
        *at = disk->next;
        sim_disk_wipe(disk);
        array_clear(&disk->rows);
        g_free(disk->path);
        g_free(disk);
        return NULL;
}

const LogEntry *sim_disk_entry(const SimDisk *disk, uint64_t index) {
        if (index < disk->first_index || index - disk->first_index >= disk->rows.n)
                return NULL;
        return disk->rows.items[index - disk->first_index].entry;
}

uint64_t sim_disk_last_index(const SimDisk *disk) {
        if (disk->rows.n > 0)
                return disk->first_index + disk->rows.n - 1;
        return disk->snapshot ? disk->snapshot->index : 0;
}

static void keep_from(SimDisk *disk, uint64_t index) {
        size_t n = index <= disk->first_index ? 0 : index - disk->first_index;
        if (n > disk->rows.n)
                n = disk->rows.n;
        if (n == 0)
                return;
        for (size_t i = 0; i < n; i++)
                log_entry_unref(disk->rows.items[i].entry);
        memmove(disk->rows.items, disk->rows.items + n, (disk->rows.n - n) * sizeof(*disk->rows.items));
        disk->rows.n -= n;
        disk->first_index += n;
}

static void write_entries(SimDisk *disk, const LogWrite *write) {
        uint64_t first = write->first_index;

        if (disk->rows.n == 0)
                disk->first_index = first;
        if (first < disk->first_index || first > disk->first_index + disk->rows.n) {
                sim_broken(disk->time, "%s: entries from %" PRIu64 " on leave a hole behind %" PRIu64, disk->path,
                           first, sim_disk_last_index(disk));
                return;
        }
        drop_rows(disk, first - disk->first_index);
        for (size_t i = 0; i < write->n_entries; i++) {
                SimRow row = {
                        .entry = log_entry_ref(write->entries[i]),
                        .committed = write->committed < first + i ? write->committed : first + i,
                };
                g_assert_cmpint(array_append(&disk->rows, &row), ==, 0);
        }
}

static LogSnapshot *copy_snapshot(const LogSnapshot *from) {
        return log_snapshot_new(from->index, from->term, from->configuration_index, from->configuration,
                                from->configuration_size, from->data, from->data_size);
}

/* As log_file_write() does one. */
static void do_write(SimDisk *disk, const LogWrite *write) {
        LogFileVote before = disk->vote;

        if (write->set_vote)
                disk->vote = write->vote;
        if (write->snapshot) {
                log_snapshot_free(disk->snapshot);
                disk->snapshot = copy_snapshot(write->snapshot);
                keep_from(disk, write->keep_from);
        }
        if (write->first_index > 0)
                write_entries(disk, write);
        disk->watch.durable(disk->watch.userdata, &before, write);
}

/* ---- log-file.h */

static void birth(SimDisk *disk, const LogFileBirth *wanted) {
        memcpy(disk->cluster_id, wanted->cluster_id, sizeof(disk->cluster_id));
        disk->server_id = wanted->server_id;
        disk->vote = (LogFileVote) { .term = wanted->configuration ? 1 : 0 };
        disk->first_index = 1;
        disk->has_file = true;
        if (!wanted->configuration)
                return;
        SimRow row = {
                .entry = log_entry_new(1, LOG_ENTRY_CHANGE, wanted->configuration, wanted->configuration_size),
                .committed = 1,
        };
        g_assert_cmpint(array_append(&disk->rows, &row), ==, 0);
}

/* What the real one refuses as damaged. */
static void check_history(const SimDisk *disk) {
        const LogSnapshot *snapshot = disk->snapshot;
        uint64_t term = 1, last = sim_disk_last_index(disk);

        for (size_t i = 0; i < disk->rows.n; i++) {
                const LogEntry *entry = disk->rows.items[i].entry;
                if (entry->term < term || entry->term > disk->vote.term)
                        sim_broken(disk->time, "%s: the terms of the log do not grow", disk->path);
                term = entry->term;
        }
        if (!snapshot && disk->rows.n > 0 &&
            (disk->first_index != 1 || disk->rows.items[0].entry->type != LOG_ENTRY_CHANGE))
                sim_broken(disk->time, "%s: the log has no beginning", disk->path);
        if (!snapshot)
                return;
        if (snapshot->index == 0 || snapshot->term == 0 || snapshot->term > disk->vote.term ||
            snapshot->configuration_index > snapshot->index)
                sim_broken(disk->time, "%s: the snapshot is of no possible time", disk->path);
        if (disk->rows.n == 0)
                return;
        if (disk->first_index > snapshot->index + 1 || last < snapshot->index)
                sim_broken(disk->time, "%s: entries between snapshot and log are missing", disk->path);
        const LogEntry *same = sim_disk_entry(disk, snapshot->index);
        if (same && same->term != snapshot->term)
                sim_broken(disk->time, "%s: snapshot and log contradict each other", disk->path);
}

static void read_content(const SimDisk *disk, LogFileContent *ret) {
        *ret = (LogFileContent) {
                .server_id = disk->server_id,
                .vote = disk->vote,
                .snapshot = disk->snapshot ? copy_snapshot(disk->snapshot) : NULL,
                .first_index = disk->rows.n > 0 ? disk->first_index : sim_disk_last_index(disk) + 1,
                .n_entries = disk->rows.n,
        };
        memcpy(ret->cluster_id, disk->cluster_id, sizeof(ret->cluster_id));
        ret->entries = calloc(disk->rows.n + 1, sizeof(*ret->entries));
        g_assert_nonnull(ret->entries);
        for (size_t i = 0; i < disk->rows.n; i++) {
                ret->entries[i] = log_entry_ref(disk->rows.items[i].entry);
                if (disk->rows.items[i].committed > ret->committed)
                        ret->committed = disk->rows.items[i].committed;
        }
}

int log_file_open(const char *path, const LogFileBirth *wanted, LogFile **ret_file, LogFileContent *ret_content,
                  char **ret_sentence) {
        SimDisk *disk = disks;
        while (disk && strcmp(disk->path, path) != 0)
                disk = disk->next;
        g_assert_nonnull(disk);

        int verdict = disk->has_file ? LOG_FILE_OPENED : LOG_FILE_CREATED;
        if (!disk->has_file)
                birth(disk, wanted);
        g_assert_cmpuint(disk->server_id, ==, wanted->server_id);
        check_history(disk);
        read_content(disk, ret_content);
        *ret_file = g_new0(LogFile, 1);
        (*ret_file)->disk = disk;
        return verdict;
}

LogFile *log_file_close(LogFile *file) {
        g_free(file);
        return NULL;
}

void log_file_content_clear(LogFileContent *content) {
        log_snapshot_free(content->snapshot);
        log_entries_unref(content->entries, content->n_entries);
        *content = (LogFileContent) {};
}

/* ---- the thread */

static void job_free(Job *job) {
        log_snapshot_free(job->write.snapshot);
        log_entries_unref(job->write.entries, job->write.n_entries);
        log_snapshot_free(job->answer);
        g_free(job);
}

static void tell_loop(Writer *writer) {
        if (writer->tell.place == 0)
                sim_alarm_set(writer->disk->time, &writer->tell,
                              writer->disk->time->now_us + sim_between(writer->disk->time, 1, WAKE_MOST_US));
}

static bool fails(const SimDisk *disk, const LogWrite *write) {
        if (disk->time->now_us >= disk->error_until_us)
                return false;
        if (!disk->small_ones_find_room || write->snapshot)
                return true;
        for (size_t i = 0; i < write->n_entries; i++)
                if (write->entries[i]->type == LOG_ENTRY_COMMAND)
                        return !disk->writer || !disk->writer->urgent;
        return false;
}

/* Takes up what is at the head of the queue. */
static void begin(Writer *writer, uint64_t after_us) {
        SimTime *time = writer->disk->time;
        const Job *first = g_queue_peek_head(&writer->queued);

        if (!first || writer->n_busy > 0)
                return;
        writer->n_busy = 1;
        size_t limit = first->is_read ? 1 : sim_between(time, 1, writer->limit);
        for (GList *next = writer->queued.head->next; next && writer->n_busy < limit; next = next->next) {
                const Job *job = next->data;
                if (job->is_read)
                        break;
                writer->n_busy++;
        }
        sim_alarm_set(time, &writer->work,
                      time->now_us + after_us + sim_between(time, writer->disk->least_us, writer->disk->most_us));
}

static void finish_read(Writer *writer) {
        SimDisk *disk = writer->disk;
        Job *job = g_queue_pop_head(&writer->queued);

        if (disk->time->now_us < disk->unreadable_until_us)
                job->error = -EIO;
        else if (!disk->snapshot)
                job->error = -ENOENT;
        else
                job->answer = copy_snapshot(disk->snapshot);
        g_queue_push_tail(&writer->finished, job);
}

/* The transaction's error: that of the first write in it that fails. */
static int try_writes(Writer *writer) {
        SimDisk *disk = writer->disk;
        const GList *link = writer->queued.head;

        for (size_t i = 0; i < writer->n_busy; i++, link = link->next) {
                const Job *job = link->data;
                if (!fails(disk, &job->write))
                        continue;
                const Job *first = writer->queued.head->data;
                disk->watch.failed(disk->watch.userdata, &first->write, disk->error);
                return disk->error;
        }
        for (; writer->n_busy > 0; writer->n_busy--) {
                Job *job = g_queue_pop_head(&writer->queued);
                do_write(disk, &job->write);
                if (job == writer->postponed)
                        writer->postponed = NULL;
                g_queue_push_tail(&writer->finished, job);
        }
        return 0;
}

static bool is_vote_only(const Job *job) {
        return !job->is_read && job->write.set_vote && !job->write.snapshot && job->write.first_index == 0;
}

/* After a failure the newest term and vote are tried by themselves, and stand for the earlier ones. */
static void write_vote_first(Writer *writer) {
        SimDisk *disk = writer->disk;
        const Job *newest = NULL;

        for (const GList *link = writer->queued.head; link; link = link->next)
                if (is_vote_only(link->data))
                        newest = link->data;
        if (!newest || fails(disk, &newest->write))
                return;
        uint64_t sequence = newest->sequence;
        do_write(disk, &newest->write);
        for (GList *link = writer->queued.head, *next; link; link = next) {
                Job *job = link->data;
                next = link->next;
                if (!is_vote_only(job) || job->sequence > sequence)
                        continue;
                g_queue_delete_link(&writer->queued, link);
                g_queue_push_tail(&writer->finished, job);
        }
        tell_loop(writer);
}

static bool is_own_snapshot(const Job *job) {
        return !job->is_read && job->write.snapshot && job->write.keep_from != UINT64_MAX;
}

/* Returns true if what is at the head now may find room. */
static bool postpone_snapshot(Writer *writer) {
        const Job *first = g_queue_peek_head(&writer->queued);
        if (!is_own_snapshot(first) || first->write.set_vote || first->write.first_index > 0 ||
            writer->queued.length == 1)
                return false;
        g_queue_push_tail(&writer->queued, g_queue_pop_head(&writer->queued));
        writer->postponed = first;
        return true;
}

static void set_trouble(Writer *writer, int error) {
        if (writer->trouble == error)
                return;
        writer->trouble = error;
        tell_loop(writer);
}

static void on_work(void *userdata) {
        Writer *writer = userdata;
        SimDisk *disk = writer->disk;
        const Job *first = g_queue_peek_head(&writer->queued);

        if (disk->stalled_until_us > disk->time->now_us) {
                sim_alarm_set(disk->time, &writer->work, disk->stalled_until_us);
                return;
        }
        bool was_read = first->is_read;
        int r = 0;
        if (was_read)
                finish_read(writer);
        else
                r = try_writes(writer);
        writer->n_busy = 0;
        if (r < 0) {
                set_trouble(writer, r);
                write_vote_first(writer);
                if (g_queue_is_empty(&writer->queued)) {
                        set_trouble(writer, 0);
                        return;
                }
                writer->limit = 1;
                if (r == -ENOSPC && postpone_snapshot(writer)) {
                        begin(writer, 0);
                        return;
                }
                begin(writer, writer->pause_us);
                writer->pause_us = writer->pause_us * 2 < PAUSE_LAST_US ? writer->pause_us * 2 : PAUSE_LAST_US;
                return;
        }
        if (!was_read && !writer->postponed)
                set_trouble(writer, 0);
        writer->limit = writer->postponed ? 1 : BATCH_MAX;
        writer->pause_us = PAUSE_FIRST_US;
        tell_loop(writer);
        begin(writer, 0);
}

/* ---- the loop */

static void on_told(void *userdata) {
        Writer *writer = userdata;
        GQueue finished;

        if (!sim_loop_may_run(writer->loop, &writer->tell))
                return;
        SimTurn turn = sim_loop_begin(writer->loop);
        finished = writer->finished;
        g_queue_init(&writer->finished);
        if (writer->trouble != writer->error) {
                writer->error = writer->trouble;
                writer->callbacks.trouble(writer->userdata, writer->error);
        }
        for (Job *job; (job = g_queue_pop_head(&finished)); job_free(job)) {
                if (job->is_read)
                        writer->callbacks.snapshot(writer->userdata, STEAL(job->answer), job->error);
                else
                        writer->callbacks.done(writer->userdata, job->sequence, &job->write);
        }
        sim_loop_end(turn);
}

/* ---- writer.h */

int writer_new(LogFile *file, sd_event *event, const WriterCallbacks *callbacks, void *userdata, Writer **ret) {
        Writer *writer = g_new0(Writer, 1);
        *writer = (Writer) {
                .file = file,
                .disk = file->disk,
                .loop = sd_event_ref(event),
                .callbacks = *callbacks,
                .userdata = userdata,
                .limit = BATCH_MAX,
                .pause_us = PAUSE_FIRST_US,
        };
        g_queue_init(&writer->queued);
        g_queue_init(&writer->finished);
        writer->work = (SimAlarm) { .ring = on_work, .userdata = writer };
        writer->tell = (SimAlarm) { .ring = on_told, .userdata = writer };
        file->disk->writer = writer;
        *ret = writer;
        return 0;
}

int writer_submit(Writer *writer, const LogWrite *write, uint64_t *ret_sequence) {
        Job *job = g_new0(Job, 1);
        job->write = *write;
        job->sequence = ++writer->last_sequence;
        if (ret_sequence)
                *ret_sequence = job->sequence;
        writer->disk->watch.queued(writer->disk->watch.userdata, write);
        g_queue_push_tail(&writer->queued, job);
        begin(writer, 0);
        return 0;
}

int writer_read_snapshot(Writer *writer) {
        Job *job = g_new0(Job, 1);
        job->is_read = true;
        g_queue_push_tail(&writer->queued, job);
        begin(writer, 0);
        return 0;
}

/* A pause that is under way ends: as with the real one, what fails is tried again at once. */
void writer_set_urgent(Writer *writer, bool urgent) {
        bool wakes = urgent && !writer->urgent && writer->work.place > 0 && writer->trouble < 0;

        writer->urgent = urgent;
        if (wakes && writer->disk->stalled_until_us <= writer->disk->time->now_us)
                sim_alarm_set(writer->disk->time, &writer->work,
                              writer->disk->time->now_us + sim_between(writer->disk->time, writer->disk->least_us,
                                                                       writer->disk->most_us));
}

int writer_error(const Writer *writer) {
        return writer->error;
}

/* An orderly end tries once what is queued, in one piece. */
static void write_last(Writer *writer) {
        SimDisk *disk = writer->disk;

        for (Job *job; (job = g_queue_pop_head(&writer->queued)); job_free(job)) {
                if (!job->is_read && fails(disk, &job->write)) {
                        job_free(job);
                        return;
                }
                if (!job->is_read)
                        do_write(disk, &job->write);
        }
}

Writer *writer_free(Writer *writer) {
        if (!writer)
                return NULL;
        SimDisk *disk = writer->disk;
        if (disk->writer == writer) {
                write_last(writer);
                disk->writer = NULL;
        }
        sim_alarm_unset(disk->time, &writer->work);
        sim_alarm_unset(disk->time, &writer->tell);
        for (Job *job; (job = g_queue_pop_head(&writer->queued));)
                job_free(job);
        for (Job *job; (job = g_queue_pop_head(&writer->finished));)
                job_free(job);
        (void) sd_event_unref(writer->loop);
        (void) log_file_close(writer->file);
        g_free(writer);
        return NULL;
}

/* ---- the power */

void sim_disk_mend(SimDisk *disk) {
        disk->error_until_us = disk->stalled_until_us = disk->unreadable_until_us = 0;
        if (disk->writer && disk->writer->work.place > 0)
                sim_alarm_set(disk->time, &disk->writer->work, disk->time->now_us + disk->least_us);
}

void sim_disk_cut(SimDisk *disk) {
        Writer *writer = disk->writer;
        if (!writer)
                return;
        sim_alarm_unset(disk->time, &writer->work);
        sim_alarm_unset(disk->time, &writer->tell);
        disk->writer = NULL;

        /* A sync that was under way, or one that failed and yet wrote: it may all be there. */
        size_t n = writer->n_busy;
        if (n == 0 || !sim_chance(disk->time, 50))
                return;
        for (const GList *link = writer->queued.head; n > 0; link = link->next, n--) {
                const Job *job = link->data;
                if (!job->is_read)
                        do_write(disk, &job->write);
        }
}

static bool has_own_snapshot(const GQueue *jobs) {
        for (const GList *link = jobs->head; link; link = link->next) {
                if (is_own_snapshot(link->data))
                        return true;
        }
        return false;
}

bool sim_disk_takes_snapshot(const SimDisk *disk) {
        if (!disk->writer)
                return false;
        return has_own_snapshot(&disk->writer->queued) || has_own_snapshot(&disk->writer->finished);
}
