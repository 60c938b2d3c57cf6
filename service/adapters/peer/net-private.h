/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The inside of the net, in three nouns:
 *
 *     Link     another node that may be spoken to: its key and addresses, how to reach it, its one connection
 *     Session  one connection and how far it has come: a member's, a stranger's, or not known yet
 *     PeerNet  all of them, the sockets that listen, the beats
 *
 * A session is freed when its connection has closed, from the loop; a link when nobody names the node any more. */

#include "adapters/peer/connection.h"
#include "adapters/peer/dial.h"
#include "adapters/peer/hello.h"
#include "adapters/peer/listener.h"
#include "adapters/peer/peer.h"
#include "core/names.h"
#include "util/array.h"
#include "util/text.h"

#define PENDING_MAX 64U                 /* accepted, and not known yet */
#define STRANGERS_MAX 16U
#define SENTENCE_SIZE 256U

typedef struct Link Link;
typedef struct Session Session;

typedef enum SessionStage {
        SESSION_BEGINNING,              /* TCP, TLS; then, accepted: its Hello is awaited */
        SESSION_GREETED,                /* dialled: our Hello is out */
        SESSION_HELD,                   /* accepted: a good Hello; our own dial decides first */
        SESSION_MEMBER,
        SESSION_STRANGER,               /* may ask to join */
        SESSION_ASKING,                 /* has asked, the answer is awaited */
        SESSION_LEAVING,                /* all is said */
        SESSION_ENDED,                  /* its connection is closed and its end on its way */
} SessionStage;

struct PeerStranger {
        Session *session;
};

struct Session {
        Session *next;
        PeerNet *net;
        Connection *connection;
        SessionStage stage;
        bool dialled;                   /* by us */
        bool waits;                     /* accepted: its handshake has not begun */
        Link *link;                     /* NULL: not known, or not its session any more */
        uint64_t number;                /* newer ones have greater ones */
        uint64_t began_us, up_us;
        SocketAddress remote;
        char text[ADDRESS_TEXT_SIZE];   /* of remote */
        size_t address_index;           /* dialled: which of the link's */
        Gpupool1__Hello *hello;         /* while held */
        uint8_t nonce[HELLO_NONCE_SIZE];
        NodeId node;                    /* a stranger's, as its Hello says */
        bool beat_due;
        bool other_wants;               /* it, as its last beat says */
        PeerStranger stranger;
};

typedef enum Trouble {
        TROUBLE_UNREACHABLE,
        TROUBLE_WRONG_KEY,
        TROUBLE_REFUSED,
        TROUBLE_PROTOCOL,
        TROUBLE_GARBAGE,
} Trouble;

struct Link {
        Link *next_gone;
        PeerNet *net;
        NodeId node;
        char name[NAME_LENGTH_MAX + 1]; /* for the log */
        uint8_t key[PEER_KEY_SIZE];
        TextList addresses;
        bool wanted, removed;

        Session *member;                /* the connection, when it is up */
        Session *dialled;               /* the present attempt */
        Session *held;
        Dial *dial;                     /* a walk through the addresses, in progress */
        sd_event_source *retry;
        uint64_t backoff_us;            /* before the next walk */
        bool unreached;                 /* the last walk met nobody */
        size_t best_address;            /* that worked last */
        uint64_t heard_us;

        bool announced;                 /* up() was told, and no down() since */
        bool down_due;
        char why[SENTENCE_SIZE];        /* of the next down */
        char walk_why[SENTENCE_SIZE];   /* what the walk met last */
        bool unknown_there;             /* it did not know us: a new member may be ahead of the news of it, once */
        unsigned troubles;              /* bits of Trouble: told, and not over since */
};

/* Something strangers do is told once in a while, with how often it happened. */
typedef enum StrangerTrouble {
        STRANGER_UNKNOWN_KEY,
        STRANGER_NO_TLS,
        STRANGER_NONSENSE,
        STRANGER_TOO_MANY,
        STRANGER_TROUBLE_COUNT,
} StrangerTrouble;

