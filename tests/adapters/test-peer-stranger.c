/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Those who are no members, and members out of their senses, played by raw TLS clients; and how a node joins. Whatever
 * they do, two honest nodes find each other. */

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "peer-world.h"

static Gpupool1__GoodbyeReason end_with_goodbye(Raw *raw) {
        Gpupool1__Frame *frame = raw_read_to_end(raw);
        g_assert_nonnull(frame);
        Gpupool1__GoodbyeReason reason = frame->goodbye->reason;
        g_assert_cmpuint(strlen(frame->goodbye->sentence), >, 0);
        gpupool1__frame__free_unpacked(frame, NULL);
        return reason;
}

static bool has_ended(int fd) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        uint8_t bytes[4096];
        while (poll(&poll_fd, 1, 0) == 1) {
                ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN))
                        return true;
                if (n < 0)
                        return false;
        }
        return false;
}

/* One node, and a raw client that has not said anything inside TLS. */
static Raw *visit(PeerWorld *w) {
        Raw *raw = raw_connect(w, w->nodes[0].port, NULL);
        g_assert_cmpint(raw_handshake(raw), ==, 0);
        return raw;
}

static PeerWorld *one_node(void) {
        PeerWorld *w = peer_world_new(2);
        node_up(&w->nodes[0]);
        node_meet(&w->nodes[0]);
        return w;
}

/* A raw client with the key of the second node, who is a member; its Hello is out. */
static Raw *member_with_protocol(PeerWorld *w, uint32_t protocol, uint64_t nonce) {
        const RawOptions options = { .key = w->nodes[1].key };
        Raw *raw = raw_connect(w, w->nodes[0].port, &options);
        g_assert_cmpint(raw_handshake(raw), ==, 0);
        raw_hello(raw, &w->nodes[1].id, &w->cluster, protocol, nonce);
        return raw;
}

static Raw *member(PeerWorld *w, uint64_t nonce) {
        unsigned ups = w->nodes[0].notes[1].ups;
        Raw *raw = member_with_protocol(w, 1, nonce);
        AWAIT(w, w->nodes[0].notes[1].ups == ups + 1);
        return raw;
}

static PeerWorld *node_that_dials_nobody(void) {
        PeerWorld *w = peer_world_new(2);
        w->nodes[0].wants[1] = false;
        node_up(&w->nodes[0]);
        node_meet(&w->nodes[0]);
        return w;
}

/* The raw client says nothing for as long as it likes. */
static PeerWorld *patient_node(void) {
        PeerWorld *w = peer_world_new(2);
        w->nodes[0].wants[1] = false;
        w->nodes[0].config.silence_us = w->nodes[0].config.connect_us = 3600ULL * 1000 * 1000;
        node_up(&w->nodes[0]);
        node_meet(&w->nodes[0]);
        return w;
}

/* ---- before TLS, and TLS itself ---- */

static void test_garbage_before_tls_is_cut(void) {
        static const char *const garbage[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\xff\xff\xff",
                                              "SSH-2.0-x\r\n"};
        g_autoptr(PeerWorld) w = one_node();
        for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
                int fd = raw_socket(w->nodes[0].port);
                g_assert_cmpint(send(fd, garbage[i], strlen(garbage[i]), 0), >, 0);
                AWAIT(w, has_ended(fd));
                close(fd);
        }
}

static void test_who_says_nothing_is_cut_in_time(void) {
        g_autoptr(PeerWorld) w = one_node();
        gint64 begin = g_get_monotonic_time();
        int fd = raw_socket(w->nodes[0].port);
        g_autoptr(Raw) raw = visit(w);
        AWAIT(w, has_ended(fd));
        g_assert_null(raw_read(raw));
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, (gint64) (CONNECT_MS - 300) * 1000);
        close(fd);
}

