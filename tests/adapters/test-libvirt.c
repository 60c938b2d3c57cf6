/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The real libvirtd and QEMU, in a host of their own; the hypervisor as the user that gpupoold runs as. */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/libvirt/hypervisor.h"
#include "adapters/libvirt/process.h"
#include "core/domain-cpus.h"
#include "core/domain-xml.h"
#include "core/facts-codec.h"
#include "libvirt-world.h"
#include "util/array.h"
#include "util/text.h"

#define SECOND_US (1000ULL * 1000)
#define PATIENCE_US (60 * SECOND_US)            /* the first start has libvirt ask QEMU what it can do */
#define QUERY_TIMEOUT_US (4 * SECOND_US)         /* libvirtd may have to wait for a processor */
#define TICK_US 5000U
#define GAP_MAX_US (200U * 1000)                /* a call of libvirt in the loop would be a second and more */

static const ClusterId cluster = { { 0xc1 } };
static const NodeId node = { { 0x0d } };

typedef struct SeenEvent {
        VmId vm;
        DomainEventKind kind;
        DomainEventCause cause;
} SeenEvent;

typedef struct Seen {
        VmId vm;
        uint64_t epoch;
        DomainState state;
        pid_t pid;
        bool has_pidfd, is_ours;
} Seen;

/* One hypervisor, and what it said. */
typedef struct World {
        sd_event *event;
        Hypervisor *h;
        sd_event_source *ticker;
        uint64_t last_tick_us, gap_us;
        unsigned n_states[4];                   /* how often each HypervisorState was entered */
        ARRAY(SeenEvent) events;
        unsigned n_listed, n_done;
        ARRAY(Seen) domains;                    /* of the last list */
        HypervisorResult result;
        char *sentence;
        pid_t pid;
        int pidfd;
} World;

static void on_state(HypervisorState state, const char *detail, void *userdata) {
        World *w = userdata;
        g_test_message("libvirt is %s: %s", hypervisor_state_to_text(state), detail ? detail : "well");
        w->n_states[state]++;
}

static void on_event(const VmId *vm, DomainEventKind kind, DomainEventCause cause, void *userdata) {
        SeenEvent seen = { .vm = *vm, .kind = kind, .cause = cause };
        g_assert_cmpint(array_append(&((World *) userdata)->events, &seen), ==, 0);
}

static void keep_domains(World *w, const HypervisorDomain *domains, size_t n_domains) {
        array_clear(&w->domains);
        for (size_t i = 0; i < n_domains; i++) {
                Seen seen = {
                        .vm = domains[i].vm,
                        .epoch = domains[i].epoch,
                        .state = domains[i].state,
                        .pid = domains[i].pid,
                        .has_pidfd = domains[i].pidfd >= 0,
                        .is_ours = ID_EQUAL(&domains[i].cluster, &cluster) && ID_EQUAL(&domains[i].node, &node),
                };
                g_assert_cmpint(array_append(&w->domains, &seen), ==, 0);
        }
}

static void on_listed(HypervisorDomain *domains, size_t n_domains, void *userdata) {
        World *w = userdata;
        keep_domains(w, domains, n_domains);
        w->n_listed++;
}

static const HypervisorCallbacks callbacks = {
        .state_changed = on_state,
        .domain_event = on_event,
        .domains_listed = on_listed,
};

