/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/ctl.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/find.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/verbs.h"

Status ctl_connect(Ctl *ctl) {
        if (ctl->bus)
                return STATUS_DONE;
        int r = bus_open(ctl->address, &ctl->bus);
        if (r < 0)
                return ctl_fail(ctl, STATUS_UNREACHABLE, NULL, "The %s cannot be reached: %s.%s",
                                ctl->address ? "bus at that address" : "system bus", strerror(-r),
                                ctl->address ? "" : " See: systemctl status dbus");
        return STATUS_DONE;
}

static Status read_cluster(Ctl *ctl, Objects *objects) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, "org.freedesktop.DBus.Properties", "GetAll");
        request_append(&request, "s", INTERFACE_MANAGER);
        Status status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = objects_read_cluster(objects, answer);
        return r < 0 ? request_refuse_answer(ctl, &request, r) : STATUS_DONE;
}

Status ctl_load(Ctl *ctl, Objects **ret) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        _cleanup_(objects_freep) Objects *objects = objects_new();
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, "org.freedesktop.DBus.ObjectManager",
                      "GetManagedObjects");
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = objects_read(objects, answer);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        status = read_cluster(ctl, objects);
        if (status != STATUS_DONE)
                return status;
        *ret = STEAL(objects);
        return STATUS_DONE;
}

static const char *kind_word(ObjectKind kind) {
        switch (kind) {
        case KIND_NODE:
                return "node";
        case KIND_GPU:
                return "GPU";
        case KIND_POOL:
                return "pool";
        case KIND_VM:
                return "VM";
        case KIND_JOB:
                return "job";
        case KIND_COUNT:
                break;
        }
        return "object";
}

static const char *kind_noun(ObjectKind kind) {
        switch (kind) {
        case KIND_NODE:
                return "node";
        case KIND_GPU:
                return "gpu";
        case KIND_POOL:
                return "pool";
        case KIND_VM:
                return "vm";
        case KIND_JOB:
        case KIND_COUNT:
                break;
        }
        return "job";
}

Status ctl_find(Ctl *ctl, const Objects *objects, ObjectKind kind, const char *typed, size_t *ret_index) {
        _cleanup_free_ char *hint = NULL;
        switch (objects_find(objects, kind, typed, ret_index, &hint)) {
        case FIND_FOUND:
                return STATUS_DONE;
        case FIND_SEVERAL:
                return ctl_fail(ctl, STATUS_FAILED, ERROR_NOT_FOUND, "%s is the name of several: %s. Say which.", typed,
                                hint);
        case FIND_NOTHING:
                break;
        }
        const char *verb = verb_nearest(kind_noun(kind), typed);
        if (hint)
                return ctl_fail(ctl, STATUS_FAILED, ERROR_NOT_FOUND, "There is no %s %s. Did you mean %s?",
                                kind_word(kind), typed, hint);
        if (verb)
                return ctl_fail(ctl, STATUS_FAILED, ERROR_NOT_FOUND,
                                "There is no %s %s. Did you mean gpupoolctl %s %s?",
                                kind_word(kind), typed, kind_noun(kind), verb);
        return ctl_fail(ctl, STATUS_FAILED, ERROR_NOT_FOUND, "There is no %s %s. What there is: gpupoolctl %s list",
                        kind_word(kind), typed, kind_noun(kind));
}

void ctl_tell(Ctl *ctl, const char *format, ...) {
        if (ctl->quiet || ctl->json)
                return;
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *line = must_vprintf(format, ap);
        va_end(ap);
        screen_say(&ctl->out, "%s", line);
}

void ctl_hint(Ctl *ctl, const char *format, ...) {
        if (ctl->quiet)
                return;
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *line = must_vprintf(format, ap);
        va_end(ap);
        screen_say(&ctl->err, "%s", line);
}

void ctl_answer(Ctl *ctl, struct json_object *document) {
        if (ctl->error)
                json_put(document, "error", json_object_get(ctl->error));
        json_write(document, JSON_PRETTY, ctl->out.file);
        json_object_put(document);
        ctl->answered = true;
}

