/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/name-database.h"

#include <errno.h>
#include <libudev.h>
#include <stdint.h>

#include "util/text.h"

struct NameDatabase {
        struct udev *udev;
        struct udev_hwdb *hwdb;         /* NULL: none installed */
};

int name_database_new(NameDatabase **ret) {
        _cleanup_(name_database_freep) NameDatabase *database = calloc(1, sizeof(NameDatabase));
        if (!database)
                return -ENOMEM;
        database->udev = udev_new();
        if (!database->udev)
                return -ENOMEM;
        database->hwdb = udev_hwdb_new(database->udev);
        *ret = STEAL(database);
        return 0;
}

NameDatabase *name_database_free(NameDatabase *database) {
        if (!database)
                return NULL;
        udev_hwdb_unref(database->hwdb);
        udev_unref(database->udev);
        free(database);
        return NULL;
}

static int set_name(char **name, const char *value) {
        int r = text_set(name, text_is_empty(value) ? NULL : value);
        if (r >= 0 && *name)
                text_make_printable(*name, SIZE_MAX);
        return r;
}

int name_database_find(NameDatabase *database, const char *modalias, char **vendor, char **device) {
        if (!database->hwdb)
                return 0;

        struct udev_list_entry *entry;
        udev_list_entry_foreach(entry, udev_hwdb_get_properties_list_entry(database->hwdb, modalias, 0)) {
                const char *key = udev_list_entry_get_name(entry);
                int r = 0;
                if (text_equal(key, "ID_VENDOR_FROM_DATABASE"))
                        r = set_name(vendor, udev_list_entry_get_value(entry));
                else if (text_equal(key, "ID_MODEL_FROM_DATABASE"))
                        r = set_name(device, udev_list_entry_get_value(entry));
                if (r < 0)
                        return r;
        }
        return 0;
}