struct PeerNet {
        sd_event *event;
        NodeId node;
        ClusterId cluster;
        const PeerKey *key;
        char version[HELLO_VERSION_LENGTH_MAX + 1];
        uint32_t level;
        uint8_t nonce[HELLO_NONCE_SIZE];
        uint64_t beat_us, silence_us, connect_us;
        const PeerCallbacks *callbacks;
        void *userdata;

        ARRAY(Listener *) listeners;
        Resolver *resolver;
        ARRAY(Link *) links;            /* sorted by node */
        Link *gone;                     /* not named any more, but their down() is due */
        Session *sessions;
        uint64_t last_number;
        uint64_t random;
        sd_event_source *beat, *turn, *handshake;
        uint64_t handshakes_full_us;    /* when as many may begin at once as ever */
        struct {
                uint64_t told_us;
                unsigned unsaid;
        } strangers[STRANGER_TROUBLE_COUNT];
};

/* ---- net.c ---- */

uint64_t net_now_us(const PeerNet *net);
/* A number in [0, @below). */
uint64_t net_random(PeerNet *net, uint64_t below);
/* Tells every down() that is due. Before any up(), so that they come in order. */
void net_tell_downs(PeerNet *net);
/* Tells them, and sends the beats that are due, in a turn of their own. */
void net_want_turn(PeerNet *net);
/* There is a member now. */
void net_keep_beating(PeerNet *net);
void net_log_stranger(PeerNet *net, StrangerTrouble trouble, const char *from, const char *why);

/* ---- link.c ---- */

Link *link_free(Link *link);
Link *net_find_link(const PeerNet *net, const NodeId *node);
Link *net_find_key(const PeerNet *net, const uint8_t key[static PEER_KEY_SIZE]);
/* Dials now, or once the pause is over, if there should be a connection and is none. */
void link_look(Link *link);
/* The present attempt is over, by the other end or the network. */
void link_attempt_failed(Link *link, const char *address, const char *why);
/* It dials us. If we could not reach it, another try is worth it now; if it refused us, that changes nothing, and two
 * that refuse each other must not goad each other on. */
void link_sign_of_life(Link *link);
/* The walk and the attempt end. */
void link_stop_dialling(Link *link);
void link_trouble(Link *link, Trouble trouble, const char *address, const char *why);
void link_lasted(Link *link);           /* its connection was up for a good while */
/* Ends the connection after a goodbye. down() comes in a turn of its own. */
void link_disconnect(Link *link, Gpupool1__GoodbyeReason reason, const char *why);

/* ---- session.c ---- */

/* Takes @fd. */
void session_accept(PeerNet *net, int fd, const SocketAddress *remote);
/* 0 or -errno. */
int session_dial(Link *link, const SocketAddress *remote, size_t address_index);
Session *session_free(Session *session);
DEFINE_CLEANUP(Session *, session_free);
/* No event of it is told any more. */
void session_drop(Session *session, const char *why);
void session_goodbye(Session *session, Gpupool1__GoodbyeReason reason, const char *why);
int session_send_hello(Session *session, bool to_stranger);
/* Our own dial is over: what was held for it is decided now. */
void session_decide_held(Link *link);

/* ---- stranger.c ---- */

/* A good Hello that names no cluster. */
void stranger_greet(Session *session, const Gpupool1__Hello *hello);
void stranger_take_frame(Session *session, const Gpupool1__Frame *frame);

/* ---- crowd.c ---- */

/* How many sessions there are of one network, and of one host in it. */
typedef struct Crowd {
        size_t network, host;
} Crowd;

/* Of those that were accepted and are in these stages. */
size_t net_count(const PeerNet *net, SessionStage first, SessionStage second);
Crowd net_count_crowd(const PeerNet *net, const SocketAddress *of, SessionStage first, SessionStage second);
size_t net_count_pending(const PeerNet *net);
/* The oldest session of these stages from where most of them come from; NULL: none. */
Session *net_find_victim(PeerNet *net, SessionStage first, SessionStage second);
/* Those that wait, as far as there is room; for the rest it comes back. */
void net_begin_handshakes(PeerNet *net);
