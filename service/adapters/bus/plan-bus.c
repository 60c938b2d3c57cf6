/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Manager.Plan: what would become of VMs and pools, if. Anybody may ask, so the question is bounded here, and the work
 * in core. */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "adapters/bus/path.h"
#include "core/plan.h"

#define LIST_MAX 256U           /* of each thing that is supposed */

/* The question as it came, borrowed from the message, and as core has it. */
typedef struct Question {
        TextRow lose, drain, new_nodes, start;
        ARRAY(SupposedGpus) add;
        ARRAY(SupposedReserve) reserves;
        const char *defragment;
        bool defragments;
        ARRAY(NodeId) nodes;            /* those that are lost, then those that are drained */
        ARRAY(VmId) vms;                /* those that are started, then the one for which others move */
} Question;

static void question_clear(Question *question) {
        text_row_clear(&question->lose);
        text_row_clear(&question->drain);
        text_row_clear(&question->new_nodes);
        text_row_clear(&question->start);
        array_clear(&question->add);
        array_clear(&question->reserves);
        array_clear(&question->nodes);
        array_clear(&question->vms);
}

/* ---- reading */

static int refuse_more(const char *key, sd_bus_error *error) {
        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "option %s has at most %u items", key, LIST_MAX);
}

static int read_row(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return read_texts(m, option->signature[1], LIST_MAX, option->key, option->value, error);
}

static int read_additions(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        Question *question = option->value;
        SupposedGpus gpus;
        int r = sd_bus_message_enter_container(m, 'a', "(sus)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sus)", &gpus.pool, &gpus.n, &gpus.node)) > 0) {
                if (question->add.n >= LIST_MAX)
                        return refuse_more(option->key, error);
                if (!text_is_printable(gpus.pool) || !text_is_printable(gpus.node))
                        return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT, "add: a name is not printable");
                r = array_append(&question->add, &gpus);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_reserves(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        Question *question = option->value;
        SupposedReserve reserve;
        int r = sd_bus_message_enter_container(m, 'a', "(su)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(su)", &reserve.pool, &reserve.reserve)) > 0) {
                if (question->reserves.n >= LIST_MAX)
                        return refuse_more(option->key, error);
                if (!text_is_printable(reserve.pool))
                        return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT, "reserve: a name is not printable");
                r = array_append(&question->reserves, &reserve);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_path(sd_bus_message *m, const Option *option, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, 'o', option->value);
}

static int read_question(sd_bus_message *m, Question *question, sd_bus_error *error) {
        const Option options[] = {
                { "lose", "ao", read_row, &question->lose, NULL },
                { "drain", "ao", read_row, &question->drain, NULL },
                { "add-nodes", "as", read_row, &question->new_nodes, NULL },
                { "add", "a(sus)", read_additions, question, NULL },
                { "start", "ao", read_row, &question->start, NULL },
                { "reserve", "a(su)", read_reserves, question, NULL },
                { "defragment", "o", read_path, &question->defragment, &question->defragments },
        };
        return options_read(m, options, ELEMENTS(options), error);
}

/* ---- resolving */

static int add_node(Bus *bus, const char *path, Question *question, sd_bus_error *error) {
        const Object *object = objects_find_kind(&bus->objects, path, FACE_NODE);
        if (!object || !object->node.record)
                return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no node %s", fit_to_quote(path));
        return array_append(&question->nodes, &object->node.record->id);
}

static int add_vm(Bus *bus, const char *path, Question *question, sd_bus_error *error) {
        const Object *object = objects_find_kind(&bus->objects, path, FACE_VM);
        if (!object)
                return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no VM %s", fit_to_quote(path));
        return array_append(&question->vms, &object->vm.vm->id);
}

static int resolve(Bus *bus, Question *question, Supposal *ret, sd_bus_error *error) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < question->lose.n; i++)
                r = add_node(bus, question->lose.items[i], question, error);
        for (size_t i = 0; r >= 0 && i < question->drain.n; i++)
                r = add_node(bus, question->drain.items[i], question, error);
        for (size_t i = 0; r >= 0 && i < question->start.n; i++)
                r = add_vm(bus, question->start.items[i], question, error);
        if (r >= 0 && question->defragments)
                r = add_vm(bus, question->defragment, question, error);
        if (r < 0)
                return r;
        *ret = (Supposal) {
                .lose = question->nodes.items,
                .n_lose = question->lose.n,
                .n_drain = question->drain.n,
                .new_nodes = question->new_nodes.items,
                .n_new_nodes = question->new_nodes.n,
                .add = question->add.items,
                .n_add = question->add.n,
                .reserves = question->reserves.items,
                .n_reserves = question->reserves.n,
                .start = question->vms.items,
                .n_start = question->start.n,
        };
        if (question->drain.n > 0)
                ret->drain = question->nodes.items + question->lose.n;
        return 0;
}

/* ---- answering */

static int append_items(sd_bus_message *reply, const World *world, const Plan *plan) {
        int r = sd_bus_message_open_container(reply, 'a', "(osssss)");
        ARRAY_EACH(item, &plan->items) {
                const NodeRecord *from = registry_find_node(world->registry, &item->from);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "(osssss)", path_of_vm(&item->vm).text, from ? from->name : "",
                                                  item->to_name ? item->to_name : "", plan_fate_to_text(item->fate),
                                                  item->code, item->why ? item->why : "");
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_pool(sd_bus_message *reply, const PlanPool *pool) {
        const PoolCounts *before = &pool->before, *after = &pool->after;
        const struct {
                const char *word;
                uint32_t before, after;
        } rows[] = {
                { "total", before->total, after->total },
                { "usable", before->usable, after->usable },
                { "free", before->free, after->free },
                { "largest-free", before->largest_free, after->largest_free },
                { "used", before->in_use, after->in_use },
                { "survives", before->survives, after->survives },
                { "running", pool->running_before, pool->running_after },
                { "waiting", pool->waiting_before, pool->waiting_after },
        };
        int r = sd_bus_message_open_container(reply, 'r', "sa(suu)");
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", pool->name);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(suu)");
        for (size_t i = 0; r >= 0 && i < ELEMENTS(rows); i++)
                if (pool->survives || !text_equal(rows[i].word, "survives"))
                        r = sd_bus_message_append(reply, "(suu)", rows[i].word, rows[i].before, rows[i].after);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int send_plan(sd_bus_message *m, const World *world, const Plan *plan) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_items(reply, world, plan);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sa(suu))");
        ARRAY_EACH(pool, &plan->pools)
                r = r < 0 ? r : append_pool(reply, pool);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

METHOD(method_plan) {
        Bus *bus = ((Object *) userdata)->bus;
        const World *world = bus_world(bus);
        _cleanup_(question_clear) Question question = {};
        _cleanup_(plan_clear) Plan plan = {};
        _cleanup_(result_clear) Result result = {};
        Supposal supposal;
        int r = read_question(m, &question, error);
        if (r >= 0)
                r = resolve(bus, &question, &supposal, error);
        if (r >= 0)
                r = plan_make(world, &supposal, question.defragments ? question.vms.items + question.start.n : NULL,
                              &plan, &result);
        if (r < 0)
                return r;
        if (result.verdict != VERDICT_DONE)
                return sd_bus_error_set(error, verdict_to_error(result.verdict), result.sentence);
        return send_plan(m, world, &plan);
}
