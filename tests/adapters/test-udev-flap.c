/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A device that flaps: for as long as it does it has its share of signals, readings, probes and news, and not more; and
 * its last state always comes through. GPUPOOL_TEST_LONG: it flaps for a minute. */

#include <string.h>
#include <time.h>

#include "adapters/udev/event-rate.h"
#include "udev-world.h"

#define SECOND_US 1000000U
#define START_US (100U * SECOND_US)

/* ---- the count itself */

typedef struct Told {
        EventRate rate;
        unsigned told, kept;
} Told;

static DeviceEvent event_of(const char *address, const char *action) {
        DeviceEvent event = { .action = action, .subsystem = "pci" };
        g_assert_cmpint(pci_address_from_text(address, &event.address), ==, 0);
        return event;
}

static void spoke(Told *t, const char *address, const char *action, uint64_t at_us) {
        DeviceEvent event = event_of(address, action);
        event_rate_count(&t->rate, &event, at_us);
        if (event_rate_judge(&t->rate, &event, true, at_us) == EVENT_TELL)
                t->told++;
        else
                t->kept++;
}

static void expect_late(Told *t, uint64_t at_us, const char *action, unsigned left_out) {
        HeldEvent event;
        unsigned n;
        g_assert_true(event_rate_take(&t->rate, at_us, &event, &n));
        g_assert_cmpstr(event.event.action, ==, action);
        g_assert_cmpuint(n, ==, left_out);
        g_assert_true(event.concerns);
        held_event_clear(&event);
}

static void test_so_many_a_second_are_told_and_of_the_rest_the_last(void) {
        Told t = {};
        for (unsigned i = 0; i < EVENT_RATE_PER_S; i++)
                spoke(&t, "0000:41:00.0", "change", START_US + i);
        g_assert_cmpuint(t.told, ==, EVENT_RATE_PER_S);
        g_assert_cmpuint(event_rate_due(&t.rate), ==, UINT64_MAX);
        spoke(&t, "0000:41:00.0", "unbind", START_US + 500);
        spoke(&t, "0000:41:00.0", "change", START_US + 501);
        spoke(&t, "0000:41:00.0", "bind", START_US + 502);
        g_assert_cmpuint(t.told, ==, EVENT_RATE_PER_S);
        g_assert_cmpuint(event_rate_due(&t.rate), ==, START_US + SECOND_US);

        HeldEvent event;
        unsigned n;
        g_assert_false(event_rate_take(&t.rate, START_US + SECOND_US - 1, &event, &n));
        expect_late(&t, START_US + SECOND_US, "bind", 2);
        g_assert_false(event_rate_take(&t.rate, START_US + SECOND_US, &event, &n));
        g_assert_cmpuint(event_rate_due(&t.rate), ==, UINT64_MAX);
        /* What was told late counts in the new second. */
        t.told = 0;
        for (unsigned i = 0; i < EVENT_RATE_PER_S; i++)
                spoke(&t, "0000:41:00.0", "change", START_US + SECOND_US + 1 + i);
        g_assert_cmpuint(t.told, ==, EVENT_RATE_PER_S - 1);
        event_rate_clear(&t.rate);
}

static void test_no_event_overtakes_one_that_is_kept(void) {
        Told t = {};
        for (unsigned i = 0; i <= EVENT_RATE_PER_S; i++)
                spoke(&t, "0000:41:00.0", "add", START_US);
        g_assert_cmpuint(t.kept, ==, 1);
        /* The loop was late: the second is over, and the kept one is not told yet. */
        spoke(&t, "0000:41:00.0", "remove", START_US + 3 * SECOND_US);
        g_assert_cmpuint(t.kept, ==, 2);
        expect_late(&t, START_US + 3 * SECOND_US, "remove", 1);
        event_rate_clear(&t.rate);
}

static void test_one_device_takes_nothing_from_another(void) {
        Told t = {};
        for (unsigned i = 0; i < 1000; i++)
                spoke(&t, "0000:41:00.0", "change", START_US + i);
        t.told = 0;
        spoke(&t, "0000:42:00.0", "bind", START_US + 1000);
        g_assert_cmpuint(t.told, ==, 1);
        PciAddress quiet = event_of("0000:42:00.0", "").address, busy = event_of("0000:41:00.0", "").address;
        g_assert_cmpuint(event_rate_wait(&t.rate, quiet, 50000, START_US + 1000), ==, 50000);
        g_assert_cmpuint(event_rate_wait(&t.rate, busy, 50000, START_US + 1000), ==, SECOND_US);
        event_rate_clear(&t.rate);
}

