/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "daemon/manager.h"
#include "util/log.h"

/* A bigger block goes back to the system when it is freed. glibc would raise this with each such block, up to 32 MiB:
 * one big message of a stranger, and the process stays that much larger for ever. */
#define BLOCK_OF_ITS_OWN_SIZE (256 * 1024)

static int usage(FILE *to, int status) {
        (void) fputs("gpupoold [--config=FILE]\n"
                     "\n"
                     "The GPU pool service of this host; systemd starts it (gpupoold.service).\n"
                     "\n"
                     "  --config=FILE   settings, see gpupoold.conf(5) [" CONF_PATH_DEFAULT "]\n"
                     "  --version       version, then end\n"
                     "  --help          this\n",
                     to);
        return status;
}

/* One life of the service. A ManagerEnd, or an exit status with a minus before it. */
static int live(const Conf *conf) {
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_free_ char *sentence = NULL;
        int r = manager_new(&manager, conf, &sentence);
        if (r == MANAGER_REFUSED) {
                log_error("%s", sentence);
                return -EX_CONFIG;
        }
        if (r >= 0)
                r = manager_run(manager);
        if (r < 0) {
                log_error("gpupoold ends: %s", sentence ? sentence : strerror(-r));
                return r == -ENOTSUP ? -EX_CONFIG : -EXIT_FAILURE;
        }
        return r;
}

static int run(const char *path, bool must_exist) {
        _cleanup_(conf_clear) Conf conf = {};
        _cleanup_free_ char *sentence = NULL;
        int r = conf_load(path, must_exist, &conf, &sentence);
        if (r < 0) {
                log_error("%s", sentence ? sentence : strerror(-r));
                return EX_CONFIG;
        }
        log_set_level(conf.log_level);

        do
                r = live(&conf);
        while (r == MANAGER_AGAIN);
        return r < 0 ? -r : EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        const char *path = NULL;
        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                switch (c) {
                case 'c':
                        path = optarg;
                        break;
                case 'v':
                        (void) puts("gpupoold " GPUPOOL_VERSION);
                        return EXIT_SUCCESS;
                case 'h':
                        return usage(stdout, EXIT_SUCCESS);
                default:
                        return usage(stderr, EX_USAGE);
                }
        }
        if (optind < argc)
                return usage(stderr, EX_USAGE);
        (void) mallopt(M_MMAP_THRESHOLD, BLOCK_OF_ITS_OWN_SIZE);
        return run(path ? path : CONF_PATH_DEFAULT, path);
}
