/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "instance.h"

const Shape shapes[SHAPES_COUNT] = {
        { "empty, 10 nodes, small VMs", .nodes = 10, .gpus = 8, .sizes = SIZES_SMALL, .classes = 1, .load = 105 },
        { "empty, 10 nodes", .nodes = 10, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 110 },
        { "half full, 10 nodes", .nodes = 10, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 110,
          .resident = 50 },
        { "half full, 10 nodes, one class", .nodes = 10, .gpus = 8, .sizes = SIZES_POWERS, .classes = 1, .load = 130,
          .resident = 50 },
        { "uneven VMs, 10 nodes", .nodes = 10, .gpus = 8, .sizes = SIZES_UNEVEN, .classes = 2, .load = 110 },
        { "uneven VMs, nodes of 4 and 8", .nodes = 12, .gpus = 8, .sizes = SIZES_UNEVEN, .classes = 2, .load = 100,
          .resident = 20, .mixed = true },
        { "linked GPUs, 6 nodes", .nodes = 6, .gpus = 8, .sizes = SIZES_POWERS, .classes = 2, .load = 110,
          .resident = 20, .sets = true },
        { "bound VMs, 6 nodes", .nodes = 6, .gpus = 8, .sizes = SIZES_POWERS, .classes = 2, .load = 110,
          .resident = 20, .bound = 30 },
        { "half full, 100 nodes", .nodes = 100, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 110,
          .resident = 50 },
        { "uneven VMs, 100 nodes", .nodes = 100, .gpus = 8, .sizes = SIZES_UNEVEN, .classes = 2, .load = 110,
          .resident = 30 },
        { "up to 8 nodes", .nodes = 8, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 160, .resident = 70,
          .drawn = true },
        { "up to 8 nodes, cut to fit", .nodes = 8, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 130,
          .resident = 70, .drawn = true, .cut = true },
        { "up to 8 nodes, uneven VMs cut to fit", .nodes = 8, .gpus = 8, .sizes = SIZES_UNEVEN, .classes = 3,
          .load = 130, .resident = 40, .drawn = true, .cut = true },
        { "up to 8 nodes, linked, bound, reserve", .nodes = 8, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3,
          .load = 160, .resident = 50, .sets = true, .bound = 30, .drawn = true, .reserve = 4 },
        { "up to 8 nodes, uneven, linked, bound", .nodes = 8, .gpus = 8, .sizes = SIZES_UNEVEN, .classes = 2,
          .load = 160, .resident = 50, .sets = true, .bound = 40, .drawn = true },
};

#define FOUR 4U

typedef struct Node {
        unsigned gpus;
        unsigned set;           /* GPUs that go together; 1: none */
        guint64 taken;          /* bit by bit */
} Node;

static unsigned draw(GRand *rand, unsigned below) {
        return (unsigned) g_rand_int_range(rand, 0, (int) below);
}

static unsigned draw_size(GRand *rand, Sizes sizes) {
        unsigned n = draw(rand, 100);
        switch (sizes) {
        case SIZES_POWERS:
                return n < 50 ? 1 : n < 72 ? 2 : n < 90 ? 4 : 8;
        case SIZES_SMALL:
                return n < 70 ? 1 : 2;
        case SIZES_UNEVEN:
                return 1 + draw(rand, 8);
        }
        return 1;
}

/* What is asked for, until it is enough. */
typedef struct Demand {
        unsigned n, asked;
} Demand;

static void tell_vm(const Shape *shape, GRand *rand, unsigned size, Demand *demand, GString *text) {
        g_string_append_printf(text, "vm v%u pool p count %u priority %u", demand->n, size,
                               10 * (1 + draw(rand, shape->classes)));
        if (demand->n > 0 && draw(rand, 100) < shape->bound)
                g_string_append_printf(text, " %s v%u", draw(rand, 2) ? "with" : "apart", draw(rand, demand->n));
        g_string_append_c(text, '\n');
        demand->n++;
        demand->asked += size;
}

static unsigned count_free(const Node *node) {
        unsigned n = 0;
        for (unsigned i = 0; i < node->gpus; i++)
                n += !(node->taken >> i & 1);
        return n;
}

/* All of it can run together. */
static void tell_cut(const Shape *shape, GRand *rand, const Node *nodes, Demand *demand, GString *text) {
        for (unsigned i = 0; i < shape->nodes; i++)
                for (unsigned left = count_free(nodes + i), size; left > 0; left -= size) {
                        do
                                size = draw_size(rand, shape->sizes);
                        while (size > left);
                        tell_vm(shape, rand, size, demand, text);
                }
}