void ctl_answer_deleted(Ctl *ctl, const char *kind, const TextList *names) {
        Json *document = json_map(), *deleted = json_list();
        for (size_t i = 0; i < names->n; i++) {
                Json *item = json_map();
                json_put_text(item, "kind", kind);
                json_put_text(item, "name", names->items[i]);
                json_push(deleted, item);
        }
        json_put(document, "deleted", deleted);
        ctl_answer(ctl, document);
}

static void remember_error(Ctl *ctl, Status status, const char *error_name, const char *sentence) {
        if (ctl->error)
                return;
        ctl->error = json_map();
        json_put_text(ctl->error, "name", error_name);
        json_put_text(ctl->error, "message", sentence);
        json_put_number(ctl->error, "status", (uint64_t) status);
}

Status ctl_fail(Ctl *ctl, Status status, const char *error_name, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *sentence = must_vprintf(format, ap);
        va_end(ap);
        (void) fflush(ctl->out.file);
        screen_say(&ctl->err, "%s", sentence);
        remember_error(ctl, status, error_name, sentence);
        return status;
}

Status ctl_refuse_usage(Ctl *ctl, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *sentence = must_vprintf(format, ap);
        va_end(ap);
        return ctl_fail(ctl, STATUS_USAGE, NULL, "%s", sentence);
}

Status ctl_confirm(Ctl *ctl, Certainty certainty, const char *format, ...) {
        if (ctl->yes)
                return STATUS_DONE;
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *question = must_vprintf(format, ap);
        va_end(ap);
        if (!isatty(STDIN_FILENO) || !ctl->err.terminal) {
                if (certainty == ASK_IF_SOMEONE_IS_THERE)
                        return STATUS_DONE;
                return ctl_refuse_usage(ctl, "%s Nobody is there to ask: say --yes if you are sure.", question);
        }

        _cleanup_free_ char *line = NULL;
        _cleanup_free_ char *ask = must_printf("%s [y/N] ", question);
        screen_ask(&ctl->err, ask);
        size_t allocated = 0;
        if (getline(&line, &allocated, stdin) > 0 && (line[0] == 'y' || line[0] == 'Y'))
                return STATUS_DONE;
        return ctl_fail(ctl, STATUS_FAILED, NULL, "Nothing was done.");
}

Status ctl_confirm_word(Ctl *ctl, const char *assent, bool assented, const char *word, const char *warning) {
        if (ctl->yes || assented)
                return STATUS_DONE;
        if (!isatty(STDIN_FILENO) || !ctl->err.terminal)
                return ctl_refuse_usage(ctl, "%s Nobody is there to ask: say %s if you are sure.", warning, assent);

        _cleanup_free_ char *line = NULL;
        _cleanup_free_ char *ask = must_printf("Type %s to go on: ", word);
        screen_paragraph(&ctl->err, "", STYLE_PLAIN, warning);
        screen_ask(&ctl->err, ask);
        size_t allocated = 0;
        ssize_t length = getline(&line, &allocated, stdin);
        if (length > 0 && line[length - 1] == '\n')
                line[length - 1] = 0;
        if (length > 0 && text_equal(line, word))
                return STATUS_DONE;
        return ctl_fail(ctl, STATUS_FAILED, NULL, "Nothing was done.");
}

/* The command line, as far as it has been understood. */
typedef struct CommandLine {
        const char *noun, *word;        /* borrowed */
        const Verb *verb;
        Args args;
        char *problem;                  /* owned; what is wrong with it */
        bool asks_for_help;
} CommandLine;

static const char *read_plural(const char *noun) {
        static const char *const plurals[][2] = {
                { "gpus", "gpu" }, { "pools", "pool" }, { "vms", "vm" }, { "nodes", "node" }, { "jobs", "job" },
                { "event", "events" }, { "clusters", "cluster" },
        };
        for (size_t i = 0; i < ELEMENTS(plurals); i++)
                if (text_equal(noun, plurals[i][0]))
                        return plurals[i][1];
        return noun;
}

