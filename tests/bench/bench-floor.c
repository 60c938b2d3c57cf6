/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The least that a write to another node can cost (series.h): "floor N" is one SQLite commit of 256 bytes that is
 * synced (WAL, synchronous=FULL, as the registry's file has it) and one round trip over TCP on the loopback to a thread
 * that sends back what it gets. "commit N" and "trip N" are the two by themselves.
 *
 * bench-floor DIRECTORY */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "series.h"

#define SIZE 256

static sqlite3 *db;
static sqlite3_stmt *insert;
static int client = -1;

static _Noreturn void die(const char *what) {
        fprintf(stderr, "bench-floor: %s\n", what);
        exit(1);
}

static void *echo(void *userdata) {
        int fd = accept(*(int *) userdata, NULL, NULL), one = 1;
        uint8_t bytes[SIZE];
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        for (ssize_t n; (n = recv(fd, bytes, sizeof(bytes), 0)) > 0;)
                (void) send(fd, bytes, (size_t) n, MSG_NOSIGNAL);
        return NULL;
}

static void connect_echo(void) {
        static int listener;
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        pthread_t thread;
        int one = 1;
        listener = socket(AF_INET, SOCK_STREAM, 0);
        client = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *) &address, size) < 0 || listen(listener, 1) < 0 ||
            getsockname(listener, (struct sockaddr *) &address, &size) < 0 ||
            pthread_create(&thread, NULL, echo, &listener) != 0 ||
            connect(client, (struct sockaddr *) &address, size) < 0 ||
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
                die(strerror(errno));
}

static void open_database(const char *directory) {
        char path[4096];
        (void) snprintf(path, sizeof(path), "%s/bench-floor.db", directory);
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                             "CREATE TABLE entry(idx INTEGER PRIMARY KEY, data BLOB NOT NULL)",
                         NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(db, "INSERT INTO entry(data) VALUES(?1)", -1, &insert, NULL) != SQLITE_OK)
                die(sqlite3_errmsg(db));
}

static int commit(void) {
        static uint8_t bytes[SIZE];
        bytes[0]++;
        (void) sqlite3_bind_blob(insert, 1, bytes, sizeof(bytes), SQLITE_STATIC);
        int code = sqlite3_step(insert);
        (void) sqlite3_reset(insert);
        return code == SQLITE_DONE ? 0 : -EIO;
}

static int trip(void) {
        uint8_t bytes[SIZE] = {};
        if (send(client, bytes, sizeof(bytes), MSG_NOSIGNAL) != SIZE)
                return -EIO;
        return recv(client, bytes, sizeof(bytes), MSG_WAITALL) == SIZE ? 0 : -EIO;
}

static int both(void) {
        int r = commit();
        return r < 0 ? r : trip();
}

static int repeat(int (*once)(void), unsigned count, double *times) {
        for (unsigned i = 0; i < count; i++) {
                double began = series_now_us();
                int r = once();
                if (r < 0)
                        return r;
                times[i] = series_now_us() - began;
        }
        return 0;
}

static int run_floor(unsigned count, double *times) {
        return repeat(both, count, times);
}

static int run_commit(unsigned count, double *times) {
        return repeat(commit, count, times);
}

static int run_trip(unsigned count, double *times) {
        return repeat(trip, count, times);
}

static const Series all[] = { { "floor", run_floor }, { "commit", run_commit }, { "trip", run_trip } };

int main(int argc, char **argv) {
        if (argc != 2)
                die("give a directory");
        open_database(argv[1]);
        connect_echo();
        series_ready();
        while (series_serve_line(all, sizeof(all) / sizeof(all[0])))
                ;
        (void) sqlite3_finalize(insert);
        (void) sqlite3_close(db);
        return 0;
}
