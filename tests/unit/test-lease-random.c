/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Hosts, guards and a chain of leaders in true time, which only the judge knows: every host has a clock of its own that
 * runs as fast or as slow as it may. Answers are lost, late, doubled and overtake each other; leaders are deposed and
 * do not know it; entries are committed late, or by a successor; hosts are restarted, booted, cut off, stopped and
 * switched off; the cluster is frozen and thawed; a pair gets and loses its witness; settings change. The registry is
 * the real one.
 *
 * What must hold: no VM runs in an incarnation that is over by the history, and no leader that may decide it finds a
 * node dead that is not. In the end, when nothing is disturbed any more, everybody has a lease.
 *
 *     SEED=17 test-lease-random       one history; with STORY=1 it is told; SEEDS=1000: so many, from the first */

#include <signal.h>
#include <stdio.h>

#include "chronicle.h"
#include "core/lease-book.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define HOSTS_MAX 5U
#define SEEDS 40U
#define TICKS 12000U
#define QUIET_US (120 * SECOND)
#define BASE (UINT64_C(1000) * SECOND)  /* of clocks, as hosts have run for a while */

typedef enum CommandKind {
        COMMAND_LOSE,
        COMMAND_ANNOUNCE,
        COMMAND_FREEZE,
        COMMAND_THAW,
        COMMAND_REPORT_THAWED,
} CommandKind;

/* An entry on its way. */
typedef struct Command {
        CommandKind kind;
        unsigned host;
        uint64_t incarnation, freezes, duration_ms;
        LossEvidence evidence;
        unsigned boot;
        uint32_t lease_ms, death_ms;
        uint64_t due;
        uint64_t term;                  /* decided by the leader of this term; 0: said by a node */
        bool inherited;                 /* its successor has it in its log */
} Command;

/* A request or an answer on its way. */
typedef struct Letter {
        uint64_t due;
        unsigned to, from;
        unsigned life;                  /* of the process that is to have it */
        bool answer;
        uint64_t sequence, incarnation;
        LeaseGrant grant;
} Letter;

typedef struct Wait {
        unsigned from, life;
        uint64_t sequence, incarnation, arrived_us;
} Wait;

typedef struct Host {
        /* the machine */
        double rate;
        uint64_t offset, booted;
        uint64_t kill_us;               /* that its guard takes at most */
        unsigned boot;
        bool on;
        uint64_t off_until;
        uint64_t cut_until;
        /* the guard and the VM */
        uint64_t guard_until, dead_at;  /* own clock; dead_at 0: it kills nobody */
        bool guard_ended, alive;
        uint64_t alive_incarnation;
        /* gpupoold */
        bool up;
        unsigned life;
        uint64_t down_until, stopped_until;
        uint64_t behind_until;          /* it hears nothing of the history */
        bool caught_up;                 /* since it started it has once known all that was committed */
        Registry *registry;
        uint64_t index;
        size_t offset_read;
        LeaseTimes times;
        Lease lease;
        LeaseView view;
        bool telling, shorter_is_kept;
        uint64_t tell_until, tell_due, told_us, known_until;
        bool known_ended;
        uint64_t report_at, announce_at;
        /* while it leads, or thinks so */
        bool leads, ready;
        uint64_t term;
        LeaseBook book;
        GArray *waits;
        bool asking, confirmed, deciding;
        unsigned n_asked;
        uint64_t ask_due, confirm_due, fence_due;
        unsigned fenced;
        uint64_t fenced_incarnation;
} Host;

typedef struct World {
        GRand *random;
        Chronicle c;                    /* what is committed */
        Host hosts[HOSTS_MAX];
        unsigned n;
        uint64_t now;
        bool quiet;
        uint64_t drift_ppm;
        unsigned witness;               /* the number of the present one, which always votes; 0: there is none */
        unsigned n_witnesses;
        int real;                       /* who leads; -1: nobody */
        uint64_t term, ready_due;
        GArray *letters, *commands;
} World;

static struct {
        uint64_t grants, late, lost, losses, off, restarts, boots, elections, deposed, freezes, thaws, inherited;
        uint64_t spared, witnesses;
} count;

static uint64_t current_seed;
static const char *program;

static void on_abort(int number) {
        char text[256];
        int n = snprintf(text, sizeof(text), "# SEED=%" G_GUINT64_FORMAT " %s\n", current_seed, program);
        (void) !write(2, text, (size_t) n);
        (void) signal(number, SIG_DFL);
        (void) raise(number);
}

/* What happens, for SEED=n STORY=1. */
static bool story;

