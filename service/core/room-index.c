/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/room-index.h"

/* A tree for each pool, its links in the rooms themselves: sorted by key, and a heap by weight. The weight is the
 * room's number, stirred: as good as thrown dice for the depth of the tree, and the same on every run. */

typedef struct Key {
        uint32_t free;
        uint64_t shape;
        size_t by_name;
} Key;

static Key key_of(const Inventory *inventory, size_t room) {
        const Room *r = inventory->rooms.items + room;
        return (Key) { r->free, r->shape, inventory->nodes.items[r->node].by_name };
}

static int compare_keys(const Key *a, const Key *b) {
        if (a->free != b->free)
                return a->free < b->free ? -1 : 1;
        if (a->shape != b->shape)
                return a->shape < b->shape ? -1 : 1;
        return a->by_name < b->by_name ? -1 : a->by_name > b->by_name;
}

static uint64_t weight_of(size_t room) {
        uint64_t x = room + UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

/* Splits the tree at @key: what is less, and the rest. */
static void split(Inventory *inventory, size_t tree, const Key *key, size_t *ret_less, size_t *ret_rest) {
        while (tree != NOWHERE) {
                Room *room = inventory->rooms.items + tree;
                Key here = key_of(inventory, tree);
                if (compare_keys(&here, key) < 0) {
                        *ret_less = tree;
                        ret_less = &room->higher;
                        tree = room->higher;
                } else {
                        *ret_rest = tree;
                        ret_rest = &room->lower;
                        tree = room->lower;
                }
        }
        *ret_less = *ret_rest = NOWHERE;
}

/* All of @a are less than all of @b. */
static void join(Inventory *inventory, size_t a, size_t b, size_t *ret) {
        while (a != NOWHERE && b != NOWHERE)
                if (weight_of(a) > weight_of(b)) {
                        *ret = a;
                        ret = &inventory->rooms.items[a].higher;
                        a = *ret;
                } else {
                        *ret = b;
                        ret = &inventory->rooms.items[b].lower;
                        b = *ret;
                }
        *ret = a != NOWHERE ? a : b;
}

/* The link that leads to @room, or where it belongs. */
static size_t *find_link(Inventory *inventory, const Key *key, size_t room) {
        size_t *link = &inventory->pools.items[inventory->rooms.items[room].pool].root;
        bool is_there = inventory->rooms.items[room].indexed;
        while (*link != NOWHERE && *link != room && (is_there || weight_of(*link) >= weight_of(room))) {
                Key here = key_of(inventory, *link);
                link = compare_keys(&here, key) < 0 ? &inventory->rooms.items[*link].higher
                                                    : &inventory->rooms.items[*link].lower;
        }
        return link;
}

void room_index_add(Inventory *inventory, size_t index) {
        Room *room = inventory->rooms.items + index;
        if (room->indexed)
                return;
        Key key = key_of(inventory, index);
        size_t *link = find_link(inventory, &key, index);
        size_t below = *link;
        *link = index;
        split(inventory, below, &key, &room->lower, &room->higher);
        room->indexed = true;
}

void room_index_remove(Inventory *inventory, size_t index) {
        Room *room = inventory->rooms.items + index;
        if (!room->indexed)
                return;
        Key key = key_of(inventory, index);
        size_t *link = find_link(inventory, &key, index);
        join(inventory, room->lower, room->higher, link);
        room->lower = room->higher = NOWHERE;
        room->indexed = false;
}

/* The first room whose key is @key or more. */
static size_t find_from(const Inventory *inventory, size_t pool, const Key *key) {
        size_t found = NOWHERE, at = inventory->pools.items[pool].root;
        while (at != NOWHERE) {
                Key here = key_of(inventory, at);
                if (compare_keys(&here, key) < 0)
                        at = inventory->rooms.items[at].higher;
                else {
                        found = at;
                        at = inventory->rooms.items[at].lower;
                }
        }
        return found;
}

size_t room_index_first(const Inventory *inventory, size_t pool, uint32_t count) {
        return find_from(inventory, pool, &(Key) { .free = count });
}

size_t room_index_next(const Inventory *inventory, size_t room) {
        Key key = key_of(inventory, room);
        key.by_name++;
        return find_from(inventory, inventory->rooms.items[room].pool, &key);
}

typedef struct Walk {
        const Inventory *inventory;
        Key from;                       /* what is less is passed over */
        RoomStep (*visit)(void *userdata, size_t room);
        void *userdata;
} Walk;

/* As deep as the tree is. */
static void walk(Walk *w, size_t tree) {
        for (; tree != NOWHERE; tree = w->inventory->rooms.items[tree].higher) {
                Key here = key_of(w->inventory, tree);
                if (compare_keys(&here, &w->from) < 0)
                        continue;
                walk(w, w->inventory->rooms.items[tree].lower);
                if (compare_keys(&here, &w->from) < 0)
                        continue;
                w->from = here;
                w->from.by_name = w->visit(w->userdata, tree) == ROOM_NEXT_KIND ? NOWHERE : here.by_name + 1;
        }
}

void room_index_walk(const Inventory *inventory, size_t pool, uint32_t count,
                     RoomStep (*visit)(void *userdata, size_t room), void *userdata) {
        Walk w = { .inventory = inventory, .from = { .free = count }, .visit = visit, .userdata = userdata };
        walk(&w, inventory->pools.items[pool].root);
}
