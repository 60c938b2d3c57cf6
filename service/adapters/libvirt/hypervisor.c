/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/hypervisor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "adapters/libvirt/worker.h"
#include "core/domain-xml.h"
#include "util/array.h"
#include "util/text.h"

#define RETRY_FIRST_US (200ULL * 1000)
#define RETRY_MOST_US (5ULL * 1000 * 1000)
#define TIMER_ACCURACY_US 1000U

/* Threads that hang in libvirt, per kind of work, before no more are made: a libvirt that hangs for good does not cost
 * one per call. */
#define ABANDONED_MAX 4U

typedef enum WorkKind {
        WORK_QUERY,                     /* list, check, probe; its connection follows events */
        WORK_START,                     /* long: several VMs of a lost node come at once */
        WORK_CONTROL,                   /* resume, shutdown, destroy: short, and never behind a start */
        WORK_KINDS,
} WorkKind;

/* How many threads work at once. Where the guard is gone all VMs must end before the lease does, and libvirt waits for
 * each whose memory is long in being given back: they cannot stand in line behind two. */
#define THREADS_MOST 16U
static const unsigned threads_at_once[WORK_KINDS] = { [WORK_QUERY] = 1, [WORK_START] = 4,
                                                      [WORK_CONTROL] = THREADS_MOST };

typedef struct Hand {
        Worker *worker;
        uint64_t number;
        WorkKind kind;
        uint64_t request;               /* 0: idle */
} Hand;

typedef struct Abandoned {
        uint64_t number;
        WorkKind kind;
} Abandoned;

typedef enum RequestState {
        REQUEST_WAITING,
        REQUEST_RUNNING,
        REQUEST_FINISHED,
} RequestState;

typedef struct Request {
        uint64_t id;
        WorkKind work;
        CallKind call_kind;
        Call call;                      /* until a worker has it */
        VmId vm;
        RequestState state;
        uint64_t deadline_us;           /* running: CLOCK_BOOTTIME */
        Answer answer;                  /* finished */
        HypervisorDone done;            /* NULL: our own, or forgotten */
        void *userdata;
        bool is_forgotten;
        bool tells_domains;             /* our own list, after events were lost */
} Request;

struct Hypervisor {
        sd_event *event;
        char *uri;
        HypervisorConfig config;
        const HypervisorCallbacks *callbacks;
        void *userdata;
        Exchange *exchange;
        sd_event_source *io, *deadline, *probe, *finish;
        HypervisorState state;
        char *detail, *version;
        uint64_t retry_us;
        uint64_t last_id;               /* of requests and of workers */
        bool is_probing;
        ARRAY(Hand) hands;
        ARRAY(Abandoned) abandoned;
        ARRAY(Request *) requests;      /* in the order in which they were made */
};

const char *hypervisor_result_to_text(HypervisorResult result) {
        switch (result) {
        case HYPERVISOR_CALL_OK:
                return "ok";
        case HYPERVISOR_CALL_NO_DOMAIN:
                return "libvirt knows no such domain";
        case HYPERVISOR_CALL_FAILED:
                return "libvirt refused";
        case HYPERVISOR_CALL_TIMED_OUT:
                return "libvirt did not answer in time";
        case HYPERVISOR_CALL_LOST:
                return "the connection to libvirt broke";
        case HYPERVISOR_CALL_HUNG:
                return "libvirt hangs";
        case HYPERVISOR_CALL_UNAVAILABLE:
                return "libvirt is not there";
        }
        return "unknown";
}

static uint64_t now_boottime_us(const Hypervisor *h) {
        uint64_t now = 0;
        (void) sd_event_now(h->event, CLOCK_BOOTTIME, &now);
        return now;
}

static WorkKind work_of(CallKind call) {
        switch (call) {
        case CALL_PROBE:
        case CALL_LIST:
        case CALL_CHECK:
                return WORK_QUERY;
        case CALL_CPUS:                 /* QEMU itself is asked where that is new to libvirt, and takes its time */
        case CALL_START:
                return WORK_START;
        case CALL_RESUME:
        case CALL_SHUTDOWN:
        case CALL_DESTROY:
                return WORK_CONTROL;
        }
        return WORK_CONTROL;
}

