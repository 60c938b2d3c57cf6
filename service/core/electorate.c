/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/electorate.h"

#include <errno.h>

#include "util/array.h"

/* ---- networks: nodes that likely fail together */

#define GROUPS 8U               /* of an IPv6 address */
#define NETWORK_GROUPS 4U       /* a /64 */

/* Of nodes whose addresses are all names nothing is known: they are taken for apart. */
typedef struct Network {
        bool known;
        bool ipv6;
        uint16_t groups[NETWORK_GROUPS];        /* of IPv4 the first three: a /24 */
} Network;

static bool read_ipv4(const char *text, Network *ret) {
        Network network = { .known = true };
        for (unsigned i = 0; i < 4; i++) {
                unsigned value = 0, digits = 0;
                for (; *text >= '0' && *text <= '9' && digits < 4; text++, digits++)
                        value = value * 10 + (unsigned) (*text - '0');
                if (digits == 0 || value > 255)
                        return false;
                if (i < 3 && *text++ != '.')
                        return false;
                if (i < 3)
                        network.groups[i] = (uint16_t) value;
        }
        if (*text && *text != ':' && *text != '/')
                return false;
        *ret = network;
        return true;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One group, and the colon behind it. */
static bool read_group(const char **text, uint16_t *ret) {
        unsigned value = 0, digits = 0;
        for (int digit; digits < 4 && (digit = hex_digit(**text)) >= 0; digits++, (*text)++)
                value = value << 4 | (unsigned) digit;
        *ret = (uint16_t) value;
        return digits > 0;
}

static bool read_ipv6(const char *text, Network *ret) {
        uint16_t groups[GROUPS] = {}, tail[GROUPS] = {};
        size_t n = 0, n_tail = 0;
        bool gap = false;
        text += *text == '[';
        if (strncmp(text, "::", 2) == 0) {
                gap = true;
                text += 2;
        }
        for (uint16_t group; n + n_tail < GROUPS && read_group(&text, &group);) {
                if (gap)
                        tail[n_tail++] = group;
                else
                        groups[n++] = group;
                if (!gap && strncmp(text, "::", 2) == 0) {
                        gap = true;
                        text += 2;
                } else if (*text == ':')
                        text++;
                else
                        break;
        }
        if ((n + n_tail < GROUPS && !gap) || (*text && !strchr("]%/", *text)))
                return false;
        for (size_t i = 0; i < n_tail; i++)
                groups[GROUPS - n_tail + i] = tail[i];
        *ret = (Network) { .known = true, .ipv6 = true };
        memcpy(ret->groups, groups, sizeof(ret->groups));
        return true;
}

static Network network_of(const NodeRecord *node) {
        Network network = {};
        for (size_t i = 0; i < node->addresses.n; i++)
                if (read_ipv4(node->addresses.items[i], &network))
                        return network;
        for (size_t i = 0; i < node->addresses.n; i++)
                if (read_ipv6(node->addresses.items[i], &network))
                        return network;
        return network;
}

static bool same_network(const Network *a, const Network *b) {
        return a->known && b->known && a->ipv6 == b->ipv6 && memcmp(a->groups, b->groups, sizeof(a->groups)) == 0;
}

/* ---- what the choice is made from */

typedef struct Seat {
        NodeId node;
        ElectorRole role;
        bool alive;
        bool caught_up;
        bool lost;                      /* silent for so long that its place is given away */
        const NodeRecord *member;       /* NULL: of the engine only */
        Network network;
} Seat;

typedef struct Room {
        NodeId self;
        Seat *seats;
        size_t n;
        size_t voters, live_voters;
        size_t member_voters;           /* without those of the engine only */
        size_t good_seats;              /* of members that are not lost */
        size_t target_voters, target_seats;
} Room;

static bool is_self(const Room *room, const Seat *seat) {
        return ID_EQUAL(&seat->node, &room->self);
}

static int make_room(const Electorate *electorate, Room *ret) {
        uint64_t patience = electorate->replace_after_us ? electorate->replace_after_us : ELECTORATE_REPLACE_AFTER_US;
        size_t n_members = electorate->registry->nodes.n, n = electorate->n_electors;
        Room room = { .self = electorate->self, .n = n, .target_voters = majority_voters(n_members) };
        size_t others = n_members - room.target_voters;
        room.target_seats = room.target_voters + (others < ELECTORATE_STANDBYS_MAX ? others : ELECTORATE_STANDBYS_MAX);
        room.seats = calloc(n + 1, sizeof(*room.seats));
        if (!room.seats)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                const Elector *elector = electorate->electors + i;
                Seat *seat = room.seats + i;
                *seat = (Seat) { .node = elector->node, .role = elector->role,
                                 .member = registry_find_node(electorate->registry, &elector->node) };
                seat->alive = elector->alive || is_self(&room, seat);
                seat->caught_up = elector->caught_up;
                seat->lost = !seat->alive && elector->silent_us >= patience;
                if (seat->member)
                        seat->network = network_of(seat->member);
                bool good = seat->member && !seat->lost;
                if (seat->role == ELECTOR_VOTER) {
                        room.voters++;
                        room.live_voters += seat->alive;
                        room.member_voters += seat->member != NULL;
                }
                if (seat->role != ELECTOR_NONE)
                        room.good_seats += good;
        }
        *ret = room;
        return 0;
}

/* With so many voters, of which so many are alive, can anything be decided? */
static bool is_quorate(size_t voters, size_t live) {
        return 2 * live > voters;
}

static bool may_lose_vote(const Room *room, const Seat *seat) {
        return is_quorate(room->voters - 1, room->live_voters - seat->alive);
}

