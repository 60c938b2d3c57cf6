/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Path reader: which files of the host are there. Nothing is opened: they are looked up by stat, which may hang for as
 * long as the server of a network file system does, in a way that not even a signal ends. So a thread does it, one for
 * each round of looks, and a watchdog in the loop:
 *
 *      loop    look(paths) ─► thread                     ┐ one path after the other
 *      thread                  stat, stat, stat, ...  ─► done()
 *      loop    none for the deadline ─► hung(path): the thread is left to itself, and no other is begun
 *              it comes back         ─► done()
 *
 * So whatever hangs costs one thread, and never more than that one. It owns what it needs and frees it when it returns,
 * also after the reader itself is gone.
 *
 * What this service sees is not all that there is: its /tmp is its own, /home and /dev are empty. What is looked up
 * there is PATH_UNSEEN, by whatever link, and so is what its user may not look up. */

#include <systemd/sd-event.h>

#include "core/path-set.h"
#include "util/text.h"

typedef struct PathReader PathReader;

typedef struct PathReaderConfig {
        uint64_t deadline_us;           /* for one look */
        PathSight (*look)(const char *path);    /* in the thread; NULL: path_look() */
        /* From the loop. The round is over: @sights[i] is that of @paths[i], and PATH_UNSEEN for those behind one that
         * was told as hung. All borrowed. */
        void (*done)(void *userdata, const TextList *paths, const PathSight *sights);
        /* The look at @paths[@at] does not come back; those before it have a sight. */
        void (*hung)(void *userdata, const TextList *paths, const PathSight *sights, size_t at);
        void *userdata;
} PathReaderConfig;

int path_reader_new(PathReader **ret, sd_event *event, const PathReaderConfig *config);
/* Never waits. */
PathReader *path_reader_free(PathReader *reader);
DEFINE_CLEANUP(PathReader *, path_reader_free);

/* Takes over the paths and begins a round. 1; 0: the last round is not over, nothing was taken; or -errno. */
int path_reader_look(PathReader *reader, TextList *paths);
bool path_reader_is_busy(const PathReader *reader);

/* One look. May hang. */
PathSight path_look(const char *path);

/* Is it the folder that the first @size bytes of @folder name, or in it? By the words: no file is asked. */
bool path_is_below(const char *path, const char *folder, size_t size);

/* How many of the first bytes of @path name the place where the file system is mounted that has it, by what stands in
 * /proc/self/mountinfo; 1 where it is the root's, or nothing is known. Asks no file system but /proc. */
size_t path_find_mount(const char *path);
size_t path_mount_size(const char *mountinfo, const char *path);        /* the same, by this text */