static void test_who_was_pulled_often_must_stay_before_it_is_believed(void) {
        Told t = {};
        PciAddress address = event_of("0000:41:00.0", "").address;
        uint64_t at = START_US;
        for (unsigned i = 0; i < EVENT_RATE_PULLS; i++) {
                g_assert_cmpuint(event_rate_wait(&t.rate, address, 50000, at), ==, 50000);
                spoke(&t, "0000:41:00.0", "remove", at += SECOND_US);
                spoke(&t, "0000:41:00.0", "add", at += SECOND_US);
        }
        g_assert_cmpuint(event_rate_wait(&t.rate, address, 50000, at), ==, EVENT_RATE_STAY_US);
        g_assert_cmpuint(event_rate_wait(&t.rate, address, 5000000, at), ==, 5000000);
        at += EVENT_RATE_FORGET_US;
        g_assert_cmpuint(event_rate_wait(&t.rate, address, 50000, at), ==, 50000);
        spoke(&t, "0000:41:00.0", "remove", at);
        g_assert_cmpuint(event_rate_wait(&t.rate, address, 50000, at), ==, 50000);
        event_rate_clear(&t.rate);
}

static void test_the_list_of_devices_is_bounded(void) {
        Told t = {};
        char address[PCI_ADDRESS_TEXT_SIZE];
        for (unsigned i = 0; i < EVENT_RATE_DEVICES_MAX + 100; i++) {
                pci_address_to_text((PciAddress) { .domain = i }, address);
                for (unsigned n = 0; n <= EVENT_RATE_PER_S; n++)        /* one is kept of each */
                        spoke(&t, address, "add", START_US + i);
        }
        g_assert_cmpuint(t.rate.devices.n, ==, EVENT_RATE_DEVICES_MAX);
        g_assert_cmpuint(t.rate.n_kept, ==, EVENT_RATE_DEVICES_MAX);
        HeldEvent event;
        unsigned n, taken = 0;
        while (taken < 10 && event_rate_take(&t.rate, START_US + 2 * SECOND_US, &event, &n)) {
                held_event_clear(&event);
                taken++;
        }
        g_assert_cmpuint(t.rate.n_kept, ==, EVENT_RATE_DEVICES_MAX - taken);
        /* Those that are quiet for long make room by themselves, but for what is not told yet. */
        spoke(&t, "0000:41:00.0", "add", START_US + 2 * EVENT_RATE_FORGET_US);
        g_assert_cmpuint(t.rate.devices.n, ==, EVENT_RATE_DEVICES_MAX - taken + 1);
        event_rate_clear(&t.rate);
}

/* ---- the whole watch */

/* Calls @flip so many times a second, for that long; the loop runs meanwhile. */
static unsigned flap(World *w, unsigned per_second, void (*flip)(World *, unsigned)) {
        unsigned seconds = g_getenv("GPUPOOL_TEST_LONG") ? 60 : 4, n = 0;
        gint64 begin = g_get_monotonic_time();
        while (n < seconds * per_second) {
                gint64 next = begin + (gint64) n * G_USEC_PER_SEC / per_second, now = g_get_monotonic_time();
                if (now >= next)
                        flip(w, n++);
                else
                        g_assert_cmpint(sd_event_run(w->event, (uint64_t) (next - now)), >=, 0);
        }
        return seconds;
}

static void pull_or_plug(World *w, unsigned n) {
        if (n % 2 == 0) {
                mock_device_remove(w->mock, MOCK_H100.address);
                mock_uevent(w->mock, "remove", &MOCK_H100, NULL);
        } else {
                mock_device_add(w->mock, &MOCK_H100);
                mock_uevent(w->mock, "add", &MOCK_H100, NULL);
        }
}

static void unbind_or_bind(World *w, unsigned n) {
        mock_driver_set(w->mock, MOCK_H100.address, n % 2 == 0 ? NULL : "nvidia");
        mock_uevent(w->mock, n % 2 == 0 ? "unbind" : "bind", &MOCK_H100, NULL);
}

static const char *last_event(const World *w) {
        return g_ptr_array_index(w->events, w->events->len - 1);
}

