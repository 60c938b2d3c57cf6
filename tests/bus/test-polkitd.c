/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The real polkitd with the real policy and the shipped example of a rule, and the service under its own user: what is
 * allowed, and what is not. Everything private to this process: users, rules, actions and the bus. Needs root. */

#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bus-test.h"

#define OPERATOR "anna"         /* member of gpu-operators, to whom the example gives the VMs of pool training */
#define STRANGER "nobody"
#define CREATE_X "Manager.CreatePool", "('x', " NO_OPTIONS ")"
#define START "VM.Start", "(" NO_OPTIONS ",)"
#define DENIED "org.freedesktop.DBus.Error.AccessDenied"
#define INTERACTIVE "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"

static const char *polkitd_path(void) {
        static const char *const paths[] = { "/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd" };
        for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++)
                if (access(paths[i], X_OK) == 0)
                        return paths[i];
        return NULL;
}

/* ---- a machine of our own */

static char *scratch;

static void must(int r, const char *what) {
        if (r < 0)
                g_error("%s: %s", what, g_strerror(errno));
}

static void write_file(const char *path, const char *text) {
        g_autoptr(GError) error = NULL;
        (void) g_file_set_contents(path, text, -1, &error);
        g_assert_no_error(error);
        must(chmod(path, 0644), path);
}

/* Binds a copy of @path with more lines over it. */
static void add_lines(const char *path, const char *lines) {
        g_autofree char *text = NULL, *base = g_path_get_basename(path), *copy = g_build_filename(scratch, base, NULL);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_autofree char *whole = g_strconcat(text, lines, NULL);
        write_file(copy, whole);
        must(mount(copy, path, NULL, MS_BIND, NULL), path);
}

static void copy_into(const char *from, const char *folder, const char *name) {
        g_autofree char *text = NULL, *path = g_build_filename(folder, name, NULL);
        g_autoptr(GError) error = NULL;
        (void) g_file_get_contents(from, &text, NULL, &error);
        g_assert_no_error(error);
        write_file(path, text);
}

static void cover(const char *folder) {
        (void) g_mkdir_with_parents(folder, 0755);
        must(mount("tmpfs", folder, "tmpfs", 0, "mode=0755"), folder);
}

/* Returns why it cannot be done, or NULL. */
static const char *make_machine(void) {
        if (getuid() != 0)
                return "needs root";
        if (!polkitd_path())
                return "there is no polkitd";
        if (unshare(CLONE_NEWNS) < 0)
                return "no mount namespace may be made here";
        must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
        scratch = g_dir_make_tmp("gpupool-polkitd-XXXXXX", NULL);
        must(mount("tmpfs", scratch, "tmpfs", 0, "mode=0755"), scratch);
        if (!getpwnam(SERVICE_USER))
                add_lines("/etc/passwd",
                          SERVICE_USER ":x:63001:63001::/:/usr/sbin/nologin\n" OPERATOR ":x:63002:63002::/:/bin/sh\n");
        else
                add_lines("/etc/passwd", OPERATOR ":x:63002:63002::/:/bin/sh\n");
        add_lines("/etc/group",
                  SERVICE_USER "-test:x:63001:\n" OPERATOR ":x:63002:\ngpu-operators:x:63003:" OPERATOR "\n");
        cover("/usr/share/polkit-1/actions");
        cover("/usr/share/polkit-1/rules.d");
        cover("/etc/polkit-1/rules.d");
        copy_into(POLKIT_POLICY, "/usr/share/polkit-1/actions", "org.gpupool1.policy");
        copy_into(POLKIT_RULES, "/etc/polkit-1/rules.d", "50-gpupool-operators.rules");
        return NULL;
}

/* ---- a host with the real polkitd */

typedef struct Machine {
        Host *host;
        GPid polkitd;
} Machine;

static void wait_for_polkit(Host *host) {
        for (unsigned i = 0; i < 30000; i++) {
                g_autofree char *owned = call_bus(host->client, "NameHasOwner", "('org.freedesktop.PolicyKit1',)");
                if (g_str_equal(owned, "(true,)"))
                        return;
                g_usleep(2000);
        }
        g_error("polkitd does not come up");
}

static void start_polkitd(Machine *machine) {
        const char *const arguments[] = { polkitd_path(), "--no-debug", NULL };
        machine->polkitd = host_spawn(arguments, machine->host->address);
        wait_for_polkit(machine->host);
}

