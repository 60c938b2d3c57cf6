/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bind protocol: what the service asks gpupool-bind, one question per connection, in lines of text. The words are those
 * of core/bind.h.
 *
 *      → take 10de:2331:10de:1626,48b02dffff1a7e01,pci0000:40/01.0/00.0 0000:41:00.0 0000:41:00.1
 *                                              the card that is meant, one GPU with the functions that go along
 *      ← held nvidia-persistenced (pid 812) has 0000:41:00.0 open: stop the persistence daemon: systemctl ...
 *      ← end
 *
 * The verbs are take, give and inspect; only take says which card is meant, as since that was decided the bus may have
 * been numbered anew, or the card replaced. The first line is the result and, behind a blank, a sentence for people,
 * which may be empty. An answer without "end" is none. A question that is not understood is answered by hanging up. */

#define BIND_SOCKET "/run/gpupool-bind/bind.sock"
#define BIND_REQUEST_MAX 320U           /* a verb, a card and eight addresses */
#define BIND_SENTENCE_MAX 512U
#define BIND_ANSWER_MAX 640U