static void say(const World *w, const Host *h, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void say(const World *w, const Host *h, const char *format, ...) {
        va_list arguments;
        if (!story)
                return;
        va_start(arguments, format);
        g_autofree char *text = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        printf("# %10.6f host %u: %s\n", (double) w->now / 1e6, (unsigned) (h - w->hosts) + 1, text);
}

/* ---- chance */

static bool chance(World *w, double p) {
        return g_rand_double(w->random) < p;
}

static uint64_t between(World *w, uint64_t least, uint64_t most) {
        return least + (uint64_t) (g_rand_double(w->random) * (double) (most - least + 1));
}

/* Faults come while it is not quiet. */
static bool fault(World *w, double p) {
        return !w->quiet && chance(w, p);
}

/* ---- clocks */

static uint64_t own(const World *w, const Host *h) {
        return h->offset + (uint64_t) ((double) (w->now - h->booted) * h->rate);
}

static void set_clock(World *w, Host *h) {
        double p = (double) w->drift_ppm / 1e6;
        h->rate = chance(w, 0.4) ? 1 - p : chance(w, 0.6) ? 1 + p : 1 + p * (2 * g_rand_double(w->random) - 1);
        h->booted = w->now;
        h->offset = h->boot == 1 ? BASE + between(w, 0, 100 * SECOND) : SECOND;
}

static void choose_times(World *w, Host *h) {
        h->times = (LeaseTimes) { .lease_us = between(w, 600, 4000) * MS - between(w, 0, 999),
                                  .kill_us = h->kill_us + between(w, 0, 1) * 100 * MS, .drift_ppm = w->drift_ppm };
        h->times.request_us = h->times.lease_us / between(w, 3, 8);
}

/* ---- the judge */

static void fail(const World *w, const char *what, const Host *h) {
        g_error("%s: host %u at %" G_GUINT64_FORMAT " us", what, (unsigned) (h - w->hosts) + 1, w->now);
}

static bool is_alive(const World *w, const Host *h) {
        return h->alive && (h->dead_at == 0 || own(w, h) < h->dead_at);
}

static void judge(const World *w) {
        for (unsigned i = 0; i < w->n; i++) {
                const Host *h = w->hosts + i;
                const NodeRecord *record = node_told(&w->c, i + 1);
                if (is_alive(w, h) && (record->lost || record->incarnation != h->alive_incarnation))
                        fail(w, "a VM lives that is held for dead", h);
        }
}

/* ---- the history */

static const char *boot_text(unsigned boot) {
        static char text[32];
        (void) snprintf(text, sizeof(text), "boot-%u", boot);
        return text;
}

static void tell_command(World *w, const Command *command) {
        NodeId id = NODE(command->host + 1);
        ProtobufCBinaryData node = { .len = ID_SIZE, .data = id.bytes };
        const NodeRecord *record = node_told(&w->c, command->host + 1);
        static const char *const kinds[] = { "LOSE", "ANNOUNCE", "FREEZE", "THAW", "REPORT_THAWED" };
        say(w, w->hosts + command->host, "%s inc %u lease %u death %u freezes %u%s", kinds[command->kind],
            (unsigned) command->incarnation, command->lease_ms, command->death_ms, (unsigned) command->freezes,
            command->inherited ? " (inherited)" : "");
        w->c.author = id;
        switch (command->kind) {
        case COMMAND_LOSE: {
                Gpupool1__LoseNode m = GPUPOOL1__LOSE_NODE__INIT;
                m.node = node;
                m.incarnation = command->incarnation;
                m.evidence = (Gpupool1__LossEvidence) command->evidence;
                bool done = tell(&w->c, GPUPOOL1__ENTRY__COMMAND_LOSE_NODE, &m) == VERDICT_DONE;
                count.losses += done && command->evidence == LOSS_BY_LEASE;
                break;
        }
        case COMMAND_ANNOUNCE: {
                Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
                Hash key = KEY(command->host + 1);
                m.node = node;
                m.name = record->name;
                m.incarnation = command->incarnation;
                m.boot_id = (char *) boot_text(command->boot);
                m.addresses = record->addresses.items;
                m.n_addresses = record->addresses.n;
                m.level = record->level;
                m.key = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = key.bytes };
                m.lease_ms = command->lease_ms;
                m.death_ms = command->death_ms;
                (void) tell(&w->c, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m);
                break;
        }
        case COMMAND_FREEZE: {
                Gpupool1__Freeze m = GPUPOOL1__FREEZE__INIT;
                m.duration_ms = command->duration_ms;
                count.freezes += tell(&w->c, GPUPOOL1__ENTRY__COMMAND_FREEZE, &m) == VERDICT_DONE;
                break;
        }
        case COMMAND_THAW: {
                Gpupool1__Thaw m = GPUPOOL1__THAW__INIT;
                m.freezes = command->freezes;
                (void) tell(&w->c, GPUPOOL1__ENTRY__COMMAND_THAW, &m);
                break;
        }
        case COMMAND_REPORT_THAWED: {
                Gpupool1__ReportThawed m = GPUPOOL1__REPORT_THAWED__INIT;
                m.node = node;
                m.incarnation = command->incarnation;
                m.freezes = command->freezes;
                count.thaws += tell(&w->c, GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED, &m) == VERDICT_DONE;
                break;
        }
        }
        judge(w);
}

