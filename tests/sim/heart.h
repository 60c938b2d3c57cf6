/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Heart: whole clusters in one process under virtual time, each node with the service's own code from its manager down
 * to where the outside begins. What stands outside is made here, and all that is random comes from the seed:
 *
 *      the service's own                         made here
 *      daemon/ (all but main)                    heart-files     its files, its bus, what udev tells, realtime
 *      core/, with mutants                       heart-net       adapters/peer/peer.h: connections, frames, beats
 *      store/ raft engine on libraft             sim-disk        log-file.h and writer.h
 *      libvirt/hypervisor.c                      heart-libvirt   worker.h and exchange.h: libvirt's daemon
 *      guard/guard-link.c                        heart-guard     a guard by the rules of guard-protocol.h, watchdog
 *                                                heart-qemu      what each VM's process truly does
 *                                                heart-bind      adapters/bind/bind-client.h: who has which GPU
 *                                                heart-host      power, clocks, processes
 *                                                heart-weather   what goes wrong
 *                                                heart-echo      words that come again, late
 *                                                heart-admin     what people ask for
 *                                                heart-judge     what must hold, by what is true
 */

#include <glib.h>

#include "adapters/bus/bus.h"
#include "adapters/libvirt/exchange.h"
#include "adapters/peer/peer.h"
#include "core/lease.h"
#include "core/mutant.h"
#include "core/names.h"
#include "daemon/conf.h"
#include "daemon/manager.h"
#include "daemon/peers-file.h"
#include "guard/guard-protocol.h"
#include "sim-disk.h"
#include "sim-fd.h"
#include "sim-loop.h"

#define HEART_HOSTS_MAX 9U
#define HEART_GPUS_MAX 8U               /* of a host */
#define HEART_VMS_MAX 64U
#define HEART_POOL "pool"

typedef struct Heart Heart;
typedef struct HeartHost HeartHost;
typedef struct Qemu Qemu;

/* ---- a VM's process */

struct Qemu {
        HeartHost *host;
        Qemu *next;                     /* of the host, the newest first; kept until the world ends */
        unsigned number;
        VmId vm;
        uint64_t epoch;
        bool paused;                    /* as libvirt started it: no vCPU runs before the resume */
        bool stopped;                   /* SIGSTOP */
        bool killed;                    /* SIGKILL was sent */
        bool halted;                    /* no vCPU runs any more, and none will */
        bool gone;                      /* the process is over */
        bool guest_off;                 /* it ended by itself, from inside */
        bool is_orphan;                 /* started for a gpupoold that was gone by then: it is found, and ended */
        bool runs;                      /* a vCPU does, at this moment; the judge's */
        bool in_window;                 /* ... in a way that is documented (design, 5.10) */
        uint64_t begun_us;              /* since then */
        unsigned gpus[HEART_GPUS_MAX];
        unsigned n_gpus;
        SimAlarm halt, end, wish;       /* the last: the guest ends it */
};

Qemu *qemu_new(HeartHost *host, const VmId *vm, uint64_t epoch, const unsigned *gpus, unsigned n_gpus);
void qemu_resume(Qemu *qemu);           /* libvirt lets its vCPUs run */
void qemu_stop(Qemu *qemu, bool stop);  /* SIGSTOP, SIGCONT */
void qemu_kill(Qemu *qemu);             /* SIGKILL */
void qemu_vanish_soon(Qemu *qemu);      /* its process is killed, and dies at once */
/* The guest powers off, or the process dies by itself. */
void qemu_end_soon(Qemu *qemu, bool guest, uint64_t in_us);
void qemu_vanish(Qemu *qemu);           /* with its host */
void qemu_look(Qemu *qemu);             /* its host's state changed */
void qemu_free_all(HeartHost *host);
Qemu *qemu_find(HeartHost *host, const VmId *vm, uint64_t epoch);       /* that is not gone */
int qemu_pidfd(Qemu *qemu, sd_event *loop);         /* of a process whose loop that is */