static Machine machine_new(void) {
        Machine machine = {};
        g_autofree char *config = g_strdup_printf(
                "<policy user=\"root\"><allow send_destination=\"org.freedesktop.PolicyKit1\"/></policy>\n"
                "<include>/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>\n"
                "<include>%s</include>\n", BUS_POLICY);
        machine.host = host_new_bus_only(config);
        start_polkitd(&machine);
        host_start_service(machine.host, "--user " SERVICE_USER);
        return machine;
}

static void machine_clear(Machine *machine) {
        host_free(machine->host);
        host_end(&machine->polkitd);
}
#define MACHINE(name) __attribute__((cleanup(machine_clear))) Machine name = machine_new()

static char *call_as(const Machine *machine, const char *user, const char *flag, const char *path, const char *method,
                     const char *arguments) {
        const char *words[] = { CALL_AS, user, flag, path, method, arguments, NULL };
        const char *plain[] = { CALL_AS, user, path, method, arguments, NULL };
        g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "DBUS_SYSTEM_BUS_ADDRESS", machine->host->address,
                                                     TRUE);
        g_autoptr(GError) error = NULL;
        char *output = NULL;
        (void) g_spawn_sync(NULL, (char **) (flag ? words : plain), environment, G_SPAWN_DEFAULT, NULL, NULL, &output,
                            NULL, NULL, &error);
        g_assert_no_error(error);
        return g_strchomp(output);
}

static void expect_as(const Machine *machine, const char *user, const char *path, const char *method,
                      const char *arguments, const char *beginning) {
        g_autofree char *answer = call_as(machine, user, NULL, path, method, arguments);
        if (!g_str_has_prefix(answer, beginning))
                g_error("%s as %s answers\n  %s\nand not\n  %s", method, user, answer, beginning);
}

/* As root: pools training and other, and VM bert of @pool. */
static void make_pools_and_vm(Machine *machine, const char *pool) {
        Host *host = machine->host;
        expect_reply(host, ROOT, "Manager.CreatePool", "('training', " NO_OPTIONS ")",
                     "(objectpath '" POOL("training") "',)");
        expect_reply(host, ROOT, "Manager.CreatePool", "('other', " NO_OPTIONS ")",
                     "(objectpath '" POOL("other") "',)");
        g_autofree char *xml = domain_xml("bert", VM_UUID);
        g_autofree char *arguments = g_strdup_printf("('%s', '%s', uint32 1, " NO_OPTIONS ")", xml, pool);
        expect_reply(host, ROOT, "Manager.DefineVM", arguments, "(objectpath '" VM_PATH "',)");
}

/* ---- who may what */

static void test_the_service_is_not_root(void) {
        MACHINE(machine);
        g_autofree char *path = g_strdup_printf("/proc/%d", machine.host->service);
        struct stat st;
        must(stat(path, &st), path);
        g_assert_cmpuint(st.st_uid, !=, 0);
        g_assert_cmpuint(st.st_uid, ==, getpwnam(SERVICE_USER)->pw_uid);
}

