/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl gpu: what GPUs there are, what stands in the way of each, and quarantine. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

static char *gpu_to_note(const Objects *objects, const GpuObject *gpu) {
        const char *condition = gpu_condition(gpu);
        if (text_equal(condition, "in use"))
                return must_printf("vm %s", objects_name(objects, gpu->vm));
        if (text_equal(condition, "quarantined"))
                return must_copy(gpu->quarantine_reason);
        if (text_equal(condition, "absent"))
                return must_printf("not found in %s", objects_name(objects, gpu->node));
        if (gpu->blockers.n == 0)
                return must_copy("");
        char *note = must_printf("%s: %s", gpu->blockers.items[0].code, gpu->blockers.items[0].sentence);
        if (gpu->blockers.n > 1)
                must_append(&note, " (and %zu more)", gpu->blockers.n - 1);
        return note;
}

Status verb_gpu_list(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "gpus", json_of_all(objects, KIND_GPU));
                ctl_answer(ctl, document);
                return STATUS_DONE;
        }
        if (objects->gpus.n == 0) {
                ctl_hint(ctl, "No node has a GPU. What gpupoold follows: PCI class 0300, 0302, 0380 and 1200 "
                              "(lspci -nn).");
                return STATUS_DONE;
        }

        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "GPU", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "MODEL", TABLE_LEFT, 20, 16);
        table_column(table, "POOL", TABLE_LEFT, 40, 0);
        table_column(table, "STATE", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "NOTE", TABLE_LEFT, 30, 12);
        ARRAY_EACH(gpu, &objects->gpus) {
                _cleanup_free_ char *model = gpu_model(gpu), *note = gpu_to_note(objects, gpu);
                const char *condition = gpu_condition(gpu);
                table_cell(table, STYLE_PLAIN, "%s", gpu->name);
                table_cell(table, STYLE_PLAIN, "%s", model);
                table_cell(table, STYLE_PLAIN, "%s", or_dash(objects_name(objects, gpu->pool)));
                table_cell(table, state_style(condition), "%s", condition);
                table_cell(table, STYLE_PLAIN, "%s", note);
        }
        table_print(table, &ctl->out);
        return STATUS_DONE;
}

static void print_blockers(const GpuObject *gpu, const Screen *screen) {
        ARRAY_EACH(blocker, &gpu->blockers) {
                _cleanup_free_ char *first = must_printf("  %s: ", blocker->code);
                screen_paragraph(screen, first, STYLE_BAD, blocker->sentence);
                if (!text_is_empty(blocker->remedy))
                        screen_paragraph(screen, "      remedy: ", STYLE_FAINT, blocker->remedy);
        }
}

static char *describe_link(const GpuObject *gpu) {
        if (gpu->link_width == 0 && text_is_empty(gpu->link_speed))
                return must_copy("");
        char *link = must_printf("%s x%u", or_dash(gpu->link_speed), gpu->link_width);
        bool slower = !text_is_empty(gpu->link_speed_max) && !text_equal(gpu->link_speed, gpu->link_speed_max);
        if (slower || gpu->link_width < gpu->link_width_max)
                must_append(&link, " (at best %s x%u)", or_dash(gpu->link_speed_max), gpu->link_width_max);
        return link;
}

static char *describe_bars(const GpuObject *gpu) {
        char *bars = must_copy("");
        ARRAY_EACH(bar, &gpu->bars) {
                _cleanup_free_ char *size = size_to_text(bar->size_bytes);
                must_append(&bars, "%s%u: %s%s", *bars ? ", " : "", bar->index, size,
                            bar->prefetchable ? " 64-bit" : "");
        }
        return bars;
}

static void print_holders(const GpuObject *gpu, const Screen *screen) {
        _cleanup_free_ char *holders = must_copy("");
        ARRAY_EACH(holder, &gpu->holders)
                must_append(&holders, "%s%s (pid %u)", *holders ? ", " : "", holder->command, holder->pid);
        screen_fact(screen, "Held by", "%s", holders);
}

static void print_functions(const GpuObject *gpu, const Screen *screen) {
        const char *title = "Comes with";
        ARRAY_EACH(function, &gpu->functions) {
                screen_fact(screen, title, "%s %s (%s)", function->address,
                            text_is_empty(function->description) ? "another function" : function->description,
                            text_is_empty(function->driver) ? "no driver" : function->driver);
                title = "";
        }
}

static void print_siblings(const Objects *objects, const GpuObject *gpu, const Screen *screen) {
        _cleanup_free_ char *siblings = must_copy("");
        for (size_t i = 0; i < gpu->siblings.n; i++)
                must_append(&siblings, "%s%s", i > 0 ? ", " : "", objects_name(objects, gpu->siblings.items[i]));
        screen_fact(screen, "Tied to", "%s", siblings);
}

