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

static const char *pool_name(const Card *card) {
        return card->view->pool ? card->view->pool->name : "none";
}

static int check_blockers(const Card *card) {
        _cleanup_(blockers_clear) Blockers blockers = {};
        int r = gpu_view_survey(card->view, &blockers);
        ARRAY_EACH(blocker, &blockers) {
                if (blocker_code_is_about_host(blocker->code))
                        continue;
                if (r >= 0)
                        r = add_finding(&card->subject, severity_of(card->view), "gpu-not-assignable",
                                        "GPU %s:%s of pool %s cannot be used: %s", card->node, card->address,
                                        pool_name(card), blocker->sentence);
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
        int r = 0;
        if (!other) {
                r = add_finding(&card->subject, severity_of(card->view), "gpu-absent",
                                "GPU %s:%s of pool %s is not there any more", card->node, card->address,
                                pool_name(card));
                return r < 0 ? r : add_remedy(&card->subject, "put it back, or take it out of the pool");
        }
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(other->identity.address, address);
        const char *serial = other->identity.serial;
        r = add_finding(&card->subject, severity_of(card->view), "gpu-replaced",
                        "GPU %s:%s of pool %s was replaced: in its slot is another card now (%04x:%04x%s%s, at %s), "
                        "which is %s%s", card->node, card->address, pool_name(card), other->identity.vendor,
                        other->identity.device, *serial ? ", serial " : "", serial, address,
                        other->pool ? "in pool " : "in no pool", other->pool ? other->pool->name : "");
        if (r < 0 || other->pool)
                return r < 0 ? r : add_remedy(&card->subject, "take the old one out of the pool");
        return add_remedy(&card->subject, "take the old one out of the pool and put the new one in (gpupoolctl pool "
                          "add %s %s:%s)", card->view->pool ? card->view->pool->name : "POOL", card->node, address);
}

static int check_quarantine(const Card *card) {
        const Quarantine *quarantine = card->view->quarantine;
        if (!quarantine)
                return 0;
        const char *why = text_is_empty(quarantine->sentence) ? quarantine_cause_to_sentence(quarantine->cause)
                                                              : quarantine->sentence;
        int r = add_finding(&card->subject, CHECK_NOTE, "gpu-quarantined", "GPU %s:%s is in quarantine: %s", card->node,
                            card->address, why);
        return r < 0 ? r : add_remedy(&card->subject, "mend or replace it, then: gpupoolctl gpu %s:%s release",
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

        int r = check_quarantine(&card);
        if (r < 0 || (!view->pool && !view->vm && !always))
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
