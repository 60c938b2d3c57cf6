/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Starts a VM (series.h); what was started is gone again before the answer.
 *
 * bench-start: the VM "bert" of this node's cluster:
 *     ctl N       gpupoolctl vm start bert: the whole command
 *     bus 4       one Start by D-Bus, and after what time each was seen: the reply (it is wanted, as an entry), started
 *                 by libvirt (it is placed, as an entry, and its GPU bound), resumed by libvirt (it is held and
 *                 permitted), the job's end (it is reported as running, as an entry)
 *
 * bench-start FILE DOMAIN: the domain in FILE, which is named so, without us:
 *     virsh N     virsh create FILE: the whole command
 *     libvirt N   virDomainCreateXML of FILE: from call to answer */

#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>

#include "core/names.h"
#include "series.h"
#include "util/cleanup.h"

#define VM "bert"
#define PATIENCE_US 60e6
#define PROPERTIES "org.freedesktop.DBus.Properties"

enum { REPLIED, STARTED, RESUMED, DONE, STAGES };

extern char **environ;

static sd_bus *bus;
static virConnectPtr hypervisor;
static char *vm_path, *job_path, *xml;
static const char *xml_file, *domain_name;
static double stages[STAGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       /* over stages[]: libvirt's come by its own thread */

static void note(int stage) {
        double now = series_now_us();
        (void) pthread_mutex_lock(&lock);
        if (stages[stage] == 0)
                stages[stage] = now;
        (void) pthread_mutex_unlock(&lock);
}

static bool is_noted(int stage) {
        (void) pthread_mutex_lock(&lock);
        bool noted = stages[stage] != 0;
        (void) pthread_mutex_unlock(&lock);
        return noted;
}

/* ---- what is heard */

static int on_domain(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *userdata) {
        if (strcmp(virDomainGetName(domain), VM) != 0)
                return 0;
        if (event == VIR_DOMAIN_EVENT_STARTED)
                note(STARTED);
        if (event == VIR_DOMAIN_EVENT_RESUMED)
                note(RESUMED);
        return 0;
}

static void *run_events(void *userdata) {
        while (virEventRunDefaultImpl() >= 0)
                ;
        return NULL;
}

/* The new State in a PropertiesChanged; empty if it is not among what changed. */
static const char *changed_state(sd_bus_message *m) {
        const char *interface, *name, *state;
        if (sd_bus_message_read(m, "s", &interface) < 0 || sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
                return "";
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                if (sd_bus_message_read(m, "s", &name) < 0)
                        return "";
                if (strcmp(name, "State") == 0)
                        return sd_bus_message_read(m, "v", "s", &state) < 0 ? "" : state;
                if (sd_bus_message_skip(m, "v") < 0 || sd_bus_message_exit_container(m) < 0)
                        return "";
        }
        return "";
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (job_path && strcmp(sd_bus_message_get_path(m), job_path) == 0 && strcmp(changed_state(m), "done") == 0)
                note(DONE);
        return 0;
}

/* ---- what is done */

/* A job of the VM, until it is over. 0, or -errno. */
static int operate(const char *verb) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *result = NULL;
        const char *path;
        memset(stages, 0, sizeof(stages));
        free(STEAL(job_path));
        int r = sd_bus_call_method(bus, BUS_NAME, vm_path, INTERFACE_VM, verb, &error, &reply, "a{sv}", 0);
        note(REPLIED);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0) {
                fprintf(stderr, "bench-start: %s: %s\n", verb, error.message ? error.message : strerror(-r));
                return r;
        }
        job_path = strdup(path);
        double give_up = series_now_us() + PATIENCE_US;
        while (r >= 0 && !is_noted(DONE)) {
                if (series_now_us() > give_up)
                        return -ETIMEDOUT;
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, 1000000);
        }
        if (r >= 0)
                r = sd_bus_get_property_string(bus, BUS_NAME, job_path, INTERFACE_JOB, "Result", NULL, &result);
        return r < 0 ? r : strcmp(result, "done") == 0 ? 0 : -ECANCELED;
}

static int run_command(char *const *words) {
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int status;
        (void) posix_spawn_file_actions_init(&actions);
        (void) posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        (void) posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        int r = -posix_spawnp(&pid, words[0], &actions, NULL, words, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r == 0 && waitpid(pid, &status, 0) < 0)
                r = -errno;
        return r < 0 ? r : status == 0 ? 0 : -ECANCELED;
}

