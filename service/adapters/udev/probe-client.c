/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/probe-client.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "adapters/udev/sysfs.h"
#include "core/pci-config.h"
#include "probe/probe-protocol.h"
#include "util/array.h"

#define TIMER_ACCURACY_US 1000U

/* One question on its way. */
typedef struct Connection {
        ProbeClient *client;
        PciAddress gpu;
        int fd;                         /* -1: the slot is free */
        sd_event_source *io, *timer;
        char *text;
        size_t length, allocated;
} Connection;

typedef struct Pause {
        PciAddress gpu;
        uint64_t until_us;
} Pause;

struct ProbeClient {
        sd_event *event;
        struct sockaddr_un socket;
        uint64_t deadline_us;
        ProbeAnswered answered;
        void *userdata;
        sd_event_source *start;         /* runs once when something queues */
        ARRAY(PciAddress) queue;
        ARRAY(Pause) pauses;
        Connection connections[PROBE_CONNECTIONS_MAX];
};

void probe_answer_clear(ProbeAnswer *answer) {
        gpu_facts_clear(&answer->facts);
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns how many bytes @hex holds, up to the first character that is no hex. */
static size_t parse_hex(const char *hex, uint8_t bytes[static PCI_CONFIG_SIZE]) {
        size_t n = 0;
        while (n < PCI_CONFIG_SIZE) {
                int high = hex_digit(hex[2 * n]);
                int low = high < 0 ? -1 : hex_digit(hex[2 * n + 1]);
                if (low < 0)
                        break;
                bytes[n++] = (uint8_t) (high << 4 | low);
        }
        return n;
}

static PciKind kind_of(const PciConfig *config) {
        if (!config->has_capabilities || config->all_ones)
                return PCI_KIND_UNKNOWN;
        if (!config->is_express)
                return PCI_KIND_CONVENTIONAL;
        switch (config->port_type) {
        case PCI_PORT_ENDPOINT:
                return PCI_KIND_ENDPOINT;
        case PCI_PORT_LEGACY_ENDPOINT:
                return PCI_KIND_LEGACY_ENDPOINT;
        case PCI_PORT_INTEGRATED:
                return PCI_KIND_INTEGRATED;
        }
        return PCI_KIND_UNKNOWN;
}

static Interrupts interrupts_of(const PciConfig *config) {
        if (!config->has_capabilities || config->all_ones)
                return INTERRUPTS_UNKNOWN;
        if (config->has_messages)
                return INTERRUPTS_MESSAGES;
        return config->interrupt_pin > 0 ? INTERRUPTS_LINE : INTERRUPTS_NONE;
}

static void parse_config(const char *hex, GpuFacts *facts) {
        uint8_t bytes[PCI_CONFIG_SIZE];
        size_t n = parse_hex(hex, bytes);
        if (n < PCI_CONFIG_HEADER_SIZE)
                return;
        PciConfig config;
        pci_config_parse(bytes, n, &config);
        facts->config = config.all_ones ? CONFIG_ALL_ONES : CONFIG_READABLE;
        facts->kind = kind_of(&config);
        facts->interrupts = interrupts_of(&config);
        pci_config_serial_to_text(&config, facts->identity.serial);
}

/* Below such a bridge all devices have the bridge's own name in what they send upwards. */
static bool leads_to_conventional(const PciConfig *config) {
        if (!config->has_capabilities || config->all_ones)
                return false;
        return !config->is_express || config->port_type == PCI_PORT_TO_CONVENTIONAL;
}

/* Root ports and downstream ports are where ACS keeps the functions below apart. */
static bool lacks_acs(const PciConfig *config) {
        return !config->all_ones && config->is_express && !(config->has_acs && config->acs_isolates) &&
               (config->port_type == PCI_PORT_ROOT || config->port_type == PCI_PORT_SWITCH_DOWNSTREAM);
}

/* The nearest bridge that fails is told. */
static int parse_bridge(const char *line, GpuFacts *facts) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        const char *space = strchr(line, ' ');
        PciAddress bridge;
        if (!space || (size_t) (space - line) >= sizeof(address))
                return 0;
        memcpy(address, line, (size_t) (space - line));
        address[space - line] = '\0';
        uint8_t bytes[PCI_CONFIG_SIZE];
        size_t n = parse_hex(space + 1, bytes);
        if (pci_address_from_text(address, &bridge) < 0)
                return 0;

        PciConfig config;
        pci_config_parse(bytes, n, &config);
        int r = 0;
        if (!facts->conventional_at && leads_to_conventional(&config))
                r = text_set(&facts->conventional_at, address);
        if (r >= 0 && !facts->acs_missing && n == PCI_CONFIG_SIZE && lacks_acs(&config)) {
                facts->acs_missing = true;
                r = text_set(&facts->acs_missing_at, address);
        }
        return r;
}

