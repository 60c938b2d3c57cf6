/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt's daemon on a host, and the threads that call it: worker.h and exchange.h end here, so that the real
 * hypervisor.c is what gpupoold speaks with. A call takes time, may fail, may hang; what it does happens at one moment
 * of that time, whether or not anybody waits for it any longer. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "adapters/libvirt/worker.h"
#include "core/domain-xml.h"
#include "heart.h"

#define WAKE_MOST_US 200U               /* from a thread to the loop */
#define NOTICE_MOST_US (80 * MS)        /* until libvirt knows that a process is over */
#define DESTROY_PATIENCE_US (15 * SECOND)       /* then virDomainDestroy() says that it cannot */
#define LOOK_US (100 * MS)              /* whether what it waits for is over, which may be sooner than it was to be */
#define BACK_LEAST_US (200 * MS)
#define BACK_MOST_US (3 * SECOND)

struct Worker {
        HeartLibvirt *libvirt;
        Worker *next;
        Exchange *exchange;             /* NULL: nobody is there any more */
        uint64_t number;
        bool watches, is_connected, is_left;
        bool has_call, is_done;
        uint64_t request, give_up_us;
        Call call;
        Answer answer;
        SimAlarm alarm;
};

/* ---- answers and the exchange */

void answer_clear(Answer *answer) {
        free(answer->sentence);
        if (answer->pidfd >= 0)
                sim_fd_close(answer->pidfd);
        for (size_t i = 0; i < answer->n_domains; i++) {
                free(answer->domains[i].name);
                if (answer->domains[i].pidfd >= 0)
                        sim_fd_close(answer->domains[i].pidfd);
        }
        free(answer->domains);
        *answer = ANSWER_NONE;
}

void answer_set(Answer *answer, HypervisorResult result, const char *sentence) {
        char *copy = sentence ? strdup(sentence) : NULL;
        answer_clear(answer);
        answer->result = result;
        answer->sentence = copy;
}

void call_clear(Call *call) {
        free(call->xml);
        *call = (Call) {};
}

static bool has_messages(void *thing) {
        return ((Exchange *) thing)->messages.n > 0;
}

int exchange_new(Exchange **ret) {
        Exchange *exchange = calloc(1, sizeof(*exchange));
        exchange->n_references = 1;
        exchange->wake_fd = sim_fd_new(&(SimFd) { .kind = SIM_FD_WAKE, .owner = heart_host_current()->loop,
                                                  .thing = exchange, .is_ready = has_messages });
        *ret = exchange;
        return 0;
}

Exchange *exchange_ref(Exchange *exchange) {
        exchange->n_references++;
        return exchange;
}

Exchange *exchange_unref(Exchange *exchange) {
        if (!exchange || --exchange->n_references > 0)
                return NULL;
        ARRAY_EACH(message, &exchange->messages)
                answer_clear(&message->answer);
        array_clear(&exchange->messages);
        free(exchange);
        return NULL;
}

void exchange_put(Exchange *exchange, Message *message) {
        if (exchange->closed || array_append(&exchange->messages, message) < 0)
                answer_clear(&message->answer);
        *message = (Message) { .answer = ANSWER_NONE };
        sim_fd_wake(exchange);
}

void exchange_take(Exchange *exchange, Messages *ret, bool *ret_events_lost) {
        *ret = exchange->messages;
        *ret_events_lost = false;
        exchange->messages = (Messages) {};
}

void exchange_close(Exchange *exchange) {
        exchange->closed = true;
        sim_fd_close(exchange->wake_fd);
}

int libvirt_connection_prepare(void) {
        return 0;
}

/* ---- domains */

static SimTime *time_of(const HeartLibvirt *libvirt) {
        return &libvirt->host->heart->time;
}

static HeartDomain *find_domain(HeartLibvirt *libvirt, const VmId *vm) {
        ARRAY_EACH(domain, &libvirt->domains)
                if (ID_EQUAL(&(*domain)->vm, vm))
                        return *domain;
        return NULL;
}

