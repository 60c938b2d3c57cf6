/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Conf: gpupoold.conf(5), read once at start. data/gpupoold.conf shows every setting with its default; a test holds the
 * two against each other. */

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"
#include "util/cleanup.h"
#include "util/text.h"

#define CONF_PATH_DEFAULT "/etc/gpupool/gpupoold.conf"

typedef struct Conf {
        char *node_name;                /* [Node] Name: by default the host name up to the first dot */
        char *state_directory;
        bool witness;                   /* [Node] Role: it votes and runs nothing */
        uint32_t jobs_per_user;         /* [Bus] */
        uint32_t questions_per_user;
        uint64_t job_linger_us;
        char *libvirt_uri;              /* [Libvirt] */
        uint64_t query_timeout_us;
        uint64_t start_timeout_us;
        uint64_t stop_timeout_us;
        uint64_t shutdown_timeout_us;
        char *guard_socket;             /* [Guard] */
        char *probe_socket;             /* [Probe] */
        uint64_t probe_timeout_us;
        char *bind_socket;              /* [Bind] */
        uint64_t bind_timeout_us;
        uint64_t coalesce_us;           /* [Udev] */
        TextList listen;                /* [Peer] "[::]:7411" */
        TextList addresses;             /* what others are told; empty: the host's own, with the first port of listen */
        uint32_t snapshot_entries;      /* [Registry] */
        uint64_t call_timeout_us;
        uint64_t replace_after_us;
        bool lease_fast;                /* [Lease] Profile */
        uint32_t lease_drift_ppm;
        LeaseTimes lease_times;         /* complete: what the file leaves open is the profile's */
        char *fence_directory;          /* [Fencing] */
        uint64_t fence_timeout_us;
        int log_level;                  /* [Log] */
} Conf;

void conf_clear(Conf *conf);

/* Fills @ret from the file at @path; a file that is missing is all defaults, unless @must_exist. Returns 0; -EINVAL
 * with a sentence that names file and line; or another -errno, with a sentence where there is one. */
int conf_load(const char *path, bool must_exist, Conf *ret, char **reterr_sentence);

/* "500ms", "10s", "3min", "1h"; a number alone is seconds. 0, -EINVAL or -ERANGE. */
int conf_parse_time(const char *text, uint64_t *ret_us);
