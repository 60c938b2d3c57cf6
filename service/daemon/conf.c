/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/conf.h"

#include <errno.h>
#include <ini.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/id.h"
#include "core/names.h"
#include "util/array.h"
#include "util/log.h"
#include "util/text.h"

#define SECOND_US UINT64_C(1000000)
#define PEER_ADDRESSES_MAX 8U           /* no more fit into an invitation */

typedef enum SettingKind {
        SETTING_TEXT,
        SETTING_NAME,
        SETTING_PATH,
        SETTING_TIME,
        SETTING_NUMBER,
        SETTING_LOG_LEVEL,
        SETTING_ROLE,
        SETTING_ADDRESSES,
        SETTING_PROFILE,
        SETTING_LEASE_END,
} SettingKind;

typedef struct Setting {
        const char *section, *key, *preset;
        SettingKind kind;
        size_t offset;
        uint64_t least, most;           /* times in us */
} Setting;

#define AT(member) offsetof(Conf, member)

static const Setting settings[] = {
        { "Node", "Name", NULL, SETTING_NAME, AT(node_name), 0, 0 },
        { "Node", "StateDirectory", "/var/lib/gpupool", SETTING_PATH, AT(state_directory), 0, 0 },
        { "Node", "Role", "node", SETTING_ROLE, AT(witness), 0, 0 },
        { "Peer", "Listen", "[::]:7411", SETTING_ADDRESSES, AT(listen), 1, PEER_ADDRESSES_MAX },
        { "Peer", "Addresses", NULL, SETTING_ADDRESSES, AT(addresses), 0, PEER_ADDRESSES_MAX },
        { "Bus", "JobsPerUser", "64", SETTING_NUMBER, AT(jobs_per_user), 1, 10000 },
        { "Bus", "QuestionsPerUser", "16", SETTING_NUMBER, AT(questions_per_user), 1, 1000 },
        { "Bus", "JobLinger", "60s", SETTING_TIME, AT(job_linger_us), 0, 86400 * SECOND_US },
        { "Libvirt", "Uri", "qemu:///system", SETTING_TEXT, AT(libvirt_uri), 0, 0 },
        { "Libvirt", "QueryTimeout", "10s", SETTING_TIME, AT(query_timeout_us), 100000, 600 * SECOND_US },
        { "Libvirt", "StartTimeout", "300s", SETTING_TIME, AT(start_timeout_us), SECOND_US, 86400 * SECOND_US },
        { "Libvirt", "StopTimeout", "30s", SETTING_TIME, AT(stop_timeout_us), SECOND_US, 3600 * SECOND_US },
        { "Libvirt", "ShutdownTimeout", "180s", SETTING_TIME, AT(shutdown_timeout_us), SECOND_US, 86400 * SECOND_US },
        { "Guard", "Socket", "/run/gpupool-guard/guard.sock", SETTING_PATH, AT(guard_socket), 0, 0 },
        { "Probe", "Socket", "/run/gpupool-probe/probe.sock", SETTING_PATH, AT(probe_socket), 0, 0 },
        { "Probe", "Timeout", "10s", SETTING_TIME, AT(probe_timeout_us), 100000, 600 * SECOND_US },
        { "Bind", "Socket", "/run/gpupool-bind/bind.sock", SETTING_PATH, AT(bind_socket), 0, 0 },
        { "Bind", "Timeout", "30s", SETTING_TIME, AT(bind_timeout_us), SECOND_US, 600 * SECOND_US },
        { "Udev", "Coalesce", "50ms", SETTING_TIME, AT(coalesce_us), 0, 10 * SECOND_US },
        { "Registry", "SnapshotEntries", "4096", SETTING_NUMBER, AT(snapshot_entries), 16, 1000000 },
        { "Registry", "CallTimeout", "20s", SETTING_TIME, AT(call_timeout_us), SECOND_US, 600 * SECOND_US },
        { "Registry", "ReplaceAfter", "30s", SETTING_TIME, AT(replace_after_us), SECOND_US, 86400 * SECOND_US },
        { "Lease", "Profile", "default", SETTING_PROFILE, AT(lease_fast), 0, 0 },
        { "Lease", "Request", NULL, SETTING_TIME, AT(lease_times.request_us), 1000, 60 * SECOND_US },
        { "Lease", "Duration", NULL, SETTING_TIME, AT(lease_times.lease_us), 1000, 600 * SECOND_US },
        { "Lease", "KillTime", NULL, SETTING_TIME, AT(lease_times.kill_us), 1000, 60 * SECOND_US },
        { "Lease", "Drift", "1000", SETTING_NUMBER, AT(lease_drift_ppm), 1, 1000000 },
        { "Lease", "OnLeaseEnd", "kill", SETTING_LEASE_END, AT(lease_times.hold_us), 0, 0 },
        { "Fencing", "AgentDirectory", "/usr/sbin", SETTING_PATH, AT(fence_directory), 0, 0 },
        { "Fencing", "Timeout", "40s", SETTING_TIME, AT(fence_timeout_us), SECOND_US, 600 * SECOND_US },
        { "Log", "Level", "info", SETTING_LOG_LEVEL, AT(log_level), 0, 0 },
};