/* ---- the guard and the watchdog */

typedef struct GuardHeld {
        Qemu *qemu;
        VmId vm;
        uint64_t epoch;
        bool told;                      /* that it died */
} GuardHeld;

typedef struct GuardSocket GuardSocket;

typedef struct HeartGuard {
        HeartHost *host;
        sd_event *loop;                 /* NULL: it does not run */
        sd_event_source *timer;
        uint64_t instance;
        GuardStage stage;
        uint64_t until_us, hold_us;     /* as the last lease said; with what is held, on the board */
        uint64_t due_us, kill_us;       /* the next signal; from then on it is SIGKILL */
        ARRAY(GuardHeld) held;
        GuardSocket *sockets;           /* of its clients */
        uint64_t watchdog_us;           /* 0: there is no such device */
        uint64_t pat_us;                /* the next pat */
        SimAlarm bite;                  /* the device's, set anew by each pat */
        SimAlarm start;
        bool is_armed;
} HeartGuard;

void heart_guard_start(HeartGuard *guard);
void heart_guard_end(HeartGuard *guard);        /* killed, or with its host */
void heart_guard_freeze(HeartGuard *guard, uint64_t until_us);  /* the device counts on if it can */
void heart_guard_process_ended(HeartGuard *guard, Qemu *qemu);
bool heart_guard_holds(const HeartGuard *guard, const Qemu *qemu);
bool heart_guard_works(const HeartGuard *guard);


/* ---- libvirt's daemon */

typedef struct HeartDomain {
        VmId vm;
        ClusterId cluster;
        NodeId node;
        uint64_t epoch;
        char *name;
        Qemu *qemu;
        SimAlarm forget;                /* libvirt notices the end */
        struct HeartLibvirt *libvirt;
} HeartDomain;

typedef struct HeartLibvirt {
        HeartHost *host;
        bool up;
        uint64_t hung_until_us;
        ARRAY(HeartDomain *) domains;
        struct Worker *workers;
        unsigned fail_percent;          /* of starts */
        bool fails_once;                /* then all goes well, but that the host hears nothing of the history */
        uint64_t start_most_us;
        SimAlarm start;
} HeartLibvirt;

void heart_libvirt_start(HeartLibvirt *libvirt);
void heart_libvirt_end(HeartLibvirt *libvirt, bool with_host);
void heart_libvirt_process_ended(HeartLibvirt *libvirt, Qemu *qemu);
void heart_libvirt_clear(HeartLibvirt *libvirt);

/* ---- gpupool-bind */

typedef struct HeartGpu {
        bool on_vfio;
        VmId had_by;                    /* whose memory may still be in it */
        uint64_t had_epoch;             /* 0: nobody's */
} HeartGpu;

void heart_bind_end(HeartHost *host);
void heart_bind_resumed(const Qemu *qemu);

/* ---- a host */

struct HeartHost {
        Heart *heart;
        unsigned number;
        NodeId id;
        char name[8], directory[32], boot_id[40];
        uint8_t key[PEER_KEY_SIZE];
        bool exists;                    /* in this world, so far */
        bool removed;                   /* by an administrator */
        bool ruined;                    /* its disk is lost: it never comes back */
        bool witness;
        SimDisk *disk;
        bool has_id;                    /* its files */
        PeersFile *peers;
        bool fence_works;

        bool on;
        unsigned boots;
        uint64_t clock_begins_us;
        int drift_ppm;
        int64_t realtime_us;            /* what it is wrong by */
        uint64_t frozen_until_us;       /* the whole host stands still; its clocks go on */
        uint64_t thawed_us;
        uint64_t blind_until_us;        /* it stood still with all its clocks: the window that is documented */
        uint64_t trouble_until_us;      /* gpupoold or libvirt may be away */
        uint64_t guard_trouble_until_us;
        SimAlarm thaw, boot;