static double cpu_seconds(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* A share for each second, the one that is told late, and the second in which it ends. */
static unsigned most_events(unsigned seconds) {
        return (seconds + 2) * (EVENT_RATE_PER_S + 1);
}

static void test_a_link_that_flaps_floods_nobody_and_its_last_state_comes_through(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_probe(&w);
        start_watch_with(&w, (UdevWatchConfig) { .probe_socket = w.socket_path });
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].holders_known);
        unsigned probes = w.probes, lists = w.lists;
        double cpu = cpu_seconds();
        unsigned seconds = flap(&w, 200, pull_or_plug);
        g_test_message("%u events told of %u, %u lists, %u probes, %.3f s of processor time in %u s (mock included)",
                       w.events->len, seconds * 200, w.lists - lists, w.probes - probes, cpu_seconds() - cpu, seconds);
        g_assert_cmpuint(w.events->len, <=, most_events(seconds));
        g_assert_cmpuint(w.lists - lists, <=, 2 + seconds / 5);         /* the regular look may meet it */
        g_assert_cmpuint(w.probes - probes, <=, 2 + seconds / 5);

        /* It ended plugged in: so it is told, listed and read whole. */
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].holders_known);
        WAIT_UNTIL(&w, text_equal(last_event(&w), "add 0000:41:00.0"));
        g_assert_true(has_driver(&w, "0000:41:00.0", "nvidia"));
        const char *left_out = g_hash_table_lookup(w.last_properties, "GPUPOOL_LEFT_OUT");
        g_assert_nonnull(left_out);
        g_assert_cmpstr(g_hash_table_lookup(w.last_properties, "PCI_SLOT_NAME"), ==, "0000:41:00.0");
        world_clear(&w);
}

static void test_one_that_ends_pulled_is_gone_and_told_so(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        for (unsigned i = 0; i < 101; i++)
                pull_or_plug(&w, i);
        WAIT_UNTIL(&w, w.n_gpus == 0);
        WAIT_UNTIL(&w, w.events->len > EVENT_RATE_PER_S);
        g_assert_cmpstr(last_event(&w), ==, "remove 0000:41:00.0");
        world_clear(&w);
}

static void test_a_driver_that_comes_and_goes_floods_nobody_either(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_probe(&w);
        start_watch_with(&w, (UdevWatchConfig) { .probe_socket = w.socket_path });
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].holders_known);
        unsigned probes = w.probes, lists = w.lists;
        unsigned seconds = flap(&w, 200, unbind_or_bind);
        g_assert_cmpuint(w.events->len, <=, most_events(seconds));
        g_assert_cmpuint(w.lists - lists, <=, 4 + 2 * seconds);
        g_assert_cmpuint(w.probes - probes, <=, 4 + 2 * seconds);
        WAIT_UNTIL(&w, text_equal(last_event(&w), "bind 0000:41:00.0"));
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", "nvidia"));
        world_clear(&w);
}

/* It was pulled so often that it is not looked at for a while: until then it is not there, and surely not the old one.
 * The other card has news all the time, so nothing is told before its turn. */
static void test_a_card_that_is_swapped_is_not_shown_as_the_old_one_until_it_is_read(void) {
        if (skip_without_uevents())
                return;
        MockDevice second = MOCK_H100, other = MOCK_H100;
        second.address = "0000:43:00.0";
        other.device = 0x2330;
        MockDevice devices[] = { MOCK_H100, second };
        World w = world_of(devices, 2);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 300000 });
        WAIT_UNTIL(&w, w.n_gpus == 2);
        mock_uevent(w.mock, "change", &second, NULL);
        for (unsigned i = 0; i < 2 * EVENT_RATE_PULLS; i++)
                pull_or_plug(&w, i);
        mock_device_remove(w.mock, MOCK_H100.address);
        mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
        mock_device_add(w.mock, &other);
        mock_uevent(w.mock, "add", &other, NULL);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        WAIT_UNTIL(&w, w.n_gpus == 2);
        g_assert_cmpuint(gpu_at(&w, MOCK_H100.address)->identity.device, ==, 0x2330);
        world_clear(&w);
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
#define TEST(name) g_test_add_func("/udev-flap/" #name, test_##name)
        TEST(so_many_a_second_are_told_and_of_the_rest_the_last);
        TEST(no_event_overtakes_one_that_is_kept);
        TEST(one_device_takes_nothing_from_another);
        TEST(who_was_pulled_often_must_stay_before_it_is_believed);
        TEST(the_list_of_devices_is_bounded);
        TEST(a_link_that_flaps_floods_nobody_and_its_last_state_comes_through);
        TEST(one_that_ends_pulled_is_gone_and_told_so);
        TEST(a_driver_that_comes_and_goes_floods_nobody_either);
        TEST(a_card_that_is_swapped_is_not_shown_as_the_old_one_until_it_is_read);
        return g_test_run();
}
