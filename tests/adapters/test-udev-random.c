/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A host that changes under the reader's eyes: another thread plugs and pulls cards, rewrites and takes away files,
 * binds drivers, moves devices between groups and lets attributes hang, while the watch reads. Some of it udev tells,
 * some twice, some not at all, and some of what it tells is garbage. What is told at any moment can be shown to people
 * and judged; and when the weather is over, the watch shows what somebody sees who looks for the first time.
 *
 * SEED=N replays one; GPUPOOL_TEST_LONG: many more. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/survey.h"
#include "udev-world.h"

#define STEPS 400U
#define SEEDS 6U
#define SEEDS_LONG 200U

typedef struct Card {
        MockDevice device;
        char address[PCI_ADDRESS_TEXT_SIZE];
        bool there;
        const char *hangs;              /* this attribute */
} Card;

typedef struct Weather {
        GRand *random;
        MockSysfs *mock;
        Card cards[6];
        int over;                       /* atomic */
} Weather;

static const char *const attributes[] = {
        "class", "vendor", "device", "subsystem_vendor", "resource", "reset_method", "numa_node", "boot_vga", "config",
        "power_state", "power/runtime_status", "current_link_width", "max_link_speed", "vbios_version",
        "mem_info_vram_total", "xgmi_hive_info/xgmi_hive_id",
};
static const char *const drivers[] = { NULL, "nvidia", "vfio-pci", "amdgpu" };
static const char *const actions[] = { "add", "remove", "change", "bind", "unbind", "move" };

static uint32_t below(Weather *weather, uint32_t n) {
        return (uint32_t) g_rand_int_range(weather->random, 0, (gint32) n);
}

static void tell(Weather *weather, const Card *card, const char *action) {
        static const unsigned times[] = { 0, 1, 1, 2 };
        for (unsigned n = times[below(weather, G_N_ELEMENTS(times))]; n > 0; n--)
                mock_uevent(weather->mock, action, &card->device, NULL);
}

static void release(Weather *weather, Card *card) {
        if (!card->hangs)
                return;
        mock_attribute_release(weather->mock, card->address, card->hangs, "1");
        card->hangs = NULL;
}

static void pull_or_plug(Weather *weather, Card *card) {
        release(weather, card);
        if (card->there)
                mock_device_remove(weather->mock, card->address);
        else
                mock_device_add(weather->mock, &card->device);
        card->there = !card->there;
        tell(weather, card, card->there ? "add" : "remove");
}

static void write_garbage(Weather *weather, Card *card) {
        const char *name = attributes[below(weather, G_N_ELEMENTS(attributes))];
        uint8_t bytes[5000];
        uint32_t size = below(weather, 4) == 0 ? below(weather, sizeof(bytes)) : below(weather, 20);
        for (uint32_t i = 0; i < size; i++)
                bytes[i] = (uint8_t) below(weather, 256);
        if (!text_equal(name, card->hangs))
                mock_attribute_set_bytes(weather->mock, card->address, name, bytes, size);
}

static void change(Weather *weather, Card *card) {
        const char *name = attributes[below(weather, G_N_ELEMENTS(attributes))];
        switch (below(weather, 6)) {
        case 0:
                write_garbage(weather, card);
                break;
        case 1:
                if (!text_equal(name, card->hangs))
                        mock_attribute_remove(weather->mock, card->address, name);
                break;
        case 2:
                release(weather, card);
                if (below(weather, 4) == 0 && !strchr(name, '/')) {
                        mock_attribute_hang(weather->mock, card->address, name);
                        card->hangs = name;
                }
                break;
        case 3:
                mock_group_set(weather->mock, card->address, (int) below(weather, 4) + 42);
                break;
        default:
                mock_driver_set(weather->mock, card->address, drivers[below(weather, G_N_ELEMENTS(drivers))]);
        }
        tell(weather, card, actions[below(weather, G_N_ELEMENTS(actions))]);
}