        sd_event *loop;                 /* gpupoold's; NULL: it does not run */
        Manager *manager;
        Conf conf;
        bool is_dying;                  /* it is being taken apart: nothing leaves it any more */
        unsigned lives;
        SimAlarm start, end;
        PeerNet *net;
        struct UdevWatch *udev;
        Bus *bus;

        HeartGuard guard;
        HeartLibvirt libvirt;
        Qemu *qemus;
        unsigned n_gpus;
        bool gpu_lost[HEART_GPUS_MAX];
        HeartGpu gpus[HEART_GPUS_MAX];
        struct BindProcess *binds;
};

void heart_host_init(HeartHost *host, Heart *heart, unsigned number);
void heart_host_clear(HeartHost *host);
/* Where it begins: a cluster of its own, or as one that the history has admitted. */
void heart_host_begin(HeartHost *host, bool admitted);
void heart_host_power_on(HeartHost *host);
/* At once, with all that runs on it. It boots again at @back_us of true time; UINT64_MAX: not by itself. */
void heart_host_power_off(HeartHost *host, uint64_t back_us);
void heart_host_freeze(HeartHost *host, uint64_t until_us, bool with_clocks);
bool heart_host_is_frozen(const HeartHost *host);
void heart_host_start_daemon(HeartHost *host);
/* kill -9. It comes back at @back_us. */
void heart_host_kill_daemon(HeartHost *host, uint64_t back_us);
void heart_host_stop_daemon(HeartHost *host);           /* systemctl restart */
bool heart_host_has_daemon(const HeartHost *host);      /* it runs, and its loop too */
uint64_t heart_host_clock(const HeartHost *host);
HeartHost *heart_host_by_id(Heart *heart, const NodeId *id);
const World *heart_host_world(const HeartHost *host);   /* as its bus shows it; NULL: it does not run */
/* On whose loop something happens; NULL: nobody's. */
HeartHost *heart_host_current(void);
int heart_host_submit(HeartHost *host, Entry *entry, SubmitCallback callback, void *userdata);
void heart_facts_changed(HeartHost *host);
void heart_files_clear(HeartHost *host);
const Service *heart_bus_service(const Bus *bus, void **ret_userdata);

/* ---- the network */

#define HEART_LINKS (HEART_HOSTS_MAX * HEART_HOSTS_MAX)

typedef struct HeartLetter HeartLetter;

typedef struct HeartWay {               /* one direction of a connection */
        struct HeartNetwork *network;
        unsigned from, to;
        HeartLetter *first, **last;
        unsigned n;
        uint64_t last_us;
        bool was_full[PEER_STREAM_COUNT];
        SimAlarm alarm;
} HeartWay;

typedef struct HeartLink {              /* between two hosts, the lower number first */
        bool up[2];                     /* was told so */
        uint64_t generation;
        SimAlarm dial;
} HeartLink;

typedef struct HeartNetwork {
        Heart *heart;
        bool cut[HEART_HOSTS_MAX][HEART_HOSTS_MAX];     /* from, to */
        uint64_t cut_us[HEART_HOSTS_MAX][HEART_HOSTS_MAX];      /* since then */
        HeartHost *late;                /* with the next answer about its lease it stops, and is cut off */
        uint64_t late_us;               /* for so long it stops */
        HeartHost *starved;             /* the queues of the history to it are full */
        HeartWay ways[HEART_HOSTS_MAX][HEART_HOSTS_MAX];
        HeartLink links[HEART_HOSTS_MAX][HEART_HOSTS_MAX];      /* [a][b], a < b */
        uint64_t least_us, most_us;
        unsigned loss_per_mille, twice_per_mille, swap_per_mille;
        uint64_t n_sent, n_lost;
} HeartNetwork;

void heart_network_init(HeartNetwork *network, Heart *heart);
void heart_network_clear(HeartNetwork *network);
void heart_network_cut(HeartNetwork *network, unsigned from, unsigned to);
void heart_network_cut_off(HeartNetwork *network, unsigned host);       /* both ways */
void heart_network_heal(HeartNetwork *network);
void heart_network_calm(HeartNetwork *network);
/* A process ended; whether in order. */
void heart_network_lost(HeartNetwork *network, HeartHost *host);
/* Every connection ends, with goodbyes that nobody hears. */
void heart_network_dial_all(HeartNetwork *network);