static void on_done(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        World *w = userdata;
        g_assert_true((result == HYPERVISOR_CALL_OK) == (reply->sentence == NULL));
        w->result = result;
        g_assert_cmpint(text_set(&w->sentence, reply->sentence), ==, 0);
        keep_domains(w, reply->domains, reply->n_domains);
        w->pid = reply->pid;
        closep(&w->pidfd);
        w->pidfd = steal_fd(&reply->pidfd);
        w->n_done++;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        World *w = userdata;
        uint64_t now = (uint64_t) g_get_monotonic_time();
        if (w->last_tick_us > 0 && now - w->last_tick_us > w->gap_us)
                w->gap_us = now - w->last_tick_us;
        w->last_tick_us = now;
        g_assert_cmpint(sd_event_source_set_time(source, now + TICK_US), >=, 0);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void await(World *w, const unsigned *counter, unsigned value) {
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (*counter < value) {
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_assert_cmpint(sd_event_run(w->event, SECOND_US), >=, 0);
        }
}

static void await_state(World *w, HypervisorState state) {
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (hypervisor_state(w->h) != state) {
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_assert_cmpint(sd_event_run(w->event, SECOND_US), >=, 0);
        }
}

static void await_event(World *w, const VmId *vm, DomainEventKind kind, DomainEventCause cause) {
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        for (;;) {
                ARRAY_EACH(event, &w->events)
                        if (ID_EQUAL(&event->vm, vm) && event->kind == kind) {
                                g_assert_cmpint(event->cause, ==, cause);
                                return;
                        }
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_assert_cmpint(sd_event_run(w->event, SECOND_US), >=, 0);
        }
}

static void world_begin_at(World *w, const char *uri) {
        *w = (World) { .pidfd = -1 };
        g_assert_cmpint(sd_event_new(&w->event), >=, 0);
        g_assert_cmpint(sd_event_add_time(w->event, &w->ticker, CLOCK_MONOTONIC, 0, 1, on_tick, w), >=, 0);
        HypervisorConfig config = {
                .uri = uri,
                .query_timeout_us = QUERY_TIMEOUT_US,
                .start_timeout_us = PATIENCE_US,
                .stop_timeout_us = 20 * SECOND_US,
                .probe_interval_us = SECOND_US / 2,
        };
        g_assert_cmpint(hypervisor_new(&w->h, w->event, &config, &callbacks, w), ==, 0);
}

static void world_end(World *w) {
        w->h = hypervisor_free(w->h);
        sd_event_source_unref(w->ticker);
        sd_event_unref(w->event);
        array_clear(&w->events);
        array_clear(&w->domains);
        free(w->sentence);
        closep(&w->pidfd);
}

#define WORLD                                                   \
        _cleanup_(world_end) World w;                           \
        world_begin_at(&w, "qemu:///system");                   \
        await_state(&w, HYPERVISOR_CONNECTED)

static VmId vm_id(unsigned n) {
        return (VmId) { { 0xaa, (uint8_t) n, 0x40 } };
}

static char *domain_xml(unsigned n, const char *more) {
        _cleanup_free_ char *xml = NULL;
        char *built = NULL;
        g_assert_cmpint(
                text_printf(&xml,
                            "<domain type='qemu'><name>vm%u</name><memory unit='MiB'>32</memory>"
                            "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
                            "<devices><controller type='usb' model='none'/><memballoon model='none'/>%s</devices>"
                            "</domain>",
                            n, more),
                ==, 0);
        DomainBuild build = { .vm = vm_id(n), .cluster = cluster, .node = node, .epoch = 7, .numa_node = -1 };
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &build, &built, NULL), ==, DOMAIN_BUILD_OK);
        return built;
}

static HypervisorResult await_done(World *w, unsigned before) {
        await(w, &w->n_done, before + 1);
        g_assert_true(!w->sentence || text_is_printable(w->sentence));
        if (w->sentence)
                g_test_message("%s: %s", hypervisor_result_to_text(w->result), w->sentence);
        return w->result;
}

static HypervisorResult start(World *w, unsigned n) {
        _cleanup_free_ char *xml = domain_xml(n, "");
        unsigned before = w->n_done;
        g_assert_cmpint(hypervisor_start_paused(w->h, xml, on_done, w), ==, 0);
        return await_done(w, before);
}

typedef int (*VmCall)(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata);

static HypervisorResult call_vm(World *w, VmCall call, unsigned n) {
        VmId vm = vm_id(n);
        unsigned before = w->n_done;
        g_assert_cmpint(call(w->h, &vm, on_done, w), ==, 0);
        return await_done(w, before);
}

static HypervisorResult check(World *w, const char *xml) {
        unsigned before = w->n_done;
        g_assert_cmpint(hypervisor_check_xml(w->h, xml, on_done, w), ==, 0);
        return await_done(w, before);
}

static size_t list(World *w) {
        unsigned before = w->n_done;
        g_assert_cmpint(hypervisor_list(w->h, on_done, w), ==, 0);
        g_assert_cmpint(await_done(w, before), ==, HYPERVISOR_CALL_OK);
        return w->domains.n;
}

/* A scene says whether all in it was in time. On a busy machine it may not be; if the product is slow it never is. */
static void play(bool (*scene)(void)) {
        for (unsigned i = 0; !scene(); i++)
                g_assert_cmpuint(i, <, 5);
}

