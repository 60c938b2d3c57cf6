/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lease-book.h"

#include <errno.h>

#include "core/mutant.h"
#include "core/names.h"

#define MS_US UINT64_C(1000)

void lease_book_clear(LeaseBook *book) {
        array_clear(&book->pages);
        *book = (LeaseBook) {};
}

void lease_book_lead(LeaseBook *book, bool leads, uint64_t term, uint64_t now_us) {
        if (book->leads == leads && (!leads || book->term == term))
                return;
        lease_book_clear(book);
        if (leads)
                *book = (LeaseBook) { .leads = true, .term = term, .since_us = now_us };
}

static int compare_page(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const LeasePage *) item)->node);
}

static LeasePage *find_page(const LeaseBook *book, const NodeId *node) {
        size_t i;
        return array_find(&book->pages, node, compare_page, &i) ? book->pages.items + i : NULL;
}

/* ---- what the registry says */

static uint64_t longest_ms(const Registry *registry, const NodeRecord *record) {
        return MUTANT(THAW_FORGETS) && registry_has_ordinary_leases(registry) ? record->lease_ms
                                                                               : node_record_longest_lease_ms(record);
}

/* From when a request arrived until all is dead that its lease let live. An announced death time has the drift of an
 * ordinary lease in it; of a longer one it is added, at 1 % for each of the two clocks. */
static uint64_t span_us(const NodeRecord *record, uint64_t lease_ms) {
        uint64_t more_ms = lease_ms > record->lease_ms ? lease_ms - record->lease_ms : 0;
        return (lease_ms + record->death_ms + more_ms / 49 + (more_ms > 0)) * MS_US;
}

/* A node that has announced no lease yet is given no VM: when it does not within the time for that, nothing of it is
 * left to wait for. */
static void begin_page(LeasePage *page, const Registry *registry, const NodeRecord *record, uint64_t now_us) {
        uint64_t longest = longest_ms(registry, record);
        uint64_t span = record->lease_ms > 0 ? span_us(record, longest) : LEASE_ANNOUNCED_WITHIN_MS * MS_US;
        *page = (LeasePage) { .node = record->id, .incarnation = record->incarnation, .begun_us = now_us,
                              .dead_us = now_us + span, .longest_ms = longest, .death_ms = record->death_ms };
}

/* Has @record leases, or is it to have some? A witness never has, and below LEVEL_FAILOVER nobody. */
static bool is_in_book(const Registry *registry, const NodeRecord *record) {
        return record->lease_ms > 0 || (!record->witness && registry->level >= LEVEL_FAILOVER);
}

/* Its times are not as they were. Longer ones count from the beginning, as others may have granted by them. Shorter
 * ones change nothing of what was granted; but who had a long lease and reported that its guard goes by ordinary ones
 * again, did so before it said so. */
static void follow_times(LeasePage *page, const Registry *registry, const NodeRecord *record, uint64_t now_us) {
        uint64_t longest = longest_ms(registry, record);
        if (page->longest_ms == longest && page->death_ms == record->death_ms)
                return;
        uint64_t least_us = page->begun_us + span_us(record, longest);
        bool thawed = longest < page->longest_ms && longest == record->lease_ms;
        if (thawed)
                page->dead_us = now_us + span_us(record, longest);
        else if (page->dead_us < least_us)
                page->dead_us = least_us;
        else if (record->death_ms > page->death_ms)
                page->dead_us += (record->death_ms - page->death_ms) * MS_US;
        page->longest_ms = longest;
        page->death_ms = record->death_ms;
}

static void forget_others(LeaseBook *book, const Registry *registry) {
        size_t kept = 0;
        ARRAY_EACH(page, &book->pages) {
                const NodeRecord *record = registry_find_node(registry, &page->node);
                if (record && is_in_book(registry, record))
                        book->pages.items[kept++] = *page;
        }
        book->pages.n = kept;
}

static int follow_node(LeaseBook *book, const Registry *registry, const NodeRecord *record, uint64_t now_us) {
        LeasePage *page = find_page(book, &record->id);
        if (!page) {
                LeasePage fresh;
                size_t i;
                begin_page(&fresh, registry, record, now_us);
                if (MUTANT(NO_LEADER_WAIT))
                        fresh.dead_us = book->since_us;
                (void) array_find(&book->pages, &record->id, compare_page, &i);
                return array_insert(&book->pages, i, &fresh);
        }
        bool other = (page->longest_ms == 0) != (record->lease_ms == 0);
        if (page->incarnation != record->incarnation || other)
                begin_page(page, registry, record, now_us);
        else
                follow_times(page, registry, record, now_us);
        return 0;
}

