/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/udev-watch.h"

#include <errno.h>
#include <stdio.h>

#include "adapters/udev/event-rate.h"
#include "adapters/udev/held-events.h"
#include "adapters/udev/inventory.h"
#include "adapters/udev/probe-client.h"
#include "adapters/udev/reader.h"
#include "util/log.h"

#define TIMER_ACCURACY_US 1000U

struct UdevWatch {
        sd_event *event;
        NodeId node;
        uint64_t coalesce_us, recheck_us;
        UdevWatchEvents events;
        void *userdata;

        UdevMonitor *monitor;
        Reader *reader;
        ProbeClient *probe;             /* NULL: none configured */
        sd_event_source *due;           /* at the earliest .due_us */
        sd_event_source *publish;       /* news is there and waits for more of it */
        sd_event_source *recheck;
        sd_event_source *first;         /* the first list waits no longer than this */
        sd_event_source *kept;          /* an event that was one too many is told */

        Inventory inventory;
        HeldEvents held;
        EventRate rate;
        NodeFacts host;
        bool host_known;
        bool scanned;                   /* the first scan is done */
        bool first_is_over;             /* the first list need not wait any more */
        bool told;                      /* the first list was told */
};

static uint64_t now_us(const UdevWatch *watch) {
        uint64_t now = 0;
        (void) sd_event_now(watch->event, CLOCK_MONOTONIC, &now);
        return now;
}

/* As the turns of the service have it, which hold it against what happened in one of them. */
static uint64_t boot_now_us(const UdevWatch *watch) {
        uint64_t now = 0;
        (void) sd_event_now(watch->event, CLOCK_BOOTTIME, &now);
        return now;
}

