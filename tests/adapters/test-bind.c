/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-bind on a folder that looks like sysfs, as far as it decides before it writes anything and by what it reads;
 * and the client that asks it. What drivers do meanwhile: tests/host/test-bind. */

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "adapters/bind/bind-client.h"
#include "bind/bind-protocol.h"
#include "core/pci-config.h"
#include "udev-world.h"
#include "util/array.h"

/* ---- the program */

static const MockDevice DISK_ON_THE_CARD = {
        .address = "0000:41:00.5", .below = "pci0000:40/0000:40:01.0", .vendor = 0x144d, .device = 0xa80a,
        .class = 0x010802, .driver = "nvme", .group = 42,
};
static const MockDevice SOUND_OF_THE_CARD = {
        .address = "0000:41:00.1", .below = "pci0000:40/0000:40:01.0", .vendor = 0x10de, .device = 0x1aef,
        .class = 0x040300, .driver = "snd_hda_intel", .group = 43,
};
static const MockDevice USB_APART = {
        .address = "0000:41:00.2", .below = "pci0000:40/0000:40:01.0", .vendor = 0x1022, .device = 0x15e2,
        .class = 0x0c0330, .driver = "xhci_hcd", .group = 44,
};
static const MockDevice BRIDGE = {
        .address = "0000:40:01.0", .below = "pci0000:40", .vendor = 0x8086, .device = 0x352a, .class = 0x060400,
        .driver = "pcieport", .group = 41,
};

static const char *const written[] = {
        "sys/bus/pci/drivers_probe", "sys/bus/pci/drivers/vfio-pci/bind", "sys/bus/pci/drivers/vfio-pci/unbind",
        "sys/bus/pci/drivers/nvidia/unbind", "sys/bus/pci/drivers/nouveau/unbind", "sys/bus/pci/drivers/nvme/unbind",
        "sys/bus/pci/drivers/mlx5_core/unbind", "sys/bus/pci/drivers/pcieport/unbind",
        "sys/bus/pci/drivers/xhci_hcd/unbind", "sys/bus/pci/drivers/snd_hda_intel/unbind",
};

/* MOCK_H100. */
#define H100_IDS "10de:2331:10de:1626"
#define H100_SLOT "pci0000:40/01.0/00.0"
#define H100 H100_IDS ",," H100_SLOT
#define TAKE_H100 "take " H100 " 0000:41:00.0"

/* A host with all kinds of devices, on which every write would be seen. */
static MockSysfs *host_of_many(void) {
        static const MockDevice *const devices[] = { &MOCK_H100, &DISK_ON_THE_CARD, &SOUND_OF_THE_CARD, &USB_APART,
                                                     &BRIDGE, &NETWORK_CARD, &FAR_CARD, &MOCK_GEFORCE[0],
                                                     &MOCK_GEFORCE[1] };
        MockSysfs *mock = mock_sysfs_new();
        for (size_t i = 0; i < ELEMENTS(devices); i++) {
                mock_device_add(mock, devices[i]);
                mock_attribute_set_bytes(mock, devices[i]->address, "driver_override", "", 0);
        }
        for (size_t i = 0; i < ELEMENTS(written); i++)
                mock_file(mock, written[i], "");
        mock_file(mock, "run/gpupool-bind/here", "");
        return mock;
}