static int destroy_domain(void) {
        virDomainPtr domain = virDomainLookupByName(hypervisor, domain_name);
        int r = domain && virDomainDestroy(domain) >= 0 ? 0 : -EIO;
        if (domain)
                (void) virDomainFree(domain);
        return r;
}

static int run_ctl(unsigned count, double *times) {
        char *const words[] = { (char *) "gpupoolctl", (char *) "vm", (char *) "start", (char *) VM, NULL };
        int r = 0;
        for (unsigned i = 0; r >= 0 && i < count; i++) {
                double began = series_now_us();
                r = run_command(words);
                times[i] = series_now_us() - began;
                if (r >= 0)
                        r = operate("Stop");
        }
        return r;
}

static int run_virsh(unsigned count, double *times) {
        char *const words[] = { (char *) "virsh", (char *) "create", (char *) xml_file, NULL };
        int r = 0;
        for (unsigned i = 0; r >= 0 && i < count; i++) {
                double began = series_now_us();
                r = run_command(words);
                times[i] = series_now_us() - began;
                if (r >= 0)
                        r = destroy_domain();
        }
        return r;
}

static int run_libvirt(unsigned count, double *times) {
        for (unsigned i = 0; i < count; i++) {
                double began = series_now_us();
                virDomainPtr domain = virDomainCreateXML(hypervisor, xml, 0);
                times[i] = series_now_us() - began;
                if (!domain)
                        return -EIO;
                (void) virDomainFree(domain);
                int r = destroy_domain();
                if (r < 0)
                        return r;
        }
        return 0;
}

static int run_bus(unsigned count, double *times) {
        if (count != STAGES)
                return -EINVAL;
        double began = series_now_us();
        int r = operate("Start");
        if (r < 0)
                return r;
        double give_up = series_now_us() + PATIENCE_US;
        while (!is_noted(STARTED) || !is_noted(RESUMED))        /* by another thread, from another service */
                if (series_now_us() > give_up)
                        return -ETIMEDOUT;
        for (unsigned i = 0; i < STAGES; i++)
                times[i] = stages[i] - began;
        return operate("Stop");
}

/* ---- before the first line */

static int read_file(const char *path, char **ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        char *text = calloc(1, (size_t) st.st_size + 1);
        if (!text)
                return -ENOMEM;
        if (read(fd, text, (size_t) st.st_size) != st.st_size) {
                free(text);
                return -EIO;
        }
        *ret = text;
        return 0;
}

static int connect_bus(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_add_match(bus, NULL, "type='signal',sender='" BUS_NAME "',interface='" PROPERTIES "'",
                                     on_changed, NULL);
        if (r >= 0)
                r = sd_bus_call_method(bus, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER, "GetVM", NULL, &reply, "s", VM);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        vm_path = r >= 0 ? strdup(path) : NULL;
        return r < 0 ? r : vm_path ? 0 : -ENOMEM;
}

static int connect_libvirt(void) {
        pthread_t thread;
        if (virEventRegisterDefaultImpl() < 0)
                return -EIO;
        hypervisor = virConnectOpen("qemu:///system");
        if (!hypervisor || virConnectDomainEventRegisterAny(hypervisor, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                            VIR_DOMAIN_EVENT_CALLBACK(on_domain), NULL, NULL) < 0)
                return -EIO;
        return -pthread_create(&thread, NULL, run_events, NULL);
}

static const Series ours[] = { { "ctl", run_ctl }, { "bus", run_bus } };
static const Series theirs[] = { { "virsh", run_virsh }, { "libvirt", run_libvirt } };

int main(int argc, char **argv) {
        bool bare = argc == 3;
        int r = bare ? read_file(argv[1], &xml) : connect_bus();
        if (bare) {
                xml_file = argv[1];
                domain_name = argv[2];
        }
        if (r >= 0)
                r = connect_libvirt();
        if (r < 0) {
                fprintf(stderr, "bench-start: %s\n", strerror(-r));
                return 1;
        }
        series_ready();
        while (series_serve_line(bare ? theirs : ours, sizeof(ours) / sizeof(ours[0])))
                ;
        return 0;
}