static int parse_holder(const char *line, GpuFacts *facts) {
        unsigned pid;
        char kind[8];
        int name_at = 0;
        if (facts->n_holders >= PROBE_HOLDERS_MAX || sscanf(line, "%u %7s %n", &pid, kind, &name_at) != 2 ||
            name_at == 0)
                return 0;
        GpuHolder holder = { .pid = pid, .through_vfio = text_equal(kind, "vfio") };
        int r = text_set(&holder.name, line[name_at] ? line + name_at : NULL);
        if (r < 0)
                return r;
        if (holder.name)
                text_make_printable(holder.name, SIZE_MAX);
        return gpu_facts_add_holder(facts, holder);
}

/* Returns > 0 at the end of the answer. */
static int parse_line(const char *line, GpuFacts *facts) {
        static const char config[] = "config ", bridge[] = "bridge ", holder[] = "holder ";
        if (strncmp(line, config, strlen(config)) == 0)
                parse_config(line + strlen(config), facts);
        else if (strncmp(line, bridge, strlen(bridge)) == 0)
                return parse_bridge(line + strlen(bridge), facts);
        else if (strncmp(line, holder, strlen(holder)) == 0)
                return parse_holder(line + strlen(holder), facts);
        return text_equal(line, "end");
}

int probe_answer_parse(const char *text, size_t size, ProbeAnswer *ret) {
        if (size > PROBE_ANSWER_MAX)
                return -EBADMSG;
        _cleanup_free_ char *copy = strndup(text, size);
        if (!copy)
                return -ENOMEM;

        ProbeAnswer answer = {};
        char *rest = copy, *line;
        int r = 0;
        while (r == 0 && (line = strsep(&rest, "\n")))
                r = parse_line(line, &answer.facts);
        if (r <= 0) {
                probe_answer_clear(&answer);
                return r < 0 ? r : -EBADMSG;
        }
        answer.facts.holders_known = true;
        *ret = answer;
        return 0;
}

static void close_connection(Connection *connection) {
        connection->io = sd_event_source_disable_unref(connection->io);
        connection->timer = sd_event_source_disable_unref(connection->timer);
        closep(&connection->fd);
        connection->fd = -1;
        free(STEAL(connection->text));
        connection->length = connection->allocated = 0;
}

static void start_later(ProbeClient *client) {
        (void) sd_event_source_set_enabled(client->start, SD_EVENT_ONESHOT);
}

/* The slot is free before the callback runs, which may ask again. */
static void finish(Connection *connection, bool complete) {
        ProbeClient *client = connection->client;
        PciAddress gpu = connection->gpu;
        ProbeAnswer answer = {};
        bool is_answer = complete && probe_answer_parse(connection->text ? connection->text : "", connection->length,
                                                        &answer) >= 0;
        close_connection(connection);
        start_later(client);
        client->answered(client->userdata, gpu, is_answer ? &answer : NULL);
        probe_answer_clear(&answer);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Connection *connection = userdata;
        for (;;) {
                if (array_reserve(&connection->text, &connection->allocated, connection->length + 16384, 1) < 0) {
                        finish(connection, false);
                        return 0;
                }
                ssize_t n = recv(fd, connection->text + connection->length,
                                 connection->allocated - connection->length, 0);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return 0;
                if (n > 0)
                        connection->length += (size_t) n;
                if (n <= 0 || connection->length > PROBE_ANSWER_MAX) {
                        finish(connection, n == 0);
                        return 0;
                }
        }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Connection *connection = userdata;
        Pause pause = { .gpu = connection->gpu, .until_us = usec + PROBE_PAUSE_US };
        (void) array_append(&connection->client->pauses, &pause);
        finish(connection, false);
        return 0;
}