/* Of a shape that leaves it open. */
static Shape settle_shape(const Shape *shape, GRand *rand) {
        Shape settled = *shape;
        if (!shape->drawn)
                return settled;
        settled.nodes = 1 + draw(rand, shape->nodes);
        settled.load = shape->load / 2 + draw(rand, shape->load / 2 + 1);
        settled.resident = draw(rand, shape->resident + 1);
        return settled;
}

static void tell_nodes(const Shape *shape, GRand *rand, Node *nodes, GString *text) {
        for (unsigned i = 0; i < shape->nodes; i++) {
                nodes[i].gpus = shape->mixed && i % 2 ? shape->gpus / 2 : shape->gpus;
                nodes[i].set = shape->sets && i % 2 ? (draw(rand, 2) ? FOUR : 2) : 1;
                g_string_append_printf(text, "node n%03u\n", i);
                for (unsigned j = 0; j < nodes[i].gpus; j++) {
                        g_string_append_printf(text, "gpu n%03u 0000:%02x:00.0 pool p numa %u switch 0000:%02x:00.0", i,
                                               j + 1, j / FOUR, 0xe0 + j / FOUR);
                        if (nodes[i].set > 1)
                                g_string_append_printf(text, " set s%u", j / nodes[i].set);
                        g_string_append_c(text, '\n');
                }
        }
}

/* On GPUs side by side, or where there are none, on any. */
static bool settle(Node *node, unsigned index, unsigned size, const char *name, GString *text) {
        unsigned first = 0, step = node->set;
        guint64 wanted = (G_GUINT64_CONSTANT(1) << size) - 1;
        while (first + size <= node->gpus && (node->taken & wanted << first))
                first += step;
        if (size % step != 0 || first + size > node->gpus)
                return false;
        node->taken |= wanted << first;
        g_string_append_printf(text, "vm %s pool p count %u priority 50 on n%03u running", name, size, index);
        for (unsigned i = first; i < first + size; i++)
                g_string_append_printf(text, " 0000:%02x:00.0", i + 1);
        g_string_append_c(text, '\n');
        return true;
}

static unsigned tell_residents(const Shape *shape, GRand *rand, Node *nodes, unsigned total, GString *text) {
        unsigned taken = 0, wanted = total * shape->resident / 100;
        for (unsigned i = 0, failed = 0; taken < wanted && failed < 1000; i++) {
                unsigned index = draw(rand, shape->nodes), size = MIN(draw_size(rand, shape->sizes), FOUR);
                char name[16];
                g_snprintf(name, sizeof(name), "r%u", i);
                if (settle(nodes + index, index, size, name, text))
                        taken += size;
                else
                        failed++;
        }
        return taken;
}

char *instance_make(const Shape *open, uint32_t seed) {
        GRand *rand = g_rand_new_with_seed(seed);
        Shape shape = settle_shape(open, rand);
        Node *nodes = g_new0(Node, shape.nodes);
        GString *text = g_string_new(NULL);
        Demand demand = {};
        unsigned total = 0;
        g_string_printf(text, "# %s, seed %u\npool p pack", shape.name, seed);
        if (shape.reserve > 0)
                g_string_append_printf(text, " reserve %u", shape.reserve);
        g_string_append_c(text, '\n');
        tell_nodes(&shape, rand, nodes, text);
        for (unsigned i = 0; i < shape.nodes; i++)
                total += nodes[i].gpus;
        unsigned wanted = (total - tell_residents(&shape, rand, nodes, total, text)) * shape.load / 100;
        if (shape.cut)
                tell_cut(&shape, rand, nodes, &demand, text);
        while (demand.asked < wanted)
                tell_vm(&shape, rand, draw_size(rand, shape.sizes), &demand, text);
        g_free(nodes);
        g_rand_free(rand);
        return g_string_free(text, FALSE);
}

const char *const instance_more[INSTANCE_MORE_COUNT] = {
        "node more\ngpus more 1 pool p",
        "gpu n000 0000:20:00.0 pool p numa 0",
        "node more\ngpus more 8 pool p",
};

char *instance_with_more(const char *text, const char *more) {
        const char *vms = strstr(text, "\nvm ");
        return g_strdup_printf("%.*s\n%s%s", (int) (vms - text), text, more, vms);
}
