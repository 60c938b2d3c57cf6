/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any text as a cluster. What is taken is written again and says the same, and placement looks at it; what is refused
 * has a sentence that may be shown. */

#include <assert.h>
#include <stdlib.h>

#include "core/describe.h"
#include "core/placement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MOST (64U * 1024U)
#define VMS_LOOKED_AT 16U

static void look_at(const Described *described) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(&described->world, &inventory);
        assert(r == 0);
        for (size_t i = 0; i < described->registry->vms.n && i < VMS_LOOKED_AT; i++) {
                Placement placement = {};
                r = placement_find_in(inventory, described->registry->vms.items + i, &placement);
                assert(r >= 0);
                placement_clear(&placement);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size > SIZE_MOST)
                return 0;
        _cleanup_free_ char *text = strndup((const char *) data, size), *sentence = NULL;
        _cleanup_(described_freep) Described *described = NULL, *again = NULL;
        assert(text);
        int r = describe_read(text, &described, &sentence);
        if (r == DESCRIBE_BAD) {
                assert(text_is_printable(sentence) && !described);
                return 0;
        }
        assert(r == DESCRIBE_READ && !sentence);

        _cleanup_free_ char *written = NULL, *rewritten = NULL;
        r = describe_write(&described->world, &written);
        assert(r == 0);
        r = describe_read(written, &again, &sentence);
        assert(r == DESCRIBE_READ);
        r = describe_write(&again->world, &rewritten);
        assert(r == 0);
        assert(text_equal(written, rewritten));
        look_at(described);
        return 0;
}