static void tell_event(HeartLibvirt *libvirt, const VmId *vm, DomainEventKind kind, DomainEventCause cause) {
        for (Worker *worker = libvirt->workers; worker; worker = worker->next) {
                if (!worker->exchange || !worker->watches || !worker->is_connected || worker->is_left)
                        continue;
                Message message = { .kind = MESSAGE_EVENT, .worker = worker->number, .vm = *vm, .event = kind,
                                    .cause = cause, .answer = ANSWER_NONE };
                exchange_put(worker->exchange, &message);
        }
}

static void forget_domain(HeartLibvirt *libvirt, HeartDomain *domain) {
        for (size_t i = 0; i < libvirt->domains.n; i++)
                if (libvirt->domains.items[i] == domain) {
                        array_remove(&libvirt->domains, i);
                        break;
                }
        sim_alarm_unset(time_of(libvirt), &domain->forget);
        free(domain->name);
        g_free(domain);
}

static void remove_domain(HeartDomain *domain, DomainEventCause cause) {
        HeartLibvirt *libvirt = domain->libvirt;
        VmId vm = domain->vm;
        forget_domain(libvirt, domain);
        tell_event(libvirt, &vm, DOMAIN_EVENT_STOPPED, cause);
}

/* When it can do nothing just now: the time at which to look again. 0: it can. */
static uint64_t busy_until(const HeartLibvirt *libvirt) {
        uint64_t now = time_of(libvirt)->now_us, until = 0;
        if (libvirt->hung_until_us > now)
                until = libvirt->hung_until_us;
        if (libvirt->host->frozen_until_us > now && libvirt->host->frozen_until_us > until)
                until = libvirt->host->frozen_until_us;
        return until > now + LOOK_US ? now + LOOK_US : until;
}

static void on_forget(void *userdata) {
        HeartDomain *domain = userdata;
        uint64_t busy = busy_until(domain->libvirt);
        if (busy > 0 || !domain->libvirt->up) {
                sim_alarm_set(time_of(domain->libvirt), &domain->forget, busy > 0 ? busy
                              : time_of(domain->libvirt)->now_us + SECOND);
                return;
        }
        remove_domain(domain, domain->qemu->guest_off ? DOMAIN_CAUSE_GUEST : DOMAIN_CAUSE_FAILED);
}

void heart_libvirt_process_ended(HeartLibvirt *libvirt, Qemu *qemu) {
        ARRAY_EACH(domain, &libvirt->domains)
                if ((*domain)->qemu == qemu)
                        sim_alarm_set(time_of(libvirt), &(*domain)->forget,
                                      time_of(libvirt)->now_us + sim_between(time_of(libvirt), MS, NOTICE_MOST_US));
}

/* ---- calls */

static bool find_gpus(const HeartHost *host, const char *xml, unsigned *ret_gpus, unsigned *ret_n) {
        *ret_n = 0;
        for (const char *at = xml; (at = strstr(at, "<hostdev")); at++) {
                unsigned domain = 0, bus = 0;
                const char *source = strstr(at, "<source>");
                const char *address = source ? strstr(source, "<address") : NULL;
                if (!address || sscanf(address, "<address domain=\"0x%x\" bus=\"0x%x\"", &domain, &bus) != 2)
                        g_error("no address in %s", at);
                unsigned gpu = bus - 0x41;
                g_assert_cmpuint(gpu, <, host->n_gpus);
                if (host->gpu_lost[gpu] || !host->gpus[gpu].on_vfio)
                        return false;
                ret_gpus[(*ret_n)++] = gpu;
        }
        return true;
}

static bool gpus_are_taken(const HeartLibvirt *libvirt, const unsigned *gpus, unsigned n) {
        ARRAY_EACH(domain, &libvirt->domains)
                for (unsigned i = 0; i < (*domain)->qemu->n_gpus; i++)
                        for (unsigned j = 0; j < n; j++)
                                if ((*domain)->qemu->gpus[i] == gpus[j])
                                        return true;
        return false;
}

