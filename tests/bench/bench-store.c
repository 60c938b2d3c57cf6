/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a commit through the engine costs beside a bare SQLite commit of the same bytes and beside a bare fdatasync, all
 * in turns on the same disk, so that other load falls on all alike. Prints medians, 99th percentiles and ratios.
 *
 * bench-store [DIRECTORY [COMMITS]] */

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "adapters/store/raft-engine.h"
#include "util/cleanup.h"

#define ENTRY_SIZE 256U
#define COMMITS_DEFAULT 2000U
#define IN_FLIGHT 64U

static _Noreturn void die(const char *what, int error) {
        fprintf(stderr, "bench-store: %s: %s\n", what, strerror(error));
        exit(1);
}

static double now_us(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

/* ---- the engine ---- */

static sd_event *event;
static RaftEngine *engine;
static unsigned answers;

static int on_restore(void *userdata, uint64_t index, const void *data, size_t size) {
        return 0;
}

static int on_apply(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size) {
        return 0;
}

static void on_changed(void *userdata) {
}

static void on_store_changed(void *userdata, int error) {
        die("the store", -error);
}

static void on_send(void *userdata, const RaftMessage *message) {
}

static void on_fault(void *userdata, const char *sentence) {
        fprintf(stderr, "bench-store: %s\n", sentence);
        exit(1);
}

static void on_done(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        answers++;
}

static void engine_begin(const char *path) {
        static const RaftMember member = { 1, "here", RAFT_MEMBER_VOTER };
        _cleanup_free_ char *sentence = NULL;
        RaftEngineConfig config = {
                .path = path,
                .id = 1,
                .address = "here",
                .members = &member,
                .n_members = 1,
                .callbacks = { on_restore, on_apply, on_changed, on_store_changed, on_send, on_fault },
        };

        if (sd_event_new(&event) < 0)
                die("sd_event_new", ENOMEM);
        int r = raft_engine_open(&config, event, &engine, &sentence);
        if (r != LOG_FILE_CREATED) {
                fprintf(stderr, "bench-store: %s\n", sentence);
                exit(1);
        }
        r = raft_engine_start(engine);
        if (r < 0)
                die("raft_engine_start", -r);
}

static void engine_wait(unsigned wanted) {
        while (answers < wanted)
                if (sd_event_run(event, UINT64_MAX) < 0)
                        die("sd_event_run", errno);
}

static void engine_submit(const void *bytes) {
        if (raft_engine_submit(engine, bytes, ENTRY_SIZE, on_done, NULL, NULL) != RAFT_SUBMIT_TAKEN)
                die("raft_engine_submit", EIO);
}

static void engine_commit(const void *bytes) {
        unsigned wanted = answers + 1;
        engine_submit(bytes);
        engine_wait(wanted);
}

/* ---- bare SQLite, with the same settings ---- */

static sqlite3 *db;
static sqlite3_stmt *insert;

static void sqlite_begin(const char *path) {
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                         "CREATE TABLE entry(idx INTEGER PRIMARY KEY, data BLOB NOT NULL)", NULL, NULL, NULL) !=
                    SQLITE_OK ||
            sqlite3_prepare_v2(db, "INSERT INTO entry(data) VALUES(?1)", -1, &insert, NULL) != SQLITE_OK)
                die(sqlite3_errmsg(db), EIO);
}

static void sqlite_commit(const void *bytes) {
        (void) sqlite3_bind_blob(insert, 1, bytes, (int) ENTRY_SIZE, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
                die(sqlite3_errmsg(db), EIO);
        (void) sqlite3_reset(insert);
}

/* ---- bare fdatasync of a file that grows ---- */

static int bare_fd;

static void bare_begin(const char *path) {
        bare_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (bare_fd < 0)
                die(path, errno);
}

static void bare_commit(const void *bytes) {
        if (write(bare_fd, bytes, ENTRY_SIZE) != (ssize_t) ENTRY_SIZE || fdatasync(bare_fd) < 0)
                die("fdatasync", errno);
}

/* ---- comparing ---- */

static int compare_times(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

typedef struct Contestant {
        const char *name;
        void (*commit)(const void *bytes);
        double *times;
        double median;
} Contestant;

static void report(Contestant *contestant, unsigned n, const Contestant *first) {
        qsort(contestant->times, n, sizeof(*contestant->times), compare_times);
        contestant->median = contestant->times[n / 2];
        printf("%-22s median %8.1f us   p99 %8.1f us   x %.2f of fdatasync\n", contestant->name, contestant->median,
               contestant->times[n * 99 / 100], contestant->median / first->median);
}

static void compare_sequential(unsigned n) {
        Contestant contestants[] = {
                { .name = "fdatasync", .commit = bare_commit },
                { .name = "SQLite commit", .commit = sqlite_commit },
                { .name = "engine commit", .commit = engine_commit },
        };
        uint8_t bytes[ENTRY_SIZE] = {};

        for (size_t c = 0; c < 3; c++) {
                contestants[c].times = calloc(n, sizeof(double));
                if (!contestants[c].times)
                        die("calloc", ENOMEM);
        }
        for (unsigned i = 0; i < n; i++)
                for (size_t c = 0; c < 3; c++) {
                        memcpy(bytes, &i, sizeof(i));
                        double begin = now_us();
                        contestants[c].commit(bytes);
                        contestants[c].times[i] = now_us() - begin;
                }
        for (size_t c = 0; c < 3; c++)
                report(&contestants[c], n, &contestants[0]);
        printf("engine / SQLite: x %.2f\n", contestants[2].median / contestants[1].median);
        for (size_t c = 0; c < 3; c++)
                free(contestants[c].times);
}

static void many_in_flight(unsigned n) {
        uint8_t bytes[ENTRY_SIZE] = {};
        unsigned first = answers;
        double begin = now_us();

        for (unsigned i = 0; i < n; i++) {
                if (i >= IN_FLIGHT)
                        engine_wait(first + i - IN_FLIGHT + 1);
                engine_submit(bytes);
        }
        engine_wait(first + n);
        printf("engine, %u in flight: %.0f commits/s\n", IN_FLIGHT, n / (now_us() - begin) * 1e6);
}

static void remove_all(const char *directory) {
        static const char *const names[] = { "engine.db", "engine.db-wal", "sqlite.db", "sqlite.db-wal", "bare" };

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char path[4200];
                (void) snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                (void) unlink(path);
        }
        (void) rmdir(directory);
}

int main(int argc, char **argv) {
        unsigned n = argc > 2 ? (unsigned) strtoul(argv[2], NULL, 10) : COMMITS_DEFAULT;
        char directory[4096], path[4200];

        (void) snprintf(directory, sizeof(directory), "%s/bench-store-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
        if (n < 10 || !mkdtemp(directory))
                die(directory, n < 10 ? EINVAL : errno);
        (void) snprintf(path, sizeof(path), "%s/engine.db", directory);
        engine_begin(path);
        (void) snprintf(path, sizeof(path), "%s/sqlite.db", directory);
        sqlite_begin(path);
        (void) snprintf(path, sizeof(path), "%s/bare", directory);
        bare_begin(path);

        printf("%u commits of %u bytes each, in turns, in %s\n", n, ENTRY_SIZE, directory);
        compare_sequential(n);
        many_in_flight(n);

        raft_engine_free(engine);
        sd_event_unref(event);
        (void) sqlite3_finalize(insert);
        (void) sqlite3_close(db);
        (void) close(bare_fd);
        remove_all(directory);
        return 0;
}