int lease_book_follow(LeaseBook *book, const Registry *registry, uint64_t now_us) {
        if (!book->leads)
                return 0;
        forget_others(book, registry);
        if (registry->frozen_ms > 0 && book->freezes != registry->freezes) {
                book->freezes = registry->freezes;
                book->frozen_since_us = now_us;
        }
        ARRAY_EACH(record, &registry->nodes) {
                int r = is_in_book(registry, record) ? follow_node(book, registry, record, now_us) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- granting */

static uint64_t frozen_until_us(const LeaseBook *book, const Registry *registry) {
        return registry->frozen_ms > 0 ? book->frozen_since_us + registry->frozen_ms * MS_US : 0;
}

/* Where nobody else could start its VMs, a node has the longest there is. */
static uint64_t length_us(const LeaseBook *book, const Registry *registry, const NodeRecord *record, uint64_t now_us) {
        if (registry->nodes.n <= LEASE_ALONE_NODES)
                return node_record_longest_lease_ms(record) * MS_US;
        uint64_t until_us = frozen_until_us(book, registry);
        uint64_t length = record->lease_ms * MS_US + (until_us > now_us ? until_us - now_us : 0);
        uint64_t most = node_record_longest_lease_ms(record) * MS_US;
        return length < most ? length : most;
}

LeaseVerdict lease_book_asked(LeaseBook *book, const Registry *registry, const NodeId *node, uint64_t incarnation,
                              uint64_t arrived_us, uint64_t now_us, uint64_t *ret_lease_us) {
        const NodeRecord *record = registry_find_node(registry, node);
        LeasePage *page = find_page(book, node);
        if (!book->leads || !record || !page || record->lease_ms == 0 || incarnation > record->incarnation ||
            page->incarnation != record->incarnation)
                return LEASE_REFUSED;
        if (page->heard_us < arrived_us)
                page->heard_us = arrived_us;
        if ((incarnation < record->incarnation || record->lost) && !MUTANT(GRANT_TO_LOST))
                return LEASE_LOST;
        if (page->condemned && !MUTANT(GRANT_TO_CONDEMNED) && !(MUTANT(GRANT_TO_LOST) && record->lost))
                return LEASE_REFUSED;

        uint64_t length = length_us(book, registry, record, now_us);
        uint64_t dead_us = arrived_us + span_us(record, (length + MS_US - 1) / MS_US);
        if (page->dead_us < dead_us)
                page->dead_us = dead_us;
        page->powered_off = false;      /* whatever the agent switched off, it was not this */
        *ret_lease_us = length;
        return LEASE_GRANTED;
}

void lease_book_powered_off(LeaseBook *book, const NodeId *node, uint64_t incarnation) {
        LeasePage *page = find_page(book, node);
        if (page && page->incarnation == incarnation)
                page->powered_off = true;
}

/* ---- losses */

/* Does time alone prove the death of all that @record may run? A VM that was assigned before leases were in force does
 * not end with one; nor does one of a node without leases. */
static bool ends_in_time(const Registry *registry, const NodeRecord *record) {
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, &record->id) &&
                    (!vm->assignment.leased || record->lease_ms == 0))
                        return false;
        return registry->frozen_ms == 0;
}

bool lease_book_next_loss(const LeaseBook *book, const Registry *registry, uint64_t now_us, Loss *ret,
                          uint64_t *ret_wake_us) {
        uint64_t wake_us = UINT64_MAX;
        if (!book->leads || MUTANT(NO_LOSS)) {
                *ret_wake_us = wake_us;
                return false;
        }
        ARRAY_EACH(page, &book->pages) {
                const NodeRecord *record = registry_find_node(registry, &page->node);
                if (!record || record->lost || (page->condemned && !page->doubtful) ||
                    page->incarnation != record->incarnation)
                        continue;
                bool timed = ends_in_time(registry, record);
                if (page->powered_off || page->doubtful || (timed && now_us >= page->dead_us)) {
                        *ret = (Loss) { .node = page->node, .incarnation = page->incarnation,
                                        .evidence = page->powered_off ? LOSS_BY_POWER_OFF : LOSS_BY_LEASE };
                        return true;
                }
                if (timed && page->dead_us < wake_us)
                        wake_us = page->dead_us;
        }
        *ret_wake_us = wake_us;
        return false;
}

void lease_book_condemn(LeaseBook *book, const NodeId *node) {
        LeasePage *page = find_page(book, node);
        if (page) {
                page->condemned = true;
                page->doubtful = false;
        }
}

void lease_book_spare(LeaseBook *book, const NodeId *node) {
        LeasePage *page = find_page(book, node);
        /* Not while an earlier entry may still come. */
        if (page)
                page->condemned = page->doubtful = page->may_come && !MUTANT(SPARED_TOO_EARLY);
}

void lease_book_settle(LeaseBook *book, const NodeId *node) {
        LeasePage *page = find_page(book, node);
        if (page)
                page->condemned = page->doubtful = page->may_come = false;
}

void lease_book_doubt(LeaseBook *book, const NodeId *node) {
        LeasePage *page = find_page(book, node);
        if (page)
                page->doubtful = page->may_come = page->condemned;
}

uint64_t lease_book_silent_us(const LeaseBook *book, const NodeId *node, uint64_t now_us) {
        const LeasePage *page = find_page(book, node);
        if (!page || page->longest_ms == 0)
                return 0;
        uint64_t since_us = page->heard_us ? page->heard_us : page->begun_us;
        return now_us > since_us ? now_us - since_us : 0;
}

bool lease_book_thaws(const LeaseBook *book, const Registry *registry, uint64_t now_us, uint64_t *ret_wake_us) {
        uint64_t until_us = frozen_until_us(book, registry);
        if (!book->leads || until_us == 0 || now_us < until_us) {
                *ret_wake_us = book->leads && until_us > 0 ? until_us : UINT64_MAX;
                return false;
        }
        return true;
}
