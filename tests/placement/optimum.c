/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The program, for each priority in turn. y[k,r]: how many VMs of kind k get a place in room r, where VMs that are
 * alike (pool, count, priority) and bound to nobody are one kind.
 *
 *      most     sum of y[k,r], k of this priority
 *      so that  sum over r of y[k,r]           <= how many there are of k
 *               sum over k of count[k] y[k,r]  <= free GPUs of r
 *               sum of count[k] y[k,r] in a pool <= what its reserve and its licences leave
 *               sum of y[k,r], k of a higher priority, = what was found for that
 *
 * In a room with linked GPUs z[k,r,s] counts the sets of s GPUs that the VM takes: sum over s of s z[k,r,s] =
 * count[k] y[k,r], and sum over k of z[k,r,s] <= free sets of s; each VM is a kind of its own then. VMs that are bound:
 * "with" forbids two different nodes, "apart" forbids one. */

#include "optimum.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>

#define TERMS_IN_LINE 8U

typedef struct Kind {
        const Vm *vm;                   /* the first of them */
        size_t pool;
        unsigned n;
} Kind;

typedef struct Program {
        Inventory *inventory;
        GArray *kinds;
        bool any_sets;
        GString *integers;
        unsigned n_terms;
} Program;

#define KIND(program, k) (&g_array_index((program)->kinds, Kind, (k)))

/* ---- what there is */

static bool is_bound(const Program *program, const Vm *vm) {
        const Registry *registry = program->inventory->world->registry;
        if (vm->n_affinity > 0)
                return true;
        ARRAY_EACH(other, &registry->vms)
                for (size_t i = 0; i < other->n_affinity; i++)
                        if (text_equal(other->affinity[i].vm, vm->name))
                                return true;
        return false;
}

static void collect_kinds(Program *program, const size_t *tenants, size_t n) {
        Inventory *inventory = program->inventory;
        for (size_t i = 0; i < n; i++) {
                const Vm *vm = inventory->tenants.items[tenants[i]].vm;
                Kind made = { .vm = vm, .pool = inventory_find_pool(inventory, vm->pool), .n = 1 };
                if (made.pool == NOWHERE)
                        continue;
                bool alone = program->any_sets || (inventory->has_affinity && is_bound(program, vm)), found = false;
                for (guint k = 0; !alone && !found && k < program->kinds->len; k++) {
                        Kind *kind = KIND(program, k);
                        found = kind->pool == made.pool && kind->vm->count == vm->count &&
                                kind->vm->priority == vm->priority &&
                                !(inventory->has_affinity && is_bound(program, kind->vm));
                        kind->n += found;
                }
                if (!found)
                        g_array_append_val(program->kinds, made);
        }
}

static bool is_bound_by(const Vm *from, const Vm *to, AffinityKind kind) {
        for (size_t i = 0; i < from->n_affinity; i++)
                if (text_equal(from->affinity[i].vm, to->name) && from->affinity[i].kind == kind)
                        return true;
        return false;
}

static bool are_bound(const Vm *a, const Vm *b, AffinityKind kind) {
        return is_bound_by(a, b, kind) || is_bound_by(b, a, kind);
}

/* Those who run already decide where these may go. */
static bool residents_allow(const Inventory *inventory, const Vm *vm, size_t node) {
        for (size_t i = 0; inventory->has_affinity && i < inventory->tenants.n; i++) {
                const Tenant *other = inventory->tenants.items + i;
                if (other->node == NOWHERE || other->vm == vm)
                        continue;
                if (are_bound(vm, other->vm, other->node == node ? AFFINITY_APART : AFFINITY_WITH))
                        return false;
        }
        return true;
}

/* Free sets by their size. */
static void count_sets(const Inventory *inventory, const Room *room, unsigned sets[static GPUS_PER_NODE_MAX + 1]) {
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                unsigned size = 0;
                bool first = true;
                size_t j = i;
                do {
                        size++;
                        first = first && j >= i;
                        j = inventory->gpus.items[j].next_in_set;
                } while (j != i);
                if (first && inventory_gpu_is_free(inventory, i))
                        sets[size]++;
        }
}