static void test_tls_1_2_is_refused(void) {
        g_autoptr(PeerWorld) w = one_node();
        const RawOptions options = { .priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.2:+SIGN-EdDSA-Ed25519" };
        g_autoptr(Raw) raw = raw_connect(w, w->nodes[0].port, &options);
        g_assert_cmpint(raw_handshake(raw), <, 0);
}

static void check_is_cut(PeerWorld *w, const RawOptions *options) {
        g_autoptr(Raw) raw = raw_connect(w, w->nodes[0].port, options);
        /* In TLS 1.3 a client can be through before the server has seen what it shows. */
        if (raw_handshake(raw) == 0) {
                raw_hello(raw, &w->nodes[1].id, &w->cluster, 1, 1);
                g_assert_null(raw_read(raw));
        }
        g_assert_cmpuint(w->nodes[0].notes[1].ups, ==, 0);
}

static void test_who_shows_no_certificate_is_cut(void) {
        g_autoptr(PeerWorld) w = one_node();
        check_is_cut(w, &(RawOptions) { .no_certificate = true });
}

static void test_who_speaks_another_protocol_is_cut(void) {
        g_autoptr(PeerWorld) w = one_node();
        check_is_cut(w, &(RawOptions) { .protocol = "h2", .key = w->nodes[1].key });
        check_is_cut(w, &(RawOptions) { .protocol = "", .key = w->nodes[1].key });
}

/* ---- strangers ---- */

static void test_an_unknown_key_is_told_so(void) {
        g_autoptr(PeerWorld) w = one_node();
        g_autoptr(Raw) raw = visit(w);
        raw_hello(raw, &w->nodes[1].id, &w->cluster, 1, 1);
        g_assert_cmpint(end_with_goodbye(raw), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN);
        g_assert_cmpuint(w->nodes[0].notes[1].ups, ==, 0);
}

static void test_a_stranger_who_says_anything_else_is_cut(void) {
        g_autoptr(PeerWorld) w = one_node();
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        Gpupool1__Beat beat = GPUPOOL1__BEAT__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_BEAT;
        frame.beat = &beat;
        for (unsigned greets = 0; greets < 2; greets++) {
                g_autoptr(Raw) raw = visit(w);
                if (greets)
                        raw_hello(raw, &w->nodes[1].id, NULL, 1, 1);
                raw_send(raw, &frame);
                g_assert_null(raw_read_to_end(raw));
        }
        g_assert_cmpuint(w->nodes[0].notes[1].frames, ==, 0);
}

static void test_a_stranger_is_told_little(void) {
        g_autoptr(PeerWorld) w = one_node();
        g_autoptr(Raw) raw = visit(w);
        raw_hello(raw, &w->nodes[1].id, NULL, 1, 1);
        Gpupool1__Frame *frame = raw_read(raw);
        g_assert_nonnull(frame);
        g_assert_cmpint(frame->body_case, ==, GPUPOOL1__FRAME__BODY_HELLO);
        g_assert_cmpuint(frame->hello->protocol, ==, 1);
        g_assert_cmpuint(frame->hello->cluster.len, ==, 0);
        g_assert_cmpstr(frame->hello->version, ==, "");
        gpupool1__frame__free_unpacked(frame, NULL);
}

static void send_bytes_and_be_cut(PeerWorld *w, const uint8_t *bytes, size_t size) {
        g_autoptr(Raw) raw = visit(w);
        g_assert_cmpint(raw_write(raw, bytes, size), ==, 0);
        g_assert_null(raw_read_to_end(raw));
}

static void test_lengths_beyond_the_limit_are_cut_at_once(void) {
        static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff }, empty[] = { 0, 0, 0, 0 };
        /* For a stranger it is 16 KiB. */
        static const uint8_t large[] = { 0, 0, 0x40, 0x01 };
        g_autoptr(PeerWorld) w = patient_node();
        send_bytes_and_be_cut(w, huge, sizeof(huge));
        send_bytes_and_be_cut(w, empty, sizeof(empty));
        send_bytes_and_be_cut(w, large, sizeof(large));
}

static void test_half_a_frame_is_cut_in_time(void) {
        static const uint8_t half[] = { 0, 0, 0, 10, 1, 2, 3 };
        g_autoptr(PeerWorld) w = one_node();
        send_bytes_and_be_cut(w, half, sizeof(half));
}

static void test_a_flood_of_connections_keeps_no_member_out(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        a->config.connect_us = 3600ULL * 1000 * 1000;           /* none of them goes by itself */
        node_up(a);
        unsigned before = count_descriptors();
        int fds[200];
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
                fds[i] = raw_socket(a->port);
                world_turn(w);
        }
        AWAIT(w, count_descriptors() <= before + G_N_ELEMENTS(fds) + 64);
        node_up(b);
        node_meet(b);
        node_meet(a);
        AWAIT(w, is_up(a, b));
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                close(fds[i]);
        AWAIT(w, count_descriptors() <= before + 6);
}

static void test_handshakes_have_a_rate_and_all_come_to_theirs(void) {
        enum { AT_ONCE = 64, MORE = 100, EACH_MS = 20 };
        g_autoptr(PeerWorld) w = one_node();
        gint64 begin = g_get_monotonic_time();
        for (unsigned i = 0; i < AT_ONCE + MORE; i++) {
                g_autoptr(Raw) raw G_GNUC_UNUSED = visit(w);
        }
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, (gint64) (MORE - 1) * EACH_MS * 1000);
}

static void use_up_handshakes(PeerWorld *w) {
        for (unsigned i = 0; i < 64; i++) {
                g_autoptr(Raw) raw G_GNUC_UNUSED = visit(w);
        }
}

static void test_a_host_with_one_connection_comes_before_one_with_many(void) {
        g_autoptr(PeerWorld) w = one_node();
        use_up_handshakes(w);
        int fds[60];
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                fds[i] = raw_socket(w->nodes[0].port);
        g_autoptr(Raw) other = raw_connect(w, w->nodes[0].port, &(RawOptions) { .from = "127.0.0.2" });
        uint64_t begin = world_now_us();
        g_assert_cmpint(raw_handshake(other), ==, 0);
        /* Behind all the others it would take 1.2 s. */
        g_assert_cmpuint(world_now_us() - begin, <, 400 * 1000);
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
                close(fds[i]);
}

