/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-bind: takes a GPU from the host's drivers to vfio-pci, gives it back, and looks at it in between, for the
 * service, which is not root. One question on standard input, one answer on standard output (systemd's Accept=yes),
 * then it ends; bind-protocol.h has the words.
 *
 * A driver can hold up each of these for ever, and then this process cannot even be killed: that costs this process and
 * nobody else. Whoever asks has a deadline. All memory is static. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/device.h"
#include "probe/files.h"
#include "util/text.h"

typedef struct Question {
        BindVerb verb;
        GpuIdentity card;               /* take */
        PciAddress functions[BIND_FUNCTIONS_MAX];
        size_t n_functions;
} Question;

/* A line and nothing behind it. */
static bool read_line(char *ret, size_t size) {
        size_t n = 0;
        while (n < size - 1 && !memchr(ret, '\n', n)) {
                ssize_t got = read(STDIN_FILENO, ret + n, size - 1 - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return false;
                n += (size_t) got;
        }
        char *end = memchr(ret, '\n', n);
        if (!end || end != ret + n - 1 || memchr(ret, '\0', n))
                return false;
        *end = '\0';
        return true;
}

static bool has(const Question *question, PciAddress address) {
        for (size_t i = 0; i < question->n_functions; i++)
                if (pci_address_equal(question->functions[i], address))
                        return true;
        return false;
}

static bool read_question(Question *ret) {
        char line[BIND_REQUEST_MAX], *rest = line;
        *ret = (Question) {};
        if (!read_line(line, sizeof(line)) || bind_verb_from_text(strsep(&rest, " "), &ret->verb) < 0)
                return false;
        if (ret->verb == BIND_TAKE && (!rest || bind_card_from_text(strsep(&rest, " "), &ret->card) < 0))
                return false;
        for (char *word; (word = strsep(&rest, " "));) {
                PciAddress address;
                if (ret->n_functions >= BIND_FUNCTIONS_MAX || pci_address_from_text(word, &address) < 0 ||
                    has(ret, address))
                        return false;
                ret->functions[ret->n_functions++] = address;
        }
        return ret->n_functions > 0;
}

static void carry_out(const Question *question, Device *device) {
        device_check(device, question->functions, question->n_functions);
        if (device->result == BIND_DONE)
                device_lock(device);
        if (device->result == BIND_DONE)
                device_check_holders(device, question->verb != BIND_TAKE);
        if (device->result == BIND_DONE && question->verb == BIND_TAKE)
                device_check_card(device, &question->card);
        if (device->result != BIND_DONE)
                return;
        switch (question->verb) {
        case BIND_TAKE:
                device_take(device);
                break;
        case BIND_GIVE:
                device_give(device);
                break;
        case BIND_INSPECT:
                device_inspect(device);
                break;
        case BIND_VERB_COUNT:
                break;
        }
}

static int send_answer(const Device *device) {
        char answer[BIND_ANSWER_MAX];
        int n = snprintf(answer, sizeof(answer), "%s%s%s\nend\n", bind_result_to_text(device->result),
                         *device->sentence ? " " : "", device->sentence);
        for (int done = 0; done < n;) {
                ssize_t written = write(STDOUT_FILENO, answer + done, (size_t) (n - done));
                if (written < 0 && errno == EINTR)
                        continue;
                if (written <= 0)
                        return -EIO;
                done += (int) written;
        }
        return 0;
}

int main(int argc, char **argv) {
        static Device device;
        Question question;
        if (argc == 3 && text_equal(argv[1], "--root"))
                files_root = argv[2];
        else if (argc != 1) {
                (void) fprintf(stderr, "usage: gpupool-bind [--root FOLDER]  (a question on standard input)\n");
                return EXIT_FAILURE;
        }
        if (!read_question(&question))
                return EXIT_FAILURE;
        carry_out(&question, &device);
        return send_answer(&device) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
