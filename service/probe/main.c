/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-probe: reads what the service, which is not root, cannot: configuration space beyond its header, and which
 * processes hold a GPU's device files open. One question on standard input, one answer on standard output (systemd's
 * Accept=yes), then it ends. It opens no device and writes nothing anywhere.
 *
 * Reading the configuration space of a device that hangs may never come back: whoever asks has a deadline, and so has
 * this process's unit. All memory is static: what it takes is known, and nothing can make it take more. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/pci.h"
#include "probe/files.h"
#include "probe/holders.h"
#include "probe/probe-protocol.h"
#include "util/cleanup.h"
#include "util/text.h"

#define LIFETIME_S 10U                  /* as in the unit; for when there is none */
#define CONFIG_SIZE 4096U

static char answer[PROBE_ANSWER_MAX];
static size_t answer_length;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        int n = vsnprintf(answer + answer_length, sizeof(answer) - answer_length, format, ap);
        va_end(ap);
        if (n < 0 || (size_t) n >= sizeof(answer) - answer_length)
                exit(EXIT_FAILURE);     /* cannot be: the limits of the protocol add up to less */
        answer_length += (size_t) n;
}

static int send_answer(void) {
        for (size_t done = 0; done < answer_length;) {
                ssize_t n = write(STDOUT_FILENO, answer + done, answer_length - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return -EIO;
                done += (size_t) n;
        }
        return 0;
}

static void say_config(const char *prefix, const char *address) {
        uint8_t config[CONFIG_SIZE];
        _cleanup_close_ int fd = open_path(O_RDONLY, "/sys/bus/pci/devices/%s/config", address);
        ssize_t n = fd < 0 ? fd : read_whole(fd, config, sizeof(config));
        if (n <= 0)
                return;
        say("%s ", prefix);
        for (ssize_t i = 0; i < n; i++)
                say("%02x", config[i]);
        say("\n");
}

/* The device's link ends in ".../BRIDGE/BRIDGE/ADDRESS": the parts before the last, from the back. */
static void say_bridges(const char *address) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s", address);
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return;
        target[n] = '\0';

        char *slash = strrchr(target, '/');
        for (unsigned i = 0; slash && i < PROBE_BRIDGES_MAX; i++) {
                *slash = '\0';
                slash = strrchr(target, '/');
                PciAddress bridge;
                if (!slash || pci_address_from_text(slash + 1, &bridge) < 0)
                        return;
                char prefix[sizeof("bridge ") + PCI_ADDRESS_TEXT_SIZE], text[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(bridge, text);
                (void) snprintf(prefix, sizeof(prefix), "bridge %s", text);
                say_config(prefix, text);
        }
}

static void say_holder(const Holder *holder) {
        say("holder %s %s %s\n", holder->pid, holder->host ? "host" : "vfio", holder->name);
}

static bool read_question(char ret[static PCI_ADDRESS_TEXT_SIZE]) {
        char question[PROBE_REQUEST_MAX] = "";
        size_t n = 0;
        while (n < sizeof(question) - 1 && !strchr(question, '\n')) {
                ssize_t got = read(STDIN_FILENO, question + n, sizeof(question) - 1 - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return false;
                n += (size_t) got;
        }
        char *end = strchr(question, '\n');
        PciAddress address;
        if (!end || end[1] || strlen(question) != n || strncmp(question, "gpu ", strlen("gpu ")) != 0)
                return false;
        *end = '\0';
        if (pci_address_from_text(question + strlen("gpu "), &address) < 0)
                return false;
        pci_address_to_text(address, ret);
        return true;
}

int main(int argc, char **argv) {
        if (argc == 3 && text_equal(argv[1], "--root"))
                files_root = argv[2];
        else if (argc != 1) {
                (void) fprintf(stderr, "usage: gpupool-probe [--root FOLDER]  (a question on standard input)\n");
                return EXIT_FAILURE;
        }

        char address[PCI_ADDRESS_TEXT_SIZE];
        (void) alarm(LIFETIME_S);
        if (!read_question(address))
                return EXIT_FAILURE;

        say_config("config", address);
        say_bridges(address);
        holders_add_device(address);
        if (!holders_find(say_holder, PROBE_HOLDERS_MAX))
                return EXIT_FAILURE;    /* without "end" nobody takes silence for "no holders" */
        say("end\n");
        return send_answer() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
