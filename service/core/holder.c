/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/holder.h"

#include <string.h>

#include "util/array.h"

const char *holder_remedy(const char *name) {
        static const struct {
                const char *name, *remedy;
        } services[] = {
                { "nvidia-persiste", "stop the persistence daemon: systemctl disable --now nvidia-persistenced" },
                { "nv-fabricmanage", "stop the fabric manager: systemctl disable --now nvidia-fabricmanager" },
                { "nv-hostengine", "stop the GPU monitoring: systemctl disable --now nvidia-dcgm" },
                { "Xorg", "stop the graphical session, or set up the X server to leave this GPU alone" },
                { "gnome-shell", "stop the graphical session: systemctl isolate multi-user.target" },
        };
        for (size_t i = 0; i < ELEMENTS(services); i++)
                if (name && strncmp(name, services[i].name, strlen(services[i].name)) == 0)
                        return services[i].remedy;
        return NULL;
}
