/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/neighbours.h"

#include "util/array.h"

/* splitmix64's finalizer. */
static uint64_t mix(uint64_t value) {
        value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
        return value ^ value >> 31;
}

static uint64_t mix_bytes(uint64_t hash, const uint8_t bytes[static ID_SIZE]) {
        for (size_t i = 0; i < ID_SIZE; i += 8) {
                uint64_t word = 0;
                for (size_t k = 0; k < 8; k++)
                        word = word << 8 | bytes[i + k];
                hash = mix((hash ^ word) + UINT64_C(0x9e3779b97f4a7c15));
        }
        return hash;
}

/* How much @self likes @other; the least is taken. */
static uint64_t taste(const NodeId *self, const NodeId *other, uint64_t season) {
        return mix_bytes(mix_bytes(mix(season), self->bytes), other->bytes);
}

/* The choice among those that are no members: each of them belongs to one of the places, and each place takes of its
 * own the one that it likes best in its season. A season is NEIGHBOURS_DIALLED epochs and begins at each place in
 * another one, so an epoch changes one place. Where a place has nobody, whoever is left and liked best fills up. */
typedef struct Choice {
        const Neighbour *best;
        uint64_t taste;
} Choice;

static void offer(Choice *choice, const Neighbour *other, uint64_t how) {
        if (!choice->best || how < choice->taste ||
            (how == choice->taste && ID_COMPARE(&other->id, &choice->best->id) < 0))
                *choice = (Choice) { other, how };
}

static bool is_chosen(const Choice choices[static NEIGHBOURS_DIALLED], const Neighbour *other) {
        for (size_t i = 0; i < NEIGHBOURS_DIALLED; i++)
                if (choices[i].best == other)
                        return true;
        return false;
}

static bool may_rotate(const NodeId *self, const Neighbour *other) {
        return !other->member && !ID_EQUAL(&other->id, self);
}

static void choose_places(const NodeId *self, const Neighbour *nodes, size_t n, uint64_t epoch,
                          Choice choices[static NEIGHBOURS_DIALLED]) {
        for (size_t i = 0; i < n; i++) {
                if (!may_rotate(self, nodes + i))
                        continue;
                size_t place = taste(self, &nodes[i].id, 0) % NEIGHBOURS_DIALLED;
                /* Without a sum that could wrap. */
                uint64_t season = 1 + epoch / NEIGHBOURS_DIALLED + (epoch % NEIGHBOURS_DIALLED >= place);
                offer(choices + place, nodes + i, taste(self, &nodes[i].id, season));
        }
}

static void fill_up(const NodeId *self, const Neighbour *nodes, size_t n, Choice choices[static NEIGHBOURS_DIALLED]) {
        for (size_t place = 0; place < NEIGHBOURS_DIALLED; place++) {
                if (choices[place].best)
                        continue;
                Choice filler = {};
                for (size_t i = 0; i < n; i++)
                        if (may_rotate(self, nodes + i) && !is_chosen(choices, nodes + i))
                                offer(&filler, nodes + i, taste(self, &nodes[i].id, 0));
                choices[place] = filler;
        }
}

size_t neighbours_choose(const NodeId *self, const Neighbour *nodes, size_t n, uint64_t epoch,
                         NodeId ret[static NEIGHBOURS_MAX]) {
        size_t others = 0, chosen = 0;
        bool self_is_member = false;
        for (size_t i = 0; i < n; i++)
                if (ID_EQUAL(&nodes[i].id, self))
                        self_is_member = nodes[i].member;
                else
                        others++;

        bool all = others < NEIGHBOURS_ALL;
        for (size_t i = 0; i < n; i++)
                if (!ID_EQUAL(&nodes[i].id, self) && (all || (nodes[i].member && chosen < NEIGHBOURS_MEMBERS_MAX)))
                        ret[chosen++] = nodes[i].id;
        if (all || self_is_member)
                return chosen;

        Choice choices[NEIGHBOURS_DIALLED] = {};
        choose_places(self, nodes, n, epoch, choices);
        fill_up(self, nodes, n, choices);
        for (size_t i = 0; i < NEIGHBOURS_DIALLED; i++)
                if (choices[i].best)
                        ret[chosen++] = choices[i].best->id;
        return chosen;
}

/* Draws up to @most of the members of the engine, of the others, or of both. */
static size_t draw(const Neighbour *connected, size_t n, bool members, bool others, size_t most, uint64_t random,
                   NodeId *ret) {
        size_t left = 0, drawn = 0;
        for (size_t i = 0; i < n; i++)
                left += connected[i].member ? members : others;
        for (size_t i = 0; i < n && drawn < most; i++) {
                if (!(connected[i].member ? members : others))
                        continue;
                random = mix(random + UINT64_C(0x9e3779b97f4a7c15));
                if (random % left < most - drawn)
                        ret[drawn++] = connected[i].id;
                left--;
        }
        return drawn;
}

size_t neighbours_partners(bool self_is_member, const Neighbour *connected, size_t n, uint64_t random,
                           NodeId ret[static NEIGHBOURS_ALL]) {
        if (n < NEIGHBOURS_ALL) {
                for (size_t i = 0; i < n; i++)
                        ret[i] = connected[i].id;
                return n;
        }
        if (self_is_member)
                return draw(connected, n, true, true, NEIGHBOURS_PARTNERS, random, ret);
        size_t chosen = draw(connected, n, false, true, NEIGHBOURS_PARTNERS, random, ret);
        return chosen + draw(connected, n, true, false, NEIGHBOURS_PARTNERS - chosen, random, ret + chosen);
}