static uint64_t timeout_of(const Hypervisor *h, WorkKind work) {
        switch (work) {
        case WORK_QUERY:
                return h->config.query_timeout_us;
        case WORK_START:
                return h->config.start_timeout_us;
        case WORK_CONTROL:
        case WORK_KINDS:
                break;
        }
        return h->config.stop_timeout_us;
}

static Request *free_request(Request *request) {
        call_clear(&request->call);
        answer_clear(&request->answer);
        free(request);
        return NULL;
}
DEFINE_CLEANUP(Request *, free_request);

static Request *find_request(Hypervisor *h, uint64_t id) {
        ARRAY_EACH(request, &h->requests)
                if ((*request)->id == id)
                        return *request;
        return NULL;
}

/* The caller is told in a turn of the loop of its own, never from inside its own call. Takes over @answer. */
static void finish_request(Hypervisor *h, Request *request, Answer *answer) {
        request->state = REQUEST_FINISHED;
        request->answer = *answer;
        *answer = ANSWER_NONE;
        (void) sd_event_source_set_enabled(h->finish, SD_EVENT_ONESHOT);
}

static void finish_with(Hypervisor *h, Request *request, HypervisorResult result, const char *sentence) {
        Answer answer = ANSWER_NONE;
        answer_set(&answer, result, sentence);
        finish_request(h, request, &answer);
}

static void set_state(Hypervisor *h, HypervisorState state, const char *detail) {
        if (h->state == state && text_equal(h->detail, detail))
                return;
        h->state = state;
        (void) text_set(&h->detail, detail);
        h->callbacks->state_changed(state, h->detail, h->userdata);
}

static unsigned count_hands(const Hypervisor *h, WorkKind work) {
        unsigned n = 0;
        ARRAY_EACH(hand, &h->hands)
                n += hand->kind == work;
        return n;
}

static unsigned count_abandoned(const Hypervisor *h, WorkKind work) {
        unsigned n = 0;
        ARRAY_EACH(abandoned, &h->abandoned)
                n += abandoned->kind == work;
        return n;
}

/* No thread of this kind is left, and none may be made. */
static bool is_exhausted(const Hypervisor *h, WorkKind work) {
        return count_hands(h, work) == 0 && count_abandoned(h, work) >= ABANDONED_MAX;
}

/* It answers; that is not all well while one kind of calls still hangs. */
static void set_connected(Hypervisor *h) {
        if (!is_exhausted(h, WORK_START) && !is_exhausted(h, WORK_CONTROL))
                set_state(h, HYPERVISOR_CONNECTED, NULL);
}

static void set_hung(Hypervisor *h) {
        char detail[160];
        snprintf(detail, sizeof(detail),
                 "libvirt did not answer within %llu s: look at its daemon, and restart it if it "
                 "stays so; VMs go on running.",
                 (unsigned long long) (h->config.query_timeout_us + 999999) / 1000000);
        set_state(h, HYPERVISOR_HUNG, detail);
}

static void schedule_probe(Hypervisor *h, uint64_t delay_us) {
        (void) sd_event_source_set_time(h->probe, now_boottime_us(h) + delay_us);
        (void) sd_event_source_set_enabled(h->probe, SD_EVENT_ONESHOT);
}

static void schedule_retry(Hypervisor *h) {
        schedule_probe(h, h->retry_us);
        h->retry_us = h->retry_us * 2 < RETRY_MOST_US ? h->retry_us * 2 : RETRY_MOST_US;
}

