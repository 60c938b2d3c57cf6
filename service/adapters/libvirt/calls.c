/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/calls.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "adapters/libvirt/process.h"
#include "core/domain-xml.h"

void call_clear(Call *call) {
        free(call->xml);
        *call = (Call) {};
}

static void free_domain(virDomainPtr domain) {
        (void) virDomainFree(domain);
}
DEFINE_CLEANUP(virDomainPtr, free_domain);

/* libvirt's last error as an answer. Returns its code; the next call of libvirt forgets it. */
static int set_failure(const Connection *connection, Answer *answer) {
        int code = virGetLastErrorCode();
        answer_set(answer, HYPERVISOR_CALL_FAILED, virGetLastErrorMessage());
        if (code == VIR_ERR_NO_DOMAIN)
                answer->result = HYPERVISOR_CALL_NO_DOMAIN;
        else if (!libvirt_connection_is_open(connection))
                answer->result = HYPERVISOR_CALL_LOST;
        return code;
}

static void set_without_memory(Answer *answer) {
        answer_set(answer, HYPERVISOR_CALL_FAILED, "There is no memory left for this call.");
}

static void probe(const Connection *connection, Answer *answer) {
        unsigned long version;
        if (virConnectGetLibVersion(connection->handle, &version) < 0)
                set_failure(connection, answer);
}

static void check(const Connection *connection, const char *xml, Answer *answer) {
        _cleanup_free_ char *command_line = virConnectDomainXMLToNative(connection->handle, "qemu-argv", xml, 0);
        if (!command_line)
                set_failure(connection, answer);
}

/* Of the emulator and machine that libvirt takes by itself, for the host's own architecture. */
static void ask_for_cpus(const Connection *connection, Answer *answer) {
        answer->xml = virConnectGetDomainCapabilities(connection->handle, NULL, NULL, NULL, "kvm", 0);
        if (!answer->xml)
                set_failure(connection, answer);
}

static DomainState state_from_libvirt(int state) {
        switch (state) {
        case VIR_DOMAIN_RUNNING:
        case VIR_DOMAIN_BLOCKED:
                return DOMAIN_RUNNING;
        case VIR_DOMAIN_PAUSED:
                return DOMAIN_PAUSED;
        case VIR_DOMAIN_SHUTDOWN:
        case VIR_DOMAIN_SHUTOFF:
                return DOMAIN_STOPPING;
        case VIR_DOMAIN_CRASHED:
                return DOMAIN_CRASHED;
        default:
                return DOMAIN_OTHER;
        }
}

/* A DomainMarkVerdict, or -ENOMEM, or -ESRCH: the domain has vanished meanwhile. */
static int read_mark(virDomainPtr domain, DomainMark *ret) {
        _cleanup_free_ char *xml = virDomainGetXMLDesc(domain, 0);
        return xml ? domain_xml_mark(xml, strlen(xml), ret) : -ESRCH;
}

/* Returns 1 and the entry if it is one of ours, 0 if not, or -ENOMEM. */
static int describe(virDomainPtr domain, HypervisorDomain *ret) {
        int state;
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        int r = read_mark(domain, &mark);
        if (r == -ENOMEM)
                return r;
        if (r != DOMAIN_MARK_FOUND || virDomainGetState(domain, &state, NULL, 0) < 0)
                return 0;

        *ret = (HypervisorDomain) {
                .vm = mark.vm,
                .cluster = mark.cluster,
                .node = mark.node,
                .epoch = mark.epoch,
                .name = STEAL(mark.name),
                .state = state_from_libvirt(state),
                .pidfd = -1,
        };
        if (process_find(ret->name, &mark.vm, mark.process_uid, &ret->pid, &ret->pidfd) < 0) {
                ret->pid = 0;
                ret->pidfd = -1;
        }
        return 1;
}

