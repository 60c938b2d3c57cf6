/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/words.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <time.h>

#include "core/majority.h"
#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/must.h"
#include "ctl/table.h"

const char *or_dash(const char *text) {
        return text_is_empty(text) ? "-" : text;
}

Style state_style(const char *state) {
        static const char *const good[] = { "online", "ready", "running", "done", "connected" };
        static const char *const bad[] = { "lost", "removed", "blocked", "quarantined", "failed", "absent", "hung" };
        static const char *const doubtful[] = { "draining", "drained", "silent", "joining", "waiting", "backoff",
                                                "starting", "stopping", "connecting", "canceled", "superseded" };
        for (size_t i = 0; i < ELEMENTS(good); i++)
                if (text_equal(state, good[i]))
                        return STYLE_GOOD;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (text_equal(state, bad[i]))
                        return STYLE_BAD;
        for (size_t i = 0; i < ELEMENTS(doubtful); i++)
                if (text_equal(state, doubtful[i]))
                        return STYLE_DOUBTFUL;
        return STYLE_PLAIN;
}

/* The text in the last brackets, which is the name on the box: "GH100 [H100 PCIe]". NULL if there are none. */
static char *read_brackets(const char *text) {
        const char *open = strrchr(text, '['), *close = strrchr(text, ']');
        return open && close && close > open + 1 ? must_printf("%.*s", (int) (close - open - 1), open + 1) : NULL;
}

/* "NVIDIA Corporation" to NVIDIA, "Advanced Micro Devices, Inc. [AMD/ATI]" to AMD. */
static char *shorten_vendor(const char *vendor) {
        _cleanup_free_ char *brackets = read_brackets(vendor);
        const char *name = brackets ? brackets : vendor;
        return must_printf("%.*s", (int) strcspn(name, " ,/"), name);
}

char *gpu_model(const GpuObject *gpu) {
        if (text_is_empty(gpu->device)) {
                _cleanup_free_ char *ids = must_printf("%04x:%04x", gpu->vendor_id, gpu->device_id);
                if (text_is_empty(gpu->vendor))
                        return STEAL(ids);
                _cleanup_free_ char *vendor = shorten_vendor(gpu->vendor);
                return must_printf("%s %s", vendor, ids);
        }

        _cleanup_free_ char *vendor = shorten_vendor(gpu->vendor);
        _cleanup_free_ char *brackets = read_brackets(gpu->device);
        const char *device = brackets ? brackets : gpu->device;
        if (text_is_empty(vendor) || strncasecmp(device, vendor, strlen(vendor)) == 0)
                return must_copy(device);
        return must_printf("%s %s", vendor, device);
}

const char *gpu_condition(const GpuObject *gpu) {
        if (text_equal(gpu->state, "assigned") || !text_equal(gpu->vm, OBJECT_NONE))
                return "in use";
        if (text_equal(gpu->state, "present"))
                return gpu->assignable ? "ready" : "blocked";
        return text_is_empty(gpu->state) ? "unknown" : gpu->state;
}

double job_progress(const JobObject *job) {
        return job->progress >= 0 && job->progress <= 1 ? job->progress : 0;
}

const char *reason_without_name(const char *reason, const char *vm) {
        _cleanup_free_ char *begin = must_printf("vm %s ", vm);
        const char *colon = strstr(reason, ": ");
        if (strncmp(reason, begin, strlen(begin)) != 0 || !colon)
                return reason;
        return colon + strlen(": ");
}

const char *vm_reason(const VmObject *vm) {
        return reason_without_name(vm->reason, vm->name);
}

