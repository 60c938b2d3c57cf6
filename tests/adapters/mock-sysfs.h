/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Mock sysfs: a folder that looks like a host's /sys, /proc and /dev as far as the udev adapter looks, and uevents that
 * reach libudev unmodified. Reads like plugging and pulling cards. Everything asserts: a test that cannot set its scene
 * has failed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MockSysfs MockSysfs;

/* A PCI device as the kernel shows it; what is 0 or NULL is left out. */
typedef struct MockDevice {
        const char *address;            /* "0000:41:00.0" */
        const char *below;              /* where it hangs: "pci0000:40/0000:40:01.0"; NULL: "pci0000:00" */
        uint16_t vendor, device, subsystem_vendor, subsystem_device;
        uint32_t class;
        const char *driver;
        int group;                      /* 0: none */
        const char *reset_method;       /* with it comes a reset file */
        const char *resource;           /* lines of "start end flags" */
        bool boot_vga;
} MockDevice;

extern const MockDevice MOCK_H100;              /* behind one root port, 0000:41:00.0, group 42, driver nvidia */
extern const MockDevice MOCK_GEFORCE[4];        /* 0000:01:00.0 to .3, group 13: VGA, sound, USB, UCSI */

MockSysfs *mock_sysfs_new(void);
MockSysfs *mock_sysfs_free(MockSysfs *mock);
const char *mock_sysfs_root(const MockSysfs *mock);

void mock_device_add(MockSysfs *mock, const MockDevice *device);
void mock_device_remove(MockSysfs *mock, const char *address);
void mock_driver_set(MockSysfs *mock, const char *address, const char *driver);
void mock_group_set(MockSysfs *mock, const char *address, int group);

/* Attributes of a device, made with the folders that they need; the value gets a newline. */
void mock_attribute_set(MockSysfs *mock, const char *address, const char *name, const char *value);
void mock_attribute_set_bytes(MockSysfs *mock, const char *address, const char *name, const void *bytes, size_t size);
void mock_attribute_remove(MockSysfs *mock, const char *address, const char *name);
/* A reader blocks, as in the kernel; until release, which leaves @value there. */
void mock_attribute_hang(MockSysfs *mock, const char *address, const char *name);
void mock_attribute_release(MockSysfs *mock, const char *address, const char *name, const char *value);

/* What is plugged in at a USB controller, be it behind hubs: "1-2", "1-2.4", with its ids. Where @name is NULL, what
 * every controller has: its root hub, and that one's interface. */
void mock_usb_device(MockSysfs *mock, const MockDevice *controller, const char *name, const char *vendor,
                     const char *product);

/* Any file or link below the root. */
void mock_file(MockSysfs *mock, const char *path, const char *value);
void mock_link(MockSysfs *mock, const char *path, const char *target);

/* Uevents need a network and a mount namespace of our own: call it before the first thread. False: not permitted. */
bool mock_uevents_possible(void);
/* A hardware database with one entry in it, in our mount namespace; NULL takes it away. False: not permitted. */
bool mock_hardware_database(const char *pattern, const char *vendor, const char *device);
/* Whether udevd seems to run, that is which of the two groups is listened to. */
void mock_udevd_runs(bool runs);
/* Tells everybody who listens, udevd's and the kernel's listeners alike. @more: "K=V" strings, NULL-terminated. */
void mock_uevent(const MockSysfs *mock, const char *action, const MockDevice *device, const char *const *more);
/* The same with any subsystem and path; @message is "K=V" strings in a row, each with its NUL. */
void mock_uevent_bytes(const char *subsystem, const char *action, const char *path, const char *message, size_t size);
