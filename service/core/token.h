/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Token: an invitation as a text that people copy: "gp1-" and base32 (RFC 4648, lower case, no padding) of a JoinToken
 * (interfaces/registry.proto) behind a checksum of 32 bits, the highest byte first. One word for a double click; white
 * space and case do not count when it is read, so that one wrapped by a mail program is good. It has the secret of the
 * invitation in it: who has read it may join. */

#include "core/id.h"
#include "util/cleanup.h"
#include "util/text.h"

#define TOKEN_SECRET_SIZE 16
#define TOKEN_ADDRESSES_MAX 8U

typedef struct Token {
        ClusterId cluster;
        char *cluster_name;
        InviteId invite;
        uint8_t secret[TOKEN_SECRET_SIZE];
        uint8_t key[HASH_SIZE];         /* of the node that invites */
        uint64_t expires_ms;
        TextList addresses;             /* "10.0.0.1:7411", "[fd77::1]:7411", "name:7411" */
} Token;

void token_clear(Token *token);         /* overwrites the secret */

typedef enum TokenVerdict {
        TOKEN_GOOD,
        TOKEN_NOT_ONE,          /* "this is no invitation" */
        TOKEN_DAMAGED,          /* "the invitation is damaged: copy it whole" */
        TOKEN_NEWER,            /* of a newer gpupool */
} TokenVerdict;

/* 0, -ENOMEM, or -EINVAL for what token_decode() would not take: no id, no name, no address or too many. */
int token_encode(const Token *token, char **ret);

/* Returns a TokenVerdict or -ENOMEM; *ret is set with TOKEN_GOOD only. Whether it has expired is for the caller, who
 * has a clock. */
int token_decode(const char *text, Token *ret);