static bool room_takes(const Program *program, guint k, size_t index) {
        const Inventory *inventory = program->inventory;
        const Room *room = inventory->rooms.items + index;
        const Kind *kind = KIND(program, k);
        return room->pool == kind->pool && inventory_node_takes_vms(inventory, room->node) &&
               choice_exists(inventory, room, inventory_models_of(inventory, kind->vm), kind->vm->count) &&
               residents_allow(inventory, kind->vm, room->node);
}

static bool is_supported(const Program *program, const size_t *tenants, size_t n) {
        const Inventory *inventory = program->inventory;
        for (size_t i = 0; i < inventory->gpus.n; i++)
                if (inventory->gpus.items[i].next_in_group != i)
                        return false;
        for (size_t i = 0; i < n; i++) {
                const Vm *vm = inventory->tenants.items[tenants[i]].vm;
                size_t pool = inventory_find_pool(inventory, vm->pool);
                if (pool != NOWHERE && inventory->pools.items[pool].pool->reserve > 0 && vm_lost_its_place(vm))
                        return false;
        }
        return true;
}

/* ---- writing the program */

static void put_term(Program *program, GString *text, const char *sign, unsigned factor, const char *name) {
        if (program->n_terms++ % TERMS_IN_LINE == TERMS_IN_LINE - 1)
                g_string_append(text, "\n  ");
        if (factor == 1)
                g_string_append_printf(text, " %s %s", sign, name);
        else
                g_string_append_printf(text, " %s %u %s", sign, factor, name);
}

static char *name_of_y(guint k, size_t room) {
        static char name[64];
        g_snprintf(name, sizeof(name), "y_%u_%zu", k, room);
        return name;
}

static char *name_of_z(guint k, size_t room, unsigned size) {
        static char name[64];
        g_snprintf(name, sizeof(name), "z_%u_%zu_%u", k, room, size);
        return name;
}

/* Of all rooms, or, where that is not NOWHERE, of those that are (not) on @node. */
static unsigned put_kind(Program *program, GString *text, guint k, unsigned factor, size_t node, bool on_it) {
        unsigned n = 0;
        for (size_t r = 0; r < program->inventory->rooms.n; r++) {
                if (!room_takes(program, k, r))
                        continue;
                if (node != NOWHERE && (program->inventory->rooms.items[r].node == node) != on_it)
                        continue;
                put_term(program, text, "+", factor, name_of_y(k, r));
                n++;
        }
        return n;
}

static void put_room(Program *program, GString *text, size_t r) {
        GString *sum = g_string_new(NULL);
        const Room *room = program->inventory->rooms.items + r;
        for (guint k = 0; k < program->kinds->len; k++)
                if (room_takes(program, k, r))
                        put_term(program, sum, "+", KIND(program, k)->vm->count, name_of_y(k, r));
        if (sum->len > 0)
                g_string_append_printf(text, "%s <= %u\n", sum->str, room->free);
        g_string_free(sum, TRUE);
}

static void put_sets(Program *program, GString *text, size_t r) {
        unsigned sets[GPUS_PER_NODE_MAX + 1] = {};
        const Room *room = program->inventory->rooms.items + r;
        if (!room->has_sets)
                return;
        count_sets(program->inventory, room, sets);
        for (guint k = 0; k < program->kinds->len; k++) {
                if (!room_takes(program, k, r))
                        continue;
                for (unsigned s = 1; s <= GPUS_PER_NODE_MAX; s++)
                        if (sets[s] > 0) {
                                put_term(program, text, "+", s, name_of_z(k, r, s));
                                g_string_append_printf(program->integers, " %s\n", name_of_z(k, r, s));
                        }
                put_term(program, text, "-", KIND(program, k)->vm->count, name_of_y(k, r));
                g_string_append(text, " = 0\n");
        }
        for (unsigned s = 1; s <= GPUS_PER_NODE_MAX; s++) {
                GString *sum = g_string_new(NULL);
                for (guint k = 0; sets[s] > 0 && k < program->kinds->len; k++)
                        if (room_takes(program, k, r))
                                put_term(program, sum, "+", 1, name_of_z(k, r, s));
                if (sum->len > 0)
                        g_string_append_printf(text, "%s <= %u\n", sum->str, sets[s]);
                g_string_free(sum, TRUE);
        }
}

