/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Array: a growing row of equal items, by value. Every container of this project is one, sorted where it is
 * looked up (so that walking it has the same order on every node), linear where it is short. */

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define ARRAY(type)                     \
        struct {                        \
                type *items;            \
                size_t n;               \
                size_t allocated;       \
        }

/* Makes room for @n items in all. Returns 0 or -ENOMEM. */
int array_reserve(void *items_pointer, size_t *allocated, size_t n, size_t item_size);

/* Opens a hole at @index and copies @item into it. Returns 0 or -ENOMEM. */
int array_insert_bytes(void *items_pointer, size_t *n, size_t *allocated, size_t index, const void *item,
                       size_t item_size);

/* Closes the hole at @index; the item itself must have been freed or moved by the caller. */
void array_remove_bytes(void *items, size_t *n, size_t index, size_t item_size);

/* Binary search in a sorted array. Sets *ret_index to the place of the item, or where it belongs. */
bool array_search(const void *items, size_t n, size_t item_size, const void *key,
                  int (*compare)(const void *key, const void *item), size_t *ret_index);

/* For qsort(): indexes, the smallest first. */
int array_compare_indexes(const void *a, const void *b);

#define array_insert(array, index, pointer_to_item)                                                     \
        ({                                                                                              \
                const __typeof__(*(array)->items) *_item = (pointer_to_item);                           \
                array_insert_bytes(&(array)->items, &(array)->n, &(array)->allocated, (index), _item,   \
                                   sizeof(*(array)->items));                                            \
        })

#define array_append(array, pointer_to_item) array_insert((array), (array)->n, (pointer_to_item))

#define array_remove(array, index) array_remove_bytes((array)->items, &(array)->n, (index), sizeof(*(array)->items))

#define array_find(array, key, compare, ret_index) \
        array_search((array)->items, (array)->n, sizeof(*(array)->items), (key), (compare), (ret_index))

/* Frees the row, not what the items own. */
#define array_clear(array)                      \
        do {                                    \
                free((array)->items);           \
                (array)->items = NULL;          \
                (array)->n = 0;                 \
                (array)->allocated = 0;         \
        } while (0)

#define ARRAY_EACH(pointer, array)                                                                      \
        for (__typeof__(&*(array)->items) pointer = (array)->items;                                      \
             pointer && pointer < (array)->items + (array)->n; pointer++)

#define ELEMENTS(row) (sizeof(row) / sizeof((row)[0]))