static void print_hardware(const Objects *objects, const GpuObject *gpu, const Screen *screen) {
        _cleanup_free_ char *link = describe_link(gpu), *bars = describe_bars(gpu);
        _cleanup_free_ char *reset = must_join(&gpu->reset_methods, ", ");
        screen_fact(screen, "Device", "%s %s [%04x:%04x], subsystem %04x:%04x, class %06x", gpu->vendor, gpu->device,
                    gpu->vendor_id, gpu->device_id, gpu->subsystem_vendor_id, gpu->subsystem_device_id, gpu->class);
        screen_fact(screen, "Serial", "%s", gpu->serial);
        screen_fact(screen, "Slot", "%s", gpu->slot_path);
        screen_fact(screen, "Driver", "%s", text_is_empty(gpu->driver) ? "none" : gpu->driver);
        print_holders(gpu, screen);
        if (gpu->iommu_group >= 0)
                screen_fact(screen, "IOMMU group", "%d", gpu->iommu_group);
        else
                screen_fact(screen, "IOMMU group", "none");
        print_functions(gpu, screen);
        if (gpu->numa_node >= 0)
                screen_fact(screen, "NUMA node", "%d", gpu->numa_node);
        screen_fact(screen, "Link", "%s", link);
        screen_fact(screen, "Behind", "%s", gpu->parent);
        print_siblings(objects, gpu, screen);
        if (gpu->vram_bytes > 0) {
                _cleanup_free_ char *vram = size_to_text(gpu->vram_bytes);
                screen_fact(screen, "VRAM", "%s", vram);
        }
        screen_fact(screen, "VBIOS", "%s", gpu->vbios);
        screen_fact(screen, "Memory", "%s", bars);
        screen_fact(screen, "Reset", "%s", *reset ? reset : "the kernel knows no way");
}

static void print_gpu(const Objects *objects, const GpuObject *gpu, const Screen *screen) {
        _cleanup_free_ char *model = gpu_model(gpu);
        const char *condition = gpu_condition(gpu), *pool = objects_name(objects, gpu->pool);
        screen_say(screen, "%s  %s", gpu->name, model);
        if (text_equal(condition, "in use"))
                screen_fact(screen, "State", "in use by vm %s", objects_name(objects, gpu->vm));
        else if (text_equal(condition, "quarantined"))
                screen_fact(screen, "State", "quarantined: %s. When it is mended: gpupoolctl gpu release %s",
                            gpu->quarantine_reason, gpu->name);
        else if (text_equal(condition, "absent"))
                screen_fact(screen, "State", "absent: not found in %s. Plug it in again, or take it out of its pool",
                            objects_name(objects, gpu->node));
        else
                screen_fact(screen, "State", "%s", or_dash(condition));
        if (text_equal(condition, "ready") && !*pool)
                screen_fact(screen, "Pool", "none; to use it: gpupoolctl pool add POOL %s", gpu->name);
        else
                screen_fact(screen, "Pool", "%s", *pool ? pool : "none");
        print_blockers(gpu, screen);
        print_hardware(objects, gpu, screen);
}

static void answer_gpu(Ctl *ctl, const Objects *objects, const GpuObject *gpu) {
        Json *document = json_map();
        json_put(document, "gpu", json_of_gpu(objects, gpu));
        ctl_answer(ctl, document);
}

static Status load_gpu(Ctl *ctl, const char *typed, Objects **ret_objects, const GpuObject **ret_gpu) {
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status != STATUS_DONE)
                return status;
        status = ctl_find(ctl, *ret_objects, KIND_GPU, typed, &i);
        if (status == STATUS_DONE)
                *ret_gpu = (*ret_objects)->gpus.items + i;
        return status;
}

Status verb_gpu_show(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const GpuObject *gpu;
        Status status = load_gpu(ctl, args->words.items[0], &objects, &gpu);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json)
                answer_gpu(ctl, objects, gpu);
        else
                print_gpu(objects, gpu, &ctl->out);
        return STATUS_DONE;
}

/* With --json the object as it is after the change. */
static Status answer_changed_gpu(Ctl *ctl, const char *path) {
        if (!ctl->json)
                return STATUS_DONE;
        _cleanup_(objects_freep) Objects *objects = NULL;
        const GpuObject *gpu;
        Status status = load_gpu(ctl, path, &objects, &gpu);
        if (status == STATUS_DONE)
                answer_gpu(ctl, objects, gpu);
        return status;
}

Status verb_gpu_quarantine(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        _cleanup_free_ char *reason = must_copy("");
        const GpuObject *gpu;
        Status status = load_gpu(ctl, args->words.items[0], &objects, &gpu);
        if (status != STATUS_DONE)
                return status;

        for (size_t i = 1; i < args->words.n; i++)
                must_append(&reason, "%s%s", i > 1 ? " " : "", args->words.items[i]);
        request_begin(ctl, &request, REQUEST_CHANGE, gpu->path, INTERFACE_GPU, "Quarantine");
        request_explain(&request, ACTION_MANAGE_NODE, "quarantining a GPU of node %s",
                        objects_name(objects, gpu->node));
        request_append(&request, "s", *reason ? reason : "by hand");
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "gpu %s is quarantined%s%s. When it is mended: gpupoolctl gpu release %s", gpu->name,
                 text_equal(gpu->vm, OBJECT_NONE) ? "" : "; it stays with vm ",
                 text_equal(gpu->vm, OBJECT_NONE) ? "" : objects_name(objects, gpu->vm), gpu->name);
        return answer_changed_gpu(ctl, gpu->path);
}

Status verb_gpu_release(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const GpuObject *gpu;
        Status status = load_gpu(ctl, args->words.items[0], &objects, &gpu);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, gpu->path, INTERFACE_GPU, "Release");
        request_explain(&request, ACTION_MANAGE_NODE, "releasing a GPU of node %s", objects_name(objects, gpu->node));
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "gpu %s is no longer quarantined%s", gpu->name,
                 gpu->assignable ? "" : "; it is still not assignable: gpupoolctl gpu shows why");
        return answer_changed_gpu(ctl, gpu->path);
}
