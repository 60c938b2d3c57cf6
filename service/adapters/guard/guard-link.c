/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/guard/guard-link.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "guard/guard-protocol.h"
#include "util/array.h"
#include "util/log.h"
#include "util/text.h"

#define CALL_TIMEOUT_US (2ULL * 1000 * 1000)            /* the guard answers in microseconds, or hangs */
#define RECONNECT_FIRST_US (100ULL * 1000)
#define RECONNECT_MOST_US (2ULL * 1000 * 1000)
#define TIMER_ACCURACY_US 1000U
#define PACKETS_AT_ONCE_MAX (4U * GUARD_VMS_MAX)        /* an answer and a death for each VM is what there can be */
#define LATE_US (100ULL * 1000)         /* so late this process itself did not run, which is not the guard's fault: */
#define LATE_GRACE_US (500ULL * 1000)   /* it gets so much more */

typedef enum LinkState {
        LINK_DOWN,
        LINK_GREETING,                  /* the socket stands; the first list tells which guard it is */
        LINK_UP,
} LinkState;

typedef struct Call {
        uint64_t cookie;
        GuardMessageType type;
        VmId vm;
        uint64_t epoch;
        uint64_t until_us, hold_us;     /* of a lease */
        uint64_t deadline_us;           /* CLOCK_BOOTTIME */
        GuardDone done;                 /* one of the two; neither once it is forgotten */
        GuardListed listed;
        void *userdata;
        ARRAY(GuardEntry) entries;      /* of a list */
        bool is_finished;
        GuardResult result;
} Call;

struct GuardLink {
        sd_event *event;
        char *path;
        const GuardCallbacks *callbacks;
        void *userdata;
        LinkState state;
        int fd;
        sd_event_source *io, *timer, *reconnect, *finish;
        uint64_t reconnect_us;
        uint64_t instance;              /* of the guard spoken to last; 0: none yet */
        GuardState guard_state;
        bool end_told;                  /* of the lease that this state is about */
        uint32_t strange_version;       /* of its protocol, which was complained about */
        uint64_t last_cookie;
        uint64_t greeting;              /* cookie of the list that greets */
        ARRAY(Call *) calls;            /* in the order in which they were made */
};

const char *guard_result_to_text(GuardResult result) {
        switch (result) {
        case GUARD_CALL_OK:
                return "ok";
        case GUARD_CALL_NOT_HELD:
                return "the guard does not hold it";
        case GUARD_CALL_CONFLICT:
                return "the guard holds another living process of this VM";
        case GUARD_CALL_STALE:
                return "the guard held a newer run of this VM";
        case GUARD_CALL_DEAD:
                return "its process is dead";
        case GUARD_CALL_ALIVE:
                return "its process is alive";
        case GUARD_CALL_FULL:
                return "the guard holds as many VMs as it can";
        case GUARD_CALL_REFUSED:
                return "the guard refused";
        case GUARD_CALL_LEASE_ENDED:
                return "the guard says that this node's lease has ended";
        case GUARD_CALL_NOT_OURS:
                return "the guard says that this process is no VM";
        case GUARD_CALL_TIMED_OUT:
                return "the guard did not answer in time";
        case GUARD_CALL_LOST:
                return "the connection to the guard broke";
        case GUARD_CALL_NOT_CONNECTED:
                return "the guard is not there";
        }
        return "unknown";
}

static uint64_t now_boottime_us(const GuardLink *link) {
        uint64_t now = 0;
        (void) sd_event_now(link->event, CLOCK_BOOTTIME, &now);
        return now;
}

