/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guard by the rules of service/guard/guard-protocol.h, and the watchdog device beside it. What it holds and its
 * deadline stand on a board, which ends with the host only. The socket's calls, which the real guard-link.c makes, end
 * here. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "heart.h"

#define PACKET_MOST_US 200U             /* on its way through the socket */
#define AGAIN_US (100 * MS)             /* SIGKILL is sent again */
#define RESTART_LEAST_US (15 * MS)      /* systemd brings it back */
#define RESTART_MOST_US (150 * MS)
#define BOOT_LEAST_US (2 * SECOND)      /* of a host that the watchdog has reset */
#define BOOT_MOST_US (8 * SECOND)

typedef struct Packet {
        GuardMessage message;
        Qemu *qemu;                     /* whose pidfd goes along; NULL: none */
        uint64_t at_us;
} Packet;

struct GuardSocket {
        HeartGuard *guard;              /* NULL: that end is closed */
        GuardSocket *next;
        HeartHost *host;
        sd_event *owner;                /* gpupoold's loop */
        int fd;                         /* of gpupoold's end; -1: closed */
        GQueue to_guard, to_daemon;
        SimAlarm knock, deliver;
};

static uint64_t now_us(const HeartGuard *guard) {
        return sim_loop_clock(guard->loop);
}

static SimTime *time_of(const HeartGuard *guard) {
        return &guard->host->heart->time;
}

bool heart_guard_works(const HeartGuard *guard) {
        return guard->loop && sim_loop_free_at(guard->loop) <= time_of(guard)->now_us;
}

bool heart_guard_holds(const HeartGuard *guard, const Qemu *qemu) {
        if (!guard->loop)
                return false;
        ARRAY_EACH(held, &guard->held)
                if (held->qemu == qemu)
                        return true;
        return false;
}

/* ---- packets out */

static bool has_packet(void *thing) {
        const GuardSocket *socket = thing;
        const Packet *packet = g_queue_peek_head((GQueue *) &socket->to_daemon);
        return (packet && packet->at_us <= socket->host->heart->time.now_us) || (!packet && !socket->guard);
}

static void on_deliver(void *userdata) {
        GuardSocket *socket = userdata;
        const Packet *packet = g_queue_peek_head(&socket->to_daemon);
        if (packet && packet->at_us > socket->host->heart->time.now_us)
                sim_alarm_set(&socket->host->heart->time, &socket->deliver, packet->at_us);
        else
                sim_fd_wake(socket);
}

static void say(GuardSocket *socket, const GuardMessage *message, Qemu *qemu) {
        HeartGuard *guard = socket->guard;
        SimTime *time = time_of(guard);
        Packet *packet = g_new0(Packet, 1);
        *packet = (Packet) { .message = *message, .qemu = qemu,
                             .at_us = time->now_us + sim_between(time, 5, PACKET_MOST_US) };
        packet->message.version = GUARD_VERSION;
        packet->message.instance = guard->instance;
        packet->message.until_us = guard->until_us;
        packet->message.hold_us = guard->hold_us;
        packet->message.watchdog_us = guard->is_armed ? guard->watchdog_us : 0;
        packet->message.stage = guard->stage;
        g_queue_push_tail(&socket->to_daemon, packet);
        if (socket->deliver.place == 0)
                sim_alarm_set(time, &socket->deliver, packet->at_us);
}

static void say_to_all(HeartGuard *guard, const GuardMessage *message) {
        for (GuardSocket *socket = guard->sockets; socket; socket = socket->next)
                if (socket->guard)
                        say(socket, message, NULL);
}

/* ---- the deadline */

static bool is_dead(const GuardHeld *held) {
        return held->qemu->gone;
}

static bool anything_lives(const HeartGuard *guard) {
        ARRAY_EACH(held, &guard->held)
                if (!is_dead(held))
                        return true;
        return false;
}

static void tell_deaths(HeartGuard *guard) {
        ARRAY_EACH(held, &guard->held) {
                if (!is_dead(held) || held->told)
                        continue;
                held->told = true;
                GuardMessage died = { .type = GUARD_DIED, .epoch = held->epoch };
                memcpy(died.vm, held->vm.bytes, sizeof(died.vm));
                say_to_all(guard, &died);
        }
}

