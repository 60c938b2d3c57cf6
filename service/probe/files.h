/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Files: reading below a root without any allocation, for the small programs that run as root. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* "" but in tests; borrowed. */
extern const char *files_root;

/* Opens a path made of @format below the root. A descriptor or -errno. */
int open_path(int flags, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As much as there is, or fits. Bytes or -errno. */
ssize_t read_whole(int fd, void *buffer, size_t size);
/* A small text file below the root, without the newline at its end. False: it cannot be read. */
bool read_text_file(char *ret, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Calls @found with each name of a folder. Not opendir(), which allocates. */
typedef void (*NameFound)(int folder, const char *name, const void *userdata);
void each_name(int folder, NameFound found, const void *userdata);

/* The last part of where a PCI device's link points to: its driver, its group. Waits for no lock of the device. */
bool read_link_name(const char *address, const char *link, char *ret, size_t size);
