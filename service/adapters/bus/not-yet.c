/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods of the contract that later versions carry out. Each is authorised as it will be, so that a rule can be tried
 * today and nobody learns more than they may; then it says NotSupported. */

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

typedef struct Later {
        const Face *face;
        const char *member;
        const char *action;
        const char *verb;
} Later;

static const Later later[] = {
        { &manager_face, "Invite", ACTION_MANAGE_CLUSTER, "invite" },
        { &manager_face, "Join", ACTION_MANAGE_CLUSTER, "join" },
        { &manager_face, "SetFunctionalLevel", ACTION_MANAGE_CLUSTER, "set-functional-level" },
        { &manager_face, "Freeze", ACTION_MANAGE_CLUSTER, "freeze" },
        { &manager_face, "Thaw", ACTION_MANAGE_CLUSTER, "thaw" },
        { &manager_face, "Export", ACTION_MANAGE_CLUSTER, "export" },
        { &manager_face, "Import", ACTION_MANAGE_CLUSTER, "import" },
        { &node_face, "Drain", ACTION_MANAGE_NODE, "drain" },
        { &node_face, "Resume", ACTION_MANAGE_NODE, "resume" },
        { &node_face, "Remove", ACTION_MANAGE_CLUSTER, "remove" },
        { &node_face, "SetFencing", ACTION_MANAGE_CLUSTER, "set-fencing" },
        { &node_face, "ConfirmDown", ACTION_MANAGE_CLUSTER, "confirm-down" },
        { &vm_face, "Move", ACTION_OPERATE_VM, "move" },
};

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
        int r = ask_caller(object->bus, m, &caller, error);
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