static bool await_death(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 20000) == 1;
}

static void test_it_connects_and_tells_what_runs(void) {
        WORLD;
        await(&w, &w.n_listed, 1);
        g_assert_cmpuint(w.domains.n, ==, 0);
        g_assert_nonnull(strchr(hypervisor_version(w.h), '.'));
        g_assert_null(hypervisor_detail(w.h));
        g_assert_cmpuint(geteuid(), !=, 0);
}

static void test_xml_is_checked_by_libvirt_and_nothing_stays(void) {
        WORLD;
        _cleanup_free_ char *good = domain_xml(1, "");
        _cleanup_free_ char *bad_disk = domain_xml(1, "<disk type='wat'/>");
        _cleanup_free_ char *bad_emulator = domain_xml(1, "<emulator>/nowhere/qemu</emulator>");
        g_assert_cmpint(check(&w, good), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(check(&w, bad_disk), ==, HYPERVISOR_CALL_FAILED);
        g_assert_nonnull(strstr(w.sentence, "wat"));
        g_assert_cmpint(check(&w, bad_emulator), ==, HYPERVISOR_CALL_FAILED);
        g_assert_nonnull(strstr(w.sentence, "/nowhere/qemu"));
        g_assert_cmpint(check(&w, "<domain"), ==, HYPERVISOR_CALL_FAILED);
        g_assert_cmpint(check(&w, "<domain><\xff\xfe\x1b>"), ==, HYPERVISOR_CALL_FAILED);
        g_assert_cmpint(check(&w, ""), ==, HYPERVISOR_CALL_FAILED);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_cmpint(hypervisor_state(w.h), ==, HYPERVISOR_CONNECTED);
}

/* Asked for a command line only, libvirt does not look for the devices; but then it has to be told by which driver. */
static char *name_the_driver(const char *xml) {
        static const char managed[] = "managed=\"no\">";
        char *named = NULL;
        for (const char *at; (at = strstr(xml, managed)); xml = at + strlen(managed))
                g_assert_cmpint(text_append(&named, "%.*s%s<driver name='vfio'/>", (int) (at - xml), xml, managed), ==,
                                0);
        g_assert_cmpint(text_append(&named, "%s", xml), ==, 0);
        return named;
}

#define WISH "<metadata><gpus xmlns='https://gpupool.org/xmlns/vm/1' rom='off'/></metadata>"

static const PciAddress card[] = { { .bus = 0x41 }, { .bus = 0x41, .function = 1 } }, compute[] = { { .bus = 0x61 } },
                        beside[] = { { .bus = 0x62 } };

static void on_capabilities(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        World *w = userdata;
        TextList models = {};
        char *vendor = NULL;
        w->result = result;
        g_assert_cmpint(text_set(&w->sentence, reply->sentence), ==, 0);
        g_assert_cmpint(result == HYPERVISOR_CALL_OK, ==, !!reply->xml);
        if (reply->xml) {
                g_assert_cmpint(domain_cpus_read(reply->xml, strlen(reply->xml), &models, &vendor), ==, 0);
                g_assert_cmpuint(models.n, >, 0);
                g_assert_cmpuint(models.n, <=, FACTS_CPU_MODELS_MAX);
                g_test_message("%zu models of %s, %s first", models.n, vendor, models.items[0]);
        }
        text_list_clear(&models);
        free(vendor);
        w->n_done++;
}

static void test_libvirt_says_which_cpus_it_can_give_or_that_there_is_no_kvm(void) {
        WORLD;
        unsigned before = w.n_done;
        g_assert_cmpint(hypervisor_capabilities(w.h, on_capabilities, &w), ==, 0);
        HypervisorResult result = await_done(&w, before);
        if (result != HYPERVISOR_CALL_OK) {
                g_assert_cmpint(result, ==, HYPERVISOR_CALL_FAILED);
                g_assert_nonnull(w.sentence);
        }
}

static void test_libvirt_takes_what_is_built_for_gpus(void) {
        static const GpuBar bars[PCI_BARS] = { { .size = 64ULL << 30, .prefetchable_64 = true } };
        static const char *const domains[] = {
                /* Nothing has an address, and the firmware is OVMF by its file: any file will do to be named. */
                "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type arch='x86_64' "
                "machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/etc/hostname</loader></os>"
                "<features><acpi/></features><devices><rng model='virtio'><backend "
                "model='random'>/dev/urandom</backend></rng></devices></domain>",
                /* Ports of its own, one of them without a number. */
                "<domain type='qemu'><name>a</name>" WISH "<memory unit='MiB'>64</memory><os><type arch='x86_64' "
                "machine='pc-q35-7.2'>hvm</type></os><cpu mode='maximum'/><devices>"
                "<controller type='pci' index='0' model='pcie-root'/>"
                "<controller type='pci' index='1' model='pcie-root-port'><target chassis='1' port='0x10'/><address "
                "type='pci' domain='0' bus='0' slot='2' function='0' multifunction='on'/></controller>"
                "<controller type='pci' model='pcie-root-port'/>"
                "<rng model='virtio'><backend model='random'>/dev/urandom</backend><address type='pci' bus='1' "
                "slot='0'/></rng></devices></domain>",
                ("<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type arch='x86_64' "
                 "machine='pc'>hvm</type></os></domain>"),
        };
        DomainGpu gpus[] = { { card, 2, bars, "0000:40:00.0" }, { compute, 1, bars, NULL },
                             { beside, 1, bars, "0000:40:00.0" } };
        WORLD;
        for (size_t i = 0; i < ELEMENTS(domains); i++) {
                DomainBuild build = { .vm = vm_id(1), .cluster = cluster, .node = node, .epoch = 7, .gpus = gpus,
                                      .n_gpus = ELEMENTS(gpus), .numa_node = 0, .numa_cpus = "0", .address_bits = 46 };
                _cleanup_free_ char *built = NULL, *sentence = NULL;
                g_assert_cmpint(domain_xml_build(domains[i], strlen(domains[i]), &build, &built, &sentence), ==,
                                DOMAIN_BUILD_OK);
                _cleanup_free_ char *named = name_the_driver(built);
                g_test_message("%s", named);
                g_assert_cmpint(check(&w, named), ==, HYPERVISOR_CALL_OK);
        }
}

/* QEMU itself makes the ports and switches, with something else in the GPUs' places. */
static void test_a_guest_with_a_switch_starts(void) {
        static const char xml[] =
                "<domain type='qemu'><name>a</name>" WISH "<memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type "
                "arch='x86_64' machine='q35'>hvm</type></os><devices><memballoon model='none'/></devices></domain>";
        DomainGpu gpus[] = { { compute, 1, NULL, "0000:40:00.0" }, { beside, 1, NULL, "0000:40:00.0" } };
        DomainBuild build = { .vm = vm_id(1), .cluster = cluster, .node = node, .epoch = 7, .gpus = gpus,
                              .n_gpus = ELEMENTS(gpus), .numa_node = 0, .numa_cpus = "0" };
        WORLD;
        _cleanup_free_ char *built = NULL, *sentence = NULL;
        g_assert_cmpint(domain_xml_build(xml, strlen(xml), &build, &built, &sentence), ==, DOMAIN_BUILD_OK);
        g_autoptr(GRegex) hostdev = g_regex_new("<hostdev.*?<rom bar=\"off\"/>(.*?)</hostdev>", 0, 0, NULL);
        g_autofree char *other = g_regex_replace(hostdev, built, -1, 0, "<rng model=\"virtio\"><backend model="
                                                 "\"random\">/dev/urandom</backend>\\1</rng>", 0, NULL);
        g_test_message("%s", other);
        g_assert_null(strstr(other, "<hostdev"));
        unsigned before = w.n_done;
        g_assert_cmpint(hypervisor_start_paused(w.h, other, on_done, &w), ==, 0);
        g_assert_cmpint(await_done(&w, before), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 1), ==, HYPERVISOR_CALL_OK);
}