static void signal_living(HeartGuard *guard, bool kills) {
        ARRAY_EACH(held, &guard->held) {
                if (is_dead(held))
                        continue;
                if (kills)
                        qemu_kill(held->qemu);
                else
                        qemu_stop(held->qemu, true);
        }
}

/* Before all else: who slept past the deadline ends VMs first. */
static void keep_deadline(HeartGuard *guard) {
        HeartVisits *visits = &guard->host->heart->judge.visits;
        uint64_t now = now_us(guard);
        if (now < guard->due_us || (MUTANT(GUARD_SLEEPS) && guard->until_us != GUARD_AT_ONCE))
                return;
        GuardStage before = guard->stage;
        bool kills = before == GUARD_STAGE_KILLING || now >= guard->kill_us;
        guard->stage = kills ? GUARD_STAGE_KILLING : GUARD_STAGE_STOPPED;
        if (guard->stage != before && anything_lives(guard)) {
                heart_say(guard->host->heart, "%s: the lease has ended, VMs are %s", guard->host->name,
                          kills ? "killed" : "stopped");
                visits->lease_kills += kills;
                visits->holds += !kills;
        }
        signal_living(guard, kills);
        guard->due_us = !kills && guard->kill_us - now < AGAIN_US ? guard->kill_us : now + AGAIN_US;
}

static void conclude(HeartGuard *guard) {
        if ((guard->stage != GUARD_STAGE_KILLING && guard->stage != GUARD_STAGE_STOPPED) || anything_lives(guard))
                return;
        guard->stage = GUARD_STAGE_ENDED;
        guard->due_us = UINT64_MAX;
        guard->kill_us = 0;             /* what is held from now on is killed, without a hold */
        say_to_all(guard, &(GuardMessage) { .type = GUARD_ENDED });
}

static void pat_and_arm(HeartGuard *guard) {
        uint64_t now = now_us(guard), at_us = guard->due_us;
        if (guard->is_armed && now < guard->due_us && guard->stage != GUARD_STAGE_KILLING) {
                if (now >= guard->pat_us) {
                        sim_alarm_set(time_of(guard), &guard->bite, time_of(guard)->now_us + guard->watchdog_us);
                        guard->pat_us = now + guard->watchdog_us / 4;
                }
                at_us = guard->pat_us < at_us ? guard->pat_us : at_us;
        }
        if (MUTANT(GUARD_SLEEPS) && at_us <= now)
                at_us = now + AGAIN_US;
        (void) sd_event_source_set_time(guard->timer, at_us);
        (void) sd_event_source_set_enabled(guard->timer, SD_EVENT_ONESHOT);
}

static void look(HeartGuard *guard) {
        keep_deadline(guard);
        tell_deaths(guard);
        conclude(guard);
        pat_and_arm(guard);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        look(userdata);
        return 0;
}

/* ---- what it is asked */

static GuardHeld *find_vm(HeartGuard *guard, const uint8_t vm[16]) {
        ARRAY_EACH(held, &guard->held)
                if (memcmp(held->vm.bytes, vm, ID_SIZE) == 0)
                        return held;
        return NULL;
}

static GuardAnswer hold(HeartGuard *guard, const Packet *request) {
        GuardHeld *held = find_vm(guard, request->message.vm);
        if (!request->qemu)
                return GUARD_BAD_REQUEST;
        if (request->qemu->gone)
                return GUARD_ALREADY_DEAD;
        if (held && held->epoch > request->message.epoch)
                return GUARD_STALE;
        if (held && !is_dead(held) && held->qemu != request->qemu)
                return GUARD_CONFLICT;
        GuardHeld fresh = { .qemu = request->qemu, .epoch = request->message.epoch };
        memcpy(fresh.vm.bytes, request->message.vm, ID_SIZE);
        if (held)
                *held = fresh;
        else
                g_assert_cmpint(array_append(&guard->held, &fresh), ==, 0);
        if (guard->stage == GUARD_STAGE_RUNNING)
                return GUARD_OK;
        /* It fares as what is held. */
        guard->due_us = 0;
        keep_deadline(guard);
        return guard->stage == GUARD_STAGE_STOPPED ? GUARD_OK : GUARD_LEASE_ENDED;
}