static void test_who_leaves_before_its_handshake_leaves_nothing(void) {
        g_autoptr(PeerWorld) w = one_node();
        unsigned before = count_descriptors();
        use_up_handshakes(w);
        for (unsigned i = 0; i < 40; i++) {
                int fd = raw_socket(w->nodes[0].port);
                world_turn(w);
                if (i % 2)
                        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger) { .l_onoff = 1 },
                                          sizeof(struct linger));
                close(fd);
        }
        AWAIT(w, count_descriptors() <= before);
}

static void test_at_most_16_strangers_wait(void) {
        g_autoptr(PeerWorld) w = patient_node();
        Raw *asking[16];
        for (unsigned i = 0; i < 16; i++) {
                asking[i] = visit(w);
                raw_hello(asking[i], &w->nodes[1].id, NULL, 1, i);
                raw_join_request(asking[i]);
                AWAIT(w, w->nodes[0].join_requests == i + 1);
        }
        g_autoptr(Raw) one_more = visit(w);
        raw_hello(one_more, &w->nodes[1].id, NULL, 1, 99);
        g_assert_cmpint(end_with_goodbye(one_more), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_BUSY);
        raw_free(asking[0]);
        w->nodes[0].stranger = NULL;
        for (unsigned i = 1; i < 16; i++)
                raw_free(asking[i]);
        node_down(&w->nodes[0]);
}

static void test_one_host_does_not_keep_the_strangers_of_others_out(void) {
        g_autoptr(PeerWorld) w = patient_node();
        Raw *silent[16];
        for (unsigned i = 0; i < 16; i++) {
                silent[i] = visit(w);
                raw_hello(silent[i], &w->nodes[1].id, NULL, 1, i);
                Gpupool1__Frame *hello = raw_read(silent[i]);
                g_assert_nonnull(hello);
                gpupool1__frame__free_unpacked(hello, NULL);
        }
        g_autoptr(Raw) other = raw_connect(w, w->nodes[0].port, &(RawOptions) { .from = "127.0.0.2" });
        g_assert_cmpint(raw_handshake(other), ==, 0);
        raw_hello(other, &w->nodes[1].id, NULL, 1, 99);
        raw_join_request(other);
        AWAIT(w, w->nodes[0].join_requests == 1);
        g_assert_null(raw_read(silent[0]));             /* the oldest had to go */
        for (unsigned i = 0; i < 16; i++)
                raw_free(silent[i]);
}

/* ---- joining ---- */

static void answer(PeerNode *node, bool admitted) {
        Gpupool1__JoinAnswer join_answer = GPUPOOL1__JOIN_ANSWER__INIT;
        join_answer.admitted = admitted;
        join_answer.sentence = (char *) "so it is";
        g_assert_nonnull(node->stranger);
        g_assert_cmpint(peer_stranger_answer(node->stranger, &join_answer), ==, 0);
        node->stranger = NULL;
}

typedef struct Joined {
        unsigned n;
        PeerJoinOutcome outcome;
        char sentence[512];
        bool admitted;
} Joined;

static void on_joined(PeerJoinOutcome outcome, const char *sentence, const Gpupool1__JoinAnswer *join_answer,
                      void *userdata) {
        Joined *joined = userdata;
        joined->n++;
        joined->outcome = outcome;
        g_assert_true((outcome == PEER_JOIN_ANSWERED) == (join_answer != NULL));
        joined->admitted = join_answer && join_answer->admitted;
        g_assert_cmpuint(strlen(sentence), >, 0);
        g_strlcpy(joined->sentence, sentence, sizeof(joined->sentence));
        g_test_message("%s", sentence);
}

static PeerJoin *join_by(PeerWorld *w, const PeerKey *inviter, const char *const *addresses, size_t n, Joined *joined) {
        uint8_t secret[16] = { 1 };
        Gpupool1__JoinRequest request = GPUPOOL1__JOIN_REQUEST__INIT;
        request.invite = (ProtobufCBinaryData) { sizeof(secret), secret };
        request.secret = (ProtobufCBinaryData) { sizeof(secret), secret };
        request.name = (char *) "bert";
        PeerInviter to = { .addresses = addresses, .n_addresses = n };
        memcpy(to.key, peer_key_pin(inviter), PEER_KEY_SIZE);
        PeerJoin *join = NULL;
        g_assert_cmpint(
                peer_join_new(&join, w->event, w->nodes[1].key, &w->nodes[1].id, &to, &request, on_joined, joined), ==,
                0);
        return join;
}

static char *address_of(const PeerNode *node) {
        return g_strdup_printf("127.0.0.1:%u", node->port);
}