static void tell_garbage(Weather *weather) {
        char bytes[300];
        uint32_t size = below(weather, sizeof(bytes));
        for (uint32_t i = 0; i < size; i++)
                bytes[i] = (char) below(weather, 256);
        const char *action = actions[below(weather, G_N_ELEMENTS(actions))];
        mock_uevent_bytes("pci", action, "/devices/pci0000:00/0000:00:1f.9", bytes, size);
}

static void *blow(void *userdata) {
        Weather *weather = userdata;
        for (unsigned step = 0; step < STEPS; step++) {
                Card *card = weather->cards + below(weather, G_N_ELEMENTS(weather->cards));
                if (below(weather, 20) == 0)
                        tell_garbage(weather);
                else if (!card->there || below(weather, 5) == 0)
                        pull_or_plug(weather, card);
                else
                        change(weather, card);
                if (below(weather, 3) == 0)
                        g_usleep(below(weather, 8000));
        }
        /* A GPU stays one while its class cannot be read, and who comes then does not see that it is one. */
        for (size_t i = 0; i < G_N_ELEMENTS(weather->cards); i++) {
                Card *card = weather->cards + i;
                g_autofree char *class = g_strdup_printf("0x%06x", card->device.class);
                release(weather, card);
                if (card->there)
                        mock_attribute_set(weather->mock, card->address, "class", class);
        }
        g_atomic_int_set(&weather->over, 1);
        return NULL;
}

/* All that the survey takes in, whatever it is, and whoever is looking. */
static void expect_presentable(const World *w) {
        NodeFacts host = { .iommu_present = true, .vfio_present = true };
        for (size_t i = 0; i < w->n_gpus; i++) {
                _cleanup_(blockers_clear) Blockers blockers = {};
                const GpuFacts *gpu = w->gpus + i;
                g_assert_true(text_is_printable(gpu->identity.slot));
                g_assert_true(!gpu->vbios || text_is_printable(gpu->vbios));
                g_assert_true(!gpu->power_state || text_is_printable(gpu->power_state));
                g_assert_true(pci_address_equal(gpu->address, gpu->identity.address));
                g_assert_cmpint(survey_gpu(&host, gpu, &blockers), ==, 0);
                for (size_t k = 0; k < blockers.n; k++)
                        g_assert_true(text_is_printable(blockers.items[k].sentence));
        }
}

static bool shows_the_same(const World *w, const World *fresh) {
        if (w->n_gpus != fresh->n_gpus)
                return false;
        for (size_t i = 0; i < w->n_gpus; i++) {
                _cleanup_(gpu_facts_clear) GpuFacts gpu = {}, first = {};
                g_assert_cmpint(gpu_facts_copy(w->gpus + i, &gpu), ==, 0);
                g_assert_cmpint(gpu_facts_copy(fresh->gpus + i, &first), ==, 0);
                /* What a driver told once is kept, though the file is gone; so are links between GPUs. */
                gpu.vram_bytes = first.vram_bytes = 0;
                g_assert_cmpint(text_set(&gpu.vbios, NULL), ==, 0);
                g_assert_cmpint(text_set(&first.vbios, NULL), ==, 0);
                text_list_clear(&gpu.siblings);
                text_list_clear(&first.siblings);
                /* What could not be read is as it was known before, or unknown. */
                if (first.unreadable ? !text_equal(gpu.unreadable, first.unreadable) : !gpu_facts_equal(&gpu, &first))
                        return false;
        }
        return true;
}