static bool a_vm_lives_and_the_loop_goes_on(void) {
        WORLD;
        VmId vm = vm_id(1);
        g_assert_cmpint(start(&w, 1), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(w.pid, >, 0);
        g_assert_cmpint(w.pidfd, >=, 0);
        _cleanup_close_ int pidfd = steal_fd(&w.pidfd);
        pid_t pid = w.pid;
        await_event(&w, &vm, DOMAIN_EVENT_STARTED, DOMAIN_CAUSE_NONE);

        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.domains.items[0].is_ours);
        g_assert_true(ID_EQUAL(&w.domains.items[0].vm, &vm));
        g_assert_cmpuint(w.domains.items[0].epoch, ==, 7);
        g_assert_cmpint(w.domains.items[0].state, ==, DOMAIN_PAUSED);
        g_assert_cmpint(w.domains.items[0].pid, ==, pid);
        g_assert_true(w.domains.items[0].has_pidfd);

        g_assert_cmpint(call_vm(&w, hypervisor_resume, 1), ==, HYPERVISOR_CALL_OK);
        await_event(&w, &vm, DOMAIN_EVENT_RESUMED, DOMAIN_CAUSE_NONE);
        g_assert_cmpint(call_vm(&w, hypervisor_resume, 1), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(w.domains.items[0].state, ==, DOMAIN_RUNNING);
        g_assert_cmpint(call_vm(&w, hypervisor_shutdown, 1), ==, HYPERVISOR_CALL_OK);

        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 1), ==, HYPERVISOR_CALL_OK);
        await_event(&w, &vm, DOMAIN_EVENT_STOPPED, DOMAIN_CAUSE_HOST);
        g_assert_true(await_death(pidfd));
        g_assert_cmpuint(list(&w), ==, 0);
        g_test_message("largest gap of the loop: %" PRIu64 " us", w.gap_us);
        return w.gap_us < GAP_MAX_US;
}

