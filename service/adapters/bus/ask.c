/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/ask.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/caller.h"
#include "core/names.h"
#include "util/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_ALLOW_INTERACTION 1U     /* polkit's CheckAuthorizationFlags */

/* Whom the message waits for. */
typedef enum Waiting {
        WAITING_FOR_NOBODY,             /* in the queue again, or being dispatched */
        WAITING_FOR_CALLER,
        WAITING_FOR_POLKIT,
        WAITING_FOR_HYPERVISOR,
} Waiting;

/* What the hypervisor's answer comes back to; outlives an inquiry that was dropped. */
typedef struct XmlQuestion {
        Inquiry *inquiry;               /* NULL: nobody wants to know any more */
} XmlQuestion;

/* What is asked, and known by now, for one message. */
struct Inquiry {
        Bus *bus;
        sd_bus_message *message;
        Waiting waiting;
        bool left;                      /* the caller has left the bus */
        bool caller_known;
        bool xml_good;
        Caller caller;
        ARRAY(Right) granted;           /* owned copies */
        Right asked;                    /* owned copy; of the question that is open */
        char cancellation[32];
        char *refusal;                  /* error name and sentence; final */
        char *refusal_sentence;
        sd_bus_slot *call;
        UserLookup *lookup;
        XmlQuestion *xml_question;
        sd_event_source *forget;
};

/* ---- rights */

static void right_clear(Right *right) {
        free((char *) right->action);
        free((char *) right->pool);
        free((char *) right->vm);
        free((char *) right->node);
        free((char *) right->verb);
        free((char *) right->owner);
        *right = (Right) {};
}

static int copy_text(const char *from, const char **ret) {
        char *copy = NULL;
        int r = text_set(&copy, from);
        *ret = copy;
        return r;
}

static int right_copy(const Right *from, Right *ret) {
        Right copy = {};
        if (copy_text(from->action, &copy.action) < 0 || copy_text(from->pool, &copy.pool) < 0 ||
            copy_text(from->vm, &copy.vm) < 0 || copy_text(from->node, &copy.node) < 0 ||
            copy_text(from->verb, &copy.verb) < 0 || copy_text(from->owner, &copy.owner) < 0) {
                right_clear(&copy);
                return -ENOMEM;
        }
        *ret = copy;
        return 0;
}

static bool right_equal(const Right *a, const Right *b) {
        return text_equal(a->action, b->action) && text_equal(a->pool, b->pool) && text_equal(a->vm, b->vm) &&
               text_equal(a->node, b->node) && text_equal(a->verb, b->verb) && text_equal(a->owner, b->owner);
}

/* ---- an inquiry's life */

static Inquiry *inquiry_free(Inquiry *inquiry) {
        if (!inquiry)
                return NULL;
        Inquiries *inquiries = &inquiry->bus->inquiries;
        for (size_t i = 0; i < inquiries->all.n; i++)
                if (inquiries->all.items[i] == inquiry) {
                        array_remove(&inquiries->all, i);
                        break;
                }
        if (inquiry->xml_question)
                inquiry->xml_question->inquiry = NULL;
        sd_bus_slot_unref(inquiry->call);
        user_lookup_free(inquiry->lookup);
        sd_event_source_disable_unref(inquiry->forget);
        ARRAY_EACH(right, &inquiry->granted)
                right_clear(right);
        array_clear(&inquiry->granted);
        right_clear(&inquiry->asked);
        free(inquiry->caller.user);
        free(inquiry->caller.sender);
        free(inquiry->refusal);
        free(inquiry->refusal_sentence);
        sd_bus_message_unref(inquiry->message);
        free(inquiry);
        return NULL;
}
DEFINE_CLEANUP(Inquiry *, inquiry_free);

static Inquiry *find_inquiry(Bus *bus, sd_bus_message *m) {
        ARRAY_EACH(inquiry, &bus->inquiries.all)
                if ((*inquiry)->message == m)
                        return *inquiry;
        return NULL;
}

static size_t count_of_sender(const Inquiries *inquiries, const char *sender) {
        size_t n = 0;
        ARRAY_EACH(inquiry, &inquiries->all)
                n += text_equal((*inquiry)->caller.sender, sender);
        return n;
}

