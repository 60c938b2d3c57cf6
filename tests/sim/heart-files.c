/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What gpupoold finds beside its network, its disk, libvirt and the guard: its small files, realtime, randomness, the
 * facts of its host, its bus, the journal. Everything belongs to the host on whose loop it is asked for. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "adapters/udev/host-reader.h"
#include "adapters/udev/udev-watch.h"
#include "daemon/node-id.h"
#include "daemon/reset.h"
#include "heart.h"
#include "util/log.h"

#define LOOK_LEAST_US (20 * MS)         /* until udev has been read once */
#define LOOK_MOST_US (300 * MS)

/* ---- the node's id, its peers, a reset */

int node_id_read(const char *state_directory, NodeId *ret) {
        HeartHost *host = heart_host_current();
        if (!host->has_id)
                return -ENOENT;
        *ret = host->id;
        return 0;
}

int node_id_read_new(const char *state_directory, NodeId *ret) {
        return -ENOENT;
}

int node_id_create(const char *state_directory, NodeId *ret) {
        *ret = heart_host_current()->id;
        return 0;
}

int node_id_keep(const char *state_directory) {
        heart_host_current()->has_id = true;
        return 0;
}

static void copy_peers(const PeersFile *from, PeersFile *ret) {
        *ret = (PeersFile) { .cluster = from->cluster, .removed = from->removed, .joining = from->joining };
        g_assert_cmpint(text_set(&ret->cluster_name, from->cluster_name), >=, 0);
        ARRAY_EACH(peer, &from->peers) {
                KnownPeer copy = { .node = peer->node, .member = peer->member };
                memcpy(copy.key, peer->key, PEER_KEY_SIZE);
                g_assert_cmpint(text_set(&copy.name, peer->name), >=, 0);
                g_assert_cmpint(text_list_copy(&peer->addresses, &copy.addresses), >=, 0);
                g_assert_cmpint(array_append(&ret->peers, &copy), >=, 0);
        }
}

int peers_file_load(const char *state_directory, PeersFile *ret) {
        HeartHost *host = heart_host_current();
        if (!host->peers)
                return -ENOENT;
        copy_peers(host->peers, ret);
        return 0;
}

int peers_file_save(const char *state_directory, const PeersFile *file) {
        HeartHost *host = heart_host_current();
        if (host->disk->error_until_us > host->heart->time.now_us)
                return host->disk->error;
        heart_files_clear(host);
        host->peers = g_new0(PeersFile, 1);
        copy_peers(file, host->peers);
        return 0;
}

void heart_files_clear(HeartHost *host) {
        if (host->peers)
                peers_file_clear(host->peers);
        g_free(host->peers);
        host->peers = NULL;
}

int reset_mark(const char *state_directory) {
        return -ENOSPC;
}

int reset_finish(const char *state_directory) {
        return 0;
}

/* Of the registry. One that is about to arrive is as good as there: nothing lies beside it that had to be cleared. */
int sim_access(const char *path, int mode);
int sim_access(const char *path, int mode) {
        HeartHost *host = heart_host_current();
        if (host->disk->has_file || (host->peers && host->peers->joining))
                return 0;
        errno = ENOENT;
        return -1;
}

/* ---- time, chance, signals */

int sim_clock_gettime(clockid_t clock, struct timespec *ret);
int sim_clock_gettime(clockid_t clock, struct timespec *ret) {
        HeartHost *host = heart_host_current();
        uint64_t us = heart_host_clock(host);
        if (MUTANT(TURN_TIME))
                (void) sd_event_now(host->loop, CLOCK_BOOTTIME, &us);
        if (clock == CLOCK_REALTIME)
                us = UINT64_C(1700000000) * SECOND + host->heart->time.now_us + (uint64_t) host->realtime_us;
        *ret = (struct timespec) { .tv_sec = (time_t) (us / SECOND), .tv_nsec = (long) (us % SECOND * 1000) };
        return 0;
}

int sd_id128_randomize(sd_id128_t *ret) {
        SimTime *time = &heart_alive->time;
        ret->qwords[0] = sim_random(time);
        ret->qwords[1] = sim_random(time);
        return 0;
}

int sd_notify(int unset_environment, const char *state) {
        return 0;
}

int sim_sigprocmask(int how, const sigset_t *set, sigset_t *old);
int sim_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
        return 0;
}

/* ---- the journal */

static int level = LOG_INFO;

void log_set_level(int to) {
        level = to;
}

int log_level(void) {
        return level;
}

int log_level_from_text(const char *text, int *ret) {
        *ret = LOG_INFO;
        return 0;
}

const char *log_level_to_text(int of) {
        return "info";
}

void log_message(int of, const char *format, ...) {
        char text[400];
        const HeartHost *host = heart_host_current();
        va_list ap;
        if ((of > level && heart_alive && heart_alive->options.told < 2) || !heart_alive)
                return;
        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        heart_say(heart_alive, "%s: %s", host ? host->name : "-", text);
}

/* ---- facts of the host, as udev and sysfs tell them */

struct UdevWatch {
        HeartHost *host;
        const UdevWatchEvents *events;
        void *userdata;
        sd_event_source *look;
        bool host_told;
};