/* Connecting to a socket of this kind is done at once, or not at all when its queue is full. */
static int open_connection(Connection *connection, PciAddress gpu) {
        ProbeClient *client = connection->client;
        char address[PCI_ADDRESS_TEXT_SIZE], question[PROBE_REQUEST_MAX];
        pci_address_to_text(gpu, address);
        int length = snprintf(question, sizeof(question), "gpu %s\n", address);

        connection->gpu = gpu;
        connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connection->fd < 0)
                return -errno;
        if (connect(connection->fd, (struct sockaddr *) &client->socket, sizeof(client->socket)) < 0)
                return -errno;
        if (send(connection->fd, question, (size_t) length, MSG_NOSIGNAL) != length)
                return -EIO;

        int r = sd_event_add_io(client->event, &connection->io, connection->fd, EPOLLIN, on_readable, connection);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(client->event, &connection->timer, CLOCK_MONOTONIC, client->deadline_us,
                                          TIMER_ACCURACY_US, on_deadline, connection);
}

static bool is_paused(ProbeClient *client, PciAddress gpu) {
        uint64_t now;
        if (sd_event_now(client->event, CLOCK_MONOTONIC, &now) < 0)
                return false;
        bool paused = false;
        for (size_t i = client->pauses.n; i > 0; i--) {
                if (client->pauses.items[i - 1].until_us <= now)
                        array_remove(&client->pauses, i - 1);
                else if (pci_address_equal(client->pauses.items[i - 1].gpu, gpu))
                        paused = true;
        }
        return paused;
}

static Connection *find_free(ProbeClient *client) {
        for (size_t i = 0; i < PROBE_CONNECTIONS_MAX; i++)
                if (client->connections[i].fd < 0)
                        return &client->connections[i];
        return NULL;
}

static int on_start(sd_event_source *source, void *userdata) {
        ProbeClient *client = userdata;
        Connection *connection;
        while (client->queue.n > 0 && (connection = find_free(client))) {
                PciAddress gpu = client->queue.items[0];
                array_remove(&client->queue, 0);
                if (is_paused(client, gpu)) {
                        client->answered(client->userdata, gpu, NULL);
                        continue;
                }
                if (open_connection(connection, gpu) < 0)
                        finish(connection, false);
        }
        return 0;
}

int probe_client_new(ProbeClient **ret, sd_event *event, const char *socket_path, uint64_t deadline_us,
                     ProbeAnswered answered, void *userdata) {
        _cleanup_(probe_client_freep) ProbeClient *client = calloc(1, sizeof(ProbeClient));
        if (!client)
                return -ENOMEM;
        for (size_t i = 0; i < PROBE_CONNECTIONS_MAX; i++)
                client->connections[i] = (Connection) { .client = client, .fd = -1 };
        client->event = sd_event_ref(event);
        client->deadline_us = deadline_us;
        client->answered = answered;
        client->userdata = userdata;
        client->socket.sun_family = AF_UNIX;
        if (strlen(socket_path) >= sizeof(client->socket.sun_path))
                return -ENAMETOOLONG;
        memcpy(client->socket.sun_path, socket_path, strlen(socket_path) + 1);

        int r = sd_event_add_defer(event, &client->start, on_start, client);
        if (r >= 0)
                r = sd_event_source_set_enabled(client->start, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(client);
        return 0;
}

ProbeClient *probe_client_free(ProbeClient *client) {
        if (!client)
                return NULL;
        for (size_t i = 0; i < PROBE_CONNECTIONS_MAX; i++)
                close_connection(&client->connections[i]);
        client->start = sd_event_source_disable_unref(client->start);
        client->event = sd_event_unref(client->event);
        array_clear(&client->queue);
        array_clear(&client->pauses);
        free(client);
        return NULL;
}

static bool find_queued(const ProbeClient *client, PciAddress gpu, size_t *ret) {
        for (size_t i = 0; i < client->queue.n; i++)
                if (pci_address_equal(client->queue.items[i], gpu)) {
                        *ret = i;
                        return true;
                }
        return false;
}

int probe_client_ask(ProbeClient *client, PciAddress gpu) {
        size_t at;
        if (find_queued(client, gpu, &at))
                return 0;
        int r = array_append(&client->queue, &gpu);
        if (r < 0)
                return r;
        start_later(client);
        return 0;
}

void probe_client_forget(ProbeClient *client, PciAddress gpu) {
        size_t at;
        if (find_queued(client, gpu, &at))
                array_remove(&client->queue, at);
        for (size_t i = 0; i < PROBE_CONNECTIONS_MAX; i++)
                if (client->connections[i].fd >= 0 && pci_address_equal(client->connections[i].gpu, gpu))
                        close_connection(&client->connections[i]);
}