static size_t count_of_user(const Inquiries *inquiries, uint32_t uid) {
        size_t n = 0;
        ARRAY_EACH(inquiry, &inquiries->all)
                n += (*inquiry)->caller_known && (*inquiry)->caller.uid == uid;
        return n;
}

static int on_forget(sd_event_source *source, void *userdata) {
        inquiry_free(userdata);
        return 0;
}

static int inquiry_new(Inquiry **ret, Bus *bus, sd_bus_message *m) {
        _cleanup_(inquiry_freep) Inquiry *inquiry = calloc(1, sizeof(*inquiry));
        if (!inquiry)
                return -ENOMEM;
        inquiry->bus = bus;
        inquiry->message = sd_bus_message_ref(m);
        int r = text_set(&inquiry->caller.sender, sd_bus_message_get_sender(m));
        if (r >= 0)
                r = array_append(&bus->inquiries.all, &inquiry);
        if (r >= 0)
                r = sd_event_add_defer(bus->event, &inquiry->forget, on_forget, inquiry);
        if (r >= 0)
                r = sd_event_source_set_enabled(inquiry->forget, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(inquiry->forget, SD_EVENT_PRIORITY_IDLE);
        if (r < 0)
                return r;
        *ret = STEAL(inquiry);
        return 0;
}

/* ---- refusing */

static void note_refusal(Inquiry *inquiry, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void note_refusal(Inquiry *inquiry, const char *name, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        char *sentence = NULL;
        if (vasprintf(&sentence, format, ap) < 0)
                sentence = NULL;
        va_end(ap);
        free(inquiry->refusal_sentence);
        inquiry->refusal_sentence = sentence;
        (void) text_set(&inquiry->refusal, name);
}

static bool is_refused(const Inquiry *inquiry) {
        return inquiry->refusal || inquiry->refusal_sentence || inquiry->left;
}

/* Ends the inquiry with its refusal. */
static int refuse(Inquiry *inquiry, sd_bus_error *error) {
        int r = sd_bus_error_set(error, inquiry->refusal ?: ERROR_ACCESS_DENIED,
                                 inquiry->refusal_sentence ?: "the caller has left the bus; nothing was changed");
        inquiry_free(inquiry);
        return r;
}

/* Answers that cannot be waited for any longer are given here, where there is no method to give them. */
static void refuse_at_once(Inquiry *inquiry, const char *name, const char *sentence) {
        if (!inquiry->left)
                (void) sd_bus_reply_method_errorf(inquiry->message, name, "%s", sentence);
        inquiry_free(inquiry);
}

/* Has the message dispatched once more, now that more is known. */
static void resume(Inquiry *inquiry) {
        inquiry->waiting = WAITING_FOR_NOBODY;
        inquiry->call = sd_bus_slot_unref(inquiry->call);

        int r = sd_bus_message_rewind(inquiry->message, true);
        if (r >= 0)
                r = sd_bus_enqueue_for_read(inquiry->bus->connection, inquiry->message);
        if (r >= 0)
                r = sd_event_source_set_enabled(inquiry->forget, SD_EVENT_ONESHOT);
        if (r < 0)
                refuse_at_once(inquiry, ERROR_LIMITS_EXCEEDED,
                               "too many calls wait on the bus; nothing was changed, try again");
}

static int wait_for(Inquiry *inquiry, Waiting whom) {
        inquiry->waiting = whom;
        (void) sd_event_source_set_enabled(inquiry->forget, SD_EVENT_OFF);
        return ASK_WAIT;
}

/* ---- who calls */

static void on_user_name(const char *name, void *userdata) {
        Inquiry *inquiry = userdata;
        inquiry->lookup = user_lookup_free(inquiry->lookup);
        if (text_set(&inquiry->caller.user, name) < 0)
                note_refusal(inquiry, ERROR_ACCESS_DENIED, "no memory");
        resume(inquiry);
}

/* Reads UnixUserID out of a{sv}. 0, or -errno where it has none. */
static int read_uid(sd_bus_message *reply, uint32_t *ret) {
        int r = sd_bus_message_enter_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                const char *key;
                r = sd_bus_message_read_basic(reply, 's', &key);
                if (r < 0)
                        return r;
                if (text_equal(key, "UnixUserID"))
                        return sd_bus_message_read(reply, "v", "u", ret);
                r = sd_bus_message_skip(reply, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : -ENXIO;
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Inquiry *inquiry = userdata;
        uint32_t uid = UINT32_MAX;
        if (sd_bus_message_is_method_error(reply, NULL) || read_uid(reply, &uid) < 0 || uid == UINT32_MAX) {
                note_refusal(inquiry, ERROR_ACCESS_DENIED,
                             "the bus does not say who the caller is; nothing was changed");
                resume(inquiry);
                return 0;
        }

        inquiry->caller.uid = uid;
        inquiry->caller_known = true;
        if (count_of_user(&inquiry->bus->inquiries, uid) > inquiry->bus->questions_per_user)
                note_refusal(inquiry, ERROR_LIMITS_EXCEEDED,
                             "user %u has %u calls waiting for an answer already: answer or end some first "
                             "(QuestionsPerUser= in gpupoold.conf)", uid, inquiry->bus->questions_per_user);
        else if (user_lookup_new(&inquiry->lookup, inquiry->bus->event, uid, on_user_name, inquiry) >= 0)
                return 0;
        else
                note_refusal(inquiry, ERROR_LIMITS_EXCEEDED, "the caller's name could not be looked up; try again");
        resume(inquiry);
        return 0;
}

static int begin_inquiry(Bus *bus, sd_bus_message *m, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m);
        if (!sender)
                return sd_bus_error_set(error, ERROR_ACCESS_DENIED, "the call has no sender");
        if (count_of_sender(&bus->inquiries, sender) >= bus->questions_per_user)
                return sd_bus_error_setf(error, ERROR_LIMITS_EXCEEDED,
                                         "%u calls of this connection wait for an answer already: answer or end some "
                                         "first (QuestionsPerUser= in gpupoold.conf)", bus->questions_per_user);

        _cleanup_(inquiry_freep) Inquiry *inquiry = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r = inquiry_new(&inquiry, bus, m);
        if (r >= 0)
                r = sd_bus_message_new_method_call(bus->connection, &call, "org.freedesktop.DBus",
                                                   "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                                   "GetConnectionCredentials");
        if (r >= 0)
                r = sd_bus_message_append(call, "s", sender);
        if (r >= 0)
                r = sd_bus_call_async(bus->connection, &inquiry->call, call, on_credentials, inquiry,
                                      ANSWER_TIMEOUT_US);
        if (r < 0)
                return r;
        (void) wait_for(inquiry, WAITING_FOR_CALLER);
        (void) STEAL(inquiry);
        return ASK_WAIT;
}

int ask_caller(Bus *bus, sd_bus_message *m, const Caller **ret, sd_bus_error *error) {
        Inquiry *inquiry = find_inquiry(bus, m);
        if (!inquiry)
                return begin_inquiry(bus, m, error);
        if (is_refused(inquiry))
                return refuse(inquiry, error);
        *ret = &inquiry->caller;
        return ASK_GO;
}

/* ---- whether they may */

static bool begins_with(const char *text, const char *beginning) {
        return text && strncmp(text, beginning, strlen(beginning)) == 0;
}

/* polkit is not there at all, as opposed to: it did not answer, or it said no. */
static bool is_absent(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, "org.freedesktop.DBus.Error.ServiceUnknown") ||
               sd_bus_error_has_name(error, "org.freedesktop.DBus.Error.NameHasNoOwner") ||
               begins_with(error->name, "org.freedesktop.DBus.Error.Spawn.") ||
               begins_with(error->name, "org.freedesktop.systemd1.");   /* its unit is masked, missing or failed */
}

static void grant(Inquiry *inquiry) {
        if (array_append(&inquiry->granted, &inquiry->asked) < 0)
                note_refusal(inquiry, ERROR_ACCESS_DENIED, "no memory");
        else
                inquiry->asked = (Right) {};
}

static void cancel_question(Inquiry *inquiry) {
        int r = sd_bus_call_method_async(inquiry->bus->connection, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                         "CancelCheckAuthorization", NULL, NULL, "s", inquiry->cancellation);
        if (r < 0)
                log_debug("polkit could not be told that a question is moot: %s", strerror(-r));
}

static void read_polkit_error(Inquiry *inquiry, const sd_bus_error *error) {
        const char *action = inquiry->asked.action;
        if (is_absent(error)) {
                if (inquiry->caller.uid == 0)
                        grant(inquiry);
                else
                        note_refusal(inquiry, ERROR_ACCESS_DENIED,
                                     "polkit is not there, so nobody but root may do what needs %s: start polkit",
                                     action);
                return;
        }
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) || sd_bus_error_has_name(error, SD_BUS_ERROR_TIMEOUT)) {
                cancel_question(inquiry);
                note_refusal(inquiry, ERROR_ACCESS_DENIED,
                             "polkit did not answer the question for %s; nothing was changed, try again", action);
                return;
        }
        log_warning("polkit refused the question for %s: %s", action, error->message);
        note_refusal(inquiry, ERROR_ACCESS_DENIED, "polkit cannot decide about %s: %s", action, error->message);
}