static void start_domain(HeartLibvirt *libvirt, const Call *call, Answer *answer) {
        HeartHost *host = libvirt->host;
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        unsigned gpus[HEART_GPUS_MAX], n_gpus;
        if (find_domain(libvirt, &call->vm)) {
                answer_set(answer, HYPERVISOR_CALL_FAILED, "operation failed: a domain with this uuid is active");
                return;
        }
        g_assert_cmpint(domain_xml_mark(call->xml, strlen(call->xml), &mark), ==, DOMAIN_MARK_FOUND);
        if (!find_gpus(host, call->xml, gpus, &n_gpus)) {
                answer_set(answer, HYPERVISOR_CALL_FAILED, "internal error: no such device on vfio-pci");
                return;
        }
        /* libvirt knows which devices its domains have. That two were both meant to have one the judge must see. */
        if (gpus_are_taken(libvirt, gpus, n_gpus) &&
            !heart_judge_is_assigned(&host->heart->judge, &mark.vm, mark.epoch, host)) {
                answer_set(answer, HYPERVISOR_CALL_FAILED, "Requested operation is not valid: PCI device is in use");
                return;
        }
        if (sim_chance(time_of(libvirt), libvirt->fail_percent)) {
                if (libvirt->fails_once) {
                        libvirt->fails_once = false;
                        libvirt->fail_percent = 0;
                        if (host->heart->failure == FAILURE_BEHIND)
                                host->heart->network.starved = host;
                }
                answer_set(answer, HYPERVISOR_CALL_FAILED, "internal error: the weather is bad");
                return;
        }
        HeartDomain *domain = g_new0(HeartDomain, 1);
        *domain = (HeartDomain) { .vm = mark.vm, .cluster = mark.cluster, .node = mark.node, .epoch = mark.epoch,
                                  .name = STEAL(mark.name), .libvirt = libvirt,
                                  .forget = { .ring = on_forget, .userdata = domain } };
        domain->qemu = qemu_new(host, &domain->vm, domain->epoch, gpus, n_gpus);
        g_assert_cmpint(array_append(&libvirt->domains, &domain), ==, 0);
        tell_event(libvirt, &domain->vm, DOMAIN_EVENT_STARTED, DOMAIN_CAUSE_NONE);
        answer->pid = (pid_t) domain->qemu->number + 1;
}

static void list_domains(HeartLibvirt *libvirt, sd_event *loop, Answer *answer) {
        answer->domains = calloc(libvirt->domains.n + 1, sizeof(*answer->domains));
        ARRAY_EACH(item, &libvirt->domains) {
                const HeartDomain *domain = *item;
                answer->domains[answer->n_domains++] = (HypervisorDomain) {
                        .vm = domain->vm, .cluster = domain->cluster, .node = domain->node, .epoch = domain->epoch,
                        .name = strdup(domain->name),
                        .state = domain->qemu->paused ? DOMAIN_PAUSED : DOMAIN_RUNNING,
                        .pid = domain->qemu->gone ? 0 : 1,
                        .pidfd = domain->qemu->gone || !loop ? -1 : qemu_pidfd(domain->qemu, loop),
                };
        }
}

static sd_event *loop_of(const Worker *worker) {
        return worker->exchange ? worker->libvirt->host->loop : NULL;
}

