/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The files of a host, as the daemon's storage looks for them: all are there. As from the real reader's thread the
 * answer comes later, from the loop. Threads do not run under virtual time. */

#include <errno.h>

#include "adapters/files/path-reader.h"
#include "heart.h"

#define ROUND_LEAST_US (1 * MS)
#define ROUND_MOST_US (50 * MS)

struct PathReader {
        HeartHost *host;
        PathReaderConfig config;
        sd_event *event;                /* borrowed */
        sd_event_source *round;         /* NULL: none is under way */
        TextList paths;
};

static int on_round(sd_event_source *source, uint64_t usec, void *userdata) {
        PathReader *reader = userdata;
        TextList paths = reader->paths;
        PathSight *sights = g_new(PathSight, paths.n + 1);
        for (size_t i = 0; i < paths.n; i++)
                sights[i] = PATH_THERE;
        reader->paths = (TextList) {};
        reader->round = sd_event_source_disable_unref(reader->round);
        reader->config.done(reader->config.userdata, &paths, sights);
        g_free(sights);
        text_list_clear(&paths);
        return 0;
}

int path_reader_new(PathReader **ret, sd_event *event, const PathReaderConfig *config) {
        PathReader *reader = g_new0(PathReader, 1);
        *reader = (PathReader) { .host = heart_host_current(), .config = *config, .event = event };
        *ret = reader;
        return 0;
}

PathReader *path_reader_free(PathReader *reader) {
        if (!reader)
                return NULL;
        sd_event_source_disable_unref(reader->round);
        text_list_clear(&reader->paths);
        g_free(reader);
        return NULL;
}

int path_reader_look(PathReader *reader, TextList *paths) {
        if (reader->round)
                return 0;
        int r = sd_event_add_time_relative(reader->event, &reader->round, CLOCK_BOOTTIME,
                                           sim_between(&reader->host->heart->time, ROUND_LEAST_US, ROUND_MOST_US), 0,
                                           on_round, reader);
        if (r < 0)
                return r;
        reader->paths = *paths;
        *paths = (TextList) {};
        return 1;
}

bool path_reader_is_busy(const PathReader *reader) {
        return reader->round;
}

/* Asked of a storage that hangs only, which none here does. */
size_t path_find_mount(const char *path) {
        return 1;
}

bool path_is_below(const char *path, const char *folder, size_t size) {
        return false;
}