static void submit(World *w, Command command, uint64_t least, uint64_t most) {
        command.due = w->now + between(w, least, most);
        g_array_append_val(w->commands, command);
}

/* Applies up to @most of what is committed and @h has not seen. */
static void catch_up(World *w, Host *h, unsigned most) {
        for (; most > 0 && h->offset_read < w->c.log->len; most--) {
                const guint8 *at = w->c.log->data + h->offset_read;
                size_t size = (size_t) at[0] | (size_t) at[1] << 8;
                _cleanup_(entry_freep) Entry *entry = NULL;
                _cleanup_(result_clear) Result result = {};
                g_assert_cmpint(entry_decode(at + 2, size, &entry), ==, ENTRY_GOOD);
                g_assert_cmpint(registry_apply(h->registry, ++h->index, entry, &result), ==, 0);
                h->offset_read += size + 2;
        }
}

static void forget_registry(Host *h) {
        registry_free(h->registry);
        g_assert_cmpint(registry_new(&h->registry), ==, 0);
        h->index = h->offset_read = 0;
}

/* ---- the way */

static bool is_cut(const World *w, unsigned host) {
        return w->hosts[host].cut_until > w->now;
}

static bool takes_part(const World *w, unsigned host) {
        const Host *h = w->hosts + host;
        return h->on && h->up && h->stopped_until <= w->now && !is_cut(w, host);
}

static bool has_majority(const World *w, unsigned with) {
        unsigned n = w->witness > 0;
        for (unsigned i = 0; i < w->n; i++)
                n += takes_part(w, i);
        return takes_part(w, with) && n > (w->n + (w->witness > 0)) / 2;
}

static bool takes_writes(const World *w) {
        return w->real >= 0 && w->hosts[w->real].ready && has_majority(w, (unsigned) w->real);
}

static void post(World *w, Letter letter) {
        unsigned copies = fault(w, 0.05) ? 0 : fault(w, 0.05) ? 2 : 1;
        for (; copies > 0; copies--) {
                letter.due = w->now + (fault(w, 0.1) ? between(w, 0, 6 * SECOND) : between(w, 100, 20 * MS));
                g_array_append_val(w->letters, letter);
        }
}

/* ---- the guard */

static void begin_kill(World *w, Host *h, uint64_t from_us) {
        if (!h->alive) {
                h->guard_ended = true;
                return;
        }
        if (h->dead_at == 0)
                h->dead_at = from_us + (chance(w, 0.5) ? h->kill_us : between(w, 0, h->kill_us));
}

static void guard_know(Host *h) {
        if (!h->up)
                return;
        h->known_until = h->guard_until;
        h->known_ended = h->guard_ended;
}

static void guard_turn(World *w, Host *h) {
        uint64_t now = own(w, h);
        if (h->dead_at > 0 && now >= h->dead_at) {
                say(w, h, "its VM is dead");
                h->alive = false;
                h->dead_at = 0;
                h->guard_ended = true;
                guard_know(h);
        }
        if (!h->guard_ended && h->dead_at == 0 && h->guard_until > 0 && now >= h->guard_until)
                begin_kill(w, h, h->guard_until);
        if (!h->telling || w->now < h->tell_due)
                return;
        h->telling = false;
        say(w, h, "guard is told %.3f s, had %.3f", ((double) h->tell_until - (double) now) / 1e6,
            ((double) h->guard_until - (double) now) / 1e6);
        if (h->dead_at == 0) {
                h->guard_until = h->tell_until;
                h->guard_ended = false;
                if (now >= h->guard_until)
                        begin_kill(w, h, now);
        }
        guard_know(h);
}

static void tell_guard(World *w, Host *h, uint64_t until_us) {
        h->telling = true;
        h->tell_until = until_us;
        h->told_us = own(w, h);
        h->tell_due = w->now + (fault(w, 0.05) ? between(w, 0, 2 * SECOND) : between(w, 50, 2 * MS));
}

/* ---- the node's side, as daemon/leases.c goes about it */

static uint32_t to_ms(uint64_t us) {
        return (uint32_t) ((us + MS - 1) / MS);
}

static void look(World *w, Host *h, const NodeRecord *self, uint64_t now) {
        bool current = text_equal(self->boot_id, boot_text(h->boot)) && self->lease_ms > 0;
        uint64_t longest_us = node_record_longest_lease_ms(self) * MS;
        if (registry_has_ordinary_leases(h->registry))
                longest_us = h->times.lease_us < self->lease_ms * MS ? h->times.lease_us : self->lease_ms * MS;
        h->view = (LeaseView) { .now_us = now, .incarnation = current ? self->incarnation : 0, .needed = true,
                                .lost = self->lost, .anything_lives = h->alive, .has_way = true,
                                .guarded = !h->telling || now - h->told_us < h->times.request_us,
                                .longest_us = longest_us };
}