static GuardAnswer kill_one(HeartGuard *guard, const GuardMessage *request) {
        GuardHeld *held = find_vm(guard, request->vm);
        if (!held || held->epoch != request->epoch)
                return GUARD_NOT_HELD;
        if (is_dead(held))
                return GUARD_ALREADY_DEAD;
        qemu_kill(held->qemu);
        return GUARD_OK;
}

static GuardAnswer release(HeartGuard *guard, const GuardMessage *request) {
        GuardHeld *held = find_vm(guard, request->vm);
        if (!held || held->epoch != request->epoch)
                return GUARD_NOT_HELD;
        if (!is_dead(held))
                return GUARD_ALIVE;
        array_remove(&guard->held, (size_t) (held - guard->held.items));
        return GUARD_OK;
}

static GuardAnswer take_lease(HeartGuard *guard, uint64_t until_us, uint64_t hold_us) {
        if (guard->stage == GUARD_STAGE_KILLING)
                return GUARD_LEASE_ENDED;
        guard->stage = GUARD_STAGE_RUNNING;
        guard->until_us = until_us;
        guard->hold_us = hold_us;
        guard->due_us = guard->until_us > 0 ? guard->until_us : UINT64_MAX;
        if (__builtin_add_overflow(guard->due_us, guard->until_us == GUARD_AT_ONCE ? 0 : guard->hold_us,
                                   &guard->kill_us))
                guard->kill_us = UINT64_MAX;
        keep_deadline(guard);
        if (guard->stage != GUARD_STAGE_RUNNING)
                return GUARD_OK;
        ARRAY_EACH(held, &guard->held)
                if (!is_dead(held) && held->qemu->stopped)
                        qemu_stop(held->qemu, false);
        return GUARD_OK;
}

static void serve(GuardSocket *socket, const Packet *packet) {
        HeartGuard *guard = socket->guard;
        const GuardMessage *request = &packet->message;
        GuardMessage reply = { .type = GUARD_ANSWER, .cookie = request->cookie, .epoch = request->epoch };
        Qemu *along = NULL;
        memcpy(reply.vm, request->vm, sizeof(reply.vm));
        keep_deadline(guard);
        switch (request->type) {
        case GUARD_HOLD:
                reply.answer = hold(guard, packet);
                break;
        case GUARD_KILL:
                reply.answer = kill_one(guard, request);
                break;
        case GUARD_RELEASE:
                reply.answer = release(guard, request);
                break;
        case GUARD_LEASE:
                reply.answer = take_lease(guard, request->until_us, request->hold_us);
                break;
        case GUARD_LIST:
                reply.answer = GUARD_END;
                if (request->index >= guard->held.n)
                        break;
                const GuardHeld *held = guard->held.items + request->index;
                reply.type = GUARD_ENTRY;
                reply.answer = 0;
                reply.index = request->index;
                reply.epoch = held->epoch;
                reply.alive = !is_dead(held);
                memcpy(reply.vm, held->vm.bytes, sizeof(reply.vm));
                along = held->qemu;
                break;
        default:
                reply.answer = GUARD_BAD_REQUEST;
                break;
        }
        say(socket, &reply, along);
        look(guard);
}

static void on_knock(void *userdata) {
        GuardSocket *socket = userdata;
        if (!socket->guard || !sim_loop_may_run(socket->guard->loop, &socket->knock))
                return;
        Packet *packet = g_queue_pop_head(&socket->to_guard);
        if (!packet)
                return;
        SimTurn turn = sim_loop_begin(socket->guard->loop);
        serve(socket, packet);
        sim_loop_end(turn);
        g_free(packet);
        if (!g_queue_is_empty(&socket->to_guard))
                sim_alarm_set(&socket->host->heart->time, &socket->knock, socket->host->heart->time.now_us + 5);
}

/* One that stands still notices when it goes on. */
void heart_guard_process_ended(HeartGuard *guard, Qemu *qemu) {
        if (!guard->loop || !heart_guard_holds(guard, qemu))
                return;
        (void) sd_event_source_set_time(guard->timer, 0);
        (void) sd_event_source_set_enabled(guard->timer, SD_EVENT_ONESHOT);
}

