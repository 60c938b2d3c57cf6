/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/binder.h"

#include <errno.h>

#include "adapters/bind/bind-client.h"
#include "core/names.h"
#include "util/log.h"
#include "util/wake.h"

#define QUARANTINE_RETRY_US 1000000U
#define LOOK_AGAIN_US 1000000U          /* at a GPU that seems to be lost under its VM */

typedef struct Claim {
        VmId vm;
        uint64_t epoch;
        BinderAnswered answered;
        void *userdata;
} Claim;

/* A quarantine on its way into the registry. */
typedef struct Report {
        Binder *binder;
        struct Report *next;
        GpuIdentity gpu;                /* not only its place, where another card may come meanwhile */
} Report;

struct Binder {
        BinderConfig config;
        Bindings bindings;
        BindClient *client;
        ARRAY(Claim) claims;
        Report *reports;
        uint64_t report_not_before_us, look_not_before_us;
        bool begun;                     /* what ran when this program began is known */
};

static uint64_t now_us(const Binder *binder) {
        uint64_t now = 0;
        (void) sd_event_now(binder->config.event, CLOCK_BOOTTIME, &now);
        return now;
}

static void complain(int r) {
        if (r < 0)
                log_error("a GPU's binding could not be followed: %s", strerror(-r));
}

/* ---- gpupool-bind */

static void on_answered(void *userdata, PciAddress gpu, BindVerb verb, BindResult result, const char *sentence) {
        Binder *binder = userdata;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu, address);
        if (result == BIND_DONE)
                log_info("GPU %s: %s is done", address, bind_verb_to_text(verb));
        else
                log_warning("GPU %s: %s: %s%s%s", address, bind_verb_to_text(verb), bind_result_to_text(result),
                            sentence ? ": " : "", sentence ? sentence : "");
        complain(bindings_answer(&binder->bindings, gpu, verb, result, sentence, now_us(binder)));
        /* Its driver is another one, of which an event may be late. */
        local_facts_look_at(binder->config.facts, gpu);
        binder->config.changed(binder->config.userdata);
}

static void on_overdue(void *userdata, PciAddress gpu, BindVerb verb) {
        Binder *binder = userdata;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu, address);
        log_error("GPU %s: %s does not come back: its driver hangs (see dmesg)", address, bind_verb_to_text(verb));
        complain(bindings_overdue(&binder->bindings, gpu, verb));
        binder->config.changed(binder->config.userdata);
}

static void ask_next(Binder *binder, const World *world, uint64_t now, uint64_t *wake_us) {
        const Binding *next;
        uint64_t due_us;
        while ((next = bindings_next(&binder->bindings, world, now, &due_us))) {
                PciAddress gpu = next->gpu.address;
                BindVerb verb = next->verb;
                int r = bind_client_ask(binder->client, verb, &next->wanted_card, next->functions, next->n_functions);
                if (r < 0)
                        complain(bindings_answer(&binder->bindings, gpu, verb, BIND_UNAVAILABLE, strerror(-r), now));
        }
        wake_by(wake_us, due_us);
}

/* ---- quarantine */

static void report_free(Report *report) {
        for (Report **at = &report->binder->reports; *at; at = &(*at)->next)
                if (*at == report) {
                        *at = report->next;
                        break;
                }
        free(report);
}

static void on_reported(SubmitOutcome outcome, const Result *result, void *userdata) {
        Report *report = userdata;
        Binder *binder = report->binder;
        bool written = outcome == SUBMIT_COMMITTED;
        if (written && result->verdict != VERDICT_DONE && result->verdict != VERDICT_EXISTS) {
                log_error("a GPU cannot be put in quarantine: %s", result->sentence ? result->sentence : "refused");
                complain(bindings_quarantine_refused(&binder->bindings, &report->gpu, now_us(binder)));
        } else if (written) {
                bindings_quarantine_told(&binder->bindings, &report->gpu);
        } else {
                bindings_quarantine_untold(&binder->bindings, &report->gpu);
                binder->report_not_before_us = now_us(binder) + QUARANTINE_RETRY_US;
        }
        report_free(report);
        binder->config.changed(binder->config.userdata);
}

static int submit_quarantine(Binder *binder, const World *world, const Binding *binding) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu gpu = GPUPOOL1__GPU__INIT;
        Gpupool1__QuarantineGpu command = GPUPOOL1__QUARANTINE_GPU__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Report *report = malloc(sizeof(*report));
        if (!report)
                return -ENOMEM;
        *report = (Report) { .binder = binder, .next = binder->reports, .gpu = binding->gpu };
        binder->reports = report;
        gpu_message_borrow(&binding->gpu, address, &gpu);
        bool is_new = binding->cause == QUARANTINE_STUCK || binding->cause == QUARANTINE_UNFIT;
        command.gpu = &gpu;
        command.cause = (Gpupool1__QuarantineCause) (is_new && world->registry->level < LEVEL_DEVICES
                                                             ? QUARANTINE_RESET_FAILED : binding->cause);
        command.sentence = binding->reason;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_QUARANTINE_GPU;
        entry.quarantine_gpu = &command;
        int r = history_submit(binder->config.history, &entry, on_reported, report);
        if (r < 0)
                report_free(report);
        return r;
}

