/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>

#include "core/domain-xml.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t divide_up(uint64_t value, uint64_t by) {
        return value / by + (value % by > 0);
}

static uint64_t available(const Hugepages *pages, DomainMemoryScope scope) {
        return scope == DOMAIN_MEMORY_NOW ? pages->free : pages->total;
}

/* Where the XML gives no size it is the default of the host, which the facts do not tell: any one will do, then. */
static const Hugepages *find_pages(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope) {
        const Hugepages *best = NULL;
        for (size_t i = 0; i < host->n_hugepages; i++) {
                const Hugepages *pages = &host->hugepages[i];
                if (pages->size_bytes == 0 ||
                    (domain->hugepage_size_bytes > 0 && pages->size_bytes != domain->hugepage_size_bytes))
                        continue;
                if (!best || available(pages, scope) >= divide_up(domain->memory_bytes, pages->size_bytes))
                        best = pages;
        }
        return best;
}

static int check_hugepages(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope,
                           char **reterr_sentence) {
        if (host->n_hugepages == 0)
                return DOMAIN_MEMORY_OK;        /* not told */
        const Hugepages *pages = find_pages(domain, host, scope);
        if (!pages) {
                int r = text_printf(reterr_sentence,
                                    "The VM needs hugepages of %" PRIu64 " KiB and the host has none of that size: "
                                    "give the kernel default_hugepagesz, hugepagesz and hugepages, or change <page>.",
                                    domain->hugepage_size_bytes / 1024);
                return r < 0 ? r : DOMAIN_MEMORY_NO_HUGEPAGES;
        }
        uint64_t needed = divide_up(domain->memory_bytes, pages->size_bytes);
        if (available(pages, scope) >= needed)
                return DOMAIN_MEMORY_OK;
        int r = text_printf(reterr_sentence, "The VM needs %" PRIu64 " hugepages of %" PRIu64 " KiB and ", needed,
                            pages->size_bytes / 1024);
        if (r >= 0)
                r = scope == DOMAIN_MEMORY_NOW ?
                        text_append(reterr_sentence,
                                    "%" PRIu64 " of the host's %" PRIu64 " are free: reserve more "
                                    "(vm.nr_hugepages), or stop what uses them.",
                                    pages->free, pages->total) :
                        text_append(reterr_sentence,
                                    "the host has %" PRIu64 ": reserve more (vm.nr_hugepages), or give the VM less "
                                    "memory.",
                                    pages->total);
        return r < 0 ? r : DOMAIN_MEMORY_FEW_HUGEPAGES;
}

static int check_ordinary(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope,
                          char **reterr_sentence) {
        uint64_t has = scope == DOMAIN_MEMORY_NOW ? host->memory_free : host->memory_total;
        if (host->memory_total == 0 || has >= domain->memory_bytes)
                return DOMAIN_MEMORY_OK;
        int r = text_printf(reterr_sentence,
                            "The VM's %" PRIu64 " MiB of memory are pinned when it starts and the host has %" PRIu64
                            " MiB%s: give the VM less, or the host more%s.",
                            domain->memory_bytes / MIB, has / MIB, scope == DOMAIN_MEMORY_NOW ? " free" : "",
                            scope == DOMAIN_MEMORY_NOW ? ", or stop what uses it" : "");
        return r < 0 ? r : DOMAIN_MEMORY_TOO_LITTLE;
}

/* libvirt raises the limit of the QEMU process by itself to what VFIO needs, whatever libvirtd's own is: to the guest's
 * memory and 1 GiB, or, where the XML has one, to its hard_limit, and then that must do. */
static int check_lock_limit(const DomainXml *domain, char **reterr_sentence) {
        if (domain->hard_limit_bytes == 0 || domain->hard_limit_bytes >= domain->memory_bytes)
                return DOMAIN_MEMORY_OK;
        int r = text_printf(reterr_sentence,
                            "The VM may pin %" PRIu64 " MiB of memory and a VM with GPUs needs all of its %" PRIu64
                            " MiB: take <hard_limit> out of its <memtune>, or make it 1 GiB more than its memory.",
                            domain->hard_limit_bytes / MIB, domain->memory_bytes / MIB);
        return r < 0 ? r : DOMAIN_MEMORY_LOCK_LIMIT;
}

int domain_memory_check(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope,
                        char **reterr_sentence) {
        int r = check_lock_limit(domain, reterr_sentence);
        if (r != DOMAIN_MEMORY_OK)
                return r;
        return domain->hugepages ? check_hugepages(domain, host, scope, reterr_sentence)
                                 : check_ordinary(domain, host, scope, reterr_sentence);
}