/* ---- the socket, as guard-link.c sees it */

static void free_packets(GQueue *packets) {
        for (Packet *packet; (packet = g_queue_pop_head(packets));)
                g_free(packet);
}

static void socket_free(GuardSocket *socket) {
        SimTime *time = &socket->host->heart->time;
        sim_alarm_unset(time, &socket->knock);
        sim_alarm_unset(time, &socket->deliver);
        free_packets(&socket->to_guard);
        free_packets(&socket->to_daemon);
        for (GuardSocket **at = &socket->host->guard.sockets; *at; at = &(*at)->next)
                if (*at == socket) {
                        *at = socket->next;
                        break;
                }
        g_free(socket);
}

static void on_closed(void *thing) {
        socket_free(thing);
}

int sim_socket(int domain, int type, int protocol);
int sim_connect(int fd, const struct sockaddr *address, socklen_t size);
ssize_t sim_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t sim_recvmsg(int fd, struct msghdr *message, int flags);
int sim_close(int fd);

int sim_socket(int domain, int type, int protocol) {
        HeartHost *host = heart_host_current();
        GuardSocket *socket = g_new0(GuardSocket, 1);
        *socket = (GuardSocket) { .host = host, .owner = host->loop, .next = host->guard.sockets,
                                  .knock = { .ring = on_knock, .userdata = socket },
                                  .deliver = { .ring = on_deliver, .userdata = socket } };
        g_queue_init(&socket->to_guard);
        g_queue_init(&socket->to_daemon);
        host->guard.sockets = socket;
        socket->fd = sim_fd_new(&(SimFd) { .kind = SIM_FD_SOCKET, .owner = host->loop, .thing = socket,
                                           .is_ready = has_packet, .closed = on_closed });
        return socket->fd;
}

static GuardSocket *socket_of(int fd) {
        SimFd *known = sim_fd_find(fd);
        g_assert_true(known && known->kind == SIM_FD_SOCKET);
        return known->thing;
}

int sim_connect(int fd, const struct sockaddr *address, socklen_t size) {
        GuardSocket *socket = socket_of(fd);
        if (!socket->host->guard.loop) {
                errno = ECONNREFUSED;
                return -1;
        }
        socket->guard = &socket->host->guard;
        return 0;
}

ssize_t sim_sendmsg(int fd, const struct msghdr *message, int flags) {
        GuardSocket *socket = socket_of(fd);
        SimTime *time = &socket->host->heart->time;
        if (!socket->guard) {
                errno = EPIPE;
                return -1;
        }
        Packet *packet = g_new0(Packet, 1);
        g_assert_cmpuint(message->msg_iov[0].iov_len, ==, sizeof(packet->message));
        memcpy(&packet->message, message->msg_iov[0].iov_base, sizeof(packet->message));
        const struct cmsghdr *control = CMSG_FIRSTHDR(message);
        if (control) {
                int passed;
                memcpy(&passed, CMSG_DATA(control), sizeof(passed));
                const SimFd *known = sim_fd_find(passed);
                g_assert_true(known && known->kind == SIM_FD_PROCESS);
                packet->qemu = known->thing;
        }
        g_queue_push_tail(&socket->to_guard, packet);
        if (socket->knock.place == 0)
                sim_alarm_set(time, &socket->knock, time->now_us + sim_between(time, 5, PACKET_MOST_US));
        return sizeof(packet->message);
}

ssize_t sim_recvmsg(int fd, struct msghdr *message, int flags) {
        GuardSocket *socket = socket_of(fd);
        SimTime *time = &socket->host->heart->time;
        Packet *packet = g_queue_peek_head(&socket->to_daemon);
        message->msg_controllen = 0;
        message->msg_flags = 0;
        if (!packet && !socket->guard)
                return 0;
        if (!packet || packet->at_us > time->now_us) {
                errno = EAGAIN;
                return -1;
        }
        (void) g_queue_pop_head(&socket->to_daemon);
        memcpy(message->msg_iov[0].iov_base, &packet->message, sizeof(packet->message));
        if (packet->qemu) {
                struct cmsghdr *control = message->msg_control;
                int passed = qemu_pidfd(packet->qemu, socket->owner);
                message->msg_controllen = CMSG_SPACE(sizeof(int));
                control->cmsg_level = SOL_SOCKET;
                control->cmsg_type = SCM_RIGHTS;
                control->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(control), &passed, sizeof(passed));
        }
        g_free(packet);
        const Packet *next = g_queue_peek_head(&socket->to_daemon);
        if (next)
                sim_alarm_set(time, &socket->deliver, next->at_us);
        return sizeof(GuardMessage);
}