static void list(const Connection *connection, Answer *answer) {
        virDomainPtr *domains = NULL;
        int n = virConnectListAllDomains(connection->handle, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
        if (n < 0) {
                set_failure(connection, answer);
                return;
        }
        answer->domains = calloc((size_t) n + 1, sizeof(HypervisorDomain));
        int r = answer->domains ? 0 : -ENOMEM;
        for (int i = 0; i < n; i++) {
                if (r >= 0)
                        r = describe(domains[i], &answer->domains[answer->n_domains]);
                if (r == 1)
                        answer->n_domains++;
                free_domain(domains[i]);
        }
        free(domains);
        if (r < 0)
                set_without_memory(answer);
        else if (!libvirt_connection_is_open(connection))
                answer_set(answer, HYPERVISOR_CALL_LOST, "The connection to libvirt broke while it told its domains.");
}

/* The new domain's process, or why it cannot be had. */
static void find_process(virDomainPtr domain, Answer *answer) {
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        int r = read_mark(domain, &mark);
        if (r == -ENOMEM) {
                set_without_memory(answer);
                return;
        }
        if (r == -ESRCH) {
                answer_set(answer, HYPERVISOR_CALL_FAILED,
                           "The domain ended as soon as it was started: look at QEMU's log.");
                return;
        }
        if (r != DOMAIN_MARK_FOUND) {
                answer_set(answer, HYPERVISOR_CALL_FAILED,
                           "The domain does not bear the cluster's mark: it is not kept.");
                return;
        }
        r = process_find(mark.name, &mark.vm, mark.process_uid, &answer->pid, &answer->pidfd);
        if (r == -ENOTUNIQ)
                answer_set(answer, HYPERVISOR_CALL_FAILED,
                           "Two processes claim to be this VM: end the one that libvirt did not start.");
        else if (r < 0)
                answer_set(answer, HYPERVISOR_CALL_FAILED,
                           "The VM's process was not found: /proc must show other users' processes (hidepid=0).");
}

static void start(const Connection *connection, const char *xml, Answer *answer) {
        _cleanup_(free_domainp) virDomainPtr domain =
                virDomainCreateXML(connection->handle, xml, VIR_DOMAIN_START_PAUSED);
        if (!domain) {
                set_failure(connection, answer);
                return;
        }
        find_process(domain, answer);
        if (answer->result != HYPERVISOR_CALL_OK)
                (void) virDomainDestroy(domain);
}

static virDomainPtr look_up(const Connection *connection, const VmId *vm, Answer *answer) {
        virDomainPtr domain = virDomainLookupByUUID(connection->handle, vm->bytes);
        if (!domain)
                set_failure(connection, answer);
        return domain;
}

static void resume(const Connection *connection, virDomainPtr domain, Answer *answer) {
        int state;
        if (virDomainGetState(domain, &state, NULL, 0) == 0 && state == VIR_DOMAIN_RUNNING)
                return;                 /* an earlier call came true */
        if (virDomainResume(domain) < 0)
                set_failure(connection, answer);
}

static void destroy(const Connection *connection, virDomainPtr domain, Answer *answer) {
        if (virDomainDestroy(domain) == 0)
                return;
        if (set_failure(connection, answer) == VIR_ERR_OPERATION_INVALID)
                answer->result = HYPERVISOR_CALL_NO_DOMAIN;     /* "domain is not running" */
}

void call_make(const Connection *connection, const Call *call, Answer *answer) {
        virResetLastError();
        switch (call->kind) {
        case CALL_PROBE:
                probe(connection, answer);
                return;
        case CALL_LIST:
                list(connection, answer);
                return;
        case CALL_CHECK:
                check(connection, call->xml, answer);
                return;
        case CALL_CPUS:
                ask_for_cpus(connection, answer);
                return;
        case CALL_START:
                start(connection, call->xml, answer);
                return;
        case CALL_RESUME:
        case CALL_SHUTDOWN:
        case CALL_DESTROY:
                break;
        }

        _cleanup_(free_domainp) virDomainPtr domain = look_up(connection, &call->vm, answer);
        if (!domain)
                return;
        if (call->kind == CALL_RESUME)
                resume(connection, domain, answer);
        else if (call->kind == CALL_DESTROY)
                destroy(connection, domain, answer);
        else if (virDomainShutdown(domain) < 0)
                set_failure(connection, answer);
}

void call_undo_start(const Connection *connection, const Call *call) {
        Answer answer = ANSWER_NONE;
        call_make(connection, &(Call) { .kind = CALL_DESTROY, .vm = call->vm }, &answer);
        answer_clear(&answer);
}