static Weather *weather_new(uint32_t seed, MockSysfs *mock) {
        Weather *weather = g_new0(Weather, 1);
        weather->random = g_rand_new_with_seed(seed);
        weather->mock = mock;
        for (size_t i = 0; i < G_N_ELEMENTS(weather->cards); i++) {
                Card *card = weather->cards + i;
                card->device = i == 0 ? NETWORK_CARD : i == 1 ? MOCK_GEFORCE[0] : i == 2 ? MOCK_GEFORCE[1] : MOCK_H100;
                if (i > 2) {
                        pci_address_to_text((PciAddress) { .bus = (uint8_t) (0x50 + i) }, card->address);
                        card->device.group = 42 + (int) i % 3;
                } else
                        g_strlcpy(card->address, card->device.address, sizeof(card->address));
                card->device.address = card->address;
                mock_device_add(mock, &card->device);
                card->there = true;
        }
        return weather;
}

static void describe(const char *who, const World *w) {
        g_printerr("%s sees %zu GPUs\n", who, w->n_gpus);
        for (size_t i = 0; i < w->n_gpus; i++) {
                const GpuFacts *gpu = w->gpus + i;
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(gpu->address, address);
                g_printerr("  %s %04x:%04x %s class %06x driver %s group %i unreadable %s, %zu functions, "
                           "config %i %s\n",
                           address, gpu->identity.vendor, gpu->identity.device, gpu->identity.slot, gpu->class,
                           gpu->driver, gpu->iommu_group, gpu->unreadable, gpu->n_functions, gpu->config,
                           gpu->power_state);
        }
}

static void run_seed(uint32_t seed) {
        g_test_message("replay with: SEED=%u", seed);
        World w = world_of(NULL, 0);
        Weather *weather = weather_new(seed, w.mock);
        start_watch_with(&w, (UdevWatchConfig) {
                .coalesce_us = 5000, .read_deadline_us = 200000, .recheck_us = 300000,
        });
        GThread *thread = g_thread_new("weather", blow, weather);
        unsigned lists = 0;
        while (!g_atomic_int_get(&weather->over)) {
                g_assert_cmpint(sd_event_run(w.event, 10000), >=, 0);
                if (w.lists != lists)
                        expect_presentable(&w);
                lists = w.lists;
        }
        (void) g_thread_join(thread);

        World fresh = { .mock = w.mock, .event = w.event, .listener = -1 };
        fresh.events = g_ptr_array_new_with_free_func(g_free);
        fresh.last_properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        start_watch_with(&fresh, (UdevWatchConfig) { .coalesce_us = 5000, .read_deadline_us = 200000 });
        gint64 deadline = g_get_monotonic_time() + DEADLINE_US;
        while (fresh.lists == 0 || !shows_the_same(&w, &fresh)) {
                if (g_get_monotonic_time() > deadline) {
                        describe("the watch", &w);
                        describe("a fresh one", &fresh);
                        g_error("the watch does not come to see what is there");
                }
                g_assert_cmpint(sd_event_run(w.event, 100000), >=, 0);
        }
        expect_presentable(&w);

        fresh.watch = udev_watch_free(fresh.watch);
        for (size_t i = 0; i < fresh.n_gpus; i++)
                gpu_facts_clear(&fresh.gpus[i]);
        g_free(fresh.gpus);
        (void) g_ptr_array_free(fresh.events, TRUE);
        g_hash_table_unref(fresh.last_properties);
        g_rand_free(weather->random);
        g_free(weather);
        world_clear(&w);
}

static void test_whatever_changes_while_it_is_read_the_end_is_seen_as_it_is(void) {
        if (skip_without_uevents())
                return;
        const char *replay = g_getenv("SEED");
        if (replay) {
                run_seed((uint32_t) strtoul(replay, NULL, 10));
                return;
        }
        unsigned seeds = g_getenv("GPUPOOL_TEST_LONG") ? SEEDS_LONG : SEEDS;
        for (unsigned i = 0; i < seeds; i++)
                run_seed((uint32_t) g_test_rand_int());
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
        g_test_add_func("/udev-random/whatever changes while it is read, the end is seen as it is",
                        test_whatever_changes_while_it_is_read_the_end_is_seen_as_it_is);
        return g_test_run();
}