static void test_a_stranger_asks_and_is_answered(void) {
        for (unsigned admitted = 0; admitted < 2; admitted++) {
                g_autoptr(PeerWorld) w = peer_world_new(2);
                PeerNode *a = &w->nodes[0];
                node_up(a);
                Joined joined = {};
                g_autofree char *right = address_of(a);
                const char *const addresses[] = { "nowhere.invalid:1", "127.0.0.1:1", right };
                _cleanup_(peer_join_freep) PeerJoin *join G_GNUC_UNUSED = join_by(w, a->key, addresses, 3, &joined);
                AWAIT(w, a->join_requests == 1);
                g_assert_cmpmem(a->stranger_key, PEER_KEY_SIZE, peer_key_pin(w->nodes[1].key), PEER_KEY_SIZE);
                g_assert_true(ID_EQUAL(&a->stranger_node, &w->nodes[1].id));
                answer(a, admitted);
                AWAIT(w, joined.n == 1);
                g_assert_cmpint(joined.outcome, ==, PEER_JOIN_ANSWERED);
                g_assert_true(joined.admitted == admitted);
                g_assert_cmpuint(a->strangers_gone, ==, 0);
        }
}

static void test_who_is_known_already_may_ask_again(void) {
        g_autoptr(PeerWorld) w = one_node();
        PeerNode *a = &w->nodes[0];
        Joined joined = {};
        g_autofree char *right = address_of(a);
        const char *const addresses[] = { right };
        _cleanup_(peer_join_freep) PeerJoin *join G_GNUC_UNUSED = join_by(w, a->key, addresses, 1, &joined);
        AWAIT(w, a->join_requests == 1);
        answer(a, true);
        AWAIT(w, joined.n == 1);
        g_assert_true(joined.admitted);
}

static void test_somebody_else_at_the_inviters_address_learns_nothing(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *liar = &w->nodes[0];
        node_up(liar);
        Joined joined = {};
        g_autofree char *wrong = address_of(liar);
        const char *const addresses[] = { wrong, "127.0.0.1:1" };
        _cleanup_(peer_join_freep) PeerJoin *join G_GNUC_UNUSED = join_by(w, w->nodes[2].key, addresses, 2, &joined);
        AWAIT(w, joined.n == 1);
        g_assert_cmpint(joined.outcome, ==, PEER_JOIN_WRONG_KEY);
        g_assert_cmpuint(liar->join_requests, ==, 0);
}

static void test_the_inviter_behind_somebody_else_is_found(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        node_up(&w->nodes[0]);
        node_up(&w->nodes[2]);
        Joined joined = {};
        g_autofree char *wrong = address_of(&w->nodes[0]), *right = address_of(&w->nodes[2]);
        const char *const addresses[] = { wrong, right };
        _cleanup_(peer_join_freep) PeerJoin *join G_GNUC_UNUSED = join_by(w, w->nodes[2].key, addresses, 2, &joined);
        AWAIT(w, w->nodes[2].join_requests == 1);
        answer(&w->nodes[2], true);
        AWAIT(w, joined.n == 1);
        g_assert_cmpint(joined.outcome, ==, PEER_JOIN_ANSWERED);
}

static void test_an_inviter_that_is_not_there_is_unreachable(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        const char *const addresses[] = { "127.0.0.1:1", "nowhere.invalid:1", "[" };
        for (size_t n = 0; n <= 3; n++) {
                Joined joined = {};
                _cleanup_(peer_join_freep)
                        PeerJoin *join G_GNUC_UNUSED = join_by(w, w->nodes[0].key, addresses, n, &joined);
                g_assert_cmpuint(joined.n, ==, 0);
                AWAIT(w, joined.n == 1);
                g_assert_cmpint(joined.outcome, ==, PEER_JOIN_UNREACHABLE);
        }
}

static void test_an_answer_that_is_lost_is_not_a_refusal(void) {
        g_autoptr(PeerWorld) w = one_node();
        PeerNode *a = &w->nodes[0];
        Joined joined = {};
        g_autofree char *right = address_of(a);
        const char *const addresses[] = { right };
        _cleanup_(peer_join_freep) PeerJoin *join G_GNUC_UNUSED = join_by(w, a->key, addresses, 1, &joined);
        AWAIT(w, a->join_requests == 1);
        node_down(a);
        AWAIT(w, joined.n == 1);
        g_assert_cmpint(joined.outcome, ==, PEER_JOIN_LOST);
}

static void test_a_stranger_that_goes_is_gone(void) {
        g_autoptr(PeerWorld) w = one_node();
        PeerNode *a = &w->nodes[0];
        Joined joined = {};
        g_autofree char *right = address_of(a);
        const char *const addresses[] = { right };
        PeerJoin *join = join_by(w, a->key, addresses, 1, &joined);
        AWAIT(w, a->join_requests == 1);
        join = peer_join_free(join);
        AWAIT(w, a->strangers_gone == 1);
        g_assert_cmpuint(joined.n, ==, 0);
}

static void test_a_stranger_that_is_not_answered_is_cut(void) {
        g_autoptr(PeerWorld) w = one_node();
        g_autoptr(Raw) raw = visit(w);
        raw_hello(raw, &w->nodes[1].id, NULL, 1, 1);
        raw_join_request(raw);
        AWAIT(w, w->nodes[0].join_requests == 1);
        AWAIT(w, w->nodes[0].strangers_gone == 1);
}