static void test_a_vm_starts_paused_runs_and_is_destroyed(void) {
        play(a_vm_lives_and_the_loop_goes_on);
}

static void test_a_start_that_libvirt_refuses_says_why_and_leaves_nothing(void) {
        WORLD;
        _cleanup_free_ char *xml = domain_xml(2, "<disk type='file' device='disk'><source "
                                                 "file='/nowhere/disk'/><target dev='vda' bus='virtio'/></disk>");
        unsigned before = w.n_done;
        g_assert_cmpint(hypervisor_start_paused(w.h, xml, on_done, &w), ==, 0);
        g_assert_cmpint(await_done(&w, before), ==, HYPERVISOR_CALL_FAILED);
        g_assert_nonnull(strstr(w.sentence, "/nowhere/disk"));
        g_assert_cmpint(w.pidfd, ==, -1);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_cmpint(hypervisor_start_paused(w.h, "<domain type='qemu'><name>a</name></domain>", on_done, &w), ==,
                        -EINVAL);
}

static void test_a_vm_starts_once(void) {
        WORLD;
        g_assert_cmpint(start(&w, 3), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(start(&w, 3), ==, HYPERVISOR_CALL_FAILED);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 3), ==, HYPERVISOR_CALL_OK);
}

static void test_several_vms_start_at_once(void) {
        WORLD;
        gint64 before = g_get_monotonic_time();
        for (unsigned n = 10; n < 14; n++) {
                _cleanup_free_ char *xml = domain_xml(n, "");
                g_assert_cmpint(hypervisor_start_paused(w.h, xml, on_done, &w), ==, 0);
        }
        await(&w, &w.n_done, 4);
        g_test_message("four starts took %" PRId64 " ms", (g_get_monotonic_time() - before) / 1000);
        g_assert_cmpuint(list(&w), ==, 4);
        for (unsigned n = 10; n < 14; n++)
                g_assert_cmpint(call_vm(&w, hypervisor_destroy, n), ==, HYPERVISOR_CALL_OK);
}

static void test_a_vm_that_is_not_there_is_told_apart_from_a_refusal(void) {
        WORLD;
        g_assert_cmpint(call_vm(&w, hypervisor_resume, 99), ==, HYPERVISOR_CALL_NO_DOMAIN);
        g_assert_cmpint(call_vm(&w, hypervisor_shutdown, 99), ==, HYPERVISOR_CALL_NO_DOMAIN);
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 99), ==, HYPERVISOR_CALL_NO_DOMAIN);
}