static void put_pool(Program *program, GString *text, size_t index) {
        const InventoryPool *pool = program->inventory->pools.items + index;
        uint32_t most = pool->free > pool->pool->reserve ? pool->free - pool->pool->reserve : 0;
        uint32_t licences = pool->pool->max_in_use > pool->in_use ? pool->pool->max_in_use - pool->in_use : 0;
        GString *sum = g_string_new(NULL);
        if (pool->pool->max_in_use > 0 && licences < most)
                most = licences;
        for (guint k = 0; most < pool->free && k < program->kinds->len; k++)
                if (KIND(program, k)->pool == index)
                        (void) put_kind(program, sum, k, KIND(program, k)->vm->count, NOWHERE, true);
        if (sum->len > 0)
                g_string_append_printf(text, "%s <= %u\n", sum->str, most);
        g_string_free(sum, TRUE);
}

static void put_bond(Program *program, GString *text, guint a, guint b) {
        const Vm *x = KIND(program, a)->vm, *y = KIND(program, b)->vm;
        bool with = are_bound(x, y, AFFINITY_WITH), apart = are_bound(x, y, AFFINITY_APART);
        for (size_t r = 0; (with || apart) && r < program->inventory->rooms.n; r++) {
                if (!room_takes(program, a, r))
                        continue;
                size_t node = program->inventory->rooms.items[r].node;
                for (int on_it = 0; on_it < 2; on_it++) {
                        GString *sum = g_string_new(NULL);
                        if ((on_it ? apart : with) && put_kind(program, sum, b, 1, node, on_it) > 0) {
                                put_term(program, sum, "+", 1, name_of_y(a, r));
                                g_string_append_printf(text, "%s <= 1\n", sum->str);
                        }
                        g_string_free(sum, TRUE);
                }
        }
}

static unsigned put_class(Program *program, GString *text, int32_t priority, const char *sign) {
        unsigned n = 0;
        for (guint k = 0; k < program->kinds->len; k++)
                for (size_t r = 0; KIND(program, k)->vm->priority == priority && r < program->inventory->rooms.n; r++)
                        if (room_takes(program, k, r)) {
                                put_term(program, text, sign, 1, name_of_y(k, r));
                                n++;
                        }
        return n;
}

static void put_limits(Program *program, GString *text) {
        for (guint k = 0; k < program->kinds->len; k++)
                if (put_kind(program, text, k, 1, NOWHERE, true) > 0)
                        g_string_append_printf(text, " <= %u\n", KIND(program, k)->n);
        for (size_t r = 0; r < program->inventory->rooms.n; r++) {
                put_room(program, text, r);
                put_sets(program, text, r);
        }
        for (size_t p = 0; p < program->inventory->pools.n; p++)
                put_pool(program, text, p);
        for (guint a = 0; program->inventory->has_affinity && a < program->kinds->len; a++)
                for (guint b = 0; b < program->kinds->len; b++)
                        if (a != b)
                                put_bond(program, text, a, b);
}

/* NULL: no room takes any of this priority. */
static char *write_program(Program *program, const Optimum *optimum, size_t class) {
        GString *text = g_string_new("Minimize\n obj:");         /* of what is negative: each solver agrees on that */
        program->integers = g_string_new(NULL);
        if (put_class(program, text, optimum->classes[class].priority, "-") == 0) {
                g_string_free(text, TRUE);
                g_string_free(program->integers, TRUE);
                return NULL;
        }
        g_string_append(text, "\nSubject To\n");
        put_limits(program, text);
        for (size_t i = 0; i < class; i++)
                if (put_class(program, text, optimum->classes[i].priority, "+") > 0)
                        g_string_append_printf(text, " = %u\n", optimum->classes[i].placed);
        g_string_append(text, "General\n");
        for (guint k = 0; k < program->kinds->len; k++)
                for (size_t r = 0; r < program->inventory->rooms.n; r++)
                        if (room_takes(program, k, r))
                                g_string_append_printf(text, " %s\n", name_of_y(k, r));
        g_string_append(text, program->integers->str);
        g_string_append(text, "End\n");
        g_string_free(program->integers, TRUE);
        return g_string_free(text, FALSE);
}

/* ---- solving it */

bool optimum_has_solver(const char *solver) {
        char *path = g_find_program_in_path(solver);
        g_free(path);
        return path != NULL;
}