static Call *call_free(Call *call) {
        if (!call)
                return NULL;
        ARRAY_EACH(entry, &call->entries)
                closep(&entry->pidfd);
        array_clear(&call->entries);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(Call *, call_free);

static Call *find_call(GuardLink *link, uint64_t cookie) {
        ARRAY_EACH(call, &link->calls)
                if ((*call)->cookie == cookie && !(*call)->is_finished)
                        return *call;
        return NULL;
}

/* The caller is told in a turn of the loop of its own, never from inside its own call. */
static void finish_call(GuardLink *link, Call *call, GuardResult result) {
        call->is_finished = true;
        call->result = result;
        (void) sd_event_source_set_enabled(link->finish, SD_EVENT_ONESHOT);
}

static int on_finish(sd_event_source *source, void *userdata) {
        GuardLink *link = userdata;
        /* Only what stands here now: what the callbacks add comes with the next turn. */
        uint64_t last = link->last_cookie;
        for (size_t i = 0; i < link->calls.n;) {
                Call *call = link->calls.items[i];
                if (!call->is_finished || call->cookie > last) {
                        i++;
                        continue;
                }
                array_remove(&link->calls, i);
                _cleanup_(call_freep) Call *owned = call;
                if (owned->done)
                        owned->done(owned->result, owned->userdata);
                else if (owned->listed)
                        owned->listed(owned->result, owned->result == GUARD_CALL_OK ? owned->entries.items : NULL,
                                      owned->result == GUARD_CALL_OK ? owned->entries.n : 0, owned->userdata);
                i = 0;                  /* a callback may have forgotten others */
        }
        return 0;
}

/* Sets the timer to the nearest deadline. */
static void arm_timer(GuardLink *link) {
        uint64_t nearest = UINT64_MAX;
        ARRAY_EACH(call, &link->calls)
                if (!(*call)->is_finished && (*call)->deadline_us < nearest)
                        nearest = (*call)->deadline_us;
        if (nearest == UINT64_MAX) {
                (void) sd_event_source_set_enabled(link->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(link->timer, nearest);
        (void) sd_event_source_set_enabled(link->timer, SD_EVENT_ONESHOT);
}

static void disconnect(GuardLink *link, GuardResult result) {
        bool was_up = link->state == LINK_UP;
        link->state = LINK_DOWN;
        link->io = sd_event_source_unref(link->io);
        closep(&link->fd);
        link->fd = -1;
        ARRAY_EACH(call, &link->calls)
                if (!(*call)->is_finished)
                        finish_call(link, *call, result);
        arm_timer(link);

        (void) sd_event_source_set_time(link->reconnect, now_boottime_us(link) + link->reconnect_us);
        (void) sd_event_source_set_enabled(link->reconnect, SD_EVENT_ONESHOT);
        link->reconnect_us *= 2;
        if (link->reconnect_us > RECONNECT_MOST_US)
                link->reconnect_us = RECONNECT_MOST_US;
        if (was_up)
                link->callbacks->disconnected(link->userdata);
}

static int send_message(GuardLink *link, const GuardMessage *message, int fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = (void *) message, .iov_len = sizeof(*message) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (fd >= 0) {
                m.msg_control = &control;
                m.msg_controllen = sizeof(control.space);
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        return sendmsg(link->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int send_call(GuardLink *link, const Call *call, uint32_t index, int fd) {
        GuardMessage message = {
                .version = GUARD_VERSION,
                .type = call->type,
                .cookie = call->cookie,
                .epoch = call->epoch,
                .index = index,
                .until_us = call->until_us,
                .hold_us = call->hold_us,
        };
        memcpy(message.vm, call->vm.bytes, sizeof(message.vm));
        return send_message(link, &message, fd);
}

/* Takes over @call, whatever comes of it. */
static int make_call(GuardLink *link, Call *call, uint64_t timeout_us, int fd) {
        call->cookie = ++link->last_cookie;
        call->deadline_us = now_boottime_us(link) + timeout_us;
        int r = array_append(&link->calls, &call);
        if (r < 0) {
                call_free(call);
                return r;
        }
        if (link->state != LINK_UP && call->cookie != link->greeting) {
                finish_call(link, call, GUARD_CALL_NOT_CONNECTED);
                return 0;
        }
        r = call->type == GUARD_HOLD && fd < 0 ? -EBADF : send_call(link, call, 0, fd);
        if (r == -EBADF) {
                finish_call(link, call, GUARD_CALL_REFUSED);    /* what it was given is no descriptor */
                return 0;
        }
        if (r < 0) {
                finish_call(link, call, GUARD_CALL_NOT_CONNECTED);
                disconnect(link, GUARD_CALL_LOST);
                return 0;
        }
        arm_timer(link);
        return 0;
}

static GuardResult answer_to_result(const Call *call, GuardAnswer answer) {
        switch (answer) {
        case GUARD_OK:
        case GUARD_END:
                return GUARD_CALL_OK;
        case GUARD_NOT_HELD:
                return GUARD_CALL_NOT_HELD;
        case GUARD_CONFLICT:
                return GUARD_CALL_CONFLICT;
        case GUARD_STALE:
                return GUARD_CALL_STALE;
        case GUARD_ALREADY_DEAD:
                return call->type == GUARD_KILL ? GUARD_CALL_OK : GUARD_CALL_DEAD;
        case GUARD_ALIVE:
                return GUARD_CALL_ALIVE;
        case GUARD_FULL:
                return GUARD_CALL_FULL;
        case GUARD_LEASE_ENDED:
                return GUARD_CALL_LEASE_ENDED;
        case GUARD_NOT_OURS:
                return GUARD_CALL_NOT_OURS;
        case GUARD_BAD_REQUEST:
        case GUARD_REFUSED:
                return GUARD_CALL_REFUSED;
        }
        return GUARD_CALL_REFUSED;
}

static void take_answer(GuardLink *link, const GuardMessage *message) {
        Call *call = find_call(link, message->cookie);
        if (!call)
                return;                 /* it came too late */
        /* A kill that was sent is done when the process is dead. */
        if (call->type == GUARD_KILL && message->answer == GUARD_OK)
                return;
        finish_call(link, call, answer_to_result(call, (GuardAnswer) message->answer));
}

static void take_entry(GuardLink *link, const GuardMessage *message, int *fd) {
        Call *call = find_call(link, message->cookie);
        if (!call || call->type != GUARD_LIST)
                return;
        if (*fd < 0 || message->index >= GUARD_VMS_MAX || call->entries.n >= GUARD_VMS_MAX) {
                finish_call(link, call, GUARD_CALL_REFUSED);
                return;
        }

        GuardEntry entry = { .epoch = message->epoch, .alive = message->alive != 0, .pidfd = *fd };
        memcpy(entry.vm.bytes, message->vm, sizeof(entry.vm.bytes));
        if (array_append(&call->entries, &entry) < 0) {
                finish_call(link, call, GUARD_CALL_REFUSED);
                return;
        }
        *fd = -1;
        if (send_call(link, call, message->index + 1, -1) < 0)
                finish_call(link, call, GUARD_CALL_LOST);
}

static void take_death(GuardLink *link, const GuardMessage *message) {
        VmId vm;
        memcpy(vm.bytes, message->vm, sizeof(vm.bytes));
        ARRAY_EACH(call, &link->calls)
                if (!(*call)->is_finished && (*call)->type == GUARD_KILL && (*call)->epoch == message->epoch &&
                    ID_EQUAL(&(*call)->vm, &vm))
                        finish_call(link, *call, GUARD_CALL_OK);
        link->callbacks->vm_died(&vm, message->epoch, link->userdata);
}

static void note_state(GuardLink *link, const GuardMessage *message) {
        link->guard_state = (GuardState) {
                .until_us = message->until_us,
                .hold_us = message->hold_us,
                .watchdog_us = message->watchdog_us,
                .stopped = message->stage == GUARD_STAGE_STOPPED,
                .ended = message->stage == GUARD_STAGE_KILLING || message->stage == GUARD_STAGE_ENDED,
        };
}

/* ENDED may have been said while the link was down. */
static void tell_end(GuardLink *link, const GuardMessage *message) {
        bool ended = message->stage == GUARD_STAGE_ENDED;
        bool told = link->end_told && message->type != GUARD_ENDED;
        link->end_told = ended;
        if (ended && !told)
                link->callbacks->lease_ended(link->userdata);
}

/* The first packet of a connection tells which guard this is. */
static void meet(GuardLink *link, const GuardMessage *message) {
        bool anew = link->instance != message->instance;
        link->instance = message->instance;
        link->end_told = link->end_told && !anew;
        link->strange_version = 0;
        link->state = LINK_UP;
        link->reconnect_us = RECONNECT_FIRST_US;
        link->callbacks->connected(anew, link->userdata);
}

/* With one descriptor at most; all others are closed. The version stands first in every version, so of what has another
 * size it is known, too. */
static ssize_t receive(int socket_fd, GuardMessage *ret, int *ret_fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(socket_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -errno;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int passed;
                        memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        closep(ret_fd);
                        *ret_fd = passed;
                }
        }
        return n == sizeof(*ret) && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? n : -EBADMSG;
}

static void refuse_packet(GuardLink *link, const GuardMessage *message) {
        if (message->version != 0 && message->version != GUARD_VERSION && message->version != link->strange_version) {
                link->strange_version = message->version;
                log_error("The guard speaks version %u of its protocol and this is version %u: install both from one "
                          "release, and restart gpupool-guard.service", message->version, GUARD_VERSION);
        }
        disconnect(link, GUARD_CALL_LOST);
}

/* Whether there was one, after which another may be there. */
static bool take_packet(GuardLink *link) {
        GuardMessage message = {};
        _cleanup_close_ int passed = -1;
        ssize_t n = receive(link->fd, &message, &passed);
        if (n == -EAGAIN || n == -EINTR)
                return false;
        if (n < 0 || message.version != GUARD_VERSION || message.instance == 0) {
                refuse_packet(link, &message);
                return false;
        }
        note_state(link, &message);
        if (link->state == LINK_GREETING)
                meet(link, &message);
        tell_end(link, &message);

        switch (message.type) {
        case GUARD_ANSWER:
                take_answer(link, &message);
                break;
        case GUARD_ENTRY:
                take_entry(link, &message, &passed);
                break;
        case GUARD_DIED:
                take_death(link, &message);
                break;
        default:
                break;                  /* ENDED is in its state */
        }
        return true;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        GuardLink *link = userdata;
        (void) take_packet(link);
        arm_timer(link);
        return 0;
}

/* A guard that does not answer is as good as none: the link is down until one does. A kill that takes long is another
 * matter: the process may be slow to die. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        GuardLink *link = userdata;
        uint64_t now = now_boottime_us(link), late = now > usec ? now - usec : 0;
        bool is_silent = false;
        /* What came while this process did something else, or nothing, was in time. */
        for (unsigned i = 0; i < PACKETS_AT_ONCE_MAX && link->state != LINK_DOWN && take_packet(link); i++)
                ;
        ARRAY_EACH(call, &link->calls) {
                if ((*call)->is_finished)
                        continue;
                if (late > LATE_US && (*call)->deadline_us < now + LATE_GRACE_US)
                        (*call)->deadline_us = now + LATE_GRACE_US;
                if ((*call)->deadline_us > now)
                        continue;
                is_silent = is_silent || (*call)->type != GUARD_KILL;
                finish_call(link, *call, GUARD_CALL_TIMED_OUT);
        }
        arm_timer(link);
        if (is_silent && link->state != LINK_DOWN)
                disconnect(link, GUARD_CALL_LOST);
        return 0;
}

static int open_socket(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        return steal_fd(&fd);
}

static void greet(GuardLink *link) {
        Call *call = calloc(1, sizeof(Call));
        if (!call) {
                disconnect(link, GUARD_CALL_LOST);
                return;
        }
        call->type = GUARD_LIST;
        link->greeting = link->last_cookie + 1;
        if (make_call(link, call, CALL_TIMEOUT_US, -1) < 0)
                disconnect(link, GUARD_CALL_LOST);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata) {
        GuardLink *link = userdata;
        if (link->state != LINK_DOWN)
                return 0;
        link->fd = open_socket(link->path);
        /* Nobody is there, and the VMs are not waited with for long: it costs next to nothing to look again soon. */
        if (link->fd < 0)
                link->reconnect_us = RECONNECT_FIRST_US;
        if (link->fd < 0 || sd_event_add_io(link->event, &link->io, link->fd, EPOLLIN, on_io, link) < 0) {
                disconnect(link, GUARD_CALL_LOST);
                return 0;
        }
        link->state = LINK_GREETING;
        greet(link);
        return 0;
}

static int add_sources(GuardLink *link) {
        int r = sd_event_add_defer(link->event, &link->finish, on_finish, link);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(link->finish, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(link->event, &link->timer, CLOCK_BOOTTIME, 0, TIMER_ACCURACY_US, on_timer, link);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(link->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_time(link->event, &link->reconnect, CLOCK_BOOTTIME, 0, TIMER_ACCURACY_US, on_reconnect,
                                 link);
}

int guard_link_new(GuardLink **ret, sd_event *event, const char *socket_path, const GuardCallbacks *callbacks,
                   void *userdata) {
        _cleanup_(guard_link_freep) GuardLink *link = calloc(1, sizeof(GuardLink));
        if (!link)
                return -ENOMEM;
        link->fd = -1;
        link->event = sd_event_ref(event);
        link->callbacks = callbacks;
        link->userdata = userdata;
        link->reconnect_us = RECONNECT_FIRST_US;
        int r = text_set(&link->path, socket_path);
        if (r < 0)
                return r;
        r = add_sources(link);
        if (r < 0)
                return r;
        *ret = STEAL(link);
        return 0;
}

GuardLink *guard_link_free(GuardLink *link) {
        if (!link)
                return NULL;
        sd_event_source_disable_unref(link->io);
        sd_event_source_disable_unref(link->timer);
        sd_event_source_disable_unref(link->reconnect);
        sd_event_source_disable_unref(link->finish);
        sd_event_unref(link->event);
        closep(&link->fd);
        ARRAY_EACH(call, &link->calls)
                (void) call_free(*call);
        array_clear(&link->calls);
        free(link->path);
        free(link);
        return NULL;
}

bool guard_link_is_connected(const GuardLink *link) {
        return link->state == LINK_UP;
}

static int ask(GuardLink *link, const Call *call, uint64_t timeout_us, int fd) {
        Call *copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        *copy = *call;
        return make_call(link, copy, timeout_us, fd);
}

int guard_hold(GuardLink *link, const VmId *vm, uint64_t epoch, int pidfd, GuardDone done, void *userdata) {
        Call call = { .type = GUARD_HOLD, .vm = *vm, .epoch = epoch, .done = done, .userdata = userdata };
        return ask(link, &call, CALL_TIMEOUT_US, pidfd);
}

int guard_kill(GuardLink *link, const VmId *vm, uint64_t epoch, uint64_t timeout_us, GuardDone done, void *userdata) {
        Call call = { .type = GUARD_KILL, .vm = *vm, .epoch = epoch, .done = done, .userdata = userdata };
        return ask(link, &call, timeout_us, -1);
}

int guard_release(GuardLink *link, const VmId *vm, uint64_t epoch, GuardDone done, void *userdata) {
        Call call = { .type = GUARD_RELEASE, .vm = *vm, .epoch = epoch, .done = done, .userdata = userdata };
        return ask(link, &call, CALL_TIMEOUT_US, -1);
}

int guard_lease(GuardLink *link, uint64_t until_us, uint64_t hold_us, GuardDone done, void *userdata) {
        Call call = { .type = GUARD_LEASE, .until_us = until_us, .hold_us = hold_us,
                      .done = done, .userdata = userdata };
        return ask(link, &call, CALL_TIMEOUT_US, -1);
}

void guard_get_state(const GuardLink *link, GuardState *ret) {
        *ret = link->guard_state;
}

int guard_list(GuardLink *link, GuardListed listed, void *userdata) {
        Call call = { .type = GUARD_LIST, .listed = listed, .userdata = userdata };
        return ask(link, &call, CALL_TIMEOUT_US, -1);
}

void guard_forget(GuardLink *link, const void *userdata) {
        ARRAY_EACH(call, &link->calls)
                if ((*call)->userdata == userdata) {
                        (*call)->done = NULL;
                        (*call)->listed = NULL;
                }
}
