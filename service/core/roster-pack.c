/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/placement-internal.h"
#include "core/roster-internal.h"
#include "core/room-index.h"

/* How far one VM that makes way may make others make way, and how many moves are tried for one VM. */
#define CHAIN_MAX 4U
#define MOVES_PER_VM_MAX 400U

typedef ARRAY(size_t) ItemList;

int pass_seek(Pass *pass, size_t item, uint32_t count, size_t *ret_room) {
        if (*pass->effort == 0)
                return -ECANCELED;
        --*pass->effort;
        return placement_seek(pass->inventory, pass->roster->items.items[item].tenant, count, ret_room);
}

bool pass_put(Pass *pass, size_t index, size_t room) {
        RosterItem *item = pass->roster->items.items + index;
        const Tenant *tenant = pass_tenant(pass, index);
        uint32_t count = tenant->vm->count;
        if (!choice_make(pass->inventory, pass->inventory->rooms.items + room, tenant->models, count, &item->choice))
                return false;
        inventory_take(pass->inventory, item->tenant, item->choice.gpus, item->choice.n_gpus);
        item->verdict = PLACEMENT_FOUND;
        pass->ledgers[pass_tenant(pass, index)->pool].planned[count]++;
        return true;
}

void pass_put_back(Pass *pass, size_t index, const Choice *choice) {
        RosterItem *item = pass->roster->items.items + index;
        item->choice = *choice;
        inventory_take(pass->inventory, item->tenant, item->choice.gpus, item->choice.n_gpus);
        item->verdict = PLACEMENT_FOUND;
        pass->ledgers[pass_tenant(pass, index)->pool].planned[pass_tenant(pass, index)->vm->count]++;
}

void pass_lift(Pass *pass, size_t index) {
        RosterItem *item = pass->roster->items.items + index;
        inventory_vacate(pass->inventory, item->tenant);
        item->verdict = PLACEMENT_NO_ROOM;
        pass->ledgers[pass_tenant(pass, index)->pool].planned[pass_tenant(pass, index)->vm->count]--;
}

/* What is free or planned stays the same in each room, whoever is moved. */
static void count_capacity(const Pass *pass, size_t index, Ledger *ledger) {
        const InventoryPool *pool = pass->inventory->pools.items + index;
        *ledger = (Ledger) { .counted = true };
        for (size_t i = pool->first_room; i < pool->first_room + pool->n_rooms; i++) {
                const Room *room = pass->inventory->rooms.items + i;
                uint32_t n = room->free;
                if (!inventory_node_takes_vms(pass->inventory, room->node))
                        continue;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++) {
                        size_t tenant = pass->inventory->gpus.items[j].tenant;
                        n += tenant != NOBODY && pass->item_of[tenant] != NOWHERE;
                }
                for (uint64_t sizes = pool->sizes; n > 0 && sizes != 0; sizes &= sizes - 1) {
                        uint32_t need = (uint32_t) __builtin_ctzll(sizes) + 1;
                        ledger->capacity[need] += n / need;
                }
        }
        for (size_t i = 0; i < pass->roster->items.n; i++)
                if (pass_has_placed(pass, i) && pass_tenant(pass, i)->pool == index)
                        ledger->planned[pass_tenant(pass, i)->vm->count]++;
}

/* A VM that needs 5 takes at least two of the places for 2, wherever it is. */
bool pass_may_fit(Pass *pass, size_t item) {
        size_t index = pass_tenant(pass, item)->pool;
        const InventoryPool *pool = pass->inventory->pools.items + index;
        Ledger *ledger = pass->ledgers + index;
        uint32_t count = pass_tenant(pass, item)->vm->count;
        if (!ledger->counted)
                count_capacity(pass, index, ledger);
        for (uint64_t sizes = pool->sizes; sizes != 0; sizes &= sizes - 1) {
                uint32_t need = (uint32_t) __builtin_ctzll(sizes) + 1, taken = count / need;
                for (uint64_t others = pool->sizes; taken > 0 && others != 0; others &= others - 1) {
                        uint32_t other = (uint32_t) __builtin_ctzll(others) + 1;
                        taken += ledger->planned[other] * (other / need);
                }
                if (taken > ledger->capacity[need])
                        return false;
        }
        return true;
}