/* ---- who is preferred */

/* Voters that count and would share the fate of @seat. */
static size_t count_neighbours(const Room *room, const Seat *seat) {
        size_t n = 0;
        for (size_t i = 0; i < room->n; i++) {
                const Seat *other = room->seats + i;
                n += other != seat && other->role == ELECTOR_VOTER && other->member && !other->lost &&
                     same_network(&other->network, &seat->network);
        }
        return n;
}

/* Is @a the better voter? Both are members. A witness has nothing else to do; who joined long ago is well known. */
static bool is_better(const Room *room, const Seat *a, const Seat *b) {
        if (a->lost != b->lost)
                return b->lost;
        if (a->alive != b->alive)
                return a->alive;
        if (a->role == ELECTOR_STANDBY && b->role == ELECTOR_STANDBY && a->caught_up != b->caught_up)
                return a->caught_up;
        if (a->member->witness != b->member->witness)
                return a->member->witness;
        size_t of_a = count_neighbours(room, a), of_b = count_neighbours(room, b);
        if (of_a != of_b)
                return of_a < of_b;
        if (a->member->joined_index != b->member->joined_index)
                return a->member->joined_index < b->member->joined_index;
        return ID_COMPARE(&a->node, &b->node) < 0;
}

static const Seat *find_best(const Room *room, ElectorRole role) {
        const Seat *best = NULL;
        for (size_t i = 0; i < room->n; i++) {
                const Seat *seat = room->seats + i;
                if (seat->role == role && seat->member && seat->alive && !is_self(room, seat) &&
                    (!best || is_better(room, seat, best)))
                        best = seat;
        }
        return best;
}

static const Seat *find_worst(const Room *room, ElectorRole role) {
        const Seat *worst = NULL;
        for (size_t i = 0; i < room->n; i++) {
                const Seat *seat = room->seats + i;
                if (seat->role == role && seat->member && !is_self(room, seat) &&
                    (!worst || is_better(room, worst, seat)))
                        worst = seat;
        }
        return worst;
}

/* ---- the steps; each says whether it has one */

static bool assign(ElectorateChange *change, const Seat *seat, ElectorRole role) {
        if (!seat)
                return false;
        *change = (ElectorateChange) { .step = ELECTORATE_ASSIGN, .node = seat->node, .role = role };
        return true;
}

/* Who is no member of the cluster any more has no place in the engine. */
static bool remove_stranger(const Room *room, ElectorateChange *change) {
        for (size_t i = 0; i < room->n; i++) {
                const Seat *seat = room->seats + i;
                if (seat->member || seat->role == ELECTOR_NONE)
                        continue;
                if (is_self(room, seat)) {
                        const Seat *heir = find_best(room, ELECTOR_VOTER);
                        if (!heir)
                                continue;
                        *change = (ElectorateChange) { .step = ELECTORATE_TRANSFER, .node = heir->node };
                        return true;
                }
                if (seat->role != ELECTOR_VOTER || may_lose_vote(room, seat))
                        return assign(change, seat, ELECTOR_NONE);
        }
        return false;
}

/* One that is too many; or one that is lost, before a standby gets its place (electorate.h). */
static bool demote_voter(const Room *room, ElectorateChange *change) {
        const Seat *worst = find_worst(room, ELECTOR_VOTER), *heir = find_best(room, ELECTOR_STANDBY);
        bool replaced = worst && worst->lost && heir && heir->caught_up;
        return worst && (room->voters > room->target_voters || replaced) && may_lose_vote(room, worst) &&
               assign(change, worst, ELECTOR_STANDBY);
}

/* For a place that is free. */
static bool promote_standby(const Room *room, ElectorateChange *change) {
        return room->member_voters < room->target_voters && is_quorate(room->voters + 1, room->live_voters + 1) &&
               assign(change, find_best(room, ELECTOR_STANDBY), ELECTOR_VOTER);
}

static bool remove_lost(const Room *room, ElectorateChange *change) {
        for (size_t i = 0; i < room->n; i++) {
                const Seat *seat = room->seats + i;
                if (seat->lost && (seat->role == ELECTOR_STANDBY || seat->role == ELECTOR_SPARE))
                        return assign(change, seat, ELECTOR_NONE);
        }
        return false;
}

static bool remove_surplus(const Room *room, ElectorateChange *change) {
        if (room->good_seats <= room->target_seats)
                return false;
        return assign(change, find_worst(room, ELECTOR_SPARE), ELECTOR_NONE) ||
               assign(change, find_worst(room, ELECTOR_STANDBY), ELECTOR_NONE);
}

static bool take_in(const Room *room, ElectorateChange *change) {
        return assign(change, find_best(room, ELECTOR_SPARE), ELECTOR_STANDBY) ||
               (room->good_seats < room->target_seats &&
                assign(change, find_best(room, ELECTOR_NONE), ELECTOR_STANDBY));
}

int electorate_next(const Electorate *electorate, ElectorateChange *ret) {
        bool (*const steps[])(const Room *, ElectorateChange *) = {
                remove_stranger, demote_voter, promote_standby, remove_lost, remove_surplus, take_in,
        };
        Room room;
        int r = make_room(electorate, &room);
        if (r < 0)
                return r;

        *ret = (ElectorateChange) { .step = ELECTORATE_IDLE };
        if (is_quorate(room.voters, room.live_voters))
                for (size_t i = 0; i < ELEMENTS(steps) && !steps[i](&room, ret); i++)
                        ;
        free(room.seats);
        return 0;
}
