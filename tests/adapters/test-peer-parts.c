/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The parts of the peer adapter by themselves: keys on disk, addresses, frames in pieces, queues. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "adapters/peer/address.h"
#include "adapters/peer/frame.h"
#include "adapters/peer/peer.h"
#include "adapters/peer/queue.h"

/* ---- keys ---- */

typedef struct KeyFile {
        char *folder, *path;
} KeyFile;

static KeyFile key_file(void) {
        KeyFile file = { .folder = g_dir_make_tmp("gpupool-key-XXXXXX", NULL) };
        g_assert_nonnull(file.folder);
        file.path = g_build_filename(file.folder, "key.pem", NULL);
        return file;
}

/* Nothing but the key may be left. */
static void key_file_clear(KeyFile *file) {
        (void) g_unlink(file->path);
        g_assert_cmpint(g_rmdir(file->folder), ==, 0);
        g_free(file->folder);
        g_free(file->path);
}

static void test_a_key_comes_back_from_its_file(void) {
        _cleanup_(key_file_clear) KeyFile file = key_file();
        _cleanup_(peer_key_freep) PeerKey *made = NULL, *read = NULL;
        struct stat st;
        g_assert_cmpint(peer_key_load(file.path, &read), ==, -ENOENT);
        g_assert_cmpint(peer_key_create(file.path, &made), ==, 0);
        g_assert_cmpint(g_stat(file.path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
        g_assert_cmpint(peer_key_load(file.path, &read), ==, 0);
        g_assert_cmpmem(peer_key_pin(made), PEER_KEY_SIZE, peer_key_pin(read), PEER_KEY_SIZE);
}

static void test_a_key_is_never_replaced(void) {
        _cleanup_(key_file_clear) KeyFile file = key_file();
        _cleanup_(peer_key_freep) PeerKey *first = NULL, *second = NULL, *read = NULL;
        g_assert_cmpint(peer_key_create(file.path, &first), ==, 0);
        g_assert_cmpint(peer_key_create(file.path, &second), ==, -EEXIST);
        g_assert_null(second);
        g_assert_cmpint(peer_key_load(file.path, &read), ==, 0);
        g_assert_cmpmem(peer_key_pin(first), PEER_KEY_SIZE, peer_key_pin(read), PEER_KEY_SIZE);
}

static void test_two_keys_have_two_pins(void) {
        _cleanup_(key_file_clear) KeyFile one = key_file(), other = key_file();
        _cleanup_(peer_key_freep) PeerKey *a = NULL, *b = NULL;
        g_assert_cmpint(peer_key_create(one.path, &a), ==, 0);
        g_assert_cmpint(peer_key_create(other.path, &b), ==, 0);
        g_assert_cmpint(memcmp(peer_key_pin(a), peer_key_pin(b), PEER_KEY_SIZE), !=, 0);
}

/* The pin is what anybody can compute from the file: openssl pkey -pubout -outform DER | sha256sum. */
static void test_the_pin_is_the_hash_of_the_public_key(void) {
        static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
                                  "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
                                  "-----END PRIVATE KEY-----\n";
        static const uint8_t spki[] = {
                0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
                /* the public key of this private key, in RFC 8410 */
                0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96,
                0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
        };
        _cleanup_(key_file_clear) KeyFile file = key_file();
        _cleanup_(peer_key_freep) PeerKey *key = NULL;
        uint8_t pin[PEER_KEY_SIZE];
        g_assert_true(g_file_set_contents_full(file.path, pem, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
        g_assert_cmpint(peer_key_load(file.path, &key), ==, 0);
        g_assert_cmpint(peer_hash(spki, sizeof(spki), pin), ==, 0);
        g_assert_cmpmem(peer_key_pin(key), PEER_KEY_SIZE, pin, sizeof(pin));
}

static void test_a_damaged_key_is_refused(void) {
        static const char *const bad[] = { "", "rubbish", "-----BEGIN PRIVATE KEY-----\nMC4C\n" };
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                _cleanup_(key_file_clear) KeyFile file = key_file();
                _cleanup_(peer_key_freep) PeerKey *key = NULL;
                g_assert_true(g_file_set_contents_full(file.path, bad[i], -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
                g_assert_cmpint(peer_key_load(file.path, &key), ==, -EBADMSG);
        }
}

static void test_a_key_of_another_kind_is_refused(void) {
        static const char x25519[] = "-----BEGIN PRIVATE KEY-----\n"
                                     "MC4CAQAwBQYDK2VuBCIEIHgGXSf+WvlRUvPz2zvHLCCKRlwYwdtZ7PPPKxxhVGJf\n"
                                     "-----END PRIVATE KEY-----\n";
        _cleanup_(key_file_clear) KeyFile file = key_file();
        _cleanup_(peer_key_freep) PeerKey *key = NULL;
        g_assert_true(g_file_set_contents_full(file.path, x25519, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
        g_assert_cmpint(peer_key_load(file.path, &key), ==, -EBADMSG);
}

static void test_a_key_that_others_may_read_is_refused(void) {
        _cleanup_(key_file_clear) KeyFile file = key_file();
        _cleanup_(peer_key_freep) PeerKey *made = NULL, *read = NULL;
        g_assert_cmpint(peer_key_create(file.path, &made), ==, 0);
        g_assert_cmpint(g_chmod(file.path, 0640), ==, 0);
        g_assert_cmpint(peer_key_load(file.path, &read), ==, -EPERM);
}

static void test_the_hash_is_sha256(void) {
        static const uint8_t abc[] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea };
        uint8_t hash[PEER_KEY_SIZE];
        g_assert_cmpint(peer_hash("abc", 3, hash), ==, 0);
        g_assert_cmpmem(hash, sizeof(abc), abc, sizeof(abc));
}

/* ---- addresses ---- */

static void check_split(const char *text, const char *host, const char *port) {
        char has_host[ADDRESS_HOST_SIZE], has_port[ADDRESS_PORT_SIZE];
        g_assert_cmpint(address_split(text, has_host, has_port), ==, 0);
        g_assert_cmpstr(has_host, ==, host);
        g_assert_cmpstr(has_port, ==, port);
}

static void test_addresses_are_split(void) {
        check_split("10.0.0.1:7411", "10.0.0.1", "7411");
        check_split("10.0.0.1", "10.0.0.1", "7411");
        check_split("[fd77::1]:80", "fd77::1", "80");
        check_split("[fd77::1]", "fd77::1", "7411");
        check_split("fd77::1", "fd77::1", "7411");
        check_split("bert.example:1", "bert.example", "1");
        check_split("bert", "bert", "7411");
}

static void test_what_is_no_address_is_refused(void) {
        char host[ADDRESS_HOST_SIZE], port[ADDRESS_PORT_SIZE];
        g_autofree char *longest = g_strnfill(255, 'a'), *longer = g_strnfill(256, 'a');
        static const char *const bad[] = { "", ":1", "[", "[]:1", "[::1", "[::1]x", "a:", "a:x", "a:65536", "a:-1" };
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                g_assert_cmpint(address_split(bad[i], host, port), ==, -EINVAL);
        g_assert_cmpint(address_split(longest, host, port), ==, 0);
        g_assert_cmpint(address_split(longer, host, port), ==, -EINVAL);
}

static void test_a_host_is_itself_in_both_families(void) {
        SocketAddress v4, mapped, other;
        g_assert_cmpint(address_from_number("10.0.0.1", "1", &v4), ==, 0);
        g_assert_cmpint(address_from_number("::ffff:10.0.0.1", "2", &mapped), ==, 0);
        g_assert_cmpint(address_from_number("fd77::1", "1", &other), ==, 0);
        g_assert_cmpint(address_from_number("bert", "1", &other), ==, -EINVAL);
        g_assert_true(address_is_same_host(&v4, &mapped));
        g_assert_false(address_is_same_host(&v4, &other));
}

static bool are_of_one_network(const char *a, const char *b) {
        SocketAddress one, other;
        g_assert_cmpint(address_from_number(a, "1", &one), ==, 0);
        g_assert_cmpint(address_from_number(b, "2", &other), ==, 0);
        g_assert_true(address_is_same_network(&one, &other) == address_is_same_network(&other, &one));
        return address_is_same_network(&one, &other);
}

static void test_a_network_is_64_bits_of_ipv6_and_one_address_of_ipv4(void) {
        g_assert_true(are_of_one_network("fd77::1", "fd77::ffff:0:0:2"));
        g_assert_false(are_of_one_network("fd77::1", "fd77:0:0:1::1"));
        g_assert_true(are_of_one_network("10.0.0.1", "::ffff:10.0.0.1"));
        g_assert_false(are_of_one_network("10.0.0.1", "10.0.0.2"));
        g_assert_false(are_of_one_network("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
        g_assert_false(are_of_one_network("::1", "127.0.0.1"));
        g_assert_false(are_of_one_network("::1", "fd77::1"));
}

/* ---- frames ---- */

/* Feeds @size bytes in pieces of @piece and returns the last verdict. */
static int feed(FrameReader *reader, const uint8_t *bytes, size_t size, size_t piece, size_t *ret_frames) {
        int verdict = FRAME_MORE;
        *ret_frames = 0;
        while (size > 0) {
                size_t n = MIN(piece, size), used = 0;
                verdict = frame_reader_take(reader, bytes, n, PEER_FRAME_SIZE_MAX, &used);
                if (verdict != FRAME_GOOD && verdict != FRAME_MORE)
                        return verdict;
                g_assert_cmpuint(used, <=, n);
                bytes += used;
                size -= used;
                if (verdict == FRAME_GOOD) {
                        (*ret_frames)++;
                        frame_reader_next(reader);
                }
        }
        return verdict;
}

static void test_frames_come_whole_out_of_any_pieces(void) {
        static const uint8_t bytes[] = { 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 1, 9, 0, 0, 0, 2, 7, 7 };
        for (size_t piece = 1; piece <= sizeof(bytes); piece++) {
                _cleanup_(frame_reader_clear) FrameReader reader = {};
                size_t frames;
                g_assert_cmpint(feed(&reader, bytes, sizeof(bytes), piece, &frames), ==, FRAME_GOOD);
                g_assert_cmpuint(frames, ==, 3);
        }
}

static void test_a_frame_has_1_to_262144_bytes(void) {
        static const uint8_t empty[] = { 0, 0, 0, 0 }, longest[] = { 0, 4, 0, 0, 1 }, longer[] = { 0, 4, 0, 1, 1 };
        static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff, 1 };
        _cleanup_(frame_reader_clear) FrameReader reader = {};
        size_t frames;
        g_assert_cmpint(feed(&reader, empty, sizeof(empty), 4, &frames), ==, FRAME_EMPTY);
        frame_reader_next(&reader);
        g_assert_cmpint(feed(&reader, longer, sizeof(longer), 5, &frames), ==, FRAME_TOO_LARGE);
        frame_reader_next(&reader);
        g_assert_cmpint(feed(&reader, huge, sizeof(huge), 5, &frames), ==, FRAME_TOO_LARGE);
        frame_reader_next(&reader);
        g_assert_cmpint(feed(&reader, longest, sizeof(longest), 5, &frames), ==, FRAME_MORE);
        /* What is announced is not yet allocated. */
        g_assert_cmpuint(reader.allocated, <=, 4096);
}

static void test_garbage_is_no_frame(void) {
        static const uint8_t wrong_type[] = { 0x08, 0x01 }, cut[] = { 0x0a, 0x05, 0x08 };
        /* Two answers: the first one would leak in protobuf-c 1.4.1. */
        static const uint8_t twice[] = { 0xca, 0x01, 0x03, 0x22, 0x01, 'a', 0xca, 0x01, 0x03, 0x22, 0x01, 'b' };
        Gpupool1__Frame *frame = NULL;
        g_assert_cmpint(frame_decode(wrong_type, sizeof(wrong_type), &frame), ==, FRAME_MALFORMED);
        g_assert_cmpint(frame_decode(cut, sizeof(cut), &frame), ==, FRAME_MALFORMED);
        g_assert_cmpint(frame_decode(twice, sizeof(twice), &frame), ==, FRAME_MALFORMED);
        g_assert_cmpint(frame_decode(twice, 0, &frame), ==, FRAME_EMPTY);
        g_assert_cmpint(frame_decode(twice, sizeof(twice) / 2, &frame), ==, FRAME_GOOD);
        g_assert_cmpint(frame->body_case, ==, GPUPOOL1__FRAME__BODY_ANSWER);
        g_assert_cmpstr(frame->answer->sentence, ==, "a");
        frame_free(frame);
}

/* ---- queues ---- */

static int add(Queue *queue, PeerStream stream, uint64_t offset, size_t size) {
        static uint8_t bytes[PEER_FRAME_SIZE_MAX + 1];
        Gpupool1__SnapshotPart part = GPUPOOL1__SNAPSHOT_PART__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        part.offset = offset;
        part.data = (ProtobufCBinaryData) { size, bytes };
        frame.body_case = GPUPOOL1__FRAME__BODY_SNAPSHOT_PART;
        frame.snapshot_part = &part;
        return queue_add(queue, stream, &frame);
}

/* Takes the queue's bytes, @piece at a time, until a whole frame has come, and returns its offset; 0: it is empty. */
static uint64_t take_frame(Queue *queue, FrameReader *reader, size_t piece) {
        for (;;) {
                const uint8_t *bytes;
                ssize_t size = queue_next(queue, &bytes);
                g_assert_cmpint(size, >=, 0);
                if (size == 0)
                        return 0;
                size_t used, n = MIN((size_t) size, piece);
                int verdict = frame_reader_take(reader, bytes, n, PEER_FRAME_SIZE_MAX, &used);
                queue_sent(queue, used);
                if (verdict == FRAME_MORE)
                        continue;
                g_assert_cmpint(verdict, ==, FRAME_GOOD);
                Gpupool1__Frame *frame = NULL;
                g_assert_cmpint(frame_decode(reader->payload, reader->size, &frame), ==, FRAME_GOOD);
                uint64_t offset = frame->snapshot_part->offset;
                frame_free(frame);
                frame_reader_next(reader);
                return offset;
        }
}

static void test_streams_are_served_in_their_order(void) {
        _cleanup_(queue_clear) Queue queue = {};
        _cleanup_(frame_reader_clear) FrameReader reader = {};
        for (PeerStream s = PEER_STREAM_COUNT; s-- > 0;) {
                g_assert_cmpint(add(&queue, s, s + 1, 40000), ==, PEER_SEND_QUEUED);
                g_assert_cmpint(add(&queue, s, s + 11, 10), ==, PEER_SEND_QUEUED);
        }
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++) {
                g_assert_cmpuint(take_frame(&queue, &reader, 1000), ==, s + 1);
                g_assert_cmpuint(take_frame(&queue, &reader, 1000), ==, s + 11);
        }
        g_assert_cmpuint(take_frame(&queue, &reader, 1000), ==, 0);
        g_assert_true(queue_is_empty(&queue));
}

static void test_a_frame_that_was_begun_is_finished_first(void) {
        _cleanup_(queue_clear) Queue queue = {};
        _cleanup_(frame_reader_clear) FrameReader reader = {};
        const uint8_t *bytes;
        g_assert_cmpint(add(&queue, PEER_STREAM_BULK, 1, 100000), ==, PEER_SEND_QUEUED);
        g_assert_cmpint(add(&queue, PEER_STREAM_BULK, 2, 100000), ==, PEER_SEND_QUEUED);
        g_assert_cmpint(queue_next(&queue, &bytes), ==, QUEUE_CHUNK_SIZE);
        g_assert_cmpint(add(&queue, PEER_STREAM_CONTROL, 3, 10), ==, PEER_SEND_QUEUED);
        g_assert_cmpuint(take_frame(&queue, &reader, 7777), ==, 1);
        g_assert_cmpuint(take_frame(&queue, &reader, 7777), ==, 3);
        g_assert_cmpuint(take_frame(&queue, &reader, 7777), ==, 2);
}

static void test_a_full_stream_refuses_and_says_when_it_has_room(void) {
        static const size_t limits[] = { 64 << 10, 8 << 20, 4 << 20, 256 << 10, 1 << 20 };
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++) {
                _cleanup_(queue_clear) Queue queue = {};
                _cleanup_(frame_reader_clear) FrameReader reader = {};
                PeerStream told;
                uint64_t n = 0;
                while (add(&queue, s, n + 1, 5000) == PEER_SEND_QUEUED)
                        n++;
                g_assert_cmpuint(queue_bytes(&queue), <=, limits[s]);
                g_assert_cmpuint(queue_bytes(&queue) + 5100, >, limits[s]);
                g_assert_cmpint(add(&queue, s, n + 1, 5000), ==, PEER_SEND_FULL);
                g_assert_false(queue_take_writable(&queue, &told));

                for (uint64_t i = 1; i <= n; i++) {
                        g_assert_cmpuint(take_frame(&queue, &reader, QUEUE_CHUNK_SIZE), ==, i);
                        bool has_room = queue_bytes(&queue) <= limits[s] / 2;
                        if (queue_take_writable(&queue, &told)) {
                                g_assert_true(has_room);
                                g_assert_cmpint(told, ==, s);
                                n = i;
                        }
                }
                g_assert_cmpuint(queue_bytes(&queue), >, 0);
                g_assert_false(queue_take_writable(&queue, &told));
        }
}

static void test_an_empty_stream_takes_the_largest_frame(void) {
        _cleanup_(queue_clear) Queue queue = {};
        /* SnapshotPart's own bytes: two tags and lengths, and what the frame puts around it. */
        size_t most = PEER_FRAME_SIZE_MAX - 12;
        g_assert_cmpint(add(&queue, PEER_STREAM_CONTROL, 1, most + 20), ==, PEER_SEND_TOO_LARGE);
        g_assert_cmpint(add(&queue, PEER_STREAM_CONTROL, 1, most), ==, PEER_SEND_QUEUED);
        g_assert_cmpint(add(&queue, PEER_STREAM_CONTROL, 2, 1), ==, PEER_SEND_FULL);
}

static void test_a_frame_without_body_is_not_sent(void) {
        _cleanup_(queue_clear) Queue queue = {};
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        g_assert_cmpint(queue_add(&queue, PEER_STREAM_CALL, &frame), ==, PEER_SEND_TOO_LARGE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peer/key/comes-back-from-its-file", test_a_key_comes_back_from_its_file);
        g_test_add_func("/peer/key/is-never-replaced", test_a_key_is_never_replaced);
        g_test_add_func("/peer/key/two-have-two-pins", test_two_keys_have_two_pins);
        g_test_add_func("/peer/key/the-pin-is-the-hash-of-the-public-key", test_the_pin_is_the_hash_of_the_public_key);
        g_test_add_func("/peer/key/a-damaged-one-is-refused", test_a_damaged_key_is_refused);
        g_test_add_func("/peer/key/of-another-kind-is-refused", test_a_key_of_another_kind_is_refused);
        g_test_add_func("/peer/key/that-others-may-read-is-refused", test_a_key_that_others_may_read_is_refused);
        g_test_add_func("/peer/hash/is-sha256", test_the_hash_is_sha256);
        g_test_add_func("/peer/address/is-split", test_addresses_are_split);
        g_test_add_func("/peer/address/networks", test_a_network_is_64_bits_of_ipv6_and_one_address_of_ipv4);
        g_test_add_func("/peer/address/what-is-none-is-refused", test_what_is_no_address_is_refused);
        g_test_add_func("/peer/address/a-host-is-itself-in-both-families", test_a_host_is_itself_in_both_families);
        g_test_add_func("/peer/frame/comes-whole-out-of-any-pieces", test_frames_come_whole_out_of_any_pieces);
        g_test_add_func("/peer/frame/has-1-to-262144-bytes", test_a_frame_has_1_to_262144_bytes);
        g_test_add_func("/peer/frame/garbage-is-none", test_garbage_is_no_frame);
        g_test_add_func("/peer/queue/streams-are-served-in-their-order", test_streams_are_served_in_their_order);
        g_test_add_func("/peer/queue/a-frame-that-was-begun-is-finished-first",
                        test_a_frame_that_was_begun_is_finished_first);
        g_test_add_func("/peer/queue/a-full-stream-refuses-and-says-when-it-has-room",
                        test_a_full_stream_refuses_and_says_when_it_has_room);
        g_test_add_func("/peer/queue/an-empty-stream-takes-the-largest-frame",
                        test_an_empty_stream_takes_the_largest_frame);
        g_test_add_func("/peer/queue/a-frame-without-body-is-not-sent", test_a_frame_without_body_is_not_sent);
        return g_test_run();
}
