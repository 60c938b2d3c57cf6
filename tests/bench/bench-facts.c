/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a node keeps of a cluster of 3 and of 1000 nodes with eight GPUs each: the state of gossip, and the facts as the
 * service has taken them out of it, in KiB of the heap and of the process (RSS).
 *
 * bench-facts */

#include <malloc.h>
#include <unistd.h>

#include "bench/host-facts.h"
#include "core/facts-codec.h"
#include "unit/gossip-exchange.h"

#define GPUS 8U

static void must(bool good, const char *what) {
        if (good)
                return;
        fprintf(stderr, "bench-facts: %s\n", what);
        exit(1);
}

static double heap_kib(void) {
        return (double) mallinfo2().uordblks / 1024;
}

static double rss_kib(void) {
        unsigned long size, resident = 0;
        FILE *file = fopen("/proc/self/statm", "re");
        must(file && fscanf(file, "%lu %lu", &size, &resident) == 2, "/proc/self/statm");
        (void) fclose(file);
        return (double) resident * (double) sysconf(_SC_PAGESIZE) / 1024;
}

static NodeId node_id(unsigned number) {
        NodeId id = { .bytes = { 0xa7, (uint8_t) (number >> 8), (uint8_t) number } };
        for (size_t i = 3; i < ID_SIZE; i++)
                id.bytes[i] = (uint8_t) (number * 37 + i);
        return id;
}

static void publish(Gossip *gossip) {
        NodeFacts facts;
        must(host_facts_make(gossip_self(gossip), GPUS, UINT64_C(1) << 40, &facts) >= 0, "out of memory");
        must(facts_publish(gossip, &facts) >= 0, "facts cannot be published");
        node_facts_clear(&facts);
}

static Gossip *learn(const NodeId *ids, unsigned n) {
        Gossip *gossip = NULL;
        must(gossip_new(&gossip, ids, 1) >= 0 && gossip_set_members(gossip, ids, n) >= 0, "out of memory");
        publish(gossip);
        for (unsigned i = 1; i < n; i++) {
                Gossip *other = NULL;
                must(gossip_new(&other, ids + i, 1) >= 0 && gossip_set_members(other, ids, 1) >= 0, "out of memory");
                publish(other);
                (void) exchange(other, gossip);
                gossip_free(other);
        }
        return gossip;
}

/* KiB for each node. */
static double measure(unsigned n) {
        _cleanup_free_ NodeId *ids = calloc(n, sizeof(*ids));
        _cleanup_free_ NodeFacts *facts = calloc(n, sizeof(*facts));
        must(ids && facts, "out of memory");
        for (unsigned i = 0; i < n; i++)
                ids[i] = node_id(i);

        double rss = rss_kib(), begun = heap_kib();
        Gossip *gossip = learn(ids, n);
        double gossiped = heap_kib();
        for (unsigned i = 0; i < n; i++)
                must(facts_collect(gossip, ids + i, facts + i, NULL) == FACTS_WHOLE, "facts are missing");
        double all = heap_kib() - begun;
        all += (double) (n * sizeof(*facts)) / 1024;
        printf("%4u nodes of %u GPUs: gossip %.0f KiB, facts %.0f KiB, together %.1f KiB a node; RSS grew by "
               "%.0f KiB\n", n, GPUS, gossiped - begun, all - (gossiped - begun), all / n, rss_kib() - rss);

        for (unsigned i = 0; i < n; i++)
                node_facts_clear(facts + i);
        gossip_free(gossip);
        return all / n;
}

int main(void) {
        NodeId ids[2] = { node_id(0), node_id(1) };
        gossip_free(learn(ids, 2));             /* what is allocated once */
        double few = measure(3), many = measure(1000);
        printf("for each node, 1000 beside 3: ratio %.2f\n", many / few);
        return 0;
}
