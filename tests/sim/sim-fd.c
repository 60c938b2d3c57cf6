/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-fd.h"

#include <glib.h>

#include "sim-loop.h"

#define FIRST (1 << 20)

static ARRAY(SimFd) all;
static size_t first_free;

int sim_fd_new(const SimFd *fd) {
        while (first_free < all.n && all.items[first_free].kind != SIM_FD_NONE)
                first_free++;
        if (first_free == all.n)
                g_assert_cmpint(array_append(&all, fd), ==, 0);
        else
                all.items[first_free] = *fd;
        return FIRST + (int) first_free;
}

SimFd *sim_fd_find(int number) {
        if (number < FIRST || (size_t) (number - FIRST) >= all.n)
                return NULL;
        SimFd *fd = all.items + (number - FIRST);
        return fd->kind == SIM_FD_NONE ? NULL : fd;
}

void sim_fd_close(int number) {
        SimFd *fd = sim_fd_find(number);
        if (!fd)
                return;
        SimFd gone = *fd;
        *fd = (SimFd) {};
        if ((size_t) (number - FIRST) < first_free)
                first_free = (size_t) (number - FIRST);
        if (gone.closed)
                gone.closed(gone.thing);
}

void sim_fd_close_all_of(const struct sd_event *owner) {
        for (size_t i = 0; i < all.n; i++)
                if (all.items[i].kind != SIM_FD_NONE && all.items[i].owner == owner)
                        sim_fd_close(FIRST + (int) i);
}

void sim_fd_forget_all(void) {
        array_clear(&all);
        first_free = 0;
}

bool sim_fd_is_ready(int number) {
        const SimFd *fd = sim_fd_find(number);
        return fd && fd->is_ready(fd->thing);
}

void sim_fd_wake(const void *thing) {
        for (size_t i = 0; i < all.n; i++)
                if (all.items[i].kind != SIM_FD_NONE && all.items[i].thing == thing && all.items[i].owner)
                        sim_loop_fd_ready(all.items[i].owner, FIRST + (int) i);
}