static char *contents(MockSysfs *mock, const char *path) {
        g_autofree char *full = g_build_filename(mock_sysfs_root(mock), path, NULL);
        char *text = NULL;
        return g_file_get_contents(full, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

static void assert_nothing_was_written(MockSysfs *mock) {
        static const char *const addresses[] = { "0000:41:00.0", "0000:41:00.5", "0000:42:00.0", "0000:99:00.0",
                                                 "0000:01:00.0", "0000:40:01.0" };
        for (size_t i = 0; i < ELEMENTS(written); i++) {
                g_autofree char *text = contents(mock, written[i]);
                g_assert_cmpstr(text, ==, "");
        }
        for (size_t i = 0; i < ELEMENTS(addresses); i++) {
                g_autofree char *path = g_strdup_printf("sys/bus/pci/devices/%s/driver_override", addresses[i]);
                g_autofree char *text = contents(mock, path);
                g_assert_cmpstr(text, ==, "");
        }
}

static char *ask(MockSysfs *mock, const char *question, int *ret_status) {
        g_autofree char *quoted = g_shell_quote(question), *program = g_shell_quote(world_probe_program());
        g_autofree char *root = g_shell_quote(mock_sysfs_root(mock));
        g_autofree char *line = g_strdup_printf("printf %%b %s | %s --root %s", quoted, program, root);
        const char *arguments[] = { "/bin/sh", "-c", line, NULL };
        char *output;
        g_assert_true(g_spawn_sync(NULL, (char **) arguments, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL,
                                   ret_status, NULL));
        return output;
}

/* The result, and something that its sentence says; NULL: it says nothing. */
static void assert_answer(MockSysfs *mock, const char *question, BindResult wanted, const char *said) {
        int status;
        g_autofree char *line = g_strconcat(question, "\\n", NULL), *output = ask(mock, line, &status);
        _cleanup_free_ char *sentence = NULL;
        BindResult result;
        g_assert_cmpint(status, ==, 0);
        g_assert_cmpint(bind_answer_parse(output, strlen(output), &result, &sentence), ==, 0);
        g_test_message("%s: %s", question, output);
        g_assert_cmpstr(bind_result_to_text(result), ==, bind_result_to_text(wanted));
        if (said)
                g_assert_nonnull(strstr(sentence ? sentence : "", said));
        else
                g_assert_null(sentence);
}

/* Nothing is a driver here, so that it comes to nothing in the end. */
static void assert_is_touched(MockSysfs *mock, const char *question) {
        assert_answer(mock, question, BIND_FAILED, "vfio-pci does not take");
        g_autofree char *unbound = contents(mock, "sys/bus/pci/drivers/nvidia/unbind");
        g_assert_cmpstr(unbound, ==, "0000:41:00.0");
        mock_file(mock, "sys/bus/pci/drivers/nvidia/unbind", "");
}

static void test_what_is_no_question_is_answered_by_hanging_up(void) {
        static const char *const questions[] = {
                "", "\\n", "take\\n", "take \\n", TAKE_H100, "take " H100 "\\n", "take " H100 "  0000:41:00.0\\n",
                TAKE_H100 " \\n", "take " H100 " ../../../etc\\n", TAKE_H100 "\\n" TAKE_H100 "\\n",
                "TAKE " H100 " 0000:41:00.0\\n", TAKE_H100 "\\000\\n", TAKE_H100 " 0000:41:00.0\\n",
                "steal 0000:41:00.0\\n", "give " H100 " 0000:41:00.0\\n", "inspect " H100 " 0000:41:00.0\\n",
                "take 0000:41:00.0\\n", "take  0000:41:00.0\\n", "take " H100_IDS ",, 0000:41:00.0\\n",
                "take " H100_IDS ",1 0000:41:00.0\\n", "take " H100_IDS " 0000:41:00.0\\n",
                "take " H100_IDS ",1,a,b 0000:41:00.0\\n", "take 10de:2331,," H100_SLOT " 0000:41:00.0\\n",
                "take 10DE:2331:10de:1626,," H100_SLOT " 0000:41:00.0\\n",
                "take 10de:2331:10de:16261,," H100_SLOT " 0000:41:00.0\\n",
                "take " H100_IDS ",01234567890123456789012345678901," H100_SLOT " 0000:41:00.0\\n",
                TAKE_H100 " 0000:41:00.1 0000:41:00.2 0000:41:00.3 0000:41:00.4 0000:41:00.5 0000:41:00.6 "
                "0000:41:00.7 0000:41:01.0\\n",
                TAKE_H100 "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
                "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\\n",
        };
        MockSysfs *mock = host_of_many();
        for (size_t i = 0; i < ELEMENTS(questions); i++) {
                int status;
                g_autofree char *output = ask(mock, questions[i], &status);
                g_test_message("%s", questions[i]);
                g_assert_cmpstr(output, ==, "");
                g_assert_true(WIFEXITED(status));
                g_assert_cmpint(WEXITSTATUS(status), ==, EXIT_FAILURE);         /* and not of a signal */
        }
        assert_nothing_was_written(mock);
        (void) mock_sysfs_free(mock);
}

static void test_what_the_host_lives_on_cannot_be_taken_away(void) {
        static const struct {
                const char *devices, *said;
        } rows[] = {
                { "0000:42:00.0", "is no GPU" },                        /* a network card in the GPU's group */
                { "0000:99:00.0", "is no GPU" },
                { "0000:40:01.0", "is no GPU" },
                { "0000:41:00.5", "is no GPU" },
                { "0000:77:00.0", "there is no device" },
                { "0000:41:00.0 0000:42:00.0", "not of the card" },
                { "0000:41:00.0 0000:40:01.0", "not of the card" },
                { "0000:41:00.0 0000:99:00.0", "not of the card" },
                { "0000:41:00.0 0000:01:00.1", "not of the card" },
                { "0000:41:00.0 0000:41:00.5", "no part of a GPU" },    /* a disk on the same card */
                { "0000:41:00.0 0000:41:00.2", "stays with the host" }, /* as of a processor's graphics */
                { "0000:41:00.0 0000:41:00.7", "there is no device" },
                { "0000:01:00.0", "the host's console" },
        };
        static const char *const verbs[] = { "take " H100, "give", "inspect" };
        MockSysfs *mock = host_of_many();
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t j = 0; j < ELEMENTS(verbs); j++) {
                        g_autofree char *question = g_strdup_printf("%s %s", verbs[j], rows[i].devices);
                        assert_answer(mock, question, BIND_REFUSED, rows[i].said);
                }
        assert_nothing_was_written(mock);
        (void) mock_sysfs_free(mock);
}

static void test_who_holds_the_gpu_is_named_with_what_to_do_and_nothing_is_touched(void) {
        static const struct {
                const char *name, *said;
        } rows[] = {
                { "nvidia-persiste", "systemctl stop nvidia-persistenced" },
                { "nv-fabricmanage", "systemctl stop nvidia-fabricmanager" },
                { "python3", "python3 (pid " },
        };
        MockSysfs *mock = host_of_many();
        mock_attribute_set(mock, "0000:41:00.0", "drm/card0/dev", "226:0");
        mock_file(mock, "dev/dri/card0", "");
        g_autofree char *path = g_build_filename(mock_sysfs_root(mock), "dev/dri/card0", NULL);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                g_assert_cmpint(prctl(PR_SET_NAME, rows[i].name), ==, 0);
                assert_answer(mock, TAKE_H100, BIND_HELD, rows[i].said);
        }
        assert_nothing_was_written(mock);
        (void) close(fd);
        (void) mock_sysfs_free(mock);
}