static void report_next(Binder *binder, const World *world, uint64_t now, uint64_t *wake_us) {
        Binding *binding;
        while ((binding = bindings_next_quarantine(&binder->bindings))) {
                if (now < binder->report_not_before_us) {
                        wake_by(wake_us, binder->report_not_before_us);
                        return;
                }
                binding->quarantining = true;
                if (submit_quarantine(binder, world, binding) >= 0)
                        continue;
                binding->quarantining = false;
                binder->report_not_before_us = now + QUARANTINE_RETRY_US;
        }
}

/* ---- the facts */

static bool tell_facts(Binder *binder) {
        bool news = false;
        ARRAY_EACH(binding, &binder->bindings.items)
                news = local_facts_set_binding(binder->config.facts, binding->gpu.address, binding->stuck,
                                               binding->trouble) || news;
        return news;
}

/* No event tells of a device that fell silent, or that is on its way out. */
static void look_at_odd_ones(Binder *binder, uint64_t now, uint64_t *wake_us) {
        bool odd = false, is_due = now >= binder->look_not_before_us;
        ARRAY_EACH(binding, &binder->bindings.items) {
                if (!binding_is_odd(binding, binder->config.runner))
                        continue;
                odd = true;
                if (is_due)
                        local_facts_look_at(binder->config.facts, binding->gpu.address);
        }
        if (!odd)
                return;
        if (is_due)
                binder->look_not_before_us = now + LOOK_AGAIN_US;
        wake_by(wake_us, binder->look_not_before_us);
}

/* ---- claims */

int binder_claim(Binder *binder, const Vm *vm, BinderAnswered answered, void *userdata) {
        Claim claim = { .vm = vm->id, .epoch = vm->epoch, .answered = answered, .userdata = userdata };
        int r = array_append(&binder->claims, &claim);
        if (r < 0)
                return r;
        binder->config.changed(binder->config.userdata);
        return 0;
}

/* Of a GPU that has come, or that another VM had until now. */
static void claim_again(Binder *binder, const World *world) {
        ARRAY_EACH(claim, &binder->claims) {
                const Vm *vm = registry_find_vm(world->registry, &claim->vm);
                if (vm && vm->epoch == claim->epoch)
                        bindings_claim(&binder->bindings, vm);
        }
}

static void answer_claims(Binder *binder, const World *world, uint64_t now, uint64_t *wake_us) {
        for (size_t i = binder->claims.n; i > 0; i--) {
                Claim claim = binder->claims.items[i - 1];
                const char *sentence;
                BindingClaim state = bindings_claim_state(&binder->bindings, world, &claim.vm, claim.epoch, now,
                                                          wake_us, &sentence);
                if (state == BINDING_CLAIM_WAITS)
                        continue;
                array_remove(&binder->claims, i - 1);
                claim.answered(state == BINDING_CLAIM_DONE, sentence, claim.userdata);
        }
}

/* ---- the turn */

/* Before libvirt and the guard have told what runs, a GPU of a VM would be taken for one that was left behind. */
static bool has_begun(Binder *binder) {
        const Runner *runner = binder->config.runner;
        binder->begun = binder->begun || (runner->followed && runner->domains_known && runner->guard_listed);
        return binder->begun && runner->followed;
}

int binder_turn(Binder *binder, const World *world, uint64_t now, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        if (!has_begun(binder))
                return 0;
        int r = bindings_follow(&binder->bindings, world, binder->config.runner);
        if (r < 0)
                return r;
        claim_again(binder, world);
        ask_next(binder, world, now, ret_wake_us);
        report_next(binder, world, now, ret_wake_us);
        bool news = tell_facts(binder);
        look_at_odd_ones(binder, now, ret_wake_us);
        answer_claims(binder, world, now, ret_wake_us);
        return news;
}

/* ---- birth and death */

int binder_new(Binder **ret, const BinderConfig *config) {
        static const BindEvents events = { .answered = on_answered, .overdue = on_overdue };
        _cleanup_(binder_freep) Binder *binder = calloc(1, sizeof(*binder));
        if (!binder)
                return -ENOMEM;
        binder->config = *config;
        int r = bind_client_new(&binder->client, config->event, config->socket, config->timeout_us, &events, binder);
        if (r < 0)
                return r;
        *ret = STEAL(binder);
        return 0;
}

Binder *binder_free(Binder *binder) {
        if (!binder)
                return NULL;
        while (binder->reports)
                report_free(binder->reports);
        bind_client_free(binder->client);
        bindings_clear(&binder->bindings);
        array_clear(&binder->claims);
        free(binder);
        return NULL;
}
