/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as domain XML: a verdict with a sentence; and what is taken can be built, is taken again, bears our mark,
 * and shows its GPUs to the same check. What it needs is read of anything, and is the same for what is taken. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/domain-xml.h"
#include "core/names.h"
#include "core/vm-needs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const PciAddress functions[] = { { .bus = 0x41 }, { .bus = 0x41, .function = 1 } };

static void build_and_read_again(const char *xml, size_t size, const DomainXml *domain) {
        static const GpuBar bars[PCI_BARS] = { { .size = 64ULL << 30, .prefetchable_64 = true }, { .size = 4096 } };
        static const PciAddress others[] = { { .bus = 0x61 }, { .bus = 0x62 } };
        static const char *const cpus[] = { NULL, "0-7,16", "", "3" };
        _cleanup_free_ char *built = NULL, *refusal = NULL;
        const DomainGpu gpus[] = {
                { functions, 1 + size % 2, size % 5 ? bars : NULL, size % 4 ? "0000:40:00.0" : NULL },
                { others, 1, NULL, NULL },
                { others + 1, 1, bars, "0000:40:00.0" },
        };
        DomainBuild build = {
                .name = "rebuilt",
                .vm = { { 1 } },
                .cluster = { { 2 } },
                .node = { { 3 } },
                .epoch = UINT64_MAX,
                .gpus = gpus,
                .n_gpus = size % 6 ? 1 : 3,
                .numa_node = (int) (size % 3) - 1,
                .numa_cpus = cpus[size / 3 % 4],
                .address_bits = size % 7 ? 46 : 0,
        };
        int r = domain_xml_build(xml, size, &build, &built, &refusal);
        assert((r == DOMAIN_BUILD_OK) == (built != NULL) && (r > 0) == (refusal != NULL));
        assert(r >= 0);
        if (r != DOMAIN_BUILD_OK)
                return;

        _cleanup_(domain_mark_clear) DomainMark mark = {};
        r = domain_xml_mark(built, strlen(built), &mark);
        assert(r == DOMAIN_MARK_FOUND);
        assert(mark.epoch == UINT64_MAX && ID_EQUAL(&mark.vm, &build.vm) && strcmp(mark.name, "rebuilt") == 0);

        _cleanup_(domain_xml_clear) DomainXml again = {};
        _cleanup_free_ char *sentence = NULL;
        r = domain_xml_check(built, strlen(built), functions, 2, &again, &sentence);
        assert(r == DOMAIN_XML_GPU_HOSTDEV || r == DOMAIN_XML_TOO_LARGE);
        r = domain_xml_check(built, strlen(built), NULL, 0, &again, &sentence);
        assert(r == DOMAIN_XML_OK || r == DOMAIN_XML_TOO_LARGE);
        assert(r == DOMAIN_XML_TOO_LARGE ||
               (again.memory_bytes == domain->memory_bytes && again.vcpus == domain->vcpus && again.has_uuid &&
                again.paths.n == domain->paths.n));
}

/* @domain NULL: it was not taken. */
static void read_needs(const char *xml, size_t size, const DomainXml *domain) {
        _cleanup_(vm_needs_clear) VmNeeds needs = {};
        int r = vm_needs_read(xml, size, &needs);
        assert(r == 0 && needs.paths.n <= NEEDED_PATHS_MAX);
        for (size_t i = 0; i < needs.paths.n; i++)
                assert(needs.paths.items[i][0] == '/');
        assert(!needs.cpu_model || (*needs.cpu_model && text_is_printable(needs.cpu_model)));
        if (!domain)
                return;
        assert(needs.memory_bytes == domain->memory_bytes && needs.hugepages == domain->hugepages &&
               needs.hugepage_size_bytes == domain->hugepage_size_bytes && needs.host_cpu == domain->host_cpu);
        for (size_t i = 0; i < needs.paths.n; i++)
                assert(text_list_has(&domain->paths, needs.paths.items[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(domain_mark_clear) DomainMark mark = {};
        (void) domain_xml_mark((const char *) data, size, &mark);

        _cleanup_(domain_xml_clear) DomainXml domain = {};
        _cleanup_free_ char *sentence = NULL;
        int r = domain_xml_check((const char *) data, size, NULL, 0, &domain, &sentence);
        assert((r == DOMAIN_XML_OK) == (sentence == NULL));
        assert(!sentence || text_is_printable(sentence));
        read_needs((const char *) data, size, r == DOMAIN_XML_OK ? &domain : NULL);
        if (r == DOMAIN_XML_OK)
                build_and_read_again((const char *) data, size, &domain);
        return 0;
}