static void fill_gpu(GpuFacts *gpu, const NodeId *node, unsigned index, bool on_vfio, uint64_t now_us) {
        *gpu = (GpuFacts) {
                .identity = { .node = *node, .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de,
                              .subsystem_device = 0x1626 },
                .address = { .bus = (uint8_t) (0x41 + index) },
                .class = 0x030200,
                .iommu_group = (int32_t) (10 + index),
                .bars = { { .start = UINT64_C(0x200000000000), .size = UINT64_C(16) << 20, .prefetchable_64 = true } },
                .reset_methods_known = true, .has_reset = true, .holders_known = true, .config = CONFIG_READABLE,
                .read_us = now_us, .holders_us = now_us,
        };
        g_snprintf(gpu->identity.slot, sizeof(gpu->identity.slot), "pci0000:00/%02x.0/00.0", index + 1);
        gpu->identity.address = gpu->address;
        g_assert_cmpint(text_printf(&gpu->sysfs_path, "/devices/pci0000:00/0000:%02x:00.0", 0x41 + index), >=, 0);
        g_assert_cmpint(text_list_add(&gpu->reset_methods, "flr"), >=, 0);
        g_assert_cmpint(text_set(&gpu->driver, on_vfio ? "vfio-pci" : "nvidia"), >=, 0);
}

static void tell_host(UdevWatch *watch) {
        HeartHost *host = watch->host;
        char address[] = "10.0.0.1";
        NodeFacts facts = {
                .node = host->id, .memory_total = UINT64_C(512) << 30, .memory_free = UINT64_C(512) << 30,
                .address_bits = 46, .iommu_present = true, .vfio_present = true, .interrupt_remapping = true,
                .interrupt_remapping_known = true,
        };
        address[7] = (char) ('1' + host->number);
        g_assert_cmpint(text_set(&facts.boot_id, host->boot_id), >=, 0);
        g_assert_cmpint(text_set(&facts.virtualization, "none"), >=, 0);
        g_assert_cmpint(text_list_add(&facts.addresses, address), >=, 0);
        watch->events->host_changed(watch->userdata, &facts);
        node_facts_clear(&facts);
        watch->host_told = true;
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        UdevWatch *watch = userdata;
        GpuFacts gpus[HEART_GPUS_MAX];
        unsigned n = 0;
        uint64_t now_us = 0;
        (void) sd_event_now(sd_event_source_get_event(source), CLOCK_BOOTTIME, &now_us);
        if (!watch->host_told)
                tell_host(watch);
        for (unsigned i = 0; i < watch->host->n_gpus; i++)
                if (!watch->host->gpu_lost[i])
                        fill_gpu(gpus + n++, &watch->host->id, i, watch->host->gpus[i].on_vfio, now_us);
        watch->events->gpus_changed(watch->userdata, gpus, n);
        while (n > 0)
                gpu_facts_clear(gpus + --n);
        return 0;
}

int udev_watch_new(UdevWatch **ret, sd_event *event, const UdevWatchConfig *config, const UdevWatchEvents *events,
                   void *userdata) {
        HeartHost *host = heart_host_current();
        UdevWatch *watch = g_new0(UdevWatch, 1);
        *watch = (UdevWatch) { .host = host, .events = events, .userdata = userdata };
        (void) sd_event_add_time_relative(event, &watch->look, CLOCK_BOOTTIME,
                                          sim_between(&host->heart->time, LOOK_LEAST_US, LOOK_MOST_US), 0, on_look,
                                          watch);
        host->udev = watch;
        *ret = watch;
        return 0;
}

int udev_watch_refresh(UdevWatch *watch, PciAddress address) {
        heart_facts_changed(watch->host);
        return 0;
}

UdevWatch *udev_watch_free(UdevWatch *watch) {
        if (!watch)
                return NULL;
        watch->host->udev = NULL;
        sd_event_source_disable_unref(watch->look);
        g_free(watch);
        return NULL;
}

void heart_facts_changed(HeartHost *host) {
        if (!host->udev || !host->udev->host_told)
                return;
        (void) sd_event_source_set_time_relative(host->udev->look, host->conf.coalesce_us);
        (void) sd_event_source_set_enabled(host->udev->look, SD_EVENT_ONESHOT);
}

/* The machine's own, of which the simulation is not to depend. */
int host_memory_now(NodeFacts *ret) {
        *ret = (NodeFacts) {};
        return 0;
}

/* ---- the bus, which nobody reads: administrators ask what stands behind it */

struct Bus {
        const Service *service;
        void *userdata;
};

int bus_new(Bus **ret, sd_event *event, const BusConfig *config, const Service *service, void *service_userdata) {
        Bus *bus = g_new0(Bus, 1);
        *bus = (Bus) { .service = service, .userdata = service_userdata };
        heart_host_current()->bus = bus;
        *ret = bus;
        return 0;
}

Bus *bus_free(Bus *bus) {
        if (bus)
                heart_host_current()->bus = NULL;
        g_free(bus);
        return NULL;
}

const Service *heart_bus_service(const Bus *bus, void **ret_userdata) {
        *ret_userdata = bus->userdata;
        return bus->service;
}

int bus_name_is_taken(Bus *bus) {
        return 0;
}

int bus_acquire_name(Bus *bus) {
        return 0;
}

void bus_invalidate(Bus *bus) {
}

void bus_flush(Bus *bus) {
}

void bus_job_added(Bus *bus, const Job *job) {
}

void bus_job_ended(Bus *bus, const Job *job) {
}

void bus_job_forgotten(Bus *bus, const Job *job) {
}

void bus_emit_event(Bus *bus, const Event *event) {
}

void bus_emit_device_event(Bus *bus, const BusDeviceEvent *event) {
}