/* ---- the judge */

typedef struct HeartFact {              /* an entry of the history */
        uint8_t request[ID_SIZE];
        uint32_t kind;
        uint64_t time_ms;
        uint32_t verdict;
} HeartFact;

/* Something that an administrator was told is done. */
typedef struct HeartWord {
        RequestId request;
        uint64_t index;
} HeartWord;

typedef struct HeartVm {
        VmId id;
        char name[8];
        unsigned count;                 /* GPUs */
        Qemu *runs;                     /* the process whose vCPUs run */
        uint64_t fits_since_us;         /* since when it has or could have a place */
        uint64_t down_since_us;         /* its host failed then, and nothing else was wrong; 0: not so */
        HeartHost *failed;
        uint64_t started_us;
} HeartVm;

/* Where a campaign has been. */
typedef struct HeartVisits {
        uint64_t entries, starts, failovers, losses, returns, windows, crashes, conductor_moves, preemptions,
                lease_kills, holds;
        uint64_t watchdog_resets, guard_deaths, writes_done, writes_unknown, writes_refused, freezes, thaws, drains;
        uint64_t fences, confirmed, boots, rejoined, removed, elections, messages, lost_messages, calls_hung;
        uint64_t measured, measured_us, measured_most_us;       /* failovers with nothing else wrong: P4 */
} HeartVisits;

#define HEART_WORDS_KEPT 64U

typedef struct HeartJudge {
        Heart *heart;
        Registry *truth;
        ARRAY(HeartFact) facts;
        Entry *said[HEART_WORDS_KEPT];  /* what nodes and leaders wrote last, a ring; for heart-echo.c */
        unsigned n_said;
        ARRAY(HeartWord) words;
        HeartVm vms[HEART_VMS_MAX];
        unsigned n_vms;
        GHashTable *condemned;          /* index -> a loss by lease that is on its way there */
        bool stalls;                    /* with the next assignment that is on its way all disks hang */
        bool begins_anew;               /* ... with an end that the victim reports; gpupoold there is killed */
        bool blinks;                    /* ... with the victim's loss, and it is heard again */
        unsigned n_windows;             /* processes that run in one that is documented */
        HeartVisits visits;
} HeartJudge;

void heart_judge_init(HeartJudge *judge, Heart *heart);
void heart_judge_clear(HeartJudge *judge);
void heart_judge_qemu(HeartJudge *judge, Qemu *qemu);           /* whether it runs may have changed */
void heart_judge_new_qemu(HeartJudge *judge, Qemu *qemu);
void heart_judge_applied(HeartJudge *judge, HeartHost *host, uint64_t index, const Entry *entry, const Result *result);
void heart_judge_queued(HeartJudge *judge, const LogWrite *write);
void heart_judge_word(HeartJudge *judge, const RequestId *request);
/* By the history as it is now. */
bool heart_judge_is_assigned(const HeartJudge *judge, const VmId *id, uint64_t epoch, const HeartHost *host);
HeartVm *heart_judge_vm(HeartJudge *judge, const VmId *vm);
/* All is well since the time that P4 and P5 allow: true, or it is broken. */
void heart_judge_calm(HeartJudge *judge);
/* NULL: all that should run does. Otherwise what does not, in a sentence that is owned. */
char *heart_judge_missing(HeartJudge *judge);
void heart_judge_look(HeartJudge *judge);        /* after each step */
void heart_judge_end(HeartJudge *judge);
HeartHost *heart_judge_leader(HeartJudge *judge);               /* that leads and says so; NULL: none */
bool heart_judge_status(HeartJudge *judge, ClusterStatus *ret); /* as the leader shows it; false: nobody leads */
bool heart_judge_fits_elsewhere(HeartJudge *judge, const HeartVm *vm, const HeartHost *but);