static void test_a_companion_that_is_held_keeps_its_gpu_too(void) {
        MockSysfs *mock = host_of_many();
        mock_attribute_set(mock, "0000:41:00.1", "sound/card1/pcmC1D3p/dev", "116:9");
        mock_file(mock, "dev/snd/pcmC1D3p", "");
        g_autofree char *path = g_build_filename(mock_sysfs_root(mock), "dev/snd/pcmC1D3p", NULL);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        assert_answer(mock, TAKE_H100 " 0000:41:00.1", BIND_HELD, "(pid ");
        assert_nothing_was_written(mock);
        (void) close(fd);
        (void) mock_sysfs_free(mock);
}

static void test_what_a_vm_has_is_neither_reset_nor_given_back(void) {
        MockSysfs *mock = host_of_many();
        mock_driver_set(mock, "0000:41:00.0", "vfio-pci");
        mock_file(mock, "dev/vfio/42", "");
        mock_file(mock, "run/gpupool-bind/0000:41:00.0.taken", "nvidia");
        g_autofree char *path = g_build_filename(mock_sysfs_root(mock), "dev/vfio/42", NULL);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        assert_answer(mock, "inspect 0000:41:00.0", BIND_HELD, "(pid ");
        assert_answer(mock, "give 0000:41:00.0", BIND_HELD, "(pid ");
        assert_answer(mock, TAKE_H100, BIND_HELD, "(pid ");
        g_autofree char *reset = contents(mock, "sys/bus/pci/devices/0000:41:00.0/reset");
        g_assert_cmpstr(reset, ==, "");
        assert_nothing_was_written(mock);
        (void) close(fd);
        (void) mock_sysfs_free(mock);
}