void conf_clear(Conf *conf) {
        free(conf->node_name);
        free(conf->state_directory);
        free(conf->libvirt_uri);
        free(conf->guard_socket);
        free(conf->probe_socket);
        free(conf->bind_socket);
        free(conf->fence_directory);
        text_list_clear(&conf->listen);
        text_list_clear(&conf->addresses);
        *conf = (Conf) {};
}

int conf_parse_time(const char *text, uint64_t *ret_us) {
        static const struct {
                const char *unit;
                uint64_t us;
        } units[] = { { "ms", 1000 }, { "min", 60 * SECOND_US }, { "s", SECOND_US }, { "h", 3600 * SECOND_US },
                      { "", SECOND_US } };
        size_t digits = strspn(text, "0123456789");
        char number[24];
        uint64_t value;
        if (digits == 0 || digits >= sizeof(number))
                return -EINVAL;
        memcpy(number, text, digits);
        number[digits] = '\0';
        int r = text_to_u64(number, 10, &value);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTS(units); i++) {
                if (!text_equal(text + digits, units[i].unit))
                        continue;
                if (value > UINT64_MAX / units[i].us)
                        return -ERANGE;
                *ret_us = value * units[i].us;
                return 0;
        }
        return -EINVAL;
}

static int set_number(const Setting *setting, void *target, const char *value) {
        uint64_t number;
        int r = setting->kind == SETTING_TIME ? conf_parse_time(value, &number) : text_to_u64(value, 10, &number);
        if (r < 0)
                return r;
        if (number < setting->least || number > setting->most)
                return -ERANGE;
        if (setting->kind == SETTING_TIME)
                *(uint64_t *) target = number;
        else
                *(uint32_t *) target = (uint32_t) number;
        return 0;
}

/* "10.0.0.1:7411", "[fd77::1]:7411", "name:7411": a host and a port. */
static bool is_address(const char *text) {
        const char *colon = strrchr(text, ':');
        uint64_t port;
        if (!colon || colon == text || strlen(text) > ADDRESS_LENGTH_MAX || !text_is_printable(text) ||
            text_to_u64(colon + 1, 10, &port) < 0 || port == 0 || port > UINT16_MAX)
                return false;
        bool bracketed = text[0] == '[' && colon[-1] == ']' && colon - text > 2;
        return bracketed || (text[0] != '[' && !memchr(text, ':', (size_t) (colon - text)));
}