int sim_close(int fd) {
        if (!sim_fd_find(fd)) {
                errno = EBADF;
                return -1;
        }
        sim_fd_close(fd);
        return 0;
}

/* ---- birth and death */

static void on_bite(void *userdata) {
        HeartGuard *guard = userdata;
        HeartHost *host = guard->host;
        SimTime *time = time_of(guard);
        heart_say(host->heart, "%s: the watchdog resets the host", host->name);
        host->heart->judge.visits.watchdog_resets++;
        heart_host_power_off(host, time->now_us + sim_between(time, BOOT_LEAST_US, BOOT_MOST_US));
}

static void on_start(void *userdata) {
        HeartGuard *guard = userdata;
        if (heart_host_is_frozen(guard->host))
                sim_alarm_set(time_of(guard), &guard->start, guard->host->frozen_until_us + MS);
        else if (guard->host->on && !guard->loop)
                heart_guard_start(guard);
}

/* Goes on by the board. Who died in between it does not know. */
static void take_over(HeartGuard *guard) {
        if (MUTANT(GUARD_FORGETS)) {
                array_clear(&guard->held);
                guard->until_us = guard->hold_us = 0;
        }
        for (size_t i = guard->held.n; i > 0; i--) {
                guard->held.items[i - 1].told = false;
                if (is_dead(guard->held.items + i - 1))
                        array_remove(&guard->held, i - 1);
        }
        (void) take_lease(guard, guard->until_us, guard->hold_us);
}

void heart_guard_start(HeartGuard *guard) {
        HeartHost *host = guard->host;
        SimTime *time = time_of(guard);
        guard->loop = sim_loop_new(time, host->clock_begins_us, host->drift_ppm);
        if (heart_host_is_frozen(host))
                sim_loop_hold(guard->loop, host->frozen_until_us);
        guard->instance = now_us(guard);
        guard->stage = GUARD_STAGE_RUNNING;
        guard->pat_us = 0;
        guard->due_us = guard->kill_us = UINT64_MAX;
        guard->bite = (SimAlarm) { .ring = on_bite, .userdata = guard, .place = guard->bite.place,
                                   .at_us = guard->bite.at_us, .order = guard->bite.order };
        guard->start = (SimAlarm) { .ring = on_start, .userdata = guard };
        guard->is_armed = guard->watchdog_us > 0;
        (void) sd_event_add_time(guard->loop, &guard->timer, CLOCK_BOOTTIME, UINT64_MAX, 0, on_timer, guard);
        take_over(guard);
        look(guard);
}

void heart_guard_end(HeartGuard *guard) {
        HeartHost *host = guard->host;
        SimTime *time = time_of(guard);
        sim_alarm_unset(time, &guard->start);
        if (!host->on) {
                sim_alarm_unset(time, &guard->bite);
                array_clear(&guard->held);
                guard->until_us = guard->hold_us = 0;
        }
        if (!guard->loop)
                return;
        for (GuardSocket *socket = guard->sockets; socket; socket = socket->next) {
                socket->guard = NULL;
                sim_alarm_unset(time, &socket->knock);
                free_packets(&socket->to_guard);
                sim_fd_wake(socket);
        }
        guard->timer = sd_event_source_disable_unref(guard->timer);
        guard->loop = sd_event_unref(guard->loop);
        if (host->on)
                sim_alarm_set(time, &guard->start, time->now_us + sim_between(time, RESTART_LEAST_US, RESTART_MOST_US));
}

void heart_guard_freeze(HeartGuard *guard, uint64_t until_us) {
        if (guard->loop)
                sim_loop_hold(guard->loop, until_us);
}
