/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/worker.h"

#include <errno.h>
#include <signal.h>

#include "util/text.h"

#define STACK_SIZE (1U << 20)

struct Worker {
        Exchange *exchange;             /* its mutex guards what the loop touches: */
        pthread_cond_t wake;
        bool has_call, is_left;
        uint64_t request;
        Call call;

        char *uri;                      /* the thread's: */
        uint64_t number;
        bool watches;
        Connection connection;
};

int worker_start_thread(void *(*run)(void *), void *userdata) {
        pthread_attr_t attributes;
        int r = -pthread_attr_init(&attributes);
        if (r < 0)
                return r;
        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void) pthread_attr_setstacksize(&attributes, STACK_SIZE);

        sigset_t all, before;
        sigfillset(&all);
        (void) pthread_sigmask(SIG_BLOCK, &all, &before);
        pthread_t thread;
        r = -pthread_create(&thread, &attributes, run, userdata);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return r;
}

static Worker *free_worker(Worker *worker) {
        call_clear(&worker->call);
        free(worker->uri);
        (void) pthread_cond_destroy(&worker->wake);
        exchange_unref(worker->exchange);
        free(worker);
        return NULL;
}

/* All domains, once the watch stands: what happens after it comes as an event. */
static bool tell_connected(Worker *worker, char **reterr_sentence) {
        Message message = { .kind = MESSAGE_CONNECTED, .worker = worker->number, .answer = ANSWER_NONE };
        call_make(&worker->connection, &(Call) { .kind = CALL_LIST }, &message.answer);
        if (message.answer.result == HYPERVISOR_CALL_OK) {
                (void) virConnectGetLibVersion(worker->connection.handle, &message.version);
                exchange_put(worker->exchange, &message);
                return true;
        }
        *reterr_sentence = STEAL(message.answer.sentence);
        answer_clear(&message.answer);
        return false;
}

static bool connect_if_needed(Worker *worker, char **reterr_sentence) {
        if (libvirt_connection_is_open(&worker->connection))
                return true;
        libvirt_connection_close(&worker->connection);
        if (!libvirt_connection_open(&worker->connection, worker->uri, worker->watches ? worker->exchange : NULL,
                             worker->number, reterr_sentence))
                return false;
        if (!worker->watches || tell_connected(worker, reterr_sentence))
                return true;
        libvirt_connection_close(&worker->connection);
        return false;
}

/* Returns false when the loop has left. */
static bool wait_for_call(Worker *worker, uint64_t *ret_request, Call *ret_call) {
        pthread_mutex_lock(&worker->exchange->mutex);
        while (!worker->has_call && !worker->is_left)
                pthread_cond_wait(&worker->wake, &worker->exchange->mutex);
        bool has_call = worker->has_call && !worker->is_left;
        if (has_call) {
                *ret_request = worker->request;
                *ret_call = worker->call;
                worker->call = (Call) {};
        }
        pthread_mutex_unlock(&worker->exchange->mutex);
        return has_call;
}

/* The answer goes out only while somebody waits for it: the same lock decides both. */
static bool give_answer(Worker *worker, uint64_t request, const Call *call, Answer *answer) {
        pthread_mutex_lock(&worker->exchange->mutex);
        bool is_left = worker->is_left;
        if (!is_left) {
                Message message = {
                        .kind = MESSAGE_ANSWER,
                        .worker = worker->number,
                        .request = request,
                        .vm = call->vm,
                        .answer = *answer,
                };
                *answer = ANSWER_NONE;
                worker->has_call = false;
                exchange_put_locked(worker->exchange, &message);
        }
        pthread_mutex_unlock(&worker->exchange->mutex);
        return !is_left;
}

static void *run(void *userdata) {
        Worker *worker = userdata;
        uint64_t request;
        Call call;
        while (wait_for_call(worker, &request, &call)) {
                Answer answer = ANSWER_NONE;
                char *sentence = NULL;
                if (connect_if_needed(worker, &sentence))
                        call_make(&worker->connection, &call, &answer);
                else
                        answer_set(&answer, HYPERVISOR_CALL_UNAVAILABLE, sentence);
                free(sentence);

                bool is_ok = answer.result == HYPERVISOR_CALL_OK;
                if (!give_answer(worker, request, &call, &answer) && is_ok && call.kind == CALL_START)
                        call_undo_start(&worker->connection, &call);
                answer_clear(&answer);
                call_clear(&call);
        }

        libvirt_connection_close(&worker->connection);
        Message message = { .kind = MESSAGE_RETURNED, .worker = worker->number, .answer = ANSWER_NONE };
        exchange_put(worker->exchange, &message);
        free_worker(worker);
        return NULL;
}

int worker_new(Worker **ret, Exchange *exchange, const char *uri, uint64_t number, bool watches) {
        Worker *worker = calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;
        worker->exchange = exchange_ref(exchange);
        worker->number = number;
        worker->watches = watches;
        worker->connection = CONNECTION_CLOSED;
        (void) pthread_cond_init(&worker->wake, NULL);
        int r = text_set(&worker->uri, uri);
        if (r >= 0)
                r = worker_start_thread(run, worker);
        if (r < 0) {
                free_worker(worker);
                return r;
        }
        *ret = worker;
        return 0;
}

void worker_give(Worker *worker, uint64_t request, Call *call) {
        pthread_mutex_lock(&worker->exchange->mutex);
        worker->request = request;
        worker->call = *call;
        worker->has_call = true;
        *call = (Call) {};
        pthread_cond_signal(&worker->wake);
        pthread_mutex_unlock(&worker->exchange->mutex);
}

void worker_leave(Worker *worker) {
        Exchange *exchange = exchange_ref(worker->exchange);
        pthread_mutex_lock(&exchange->mutex);
        worker->is_left = true;
        pthread_cond_signal(&worker->wake);
        pthread_mutex_unlock(&exchange->mutex);
        exchange_unref(exchange);
}