/* Addresses with blanks between them. */
static int set_addresses(const Setting *setting, TextList *target, const char *value) {
        TextList list = {};
        _cleanup_free_ char *copy = strdup(value);
        int r = copy ? 0 : -ENOMEM;
        char *rest = NULL;
        for (char *word = r < 0 ? NULL : strtok_r(copy, " \t", &rest); word && r >= 0;
             word = strtok_r(NULL, " \t", &rest))
                r = is_address(word) ? text_list_add(&list, word) : -EINVAL;
        if (r >= 0 && (list.n < setting->least || list.n > setting->most))
                r = -ERANGE;
        if (r < 0) {
                text_list_clear(&list);
                return r;
        }
        text_list_clear(target);
        *target = list;
        return 0;
}

static int set_role(bool *target, const char *value) {
        if (!text_equal(value, "node") && !text_equal(value, "witness"))
                return -EINVAL;
        *target = text_equal(value, "witness");
        return 0;
}

static int set_profile(bool *target, const char *value) {
        if (!text_equal(value, "default") && !text_equal(value, "fast"))
                return -EINVAL;
        *target = text_equal(value, "fast");
        return 0;
}

/* "kill", or "hold 10s". */
static int set_lease_end(uint64_t *target, const char *value) {
        static const char hold[] = "hold ";
        uint64_t us = 0;
        if (!text_equal(value, "kill")) {
                int r = strncmp(value, hold, strlen(hold)) == 0 ? conf_parse_time(value + strlen(hold), &us) : -EINVAL;
                if (r < 0 || us == 0)
                        return r < 0 ? r : -EINVAL;
        }
        *target = us;
        return 0;
}

/* 0, -EINVAL, -ERANGE or -ENOMEM. */
static int set_value(Conf *conf, const Setting *setting, const char *value) {
        void *target = (char *) conf + setting->offset;
        switch (setting->kind) {
        case SETTING_NAME:
                return name_is_valid(value) ? text_set(target, value) : -EINVAL;
        case SETTING_PATH:
                return value[0] == '/' ? text_set(target, value) : -EINVAL;
        case SETTING_TEXT:
                return *value ? text_set(target, value) : -EINVAL;
        case SETTING_TIME:
        case SETTING_NUMBER:
                return set_number(setting, target, value);
        case SETTING_LOG_LEVEL:
                /* People write "error"; syslog says "err". */
                return log_level_from_text(text_equal(value, "error") ? "err" : value, target);
        case SETTING_ROLE:
                return set_role(target, value);
        case SETTING_ADDRESSES:
                return set_addresses(setting, target, value);
        case SETTING_PROFILE:
                return set_profile(target, value);
        case SETTING_LEASE_END:
                return set_lease_end(target, value);
        }
        return -EINVAL;
}

static const char *describe(const Setting *setting) {
        switch (setting->kind) {
        case SETTING_NAME:
                return "1 to 63 letters, digits, dots, dashes and underscores";
        case SETTING_PATH:
                return "an absolute path";
        case SETTING_TEXT:
                return "a text that is not empty";
        case SETTING_TIME:
                return "a time such as 500ms, 10s or 3min, within its bounds";
        case SETTING_NUMBER:
                return "a number within its bounds";
        case SETTING_LOG_LEVEL:
                return "error, warning, notice, info or debug";
        case SETTING_ROLE:
                return "node or witness";
        case SETTING_ADDRESSES:
                return "addresses with their ports, such as 10.0.0.1:7411 or [fd00::1]:7411, at most eight";
        case SETTING_PROFILE:
                return "default or fast";
        case SETTING_LEASE_END:
                return "kill, or hold with a time such as hold 10s";
        }
        return "something else";
}

typedef struct Reading {
        Conf *conf;
        char **reterr_sentence;
        int error;
} Reading;

