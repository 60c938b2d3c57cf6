/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a node says of a VM. */

#include <errno.h>
#include <stdio.h>

#include "core/facts-codec-internal.h"
#include "core/names.h"

void vm_facts_clear(VmFacts *facts) {
        free(facts->stage);
        free(facts->code);
        free(facts->sentence);
        *facts = (VmFacts) {};
}

static void vm_key(const VmId *vm, char ret[static KEY_VM_SIZE]) {
        char id[ID_TEXT_SIZE];
        id_to_text(vm->bytes, id);
        (void) snprintf(ret, KEY_VM_SIZE, KEY_VM_PREFIX "%s", id);
}

int vm_facts_publish(Gossip *gossip, const VmId *vm, const VmFacts *facts) {
        char key[KEY_VM_SIZE];
        vm_key(vm, key);
        if (!facts) {
                int r = gossip_remove(gossip, key);
                return r < 0 ? r : 0;
        }

        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsVm message = GPUPOOL1__FACTS_VM__INIT;
        message.epoch = facts->epoch;
        message.stage = keep_text(&keep, facts->stage, FACTS_WORD_MAX);
        message.code = keep_text(&keep, facts->code, FACTS_WORD_MAX);
        message.sentence = keep_text(&keep, facts->sentence, TEXT_LENGTH_MAX);
        int r = keep.failed ? -ENOMEM : publish_or_withdraw(gossip, key, &message.base);
        return r < 0 ? r : 0;
}

int vm_facts_collect(const Gossip *gossip, const NodeId *node, const VmId *vm, VmFacts *ret) {
        char key[KEY_VM_SIZE];
        vm_key(vm, key);
        size_t size;
        const void *value = gossip_get(gossip, node, key, &size);
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = value ? unpack_value(&gpupool1__facts_vm__descriptor, value, size, &message) : -EBADMSG;
        if (r < 0)
                return r == -EBADMSG ? false : r;

        const Gpupool1__FactsVm *row = (const Gpupool1__FactsVm *) message;
        _cleanup_(vm_facts_clear) VmFacts facts = { .epoch = row->epoch };
        r = read_text(row->stage, FACTS_WORD_MAX, &facts.stage);
        if (r >= 0)
                r = read_text(row->code, FACTS_WORD_MAX, &facts.code);
        if (r >= 0)
                r = read_text(row->sentence, TEXT_LENGTH_MAX, &facts.sentence);
        if (r < 0)
                return r == -EBADMSG ? false : r;
        *ret = facts;
        facts = (VmFacts) {};
        return true;
}

bool vm_facts_next(const Gossip *gossip, const NodeId *node, const VmId *vm, VmId *ret) {
        char key[KEY_VM_SIZE] = KEY_VM_PREFIX, own[KEY_VM_SIZE];
        if (vm)
                vm_key(vm, key);
        GossipFact fact = { .key = key };
        while (gossip_next(gossip, node, fact.key, &fact) && key_has_prefix(fact.key, KEY_VM_PREFIX)) {
                VmId found;
                if (id_from_text(fact.key + strlen(KEY_VM_PREFIX), found.bytes) < 0)
                        continue;
                /* An id can be written in other ways, too. */
                vm_key(&found, own);
                if (!text_equal(own, fact.key))
                        continue;
                *ret = found;
                return true;
        }
        return false;
}
