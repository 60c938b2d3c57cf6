/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-world.h"

#include <inttypes.h>
#include <raft.h>
#include <string.h>

/* After the last trouble: a leader, everybody's commands, and all that was missed, by then. The longest that is waited
 * for by itself is for a snapshot to be sent again. */
#define NOTICE_US (3 * SECOND)
#define CALM_US (20 * SECOND)

static uint64_t on_arrival(void *userdata, unsigned to, const RaftMessage *message) {
        SimWorld *world = userdata;
        SimMachine *machine = world->machines + to;

        if (!machine->engine || machine->id != message->to)
                return 0;
        uint64_t free_at_us = sim_loop_free_at(machine->loop);
        if (free_at_us > world->time.now_us)
                return free_at_us;
        if (message->core && message->core->type == RAFT_INSTALL_SNAPSHOT && sim_disk_takes_snapshot(machine->disk))
                world->judge.visits.install_while_taking++;
        int r = raft_engine_receive(machine->engine, message);
        if (r < 0)
                sim_broken(&world->time, "m%u refuses %s of a member in its senses: %s", to, sim_message_name(message),
                           g_strerror(-r));
        return 0;
}

static void on_down(void *userdata, SimMachine *machine) {
        SimWorld *world = userdata;
        sim_crowd_machine_is_down(&world->crowd, machine);
}

static void on_changed(void *userdata, SimMachine *machine) {
        SimWorld *world = userdata;
        sim_crowd_machine_changed(&world->crowd, machine);
}

static void add_machines(SimWorld *world, unsigned n_founders, unsigned n_machines) {
        SimTime *time = &world->time;

        world->n_machines = n_machines;
        world->network = (SimNetwork) { .time = time, .arrive = on_arrival, .userdata = world };
        sim_network_calm(&world->network);
        sim_judge_init(&world->judge, time, world->machines, n_machines);
        for (unsigned i = 0; i < n_machines; i++) {
                SimMachine *machine = world->machines + i;
                sim_machine_init(machine, i, time, &world->network, &world->judge, world->machines, n_machines,
                                 n_founders);
                machine->on_changed = on_changed;
                machine->on_down = on_down;
                machine->userdata = world;
        }
        sim_crowd_init(&world->crowd, time, &world->judge, world->machines, n_machines, world->seed);
}

SimWorld *sim_world_new(uint64_t seed, unsigned told) {
        SimWorld *world = g_new0(SimWorld, 1);
        SimTime *time = &world->time;

        world->seed = seed;
        sim_time_init(time, seed, told);
        unsigned n_founders = 3 + sim_pick(time, 3);
        add_machines(world, n_founders, n_founders + sim_pick(time, SIM_MACHINES_MAX - n_founders + 1));
        sim_weather_init(&world->weather, &world->network, &world->crowd);
        return world;
}

static void all_up(SimWorld *world) {
        for (unsigned i = 0; i < world->n_machines; i++)
                sim_machine_up(world->machines + i);
}

SimWorld *sim_world_of(unsigned n_founders, unsigned n_machines) {
        SimWorld *world = g_new0(SimWorld, 1);

        sim_time_init(&world->time, 1, g_test_verbose());
        add_machines(world, n_founders, n_machines);
        all_up(world);
        return world;
}

SimWorld *sim_world_free(SimWorld *world) {
        if (!world)
                return NULL;
        if (world->weather.time)
                sim_weather_clear(&world->weather);
        for (unsigned i = 0; i < world->n_machines; i++)
                sim_machine_clear(world->machines + i);
        sim_crowd_clear(&world->crowd);
        sim_network_clear(&world->network);
        sim_judge_clear(&world->judge);
        sim_time_clear(&world->time);
        g_free(world);
        return NULL;
}

/* ---- running */

static void run_until(SimWorld *world, uint64_t until_us) {
        while (!world->time.broken && sim_time_step(&world->time, until_us))
                sim_judge_look(&world->judge);
}

void sim_world_pass(SimWorld *world, uint64_t us) {
        run_until(world, world->time.now_us + us);
}