static void test_a_stranger_that_asks_twice_is_cut(void) {
        g_autoptr(PeerWorld) w = one_node();
        g_autoptr(Raw) raw = visit(w);
        raw_hello(raw, &w->nodes[1].id, NULL, 1, 1);
        raw_join_request(raw);
        raw_join_request(raw);
        AWAIT(w, w->nodes[0].strangers_gone == 1);
        g_assert_cmpuint(w->nodes[0].join_requests, ==, 1);
}

static void test_a_node_without_cluster_takes_nobody_in(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        w->nodes[0].config.cluster = (ClusterId) {};
        node_up(&w->nodes[0]);
        g_autoptr(Raw) raw = visit(w);
        raw_hello(raw, &w->nodes[1].id, NULL, 1, 1);
        g_assert_cmpint(end_with_goodbye(raw), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN);
}

static void test_a_join_may_end_in_any_state(void) {
        for (unsigned turns = 0; turns < 30; turns++) {
                g_autoptr(PeerWorld) w = one_node();
                Joined joined = {};
                g_autofree char *right = address_of(&w->nodes[0]);
                const char *const addresses[] = { "localhost:1", right };
                _cleanup_(peer_join_freep)
                        PeerJoin *join G_GNUC_UNUSED = join_by(w, w->nodes[0].key, addresses, 2, &joined);
                for (unsigned i = 0; i < turns; i++)
                        world_turn(w);
        }
}

/* ---- members out of their senses ---- */

static void test_another_major_version_is_refused_with_a_sentence(void) {
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        g_autoptr(Raw) raw = member_with_protocol(w, 2, 1);
        Gpupool1__Frame *frame = raw_read_to_end(raw);
        g_assert_nonnull(frame);
        g_assert_cmpint(frame->goodbye->reason, ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL);
        g_assert_nonnull(strstr(frame->goodbye->sentence, "version 2"));
        gpupool1__frame__free_unpacked(frame, NULL);
        g_assert_cmpuint(w->nodes[0].notes[1].ups, ==, 0);
}

static void test_what_a_later_minor_version_says_is_ignored(void) {
        /* Field 99 of Frame, alone; then a Beat with a field 99. */
        static const uint8_t unknown_frame[] = { 0, 0, 0, 4, 0x9a, 0x06, 0x01, 0x2a };
        static const uint8_t unknown_field[] = { 0, 0, 0, 7, 0x12, 0x05, 0x08, 0x09, 0x98, 0x06, 0x01 };
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        g_autoptr(Raw) raw = member(w, 1);      /* says that it is of minor version 7 */
        g_assert_cmpint(raw_write(raw, unknown_frame, sizeof(unknown_frame)), ==, 0);
        g_assert_cmpint(raw_write(raw, unknown_field, sizeof(unknown_field)), ==, 0);
        AWAIT(w, w->nodes[0].notes[1].beats == 1);
        g_assert_cmpuint(w->nodes[0].notes[1].frames, ==, 1);
        g_assert_true(w->nodes[0].notes[1].is_up);
}

static void test_a_member_that_breaks_a_limit_is_cut(void) {
        static const uint8_t too_large[] = {0, 4, 0, 1, 0}, empty[] = {0, 0, 0, 0}, garbage[] = {0, 0, 0, 1, 0xff};
        const struct {
                const uint8_t *bytes;
                size_t size;
        } bad[] = { { too_large, sizeof(too_large) }, { empty, sizeof(empty) }, { garbage, sizeof(garbage) } };
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(Raw) raw G_GNUC_UNUSED = member(w, 1);
                g_assert_cmpint(raw_write(raw, bad[i].bytes, bad[i].size), ==, 0);
                AWAIT(w, w->nodes[0].notes[1].downs == i + 1);
        }
}

static void test_a_member_that_says_hello_twice_is_cut(void) {
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        g_autoptr(Raw) raw G_GNUC_UNUSED = member(w, 1);
        raw_hello(raw, &w->nodes[1].id, &w->cluster, 1, 1);
        AWAIT(w, w->nodes[0].notes[1].downs == 1);
}

static void test_a_member_that_takes_itself_for_another_is_refused(void) {
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        const RawOptions options = { .key = w->nodes[1].key };
        g_autoptr(Raw) raw = raw_connect(w, w->nodes[0].port, &options);
        g_assert_cmpint(raw_handshake(raw), ==, 0);
        raw_hello(raw, &(NodeId) { { 0x77 } }, &w->cluster, 1, 1);
        g_assert_cmpint(end_with_goodbye(raw), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL);
}

static void test_silence_ends_a_connection(void) {
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        g_autoptr(Raw) raw G_GNUC_UNUSED = member(w, 1);
        gint64 begin = g_get_monotonic_time();
        AWAIT(w, w->nodes[0].notes[1].downs == 1);
        g_assert_cmpint(g_get_monotonic_time() - begin, >=, (gint64) (SILENCE_MS - 300) * 1000);
        g_assert_nonnull(strstr(w->nodes[0].notes[1].why, "nothing was heard"));
}

