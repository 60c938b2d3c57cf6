/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods of the contract that later versions carry out. Each is authorised as it will be, so that a rule can be tried
 * today and nobody learns more than they may; then it says NotSupported. */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

/* Which options a method will take beside request-id. */
typedef enum LaterOption {
        TAKES_NOTHING = 0,
        TAKES_DRY_RUN = 1 << 0,
        TAKES_TIMEOUT = 1 << 1,
        TAKES_BRING_HOME = 1 << 2,
} LaterOption;

typedef struct Later {
        const Face *face;
        const char *member;
        const char *action;
        const char *verb;
        const char *arguments;          /* before the options, of the types that read_argument() knows */
        unsigned options;
} Later;

static const Later later[] = {
        { &manager_face, "Freeze", ACTION_MANAGE_CLUSTER, "freeze", "t", TAKES_NOTHING },
        { &manager_face, "Thaw", ACTION_MANAGE_CLUSTER, "thaw", "", TAKES_NOTHING },
        { &node_face, "Drain", ACTION_MANAGE_NODE, "drain", "", TAKES_DRY_RUN | TAKES_TIMEOUT },
        { &node_face, "Resume", ACTION_MANAGE_NODE, "resume", "", TAKES_BRING_HOME },
        { &node_face, "SetFencing", ACTION_MANAGE_CLUSTER, "set-fencing", "sp", TAKES_NOTHING },
        { &node_face, "ConfirmDown", ACTION_MANAGE_CLUSTER, "confirm-down", "", TAKES_NOTHING },
        { &vm_face, "Move", ACTION_OPERATE_VM, "move", "s", TAKES_NOTHING },
};

/* While polkit is asked the message is kept, whoever sent it. So its size has a limit here, too. */
#define PARAMETERS_MAX 64U

static int check_length(const char *text, sd_bus_error *error) {
        if (strlen(text) <= TEXT_LENGTH_MAX)
                return 0;
        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "an argument has more than %u bytes", TEXT_LENGTH_MAX);
}

static int read_text(sd_bus_message *m, sd_bus_error *error) {
        const char *text;
        int r = sd_bus_message_read_basic(m, 's', &text);
        return r < 0 ? r : check_length(text, error);
}

static int read_parameters(sd_bus_message *m, sd_bus_error *error) {
        const char *key, *value;
        size_t n = 0;
        int r = sd_bus_message_enter_container(m, 'a', "{ss}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "{ss}", &key, &value)) > 0) {
                if (++n > PARAMETERS_MAX)
                        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "parameters: at most %u",
                                                 PARAMETERS_MAX);
                r = check_length(key, error);
                if (r >= 0)
                        r = check_length(value, error);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_argument(sd_bus_message *m, char type, sd_bus_error *error) {
        switch (type) {
        case 's':
                return read_text(m, error);
        case 'p':       /* a{ss} */
                return read_parameters(m, error);
        case 'u':
        case 't':
                return sd_bus_message_skip(m, (const char[]) { type, '\0' });
        default:
                return -EINVAL;
        }
}

static int read_call(sd_bus_message *m, const Later *what, sd_bus_error *error) {
        for (const char *type = what->arguments; *type; type++) {
                int r = read_argument(m, *type, error);
                if (r < 0)
                        return r;
        }

        RequestOption request = {};
        bool dry_run, bring_home;
        uint64_t timeout;
        Option options[4];
        size_t n = 0;
        options[n++] = (Option) OPTION_REQUEST(&request);
        if (what->options & TAKES_DRY_RUN)
                options[n++] = (Option) { "dry-run", "b", option_read_boolean, &dry_run, NULL };
        if (what->options & TAKES_TIMEOUT)
                options[n++] = (Option) { "timeout", "t", option_read_u64, &timeout, NULL };
        if (what->options & TAKES_BRING_HOME)
                options[n++] = (Option) { "bring-home", "b", option_read_boolean, &bring_home, NULL };
        return options_read(m, options, n, error);
}

static const Later *find_later(const Face *face, const char *member) {
        for (size_t i = 0; i < ELEMENTS(later); i++)
                if (later[i].face == face && text_equal(later[i].member, member))
                        return later + i;
        return NULL;
}

static int refuse_unsupported(const char *member, sd_bus_error *error) {
        return sd_bus_error_setf(error, ERROR_NOT_SUPPORTED,
                                 "gpupool " GPUPOOL_VERSION " does not carry out %s yet; Features of " INTERFACE_MANAGER
                                 " says what it does", member);
}

static Right right_to(const Later *what, const Object *object) {
        Right right = { .action = what->action, .verb = what->verb };
        if (object->face == &node_face) {
                const NodeRecord *record = object->node.record;
                right.node = record ? record->name : NULL;
        } else if (object->face == &vm_face) {
                right.vm = object->vm.vm->name;
                right.pool = object->vm.vm->pool;
                right.owner = object->vm.vm->owner_user;
        }
        return right;
}

METHOD(method_not_yet) {
        Object *object = userdata;
        const char *member = sd_bus_message_get_member(m);
        const Later *what = find_later(object->face, member);
        if (!what)
                return refuse_unsupported(member, error);

        const Caller *caller;
        Right right = right_to(what, object);
        int r = read_call(m, what, error);
        if (r >= 0)
                r = ask_caller(object->bus, m, &caller, error);
        if (r == ASK_GO)
                r = ask_right(object->bus, m, &right, error);
        if (r != ASK_GO)
                return r;
        ask_done(object->bus, m);
        return refuse_unsupported(member, error);
}

METHOD(method_plan) {
        return refuse_unsupported("Plan", error);
}