static void test_what_was_not_taken_is_not_given_back(void) {
        MockSysfs *mock = host_of_many();
        mock_driver_set(mock, "0000:41:00.0", "vfio-pci");
        assert_answer(mock, "give 0000:41:00.0", BIND_DONE, NULL);
        assert_answer(mock, TAKE_H100, BIND_DONE, NULL);
        assert_answer(mock, "give 0000:41:00.0", BIND_DONE, NULL);
        assert_nothing_was_written(mock);
        (void) mock_sysfs_free(mock);
}

static void test_one_at_a_time_is_at_work_on_a_card(void) {
        MockSysfs *mock = host_of_many();
        mock_file(mock, "run/gpupool-bind/0000:41:00.lock", "");
        g_autofree char *path = g_build_filename(mock_sysfs_root(mock), "run/gpupool-bind/0000:41:00.lock", NULL);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(flock(fd, LOCK_EX), ==, 0);
        assert_answer(mock, TAKE_H100, BIND_BUSY, "another gpupool-bind");
        assert_nothing_was_written(mock);
        (void) close(fd);
        (void) mock_sysfs_free(mock);
}

/* ---- which card it is */

static void set_serial(MockSysfs *mock, uint8_t last) {
        uint8_t config[PCI_CONFIG_SIZE] = { 0xde, 0x10, 0x31, 0x23, [0x100] = 0x03, 0x00, 0x01, 0x00, [0x104] = last,
                                            0x7e, 0x1a, 0xff, 0xff, 0x2d, 0xb0, 0x48 };
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", config, sizeof(config));
}

/* Each difference alone; the first is none. */
static void test_another_card_than_the_one_that_is_meant_is_not_touched(void) {
        static const struct {
                const char *card, *said;        /* NULL: it is the one */
        } rows[] = {
                { H100_IDS ",48b02dffff1a7e01," H100_SLOT, NULL },
                { H100, NULL },                 /* no serial was read, which is no proof of another card */
                { "10df:2331:10de:1626,48b02dffff1a7e01," H100_SLOT, "another card is in this slot" },
                { "10de:2330:10de:1626,48b02dffff1a7e01," H100_SLOT, "and not 10de:2330" },
                { "10de:2331:10df:1626,48b02dffff1a7e01," H100_SLOT, "another card is in this slot" },
                { "10de:2331:10de:1627,48b02dffff1a7e01," H100_SLOT, "another card is in this slot" },
                { H100_IDS ",48b02dffff1a7e02," H100_SLOT, "serial 48b02dffff1a7e01) and not" },
                { H100_IDS ",48b02dffff1a7e01,pci0000:40/03.0/00.0", "the bus was numbered anew" },
        };
        MockSysfs *mock = host_of_many();
        set_serial(mock, 1);
        for (size_t i = ELEMENTS(rows); i > 0; i--) {
                g_autofree char *question = g_strdup_printf("take %s 0000:41:00.0", rows[i - 1].card);
                if (rows[i - 1].said) {
                        assert_answer(mock, question, BIND_OTHER_CARD, rows[i - 1].said);
                        assert_nothing_was_written(mock);
                        g_autofree char *note = contents(mock, "run/gpupool-bind/0000:41:00.0.taken");
                        g_assert_null(note);
                } else
                        assert_is_touched(mock, question);
        }
        (void) mock_sysfs_free(mock);
}