/* The moment at which it happens. False: it goes on; look again at *ret_again_us. */
static bool carry_out(Worker *worker, uint64_t *ret_again_us) {
        HeartLibvirt *libvirt = worker->libvirt;
        SimTime *time = time_of(libvirt);
        HeartDomain *domain = find_domain(libvirt, &worker->call.vm);
        Answer *answer = &worker->answer;
        switch (worker->call.kind) {
        case CALL_PROBE:
        case CALL_CHECK:
        case CALL_CPUS:
                return true;
        case CALL_LIST:
                list_domains(libvirt, loop_of(worker), answer);
                return true;
        case CALL_START:
                start_domain(libvirt, &worker->call, answer);
                domain = find_domain(libvirt, &worker->call.vm);
                if (domain && !worker->exchange && answer->result == HYPERVISOR_CALL_OK)
                        domain->qemu->is_orphan = true;
                return true;
        case CALL_RESUME:
        case CALL_SHUTDOWN:
        case CALL_DESTROY:
                break;
        }
        if (!domain) {
                answer_set(answer, HYPERVISOR_CALL_NO_DOMAIN, "Domain not found");
                return true;
        }
        Qemu *qemu = domain->qemu;
        if (worker->call.kind == CALL_RESUME) {
                if (qemu->gone || qemu->killed)
                        answer_set(answer, HYPERVISOR_CALL_FAILED, "Requested operation is not valid: it is over");
                else if (!libvirt->fails_once && sim_chance(time, libvirt->fail_percent / 2))
                        answer_set(answer, HYPERVISOR_CALL_FAILED, "internal error: the weather is bad");
                else if (qemu->paused) {
                        qemu_resume(qemu);
                        tell_event(libvirt, &domain->vm, DOMAIN_EVENT_RESUMED, DOMAIN_CAUSE_NONE);
                }
                return true;
        }
        if (worker->call.kind == CALL_SHUTDOWN) {
                if (sim_chance(time, 70))
                        qemu_end_soon(qemu, true, sim_between(time, 100 * MS, 5 * SECOND));
                return true;
        }
        if (!qemu->gone) {
                qemu_kill(qemu);
                if (worker->give_up_us == 0)
                        worker->give_up_us = time->now_us + DESTROY_PATIENCE_US;
                if (time->now_us >= worker->give_up_us) {
                        answer_set(answer, HYPERVISOR_CALL_FAILED, "Failed to terminate process: Device busy");
                        return true;
                }
                *ret_again_us = time->now_us + 20 * MS;
                return false;
        }
        remove_domain(domain, DOMAIN_CAUSE_HOST);
        return true;
}

static void worker_free(Worker *worker) {
        for (Worker **at = &worker->libvirt->workers; *at; at = &(*at)->next)
                if (*at == worker) {
                        *at = worker->next;
                        break;
                }
        sim_alarm_unset(time_of(worker->libvirt), &worker->alarm);
        answer_clear(&worker->answer);
        call_clear(&worker->call);
        exchange_unref(worker->exchange);
        g_free(worker);
}

/* Back from libvirt. */
static void come_back(Worker *worker) {
        bool started = worker->call.kind == CALL_START && worker->answer.result == HYPERVISOR_CALL_OK;
        HeartDomain *domain = started ? find_domain(worker->libvirt, &worker->call.vm) : NULL;
        if (worker->exchange && !worker->is_left) {
                Message message = { .kind = MESSAGE_ANSWER, .worker = worker->number, .request = worker->request,
                                    .vm = worker->call.vm, .answer = worker->answer };
                if (started && domain)
                        message.answer.pidfd = qemu_pidfd(domain->qemu, worker->libvirt->host->loop);
                else if (started)
                        answer_set(&message.answer, HYPERVISOR_CALL_FAILED,
                                   "The domain ended as soon as it was started");
                worker->answer = ANSWER_NONE;
                exchange_put(worker->exchange, &message);
        } else if (worker->exchange && domain) {
                qemu_kill(domain->qemu);        /* the thread takes it back */
        }
        call_clear(&worker->call);
        answer_clear(&worker->answer);
        worker->has_call = worker->is_done = false;
        worker->give_up_us = 0;
        if (worker->exchange && worker->is_left) {
                Message message = { .kind = MESSAGE_RETURNED, .worker = worker->number, .answer = ANSWER_NONE };
                exchange_put(worker->exchange, &message);
        }
        if (worker->is_left || !worker->exchange)
                worker_free(worker);
}

static void connect_worker(Worker *worker) {
        worker->is_connected = true;
        if (!worker->watches || !worker->exchange)
                return;
        Message message = { .kind = MESSAGE_CONNECTED, .worker = worker->number, .version = 9000000,
                            .answer = ANSWER_NONE };
        list_domains(worker->libvirt, loop_of(worker), &message.answer);
        exchange_put(worker->exchange, &message);
}

