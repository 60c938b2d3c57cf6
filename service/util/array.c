/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/array.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

int array_reserve(void *items_pointer, size_t *allocated, size_t n, size_t item_size) {
        void **items = items_pointer;
        if (n <= *allocated)
                return 0;

        size_t wanted = *allocated ? *allocated * 2 : 4;
        if (wanted < n)
                wanted = n;
        if (wanted > SIZE_MAX / item_size)
                return -ENOMEM;

        void *grown = realloc(*items, wanted * item_size);
        if (!grown)
                return -ENOMEM;
        *items = grown;
        *allocated = wanted;
        return 0;
}

int array_insert_bytes(void *items_pointer, size_t *n, size_t *allocated, size_t index, const void *item,
                       size_t item_size) {
        int r = array_reserve(items_pointer, allocated, *n + 1, item_size);
        if (r < 0)
                return r;

        char *base = *(void **) items_pointer;
        memmove(base + (index + 1) * item_size, base + index * item_size, (*n - index) * item_size);
        memcpy(base + index * item_size, item, item_size);
        (*n)++;
        return 0;
}

void array_remove_bytes(void *items, size_t *n, size_t index, size_t item_size) {
        char *base = items;
        memmove(base + index * item_size, base + (index + 1) * item_size, (*n - index - 1) * item_size);
        (*n)--;
}

bool array_search(const void *items, size_t n, size_t item_size, const void *key,
                  int (*compare)(const void *key, const void *item), size_t *ret_index) {
        size_t low = 0, high = n;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int c = compare(key, (const char *) items + middle * item_size);
                if (c == 0) {
                        *ret_index = middle;
                        return true;
                }
                if (c < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        *ret_index = low;
        return false;
}

int array_compare_indexes(const void *a, const void *b) {
        size_t x = *(const size_t *) a, y = *(const size_t *) b;
        return x < y ? -1 : x > y;
}