static void test_a_card_whose_serial_cannot_be_read_is_taken_for_the_one_that_is_meant(void) {
        uint8_t header[64] = { 0xde, 0x10, 0x31, 0x23 };
        MockSysfs *mock = host_of_many();
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", header, sizeof(header));
        assert_is_touched(mock, "take " H100_IDS ",48b02dffff1a7e01," H100_SLOT " 0000:41:00.0");
        (void) mock_sysfs_free(mock);
}

/* ---- inspection */

static MockSysfs *host_with_a_returned_gpu(void) {
        MockSysfs *mock = host_of_many();
        /* By the resource lines: regions 0 and 2 and 4, each above 4 GiB. */
        uint8_t config[256] = { 0xde, 0x10, 0x31, 0x23, [0x13] = 0xa2, [0x14] = 0x00, 0x20, [0x1c] = 0x40, 0x20,
                                [0x23] = 0xa0, [0x24] = 0x00, 0x20 };
        mock_driver_set(mock, "0000:41:00.0", "vfio-pci");
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", config, sizeof(config));
        mock_attribute_set(mock, "0000:41:00.0", "max_link_width", "16");
        mock_attribute_set(mock, "0000:41:00.0", "current_link_width", "16");
        return mock;
}

static void test_a_gpu_in_order_is_reset_and_passes(void) {
        MockSysfs *mock = host_with_a_returned_gpu();
        assert_answer(mock, "inspect 0000:41:00.0", BIND_DONE, NULL);
        g_autofree char *reset = contents(mock, "sys/bus/pci/devices/0000:41:00.0/reset");
        g_assert_cmpstr(reset, ==, "1");
        (void) mock_sysfs_free(mock);
}

static void test_what_a_driver_of_the_host_has_is_not_reset(void) {
        MockSysfs *mock = host_with_a_returned_gpu();
        mock_driver_set(mock, "0000:41:00.0", "nvidia");
        assert_answer(mock, "inspect 0000:41:00.0", BIND_DONE, NULL);
        g_autofree char *reset = contents(mock, "sys/bus/pci/devices/0000:41:00.0/reset");
        g_assert_cmpstr(reset, ==, "");
        (void) mock_sysfs_free(mock);
}

static void test_each_thing_that_is_wrong_with_it_is_told(void) {
        uint8_t ones[256], other[256] = { 0xde, 0x10, 0x32, 0x23 }, no_bars[256] = { 0xde, 0x10, 0x31, 0x23 };
        memset(ones, 0xff, sizeof(ones));
        MockSysfs *mock = host_with_a_returned_gpu();
        mock_attribute_set(mock, "0000:41:00.0", "current_link_width", "0");
        assert_answer(mock, "inspect 0000:41:00.0", BIND_BAD_LINK, "16 lanes");
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", no_bars, sizeof(no_bars));
        assert_answer(mock, "inspect 0000:41:00.0", BIND_BAD_BARS, "memory region");
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", other, sizeof(other));
        assert_answer(mock, "inspect 0000:41:00.0", BIND_BAD_CONFIG, "another device");
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", ones, sizeof(ones));
        assert_answer(mock, "inspect 0000:41:00.0", BIND_BAD_CONFIG, "all ones");
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", ones, 4);
        assert_answer(mock, "inspect 0000:41:00.0", BIND_BAD_CONFIG, "cannot be read");
        (void) mock_sysfs_free(mock);
}

/* ---- the client */

typedef struct Asker {
        sd_event *event;
        BindClient *client;
        char *socket_path;
        int listener;
        unsigned n_answered, n_overdue;
        PciAddress gpu;
        BindResult result;
        char *sentence;
} Asker;

static void on_answered(void *userdata, PciAddress gpu, BindVerb verb, BindResult result, const char *sentence) {
        Asker *a = userdata;
        a->n_answered++;
        a->gpu = gpu;
        a->result = result;
        g_assert_cmpint(text_set(&a->sentence, sentence), ==, 0);
}

static void on_overdue(void *userdata, PciAddress gpu, BindVerb verb) {
        ((Asker *) userdata)->n_overdue++;
}

