/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Check: what is to be said of hosts and of their GPUs. */

#include "core/check-internal.h"

/* ---- hosts that can give no GPU to a VM */

static void count_gpus(const Inventory *inventory, const NodeId *node, size_t *ret_n, size_t *ret_wanted) {
        size_t n = 0, wanted = 0;
        ARRAY_EACH(view, &inventory->views) {
                if (!view->facts || !ID_EQUAL(&view->identity.node, node))
                        continue;
                n++;
                wanted += view->pool || view->vm;
        }
        *ret_n = n;
        *ret_wanted = wanted;
}

/* Once for the host, and not again for each GPU in it. */
static int check_host(const Inventory *inventory, const InventoryNode *node, CheckFindings *findings) {
        _cleanup_(blockers_clear) Blockers blockers = {};
        Subject subject = about_node(findings, &node->record->id);
        size_t n_gpus, n_wanted;
        if (!node->facts || node->record->witness)
                return 0;
        count_gpus(inventory, &node->record->id, &n_gpus, &n_wanted);
        int r = n_gpus > 0 ? survey_host(node->facts, &blockers) : 0;
        ARRAY_EACH(blocker, &blockers) {
                if (r >= 0)
                        r = add_finding(&subject, n_wanted > 0 ? CHECK_WARNING : CHECK_NOTE, "host-not-ready",
                                        "node %s can give none of its %zu GPU%s to a VM: %s", node->record->name,
                                        n_gpus, PLURAL(n_gpus), blocker->sentence);
                if (r >= 0)
                        r = add_remedy(&subject, "%s", blocker->remedy);
        }
        return r;
}

/* ---- GPUs */

/* One GPU, and how it is called. */
typedef struct Card {
        const Inventory *inventory;
        const GpuView *view;
        Subject subject;
        const char *node;
        char address[PCI_ADDRESS_TEXT_SIZE];
} Card;

static CheckSeverity severity_of(const GpuView *view) {
        if (view->vm)
                return CHECK_ERROR;
        return view->pool ? CHECK_WARNING : CHECK_NOTE;
}

/* "GPU a:0000:41:00.0 of pool training" */
static int name_card(const Card *card, char **ret) {
        const Pool *pool = card->view->pool;
        return text_printf(ret, "GPU %s:%s%s%s", card->node, card->address, pool ? " of pool " : " (in no pool)",
                           pool ? pool->name : "");
}

/* That it hangs is why it is in quarantine, and is told with what helps. */
static bool is_told_as_stuck(const Card *card) {
        return card->view->facts && card->view->facts->stuck && card->view->quarantine &&
               card->view->quarantine->cause == QUARANTINE_STUCK;
}

static int check_blockers(const Card *card) {
        _cleanup_(blockers_clear) Blockers blockers = {};
        _cleanup_free_ char *name = NULL;
        int r = name_card(card, &name);
        if (r >= 0)
                r = gpu_view_survey(card->view, &blockers);
        ARRAY_EACH(blocker, &blockers) {
                if (blocker_code_is_about_host(blocker->code))
                        continue;
                if (r >= 0)
                        r = add_finding(&card->subject, severity_of(card->view), "gpu-not-assignable",
                                        "%s cannot be used: %s", name, blocker->sentence);
                if (r >= 0)
                        r = add_remedy(&card->subject, "%s", blocker->remedy);
        }
        return r;
}

/* What is in the slot in which the registry knows another GPU, or NULL. */
static const GpuView *find_in_its_slot(const Card *card) {
        ARRAY_EACH(other, &card->inventory->views)
                if (other->facts && ID_EQUAL(&other->identity.node, &card->view->identity.node) &&
                    text_equal(other->identity.slot, card->view->identity.slot))
                        return other;
        return NULL;
}

/* A replaced card is another GPU: what is in the slot now is in the pool only if a rule or somebody puts it there. */
static int check_absent(const Card *card) {
        const GpuView *other = find_in_its_slot(card);
        const Pool *pool = card->view->pool;
        _cleanup_free_ char *name = NULL;
        int r = name_card(card, &name);
        if (r < 0)
                return r;
        if (!other) {
                r = add_finding(&card->subject, severity_of(card->view), "gpu-absent", "%s is not there any more",
                                name);
                if (r < 0 || !pool)
                        return r < 0 ? r : add_remedy(&card->subject, "put it back");
                return add_remedy(&card->subject, "put it back, or take it out of the pool: gpupoolctl pool remove %s "
                                  "%s:%s", pool->name, card->node, card->address);
        }
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(other->identity.address, address);
        const char *serial = other->identity.serial;
        r = add_finding(&card->subject, severity_of(card->view), "gpu-replaced",
                        "%s was replaced: in its slot is another card now (%04x:%04x%s%s, at %s), which is %s%s", name,
                        other->identity.vendor, other->identity.device, *serial ? ", serial " : "", serial, address,
                        other->pool ? "in pool " : "in no pool", other->pool ? other->pool->name : "");
        if (r < 0 || other->pool)
                return r < 0 ? r : add_remedy(&card->subject, "take the old one out of the pool");
        return add_remedy(&card->subject, "take the old one out of the pool and put the new one in (gpupoolctl pool "
                          "add %s %s:%s)", pool ? pool->name : "POOL", card->node, address);
}

static int check_quarantine(const Card *card) {
        const Quarantine *quarantine = card->view->quarantine;
        if (!quarantine)
                return 0;
        const char *why = text_is_empty(quarantine->sentence) ? quarantine_cause_to_sentence(quarantine->cause)
                                                              : quarantine->sentence;
        int r = add_finding(&card->subject, CHECK_NOTE, "gpu-quarantined", "GPU %s:%s is in quarantine: %s", card->node,
                            card->address, why);
        return r < 0 ? r : add_remedy(&card->subject, "mend or replace it, then: gpupoolctl gpu release %s:%s",
                                      card->node, card->address);
}

static int check_gpu(const Inventory *inventory, const GpuView *view, bool always, CheckFindings *findings) {
        Card card = {
                .inventory = inventory,
                .view = view,
                .subject = about_gpu(findings, &view->identity),
                .node = world_node_name(inventory->world, &view->identity.node),
        };
        pci_address_to_text(view->identity.address, card.address);

        bool looked_at = view->pool || view->vm || always;
        int r = looked_at && is_told_as_stuck(&card) ? 0 : check_quarantine(&card);
        if (r < 0 || !looked_at)
                return r;
        if (view->facts)
                return check_blockers(&card);
        /* Where the node is silent, that is told once, with the node. */
        return view->host ? check_absent(&card) : 0;
}

int check_gpus(const Inventory *inventory, const NodeId *only, CheckFindings *findings) {
        int r = 0;
        ARRAY_EACH(node, &inventory->nodes)
                if (r >= 0 && (!only || ID_EQUAL(&node->record->id, only)))
                        r = check_host(inventory, node, findings);
        ARRAY_EACH(view, &inventory->views)
                if (r >= 0 && (!only || ID_EQUAL(&view->identity.node, only)))
                        r = check_gpu(inventory, view, !!only, findings);
        return r;
}