static void test_a_process_that_dies_is_told(void) {
        WORLD;
        VmId vm = vm_id(4);
        g_assert_cmpint(start(&w, 4), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(call_vm(&w, hypervisor_resume, 4), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(signal_as_root(w.domains.items[0].pid, SIGKILL), ==, 0);
        await_event(&w, &vm, DOMAIN_EVENT_STOPPED, DOMAIN_CAUSE_FAILED);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_domains_of_others_are_not_listed(void) {
        WORLD;
        char path[] = "/tmp/test-libvirt-XXXXXX";
        _cleanup_close_ int fd = g_mkstemp(path);
        g_assert_cmpint(fd, >=, 0);
        g_assert_true(g_file_set_contents(path,
                                          "<domain type='qemu'><name>other</name><memory unit='MiB'>32</memory>"
                                          "<os><type machine='q35'>hvm</type></os></domain>", -1, NULL));
        const char *create[] = { "/usr/bin/virsh", "-q", "-c", "qemu:///system", "create", path, NULL };
        const char *destroy[] = { "/usr/bin/virsh", "-q", "-c", "qemu:///system", "destroy", "other", NULL };
        g_assert_cmpint(as_root(create), ==, 0);
        g_assert_cmpint(unlink(path), ==, 0);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_cmpint(as_root(destroy), ==, 0);
}

static bool libvirtd_restarts_and_the_loop_goes_on(void) {
        WORLD;
        VmId vm = vm_id(5);
        g_assert_cmpint(start(&w, 5), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(call_vm(&w, hypervisor_resume, 5), ==, HYPERVISOR_CALL_OK);
        pid_t pid = w.pid;
        g_assert_cmpuint(list(&w), ==, 1);
        pid = w.domains.items[0].pid;
        unsigned n_listed = w.n_listed;

        libvirtd_kill();
        await_state(&w, HYPERVISOR_ABSENT);
        g_assert_nonnull(hypervisor_detail(w.h));
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 5), ==, HYPERVISOR_CALL_UNAVAILABLE);
        libvirtd_start();
        await_state(&w, HYPERVISOR_CONNECTED);
        await(&w, &w.n_listed, n_listed + 1);
        g_assert_cmpuint(w.domains.n, ==, 1);
        g_assert_true(ID_EQUAL(&w.domains.items[0].vm, &vm));
        g_assert_cmpint(w.domains.items[0].pid, ==, pid);
        g_assert_cmpint(w.domains.items[0].state, ==, DOMAIN_RUNNING);

        /* Events come over the new connection. What is destroyed before libvirtd has found its way back to QEMU is
         * taken off its list without one; a call that needs QEMU waits for that. */
        g_assert_cmpint(call_vm(&w, hypervisor_shutdown, 5), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 5), ==, HYPERVISOR_CALL_OK);
        await_event(&w, &vm, DOMAIN_EVENT_STOPPED, DOMAIN_CAUSE_HOST);
        return w.gap_us < GAP_MAX_US;
}

static void test_a_libvirtd_that_restarts_knows_its_vms_again(void) {
        play(libvirtd_restarts_and_the_loop_goes_on);
}

static unsigned count_threads(void) {
        GDir *dir = g_dir_open("/proc/self/task", 0, NULL);
        g_assert_nonnull(dir);
        unsigned n = 0;
        while (g_dir_read_name(dir))
                n++;
        g_dir_close(dir);
        return n;
}

static bool libvirtd_hangs_and_the_loop_goes_on(void) {
        WORLD;
        g_assert_cmpint(start(&w, 6), ==, HYPERVISOR_CALL_OK);
        unsigned threads_before = count_threads();
        gint64 before = g_get_monotonic_time();
        g_assert_cmpint(signal_as_root(libvirtd_pid(), SIGSTOP), ==, 0);
        await_state(&w, HYPERVISOR_HUNG);
        bool in_time = g_get_monotonic_time() - before < (gint64) (QUERY_TIMEOUT_US + SECOND_US / 2 + SECOND_US);
        g_assert_nonnull(hypervisor_detail(w.h));

        /* Calls end with the deadline, and at once when too many are stuck. */
        unsigned done = w.n_done, n_calls = 0;
        HypervisorResult result;
        do {
                g_assert_cmpint(hypervisor_list(w.h, on_done, &w), ==, 0);
                result = await_done(&w, done + n_calls++);
                g_assert_cmpint(result == HYPERVISOR_CALL_TIMED_OUT || result == HYPERVISOR_CALL_HUNG, ==, true);
                g_assert_cmpuint(n_calls, <, 20);
        } while (result == HYPERVISOR_CALL_TIMED_OUT);
        before = g_get_monotonic_time();
        g_assert_cmpint(hypervisor_list(w.h, on_done, &w), ==, 0);
        g_assert_cmpint(await_done(&w, done + n_calls), ==, HYPERVISOR_CALL_HUNG);
        in_time = in_time && g_get_monotonic_time() - before < (gint64) (SECOND_US / 2);
        g_assert_cmpuint(count_threads(), <=, threads_before + 4);

        before = g_get_monotonic_time();
        g_assert_cmpint(signal_as_root(libvirtd_pid(), SIGCONT), ==, 0);
        await_state(&w, HYPERVISOR_CONNECTED);
        g_test_message("connected %" PRId64 " ms after it went on; largest gap of the loop: %" PRIu64 " us",
                       (g_get_monotonic_time() - before) / 1000, w.gap_us);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 6), ==, HYPERVISOR_CALL_OK);
        return in_time && w.gap_us < GAP_MAX_US;
}