/* ---- words that come again */

void heart_echo_note(HeartJudge *judge, const Entry *entry);    /* it was done */
void heart_echo_clear(HeartJudge *judge);
/* Some of them are written again, by whom it was; false: there is nobody to write them. */
bool heart_echo_again(Heart *heart);
/* A place on a node that is lost, for a VM that was there, as by somebody who has not read of the loss. */
bool heart_echo_old_view(Heart *heart, const HeartHost *lost);

/* ---- administrators */

typedef struct HeartAdmin {
        Heart *heart;
        SimAlarm next;
        uint64_t pause_us;
        bool is_calm;                   /* nobody wants anything */
        bool freezes, changes_members;  /* such things happen in this world */
        unsigned open;                  /* writes that wait for an answer */
        struct HeartWrite *writes;
} HeartAdmin;

void heart_admin_init(HeartAdmin *admin, Heart *heart);
void heart_admin_start(HeartAdmin *admin);
void heart_admin_clear(HeartAdmin *admin);
void heart_admin_calm(HeartAdmin *admin, bool calm);
void heart_admin_freeze(HeartAdmin *admin, uint64_t ms);        /* 0: it is thawed */
/* What was left open is closed: VMs are to run, nobody is drained, frozen or in quarantine. False: all of it is. */
bool heart_admin_tidy(HeartAdmin *admin);
/* A daemon that was asked is gone: nobody will answer. */
void heart_admin_daemon_gone(HeartAdmin *admin, HeartHost *host);
/* The cluster comes about: true when all is there that the world is to begin with. */
bool heart_admin_found(HeartAdmin *admin);

/* ---- the weather */

typedef enum HeartTrouble {
        TROUBLE_POWER,                  /* a host loses its power, and boots again */
        TROUBLE_POWER_TWO,
        TROUBLE_POWER_ALL,
        TROUBLE_DAEMON_KILL,
        TROUBLE_DAEMON_RESTART,         /* as an upgrade does */
        TROUBLE_DAEMON_STOP,            /* SIGSTOP of gpupoold alone */
        TROUBLE_GUARD_KILL,
        TROUBLE_GUARD_STOP,
        TROUBLE_FREEZE,                 /* the whole host stands still, its clocks do not */
        TROUBLE_PAUSE,                  /* with its clocks: what a hypervisor does to a virtual host */
        TROUBLE_SPLIT,
        TROUBLE_DEAF,
        TROUBLE_ONE_WAY,
        TROUBLE_LEADER_CUT,
        TROUBLE_DISK_ERROR,
        TROUBLE_DISK_FULL_ALL,
        TROUBLE_DISK_STALL,
        TROUBLE_DISK_STALL_ALL,         /* storage that all share */
        TROUBLE_DISK_LOST,              /* and the node, which comes again as another one */
        TROUBLE_LIBVIRT_KILL,
        TROUBLE_LIBVIRT_HANG,
        TROUBLE_LIBVIRT_FAILS,
        TROUBLE_QEMU_DIES,
        TROUBLE_GUEST_OFF,
        TROUBLE_GPU_LOST,
        TROUBLE_CLOCK_STEP,             /* of realtime */
        TROUBLE_ECHO,                   /* what was written is written again, late */
        TROUBLE_COUNT,
} HeartTrouble;

typedef struct HeartWeather {
        Heart *heart;
        unsigned weight[TROUBLE_COUNT];
        uint64_t count[TROUBLE_COUNT];
        uint64_t pause_us, rain_us;
        bool slow_deaths;               /* SIGKILL takes as long as the settings allow */
        unsigned stubborn_percent;      /* processes that are dead to their vCPUs and yet not over for long */
        uint64_t network_most_us;
        bool lossy;
        SimAlarm next, heal;
        bool is_sunny;
} HeartWeather;

extern const char *const heart_trouble_names[TROUBLE_COUNT];