static void arm_deadline(Hypervisor *h) {
        uint64_t nearest = UINT64_MAX;
        ARRAY_EACH(request, &h->requests)
                if ((*request)->state == REQUEST_RUNNING && (*request)->deadline_us < nearest)
                        nearest = (*request)->deadline_us;
        if (nearest == UINT64_MAX) {
                (void) sd_event_source_set_enabled(h->deadline, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(h->deadline, nearest);
        (void) sd_event_source_set_enabled(h->deadline, SD_EVENT_ONESHOT);
}

/* An idle hand for this kind of work, or a new one. NULL: all are busy, or hang; *ret_error: no thread was to be had.
 */
static Hand *find_hand(Hypervisor *h, WorkKind work, int *ret_error) {
        *ret_error = 0;
        ARRAY_EACH(hand, &h->hands)
                if (hand->kind == work && hand->request == 0)
                        return hand;
        if (count_hands(h, work) >= threads_at_once[work] || count_abandoned(h, work) >= ABANDONED_MAX)
                return NULL;

        Hand hand = { .number = ++h->last_id, .kind = work };
        int r = array_reserve(&h->hands.items, &h->hands.allocated, h->hands.n + 1, sizeof(Hand));
        if (r >= 0)
                r = worker_new(&hand.worker, h->exchange, h->uri, hand.number, work == WORK_QUERY);
        if (r < 0) {
                *ret_error = r;
                return NULL;
        }
        (void) array_append(&h->hands, &hand);
        return &h->hands.items[h->hands.n - 1];
}

/* Gives waiting requests to idle workers, first come, first served in each kind. */
static void dispatch(Hypervisor *h) {
        for (size_t i = 0; i < h->requests.n; i++) {
                Request *request = h->requests.items[i];
                if (request->state != REQUEST_WAITING)
                        continue;
                int error;
                Hand *hand = find_hand(h, request->work, &error);
                if (!hand && error < 0 && count_hands(h, request->work) == 0)
                        finish_with(h, request, HYPERVISOR_CALL_UNAVAILABLE,
                                    "No thread could be made to call libvirt.");
                else if (!hand && is_exhausted(h, request->work))
                        finish_with(h, request, HYPERVISOR_CALL_HUNG,
                                    "libvirt hangs, with as many calls as are risked at once: look at its daemon.");
                if (!hand)
                        continue;
                hand->request = request->id;
                request->state = REQUEST_RUNNING;
                request->deadline_us = now_boottime_us(h) + timeout_of(h, request->work);
                worker_give(hand->worker, request->id, &request->call);
        }
        arm_deadline(h);
}

static int make_request(Hypervisor *h, Call *call, const Request *with) {
        Request *request = calloc(1, sizeof(*request));
        if (!request || array_append(&h->requests, &request) < 0) {
                free(request);
                call_clear(call);
                return -ENOMEM;
        }
        request->id = ++h->last_id;
        request->work = work_of(call->kind);
        request->call_kind = call->kind;
        request->vm = call->vm;
        request->call = *call;
        *call = (Call) {};
        request->answer = ANSWER_NONE;
        request->done = with->done;
        request->userdata = with->userdata;
        request->tells_domains = with->tells_domains;
        dispatch(h);
        return 0;
}

static void probe_now(Hypervisor *h) {
        if (h->is_probing)
                return;
        h->is_probing = true;
        if (make_request(h, &(Call) { .kind = CALL_PROBE }, &(Request) {}) < 0) {
                h->is_probing = false;
                schedule_retry(h);
        }
}

static int on_probe(sd_event_source *source, uint64_t usec, void *userdata) {
        probe_now(userdata);
        return 0;
}

static void lend(const Answer *answer, HypervisorReply *ret) {
        *ret = (HypervisorReply) {
                .sentence = answer->result == HYPERVISOR_CALL_OK ? NULL
                            : answer->sentence                   ? answer->sentence
                                                                 : hypervisor_result_to_text(answer->result),
                .pid = answer->pid,
                .pidfd = answer->pidfd,
                .xml = answer->xml,
                .domains = answer->domains,
                .n_domains = answer->n_domains,
        };
}

/* What every answer tells about libvirt, whoever asked. */
static void learn(Hypervisor *h, const Request *request) {
        switch (request->answer.result) {
        case HYPERVISOR_CALL_OK:
        case HYPERVISOR_CALL_NO_DOMAIN:
        case HYPERVISOR_CALL_FAILED:
                if (request->work == WORK_QUERY)
                        set_connected(h);
                return;
        case HYPERVISOR_CALL_TIMED_OUT:
        case HYPERVISOR_CALL_HUNG:
                if (request->work == WORK_QUERY || is_exhausted(h, request->work))
                        set_hung(h);
                return;
        case HYPERVISOR_CALL_UNAVAILABLE:
                if (request->work == WORK_QUERY)
                        set_state(h, HYPERVISOR_ABSENT, request->answer.sentence);
                return;
        case HYPERVISOR_CALL_LOST:
                if (request->work == WORK_QUERY)
                        set_state(h, HYPERVISOR_CONNECTING, request->answer.sentence);
                return;
        }
}

/* After its answer: when libvirt is asked next. */
static void plan_probe(Hypervisor *h, const Request *request) {
        HypervisorResult result = request->answer.result;
        if (request->call_kind == CALL_PROBE) {
                h->is_probing = false;
                if (result != HYPERVISOR_CALL_OK) {
                        schedule_retry(h);
                        return;
                }
                h->retry_us = RETRY_FIRST_US;
                schedule_probe(h, h->config.probe_interval_us);
                return;
        }
        /* Whatever made another call fail like this, the probe finds out. */
        if (result == HYPERVISOR_CALL_TIMED_OUT || result == HYPERVISOR_CALL_LOST ||
            result == HYPERVISOR_CALL_UNAVAILABLE)
                probe_now(h);
}

static void tell(Hypervisor *h, Request *request) {
        Answer *answer = &request->answer;
        if (request->is_forgotten && request->call_kind == CALL_START && answer->result == HYPERVISOR_CALL_OK)
                (void) make_request(h, &(Call) { .kind = CALL_DESTROY, .vm = request->vm }, &(Request) {});
        if (request->tells_domains && answer->result == HYPERVISOR_CALL_OK)
                h->callbacks->domains_listed(answer->domains, answer->n_domains, h->userdata);
        if (!request->done || request->is_forgotten)
                return;

        HypervisorReply reply;
        lend(answer, &reply);
        request->done(answer->result, &reply, request->userdata);
        answer->pidfd = reply.pidfd;    /* -1 if it was taken */
}

static int on_finish(sd_event_source *source, void *userdata) {
        Hypervisor *h = userdata;
        /* Only what stands here now: what the callbacks add comes with the next turn. */
        uint64_t last = h->last_id;
        for (size_t i = 0; i < h->requests.n;) {
                Request *request = h->requests.items[i];
                if (request->state != REQUEST_FINISHED || request->id > last) {
                        i++;
                        continue;
                }
                array_remove(&h->requests, i);
                _cleanup_(free_requestp) Request *owned = request;
                learn(h, owned);
                plan_probe(h, owned);
                tell(h, owned);
                i = 0;                  /* a callback may have forgotten others */
        }
        return 0;
}

static void abandon_hand(Hypervisor *h, uint64_t request) {
        for (size_t i = 0; i < h->hands.n; i++) {
                Hand hand = h->hands.items[i];
                if (hand.request != request)
                        continue;
                /* Room was made with the hand, see hypervisor_new(): this cannot fail. */
                (void) array_append(&h->abandoned, &((Abandoned) { .number = hand.number, .kind = hand.kind }));
                worker_leave(hand.worker);
                array_remove(&h->hands, i);
                return;
        }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Hypervisor *h = userdata;
        uint64_t now = now_boottime_us(h);
        for (size_t i = 0; i < h->requests.n; i++) {
                Request *request = h->requests.items[i];
                if (request->state != REQUEST_RUNNING || request->deadline_us > now)
                        continue;
                abandon_hand(h, request->id);
                finish_with(h, request, HYPERVISOR_CALL_TIMED_OUT,
                            "libvirt did not answer in time: look at its daemon.");
        }
        dispatch(h);
        return 0;
}

static bool is_watching(const Hypervisor *h, uint64_t worker) {
        ARRAY_EACH(hand, &h->hands)
                if (hand->number == worker && hand->kind == WORK_QUERY)
                        return true;
        return false;
}

static void take_answer(Hypervisor *h, Message *message) {
        ARRAY_EACH(hand, &h->hands)
                if (hand->number == message->worker)
                        hand->request = 0;
        Request *request = find_request(h, message->request);
        if (request && request->state == REQUEST_RUNNING) {
                finish_request(h, request, &message->answer);
                return;
        }
        /* It crossed its deadline on the way: the caller was told so already, and a start is taken back. */
        if (message->answer.pidfd >= 0)
                (void) make_request(h, &(Call) { .kind = CALL_DESTROY, .vm = message->vm }, &(Request) {});
}

static void take_connected(Hypervisor *h, Message *message) {
        unsigned long v = message->version;
        (void) text_printf(&h->version, "%lu.%lu.%lu", v / 1000000, v / 1000 % 1000, v % 1000);
        set_connected(h);
        h->callbacks->domains_listed(message->answer.domains, message->answer.n_domains, h->userdata);
}

static void take_return(Hypervisor *h, const Message *message) {
        for (size_t i = 0; i < h->abandoned.n; i++)
                if (h->abandoned.items[i].number == message->worker) {
                        array_remove(&h->abandoned, i);
                        h->retry_us = RETRY_FIRST_US;
                        if (h->state != HYPERVISOR_CONNECTED)
                                probe_now(h);
                        return;
                }
}

static void take_message(Hypervisor *h, Message *message) {
        switch (message->kind) {
        case MESSAGE_ANSWER:
                take_answer(h, message);
                return;
        case MESSAGE_CONNECTED:
                if (is_watching(h, message->worker))
                        take_connected(h, message);
                return;
        case MESSAGE_CLOSED:
                if (is_watching(h, message->worker)) {
                        set_state(h, HYPERVISOR_CONNECTING, "The connection to libvirt broke.");
                        probe_now(h);
                }
                return;
        case MESSAGE_EVENT:
                if (is_watching(h, message->worker))
                        h->callbacks->domain_event(&message->vm, message->event, message->cause, h->userdata);
                return;
        case MESSAGE_RETURNED:
                take_return(h, message);
                return;
        }
}

static int on_messages(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Hypervisor *h = userdata;
        Messages messages;
        bool events_lost;
        exchange_take(h->exchange, &messages, &events_lost);
        ARRAY_EACH(message, &messages) {
                take_message(h, message);
                answer_clear(&message->answer);
        }
        array_clear(&messages);
        if (events_lost)
                (void) make_request(h, &(Call) { .kind = CALL_LIST }, &(Request) { .tells_domains = true });
        dispatch(h);
        return 0;
}

static int add_sources(Hypervisor *h) {
        int r = sd_event_add_io(h->event, &h->io, h->exchange->wake_fd, EPOLLIN, on_messages, h);
        if (r < 0)
                return r;
        r = sd_event_add_defer(h->event, &h->finish, on_finish, h);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(h->finish, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(h->event, &h->deadline, CLOCK_BOOTTIME, 0, TIMER_ACCURACY_US, on_deadline, h);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(h->deadline, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_time(h->event, &h->probe, CLOCK_BOOTTIME, 0, TIMER_ACCURACY_US, on_probe, h);
}

int hypervisor_new(Hypervisor **ret, sd_event *event, const HypervisorConfig *config,
                   const HypervisorCallbacks *callbacks, void *userdata) {
        int r = libvirt_connection_prepare();
        if (r < 0)
                return r;
        _cleanup_(hypervisor_freep) Hypervisor *h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->event = sd_event_ref(event);
        h->config = *config;
        h->callbacks = callbacks;
        h->userdata = userdata;
        h->state = HYPERVISOR_CONNECTING;
        h->retry_us = RETRY_FIRST_US;
        r = text_set(&h->uri, config->uri);
        if (r < 0)
                return r;
        h->config.uri = h->uri;
        r = array_reserve(&h->abandoned.items, &h->abandoned.allocated, WORK_KINDS * (ABANDONED_MAX + THREADS_MOST),
                          sizeof(Abandoned));
        if (r < 0)
                return r;
        r = exchange_new(&h->exchange);
        if (r < 0)
                return r;
        r = add_sources(h);
        if (r < 0)
                return r;
        *ret = STEAL(h);
        return 0;
}

Hypervisor *hypervisor_free(Hypervisor *h) {
        if (!h)
                return NULL;
        sd_event_source_disable_unref(h->io);
        sd_event_source_disable_unref(h->finish);
        sd_event_source_disable_unref(h->deadline);
        sd_event_source_disable_unref(h->probe);
        sd_event_unref(h->event);
        if (h->exchange)
                exchange_close(h->exchange);
        ARRAY_EACH(hand, &h->hands)
                worker_leave(hand->worker);
        exchange_unref(h->exchange);
        ARRAY_EACH(request, &h->requests)
                free_request(*request);
        array_clear(&h->requests);
        array_clear(&h->hands);
        array_clear(&h->abandoned);
        free(h->uri);
        free(h->detail);
        free(h->version);
        free(h);
        return NULL;
}

HypervisorState hypervisor_state(const Hypervisor *h) {
        return h->state;
}

const char *hypervisor_detail(const Hypervisor *h) {
        return h->detail;
}

const char *hypervisor_version(const Hypervisor *h) {
        return h->version;
}

static int ask_with_xml(Hypervisor *h, CallKind kind, const char *xml, const VmId *vm, HypervisorDone done,
                        void *userdata) {
        Call call = { .kind = kind, .vm = *vm, .xml = strdup(xml) };
        if (!call.xml)
                return -ENOMEM;
        return make_request(h, &call, &(Request) { .done = done, .userdata = userdata });
}

static int ask_of_vm(Hypervisor *h, CallKind kind, const VmId *vm, HypervisorDone done, void *userdata) {
        return make_request(h, &(Call) { .kind = kind, .vm = *vm }, &(Request) { .done = done, .userdata = userdata });
}

int hypervisor_check_xml(Hypervisor *h, const char *xml, HypervisorDone done, void *userdata) {
        return ask_with_xml(h, CALL_CHECK, xml, &(VmId) {}, done, userdata);
}

int hypervisor_list(Hypervisor *h, HypervisorDone done, void *userdata) {
        return ask_of_vm(h, CALL_LIST, &(VmId) {}, done, userdata);
}

int hypervisor_capabilities(Hypervisor *h, HypervisorDone done, void *userdata) {
        return ask_of_vm(h, CALL_CPUS, &(VmId) {}, done, userdata);
}

int hypervisor_start_paused(Hypervisor *h, const char *xml, HypervisorDone done, void *userdata) {
        /* Which VM it is must be known beforehand: a start that nobody wants any more is taken back. */
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        int r = domain_xml_mark(xml, strlen(xml), &mark);
        if (r < 0)
                return r;
        return r == DOMAIN_MARK_FOUND ? ask_with_xml(h, CALL_START, xml, &mark.vm, done, userdata) : -EINVAL;
}

int hypervisor_resume(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata) {
        return ask_of_vm(h, CALL_RESUME, vm, done, userdata);
}

int hypervisor_shutdown(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata) {
        return ask_of_vm(h, CALL_SHUTDOWN, vm, done, userdata);
}

int hypervisor_destroy(Hypervisor *h, const VmId *vm, HypervisorDone done, void *userdata) {
        return ask_of_vm(h, CALL_DESTROY, vm, done, userdata);
}

void hypervisor_forget(Hypervisor *h, const void *userdata) {
        ARRAY_EACH(request, &h->requests)
                if ((*request)->done && (*request)->userdata == userdata)
                        (*request)->is_forgotten = true;
}