static void follow_guard(World *w, Host *h, bool kill_all, uint64_t now) {
        if (h->known_ended || (h->lease.until_us > 0 && now >= h->lease.until_us))
                if (h->lease.until_us > 0 && now >= h->lease.until_us)
                        lease_ended(&h->lease);
        if (h->telling)
                return;
        if (kill_all && !h->known_ended)
                tell_guard(w, h, 1);
        else if (h->view.guarded && h->lease.until_us > now &&
                 (h->known_until != h->lease.until_us || h->known_ended))
                tell_guard(w, h, h->lease.until_us);
}

static void take_answer(World *w, Host *h, const LeaseGrant *grant) {
        h->view.now_us = own(w, h);
        switch (lease_answered(&h->lease, grant, &h->view)) {
        case LEASE_NEWS_NONE:
                count.late++;
                break;
        case LEASE_NEWS_LONGER:
                say(w, h, "lease of inc %u for %.3f s", (unsigned) h->lease.incarnation,
                    (double) (h->lease.until_us - h->view.now_us) / 1e6);
                count.grants++;
                follow_guard(w, h, false, h->view.now_us);
                break;
        case LEASE_NEWS_LOST:
                count.lost++;
                break;
        case LEASE_NEWS_CLOCK_BEHIND:
                fail(w, "a clock that never stood still", h);
        }
}

static void report_thaw(World *w, Host *h, const NodeRecord *self, uint64_t now) {
        uint64_t most_us = now + h->times.lease_us;
        bool guard_does = h->view.guarded && !h->telling && h->known_until > 0 && h->known_until <= most_us;
        h->shorter_is_kept = h->lease.until_us <= most_us && (guard_does || !h->alive);
        bool due = self->long_lease_ms > 0 && registry_has_ordinary_leases(h->registry);
        if (!due || h->view.incarnation == 0 || self->lost || !h->shorter_is_kept || now < h->report_at)
                return;
        h->report_at = now + 500 * MS;
        submit(w, (Command) { .kind = COMMAND_REPORT_THAWED, .host = (unsigned) (h - w->hosts),
                              .incarnation = self->incarnation, .freezes = h->registry->freezes }, 0, 500 * MS);
}

static void announce(World *w, Host *h, const NodeRecord *self, uint64_t now) {
        uint32_t lease_ms = to_ms(h->times.lease_us), death_ms = to_ms(lease_times_death_us(&h->times));
        bool same_boot = text_equal(self->boot_id, boot_text(h->boot));
        bool returns = self->lost && !h->alive && h->dead_at == 0;
        bool may = lease_ms >= self->lease_ms || h->shorter_is_kept;
        bool differs = may && (self->lease_ms != lease_ms || self->death_ms != death_ms);
        if ((same_boot && !returns && !differs) || now < h->announce_at)
                return;
        h->announce_at = now + SECOND;
        submit(w, (Command) { .kind = COMMAND_ANNOUNCE, .host = (unsigned) (h - w->hosts), .boot = h->boot,
                              .incarnation = same_boot && !returns ? self->incarnation : self->incarnation + 1,
                              .lease_ms = may ? lease_ms : self->lease_ms,
                              .death_ms = may ? death_ms : self->death_ms }, 0, 300 * MS);
}

static void start_vm(World *w, Host *h, const NodeRecord *self, uint64_t now) {
        bool guarded = h->dead_at == 0 && !h->guard_ended && h->guard_until > now;
        bool current = !self->lost && h->view.incarnation > 0 && h->lease.incarnation == h->view.incarnation;
        if (h->alive || !guarded || !current || !lease_allows(&h->lease, now, 0) || !chance(w, 0.3))
                return;
        say(w, h, "VM starts");
        h->alive = true;
        h->alive_incarnation = h->view.incarnation;
        judge(w);
}

static void ask(World *w, Host *h, const LeaseTurn *turn) {
        unsigned to = 0;
        for (unsigned i = 0; i < w->n; i++)     /* whoever seems to lead */
                if (w->hosts[i].leads && (i == (unsigned) w->real || chance(w, 0.3)))
                        to = i;
        post(w, (Letter) { .to = to, .from = (unsigned) (h - w->hosts), .life = w->hosts[to].life,
                           .sequence = turn->sequence, .incarnation = turn->incarnation });
}