static void on_worker(void *userdata) {
        Worker *worker = userdata;
        HeartLibvirt *libvirt = worker->libvirt;
        SimTime *time = time_of(libvirt);
        uint64_t again_us = busy_until(libvirt);
        if (again_us > 0) {
                sim_alarm_set(time, &worker->alarm, again_us + sim_between(time, 0, 20 * MS));
                return;
        }
        if (!worker->is_done) {
                if (!libvirt->up) {
                        answer_set(&worker->answer, worker->is_connected ? HYPERVISOR_CALL_LOST
                                                                         : HYPERVISOR_CALL_UNAVAILABLE,
                                   "libvirt is not there");
                        worker->is_connected = false;
                } else {
                        if (!worker->is_connected)
                                connect_worker(worker);
                        if (!carry_out(worker, &again_us)) {
                                sim_alarm_set(time, &worker->alarm, again_us);
                                return;
                        }
                }
                worker->is_done = true;
                sim_alarm_set(time, &worker->alarm, time->now_us + sim_between(time, 5, 3 * MS));
                return;
        }
        come_back(worker);
}

static uint64_t duration_of(const HeartLibvirt *libvirt, CallKind kind) {
        SimTime *time = time_of(libvirt);
        if (kind == CALL_START)
                return sim_between(time, 50 * MS, libvirt->start_most_us);
        return sim_between(time, 200, 20 * MS);
}

/* ---- worker.h */

int worker_new(Worker **ret, Exchange *exchange, const char *uri, uint64_t number, bool watches) {
        HeartHost *host = heart_host_current();
        Worker *worker = g_new0(Worker, 1);
        *worker = (Worker) { .libvirt = &host->libvirt, .next = host->libvirt.workers,
                             .exchange = exchange_ref(exchange), .number = number, .watches = watches,
                             .answer = ANSWER_NONE, .alarm = { .ring = on_worker, .userdata = worker } };
        host->libvirt.workers = worker;
        *ret = worker;
        return 0;
}

void worker_give(Worker *worker, uint64_t request, Call *call) {
        worker->request = request;
        worker->call = *call;
        worker->has_call = true;
        *call = (Call) {};
        sim_alarm_set(time_of(worker->libvirt), &worker->alarm,
                      time_of(worker->libvirt)->now_us + duration_of(worker->libvirt, worker->call.kind));
}

/* Where the loop is gone the process is about to be, and with it its threads; what they asked for may still happen. */
void worker_leave(Worker *worker) {
        worker->is_left = true;
        if (worker->exchange->closed)
                worker->exchange = exchange_unref(worker->exchange);
        if (!worker->has_call)
                worker_free(worker);
        else if (worker->exchange)
                worker->libvirt->host->heart->judge.visits.calls_hung++;
}

/* ---- birth and death */

static void on_start(void *userdata) {
        HeartLibvirt *libvirt = userdata;
        if (libvirt->host->on)
                heart_libvirt_start(libvirt);
}

void heart_libvirt_start(HeartLibvirt *libvirt) {
        libvirt->start = (SimAlarm) { .ring = on_start, .userdata = libvirt };
        libvirt->up = true;
        libvirt->hung_until_us = 0;
}

/* Killed; domains live on, and are known again when it is back. */
void heart_libvirt_end(HeartLibvirt *libvirt, bool with_host) {
        SimTime *time = time_of(libvirt);
        libvirt->up = false;
        libvirt->hung_until_us = 0;
        for (Worker *next, *worker = libvirt->workers; worker; worker = next) {
                next = worker->next;
                if (with_host) {
                        worker_free(worker);
                        continue;
                }
                if (worker->has_call && !worker->is_done)
                        sim_alarm_set(time, &worker->alarm, time->now_us + sim_between(time, 1, WAKE_MOST_US));
                if (worker->watches && worker->is_connected && worker->exchange) {
                        Message message = { .kind = MESSAGE_CLOSED, .worker = worker->number, .answer = ANSWER_NONE };
                        exchange_put(worker->exchange, &message);
                }
                if (!worker->has_call)
                        worker->is_connected = false;
        }
        if (!with_host) {
                sim_alarm_set(time, &libvirt->start, time->now_us + sim_between(time, BACK_LEAST_US, BACK_MOST_US));
                return;
        }
        sim_alarm_unset(time, &libvirt->start);
        while (libvirt->domains.n > 0)
                forget_domain(libvirt, libvirt->domains.items[0]);
}

void heart_libvirt_clear(HeartLibvirt *libvirt) {
        heart_libvirt_end(libvirt, true);
        array_clear(&libvirt->domains);
}