static void test_a_newer_connection_of_the_same_node_replaces_the_old_one(void) {
        g_autoptr(PeerWorld) w = node_that_dials_nobody();
        g_autoptr(Raw) zombie = member(w, 1);
        g_autoptr(Raw) of_the_same_program = member(w, 1);
        g_assert_cmpuint(w->nodes[0].notes[1].downs, ==, 1);
        g_assert_nonnull(strstr(w->nodes[0].notes[1].why, "newer"));
        g_assert_cmpint(end_with_goodbye(zombie), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED);

        g_autoptr(Raw) of_a_new_start G_GNUC_UNUSED = member(w, 2);
        g_assert_cmpstr(w->nodes[0].notes[1].order->str, ==, "ududu");
        g_assert_cmpint(end_with_goodbye(of_the_same_program), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED);
}

/* The node with the smaller id has dialled, and its connection is up. */
static Raw *be_dialled(PeerWorld *w, uint64_t nonce) {
        PeerNode *a = &w->nodes[0];
        uint16_t port;
        int fd = listen_anywhere(&port);
        a->address_of[1] = g_strdup_printf("127.0.0.1:%u", port);
        node_up(a);
        node_meet(a);
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        AWAIT(w, poll(&poll_fd, 1, 0) == 1);
        int taken = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        close(fd);
        Raw *raw = raw_server(w, taken, w->nodes[1].key);
        g_assert_cmpint(raw_handshake(raw), ==, 0);
        Gpupool1__Frame *hello = raw_read(raw);
        g_assert_cmpint(hello->body_case, ==, GPUPOOL1__FRAME__BODY_HELLO);
        gpupool1__frame__free_unpacked(hello, NULL);
        if (nonce) {
                raw_hello(raw, &w->nodes[1].id, &w->cluster, 1, nonce);
                AWAIT(w, a->notes[1].ups == 1);
        }
        return raw;
}

static void test_of_two_made_at_once_that_of_the_smaller_node_stays(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        g_autoptr(Raw) ours G_GNUC_UNUSED = be_dialled(w, 1);
        g_autoptr(Raw) other = member_with_protocol(w, 1, 1);
        g_assert_cmpint(end_with_goodbye(other), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED);
        g_assert_cmpstr(w->nodes[0].notes[1].order->str, ==, "u");
}

static void test_one_of_a_new_start_is_not_made_at_once(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        g_autoptr(Raw) ours G_GNUC_UNUSED = be_dialled(w, 1);
        g_autoptr(Raw) other G_GNUC_UNUSED = member(w, 2);
        g_assert_cmpstr(w->nodes[0].notes[1].order->str, ==, "udu");
}

static void test_while_our_hello_is_out_the_other_connection_waits(void) {
        for (unsigned answers = 0; answers < 2; answers++) {
                g_autoptr(PeerWorld) w = peer_world_new(2);
                PeerNode *a = &w->nodes[0];
                Raw *ours = be_dialled(w, 0);
                g_autoptr(Raw) other = member_with_protocol(w, 1, 1);
                for (unsigned i = 0; i < 20; i++)
                        world_turn(w);
                g_assert_cmpuint(a->notes[1].ups, ==, 0);
                if (answers) {
                        raw_hello(ours, &w->nodes[1].id, &w->cluster, 1, 1);
                        g_assert_cmpint(end_with_goodbye(other), ==, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED);
                        g_assert_cmpstr(a->notes[1].order->str, ==, "u");
                        raw_free(ours);
                } else {
                        raw_free(ours);
                        AWAIT(w, a->notes[1].ups == 1);
                        Gpupool1__Frame *hello = raw_read(other);
                        g_assert_cmpint(hello->body_case, ==, GPUPOOL1__FRAME__BODY_HELLO);
                        gpupool1__frame__free_unpacked(hello, NULL);
                }
        }
}

static void test_a_member_that_does_not_read_costs_little(void) {
        g_autoptr(PeerWorld) w = patient_node();
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        g_autoptr(Raw) raw G_GNUC_UNUSED = member(w, 1);
        size_t most = 0, sent = 0;
        unsigned full = 0;
        for (unsigned i = 0; i < 2000; i++) {
                for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++) {
                        int r = send_call(a, b, s, i, 30000);
                        g_assert_true(r == PEER_SEND_QUEUED || r == PEER_SEND_FULL);
                        sent += r == PEER_SEND_QUEUED ? 30000 : 0;
                        full += r == PEER_SEND_FULL;
                }
                most = MAX(most, peer_net_queued_bytes(a->net, &b->id));
                if (i % 100 == 0)
                        world_turn(w);
        }
        g_test_message("%zu bytes taken, %zu waited at most, %u refused", sent, most, full);
        g_assert_cmpuint(full, >, 0);
        g_assert_cmpuint(most, <=, (64 << 10) + (8 << 20) + (4 << 20) + (256 << 10) + (1 << 20));
}