static int place_alone(Pass *pass, size_t item) {
        size_t room;
        int r = pass_seek(pass, item, pass_tenant(pass, item)->vm->count, &room);
        return r < 0 ? r : r == PLACEMENT_FOUND && pass_put(pass, item, room);
}

/* ---- those who must be together */

/* Those to whom a bond may lead now: placed or not. A wish binds nobody, and apart only where @apart says so. */
static bool leads_to(const Pass *pass, const Bond *bond, bool apart, bool placed, size_t *ret_item) {
        *ret_item = pass->item_of[bond->other];
        return !bond->soft && (apart || !bond->apart) && *ret_item != NOWHERE && !pass->seen[*ret_item] &&
               pass_has_placed(pass, *ret_item) == placed;
}

/* Adds to the list all to whom its items are bound, directly or over others. */
static int follow_bonds(Pass *pass, bool apart, bool placed, ItemList *list) {
        int r = 0;
        for (size_t i = 0; i < list->n; i++)
                pass->seen[list->items[i]] = true;
        for (size_t i = 0; r >= 0 && i < list->n; i++) {
                const Tenant *tenant = pass_tenant(pass, list->items[i]);
                for (size_t b = tenant->first_bond; r >= 0 && b < tenant->first_bond + tenant->n_bonds; b++) {
                        size_t other;
                        if (!leads_to(pass, pass->inventory->bonds.items + b, apart, placed, &other) ||
                            (!placed && !pass->in_play[other]))
                                continue;
                        r = array_append(list, &other);
                        pass->seen[other] = true;
                }
        }
        ARRAY_EACH(item, list)
                pass->seen[*item] = false;
        return r;
}

/* @item and all that are in play, have no place and must be with it, whether it names them or a third one does. In the
 * order of the roster: it does not depend on ids. */
static int list_companions(Pass *pass, size_t item, ItemList *ret) {
        int r = array_append(ret, &item);
        if (r >= 0)
                r = follow_bonds(pass, false, false, ret);
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), array_compare_indexes);
        return r;
}

static uint32_t count_together(const Pass *pass, const ItemList *list) {
        uint32_t count = 0;
        ARRAY_EACH(item, list)
                if (pass_tenant(pass, *item)->pool == pass_tenant(pass, list->items[0])->pool)
                        count += pass_tenant(pass, *item)->vm->count;
        return count;
}

/* What they need at least of what the first one takes: others may take other models. */
static uint32_t count_alike(const Pass *pass, const ItemList *list) {
        const Tenant *first = pass_tenant(pass, list->items[0]);
        uint32_t count = 0;
        ARRAY_EACH(item, list) {
                const Tenant *tenant = pass_tenant(pass, *item);
                if (tenant->pool == first->pool && (tenant->models & ~first->models) == 0)
                        count += tenant->vm->count;
        }
        return count;
}

static int put_all(Pass *pass, const ItemList *list, size_t node) {
        for (size_t i = 0; i < list->n; i++) {
                size_t item = list->items[i];
                size_t room = inventory_find_room(pass->inventory, pass_tenant(pass, item)->pool, node);
                int r = room == NOWHERE ? 0 : placement_room_does(pass->inventory,
                                                                  pass->roster->items.items[item].tenant, room);
                if (r > 0 && (!pass->limited || pass_pool_allows(pass, item)) && pass_put(pass, item, room))
                        continue;
                while (i > 0)
                        pass_lift(pass, list->items[--i]);
                return r < 0 ? r : 0;
        }
        return 1;
}