void heart_weather_init(HeartWeather *weather, Heart *heart);
void heart_weather_start(HeartWeather *weather);
void heart_weather_clear(HeartWeather *weather);
/* All is mended; hosts that are off boot, but for @but. */
void heart_weather_end(HeartWeather *weather);

/* ---- one host fails */

void heart_failure_init(Heart *heart);
/* Sets heart->victim, if there is one whose failure the others can bear. */
void heart_failure_begin(Heart *heart);
bool heart_failure_look(Heart *heart);          /* true: it is over */
void heart_failure_end(Heart *heart);

/* ---- the world */

typedef struct HeartOptions {
        uint64_t seed;
        unsigned nodes, vms, gpus;      /* 0: drawn */
        uint64_t steps;
        bool fast;                      /* the fast profile; else drawn, or default */
        bool fast_is_set;
        unsigned told;
        int mutant;                     /* -1: none */
} HeartOptions;

/* How one host fails while nothing else is wrong. */
typedef enum HeartFailure {
        FAILURE_POWER,
        FAILURE_CUT,                    /* nobody hears it, and it hears nobody */
        FAILURE_WATCHED,                /* the same, and when its lease ends gpupoold and guard do not run */
        FAILURE_LATE,                   /* the same, and gpupoold stands still before it hears its last answer */
        FAILURE_FREEZE,                 /* up to here P4 is measured */
        FAILURE_PAUSE,                  /* with its clocks, and libvirt hangs when it goes on */
        FAILURE_BLINK,                  /* cut off until it is about to be lost, which is long in being committed */
        FAILURE_UNHEARD,                /* the leader stood still when it asked last */
        FAILURE_BEHIND,                 /* a start fails, and it hears late that this was noted */
        FAILURE_UNDECIDED,              /* its VMs die, and their new places are long in being committed */
        FAILURE_OLD_LEADER,             /* cut off together with a leader that stands still for a while */
        FAILURE_ANEW,                   /* gpupoold begins anew while the end of a start is on its way */
        FAILURE_UNGUARDED,              /* the guard stands still, and later gpupoold as well */
        FAILURE_NEXT_GUARD,             /* its guard is killed and gpupoold stopped: the next guard goes by the board */
        FAILURE_THAWED,                 /* cut off with a long lease, and then the cluster is thawed */
        FAILURE_COUNT,
} HeartFailure;

enum HeartScene {
        SCENE_FOUND,                    /* the cluster comes about */
        SCENE_STORM,
        SCENE_MEND,                     /* all is mended: P5 */
        SCENE_FAILURE,                  /* one host fails, and nothing else: P4 */
};

struct Heart {
        HeartOptions options;
        SimTime time;
        HeartNetwork network;
        HeartJudge judge;
        HeartAdmin admin;
        HeartWeather weather;
        HeartHost hosts[HEART_HOSTS_MAX];
        unsigned n_hosts;               /* that exist */
        unsigned n_founders;
        LeaseTimes times;
        uint64_t start_most_us;         /* a start takes libvirt so long, at most */
        uint64_t call_timeout_us;       /* a setting: a write that nobody decides is given up then */
        bool founded;
        SimAlarm scene;                 /* looks how far things are */
        enum HeartScene scene_kind;
        uint64_t scene_until_us, quiet_since_us;
        uint64_t n_mended;              /* how often all was well again */
        HeartHost *victim;              /* of the failure that is measured */
        HeartFailure failure;
        uint64_t failed_us;
        bool old_view_was;              /* it was used in this failure */
        SimAlarm stop;                  /* its processes are stopped */
        uint64_t failures[FAILURE_COUNT];
        uint64_t n_steps;
};

Heart *heart_new(const HeartOptions *options);
Heart *heart_free(Heart *heart);
DEFINE_CLEANUP(Heart *, heart_free);
/* So many steps, or until something is broken: heart->time.broken says what. */
void heart_run(Heart *heart);
/* The one that is alive in this process: what is called without any context goes there. */
extern Heart *heart_alive;

#define heart_say(heart, ...) sim_say(&(heart)->time, __VA_ARGS__)