/* Decides what the word behind the noun is: its verb, or what the noun alone works on. */
static int take_verb(CommandLine *line, const char *next) {
        line->verb = next ? verb_find(line->noun, next) : NULL;
        if (line->verb) {
                line->word = next;
                return 1;
        }
        /* "gpu NAME" shows it; so do the others. */
        if (next)
                line->verb = verb_find(line->noun, "show");
        if (!line->verb)
                line->verb = verb_find(line->noun, NULL);
        if (!line->verb && next) {
                const char *meant = verb_nearest(line->noun, next);
                line->problem = meant ? must_printf("gpupoolctl %s has no verb %s. Did you mean %s?", line->noun, next,
                                                    meant) :
                                        must_printf("gpupoolctl %s has no verb %s. What it has: gpupoolctl %s --help",
                                                    line->noun, next, line->noun);
                return -EINVAL;
        }
        return 0;
}

static bool is_plain(const char *word) {
        return word[0] != '-' || !word[1];
}

/* "vm bert start" is as clear as "vm start bert". */
static bool take_verb_behind_name(CommandLine *line, const char *name, const char *next) {
        if (!next || !is_plain(next) || verb_find(line->noun, name))
                return false;
        const Verb *verb = verb_find(line->noun, next);
        if (!verb || verb->least == 0)
                return false;
        line->verb = verb;
        line->word = next;
        MUST(array_append(&line->args.words, &name));
        return true;
}

static int take_noun(CommandLine *line, const char *word) {
        const char *noun = read_plural(word);
        if (noun_is_known(noun)) {
                line->noun = noun;
                return 0;
        }
        const char *meant = noun_nearest(word);
        line->problem = meant ? must_printf("There is no gpupoolctl %s. Did you mean gpupoolctl %s?", word, meant) :
                                must_printf("There is no gpupoolctl %s. What there is: gpupoolctl --help", word);
        return -EINVAL;
}

static int read_command_line(CommandLine *line, int argc, char **argv) {
        bool only_words = false;
        int i = 1;
        if (argc > 1 && text_equal(argv[1], "help")) {
                line->asks_for_help = true;
                i = 2;
        }
        while (i < argc) {
                if (!line->noun && is_plain(argv[i])) {
                        if (take_noun(line, argv[i++]) < 0)
                                return -EINVAL;
                        continue;
                }
                if (line->noun && !line->verb && is_plain(argv[i])) {
                        if (take_verb_behind_name(line, argv[i], argv[i + 1])) {
                                i += 2;
                                continue;
                        }
                        int r = take_verb(line, argv[i]);
                        if (r < 0)
                                return r;
                        i += r;
                        if (r > 0)
                                continue;
                }
                /* "pool --json list" is fine; "events --follow" has no more verb. */
                if (line->noun && !line->verb && !args_is_option(argv[i], global_options))
                        (void) take_verb(line, NULL);
                const Option *own = line->verb ? line->verb->options : NULL;
                if (args_take(&line->args, argv, argc, &i, &only_words, global_options, own, &line->problem) < 0)
                        return -EINVAL;
        }
        line->asks_for_help = line->asks_for_help || args_has(&line->args, "--help");
        return 0;
}

static Status show_help(Ctl *ctl, CommandLine *line) {
        if (!line->noun)
                help_all(&ctl->out);
        else if (!line->verb)
                help_noun(&ctl->out, line->noun);
        else
                help_verb(&ctl->out, line->verb);
        return STATUS_DONE;
}

