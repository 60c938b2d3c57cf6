/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Company: VMs of one node that must be together, and so leave it together, or come home. Looked at one by one, none of
 * them could: each is bound to the node where the others still are. */

#include "core/inventory.h"

/* Indexes of tenants. */
typedef ARRAY(size_t) Company;

/* @tenant first, then those on its node that must be with it, or with one that must, and that are to run. 0 or
 * -ENOMEM. */
int company_list(const Inventory *inventory, size_t tenant, Company *ret);

/* Is there room for all of them on one other node: on @target, or anywhere if that is NULL? With @keep they have it
 * then, on paper; else, and without room, the inventory is as it was. Returns a PlacementVerdict (FOUND: *ret_node) or
 * -ENOMEM. */
int company_place(Inventory *inventory, const Company *company, const NodeId *target, bool keep, NodeId *ret_node);

/* Need @vm not care where @other, with whom it must be, is now: because that is to leave there as @vm is, or did, or
 * comes home as @vm does? */
bool company_follows(const Inventory *inventory, const Vm *vm, const Tenant *other);

/* Must the two be together, whoever of them says so? */
bool company_must_be_together(const Vm *a, const Vm *b);
