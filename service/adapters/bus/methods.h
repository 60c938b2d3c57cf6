/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Methods that stand in one file and are hung up in the vtable of another. Each is of the form that sd-bus calls, with
 * the Object as @userdata, and goes the same way: read and check the form; resolve names and paths; ask who calls and
 * whether they may (ask.h: until then without effect); act. */

#include <systemd/sd-bus.h>

#include "adapters/bus/objects.h"

#define METHOD(name) int name(sd_bus_message *m, void *userdata, sd_bus_error *error)

METHOD(method_create_pool);

METHOD(method_define_vm);
METHOD(method_set_requirement);
METHOD(method_set_vm_policy);
METHOD(method_update_vm);
METHOD(method_get_xml);
METHOD(method_delete_vm);

METHOD(method_invite);
METHOD(method_join);
METHOD(method_leave);
METHOD(method_reset);
METHOD(method_remove_node);
METHOD(method_set_functional_level);
METHOD(method_export);
METHOD(method_import);

METHOD(method_freeze);
METHOD(method_thaw);
METHOD(method_drain);
METHOD(method_resume);
METHOD(method_set_fencing);
METHOD(method_confirm_down);

METHOD(method_plan);

METHOD(method_defragment);

/* 0, or a refusal because the cluster works at a lower level. */
int refuse_level(Bus *bus, uint32_t level, sd_bus_error *error);

/* GPUs that a call names by path, as an entry has them; borrowed from the table of objects. */
typedef struct GpuRow {
        Gpupool1__Gpu *messages;
        Gpupool1__Gpu **pointers;
        char (*addresses)[PCI_ADDRESS_TEXT_SIZE];
        size_t n;
} GpuRow;

void gpu_row_clear(GpuRow *row);

/* Looks up what stands at @paths; refuses what is no GPU, and one that stands there twice. */
int gpu_row_resolve(Bus *bus, const char *const *paths, size_t n, GpuRow *ret, sd_bus_error *error);

/* As VM.Affinity says it. */
const char *affinity_kind_to_show(AffinityKind kind);

int refuse_name(const char *what, sd_bus_error *error);