static void node_turn(World *w, Host *h) {
        const NodeRecord *self;
        LeaseTurn turn;
        NodeId id = NODE((unsigned) (h - w->hosts) + 1);
        /* Before that it may not know what it announced itself. */
        if (!h->caught_up && takes_writes(w) && !is_cut(w, (unsigned) (h - w->hosts))) {
                catch_up(w, h, UINT_MAX);
                h->caught_up = true;
        }
        if (!h->caught_up)
                return;
        if (h->ready || h->behind_until <= w->now)
                catch_up(w, h, h->ready ? UINT_MAX : (unsigned) between(w, 0, 3));
        uint64_t now = own(w, h);
        self = registry_find_node(h->registry, &id);
        if (!self)
                return;
        look(w, h, self, now);
        (void) lease_cap(&h->lease, now, h->view.longest_us);
        lease_turn(&h->lease, &h->view, &turn);
        follow_guard(w, h, turn.kill_all, now);
        if (turn.ask)
                ask(w, h, &turn);
        report_thaw(w, h, self, now);
        announce(w, h, self, now);
        start_vm(w, h, self, now);
}

/* ---- the leader's side */

static bool is_real(const World *w, const Host *h) {
        return w->real == h - w->hosts && h->term == w->term;
}

static void depose(const World *w, Host *h) {
        say(w, h, "is deposed of term %u", (unsigned) h->term);
        count.deposed++;
        h->leads = h->ready = h->asking = h->deciding = false;
        h->fence_due = 0;
        h->waits->len = 0;
        lease_book_lead(&h->book, false, h->term, 0);
}

static void answer_waits(World *w, Host *h) {
        for (unsigned i = 0; i < h->n_asked; i++) {
                const Wait *wait = &g_array_index(h->waits, Wait, i);
                NodeId id = NODE(wait->from + 1);
                uint64_t lease_us = 0;
                LeaseVerdict verdict = lease_book_asked(&h->book, h->registry, &id, wait->incarnation, wait->arrived_us,
                                                        own(w, h), &lease_us);
                say(w, h, "grants host %u inc %u: verdict %u, %.3f s, arrived %.3f s ago", wait->from + 1,
                    (unsigned) wait->incarnation, (unsigned) verdict, (double) lease_us / 1e6,
                    (double) (own(w, h) - wait->arrived_us) / 1e6);
                if (verdict == LEASE_REFUSED)
                        continue;
                post(w, (Letter) { .to = wait->from, .life = wait->life, .answer = true,
                                   .grant = { .sequence = wait->sequence, .incarnation = wait->incarnation,
                                              .lost = verdict == LEASE_LOST, .lease_us = lease_us,
                                              .leader = NODE((unsigned) (h - w->hosts) + 1),
                                              .leader_us = wait->arrived_us } });
        }
        g_array_remove_range(h->waits, 0, h->n_asked);
}

/* The voters' word is given at one moment and heard at a later one, by which there may be another leader. */
static void confirm_turn(World *w, Host *h) {
        if (!h->asking && h->waits->len > 0 && h->ready) {
                h->asking = true;
                h->confirmed = false;
                h->n_asked = h->waits->len;
                h->ask_due = w->now + between(w, 0, 10 * MS);
        }
        if (!h->asking)
                return;
        if (!h->confirmed) {
                if (w->now < h->ask_due || !has_majority(w, (unsigned) (h - w->hosts)))
                        return;
                if (!is_real(w, h)) {
                        depose(w, h);
                        return;
                }
                h->confirmed = true;
                h->confirm_due = w->now + (fault(w, 0.1) ? between(w, 0, 3 * SECOND) : between(w, 0, 10 * MS));
                catch_up(w, h, UINT_MAX);
        }
        if (w->now < h->confirm_due)
                return;
        h->asking = false;
        g_assert_cmpint(lease_book_follow(&h->book, h->registry, own(w, h)), ==, 0);
        answer_waits(w, h);
}

static unsigned host_of(const World *w, const NodeId *node) {
        for (unsigned i = 0; i < w->n; i++) {
                NodeId id = NODE(i + 1);
                if (ID_EQUAL(&id, node))
                        return i;
        }
        g_assert_not_reached();
}

static void assert_dead(const World *w, const Loss *loss) {
        for (unsigned i = 0; i < w->n; i++) {
                NodeId id = NODE(i + 1);
                const Host *h = w->hosts + i;
                if (ID_EQUAL(&id, &loss->node) && is_alive(w, h) && h->alive_incarnation == loss->incarnation)
                        fail(w, "found dead too early", h);
        }
}