static void test_root_may(void) {
        MACHINE(machine);
        expect_as(&machine, "root", ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
}

static void test_a_stranger_may_only_look(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        expect_as(&machine, STRANGER, ROOT, CREATE_X, INTERACTIVE);
        expect_as(&machine, STRANGER, VM_PATH, START, INTERACTIVE);
        expect_as(&machine, STRANGER, VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, STRANGER, GPU("01"), "Gpu.Quarantine", "('why', " NO_OPTIONS ")", INTERACTIVE);
        expect_as(&machine, STRANGER, ROOT, "Manager.Export", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, STRANGER, ROOT, "Manager.GetVM", "('bert',)", "(objectpath '" VM_PATH "',)");
        expect_as(&machine, STRANGER, VM_PATH, "VM.Explain", "(" NO_OPTIONS ",)", "([");
}

static void test_a_challenge_without_an_agent_is_refused(void) {
        MACHINE(machine);
        g_autofree char *answer = call_as(&machine, STRANGER, "-i", ROOT, CREATE_X);
        g_assert_true(g_str_has_prefix(answer, INTERACTIVE));
        expect_error(machine.host, ROOT, "Manager.GetPool", "('x',)", "NotFound", "x");
}

static void test_an_operator_runs_the_vms_of_the_delegated_pool(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        expect_as(&machine, OPERATOR, VM_PATH, START, "(objectpath '" ROOT "/job/1',)");
        expect_as(&machine, OPERATOR, VM_PATH, "VM.Restart", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/2',)");
        expect_as(&machine, OPERATOR, VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/3',)");
        expect_as(&machine, OPERATOR, VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)", "('<domain");
        expect_as(&machine, OPERATOR, VM_PATH, "VM.Move", "('a', " NO_OPTIONS ")", "LevelTooLow");
}

static void test_an_operator_does_nothing_to_other_pools(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "other");
        expect_as(&machine, OPERATOR, VM_PATH, START, INTERACTIVE);
        expect_as(&machine, OPERATOR, VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)", INTERACTIVE);
}

static void test_an_operator_does_not_change_what_there_is(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        g_autofree char *xml = domain_xml("ernie", NULL);
        g_autofree char *define = g_strdup_printf("('%s', 'training', uint32 1, " NO_OPTIONS ")", xml);
        expect_as(&machine, OPERATOR, ROOT, CREATE_X, INTERACTIVE);
        expect_as(&machine, OPERATOR, ROOT, "Manager.DefineVM", define, INTERACTIVE);
        expect_as(&machine, OPERATOR, POOL("training"), "Pool.Add", "(@ao ['" GPU("01") "'], " NO_OPTIONS ")",
                  INTERACTIVE);
        expect_as(&machine, OPERATOR, POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, VM_PATH, "VM.Delete", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, VM_PATH, "VM.SetRequirement", "('other', uint32 1, " NO_OPTIONS ")", INTERACTIVE);
        expect_as(&machine, OPERATOR, GPU("01"), "Gpu.Quarantine", "('why', " NO_OPTIONS ")", INTERACTIVE);
        expect_as(&machine, OPERATOR, NODE_A, "Node.Drain", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, NODE_A, "Node.Drain", "({'dry-run': <true>},)", INTERACTIVE);
        expect_as(&machine, OPERATOR, NODE_A, "Node.Resume", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, NODE_A, "Node.SetFencing", "('', @a{ss} {}, " NO_OPTIONS ")", INTERACTIVE);
        expect_as(&machine, OPERATOR, NODE_A, "Node.ConfirmDown", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, ROOT, "Manager.Freeze", "(uint64 5, " NO_OPTIONS ")", INTERACTIVE);
        expect_as(&machine, OPERATOR, ROOT, "Manager.Thaw", "(" NO_OPTIONS ",)", INTERACTIVE);
}

static void test_the_owner_of_a_vm_is_who_defined_it(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        expect_property(machine.host, VM_PATH, "VM.Owner", "(uint32 0, 'root')");
        expect_as(&machine, OPERATOR, VM_PATH, START, "(objectpath '" ROOT "/job/1',)");
        g_autofree char *by = get(machine.host, ROOT "/job/1", "Job.StartedBy");
        g_assert_true(g_str_has_prefix(by, "(uint32 63002, ':1."));
        g_autofree char *events = call(machine.host, ROOT, "Manager.Events", "(uint64 0, uint32 0)");
        g_assert_nonnull(strstr(events, "63002, '" OPERATOR "', 'org.gpupool1.operate-vm'"));
}

static void test_another_operators_job_is_cancelled_by_right_only(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        expect_reply(machine.host, VM_PATH, START, "(objectpath '" ROOT "/job/1',)");
        expect_as(&machine, STRANGER, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", INTERACTIVE);
        expect_as(&machine, OPERATOR, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "()");
}

/* ---- when things go wrong */

static void test_without_polkitd_only_root_may(void) {
        MACHINE(machine);
        make_pools_and_vm(&machine, "training");
        host_end(&machine.polkitd);
        expect_as(&machine, OPERATOR, VM_PATH, START, DENIED);
        expect_as(&machine, "root", VM_PATH, START, "(objectpath '" ROOT "/job/1',)");
        start_polkitd(&machine);
        expect_as(&machine, OPERATOR, VM_PATH, START, "(objectpath '" ROOT "/job/2',)");
}

static char *read_line(FILE *file) {
        char line[256] = "";
        g_assert_nonnull(fgets(line, sizeof(line), file));
        return g_strchomp(g_strdup(line));
}

typedef struct Helper {
        GPid pid;
        int input;
        FILE *output;
} Helper;

static Helper helper_new(const Machine *machine, const char *const *words) {
        g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "DBUS_SYSTEM_BUS_ADDRESS", machine->host->address,
                                                     TRUE);
        g_autoptr(GError) error = NULL;
        Helper helper;
        int output;
        (void) g_spawn_async_with_pipes(NULL, (char **) words, environment, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                        &helper.pid, &helper.input, &output, NULL, &error);
        g_assert_no_error(error);
        helper.output = fdopen(output, "r");
        return helper;
}

static void helper_clear(Helper *helper) {
        host_end(&helper->pid);
        (void) close(helper->input);
        (void) fclose(helper->output);
}

static void test_a_caller_who_leaves_is_not_acted_for(void) {
        MACHINE(machine);
        const char *const call_words[] = { CALL_AS, STRANGER, "--wait", ROOT, CREATE_X, NULL };
        __attribute__((cleanup(helper_clear))) Helper caller = helper_new(&machine, call_words);
        /* The caller is its own user before it connects, and polkit looks at whose process it is. */
        g_autofree char *pid = g_strdup_printf("%d", caller.pid), *proc = g_strdup_printf("/proc/%d", caller.pid);
        struct stat st = {};
        while (stat(proc, &st) == 0 && st.st_uid == 0)
                g_usleep(1000);

        const char *const agent_words[] = { CALL_AS, STRANGER, "--agent", pid, NULL };
        __attribute__((cleanup(helper_clear))) Helper agent = helper_new(&machine, agent_words);
        g_autofree char *ready = read_line(agent.output);
        g_assert_cmpstr(ready, ==, "ready");

        g_assert_cmpint(write(caller.input, "\n", 1), ==, 1);
        g_autofree char *asked = read_line(agent.output);
        g_assert_cmpstr(asked, ==, "asked");
        host_end(&caller.pid);
        g_autofree char *cancelled = read_line(agent.output);
        g_assert_cmpstr(cancelled, ==, "cancelled");
        expect_error(machine.host, ROOT, "Manager.GetPool", "('x',)", "NotFound", "x");
        g_autofree char *counted = tell(machine.host, "count");
        g_assert_cmpstr(counted, ==, "0 submitted, 0 checked\n");
}

/* ---- the bus policy */

static void test_nobody_else_can_be_gpupool(void) {
        MACHINE(machine);
        static const char *const users[] = { "root", STRANGER, OPERATOR };
        for (unsigned i = 0; i < G_N_ELEMENTS(users); i++) {
                const char *const words[] = { CALL_AS, users[i], "--own", "org.gpupool1", NULL };
                __attribute__((cleanup(helper_clear))) Helper helper = helper_new(&machine, words);
                g_autofree char *said = read_line(helper.output);
                g_assert_nonnull(strstr(said, "not allowed to own"));
        }
}

static void test_the_log_level_is_roots(void) {
        MACHINE(machine);
        static const char set[] = "('org.freedesktop.LogControl1', 'LogLevel', <'warning'>)";
        expect_as(&machine, STRANGER, "/org/freedesktop/LogControl1", "org.freedesktop.DBus.Properties.Set", set,
                  DENIED);
        expect_as(&machine, "root", "/org/freedesktop/LogControl1", "org.freedesktop.DBus.Properties.Set", set, "()");
}

#define TEST(suite, name, function) g_test_add_func("/" suite "/" name, function)

static void skip(const void *why) {
        g_test_skip(why);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        const char *why = make_machine();
        if (why) {
                g_test_add_data_func("/polkitd/the real polkitd", why, skip);
                return g_test_run();
        }
        TEST("polkitd", "the service is not root", test_the_service_is_not_root);
        TEST("polkitd", "root may", test_root_may);
        TEST("polkitd", "a stranger may only look", test_a_stranger_may_only_look);
        TEST("polkitd", "a challenge without an agent is refused", test_a_challenge_without_an_agent_is_refused);
        TEST("polkitd", "an operator runs the VMs of the delegated pool",
             test_an_operator_runs_the_vms_of_the_delegated_pool);
        TEST("polkitd", "an operator does nothing to other pools", test_an_operator_does_nothing_to_other_pools);
        TEST("polkitd", "an operator does not change what there is", test_an_operator_does_not_change_what_there_is);
        TEST("polkitd", "the owner of a VM is who defined it", test_the_owner_of_a_vm_is_who_defined_it);
        TEST("polkitd", "another's job is cancelled by right only",
             test_another_operators_job_is_cancelled_by_right_only);
        TEST("polkitd", "without polkitd only root may", test_without_polkitd_only_root_may);
        TEST("polkitd", "a caller who leaves is not acted for", test_a_caller_who_leaves_is_not_acted_for);
        TEST("policy", "nobody else can be gpupool", test_nobody_else_can_be_gpupool);
        TEST("policy", "the log level is root's", test_the_log_level_is_roots);
        int r = g_test_run();
        (void) umount2(scratch, MNT_DETACH);
        (void) rmdir(scratch);
        return r;
}
