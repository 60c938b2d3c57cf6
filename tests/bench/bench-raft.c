/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A bare node of libraft with libraft's own disk and network (raft_uv), as its authors mean it to be used: "commit N"
 * at the node that leads (others refuse) are N entries of 256 bytes one after the other, each from the call until it is
 * committed and applied there (series.h). No snapshots: libraft 0.22's own I/O crashes in them.
 *
 * bench-raft DIRECTORY ID ADDRESS... : node ID (from 1) of those that listen at the addresses */

#include <raft.h>
#include <raft/uv.h>
#include <unistd.h>
#include <uv.h>

#include "series.h"

#define SIZE 256U

static uv_loop_t loop;
static struct raft_uv_transport transport;
static struct raft_io io;
static struct raft raft;
static uv_poll_t input;
static int asked, finished, outcome;

static void must(int code, const char *what) {
        if (code == 0)
                return;
        fprintf(stderr, "bench-raft: %s: %s\n", what, raft_strerror(code));
        exit(1);
}

static int apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result) {
        *result = NULL;
        return 0;
}

static int snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs) {
        return RAFT_NOMEM;
}

static int restore(struct raft_fsm *fsm, struct raft_buffer *buf) {
        raft_free(buf->base);
        return 0;
}

static void on_applied(struct raft_apply *request, int status, void *result) {
        finished = 1;
        outcome = status;
}

static int commit_once(void) {
        struct raft_buffer entry = { .base = raft_calloc(1, SIZE), .len = SIZE };
        struct raft_apply request;
        if (!entry.base)
                return -ENOMEM;
        finished = 0;
        int code = raft_apply(&raft, &request, &entry, 1, on_applied);
        if (code != 0) {
                raft_free(entry.base);
                return code == RAFT_NOTLEADER ? -EHOSTDOWN : -EIO;
        }
        while (!finished)
                (void) uv_run(&loop, UV_RUN_ONCE);
        return outcome == 0 ? 0 : -EIO;
}

static int run_commit(unsigned count, double *times) {
        for (unsigned i = 0; i < count; i++) {
                double began = series_now_us();
                int r = commit_once();
                if (r < 0)
                        return r;
                times[i] = series_now_us() - began;
        }
        return 0;
}

static const Series all[] = { { "commit", run_commit } };

/* The loop cannot be run from in here. */
static void on_input(uv_poll_t *handle, int status, int events) {
        asked = 1;
}

int main(int argc, char **argv) {
        static struct raft_fsm fsm = { .version = 1, .apply = apply, .snapshot = snapshot, .restore = restore };
        struct raft_configuration members;
        if (argc < 4) {
                fprintf(stderr, "bench-raft: give a directory, a number and addresses\n");
                return 1;
        }
        unsigned id = (unsigned) strtoul(argv[2], NULL, 10);
        if (id < 1 || id > (unsigned) argc - 3)
                must(RAFT_BADID, "the number");
        must(uv_loop_init(&loop), "loop");
        transport.version = 1;
        must(raft_uv_tcp_init(&transport, &loop), "transport");
        must(raft_uv_init(&io, &loop, argv[1], &transport), "disk");
        must(raft_init(&raft, &io, &fsm, id, argv[2 + id]), "raft");
        raft_set_pre_vote(&raft, true);
        raft_set_snapshot_threshold(&raft, 1U << 30);
        raft_configuration_init(&members);
        for (unsigned i = 1; i <= (unsigned) argc - 3; i++)
                must(raft_configuration_add(&members, i, argv[2 + i], RAFT_VOTER), "members");
        must(raft_bootstrap(&raft, &members), "bootstrap");
        raft_configuration_close(&members);
        must(raft_start(&raft), raft_errmsg(&raft));
        must(uv_poll_init(&loop, &input, STDIN_FILENO), "stdin");
        must(uv_poll_start(&input, UV_READABLE, on_input), "stdin");
        series_ready();
        /* One line at a time comes, so that nothing is left in stdio's buffer. */
        while (!asked || series_serve_line(all, 1)) {
                asked = 0;
                (void) uv_run(&loop, UV_RUN_ONCE);
        }
        _exit(0);
}