static void decide(World *w, Host *h) {
        uint64_t wake_us, now = own(w, h);
        Loss loss;
        now -= fault(w, 0.2) ? between(w, 0, 20 * MS) : 0;      /* the time of a turn is that of its beginning */
        if (h->deciding)
                return;
        if (lease_book_next_loss(&h->book, h->registry, now, &loss, &wake_us)) {
                say(w, h, "finds host %u inc %u lost (%u)", host_of(w, &loss.node) + 1, (unsigned) loss.incarnation,
                    (unsigned) loss.evidence);
                if (is_real(w, h))
                        assert_dead(w, &loss);
                lease_book_condemn(&h->book, &loss.node);
                if (fault(w, 0.05)) {   /* it surely did not happen */
                        count.spared++;
                        lease_book_spare(&h->book, &loss.node);
                        return;
                }
                h->deciding = true;
                submit(w, (Command) { .kind = COMMAND_LOSE, .host = host_of(w, &loss.node),
                                      .incarnation = loss.incarnation, .evidence = loss.evidence, .term = h->term },
                       0, fault(w, 0.1) ? SECOND : 50 * MS);
        } else if (lease_book_thaws(&h->book, h->registry, now, &wake_us)) {
                h->deciding = true;
                submit(w, (Command) { .kind = COMMAND_THAW, .freezes = h->registry->freezes, .term = h->term }, 0,
                       50 * MS);
        }
}

/* An agent that does what it says, and says so late. */
static void fence_turn(World *w, Host *h) {
        if (h->fence_due == 0) {
                h->fenced = (unsigned) between(w, 0, w->n - 1);
                Host *other = w->hosts + h->fenced;
                NodeId id = NODE(h->fenced + 1);
                const NodeRecord *record = registry_find_node(h->registry, &id);
                if (!is_real(w, h) || other == h || !fault(w, 0.0005) || !record)
                        return;
                h->fenced_incarnation = record->incarnation;
                h->fence_due = w->now + between(w, 0, 3 * SECOND);
                say(w, other, "is switched off in inc %u", (unsigned) record->incarnation);
                other->off_until = w->now + between(w, 100 * MS, 10 * SECOND);
                other->on = other->up = other->alive = other->telling = false;
                other->dead_at = 0;
                if (other->leads)
                        depose(w, other);
                if (w->real == (int) h->fenced)
                        w->real = -1;
                return;
        }
        if (w->now < h->fence_due)
                return;
        NodeId id = NODE(h->fenced + 1);
        h->fence_due = 0;
        count.off++;
        lease_book_powered_off(&h->book, &id, h->fenced_incarnation);
}

static void leader_turn(World *w, Host *h) {
        if (!h->leads)
                return;
        if (!is_real(w, h) && !is_cut(w, (unsigned) (h - w->hosts)) && chance(w, 0.1)) {
                depose(w, h);
                return;
        }
        lease_book_lead(&h->book, true, h->term, own(w, h));
        g_assert_cmpint(lease_book_follow(&h->book, h->registry, own(w, h)), ==, 0);
        confirm_turn(w, h);
        if (h->leads && h->ready) {
                decide(w, h);
                fence_turn(w, h);
        }
}

/* ---- elections, and what is committed */

static void drop_decided(World *w, uint64_t term) {
        for (unsigned i = w->commands->len; i > 0; i--) {
                Command *command = &g_array_index(w->commands, Command, i - 1);
                if (command->term == 0 || command->term == term)
                        continue;
                if (chance(w, 0.5))
                        command->inherited = true;      /* its successor has it in its log */
                else
                        g_array_remove_index(w->commands, i - 1);
        }
}

static void elect(World *w) {
        unsigned candidate = (unsigned) between(w, 0, w->n - 1);
        Host *h = w->hosts + candidate;
        if (!(w->real < 0 ? chance(w, 0.05) : fault(w, 0.0005)) || !has_majority(w, candidate))
                return;
        if (h->leads)
                depose(w, h);
        count.elections++;
        w->term += between(w, 1, 2);
        w->real = (int) candidate;
        w->ready_due = w->now + between(w, 0, 300 * MS);
        h->leads = true;
        h->ready = false;
        h->term = w->term;
        say(w, h, "is elected in term %u", (unsigned) h->term);
        drop_decided(w, w->term);
}

static void become_ready(World *w) {
        if (w->real < 0)
                return;
        Host *h = w->hosts + w->real;
        if (h->ready || w->now < w->ready_due || !has_majority(w, (unsigned) w->real))
                return;
        for (unsigned i = 0; i < w->commands->len;) {
                Command command = g_array_index(w->commands, Command, i);
                if (command.inherited) {
                        g_array_remove_index(w->commands, i);
                        count.inherited++;
                        tell_command(w, &command);
                } else
                        i++;
        }
        catch_up(w, h, UINT_MAX);
        h->ready = true;
}

/* Its own decision came back. */
static void be_answered(World *w, Host *h, const Command *command) {
        NodeId id = NODE(command->host + 1);
        h->deciding = false;
        if (command->kind == COMMAND_LOSE && w->c.verdict != VERDICT_DONE)
                lease_book_spare(&h->book, &id);
}