/* The beat that is asked for while a snapshot waits comes before all of the snapshot but what is on its way. */
static void test_a_snapshot_does_not_stand_in_front_of_a_vote(void) {
        g_autoptr(PeerWorld) w = patient_node();
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        g_autoptr(Raw) raw G_GNUC_UNUSED = member(w, 1);
        const int small = 64 * 1024;
        g_assert_cmpint(setsockopt(raw->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), ==, 0);
        /* Full, and nothing moves any more. */
        for (unsigned still = 0; still < 20; still++) {
                int r;
                while ((r = send_call(a, b, PEER_STREAM_BULK, 1, 60000)) == PEER_SEND_QUEUED)
                        still = 0;
                g_assert_cmpint(r, ==, PEER_SEND_FULL);
                world_turn(w);
        }
        g_assert_cmpint(send_call(a, b, PEER_STREAM_CONTROL, 2, 100), ==, PEER_SEND_QUEUED);
        size_t before = 0;
        for (bool found = false; !found;) {
                Gpupool1__Frame *frame = raw_read(raw);
                g_assert_nonnull(frame);
                if (frame->body_case == GPUPOOL1__FRAME__BODY_CALL) {
                        found = frame->call->id == 2;
                        before += frame->call->submit.len;
                }
                gpupool1__frame__free_unpacked(frame, NULL);
        }
        g_test_message("%zu bytes were on their way", before);
        /* The kernel's two buffers, one chunk, one frame. */
        g_assert_cmpuint(before, <, 800 * 1024);
}

/* ---- whom we dial ---- */

static void test_somebody_with_another_key_is_not_spoken_to(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1], *liar = &w->nodes[2];
        liar->config.node = b->id;              /* all of it but the key */
        node_up(a);
        node_up(liar);
        a->address_of[1] = address_of(liar);
        node_meet(a);
        liar->wants[0] = false;
        node_meet(liar);
        world_for(w, 500);                      /* long enough for some tries */
        g_assert_cmpuint(a->notes[1].ups, ==, 0);

        node_up(b);
        node_meet(b);
        g_clear_pointer(&a->address_of[1], g_free);
        node_meet(a);
        AWAIT(w, is_up(a, b));
}

/* ---- the log ---- */

