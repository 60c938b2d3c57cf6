/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A name service that hangs: getaddrinfo() of this program does not come back for names that end in ".hangs". */

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/peer/resolver.h"
#include "peer-world.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static bool hangs;
static unsigned n_asked;

/* Takes the place of libc's. What does not hang is this host. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret) {
        if (!(hints->ai_flags & AI_NUMERICHOST) && g_str_has_suffix(host, ".hangs")) {
                pthread_mutex_lock(&lock);
                n_asked++;
                while (hangs)
                        pthread_cond_wait(&released, &lock);
                pthread_mutex_unlock(&lock);
                return EAI_AGAIN;
        }
        struct addrinfo *info = calloc(1, sizeof(*info) + sizeof(struct sockaddr_in));
        struct sockaddr_in *address = (struct sockaddr_in *) (info + 1);
        address->sin_family = AF_INET;
        address->sin_port = htons((uint16_t) atoi(port));
        if (inet_pton(AF_INET, host, &address->sin_addr) != 1) {
                if (hints->ai_flags & AI_NUMERICHOST) {
                        free(info);
                        return EAI_NONAME;
                }
                address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        }
        info->ai_addr = (struct sockaddr *) address;
        info->ai_addrlen = sizeof(*address);
        *ret = info;
        return 0;
}

void freeaddrinfo(struct addrinfo *info) {
        free(info);
}

static unsigned count_threads(void) {
        DIR *dir = opendir("/proc/self/task");
        unsigned n = 0;
        for (const struct dirent *entry; (entry = readdir(dir));)
                n += entry->d_name[0] != '.';
        closedir(dir);
        return n;
}

static void set_hanging(bool value) {
        pthread_mutex_lock(&lock);
        hangs = value;
        pthread_cond_broadcast(&released);
        pthread_mutex_unlock(&lock);
}

static unsigned asked(void) {
        pthread_mutex_lock(&lock);
        unsigned n = n_asked;
        pthread_mutex_unlock(&lock);
        return n;
}

static void test_a_name_that_hangs_keeps_nobody_waiting(void) {
        g_autoptr(PeerWorld) w = peer_world_new(2);
        PeerNode *a = &w->nodes[0], *b = &w->nodes[1];
        unsigned threads = count_threads();
        set_hanging(true);
        b->wants[0] = false;
        node_up(a);
        node_up(b);
        node_meet(b);
        g_autofree char *right = g_strdup_printf("bert:%u", b->port);
        const char *const addresses[] = { "one.hangs:1", right };
        PeerInfo peer = { .node = b->id, .addresses = addresses, .n_addresses = 2, .wanted = true };
        memcpy(peer.key, peer_key_pin(b->key), PEER_KEY_SIZE);
        g_assert_cmpint(peer_net_set_peers(a->net, &peer, 1), ==, 0);
        AWAIT(w, is_up(a, b));
        g_assert_cmpuint(count_threads(), <=, threads + 2);

        /* The end does not wait for it either, or it would wait for ever. */
        node_down(a);
        set_hanging(false);
        AWAIT(w, count_threads() == threads);
}

typedef struct Answers {
        unsigned n;
        char sentence[128];
} Answers;

static void on_found(const SocketAddress *addresses, size_t n, const char *sentence, void *userdata) {
        Answers *answers = userdata;
        answers->n++;
        g_strlcpy(answers->sentence, sentence, sizeof(answers->sentence));
}

static void test_threads_that_hang_are_few(void) {
        g_autoptr(PeerWorld) w = peer_world_new(0);
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        Answers answers = {};
        unsigned threads = count_threads(), before = asked();
        set_hanging(true);
        g_assert_cmpint(resolver_new(&resolver, w->event), ==, 0);
        for (unsigned i = 0; i < 20; i++) {
                ResolverRequest *ignored;
                g_autofree char *host = g_strdup_printf("%u.hangs", i % 10);
                g_assert_cmpint(resolver_ask(resolver, host, "1", on_found, &answers, &ignored), ==, 0);
        }
        AWAIT(w, asked() == before + RESOLVER_THREADS_MAX);
        g_assert_cmpuint(count_threads(), ==, threads + RESOLVER_THREADS_MAX);
        g_assert_cmpuint(answers.n, ==, 0);

        /* Each name is asked for once, whoever waits for it. */
        set_hanging(false);
        AWAIT(w, answers.n == 20);
        g_assert_cmpuint(asked(), ==, before + 10);
        g_assert_nonnull(strstr(answers.sentence, "does not resolve"));
        AWAIT(w, count_threads() == threads);
}

static void test_a_request_can_be_taken_back(void) {
        g_autoptr(PeerWorld) w = peer_world_new(0);
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        Answers answers = {}, others = {};
        ResolverRequest *requests[10], *ignored;
        unsigned threads = count_threads(), before = asked();
        set_hanging(true);
        g_assert_cmpint(resolver_new(&resolver, w->event), ==, 0);
        for (unsigned i = 0; i < 10; i++) {
                g_autofree char *host = g_strdup_printf("%u.hangs", i);
                g_assert_cmpint(resolver_ask(resolver, host, "1", on_found, &answers, &requests[i]), ==, 0);
        }
        AWAIT(w, asked() == before + RESOLVER_THREADS_MAX);
        for (unsigned i = 0; i < 10; i++)
                (void) resolver_request_free(requests[i]);
        /* Who asks again gets the answer of the thread that hangs. */
        g_assert_cmpint(resolver_ask(resolver, "0.hangs", "1", on_found, &others, &ignored), ==, 0);
        set_hanging(false);
        AWAIT(w, others.n == 1);
        g_assert_cmpuint(answers.n, ==, 0);
        g_assert_cmpuint(asked(), ==, before + RESOLVER_THREADS_MAX);
        AWAIT(w, count_threads() == threads);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/peer/resolver/a-name-that-hangs-keeps-nobody-waiting",
                        test_a_name_that_hangs_keeps_nobody_waiting);
        g_test_add_func("/peer/resolver/threads-that-hang-are-few", test_threads_that_hang_are_few);
        g_test_add_func("/peer/resolver/a-request-can-be-taken-back", test_a_request_can_be_taken_back);
        return g_test_run();
}