char *size_to_text(uint64_t bytes) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double size = (double) bytes;
        size_t unit = 0;
        while (size >= 1024 && unit + 1 < ELEMENTS(units)) {
                size /= 1024;
                unit++;
        }
        return must_printf(size >= 10 || size == (double) (uint64_t) size ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

char *duration_to_text(uint64_t us) {
        unsigned long long seconds = us / 1000000U;
        if (seconds < 120)
                return must_printf("%llu s", seconds);
        if (seconds < 2 * 3600)
                return must_printf("%llu min", seconds / 60);
        if (seconds < 48 * 3600)
                return must_printf("%llu h", seconds / 3600);
        return must_printf("%llu days", seconds / 86400);
}

char *time_to_text(uint64_t realtime_us) {
        char text[64];
        struct tm then, today;
        time_t seconds = (time_t) (realtime_us / 1000000U), now = (time_t) (now_realtime_us() / 1000000U);
        if (!localtime_r(&seconds, &then) || !localtime_r(&now, &today))
                return must_copy("-");
        bool is_today = then.tm_year == today.tm_year && then.tm_yday == today.tm_yday;
        if (strftime(text, sizeof(text), is_today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &then) == 0)
                return must_copy("-");
        return must_copy(text);
}

char *lifetime_to_text(uint64_t seconds) {
        static const struct {
                uint64_t seconds;
                const char *name;
        } units[] = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (seconds % units[i].seconds == 0) {
                        unsigned long long n = seconds / units[i].seconds;
                        return must_printf("%llu %s%s", n, units[i].name, plural(n));
                }
        return must_copy("");
}

/* "90", "90s", "15min", "2h", "7d" */
Status seconds_from_text(Ctl *ctl, const char *what, const char *value, uint64_t least, uint64_t most, uint64_t *ret) {
        static const struct {
                const char *unit;
                uint64_t seconds;
        } units[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 } };
        size_t digits = strspn(value, "0123456789");
        uint64_t number = 0, seconds = 0;
        _cleanup_free_ char *text = must_printf("%.*s", (int) digits, value);
        bool good = digits > 0 && text_to_u64(text, 10, &number) >= 0;
        for (size_t i = 0; good && i < ELEMENTS(units); i++)
                if (text_equal(value + digits, units[i].unit) &&
                    !__builtin_mul_overflow(number, units[i].seconds, &seconds) &&
                    seconds >= least && seconds <= most) {
                        *ret = seconds;
                        return STATUS_DONE;
                }
        _cleanup_free_ char *shortest = lifetime_to_text(least), *longest = lifetime_to_text(most);
        return ctl_refuse_usage(ctl, "%s is a time from %s to %s, such as 90s, 15min, 2h or 7d; it is not \"%s\".",
                                what, shortest, longest, value);
}

Status option_seconds(Ctl *ctl, const Args *args, const char *name, uint64_t least, uint64_t most, uint64_t *ret) {
        const char *value = args_value(args, name);
        return value ? seconds_from_text(ctl, name, value, least, most, ret) : STATUS_DONE;
}

char *user_to_text(uint32_t uid) {
        const struct passwd *user = getpwuid(uid);
        return user ? must_copy(user->pw_name) : must_printf("uid %u", uid);
}

NodeCount node_count(const Objects *objects, const NodeObject *node) {
        bool takes_vms = text_equal(node->state, "online") || text_is_empty(node->state);
        NodeCount count = {};
        ARRAY_EACH(gpu, &objects->gpus) {
                if (!text_equal(gpu->node, node->path))
                        continue;
                const char *condition = gpu_condition(gpu);
                count.gpus++;
                count.free += takes_vms && text_equal(condition, "ready");
                count.blocked += text_equal(condition, "blocked");
                count.quarantined += text_equal(condition, "quarantined");
        }
        ARRAY_EACH(vm, &objects->vms)
                count.vms += text_equal(vm->node, node->path);
        return count;
}