/* inih's handler: 0 ends the reading at this line. */
static int take_setting(void *userdata, const char *section, const char *key, const char *value) {
        Reading *reading = userdata;
        for (size_t i = 0; i < ELEMENTS(settings); i++) {
                if (!text_equal(section, settings[i].section) || !text_equal(key, settings[i].key))
                        continue;
                int r = set_value(reading->conf, settings + i, value);
                if (r >= 0)
                        return 1;
                reading->error = r == -ENOMEM ? r : -EINVAL;
                (void) text_printf(reading->reterr_sentence, "%s= must be %s", key, describe(settings + i));
                return 0;
        }
        reading->error = -EINVAL;
        (void) text_printf(reading->reterr_sentence, "there is no setting %.64s= in [%.64s]", key, section);
        return 0;
}

static int set_presets(Conf *conf) {
        for (size_t i = 0; i < ELEMENTS(settings); i++) {
                int r = settings[i].preset ? set_value(conf, settings + i, settings[i].preset) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_node_name(Conf *conf, char **reterr_sentence) {
        char host[256];
        if (conf->node_name)
                return 0;
        if (gethostname(host, sizeof(host) - 1) < 0)
                return -errno;
        host[sizeof(host) - 1] = '\0';
        host[strcspn(host, ".")] = '\0';
        if (name_is_valid(host))
                return text_set(&conf->node_name, host);
        (void) text_printf(reterr_sentence, "the host's name is no name for a node: set Name= in [Node]");
        return -EINVAL;
}

/* What the file leaves open is the profile's; and all of it together must keep P1. */
static int set_lease_times(const char *path, Conf *conf, char **reterr_sentence) {
        const LeaseTimes *preset = conf->lease_fast ? &lease_times_fast : &lease_times_default;
        LeaseTimes *times = &conf->lease_times;
        _cleanup_free_ char *why = NULL;
        times->request_us = times->request_us ? times->request_us : preset->request_us;
        times->lease_us = times->lease_us ? times->lease_us : preset->lease_us;
        times->kill_us = times->kill_us ? times->kill_us : preset->kill_us;
        times->drift_ppm = conf->lease_drift_ppm;
        int r = lease_times_check(times, &why);
        if (r != 0)
                return r < 0 ? r : 0;
        (void) text_printf(reterr_sentence, "%s, [Lease]: %s", path, why);
        return -EINVAL;
}

static int read_file(const char *path, FILE *file, Conf *conf, char **reterr_sentence) {
        _cleanup_free_ char *why = NULL;
        Reading reading = { .conf = conf, .reterr_sentence = &why };
        int line = ini_parse_file(file, take_setting, &reading);
        if (line == 0)
                return 0;
        if (reading.error == -ENOMEM || line == -2)
                return -ENOMEM;
        (void) text_printf(reterr_sentence, "%s, line %d: %s", path, line,
                           why ? why : "this is no setting: write Key=value");
        return -EINVAL;
}

static void fclosep(FILE **file) {
        if (*file)
                (void) fclose(*file);
}

int conf_load(const char *path, bool must_exist, Conf *ret, char **reterr_sentence) {
        _cleanup_(conf_clear) Conf conf = {};
        int r = set_presets(&conf);
        if (r < 0)
                return r;

        _cleanup_(fclosep) FILE *file = fopen(path, "re");
        struct stat st;
        if (!file && (errno != ENOENT || must_exist)) {
                r = -errno;
                (void) text_printf(reterr_sentence, "%s cannot be read: %s", path, strerror(-r));
                return r;
        }
        if (file && fstat(fileno(file), &st) == 0 && !S_ISREG(st.st_mode)) {
                (void) text_printf(reterr_sentence, "%s is not a file", path);
                return -EINVAL;
        }
        if (file) {
                r = read_file(path, file, &conf, reterr_sentence);
                if (r < 0)
                        return r;
        }
        r = set_node_name(&conf, reterr_sentence);
        if (r >= 0)
                r = set_lease_times(path, &conf, reterr_sentence);
        if (r < 0)
                return r;
        *ret = conf;
        conf = (Conf) {};
        return 0;
}