/* Every member that has the log has all of it, and the registry that it must have. */
static const char *differs(SimWorld *world, SimMachine **ret) {
        SimMachine *leader = sim_machine_leader(world->machines);
        RaftMember members[SIM_MACHINES_MAX];

        *ret = world->machines;
        if (!leader || !sim_machine_status(leader).is_ready)
                return "nobody leads";
        size_t n = raft_engine_get_members(leader->engine, members, SIM_MACHINES_MAX);
        for (size_t i = 0; i < n; i++) {
                SimMachine *machine = sim_machine_by_id(leader, members[i].id);
                if (members[i].role == RAFT_MEMBER_SPARE)
                        continue;
                if (!machine)
                        return "a member does not exist";
                *ret = machine;
                RaftStatus status = sim_machine_status(machine);
                if (status.applied_index != world->judge.last_index)
                        return "it is behind";
                if (status.persisted_index != world->judge.last_index)
                        return "its disk is behind";
                if (status.leader_id != leader->id)
                        return "it follows another";
                if (status.store_error < 0)
                        return "its store does not work";
        }
        return NULL;
}

static bool is_quiet(SimWorld *world) {
        SimMachine *machine;
        return sim_crowd_is_served(&world->crowd) && !differs(world, &machine);
}

static void wait_quiet(SimWorld *world, uint64_t until_us) {
        SimMachine *machine;

        while (!world->time.broken && !is_quiet(world) && sim_time_step(&world->time, until_us))
                sim_judge_look(&world->judge);
        if (world->time.broken)
                return;
        const SimMachine *at;
        const SimWish *wish = sim_crowd_waits_for(&world->crowd, &at);
        if (wish)
                sim_broken(&world->time, "m%u does not answer submission %" PRIu64 ", after all went well for %u s",
                           at->number, wish->number, (unsigned) (CALM_US / SECOND));
        else if (!sim_crowd_is_served(&world->crowd))
                sim_broken(&world->time, "somebody still waits for an answer after all went well for %u s",
                           (unsigned) (CALM_US / SECOND));
        const char *why = differs(world, &machine);
        if (why)
                sim_broken(&world->time, "m%u after all went well for %u s: %s", machine->number,
                           (unsigned) (CALM_US / SECOND), why);
}

static uint64_t when_all_are_up_to_date(const SimWorld *world) {
        uint64_t at_us = world->time.now_us;
        for (unsigned i = 0; i < ELEMENTS(world->machines); i++) {
                const SimMachine *machine = world->machines + i;
                uint64_t us = machine->engine ? sim_loop_up_to_date_at(machine->loop) : 0;
                at_us = us > at_us ? us : at_us;
        }
        return at_us;
}

static void check_questions(SimWorld *world) {
        const SimQuestion *question = sim_judge_unanswered(&world->judge, world->time.now_us - 1 * SECOND);
        if (question)
                sim_broken(&world->time, "m%u never answered whether its term stands, asked at %.6f",
                           question->machine->number, (double) question->asked_us / (double) SECOND);
}

static void compare_registries(SimWorld *world) {
        _cleanup_free_ uint8_t *expected = NULL;
        size_t expected_size;

        assert_registry_is_sound(world->judge.registry);
        g_assert_cmpint(registry_encode(world->judge.registry, &expected, &expected_size), ==, 0);
        for (unsigned i = 0; i < world->n_machines; i++) {
                SimMachine *machine = world->machines + i;
                _cleanup_free_ uint8_t *bytes = NULL;
                size_t size;
                if (machine->registry->index != world->judge.registry->index)
                        continue;       /* no member */
                g_assert_cmpint(registry_encode(machine->registry, &bytes, &size), ==, 0);
                if (size != expected_size || memcmp(bytes, expected, size) != 0)
                        sim_broken(&world->time, "m%u ends with another registry", i);
        }
        ARRAY_EACH(item, &world->judge.orders)
                if ((*item)->is_acknowledged && (*item)->times == 0)
                        sim_broken(&world->time, "order %u was acknowledged and is lost", (*item)->number);
}

void sim_world_run(SimWorld *world, unsigned seconds) {
        all_up(world);
        sim_crowd_start(&world->crowd);
        sim_weather_start(&world->weather);
        run_until(world, seconds * SECOND);
        if (world->time.broken)
                return;

        sim_weather_end(&world->weather);
        sim_crowd_calm(&world->crowd);
        wait_quiet(world, world->time.now_us + CALM_US);
        if (world->time.broken)
                return;
        SimOrder *last = sim_crowd_last_order(&world->crowd);
        wait_quiet(world, world->time.now_us + CALM_US);
        if (!world->time.broken && !last->is_acknowledged)
                sim_broken(&world->time, "the last command is not acknowledged");
        if (world->time.broken)
                return;
        compare_registries(world);
        /* A leader that stood still, and is no member any more, needs a moment to notice; nobody else waits for it. */
        run_until(world, when_all_are_up_to_date(world) + NOTICE_US);
        check_questions(world);
        sim_say(&world->time, "%" PRIu64 " entries, %" PRIu64 " events", world->judge.last_index,
                world->time.n_events);
}