static int place_together(Pass *pass, const ItemList *list) {
        Inventory *inventory = pass->inventory;
        size_t first = pass->roster->items.items[list->items[0]].tenant, room;
        uint32_t count = count_alike(pass, list);
        ARRAY_EACH(item, list)
                if (pass_tenant(pass, *item)->pool == NOWHERE)
                        return 0;
        if (count > GPUS_PER_VM_MAX)
                count = inventory->tenants.items[first].vm->count;
        int r = pass_seek(pass, list->items[0], count, &room);
        if (r < 0 || r != PLACEMENT_FOUND)
                return r < 0 ? r : 0;
        r = put_all(pass, list, inventory->rooms.items[room].node);
        if (r != 0)
                return r;

        /* The best room is not one for all of them. */
        RoomList rooms = {};
        int placed = 0;
        r = placement_list(inventory, first, count, &rooms);
        for (size_t i = 0; r >= 0 && placed == 0 && i < rooms.n; i++)
                placed = put_all(pass, list, inventory->rooms.items[rooms.items[i]].node);
        array_clear(&rooms);
        return r < 0 ? r : placed;
}

int pass_place(Pass *pass, size_t item) {
        if (pass_tenant(pass, item)->n_bonds == 0)
                return place_alone(pass, item);
        ItemList list = {};
        int r = list_companions(pass, item, &list);
        if (r >= 0)
                r = list.n == 1 ? place_alone(pass, item) : place_together(pass, &list);
        array_clear(&list);
        return r;
}

/* ---- one makes way for another */

/* Planned ones that stand in a room and may go elsewhere. Bound ones too: they find only such places as their bonds to
 * all that are placed then allow. */
typedef struct Movers {
        size_t items[GPUS_PER_NODE_MAX];
        size_t n;
} Movers;

static void list_movers(const Pass *pass, const Room *room, Movers *ret) {
        ret->n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus && ret->n < GPUS_PER_NODE_MAX; i++) {
                size_t tenant = pass->inventory->gpus.items[i].tenant;
                size_t item = tenant == NOBODY ? NOWHERE : pass->item_of[tenant];
                bool known = item == NOWHERE || !pass->in_play[item];
                for (size_t j = 0; j < ret->n && !known; j++)
                        known = ret->items[j] == item;
                if (!known)
                        ret->items[ret->n++] = item;
        }
}

static uint32_t need_of(const Pass *pass, size_t item) {
        return item == NOWHERE ? 0 : pass_tenant(pass, item)->vm->count;
}

static int make_way(Pass *pass, size_t item, unsigned chain, unsigned *moves);

static int find_another_place(Pass *pass, size_t item, unsigned chain, unsigned *moves) {
        int r = item == NOWHERE ? 1 : place_alone(pass, item);
        return r != 0 || chain == 0 ? r : make_way(pass, item, chain, moves);
}

/* Puts @item where @first and @second stand (NOWHERE: nobody), who go elsewhere. Each step that is taken back leaves
 * the ones before it as they were. */
static int change_places(Pass *pass, size_t room, size_t item, size_t first, size_t second, unsigned chain,
                         unsigned *moves) {
        Choice choices[2];
        size_t movers[2] = { first, second };
        for (size_t i = 0; i < 2; i++)
                if (movers[i] != NOWHERE) {
                        choices[i] = pass->roster->items.items[movers[i]].choice;
                        pass_lift(pass, movers[i]);
                }
        int r = placement_room_does(pass->inventory, pass->roster->items.items[item].tenant, room);
        if (r > 0 && pass_put(pass, item, room)) {
                pass->in_play[item] = false;            /* it stays here while the others look */
                r = find_another_place(pass, first, second == NOWHERE ? chain : 0, moves);
                if (r > 0) {
                        r = find_another_place(pass, second, chain, moves);
                        if (r == 0 && first != NOWHERE)
                                pass_lift(pass, first);
                }
                pass->in_play[item] = true;
                if (r > 0)
                        return 1;
                pass_lift(pass, item);
        }
        for (size_t i = 0; r >= 0 && i < 2; i++)
                if (movers[i] != NOWHERE)
                        pass_put_back(pass, movers[i], choices + i);
        return r < 0 ? r : 0;
}

