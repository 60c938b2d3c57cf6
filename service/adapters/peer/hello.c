/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/hello.h"

#include <stdio.h>
#include <string.h>

#include "util/text.h"

HelloVerdict hello_check(const Gpupool1__Hello *hello) {
        if (hello->protocol != HELLO_PROTOCOL)
                return HELLO_OTHER_PROTOCOL;
        if ((hello->cluster.len != 0 && hello->cluster.len != ID_SIZE) || hello->node.len != ID_SIZE ||
            id_is_null(hello->node.data) || hello->nonce.len != HELLO_NONCE_SIZE)
                return HELLO_MALFORMED;
        if (strlen(hello->version) > HELLO_VERSION_LENGTH_MAX || !text_is_printable(hello->version))
                return HELLO_MALFORMED;
        return HELLO_GOOD;
}

void hello_protocol_sentence(const Gpupool1__Hello *hello, char *ret, size_t size) {
        (void) snprintf(ret, size, "one end speaks version %u of the peer protocol and the other version %u: install "
                                   "releases that are closer together", hello->protocol, HELLO_PROTOCOL);
}

Gpupool1__Hello *hello_copy(const Gpupool1__Hello *hello) {
        size_t size = gpupool1__hello__get_packed_size(hello);
        _cleanup_free_ uint8_t *bytes = malloc(size + 1);
        if (!bytes)
                return NULL;
        (void) gpupool1__hello__pack(hello, bytes);
        return gpupool1__hello__unpack(NULL, size, bytes);
}

void hello_free(Gpupool1__Hello *hello) {
        gpupool1__hello__free_unpacked(hello, NULL);
}

void goodbye_to_text(const Gpupool1__Goodbye *goodbye, char ret[static GOODBYE_TEXT_SIZE]) {
        (void) snprintf(ret, GOODBYE_TEXT_SIZE, "%s", text_is_empty(goodbye->sentence) ? "no reason given"
                                                                                       : goodbye->sentence);
        text_make_printable(ret, GOODBYE_TEXT_SIZE - 1);
}