static int on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Inquiry *inquiry = userdata;
        const char *action = inquiry->asked.action;
        int authorized = 0, challenge = 0;

        if (sd_bus_message_is_method_error(reply, NULL))
                read_polkit_error(inquiry, sd_bus_message_get_error(reply));
        else if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") <= 0 ||
                 sd_bus_message_read(reply, "bb", &authorized, &challenge) < 0)
                note_refusal(inquiry, ERROR_ACCESS_DENIED, "polkit's answer about %s cannot be read", action);
        else if (authorized)
                grant(inquiry);
        else if (challenge)
                note_refusal(inquiry, ERROR_INTERACTIVE,
                             "this needs %s, and polkit would ask for a password: call with interactive authorization "
                             "allowed and an agent running (gpupoolctl does, on a terminal)", action);
        else
                note_refusal(inquiry, ERROR_ACCESS_DENIED,
                             "this needs %s: ask an administrator, or see gpupool(7), \"Delegating a pool\"", action);
        resume(inquiry);
        return 0;
}

static int append_detail(sd_bus_message *call, const char *key, const char *value) {
        return value ? sd_bus_message_append(call, "{ss}", key, value) : 0;
}

static int append_details(sd_bus_message *call, const Right *right) {
        int r = sd_bus_message_open_container(call, 'a', "{ss}");
        if (r >= 0)
                r = append_detail(call, "pool", right->pool);
        if (r >= 0)
                r = append_detail(call, "vm", right->vm);
        if (r >= 0)
                r = append_detail(call, "node", right->node);
        if (r >= 0)
                r = append_detail(call, "verb", right->verb);
        if (r >= 0)
                r = append_detail(call, "owner", right->owner);
        return r < 0 ? r : sd_bus_message_close_container(call);
}