static void asker_begin(Asker *a, uint64_t deadline_us) {
        static const BindEvents events = { .answered = on_answered, .overdue = on_overdue };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        *a = (Asker) { .listener = -1 };
        g_autofree char *folder = g_dir_make_tmp("gpupool-bind-XXXXXX", NULL);
        a->socket_path = g_build_filename(folder, "bind.sock", NULL);
        g_assert_cmpuint(strlen(a->socket_path), <, sizeof(address.sun_path));
        strcpy(address.sun_path, a->socket_path);
        a->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(bind(a->listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(a->listener, 16), ==, 0);
        g_assert_cmpint(sd_event_new(&a->event), ==, 0);
        g_assert_cmpint(bind_client_new(&a->client, a->event, a->socket_path, deadline_us, &events, a), ==, 0);
}

static void asker_end(Asker *a) {
        g_autofree char *folder = g_path_get_dirname(a->socket_path);
        a->client = bind_client_free(a->client);
        a->event = sd_event_unref(a->event);
        if (a->listener >= 0)
                (void) close(a->listener);
        (void) g_unlink(a->socket_path);
        (void) g_rmdir(folder);
        g_free(a->socket_path);
        free(a->sentence);
}

#define TOLD "take 10de:000a:0000:0000,0f,pci0000:40/01.0 0000:41:00.0 0000:41:00.1\n"

static void asks(Asker *a, BindVerb verb, uint8_t bus) {
        const GpuIdentity card = { .slot = "pci0000:40/01.0", .serial = "0f", .vendor = 0x10de, .device = 0xa };
        PciAddress functions[2] = { { .bus = bus }, { .bus = bus, .function = 1 } };
        g_assert_cmpint(bind_client_ask(a->client, verb, &card, functions, 2), ==, 0);
}

/* Takes the next question; the connection on which the answer goes. */
static int hears(Asker *a, const char *question) {
        char text[BIND_REQUEST_MAX + 1] = "";
        int fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(read(fd, text, sizeof(text) - 1), >, 0);
        g_assert_cmpstr(text, ==, question);
        return fd;
}

static void says(int fd, const char *answer) {
        g_assert_cmpint(write(fd, answer, strlen(answer)), ==, (ssize_t) strlen(answer));
        (void) close(fd);
}

#define RUN_UNTIL(a, condition)                                                         \
        for (gint64 _end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC; !(condition);) { \
                g_assert_cmpint(g_get_monotonic_time(), <, _end);                       \
                g_assert_cmpint(sd_event_run((a)->event, 10000), >=, 0);                \
        }

static void test_a_question_is_answered(void) {
        Asker a;
        asker_begin(&a, 10 * G_USEC_PER_SEC);
        asks(&a, BIND_TAKE, 0x41);
        PciAddress gpu = { .bus = 0x41 };
        g_assert_cmpint(bind_client_ask(a.client, BIND_GIVE, NULL, &gpu, 1), ==, -EBUSY);
        says(hears(&a, TOLD), "held Xorg (pid 1) has it\x1b open\nend\n");
        RUN_UNTIL(&a, a.n_answered == 1);
        g_assert_cmpint(a.result, ==, BIND_HELD);
        g_assert_cmpstr(a.sentence, ==, "Xorg (pid 1) has it  open");
        g_assert_cmpint(bind_client_ask(a.client, BIND_GIVE, NULL, &gpu, 1), ==, 0);
        says(hears(&a, "give 0000:41:00.0\n"), "done\nend\n");
        RUN_UNTIL(&a, a.n_answered == 2);
        g_assert_cmpint(a.result, ==, BIND_DONE);
        g_assert_null(a.sentence);
        asker_end(&a);
}

static void test_one_that_hangs_is_told_once_and_holds_up_no_other(void) {
        Asker a;
        asker_begin(&a, 50000);
        asks(&a, BIND_TAKE, 0x41);
        int hangs = hears(&a, TOLD);
        RUN_UNTIL(&a, a.n_overdue == 1);
        asks(&a, BIND_INSPECT, 0x42);
        says(hears(&a, "inspect 0000:42:00.0 0000:42:00.1\n"), "done\nend\n");
        RUN_UNTIL(&a, a.n_answered == 1);
        g_assert_cmpuint(a.gpu.bus, ==, 0x42);
        for (unsigned i = 0; i < 20; i++)
                (void) sd_event_run(a.event, 5000);
        g_assert_cmpuint(a.n_overdue, ==, 1);
        says(hangs, "done\nend\n");
        RUN_UNTIL(&a, a.n_answered == 2);
        g_assert_cmpuint(a.gpu.bus, ==, 0x41);
        asker_end(&a);
}

static void test_whoever_is_not_there_or_says_nothing_is_unavailable(void) {
        static const char *const answers[] = { "", "done", "done\n", "end\n", "\nend\n", "yes\nend\n", "done\nend",
                                               "done\n\nend\nend\n " };
        Asker a;
        asker_begin(&a, 10 * G_USEC_PER_SEC);
        for (unsigned i = 0; i < ELEMENTS(answers); i++) {
                asks(&a, BIND_TAKE, 0x41);
                says(hears(&a, TOLD), answers[i]);
                RUN_UNTIL(&a, a.n_answered == i + 1);
                g_test_message("%s", answers[i]);
                g_assert_cmpint(a.result, ==, BIND_UNAVAILABLE);
                g_assert_nonnull(a.sentence);
        }
        (void) close(a.listener);
        a.listener = -1;
        asks(&a, BIND_TAKE, 0x41);
        g_assert_cmpuint(a.n_answered, ==, ELEMENTS(answers));  /* never before it returns */
        RUN_UNTIL(&a, a.n_answered == ELEMENTS(answers) + 1);
        g_assert_nonnull(strstr(a.sentence, "gpupool-bind.socket"));
        asker_end(&a);
}

static void test_an_answer_may_be_any_bytes(void) {
        static const char *const parts[] = { "done", "held", "bad-reset", " ", "\n", "end\n", "\nend\n", "\x80", "x" };
        GRand *random = g_rand_new_with_seed(7);
        for (unsigned round = 0; round < 20000; round++) {
                GString *text = g_string_new(NULL);
                for (int n = g_rand_int_range(random, 0, 8); n > 0; n--) {
                        if (g_rand_int_range(random, 0, 4) == 0)
                                g_string_append_c(text, (char) g_rand_int_range(random, 0, 256));
                        else
                                g_string_append(text, parts[g_rand_int_range(random, 0, ELEMENTS(parts))]);
                }
                _cleanup_free_ char *sentence = NULL;
                BindResult result;
                g_assert_cmpint(bind_answer_parse(text->str, text->len, &result, &sentence), ==, 0);
                g_assert_cmpint(result, <=, BIND_UNAVAILABLE);
                if (sentence)
                        g_assert_true(text_is_printable(sentence));
                (void) g_string_free(text, TRUE);
        }
        g_rand_free(random);
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
#define TEST(name) g_test_add_func("/bind/" #name, test_##name)
        TEST(what_is_no_question_is_answered_by_hanging_up);
        TEST(what_the_host_lives_on_cannot_be_taken_away);
        TEST(who_holds_the_gpu_is_named_with_what_to_do_and_nothing_is_touched);
        TEST(a_companion_that_is_held_keeps_its_gpu_too);
        TEST(what_a_vm_has_is_neither_reset_nor_given_back);
        TEST(what_was_not_taken_is_not_given_back);
        TEST(one_at_a_time_is_at_work_on_a_card);
        TEST(another_card_than_the_one_that_is_meant_is_not_touched);
        TEST(a_card_whose_serial_cannot_be_read_is_taken_for_the_one_that_is_meant);
        TEST(a_gpu_in_order_is_reset_and_passes);
        TEST(what_a_driver_of_the_host_has_is_not_reset);
        TEST(each_thing_that_is_wrong_with_it_is_told);
        TEST(a_question_is_answered);
        TEST(one_that_hangs_is_told_once_and_holds_up_no_other);
        TEST(whoever_is_not_there_or_says_nothing_is_unavailable);
        TEST(an_answer_may_be_any_bytes);
#undef TEST
        return g_test_run();
}