static void add_note(char **note, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_note(char **note, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *more = must_vprintf(format, ap);
        va_end(ap);
        must_append(note, "%s%s", **note ? "; " : "", more);
}

static void add_evidence(char **note, const char *evidence) {
        static const char *const sentences[][2] = {
                { "lease", "its lease has run out" },
                { "power-off", "its fence agent says that it is off" },
                { "new-boot", "it has booted anew" },
                { "confirmed", "an administrator says that it is off" },
        };
        for (size_t i = 0; i < ELEMENTS(sentences); i++)
                if (text_equal(evidence, sentences[i][0])) {
                        add_note(note, "%s", sentences[i][1]);
                        return;
                }
        if (!text_is_empty(evidence))
                add_note(note, "%s", evidence);
}

static void add_drain(char **note, const NodeObject *node) {
        if (text_equal(node->drain_cause, "flapping"))
                add_note(note, "lost three times within an hour: find out why, then gpupoolctl node resume %s",
                         node->name);
        else if (text_equal(node->state, "draining"))
                add_note(note, "its VMs are leaving, and none is placed there");
        else if (text_equal(node->state, "drained"))
                add_note(note, "no VM is placed there: gpupoolctl node resume %s", node->name);
        else if (!text_is_empty(node->drain_cause))
                add_note(note, "drained");
}

static void add_fencing(char **note, const NodeObject *node) {
        if (text_equal(node->fencing_state, "fencing"))
                add_note(note, "%s is to switch it off", node->fencing);
        else if (text_equal(node->fencing_state, "failed"))
                add_note(note, "%s could not switch it off: gpupoolctl check", node->fencing);
}

static void add_state(char **note, const NodeObject *node) {
        if (text_equal(node->state, "joining"))
                add_note(note, "a member, and nothing is known of it yet");
        if (text_equal(node->state, "removed"))
                add_note(note, "no member any more: gpupoolctl cluster reset");
        if (!text_equal(node->state, "silent"))
                return;
        _cleanup_free_ char *since = time_to_text(node->silent_since_us);
        if (node->silent_since_us > 0)
                add_note(note, "not heard of since %s", since);
        else
                add_note(note, "not heard of");
}

char *node_to_note(const Objects *objects, const NodeObject *node) {
        char *note = must_copy("");
        NodeCount count = node_count(objects, node);
        bool runs_vms = !text_equal(node->role, "witness");
        bool is_here = text_equal(node->state, "online") || text_equal(node->state, "draining") ||
                       text_equal(node->state, "drained");
        add_state(&note, node);
        add_evidence(&note, node->evidence);
        add_fencing(&note, node);
        add_drain(&note, node);
        if (!runs_vms)
                add_note(&note, "witness: it only votes");
        else if (is_here && !text_is_empty(node->hypervisor) && !text_equal(node->hypervisor, "connected"))
                add_note(&note, text_equal(node->hypervisor, "hung") ? "libvirt does not answer" :
                                text_equal(node->hypervisor, "absent") ? "libvirt does not run" : "waits for libvirt");
        if (runs_vms && is_here && text_equal(node->guard, "absent"))
                add_note(&note, "its guard does not run, so it starts no VM");
        if (count.blocked > 0)
                add_note(&note, "%u GPU%s not assignable: gpupoolctl gpu", count.blocked, plural(count.blocked));
        if (count.quarantined > 0)
                add_note(&note, "%u GPU%s quarantined: gpupoolctl gpu", count.quarantined, plural(count.quarantined));
        return note;
}

static int compare_texts(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

char *pool_to_sentence(const Objects *objects, const PoolObject *pool) {
        if (pool->gpus.n == 0 && pool->rules.n > 0)
                return must_printf("no GPUs yet; none matches its rules (gpupoolctl gpu shows what there is)");
        if (pool->gpus.n == 0)
                return must_printf("no GPUs yet; put some in: gpupoolctl pool add %s GPU", pool->name);
        _cleanup_(text_list_clear) TextList nodes = {};
        for (size_t i = 0; i < pool->gpus.n; i++) {
                const GpuObject *gpu = objects_gpu(objects, pool->gpus.items[i]);
                const char *node = gpu ? objects_name(objects, gpu->node) : "";
                if (*node && !text_list_has(&nodes, node))
                        must_list_add(&nodes, node);
        }
        if (nodes.n > 1)
                qsort(nodes.items, nodes.n, sizeof(*nodes.items), compare_texts);
        _cleanup_free_ char *where = must_join(&nodes, ", ");
        char *sentence = must_printf("%u GPU%s on %s", pool->total, plural(pool->total), *where ? where : "no node");
        if (pool->total > 1)
                must_append(&sentence, ", %s", pool->mixed.n == 0 ? "all alike" : "mixed");
        if (pool->survives > 0)
                must_append(&sentence, "; survives the loss of %u node%s", pool->survives, plural(pool->survives));
        if (pool->usable < pool->total)
                must_append(&sentence, "; %u not usable", pool->total - pool->usable);
        return sentence;
}

bool pool_is_out_of_votes(const Objects *objects, const PoolObject *pool) {
        size_t n_lost = 0;
        ARRAY_EACH(node, &objects->nodes)
                n_lost += text_equal(node->state, "lost");
        return pool->survives >= majority_spares(objects->nodes.n, n_lost);
}

static char *pool_to_note(const Objects *objects, const PoolObject *pool) {
        if (pool->total == 0)
                return pool->rules.n > 0 ? must_copy("empty: no GPU matches its rules") :
                                           must_printf("empty: gpupoolctl pool add %s GPU", pool->name);
        char *note = must_copy("");
        if (pool->at_risk.n > 0 && pool->survives == 0) {
                add_note(&note, "at risk: %s", objects_name(objects, pool->at_risk.items[0]));
                if (pool->at_risk.n > 1)
                        must_append(&note, " and %zu more", pool->at_risk.n - 1);
                if (pool_is_out_of_votes(objects, pool))
                        must_append(&note, " (no majority)");
        }
        if (pool->mixed.n > 0)
                add_note(&note, "GPUs differ: %s", pool->mixed.items[0]);
        if (pool->reserve > 0)
                add_note(&note, "%u kept free", pool->reserve);
        if (pool->max_in_use > 0)
                add_note(&note, "at most %u in use", pool->max_in_use);
        return note;
}

void pools_print(const Objects *objects, const Screen *screen) {
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "POOL", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "GPUS", TABLE_LEFT, 40, 0);
        table_column(table, "USABLE", TABLE_LEFT, 30, 0);
        table_column(table, "FREE", TABLE_LEFT, 60, 0);
        table_column(table, "SURVIVES", TABLE_LEFT, 50, 0);
        table_column(table, "NOTE", TABLE_LEFT, 20, 10);
        ARRAY_EACH(pool, &objects->pools) {
                _cleanup_free_ char *note = pool_to_note(objects, pool);
                table_cell(table, STYLE_PLAIN, "%s", pool->name);
                table_cell(table, STYLE_PLAIN, "%u", pool->total);
                table_cell(table, pool->usable < pool->total ? STYLE_DOUBTFUL : STYLE_PLAIN, "%u", pool->usable);
                table_cell(table, STYLE_PLAIN, "%u", pool->free);
                table_cell(table, STYLE_PLAIN, "%u node%s", pool->survives, plural(pool->survives));
                table_cell(table, STYLE_PLAIN, "%s", note);
        }
        table_print(table, screen);
}

Status file_read(Ctl *ctl, const char *name, size_t most, char **ret, size_t *ret_size) {
        bool is_input = text_equal(name, "-");
        _cleanup_close_ int fd = is_input ? dup(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        const char *shown = is_input ? "Standard input" : name;
        if (fd < 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be read: %s.", shown, strerror(errno));

        _cleanup_free_ char *text = must_zero(most + 2);
        size_t size = 0;
        for (;;) {
                ssize_t n = read(fd, text + size, most + 1 - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be read: %s.", shown, strerror(errno));
                if (n == 0)
                        break;
                size += (size_t) n;
                if (size > most)
                        return ctl_fail(ctl, STATUS_FAILED, ERROR_INVALID_ARGUMENT,
                                        "%s has more than %zu bytes, which is "
                                        "the most that is taken.", shown, most);
        }
        text[size] = 0;
        *ret = STEAL(text);
        *ret_size = size;
        return STATUS_DONE;
}

Status option_number(Ctl *ctl, const Args *args, const char *name, int64_t least, int64_t most, int64_t *ret) {
        const char *value = args_value(args, name);
        if (!value)
                return STATUS_DONE;
        _cleanup_free_ char *problem = NULL;
        if (number_from_text(name, value, least, most, ret, &problem) < 0)
                return ctl_refuse_usage(ctl, "%s", problem);
        return STATUS_DONE;
}
