/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/path.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/names.h"

Path path_none(void) {
        return (Path) { .text = OBJECT_NONE };
}

Path path_of_node(const NodeId *node) {
        if (id_is_null(node->bytes))
                return path_none();
        char id[ID_TEXT_SIZE];
        Path path;
        id_to_text(node->bytes, id);
        (void) snprintf(path.text, sizeof(path.text), OBJECT_NODE "/%s", id);
        return path;
}

/* An element of a path has no ':', '.' or '-'. */
static void underscore(char *text) {
        for (; *text; text++)
                if (!isalnum((unsigned char) *text))
                        *text = '_';
}

Path path_of_gpu(const NodeId *node, PciAddress address) {
        char id[ID_TEXT_SIZE], address_text[PCI_ADDRESS_TEXT_SIZE];
        Path path;
        id_to_text(node->bytes, id);
        pci_address_to_text(address, address_text);
        underscore(address_text);
        (void) snprintf(path.text, sizeof(path.text), OBJECT_GPU "/%s_%s", id, address_text);
        return path;
}

Path path_of_pool(const char *name) {
        Path path = { .text = OBJECT_POOL "/" };
        char *p = path.text + strlen(path.text);
        const char *end = path.text + sizeof(path.text) - 4;
        for (const char *c = name; *c && p < end; c++)
                if (isalpha((unsigned char) *c) || (c > name && isdigit((unsigned char) *c)))
                        *p++ = *c;
                else
                        p += snprintf(p, 4, "_%02x", (unsigned char) *c);
        *p = '\0';
        return path;
}

Path path_of_vm(const VmId *vm) {
        char uuid[UUID_TEXT_SIZE];
        Path path;
        id_to_uuid(vm->bytes, uuid);
        underscore(uuid);
        (void) snprintf(path.text, sizeof(path.text), OBJECT_VM "/%s", uuid);
        return path;
}

Path path_of_job(uint64_t id) {
        Path path;
        (void) snprintf(path.text, sizeof(path.text), OBJECT_JOB "/%" PRIu64, id);
        return path;
}

static Path path_of_named_gpu(const char *name) {
        char id_text[ID_TEXT_SIZE];
        NodeId node;
        PciAddress address;
        if (strlen(name) < ID_TEXT_SIZE || name[ID_TEXT_SIZE - 1] != ' ')
                return path_none();
        memcpy(id_text, name, ID_TEXT_SIZE - 1);
        id_text[ID_TEXT_SIZE - 1] = '\0';
        if (id_from_text(id_text, node.bytes) < 0 || pci_address_from_text(name + ID_TEXT_SIZE, &address) < 0)
                return path_none();
        return path_of_gpu(&node, address);
}

Path path_of_object(ObjectKind kind, const char *name) {
        NodeId node;
        VmId vm;
        switch (kind) {
        case OBJECT_KIND_NODE:
                return id_from_text(name, node.bytes) < 0 ? path_none() : path_of_node(&node);
        case OBJECT_KIND_GPU:
                return path_of_named_gpu(name);
        case OBJECT_KIND_POOL:
                return path_of_pool(name);
        case OBJECT_KIND_VM:
                return id_from_text(name, vm.bytes) < 0 ? path_none() : path_of_vm(&vm);
        case OBJECT_KIND_CLUSTER:
        case OBJECT_KIND_COUNT:
                break;
        }
        return path_none();
}
