/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/fence/fence-agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "adapters/fence/fence-words.h"

#define TIMER_ACCURACY_US 1000U
/* Whoever talks without end costs the loop no more than this, and comes after everything else. */
#define READ_BYTES 65536U
#define READS_PER_INTERVAL 20U
#define READ_INTERVAL_US 100000U
#define READ_PRIORITY SD_EVENT_PRIORITY_IDLE
#define LAST_READS 16U                  /* a pipe is at most 1 MiB deep */

/* One of its two voices. */
typedef struct Voice {
        int fd;
        sd_event_source *source;
        FenceLine line;
} Voice;

/* The process, which outlives its agent's death sentence until it is reaped. */
typedef struct Process {
        pid_t pid;                      /* of its group, too; not reaped yet, so it is nobody else's */
        int pidfd;
        FenceAgent *agent;              /* NULL: nobody waits for it any more */
        sd_event_source *source;
} Process;

struct FenceAgent {
        Process *process;               /* NULL: could not be started */
        Voice out, err;
        sd_event_source *deadline;
        uint64_t timeout_us;
        TextList secrets;
        FenceCallback callback;
        void *userdata;
};

/* ---- the process */

/* How it ended, if it has. It keeps its number until it is reaped. */
static bool has_ended(const Process *process, siginfo_t *ret) {
        siginfo_t info = {};
        if (waitid(P_PIDFD, (id_t) process->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                return false;
        *ret = info;
        return true;
}

/* Its whole group: what it started is of no use without it. */
static void kill_group(const Process *process) {
        (void) kill(-process->pid, SIGKILL);
}

static void process_free(Process *process) {
        siginfo_t info;
        (void) waitid(P_PIDFD, (id_t) process->pidfd, &info, WEXITED | WNOHANG);
        sd_event_source_disable_unref(process->source);
        (void) close(process->pidfd);
        free(process);
}

/* The loop goes before the process did. */
static void on_loop_gone(void *userdata) {
        Process *process = userdata;
        process->source = NULL;
        process_free(process);
}

/* Leaves it to the loop: it may hang in the kernel, and is reaped whenever it dies. */
static void process_float(Process *process) {
        if (sd_event_source_set_destroy_callback(process->source, on_loop_gone) < 0 ||
            sd_event_source_set_floating(process->source, true) < 0)
                return;                 /* cannot be */
        process->source = sd_event_source_unref(process->source);
}

static void process_unfloat(Process *process, sd_event_source *source) {
        process->source = sd_event_source_ref(source);
        (void) sd_event_source_set_destroy_callback(source, NULL);
        (void) sd_event_source_set_floating(source, false);
}

static void process_end(Process *process) {
        siginfo_t info;
        process->agent = NULL;
        kill_group(process);
        if (!process->source || has_ended(process, &info))
                process_free(process);
        else
                process_float(process);
}

/* ---- what it says */

/* False: nothing more for now, or ever. */
static bool listen_once(Voice *voice, bool *ret_closed) {
        char bytes[READ_BYTES];
        ssize_t n = read(voice->fd, bytes, sizeof(bytes));
        *ret_closed = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
        if (n > 0)
                fence_line_feed(&voice->line, bytes, (size_t) n);
        return n > 0;
}

static int on_voice(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Voice *voice = userdata;
        bool closed;
        if (!listen_once(voice, &closed) && closed)
                voice->source = sd_event_source_disable_unref(voice->source);
        return 0;
}

/* What is in the pipe when it has ended; a child of its own may hold the other end still. */
static const char *last_words(Voice *voice) {
        bool closed = false;
        for (unsigned i = 0; i < LAST_READS && listen_once(voice, &closed); i++)
                ;
        return fence_line_end(&voice->line);
}

/* ---- how it ends */

static int describe(FenceAgent *agent, const siginfo_t *info, char **ret) {
        const char *said = last_words(&agent->err);
        if (text_is_empty(said))
                said = last_words(&agent->out);
        _cleanup_free_ char *shown = NULL;
        int r = fence_words_hide(&agent->secrets, said, &shown);
        if (r < 0)
                return r;
        const char *colon = text_is_empty(shown) ? "" : ": ";
        if (!info)
                return text_printf(ret, "it did not end within %g s%s%s", (double) agent->timeout_us / 1e6, colon,
                                   shown);
        if (info->si_code == CLD_EXITED)
                return text_printf(ret, "it ended with status %i%s%s", info->si_status, colon, shown);
        return text_printf(ret, "it was killed by signal %i%s%s", info->si_status, colon, shown);
}

static void finish(FenceAgent *agent, FenceEnd end, const siginfo_t *info) {
        FenceCallback callback = agent->callback;
        void *userdata = agent->userdata;
        _cleanup_free_ char *sentence = NULL;
        if (end != FENCE_DONE)
                (void) describe(agent, info, &sentence);
        fence_agent_free(agent);
        callback(end, end == FENCE_DONE ? NULL : sentence ? sentence : "memory is out", userdata);
}

static void end_by_itself(FenceAgent *agent, const siginfo_t *info) {
        bool done = info->si_code == CLD_EXITED && info->si_status == 0;
        finish(agent, done ? FENCE_DONE : FENCE_FAILED, info);
}

static int on_exit_seen(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Process *process = userdata;
        siginfo_t info;
        if (!has_ended(process, &info))
                return 0;
        if (process->agent) {
                end_by_itself(process->agent, &info);
                return 0;
        }
        process_unfloat(process, source);
        process_free(process);
        return 0;
}

/* This loop may have stood still for longer than the agent did. */
static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        FenceAgent *agent = userdata;
        siginfo_t info;
        if (has_ended(agent->process, &info))
                end_by_itself(agent, &info);
        else
                finish(agent, FENCE_TIMED_OUT, NULL);
        return 0;
}

static void voice_clear(Voice *voice) {
        sd_event_source_disable_unref(voice->source);
        closep(&voice->fd);
}

FenceAgent *fence_agent_free(FenceAgent *agent) {
        if (!agent)
                return NULL;
        if (agent->process)
                process_end(agent->process);
        voice_clear(&agent->out);
        voice_clear(&agent->err);
        sd_event_source_disable_unref(agent->deadline);
        text_list_clear(&agent->secrets);
        free(agent);
        return NULL;
}

/* ---- how it begins */

/* Nobody writes to it any more, so it ends where it should; and it never stands on a disk. */
static int open_input(const FenceOrder *order, int *ret) {
        _cleanup_free_ char *text = NULL;
        int r = fence_words_write(order, &text);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = memfd_create("fence-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t n = strlen(text);
        if (fd < 0)
                return -errno;
        if (write(fd, text, n) != (ssize_t) n || lseek(fd, 0, SEEK_SET) < 0)
                return -EIO;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        explicit_bzero(text, n);
        *ret = steal_fd(&fd);
        return 0;
}

static int set_attributes(posix_spawnattr_t *attributes) {
        sigset_t none, all;
        (void) sigemptyset(&none);
        (void) sigfillset(&all);
        int r = posix_spawnattr_setflags(attributes,
                                         POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (r == 0)
                r = posix_spawnattr_setpgroup(attributes, 0);
        if (r == 0)
                r = posix_spawnattr_setsigmask(attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attributes, &all);
        return -r;
}

static int set_actions(posix_spawn_file_actions_t *actions, const int fds[static 3]) {
        int r = posix_spawn_file_actions_addchdir_np(actions, "/");
        for (int i = 0; r == 0 && i < 3; i++)
                r = posix_spawn_file_actions_adddup2(actions, fds[i], i);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(actions, 3);
        return -r;
}

static int spawn_with(const char *path, const char *name, const int fds[static 3], posix_spawnattr_t *attributes,
                      posix_spawn_file_actions_t *actions, pid_t *ret) {
        char *arguments[] = { (char *) name, NULL };
        /* Nothing of the service's own: not its notification socket, not its credentials. */
        char *environment[] = { (char *) "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                (char *) "LC_ALL=C.UTF-8", NULL };
        int r = set_attributes(attributes);
        if (r >= 0)
                r = set_actions(actions, fds);
        return r < 0 ? r : -posix_spawn(ret, path, actions, attributes, arguments, environment);
}

static int spawn(const char *path, const char *name, const int fds[static 3], pid_t *ret) {
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_t actions;
        if (posix_spawnattr_init(&attributes) != 0)
                return -ENOMEM;
        if (posix_spawn_file_actions_init(&actions) != 0) {
                (void) posix_spawnattr_destroy(&attributes);
                return -ENOMEM;
        }
        int r = spawn_with(path, name, fds, &attributes, &actions, ret);
        (void) posix_spawn_file_actions_destroy(&actions);
        (void) posix_spawnattr_destroy(&attributes);
        return r;
}

static int process_new(Process **ret, const char *path, const char *name, const int fds[static 3]) {
        _cleanup_free_ Process *process = calloc(1, sizeof(Process));
        if (!process)
                return -ENOMEM;
        int r = spawn(path, name, fds, &process->pid);
        if (r < 0)
                return r;
        process->pidfd = pidfd_open(process->pid, 0);
        if (process->pidfd < 0) {
                r = -errno;
                kill_group(process);
                (void) waitpid(process->pid, NULL, 0);
                return r;
        }
        *ret = STEAL(process);
        return 0;
}

static int open_voice(Voice *voice, int *ret_other_end) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        voice->fd = fds[0];
        *ret_other_end = fds[1];
        return fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int watch_voice(Voice *voice, sd_event *event) {
        int r = sd_event_add_io(event, &voice->source, voice->fd, EPOLLIN, on_voice, voice);
        if (r >= 0)
                r = sd_event_source_set_priority(voice->source, READ_PRIORITY);
        if (r >= 0)
                r = sd_event_source_set_ratelimit(voice->source, READ_INTERVAL_US, READS_PER_INTERVAL);
        return r;
}

static int begin(FenceAgent *agent, const FenceOrder *order) {
        _cleanup_close_ int in = -1, out = -1, err = -1;
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/%s", order->directory, order->agent);
        if (r >= 0)
                r = fence_words_secrets(order, &agent->secrets);
        if (r >= 0)
                r = open_input(order, &in);
        if (r >= 0)
                r = open_voice(&agent->out, &out);
        if (r >= 0)
                r = open_voice(&agent->err, &err);
        if (r >= 0)
                r = process_new(&agent->process, path, order->agent, (const int[]) { in, out, err });
        if (r >= 0)
                agent->process->agent = agent;
        return r;
}

static int watch(FenceAgent *agent, sd_event *event) {
        int r = sd_event_add_io(event, &agent->process->source, agent->process->pidfd, EPOLLIN, on_exit_seen,
                                agent->process);
        if (r >= 0)
                r = watch_voice(&agent->out, event);
        if (r >= 0)
                r = watch_voice(&agent->err, event);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &agent->deadline, CLOCK_BOOTTIME, agent->timeout_us,
                                               TIMER_ACCURACY_US, on_deadline, agent);
        return r;
}

int fence_agent_start(FenceAgent **ret, sd_event *event, const FenceOrder *order, FenceCallback callback,
                      void *userdata) {
        if (text_is_empty(order->agent) || strchr(order->agent, '/'))
                return -EINVAL;
        _cleanup_(fence_agent_freep) FenceAgent *agent = calloc(1, sizeof(FenceAgent));
        if (!agent)
                return -ENOMEM;
        *agent = (FenceAgent) { .out.fd = -1, .err.fd = -1, .timeout_us = order->timeout_us, .callback = callback,
                                .userdata = userdata };
        int r = begin(agent, order);
        if (r >= 0)
                r = watch(agent, event);
        if (r < 0)
                return r;
        *ret = STEAL(agent);
        return 0;
}