static void arm(sd_event_source *source, uint64_t at_us) {
        (void) sd_event_source_set_time(source, at_us);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void arm_due(UdevWatch *watch) {
        uint64_t earliest = UINT64_MAX;
        ARRAY_EACH(device, &watch->inventory.devices)
                if ((*device)->due_us > 0 && (*device)->due_us < earliest)
                        earliest = (*device)->due_us;
        if (earliest < UINT64_MAX)
                arm(watch->due, earliest);
}

/* To be read after @wait_us. An earlier date stands: a device that flaps must not put it off for ever. */
static void schedule(UdevWatch *watch, Watched *device, uint64_t wait_us) {
        uint64_t due = now_us(watch) + wait_us;
        if (device->due_us == 0 || due < device->due_us)
                device->due_us = due;
        arm_due(watch);
}

static void schedule_all(UdevWatch *watch) {
        ARRAY_EACH(device, &watch->inventory.devices)
                if (!(*device)->gone)
                        schedule(watch, *device, 0);
}

/* False: not now; it is tried again at the next look. */
static bool submit(UdevWatch *watch, ReadKind kind, PciAddress address) {
        int r = reader_submit(watch->reader, (ReadJob) { .kind = kind, .address = address,
                                                         .begun_us = boot_now_us(watch) });
        if (r < 0)
                log_error("udev: no memory to read the devices; it is tried again at the next look");
        return r > 0;
}

static bool is_complete(const UdevWatch *watch) {
        if (!watch->scanned)
                return false;
        ARRAY_EACH(device, &watch->inventory.devices)
                if (!(*device)->known && !(*device)->gone && !watch->first_is_over)
                        return false;
        return true;
}

/* The first list is told even when it is empty. */
static void publish(UdevWatch *watch) {
        bool news;
        if (!watch->told && !is_complete(watch))
                return;
        if (inventory_has_news(&watch->inventory, &news) < 0)
                return;
        if (watch->told && !news) {
                inventory_tidy(&watch->inventory);
                return;
        }

        _cleanup_free_ GpuFacts *rows = NULL;
        size_t n;
        if (inventory_publish(&watch->inventory, &rows, &n) < 0)
                return;
        watch->told = true;
        (void) sd_event_source_set_enabled(watch->publish, SD_EVENT_OFF);
        if (watch->events.gpus_changed)
                watch->events.gpus_changed(watch->userdata, rows, n);
}

static bool is_settled(const UdevWatch *watch) {
        ARRAY_EACH(device, &watch->inventory.devices)
                if ((*device)->reading || (*device)->asking || (*device)->due_us > 0)
                        return false;
        return reader_is_idle(watch->reader);
}

/* At once when nothing else is under way; else soon, together with what comes until then. */
static void publish_soon(UdevWatch *watch) {
        int enabled = SD_EVENT_OFF;
        if (is_settled(watch)) {
                publish(watch);
                return;
        }
        (void) sd_event_source_get_enabled(watch->publish, &enabled);
        if (enabled == SD_EVENT_OFF)
                arm(watch->publish, now_us(watch) + watch->coalesce_us);
}

static int on_publish(sd_event_source *source, uint64_t usec, void *userdata) {
        publish(userdata);
        return 0;
}

static void answer_refresh(UdevWatch *watch, Watched *device) {
        if (!device->refresh_asked)
                return;
        device->refresh_asked = false;
        PciAddress address = device->address;
        publish(watch);
        if (!watch->events.gpu_refreshed)
                return;
        device = inventory_find(&watch->inventory, address);
        watch->events.gpu_refreshed(watch->userdata, address, device && device->known && !device->gone ? &device->facts
                                                                                                       : NULL);
}

/* Events of devices that were strangers until now may turn out to be about this GPU. */
static void release_held(UdevWatch *watch) {
        HeldEvent event;
        while (held_events_take(&watch->held, &watch->inventory, now_us(watch), &event)) {
                if (watch->events.device_event)
                        watch->events.device_event(watch->userdata, &event.event);
                held_event_clear(&event);
        }
}

static void settle(UdevWatch *watch, Watched *device) {
        if (watched_merge(device) < 0) {
                log_error("udev: no memory for the facts of a GPU; it is tried again at the next look");
                gpu_facts_clear(&device->fresh);
        }
        release_held(watch);
        answer_refresh(watch, device);
        publish_soon(watch);
}

/* No event tells that a VM has opened one that is on vfio-pci already. */
static bool wants_probe(const UdevWatch *watch, const Watched *device) {
        if (!watch->probe)
                return false;
        return device->ask_probe || pci_driver_is_vfio(device->fresh.driver) || !device->probed.holders_known ||
               device->probed.n_holders > 0 || !device->known ||
               !text_equal(device->facts.driver, device->fresh.driver);
}

static void on_probe_answer(void *userdata, PciAddress gpu, ProbeAnswer *answer) {
        UdevWatch *watch = userdata;
        Watched *device = inventory_find(&watch->inventory, gpu);
        if (!device || !device->asking)
                return;
        device->asking = false;
        if (answer) {
                gpu_facts_clear(&device->probed);
                device->probed = answer->facts;
                device->probed.holders_us = device->asked_us;
                answer->facts = (GpuFacts) {};
        } else {
                /* Who held it before may not any more; what the card is stays true. */
                gpu_facts_clear_holders(&device->probed);
                device->probed.holders_known = false;
        }
        settle(watch, device);
}

static void set_gone(UdevWatch *watch, Watched *device) {
        if (watch->probe)
                probe_client_forget(watch->probe, device->address);
        watched_set_gone(device);
        answer_refresh(watch, device);
        publish_soon(watch);
}

static void take_reading(UdevWatch *watch, Watched *device, DeviceReading *reading, uint64_t begun_us) {
        gpu_facts_clear(&device->fresh);
        device->fresh = reading->facts;
        reading->facts = (GpuFacts) {};
        device->fresh.identity.node = watch->node;
        device->fresh.read_us = begun_us;
        if (reading->hive != 0)
                device->hive = reading->hive;

        if (device->asking)
                return;                 /* the answer that is on its way settles this reading */
        if (wants_probe(watch, device) && probe_client_ask(watch->probe, device->address) >= 0) {
                device->ask_probe = false;
                device->asking = true;
                device->asked_us = boot_now_us(watch);
                return;
        }
        settle(watch, device);
}

static Watched *add_gpu(UdevWatch *watch, PciAddress address) {
        Watched *device = inventory_find(&watch->inventory, address);
        if (device)
                return device;
        if (watch->inventory.devices.n >= UDEV_WATCH_GPUS_MAX ||
            inventory_add(&watch->inventory, address, &device) < 0) {
                log_error("udev: there are more GPUs than can be watched (%u)", UDEV_WATCH_GPUS_MAX);
                return NULL;
        }
        /* So much is true of it, even if nothing can be read. */
        device->scanned.identity = (GpuIdentity) { .node = watch->node, .address = address };
        return device;
}

/* A device that is no GPU was read because it may concern one: so it does if it shares card or group. */
static void relate(UdevWatch *watch, const DeviceReading *reading) {
        held_events_set_group(&watch->held, reading->address, reading->iommu_group);
        ARRAY_EACH(device, &watch->inventory.devices)
                if (!(*device)->gone && watched_relates(*device, reading->address, reading->iommu_group))
                        schedule(watch, *device, watch->coalesce_us);
        release_held(watch);
}

static void set_unreadable(UdevWatch *watch, Watched *device, const char *what) {
        if (watched_set_unreadable(device, what) < 0)
                return;
        answer_refresh(watch, device);
        publish_soon(watch);
}

static void on_known_device_read(UdevWatch *watch, Watched *device, ReadResult *result) {
        /* A reading that was under way when the device went is about the old one. */
        bool is_old = device->reading_is_old;
        device->reading = device->reading_is_old = false;
        if (device->gone)
                publish_soon(watch);
        else if (is_old)
                schedule(watch, device, 0);
        else if (result->error < 0)
                set_unreadable(watch, device, strerror(-result->error));
        else if (!result->device.present || (result->device.class_known && !result->device.is_gpu))
                set_gone(watch, device);
        else if (!result->device.class_known)
                set_unreadable(watch, device, "class");
        else
                take_reading(watch, device, &result->device, result->job.begun_us);
}

static void on_device_read(UdevWatch *watch, ReadResult *result) {
        PciAddress address = result->job.address;
        Watched *device = inventory_find(&watch->inventory, address);
        if (device) {
                on_known_device_read(watch, device, result);
                return;
        }
        if (result->error < 0 || !result->device.present)
                return;
        if (!result->device.is_gpu) {
                relate(watch, &result->device);
                return;
        }
        device = add_gpu(watch, address);
        if (device)
                take_reading(watch, device, &result->device, result->job.begun_us);
}

/* What was scanned is known at least by name; what was not is read, and will say itself that it is gone. */
static void on_scanned(UdevWatch *watch, ReadResult *result) {
        if (result->error < 0) {
                log_error("udev: the PCI devices cannot be listed (%s); it is tried again at the next look",
                          strerror(-result->error));
                return;
        }
        watch->inventory.has_nvswitch = watch->inventory.has_nvswitch || result->has_nvswitch;
        ARRAY_EACH(scanned, &result->gpus) {
                Watched *device = add_gpu(watch, scanned->identity.address);
                if (!device)
                        break;
                /* It may be there although udev told only that it went: an event can be lost. If the scan is the older
                 * of the two, the reading will say so. */
                watched_come_back(device);
                scanned->identity.node = watch->node;
                device->scanned = *scanned;
        }
        schedule_all(watch);
        watch->scanned = true;
        publish_soon(watch);
}

static bool differs_enough(uint64_t a, uint64_t b, uint64_t total) {
        return (a > b ? a - b : b - a) > total / 100;
}

static void on_host_read(UdevWatch *watch, ReadResult *result) {
        if (result->error < 0 ||
            (watch->host_known && node_facts_host_equal(&watch->host, &result->host) &&
             !differs_enough(watch->host.memory_free, result->host.memory_free, result->host.memory_total)))
                return;
        node_facts_clear(&watch->host);
        watch->host = result->host;
        result->host = (NodeFacts) {};
        watch->host.node = watch->node;
        watch->host_known = true;
        if (watch->events.host_changed)
                watch->events.host_changed(watch->userdata, &watch->host);
}

static void on_read(void *userdata, ReadResult *result) {
        UdevWatch *watch = userdata;
        switch (result->job.kind) {
        case READ_SCAN:
                on_scanned(watch, result);
                break;
        case READ_DEVICE:
                on_device_read(watch, result);
                break;
        case READ_HOST:
                on_host_read(watch, result);
                break;
        }
}

static void on_hung_device(UdevWatch *watch, Watched *device, PciAddress in, const char *attribute) {
        char text[PCI_ADDRESS_TEXT_SIZE], what[128];
        pci_address_to_text(in, text);
        bool is_other = !pci_address_equal(in, device->address);
        (void) snprintf(what, sizeof(what), "%s%s%s", attribute, is_other ? " of " : "", is_other ? text : "");

        device->reading = device->reading_is_old = false;
        set_unreadable(watch, device, what);
}

static void on_hung(void *userdata, ReadJob job, PciAddress in, const char *attribute) {
        UdevWatch *watch = userdata;
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(in, text);
        log_warning("udev: reading %s of %s does not come back; see dmesg for what holds the device", attribute, text);

        Watched *device = job.kind == READ_DEVICE ? inventory_find(&watch->inventory, job.address) : NULL;
        if (device)
                on_hung_device(watch, device, in, attribute);
        /* The next scan leaves the device out in which this one is stuck. */
        if (job.kind == READ_SCAN)
                (void) submit(watch, READ_SCAN, (PciAddress) {});
}

static void on_refused(void *userdata, ReadJob job, const char *why) {
        UdevWatch *watch = userdata;
        Watched *device = job.kind == READ_DEVICE ? inventory_find(&watch->inventory, job.address) : NULL;
        if (!device)
                return;                 /* the next look tries it again */
        device->reading = device->reading_is_old = false;
        set_unreadable(watch, device, why);
}

static void on_returned(void *userdata, ReadJob job, PciAddress in) {
        UdevWatch *watch = userdata;
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(in, text);
        log_notice("udev: %s answers again", text);

        if (job.kind != READ_DEVICE)
                (void) submit(watch, job.kind, job.address);
        ARRAY_EACH(device, &watch->inventory.devices)
                if (!(*device)->gone && (*device)->facts.unreadable)
                        schedule(watch, *device, 0);
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata) {
        UdevWatch *watch = userdata;
        for (size_t i = 0; i < watch->inventory.devices.n; i++) {
                Watched *device = watch->inventory.devices.items[i];
                if (device->due_us == 0 || device->due_us > usec)
                        continue;
                device->due_us = 0;
                int r = reader_submit(watch->reader, (ReadJob) { .kind = READ_DEVICE, .address = device->address,
                                                                 .begun_us = boot_now_us(watch) });
                if (r > 0)
                        device->reading = true;
                else
                        answer_refresh(watch, device);  /* it hangs, and the facts say so already */
        }
        arm_due(watch);
        return 0;
}

static bool event_is_of_gpu(const DeviceEvent *event) {
        const char *class = device_event_property(event, "PCI_CLASS");
        uint64_t value;
        return class && text_to_u64(class, 16, &value) >= 0 && value <= 0xffffff && pci_class_is_gpu((uint32_t) value);
}

/* Where this process has no hardware database, udevd may have had one. */
static void note_names(Watched *gpu, const DeviceEvent *event) {
        const char *vendor = device_event_property(event, "ID_VENDOR_FROM_DATABASE");
        const char *device = device_event_property(event, "ID_MODEL_FROM_DATABASE");
        if ((!text_is_empty(vendor) && text_set(&gpu->vendor_name, vendor) < 0) ||
            (!text_is_empty(device) && text_set(&gpu->device_name, device) < 0))
                log_error("udev: no memory for the name of a GPU");
}

/* The GPU itself that the event is of, also one that is new; or NULL. */
static Watched *find_gpu_of(UdevWatch *watch, const DeviceEvent *event) {
        Watched *gpu = inventory_find(&watch->inventory, event->address);
        if (gpu || text_equal(event->action, "remove") || !event_is_of_gpu(event))
                return gpu;
        return add_gpu(watch, event->address);
}

static bool concerns_any(const UdevWatch *watch, const DeviceEvent *event) {
        ARRAY_EACH(device, &watch->inventory.devices)
                if (watched_relates(*device, event->address, -1))
                        return true;
        return false;
}

/* What the event does to what is known: the GPUs that it concerns are read anew. */
static void follow(UdevWatch *watch, Watched *gpu, const DeviceEvent *event) {
        uint64_t wait_us = event_rate_wait(&watch->rate, event->address, watch->coalesce_us, now_us(watch));
        if (gpu && text_equal(event->action, "remove"))
                set_gone(watch, gpu);
        else if (gpu) {
                watched_come_back(gpu);
                note_names(gpu, event);
        }
        ARRAY_EACH(device, &watch->inventory.devices) {
                if ((*device)->gone || !watched_relates(*device, event->address, -1))
                        continue;
                (*device)->ask_probe = true;
                schedule(watch, *device, wait_us);
        }
}

/* A stranger: it may be in a GPU's group, or be the first function of a card whose GPU comes next. */
static void look_at_stranger(UdevWatch *watch, const DeviceEvent *event) {
        if (text_equal(event->action, "remove"))
                return;
        if (held_events_add(&watch->held, event, now_us(watch)) < 0)
                log_debug("udev: too many events of devices that are not known yet; one is not told");
        (void) submit(watch, READ_DEVICE, event->address);
}

static void tell_event(UdevWatch *watch, const DeviceEvent *event) {
        if (watch->events.device_event)
                watch->events.device_event(watch->userdata, event);
}

/* One that waited, with how many before it are not told at all. */
static void tell_late(UdevWatch *watch, const DeviceEvent *event, unsigned left_out) {
        DeviceProperty properties[DEVICE_EVENT_PROPERTIES_MAX];
        char number[16];
        size_t n = 0;
        DeviceEvent late = *event;
        (void) snprintf(number, sizeof(number), "%u", left_out);
        properties[n++] = (DeviceProperty) { .key = "GPUPOOL_LEFT_OUT", .value = number };
        for (size_t i = 0; i < event->n_properties && n < DEVICE_EVENT_PROPERTIES_MAX; i++)
                properties[n++] = event->properties[i];
        late.properties = properties;
        late.n_properties = n;
        tell_event(watch, &late);
}

static void arm_kept(UdevWatch *watch) {
        uint64_t due = event_rate_due(&watch->rate);
        if (due < UINT64_MAX)
                arm(watch->kept, due);
}

static int on_kept(sd_event_source *source, uint64_t usec, void *userdata) {
        UdevWatch *watch = userdata;
        HeldEvent event;
        unsigned left_out;
        while (event_rate_take(&watch->rate, now_us(watch), &event, &left_out)) {
                if (event.concerns)
                        tell_late(watch, &event.event, left_out);
                else
                        look_at_stranger(watch, &event.event);
                held_event_clear(&event);
        }
        arm_kept(watch);
        return 0;
}

/* Display nodes come and go with the driver: then others may hold the GPU open. */
static void follow_display(UdevWatch *watch, const DeviceEvent *event) {
        Watched *gpu = inventory_find(&watch->inventory, event->address);
        if (!gpu || gpu->gone || text_equal(event->action, "change"))
                return;
        gpu->ask_probe = true;
        schedule(watch, gpu, event_rate_wait(&watch->rate, event->address, watch->coalesce_us, now_us(watch)));
}

static void on_device_event(void *userdata, const DeviceEvent *event) {
        UdevWatch *watch = userdata;
        event_rate_count(&watch->rate, event, now_us(watch));
        if (!text_equal(event->subsystem, "pci")) {
                follow_display(watch, event);
                return;
        }
        if (text_equal(event->action, "move"))
                udev_watch_rescan(watch);

        Watched *gpu = find_gpu_of(watch, event);
        bool concerns = gpu || concerns_any(watch, event);
        switch (event_rate_judge(&watch->rate, event, concerns, now_us(watch))) {
        case EVENT_TELL:
                if (concerns)
                        tell_event(watch, event);
                else
                        look_at_stranger(watch, event);
                break;
        case EVENT_KEPT:
                arm_kept(watch);
                break;
        }
        if (concerns)
                follow(watch, gpu, event);
}

static void on_overflow(void *userdata) {
        log_warning("udev: more events than could be taken; looking at all devices anew");
        udev_watch_rescan(userdata);
}

static int on_recheck(sd_event_source *source, uint64_t usec, void *userdata) {
        UdevWatch *watch = userdata;
        (void) submit(watch, READ_HOST, (PciAddress) {});
        /* A scan has all devices read, and finds one of which no event came. */
        if (!submit(watch, READ_SCAN, (PciAddress) {}))
                schedule_all(watch);
        arm(source, now_us(watch) + watch->recheck_us);
        return 0;
}

static int on_first_is_over(sd_event_source *source, uint64_t usec, void *userdata) {
        UdevWatch *watch = userdata;
        watch->first_is_over = true;
        ARRAY_EACH(device, &watch->inventory.devices)
                if (!(*device)->known && !(*device)->gone)
                        (void) watched_set_unreadable(*device, "its turn has not come");
        publish(watch);
        return 0;
}

static int add_timer(UdevWatch *watch, sd_event_source **ret, sd_event_time_handler_t handler) {
        int r = sd_event_add_time(watch->event, ret, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, handler, watch);
        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static uint64_t or_default(uint64_t value, uint64_t fallback) {
        return value > 0 ? value : fallback;
}

static int start(UdevWatch *watch, const UdevWatchConfig *config) {
        static const ReaderEvents reader_events = {
                .done = on_read, .hung = on_hung, .refused = on_refused, .returned = on_returned,
        };
        static const UdevMonitorEvents monitor_events = { .device = on_device_event, .overflow = on_overflow };

        int r = add_timer(watch, &watch->due, on_due);
        if (r >= 0)
                r = add_timer(watch, &watch->publish, on_publish);
        if (r >= 0)
                r = add_timer(watch, &watch->recheck, on_recheck);
        if (r >= 0)
                r = add_timer(watch, &watch->first, on_first_is_over);
        if (r >= 0)
                r = add_timer(watch, &watch->kept, on_kept);
        if (r >= 0)
                r = reader_new(&watch->reader, watch->event, config->root,
                               or_default(config->read_deadline_us, UDEV_WATCH_READ_DEADLINE_US), &reader_events,
                               watch);
        if (r >= 0 && config->probe_socket)
                r = probe_client_new(&watch->probe, watch->event, config->probe_socket,
                                     or_default(config->probe_deadline_us, UDEV_WATCH_PROBE_DEADLINE_US),
                                     on_probe_answer, watch);
        /* The monitor is live before anything is read: what happens after this line is told as an event. */
        if (r >= 0)
                r = udev_monitor_start(&watch->monitor, watch->event, &monitor_events, watch);
        return r;
}

int udev_watch_new(UdevWatch **ret, sd_event *event, const UdevWatchConfig *config, const UdevWatchEvents *events,
                   void *userdata) {
        _cleanup_(udev_watch_freep) UdevWatch *watch = calloc(1, sizeof(UdevWatch));
        if (!watch)
                return -ENOMEM;
        watch->event = sd_event_ref(event);
        watch->node = config->node;
        watch->coalesce_us = or_default(config->coalesce_us, UDEV_WATCH_COALESCE_US);
        watch->recheck_us = or_default(config->recheck_us, UDEV_WATCH_RECHECK_US);
        watch->events = *events;
        watch->userdata = userdata;

        int r = start(watch, config);
        if (r < 0)
                return r;
        (void) submit(watch, READ_HOST, (PciAddress) {});
        (void) submit(watch, READ_SCAN, (PciAddress) {});
        arm(watch->first, now_us(watch) + UDEV_WATCH_FIRST_US);
        if (watch->recheck_us < UINT64_MAX)
                arm(watch->recheck, now_us(watch) + watch->recheck_us);
        *ret = STEAL(watch);
        return 0;
}

UdevWatch *udev_watch_free(UdevWatch *watch) {
        if (!watch)
                return NULL;
        watch->monitor = udev_monitor_stop(watch->monitor);
        watch->probe = probe_client_free(watch->probe);
        watch->reader = reader_free(watch->reader);
        watch->due = sd_event_source_disable_unref(watch->due);
        watch->publish = sd_event_source_disable_unref(watch->publish);
        watch->recheck = sd_event_source_disable_unref(watch->recheck);
        watch->first = sd_event_source_disable_unref(watch->first);
        watch->kept = sd_event_source_disable_unref(watch->kept);
        watch->event = sd_event_unref(watch->event);
        inventory_clear(&watch->inventory);
        held_events_clear(&watch->held);
        event_rate_clear(&watch->rate);
        node_facts_clear(&watch->host);
        free(watch);
        return NULL;
}

int udev_watch_refresh(UdevWatch *watch, PciAddress address) {
        Watched *device = inventory_find(&watch->inventory, address);
        if (!device || device->gone)
                return -ENOENT;
        device->ask_probe = device->refresh_asked = true;
        schedule(watch, device, 0);
        return 0;
}

void udev_watch_rescan(UdevWatch *watch) {
        (void) submit(watch, READ_SCAN, (PciAddress) {});
}