static Status check_words(Ctl *ctl, const CommandLine *line) {
        const Verb *verb = line->verb;
        size_t n = line->args.words.n;
        if (n >= verb->least && n <= verb->most)
                return STATUS_DONE;

        const char *word = verb->verb ? verb->verb : "";
        /* "vm strat bert": the word that was taken for a name was meant for a verb. */
        if (!line->word && n > verb->most && verb->verb && text_equal(verb->verb, "show")) {
                const char *meant = verb_nearest(line->noun, line->args.words.items[0]);
                return meant ? ctl_refuse_usage(ctl, "gpupoolctl %s has no verb %s. Did you mean %s?", line->noun,
                                                line->args.words.items[0], meant) :
                               ctl_refuse_usage(ctl, "gpupoolctl %s has no verb %s. What it has: gpupoolctl %s --help",
                                                line->noun, line->args.words.items[0], line->noun);
        }
        return ctl_refuse_usage(ctl, "%s: gpupoolctl %s%s%s %s",
                                n < verb->least ? "Something is missing" : "That is too much", line->noun,
                                *word ? " " : "", word, verb->words);
}

static int read_digit(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 hexadecimal digits, as a message printed them. */
static Status read_request_id(Ctl *ctl, const char *text) {
        bool good = strlen(text) == 2 * sizeof(ctl->request_id);
        for (size_t i = 0; good && i < sizeof(ctl->request_id); i++) {
                int high = read_digit(text[2 * i]), low = read_digit(text[2 * i + 1]);
                good = high >= 0 && low >= 0;
                ctl->request_id[i] = (uint8_t) (high * 16 + low);
        }
        ctl->has_request_id = good;
        return good ? STATUS_DONE :
                ctl_refuse_usage(ctl, "--request-id is the 32 digits that gpupoolctl printed when it did not know what "
                                 "became of a change.");
}

static Status run(Ctl *ctl, int argc, char **argv) {
        _cleanup_(args_clear) Args args = {};
        CommandLine line = {};
        int r = read_command_line(&line, argc, argv);
        args = line.args;
        _cleanup_free_ char *problem = line.problem;

        ctl->json = args_has(&args, "--json");
        ctl->quiet = args_has(&args, "--quiet");
        ctl->no_wait = args_has(&args, "--no-wait");
        ctl->yes = args_has(&args, "--yes");
        ctl->no_ask_password = args_has(&args, "--no-ask-password");
        ctl->address = args_value(&args, "--address");
        if (r < 0)
                return ctl_refuse_usage(ctl, "%s", problem);
        if (args_has(&args, "--version")) {
                screen_say(&ctl->out, "gpupoolctl %s", GPUPOOL_VERSION);
                return STATUS_DONE;
        }
        if (line.asks_for_help)
                return show_help(ctl, &line);
        const char *request_id = args_value(&args, "--request-id");
        if (request_id && read_request_id(ctl, request_id) != STATUS_DONE)
                return STATUS_USAGE;
        if (!line.noun) {
                line.noun = "status";
                line.verb = verb_find("status", NULL);
        }
        if (!line.verb && take_verb(&line, NULL) == 0 && !line.verb) {
                help_noun(&ctl->err, line.noun);
                return STATUS_USAGE;
        }
        Status status = check_words(ctl, &line);
        return status == STATUS_DONE ? line.verb->run(ctl, &line.args) : status;
}

int ctl_main(int argc, char **argv) {
        (void) setlocale(LC_CTYPE, "");
        Ctl ctl = {};
        screen_open(&ctl.out, stdout);
        screen_open(&ctl.err, stderr);

        Status status = run(&ctl, argc, argv);

        /* Nothing but one document goes to standard output, whatever happened. */
        if (ctl.json && ctl.error && !ctl.answered)
                ctl_answer(&ctl, json_map());
        json_object_put(ctl.error);
        agent_close(&ctl.agent);
        sd_bus_flush_close_unref(ctl.bus);
        errno = 0;
        if (fflush(stdout) != 0 || ferror(stdout)) {
                fprintf(stderr, "The answer could not be written: %s.\n",
                        errno ? strerror(errno) : "the output is broken");
                return status == STATUS_DONE ? STATUS_FAILED : (int) status;
        }
        return (int) status;
}