static int run(const char *const *words) {
        int status;
        if (!g_spawn_sync(NULL, (char **) words, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                          G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status, NULL))
                return -EIO;
        return status == 0 ? 0 : -EIO;
}

/* cbc: "Optimal - objective value -12.00000000", "Stopped on time - objective value ...";
 * glpsol: "Status:     INTEGER OPTIMAL", "Objective:  obj = -12 (MINimum)". */
static int read_answer(const char *answer, uint32_t *ret_placed) {
        const char *value = strstr(answer, "objective value"), *objective = strstr(answer, "obj = ");
        if (value)
                value += strlen("objective value");
        else if (objective)
                value = objective + strlen("obj = ");
        else
                return -EIO;
        double found = -g_ascii_strtod(value, NULL);
        if (found < -0.5 || found > VMS_MAX)
                return -EIO;
        *ret_placed = (uint32_t) (found + 0.5);
        bool proven = g_str_has_prefix(answer, "Optimal -") || strstr(answer, "INTEGER OPTIMAL");
        return proven ? OPTIMUM_FOUND : OPTIMUM_TOO_LONG;
}

static int solve(const char *solver, unsigned seconds, const char *program, uint32_t *ret_placed, double *ret_seconds) {
        char *folder = g_dir_make_tmp("gpupool-optimum-XXXXXX", NULL), *limit = g_strdup_printf("%u", seconds);
        if (!folder)
                return -EIO;
        char *problem = g_build_filename(folder, "problem.lp", NULL), *solution = g_build_filename(folder, "solution",
                                                                                                  NULL);
        /* Preprocessed, cbc 2.10 takes plans that break a row for optimal ones (drawn-reserve-and-sets). */
        const char *const by_cbc[] = { "cbc", problem, "preprocess", "off", "sec", limit, "ratio", "0", "solve", "solu",
                                       solution, NULL };
        const char *const by_glpsol[] = { "glpsol", "--lp", problem, "--tmlim", limit, "--cuts", "-o", solution, NULL };
        char *answer = NULL;
        gint64 begun = g_get_monotonic_time();
        int r = g_file_set_contents(problem, program, -1, NULL)
                        ? run(text_equal(solver, "cbc") ? by_cbc : by_glpsol) : -EIO;
        *ret_seconds += (double) (g_get_monotonic_time() - begun) / 1e6;
        if (r >= 0)
                r = g_file_get_contents(solution, &answer, NULL, NULL) ? read_answer(answer, ret_placed) : -EIO;
        (void) g_unlink(problem);
        (void) g_unlink(solution);
        (void) g_rmdir(folder);
        g_free(answer);
        g_free(problem);
        g_free(solution);
        g_free(limit);
        g_free(folder);
        return r;
}

static int solve_classes(Program *program, const char *solver, unsigned seconds, Optimum *ret) {
        int verdict = OPTIMUM_FOUND;
        for (size_t i = 0; i < ret->n; i++) {
                char *text = write_program(program, ret, i);
                int r = text ? solve(solver, seconds, text, &ret->classes[i].placed, &ret->seconds) : OPTIMUM_FOUND;
                g_free(text);
                if (r < 0)
                        return r;
                if (r != OPTIMUM_FOUND)
                        verdict = r;
        }
        return verdict;
}

int optimum_find(Inventory *inventory, const size_t *tenants, size_t n, const char *solver, unsigned seconds,
                 Optimum *ret) {
        Program program = { .inventory = inventory };
        if (!solver)
                solver = optimum_has_solver("cbc") ? "cbc" : "glpsol";
        if (!optimum_has_solver(solver))
                return OPTIMUM_NO_SOLVER;
        if (!is_supported(&program, tenants, n))
                return OPTIMUM_NOT_SUPPORTED;

        *ret = (Optimum) {};
        ret->n = count_classes(inventory, tenants, n, ret->classes);
        for (size_t i = 0; i < inventory->rooms.n; i++)
                program.any_sets = program.any_sets || inventory->rooms.items[i].has_sets;
        program.kinds = g_array_new(FALSE, TRUE, sizeof(Kind));
        collect_kinds(&program, tenants, n);
        int r = solve_classes(&program, solver, seconds, ret);
        g_array_free(program.kinds, TRUE);
        return r;
}
