/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimDisk: what one machine's LogFile has on disk, in memory, and the Writer in front of it. The functions of
 * log-file.h and writer.h stand here, so the linker never looks for the real ones and the engine writes here.
 *
 * Kept as the real ones keep it: writes in order, as many as have gathered in one transaction, all of it or nothing; a
 * write that fails is tried again, alone, after growing pauses; what is behind it waits, but for terms and votes, and
 * an own snapshot that finds no room goes to the end. Where small ones find room so do barriers and changes of members,
 * and while the engine says that it is urgent all entries. A power cut loses what is not durable; the transaction that
 * is under way (or failed last) may turn out to be there or not. */

#include "adapters/store/writer.h"
#include "sim-time.h"

typedef struct SimRow {
        LogEntry *entry;
        uint64_t committed;
} SimRow;

typedef struct SimDisk SimDisk;

/* What the judge hears. */
typedef struct SimDiskWatch {
        void (*queued)(void *userdata, const LogWrite *write);
        void (*durable)(void *userdata, const LogFileVote *vote_before, const LogWrite *write);
        void (*failed)(void *userdata, const LogWrite *write, int error);
        void *userdata;
} SimDiskWatch;

struct SimDisk {
        SimTime *time;
        SimDisk *next;
        char *path;                     /* by which log_file_open() finds it */
        SimDiskWatch watch;
        Writer *writer;                 /* while the machine is up */

        bool has_file;
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        uint64_t server_id;
        LogFileVote vote;
        LogSnapshot *snapshot;
        uint64_t first_index;           /* of the first row, if there is one */
        ARRAY(SimRow) rows;

        /* Trouble. Times are true ones. */
        uint64_t least_us, most_us;     /* that a transaction takes */
        int error;                      /* until error_until_us */
        uint64_t error_until_us;
        bool small_ones_find_room;      /* vital and urgent writes succeed all the same */
        uint64_t stalled_until_us;
        uint64_t unreadable_until_us;   /* snapshots cannot be read */
};

SimDisk *sim_disk_new(SimTime *time, const char *path, const SimDiskWatch *watch);
SimDisk *sim_disk_free(SimDisk *disk);

/* The power is cut. What is called through the writer afterwards does nothing. */
void sim_disk_cut(SimDisk *disk);
/* Another, empty disk. */
void sim_disk_wipe(SimDisk *disk);

/* It works again, at once. */
void sim_disk_mend(SimDisk *disk);

/* What is durable of an entry; NULL if it is not there. */
const LogEntry *sim_disk_entry(const SimDisk *disk, uint64_t index);
uint64_t sim_disk_last_index(const SimDisk *disk);
/* An own snapshot was given to the writer, and the engine does not know yet that it is durable. */
bool sim_disk_takes_snapshot(const SimDisk *disk);