static int ask_polkit(Inquiry *inquiry, const Right *right) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        Bus *bus = inquiry->bus;
        bool interactive = sd_bus_message_get_allow_interactive_authorization(inquiry->message) > 0;

        right_clear(&inquiry->asked);
        int r = right_copy(right, &inquiry->asked);
        if (r < 0)
                return r;
        (void) snprintf(inquiry->cancellation, sizeof(inquiry->cancellation), "gpupool-%" PRIu64,
                        ++bus->inquiries.next_cancellation);

        r = sd_bus_message_new_method_call(bus->connection, &call, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                           "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(call, "(sa{sv})s", "system-bus-name", 1, "name", "s", inquiry->caller.sender,
                                          right->action);
        if (r >= 0)
                r = append_details(call, right);
        if (r >= 0)
                r = sd_bus_message_append(call, "us", interactive ? POLKIT_ALLOW_INTERACTION : 0,
                                          inquiry->cancellation);
        if (r >= 0)
                r = sd_bus_call_async(bus->connection, &inquiry->call, call, on_polkit, inquiry,
                                      interactive ? PERSON_TIMEOUT_US : ANSWER_TIMEOUT_US);
        if (r < 0)
                return r;
        return wait_for(inquiry, WAITING_FOR_POLKIT);
}