static bool same_need_before(const Pass *pass, const Movers *movers, size_t index) {
        const Tenant *tenant = pass_tenant(pass, movers->items[index]);
        for (size_t i = 0; i < index; i++) {
                const Tenant *before = pass_tenant(pass, movers->items[i]);
                if (before->vm->count == tenant->vm->count && before->models == tenant->models &&
                    before->vm->needs.memory_bytes == tenant->vm->needs.memory_bytes)
                        return true;
        }
        return false;
}

/* Who needs as many GPUs may go where @item cannot? Where GPUs enough are free, and something else is missing or in
 * the way. */
static bool may_trade(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        return (pass_is_choosy(pass, item) || tenant->n_bonds > 0) &&
               room_index_first(pass->inventory, tenant->pool, tenant->vm->count) != NOWHERE;
}

static int make_way_in(Pass *pass, size_t index, size_t item, unsigned chain, unsigned *moves) {
        bool trades = may_trade(pass, item);
        const Room *room = pass->inventory->rooms.items + index;
        uint32_t need = need_of(pass, item);
        Movers movers;
        list_movers(pass, room, &movers);
        for (size_t i = 0; i < movers.n; i++)
                for (size_t j = i; j < movers.n; j++) {
                        uint32_t freed = need_of(pass, movers.items[i]);
                        freed += j > i ? need_of(pass, movers.items[j]) : 0;
                        if (room->free + freed < need || (freed == need && !trades) ||
                            same_need_before(pass, &movers, i) ||
                            *moves == 0 || pass->budget == 0)
                                continue;
                        --*moves;
                        pass->budget--;
                        int r = change_places(pass, index, item, movers.items[i], j > i ? movers.items[j] : NOWHERE,
                                              chain, moves);
                        if (r != 0)
                                return r;
                }
        return 0;
}