/* What is logged from now on, until log_read(). */
static int log_to_file(const char *path) {
        int before = dup(STDERR_FILENO);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        g_assert_cmpint(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
        close(fd);
        return before;
}

static unsigned count_lines(const char *path, const char *part) {
        g_autofree char *text = NULL;
        unsigned n = 0;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        for (const char *p = text; (p = strstr(p, part)); p++)
                n++;
        return n;
}

static void test_a_trouble_is_told_once_and_again_when_it_was_over(void) {
        g_autoptr(PeerWorld) w = peer_world_new(3);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1], *liar = &w->nodes[2];
        g_autofree char *path = g_build_filename(w->folder, "log", NULL);
        const char *what = "somebody answers there who has another key";
        a->config.beat_us = b->config.beat_us = 50 * 1000;
        a->config.silence_us = b->config.silence_us = 1000 * 1000;
        b->wants[0] = liar->wants[0] = liar->wants[1] = false;
        a->wants[2] = false;
        node_up(a);
        node_up(b);
        node_up(liar);
        node_meet(b);
        int before = log_to_file(path);
        for (unsigned round = 1; round <= 2; round++) {
                a->address_of[1] = address_of(liar);
                node_meet(a);
                AWAIT(w, count_lines(path, what) == round);
                world_for(w, 1000);             /* some more tries */
                g_assert_cmpuint(count_lines(path, what), ==, round);

                g_clear_pointer(&a->address_of[1], g_free);
                node_meet(a);
                AWAIT(w, is_up(a, b));
                world_for(w, 1200);             /* it lasts */
                node_down(b);
                AWAIT(w, a->notes[1].downs == round);
                node_up(b);
                node_meet(b);
        }
        g_assert_cmpint(dup2(before, STDERR_FILENO), ==, STDERR_FILENO);
        close(before);
        g_unlink(path);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peer/stranger/garbage-before-tls-is-cut", test_garbage_before_tls_is_cut);
        g_test_add_func("/peer/stranger/who-says-nothing-is-cut-in-time", test_who_says_nothing_is_cut_in_time);
        g_test_add_func("/peer/stranger/tls-1-2-is-refused", test_tls_1_2_is_refused);
        g_test_add_func("/peer/stranger/who-shows-no-certificate-is-cut", test_who_shows_no_certificate_is_cut);
        g_test_add_func("/peer/stranger/who-speaks-another-protocol-is-cut", test_who_speaks_another_protocol_is_cut);
        g_test_add_func("/peer/stranger/an-unknown-key-is-told-so", test_an_unknown_key_is_told_so);
        g_test_add_func("/peer/stranger/a-stranger-who-says-anything-else-is-cut",
                        test_a_stranger_who_says_anything_else_is_cut);
        g_test_add_func("/peer/stranger/a-stranger-is-told-little", test_a_stranger_is_told_little);
        g_test_add_func("/peer/stranger/lengths-beyond-the-limit-are-cut-at-once",
                        test_lengths_beyond_the_limit_are_cut_at_once);
        g_test_add_func("/peer/stranger/half-a-frame-is-cut-in-time", test_half_a_frame_is_cut_in_time);
        g_test_add_func("/peer/stranger/a-flood-of-connections-keeps-no-member-out",
                        test_a_flood_of_connections_keeps_no_member_out);
        g_test_add_func("/peer/stranger/handshakes-have-a-rate", test_handshakes_have_a_rate_and_all_come_to_theirs);
        g_test_add_func("/peer/stranger/a-host-with-one-comes-before-one-with-many",
                        test_a_host_with_one_connection_comes_before_one_with_many);
        g_test_add_func("/peer/stranger/who-leaves-before-its-handshake",
                        test_who_leaves_before_its_handshake_leaves_nothing);
        g_test_add_func("/peer/stranger/at-most-16-strangers-wait", test_at_most_16_strangers_wait);
        g_test_add_func("/peer/stranger/one-host-does-not-keep-the-strangers-of-others-out",
                        test_one_host_does_not_keep_the_strangers_of_others_out);
        g_test_add_func("/peer/stranger/a-stranger-asks-and-is-answered", test_a_stranger_asks_and_is_answered);
        g_test_add_func("/peer/stranger/who-is-known-already-may-ask-again", test_who_is_known_already_may_ask_again);
        g_test_add_func("/peer/stranger/somebody-else-at-the-inviters-address-learns-nothing",
                        test_somebody_else_at_the_inviters_address_learns_nothing);
        g_test_add_func("/peer/stranger/the-inviter-behind-somebody-else-is-found",
                        test_the_inviter_behind_somebody_else_is_found);
        g_test_add_func("/peer/stranger/an-inviter-that-is-not-there-is-unreachable",
                        test_an_inviter_that_is_not_there_is_unreachable);
        g_test_add_func("/peer/stranger/an-answer-that-is-lost-is-not-a-refusal",
                        test_an_answer_that_is_lost_is_not_a_refusal);
        g_test_add_func("/peer/stranger/a-stranger-that-goes-is-gone", test_a_stranger_that_goes_is_gone);
        g_test_add_func("/peer/stranger/a-stranger-that-is-not-answered-is-cut",
                        test_a_stranger_that_is_not_answered_is_cut);
        g_test_add_func("/peer/stranger/a-stranger-that-asks-twice-is-cut", test_a_stranger_that_asks_twice_is_cut);
        g_test_add_func("/peer/stranger/a-node-without-cluster-takes-nobody-in",
                        test_a_node_without_cluster_takes_nobody_in);
        g_test_add_func("/peer/stranger/a-join-may-end-in-any-state", test_a_join_may_end_in_any_state);
        g_test_add_func("/peer/stranger/another-major-version-is-refused-with-a-sentence",
                        test_another_major_version_is_refused_with_a_sentence);
        g_test_add_func("/peer/stranger/what-a-later-minor-version-says-is-ignored",
                        test_what_a_later_minor_version_says_is_ignored);
        g_test_add_func("/peer/stranger/a-member-that-breaks-a-limit-is-cut",
                        test_a_member_that_breaks_a_limit_is_cut);
        g_test_add_func("/peer/stranger/a-member-that-says-hello-twice-is-cut",
                        test_a_member_that_says_hello_twice_is_cut);
        g_test_add_func("/peer/stranger/a-member-that-takes-itself-for-another-is-refused",
                        test_a_member_that_takes_itself_for_another_is_refused);
        g_test_add_func("/peer/stranger/silence-ends-a-connection", test_silence_ends_a_connection);
        g_test_add_func("/peer/stranger/a-newer-connection-of-the-same-node-replaces-the-old-one",
                        test_a_newer_connection_of_the_same_node_replaces_the_old_one);
        g_test_add_func("/peer/stranger/of-two-made-at-once-that-of-the-smaller-node-stays",
                        test_of_two_made_at_once_that_of_the_smaller_node_stays);
        g_test_add_func("/peer/stranger/one-of-a-new-start-is-not-made-at-once",
                        test_one_of_a_new_start_is_not_made_at_once);
        g_test_add_func("/peer/stranger/while-our-hello-is-out-the-other-connection-waits",
                        test_while_our_hello_is_out_the_other_connection_waits);
        g_test_add_func("/peer/stranger/a-member-that-does-not-read-costs-little",
                        test_a_member_that_does_not_read_costs_little);
        g_test_add_func("/peer/stranger/a-snapshot-does-not-stand-in-front-of-a-vote",
                        test_a_snapshot_does_not_stand_in_front_of_a_vote);
        g_test_add_func("/peer/stranger/somebody-with-another-key-is-not-spoken-to",
                        test_somebody_with_another_key_is_not_spoken_to);
        g_test_add_func("/peer/stranger/a-trouble-is-told-once-and-again-when-it-was-over",
                        test_a_trouble_is_told_once_and_again_when_it_was_over);
        return g_test_run();
}