static void commit(World *w) {
        for (unsigned i = 0; i < w->commands->len; i++) {
                Command command = g_array_index(w->commands, Command, i);
                if (w->now < command.due || command.inherited || !takes_writes(w))
                        continue;
                g_array_remove_index(w->commands, i--);
                if (command.term > 0 && command.term != w->term)
                        continue;
                tell_command(w, &command);
                if (command.term > 0)
                        be_answered(w, w->hosts + w->real, &command);
                catch_up(w, w->hosts + w->real, UINT_MAX);
        }
}

/* ---- what happens to hosts */

static void start_process(World *w, Host *h) {
        bool mayhem = fault(w, 0.3);
        say(w, h, "starts");
        count.restarts++;
        h->up = true;
        h->life++;
        if (mayhem) {                   /* the last it knew to be committed, it knows no more */
                uint64_t known = h->index > 3 ? h->index - between(w, 0, 3) : 0;
                forget_registry(h);
                catch_up(w, h, (unsigned) known);
                choose_times(w, h);
        }
        h->lease = (Lease) { .times = h->times, .sequence = own(w, h) };
        h->view = (LeaseView) {};
        h->telling = h->caught_up = false;
        h->report_at = h->announce_at = 0;
        guard_know(h);
}

static void stop_process(World *w, Host *h) {
        say(w, h, "stops");
        h->up = false;
        if (h->telling && chance(w, 0.5))       /* it was sent, or not */
                h->tell_due = w->now;
        else
                h->telling = false;
        guard_turn(w, h);
        h->telling = false;
        if (h->leads)
                depose(w, h);
        if (w->real == h - w->hosts)
                w->real = -1;
        lease_book_clear(&h->book);
}

static void befall(World *w, Host *h) {
        if (!h->on) {
                if (w->now < h->off_until)
                        return;
                count.boots++;
                say(w, h, "boots");
                h->on = true;
                h->boot++;
                set_clock(w, h);
                h->guard_until = 0;
                h->guard_ended = false;
                h->down_until = w->now + between(w, 0, SECOND);
        }
        if (!h->up && w->now >= h->down_until)
                start_process(w, h);
        else if (h->up && fault(w, 0.0005)) {
                stop_process(w, h);
                h->down_until = w->now + between(w, 10 * MS, 3 * SECOND);
        }
        if (fault(w, 0.0005))
                h->cut_until = w->now + between(w, 100 * MS, 15 * SECOND);
        if (fault(w, 0.001))
                h->behind_until = w->now + between(w, 100 * MS, 15 * SECOND);
        if (fault(w, 0.0005))
                h->stopped_until = w->now + between(w, 100 * MS, 15 * SECOND);
}

static void deliver(World *w) {
        for (unsigned i = 0; i < w->letters->len; i++) {
                Letter letter = g_array_index(w->letters, Letter, i);
                Host *h = w->hosts + letter.to;
                if (w->now < letter.due || (h->on && h->up && h->stopped_until > w->now))
                        continue;
                g_array_remove_index_fast(w->letters, i--);
                /* An answer may find the next process of its host, by way of a third one. */
                bool same = letter.life == h->life || letter.answer;
                if (!h->on || !h->up || !same || (is_cut(w, letter.to) && chance(w, 0.9)))
                        continue;
                if (letter.answer)
                        take_answer(w, h, &letter.grant);
                else if (h->leads && h->ready && !is_cut(w, letter.from)) {
                        Wait wait = { .from = letter.from, .life = w->hosts[letter.from].life,
                                      .sequence = letter.sequence, .incarnation = letter.incarnation,
                                      .arrived_us = own(w, h) };
                        g_array_append_val(h->waits, wait);
                }
        }
}

/* A pair without its witness has long leases, and ordinary ones with the next one. */
static void admit_witness(World *w) {
        unsigned number = 100 + ++w->n_witnesses;
        g_autofree char *name = g_strdup_printf("w%u", number);
        Admission witness = admission_of(number, number, name);
        witness.witness = true;
        w->c.author = NODE(1);
        ASSERT_DONE(tell_invite(&w->c, number, 0));
        ASSERT_DONE(tell_admission(&w->c, &witness));
        w->witness = number;
        count.witnesses++;
}

static void change_witness(World *w) {
        bool wanted = w->quiet ? w->witness == 0 : chance(w, 0.001);
        if (w->n > 2 || !wanted || !takes_writes(w))
                return;
        if (w->witness == 0)
                admit_witness(w);
        else {
                w->c.author = NODE(1);
                ASSERT_DONE(tell_node_removed(&w->c, w->witness));
                w->witness = 0;
        }
        catch_up(w, w->hosts + w->real, UINT_MAX);
}

static void administer(World *w) {
        if (fault(w, 0.0003))
                submit(w, (Command) { .kind = COMMAND_FREEZE, .duration_ms = between(w, 100, 20000) }, 0, 100 * MS);
        if (fault(w, 0.0005))
                submit(w, (Command) { .kind = COMMAND_THAW }, 0, 100 * MS);
}

