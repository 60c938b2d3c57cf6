/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Why a VM is in the state it is in (D-Bus: VM.Reason): code and sentence, both empty for one that is as it should be.
 * A waiting VM's is what placement says now. */

#include "core/placement-notes.h"

/* Both owned by the caller. 0 or -ENOMEM. Who asks for many VMs makes one Inventory for all of them. */
int vm_reason(const World *world, const Vm *vm, char **ret_code, char **ret_sentence);
int vm_reason_in(Inventory *inventory, const Vm *vm, char **ret_code, char **ret_sentence);
/* The same, and what placement said of each node when it found no place for a VM that waits: a decision that is made
 * anew with every change and so is in no entry. Within NOTES_SIZE_WAITING.
 * No notes: what the registry has of the last decision stands. */
int vm_account_in(Inventory *inventory, const Vm *vm, char **ret_code, char **ret_sentence,
                  PlacementNotes *ret_notes);