int ask_right(Bus *bus, sd_bus_message *m, const Right *right, sd_bus_error *error) {
        Inquiry *inquiry = find_inquiry(bus, m);
        assert(inquiry);
        if (is_refused(inquiry))
                return refuse(inquiry, error);
        ARRAY_EACH(granted, &inquiry->granted)
                if (right_equal(granted, right))
                        return ASK_GO;
        if (inquiry->granted.n >= RIGHTS_PER_CALL_MAX) {
                note_refusal(inquiry, ERROR_CONFLICT,
                             "what this is about changes faster than it can be asked for: try again");
                return refuse(inquiry, error);
        }
        return ask_polkit(inquiry, right);
}

/* ---- whether libvirt takes it */

static void on_xml_checked(const char *name, const char *sentence, void *userdata) {
        _cleanup_free_ XmlQuestion *question = userdata;
        Inquiry *inquiry = question->inquiry;
        if (!inquiry)
                return;
        inquiry->xml_question = NULL;
        if (name)
                note_refusal(inquiry, name, "%s", sentence ?: "libvirt refuses the XML");
        else
                inquiry->xml_good = true;
        resume(inquiry);
}

int ask_hypervisor(Bus *bus, sd_bus_message *m, const char *xml, sd_bus_error *error) {
        Inquiry *inquiry = find_inquiry(bus, m);
        assert(inquiry);
        if (is_refused(inquiry))
                return refuse(inquiry, error);
        if (inquiry->xml_good)
                return ASK_GO;

        _cleanup_free_ XmlQuestion *question = malloc(sizeof(*question));
        if (!question)
                return -ENOMEM;
        question->inquiry = inquiry;
        int r = bus->service->check_xml(bus->service_userdata, xml, on_xml_checked, question);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                note_refusal(inquiry, ERROR_UNREACHABLE,
                             "libvirt on this node cannot be asked about the XML (gpupoolctl node); nothing was "
                             "changed");
                return refuse(inquiry, error);
        }
        inquiry->xml_question = STEAL(question);
        return wait_for(inquiry, WAITING_FOR_HYPERVISOR);
}

/* ---- ends */

void ask_done(Bus *bus, sd_bus_message *m) {
        Inquiry *inquiry = find_inquiry(bus, m);
        if (inquiry && inquiry->waiting == WAITING_FOR_NOBODY)
                inquiry_free(inquiry);
}

int inquiry_refuse_vanished(Bus *bus, sd_bus_error *error) {
        sd_bus_message *m = sd_bus_get_current_message(bus->connection);
        Inquiry *inquiry = m ? find_inquiry(bus, m) : NULL;
        if (!inquiry || inquiry->waiting != WAITING_FOR_NOBODY)
                return 0;
        note_refusal(inquiry, ERROR_NOT_FOUND, "%s went away while the call waited for an answer; nothing was changed",
                     sd_bus_message_get_path(m));
        return refuse(inquiry, error);
}

void inquiries_drop_sender(Bus *bus, const char *sender) {
        for (size_t i = bus->inquiries.all.n; i > 0; i--) {
                Inquiry *inquiry = bus->inquiries.all.items[i - 1];
                if (!text_equal(inquiry->caller.sender, sender))
                        continue;
                inquiry->left = true;
                if (inquiry->waiting == WAITING_FOR_POLKIT)
                        cancel_question(inquiry);
                if (inquiry->waiting != WAITING_FOR_NOBODY)
                        inquiry_free(inquiry);
        }
}

void inquiries_clear(Bus *bus) {
        while (bus->inquiries.all.n > 0) {
                Inquiry *inquiry = bus->inquiries.all.items[bus->inquiries.all.n - 1];
                if (inquiry->waiting == WAITING_FOR_POLKIT)
                        cancel_question(inquiry);
                refuse_at_once(inquiry, ERROR_UNREACHABLE,
                               "gpupoold is going down; nothing was changed. Try again in a moment");
        }
        array_clear(&bus->inquiries.all);
}