static void tick(World *w) {
        w->now += between(w, 200, fault(w, 0.02) ? 60 * MS : 8 * MS);
        for (unsigned i = 0; i < w->n; i++)
                if (w->hosts[i].on)
                        guard_turn(w, w->hosts + i);
        judge(w);
        for (unsigned i = 0; i < w->n; i++)
                befall(w, w->hosts + i);
        elect(w);
        become_ready(w);
        administer(w);
        change_witness(w);
        commit(w);
        deliver(w);
        for (unsigned i = 0; i < w->n; i++) {
                Host *h = w->hosts + i;
                if (!h->on || !h->up || h->stopped_until > w->now || !chance(w, 0.7))
                        continue;
                node_turn(w, h);
                leader_turn(w, h);
        }
}

/* ---- a history */

static void world_begin(World *w, uint64_t seed) {
        w->random = g_rand_new_with_seed((guint32) seed);
        w->n = seed % 4 == 0 ? 2 : (unsigned) between(w, 3, HOSTS_MAX);
        w->drift_ppm = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1000 : 10000;
        w->now = SECOND;
        w->real = -1;
        w->term = 1;
        w->letters = g_array_new(false, false, sizeof(Letter));
        w->commands = g_array_new(false, false, sizeof(Command));
        w->c = chronicle_empty();
        w->c.log = g_byte_array_new();
        w->c.quick = true;
        ASSERT_DONE(tell_init_at(&w->c, "lab", LEVEL_FAILOVER));
        for (unsigned i = 0; i < w->n; i++) {
                char name[] = { (char) ('a' + i), '\0' };
                ASSERT_DONE(tell_node(&w->c, i + 1, name, 1, boot_text(1)));
        }
        w->c.level = LEVEL_FAILOVER;
        for (unsigned i = 0; i < w->n; i++) {
                Host *h = w->hosts + i;
                h->boot = 1;
                h->on = true;
                h->waits = g_array_new(false, false, sizeof(Wait));
                set_clock(w, h);
                h->kill_us = between(w, 100, 800) * MS;
                choose_times(w, h);
                forget_registry(h);
                start_process(w, h);
        }
}

static void world_end(World *w) {
        for (unsigned i = 0; i < w->n; i++) {
                Host *h = w->hosts + i;
                registry_free(h->registry);
                lease_book_clear(&h->book);
                g_array_unref(h->waits);
        }
        g_array_unref(w->letters);
        g_array_unref(w->commands);
        g_byte_array_unref(w->c.log);
        chronicle_clear(&w->c);
        g_rand_free(w->random);
}

static void assert_all_is_well(const World *w) {
        for (unsigned i = 0; i < w->n; i++) {
                const Host *h = w->hosts + i;
                if (node_told(&w->c, i + 1)->lost || !lease_allows(&h->lease, own(w, h), 0) || !h->alive)
                        fail(w, "in the end it has no lease, or no VM", h);
        }
}

static void run_history(uint64_t seed) {
        World w = {};
        current_seed = seed;
        world_begin(&w, seed);
        for (unsigned i = 0; i < TICKS; i++)
                tick(&w);
        w.quiet = true;
        for (uint64_t end = w.now + QUIET_US; w.now < end;)
                tick(&w);
        assert_all_is_well(&w);
        world_end(&w);
}

static void test_nobody_is_found_dead_who_lives(void) {
        const char *one = g_getenv("SEED"), *many = g_getenv("SEEDS");
        uint64_t first = one ? g_ascii_strtoull(one, NULL, 10) : 1;
        uint64_t last = one ? first : many ? g_ascii_strtoull(many, NULL, 10) : SEEDS;
        for (uint64_t seed = first; seed <= last; seed++)
                run_history(seed);
        const uint64_t *each = (const uint64_t *) &count;
        g_autoptr(GString) text = g_string_new(NULL);
        for (size_t i = 0; i < sizeof(count) / sizeof(*each); i++)
                g_string_append_printf(text, " %" G_GUINT64_FORMAT, each[i]);
        g_test_message("grants, late answers, told of a loss, losses by time, switched off, restarts, boots, "
                       "elections, deposed, freezes, thaws, inherited, spared, witnesses:%s", text->str);
        if (one)
                return;
        /* Or it would prove nothing. */
        for (size_t i = 0; i < sizeof(count) / sizeof(*each); i++)
                g_assert_cmpuint(each[i], >, 0);
}

int main(int argc, char *argv[]) {
        program = argv[0];
        (void) signal(SIGABRT, on_abort);
        (void) signal(SIGTRAP, on_abort);
        g_test_init(&argc, &argv, NULL);
        story = g_getenv("STORY") != NULL;
        g_test_add_func("/lease/random/nobody-is-found-dead-who-lives", test_nobody_is_found_dead_who_lives);
        return g_test_run();
}
