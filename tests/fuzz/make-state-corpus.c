/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes corpus/entry, corpus/snapshot and corpus/wire anew, of random histories: make-state-corpus FOLDER. For when
 * the registry's schema has changed. */

#include <stdio.h>

#include "unit/chronicle.h"

static void write_file(const char *folder, const char *kind, const char *name, const void *data, size_t size) {
        g_autofree char *path = g_strdup_printf("%s/%s/%s", folder, kind, name);
        g_assert_true(g_file_set_contents(path, data, (gssize) size, NULL));
}

/* As fuzz-wire takes it: behind the number of its kind. */
static void write_message(const char *folder, unsigned number, uint8_t kind, const uint8_t *data, size_t size) {
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        g_autofree char *name = g_strdup_printf("history-%02u", number);
        bytes[0] = kind;
        memcpy(bytes + 1, data, size);
        write_file(folder, "wire", name, bytes, size + 1);
}

static void write_history(const char *folder, unsigned seed, unsigned n_commands) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        GRand *random = g_rand_new_with_seed(seed);
        g_autofree char *name = g_strdup_printf("history-%02u", seed);
        c.log = g_byte_array_new();
        ASSERT_DONE(tell_init(&c, "lab"));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
        ASSERT_DONE(tell_pool(&c, "training", 1, 4));
        for (unsigned i = 0; i < n_commands; i++)
                tell_anything(&c, random);
        g_rand_free(random);

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", name, c.log->data, c.log->len);
        write_file(folder, "snapshot", name, bytes, size);
        size_t first_size = c.log->data[0] | (size_t) c.log->data[1] << 8;
        write_message(folder, 2 * seed, 0, c.log->data + 2, first_size);
        write_message(folder, 2 * seed + 1, 1, bytes, size);
        g_byte_array_unref(c.log);
}

/* Each command of failover at least once, where it is done. */
static void write_failover(const char *folder, const char *name, unsigned n_commands) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        GRand *random = g_rand_new_with_seed(n_commands);
        c.log = g_byte_array_new();
        tell_of_a_pair(&c);
        ASSERT_DONE(tell_fencing(&c, 1, "fence_ipmilan", "password", "s3cret"));
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_DONE(tell_thaw(&c, 1));
        ASSERT_DONE(tell_thawed(&c, 1));
        ASSERT_DONE(tell_drained(&c, 1, 5000));
        ASSERT_DONE(tell_moved(&c, 1, 2, true));
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        ASSERT_DONE(tell_resumed(&c, 1, true));
        Claim claim = claim_of(&c, 1, 2, 0, 2);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_WORD));
        for (unsigned i = 0; i < n_commands; i++)
                tell_anything(&c, random);
        g_rand_free(random);

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", name, c.log->data, c.log->len);
        write_file(folder, "snapshot", name, bytes, size);
        g_byte_array_unref(c.log);
}

/* What came with the level of devices. */
static void write_devices(const char *folder, const char *name) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        c.log = g_byte_array_new();
        tell_of_a_pair(&c);
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        ASSERT_DONE(tell_fabric(&c, 1, "0+1 2+3"));
        ASSERT_DONE(tell_fabric(&c, 2, "0+1+2+3"));
        ASSERT_DONE(tell_pool_set(&c, "training", "pci0000:00/00.0+pci0000:00/01.0"));
        ASSERT_DONE(tell_pool_set(&c, "training", "board"));

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", name, c.log->data, c.log->len);
        write_file(folder, "snapshot", name, bytes, size);
        g_byte_array_unref(c.log);
}

/* What came with the level of placement. */
static void write_placement(const char *folder, const char *name) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        c.log = g_byte_array_new();
        tell_of_a_pair(&c);
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 1));
        ASSERT_DONE(tell_vm_model(&c, 2, "training", 1, "10de:23*"));
        ASSERT_DONE(tell_vm_preemption(&c, 1, false, true));
        ASSERT_DONE(tell_vm_preemption(&c, 2, true, false));
        ASSERT_DONE(tell_vm_affinity(&c, 2, "rather-with", "bert"));
        ASSERT_DONE(tell_vm_xml(&c, 2, "ernie",
                                "<domain><memory unit='GiB'>64</memory><memoryBacking><hugepages><page size='1' "
                                "unit='GiB'/></hugepages></memoryBacking><cpu><model>EPYC</model></cpu><devices><disk>"
                                "<source file='/srv/ernie'/></disk></devices></domain>"));

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", name, c.log->data, c.log->len);
        write_file(folder, "snapshot", name, bytes, size);
        g_byte_array_unref(c.log);
}

int main(int argc, char **argv) {
        if (argc != 2) {
                fprintf(stderr, "usage: make-state-corpus FOLDER\n");
                return 2;
        }
        for (unsigned seed = 1; seed <= 24; seed++)
                write_history(argv[1], seed, 2 * seed);
        write_failover(argv[1], "failover-01", 0);
        write_failover(argv[1], "failover-02", 15);
        write_failover(argv[1], "failover-03", 30);
        write_devices(argv[1], "devices-01");
        write_placement(argv[1], "placement-01");
        return 0;
}