static void test_a_libvirtd_that_hangs_is_shown_and_never_stalls_the_loop(void) {
        play(libvirtd_hangs_and_the_loop_goes_on);
}

/* With a start that may take one second only. */
static void world_begin_impatient(World *w) {
        world_begin_at(w, "qemu:///system");
        w->h = hypervisor_free(w->h);
        HypervisorConfig config = {
                .uri = "qemu:///system",
                .query_timeout_us = QUERY_TIMEOUT_US,
                .start_timeout_us = SECOND_US,
                .stop_timeout_us = 20 * SECOND_US,
                .probe_interval_us = SECOND_US / 2,
        };
        g_assert_cmpint(hypervisor_new(&w->h, w->event, &config, &callbacks, w), ==, 0);
        await_state(w, HYPERVISOR_CONNECTED);
}

static void test_a_start_that_comes_true_too_late_is_taken_back(void) {
        _cleanup_(world_end) World w;
        world_begin_impatient(&w);
        VmId vm = vm_id(7);
        g_assert_cmpint(signal_as_root(libvirtd_pid(), SIGSTOP), ==, 0);
        g_assert_cmpint(start(&w, 7), ==, HYPERVISOR_CALL_TIMED_OUT);
        g_assert_cmpint(signal_as_root(libvirtd_pid(), SIGCONT), ==, 0);
        await_event(&w, &vm, DOMAIN_EVENT_STARTED, DOMAIN_CAUSE_NONE);
        await_event(&w, &vm, DOMAIN_EVENT_STOPPED, DOMAIN_CAUSE_HOST);
        ARRAY_EACH(event, &w.events)
                g_assert_cmpint(event->kind, !=, DOMAIN_EVENT_RESUMED);
        await_state(&w, HYPERVISOR_CONNECTED);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_a_forgotten_start_is_taken_back(void) {
        WORLD;
        VmId vm = vm_id(8);
        int object = 0;
        _cleanup_free_ char *xml = domain_xml(8, "");
        g_assert_cmpint(hypervisor_start_paused(w.h, xml, on_done, &object), ==, 0);
        hypervisor_forget(w.h, &object);
        await_event(&w, &vm, DOMAIN_EVENT_STARTED, DOMAIN_CAUSE_NONE);
        await_event(&w, &vm, DOMAIN_EVENT_STOPPED, DOMAIN_CAUSE_HOST);
        g_assert_cmpint(object, ==, 0);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_a_call_that_loses_its_connection_may_have_come_true(void) {
        WORLD;
        _cleanup_free_ char *xml = domain_xml(9, "");
        g_assert_cmpint(start(&w, 9), ==, HYPERVISOR_CALL_OK);  /* so that the thread is connected */
        g_assert_cmpint(call_vm(&w, hypervisor_destroy, 9), ==, HYPERVISOR_CALL_OK);
        g_assert_cmpint(signal_as_root(libvirtd_pid(), SIGSTOP), ==, 0);
        unsigned before = w.n_done;
        g_assert_cmpint(hypervisor_start_paused(w.h, xml, on_done, &w), ==, 0);
        await_state(&w, HYPERVISOR_HUNG);       /* the start is long under way */
        libvirtd_kill();
        g_assert_cmpint(await_done(&w, before), ==, HYPERVISOR_CALL_LOST);
        libvirtd_start();
        await_state(&w, HYPERVISOR_CONNECTED);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_no_libvirtd_is_a_state_with_a_reason(void) {
        _cleanup_(world_end) World w;
        world_begin_at(&w, "qemu+unix:///system?socket=/nowhere/libvirt-sock");
        await_state(&w, HYPERVISOR_ABSENT);
        g_assert_nonnull(strstr(hypervisor_detail(w.h), "/nowhere/libvirt-sock"));
        g_assert_cmpint(start(&w, 1), ==, HYPERVISOR_CALL_UNAVAILABLE);
        g_assert_nonnull(w.sentence);
        g_assert_cmpuint(w.n_listed, ==, 0);
}

static void end_pretender(pid_t pid) {
        g_assert_cmpint(signal_as_root(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static int find(const char *name, int64_t uid, pid_t *ret_pid) {
        VmId vm = vm_id(20);
        _cleanup_close_ int pidfd = -1;
        int r = process_find(name, &vm, uid, ret_pid, &pidfd);
        g_assert_true((r == 0) == (pidfd >= 0));
        return r;
}

static void write_pid_file(pid_t pid) {
        _cleanup_free_ char *command = NULL;
        g_assert_cmpint(
                text_printf(&command, "mkdir -p /run/libvirt/qemu && echo %i > /run/libvirt/qemu/vm20.pid", pid), ==,
                0);
        const char *argv[] = { "/bin/sh", "-c", command, NULL };
        g_assert_cmpint(as_root(argv), ==, 0);
}

static void test_only_the_vms_user_can_be_the_vms_process(void) {
        VmId vm = vm_id(20);
        char uuid[UUID_TEXT_SIZE];
        id_to_uuid(vm.bytes, uuid);
        pid_t found, stranger = pretend_as(12345, uuid);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, -ESRCH);
        g_assert_cmpint(find("vm20", 0, &found), ==, -ESRCH);
        g_assert_cmpint(find("vm20", -1, &found), ==, -ENOENT);

        pid_t first = pretend_as(qemu_uid(), uuid);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, 0);
        g_assert_cmpint(found, ==, first);
        g_assert_cmpint(find("../vm20", qemu_uid(), &found), ==, 0);

        /* Of two, libvirt's own file says which; without it nobody. */
        pid_t second = pretend_as(qemu_uid(), uuid);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, -ENOTUNIQ);
        write_pid_file(second);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, 0);
        g_assert_cmpint(found, ==, second);
        g_assert_cmpint(find("vm20", -1, &found), ==, 0);
        g_assert_cmpint(found, ==, second);

        /* A file from before, whose number is another's now. */
        write_pid_file(getpid());
        g_assert_cmpint(find("vm20", -1, &found), ==, -ESRCH);
        end_pretender(second);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, 0);
        g_assert_cmpint(found, ==, first);
        end_pretender(first);
        end_pretender(stranger);
        g_assert_cmpint(find("vm20", qemu_uid(), &found), ==, -ESRCH);
}

int main(int argc, char **argv) {
        pretend(argc, argv);
        const char *reason;
        bool has_world = world_enter(&reason);
        g_test_init(&argc, &argv, NULL);
        if (!has_world) {
                g_print("1..0 # SKIP %s\n", reason);
                return 0;
        }
        libvirtd_start();
#define TEST(name) g_test_add_func("/libvirt/" #name, test_##name)
        TEST(it_connects_and_tells_what_runs);
        TEST(xml_is_checked_by_libvirt_and_nothing_stays);
        TEST(libvirt_says_which_cpus_it_can_give_or_that_there_is_no_kvm);
        TEST(libvirt_takes_what_is_built_for_gpus);
        TEST(a_guest_with_a_switch_starts);
        TEST(a_vm_starts_paused_runs_and_is_destroyed);
        TEST(a_start_that_libvirt_refuses_says_why_and_leaves_nothing);
        TEST(a_vm_starts_once);
        TEST(several_vms_start_at_once);
        TEST(a_vm_that_is_not_there_is_told_apart_from_a_refusal);
        TEST(a_process_that_dies_is_told);
        TEST(domains_of_others_are_not_listed);
        TEST(a_libvirtd_that_restarts_knows_its_vms_again);
        TEST(a_libvirtd_that_hangs_is_shown_and_never_stalls_the_loop);
        TEST(a_start_that_comes_true_too_late_is_taken_back);
        TEST(a_forgotten_start_is_taken_back);
        TEST(a_call_that_loses_its_connection_may_have_come_true);
        TEST(no_libvirtd_is_a_state_with_a_reason);
        TEST(only_the_vms_user_can_be_the_vms_process);
#undef TEST
        int r = g_test_run();
        world_leave();
        return r;
}