static int make_way(Pass *pass, size_t item, unsigned chain, unsigned *moves) {
        const Tenant *tenant = pass_tenant(pass, item);
        if (pass->inventory->pools.items[tenant->pool].free < tenant->vm->count)
                return 0;
        for (size_t i = 0; i < pass->inventory->nodes.n && *moves > 0; i++) {
                size_t room = inventory_find_room(pass->inventory, tenant->pool, pass->inventory->nodes_by_name[i]);
                if (room == NOWHERE || pass->inventory->rooms.items[room].usable < tenant->vm->count)
                        continue;
                int r = make_way_in(pass, room, item, chain - 1, moves);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* ---- all anew */

/* One that is to be placed, and how hard that is. */
typedef struct Piece {
        size_t item;
        uint32_t size;                  /* with all that must be with it */
        bool first, bound, picky;
        const Vm *vm;
} Piece;

static int compare_pieces(const void *a, const void *b) {
        const Piece *x = a, *y = b;
        if (x->first != y->first)
                return x->first ? -1 : 1;
        if (x->size != y->size)
                return x->size > y->size ? -1 : 1;
        if (x->bound != y->bound)
                return x->bound ? -1 : 1;
        if (x->picky != y->picky)
                return x->picky ? -1 : 1;
        if (x->vm->needs.memory_bytes != y->vm->needs.memory_bytes)
                return x->vm->needs.memory_bytes > y->vm->needs.memory_bytes ? -1 : 1;
        return placement_compare_urgency(x->vm, y->vm);
}

/* Not all nodes would do, or not all their GPUs. */
static bool is_picky(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        return tenant->vm->needs.cpu_model || tenant->vm->needs.cpu_vendor ||
               (tenant->pool != NOWHERE && inventory_is_picky(pass->inventory, tenant));
}

static bool must_be_apart(const Pass *pass, size_t item) {
        const Tenant *tenant = pass_tenant(pass, item);
        for (size_t b = tenant->first_bond; b < tenant->first_bond + tenant->n_bonds; b++) {
                const Bond *bond = pass->inventory->bonds.items + b;
                if (bond->apart && !bond->soft)
                        return true;
        }
        return false;
}

static int list_pieces(Pass *pass, bool apart_first, Piece *pieces, size_t *ret_n) {
        size_t n = 0;
        for (size_t i = 0; i < pass->roster->items.n; i++) {
                const Tenant *tenant = pass_tenant(pass, i);
                if (!pass->in_play[i])
                        continue;
                pieces[n] = (Piece) {
                        .item = i,
                        .size = tenant->vm->count,
                        .first = apart_first && must_be_apart(pass, i),
                        .bound = tenant->n_bonds > 0,
                        .picky = is_picky(pass, i),
                        .vm = tenant->vm,
                };
                if (tenant->n_bonds > 0) {
                        ItemList list = {};
                        int r = list_companions(pass, i, &list);
                        pieces[n].size = count_together(pass, &list);
                        array_clear(&list);
                        if (r < 0)
                                return r;
                }
                n++;
        }
        qsort(pieces, n, sizeof(*pieces), compare_pieces);
        *ret_n = n;
        return 0;
}

int pass_pack(Pass *pass, bool apart_first) {
        _cleanup_free_ Piece *pieces = calloc(pass->roster->items.n + 1, sizeof(*pieces));
        size_t n;
        if (!pieces)
                return -ENOMEM;
        int r = list_pieces(pass, apart_first, pieces, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                unsigned moves = MOVES_PER_VM_MAX;
                if (pass_has_placed(pass, pieces[i].item))
                        continue;
                r = pass_place(pass, pieces[i].item);
                if (r == 0)
                        r = make_way(pass, pieces[i].item, CHAIN_MAX, &moves);
                if (r <= 0)
                        break;
        }
        for (size_t i = 0; r <= 0 && i < n; i++)
                if (pass_has_placed(pass, pieces[i].item))
                        pass_lift(pass, pieces[i].item);
        return n == 0 ? 1 : r;
}

/* Which are placed anew: all of the pool, and those of other pools that are bound to one of them. */
static int choose_players(Pass *pass, size_t item) {
        size_t pool = pass_tenant(pass, item)->pool;
        ItemList players = {};
        int r = array_append(&players, &item);
        for (size_t i = 0; r >= 0 && i < pass->roster->items.n; i++)
                if (pass_has_placed(pass, i) && pass_tenant(pass, i)->pool == pool)
                        r = array_append(&players, &i);
        if (r >= 0 && pass->inventory->bonds.n > 0)
                r = follow_bonds(pass, true, true, &players);
        ARRAY_EACH(player, &players)
                pass->in_play[*player] = r >= 0;
        array_clear(&players);
        return r;
}

/* Who must be apart finds no place any more, where large ones that are not bound took what would do for it. */
static bool plays_apart(const Pass *pass) {
        for (size_t i = 0; pass->inventory->bonds.n > 0 && i < pass->roster->items.n; i++)
                if (pass->in_play[i] && must_be_apart(pass, i))
                        return true;
        return false;
}

int pass_repack(Pass *pass, size_t item, bool rare) {
        Roster *roster = pass->roster;
        _cleanup_free_ Choice *choices = calloc(roster->items.n + 1, sizeof(*choices));
        _cleanup_free_ bool *placed = calloc(roster->items.n + 1, sizeof(*placed));
        if (!choices || !placed)
                return -ENOMEM;
        if (rare && pass->replacements < roster->items.n)
                return 0;
        pass->replacements -= rare ? roster->items.n : 0;
        int r = choose_players(pass, item);
        if (r < 0)
                return r;
        for (size_t i = 0; i < roster->items.n; i++) {
                placed[i] = pass->in_play[i] && pass_has_placed(pass, i);
                choices[i] = roster->items.items[i].choice;
                if (placed[i])
                        pass_lift(pass, i);
        }
        r = pass_pack(pass, false);
        if (r == 0 && plays_apart(pass))
                r = pass_pack(pass, true);
        if (r > 0 && !pass_pool_is_content(pass, item)) {
                for (size_t i = 0; i < roster->items.n; i++)
                        if (pass->in_play[i])
                                pass_lift(pass, i);
                r = 0;
        }
        for (size_t i = 0; i < roster->items.n; i++) {
                if (r == 0 && placed[i])
                        pass_put_back(pass, i, choices + i);
                pass->in_play[i] = false;
        }
        return r;
}
