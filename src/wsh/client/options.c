/* The command line of wsh; see options.h. */

#include "client/options.h"

#include <stdlib.h>
#include <string.h>

#include "client/rlimits.h"

const char options_help[] =
    "usage: wsh NAME [OPTION...] [-- COMMAND...]   run a command in an instance, or a shell\n"
    "       wsh cp SOURCE DESTINATION              copy; one of the two is NAME:PATH\n"
    "       wsh logs NAME [-f] [--tail N]          show what an instance has printed\n"
    "       wsh ls                                 list the instances of this host\n"
    "\n"
    "  -e, --env K=V             set a variable (may be repeated)\n"
    "  -w, --workdir DIR         start in this directory\n"
    "  -t, --tty                 give the command a terminal (a shell gets one if stdin is one)\n"
    "  -T, --no-tty              give it none\n"
    "  -u, --user USER           run as this user: another than the instance's own goes through the runtime\n"
    "      --umask MODE          the command's umask, octal\n"
    "      --rlimit NAME=SOFT[:HARD]  lower a resource limit, such as nofile=64 (may be repeated)\n"
    "      --kill-on-disconnect  kill the whole session if wsh or its readers end before it\n"
    "      --runtime             use the container runtime's own exec, for when the instance does not answer\n"
    "      --run-dir DIR         where the agent's sockets are (default: $BAILEY_RUN_DIR or " RUN_DIRECTORY ")\n"
    "      --version, --help\n"
    "\n"
    "wsh exits as the command did: its code, 128 + N where signal N ended it, 125 where wsh itself failed, 126 or\n"
    "127 where the command cannot be executed or is not there.\n";

/* What is being read. */
struct reader {
    struct options *options;
    struct failure *failure;
    char **next, **end;
    size_t environment_count;
    size_t words; /* without a dash, so far */
};

/* Each reads its option's value, or sets its flag. */
typedef int (*setter)(struct reader *reader, const char *value);

static int set_environment(struct reader *reader, const char *value)
{
    struct options *options = reader->options;
    if (!strchr(value, '=') || value[0] == '=')
        return fail(reader->failure, 0, "-e %s: a variable is written NAME=VALUE", value);
    if (!options->environment) /* there cannot be more than there are arguments */
        options->environment = calloc((size_t)(reader->end - reader->next) + 2, sizeof *options->environment);
    if (!options->environment)
        return fail(reader->failure, ENOMEM, "-e");
    options->environment[reader->environment_count++] = value;
    return 0;
}

static int set_directory(struct reader *reader, const char *value)
{
    reader->options->directory = value;
    return 0;
}

static int set_user(struct reader *reader, const char *value)
{
    reader->options->user = value;
    return value[0] ? 0 : fail(reader->failure, 0, "-u needs a user");
}

static int set_run_directory(struct reader *reader, const char *value)
{
    reader->options->run_directory = value;
    return value[0] ? 0 : fail(reader->failure, 0, "--run-dir needs a directory");
}

static int set_tty(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->tty = TTY_ALWAYS;
    return 0;
}

static int set_no_tty(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->tty = TTY_NEVER;
    return 0;
}

static int set_umask(struct reader *reader, const char *value)
{
    char *end;
    unsigned long mode = strtoul(value, &end, 8);
    if (value[0] < '0' || value[0] > '7' || *end || mode > 0777)
        return fail(reader->failure, 0, "--umask %s: allowed are octal numbers from 0 to 777", value);
    reader->options->umask = (uint32_t)mode;
    reader->options->has_umask = true;
    return 0;
}

static int set_rlimit(struct reader *reader, const char *value)
{
    struct options *options = reader->options;
    if (options->rlimit_count == RLIMITS_MAX)
        return fail(reader->failure, 0, "--rlimit: at most %d of them", RLIMITS_MAX);
    return rlimit_read(&options->rlimits[options->rlimit_count++], value, reader->failure);
}

static int set_kill_on_disconnect(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->kill_on_disconnect = true;
    return 0;
}

static int set_runtime(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->runtime = true;
    return 0;
}

static int set_follow(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->follow = true;
    return 0;
}

static int set_tail(struct reader *reader, const char *value)
{
    if (strcmp(value, "all") && (!value[0] || value[strspn(value, "0123456789")]))
        return fail(reader->failure, 0, "--tail %s: allowed are numbers, and all", value);
    reader->options->tail = value;
    return 0;
}

/* A copy takes all there is below a directory anyway, with its attributes. */
static int set_nothing(struct reader *reader, const char *value)
{
    (void)reader;
    (void)value;
    return 0;
}

static int set_help(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->action = ACTION_HELP;
    return 0;
}

static int set_version(struct reader *reader, const char *value)
{
    (void)value;
    reader->options->action = ACTION_VERSION;
    return 0;
}

#define FOR(action) (1u << (action))
#define FOR_ALL (FOR(ACTION_SESSION) | FOR(ACTION_COPY) | FOR(ACTION_LOGS) | FOR(ACTION_LIST))

static const struct option {
    char letter; /* or 0 */
    const char *word;
    bool takes_value;
    unsigned actions;
    setter set;
} known[] = {
    {'e', "env", true, FOR(ACTION_SESSION), set_environment},
    {'w', "workdir", true, FOR(ACTION_SESSION), set_directory},
    {'u', "user", true, FOR(ACTION_SESSION), set_user},
    {'t', "tty", false, FOR(ACTION_SESSION), set_tty},
    {'T', "no-tty", false, FOR(ACTION_SESSION), set_no_tty},
    {0, "umask", true, FOR(ACTION_SESSION), set_umask},
    {0, "rlimit", true, FOR(ACTION_SESSION), set_rlimit},
    {0, "kill-on-disconnect", false, FOR(ACTION_SESSION), set_kill_on_disconnect},
    {0, "runtime", false, FOR(ACTION_SESSION), set_runtime},
    {'f', "follow", false, FOR(ACTION_LOGS), set_follow},
    {'n', "tail", true, FOR(ACTION_LOGS), set_tail},
    {'r', "recursive", false, FOR(ACTION_COPY), set_nothing},
    {0, "run-dir", true, FOR_ALL, set_run_directory},
    {'h', "help", false, FOR_ALL, set_help},
    {0, "version", false, FOR_ALL, set_version},
};

static const struct option *find_option(const char *word, size_t length, bool is_long)
{
    for (size_t i = 0; i < ARRAY_LENGTH(known); i++)
        if (is_long ? strlen(known[i].word) == length && !memcmp(known[i].word, word, length)
                    : known[i].letter == word[0])
            return &known[i];
    return NULL;
}

static int no_such_option(struct reader *reader, const char *word)
{
    return fail(reader->failure, 0, "there is no option %s here; wsh --help lists them", word);
}

static int take(struct reader *reader, const struct option *option, const char *word, const char *value)
{
    if (!(option->actions & FOR(reader->options->action)))
        return no_such_option(reader, word);
    if (!option->takes_value && value)
        return fail(reader->failure, 0, "%s takes no value", word);
    if (option->takes_value && !value) {
        if (reader->next == reader->end)
            return fail(reader->failure, 0, "%s needs a value", word);
        value = *reader->next++;
    }
    return option->set(reader, value);
}

static int read_long(struct reader *reader, const char *word)
{
    size_t length = strcspn(word + 2, "=");
    const struct option *option = find_option(word + 2, length, true);
    if (!option)
        return no_such_option(reader, word);
    return take(reader, option, word, word[2 + length] ? word + 2 + length + 1 : NULL);
}

/* -turoot is -t -u root. */
static int read_letters(struct reader *reader, const char *word)
{
    for (const char *letter = word + 1; *letter; letter++) {
        const struct option *option = find_option(letter, 1, false);
        if (!option)
            return no_such_option(reader, word);
        bool glued = option->takes_value && letter[1];
        int result = take(reader, option, word, glued ? letter + 1 : NULL);
        if (result < 0 || glued)
            return result;
    }
    return 0;
}

/* The first word is a command of wsh's own, unless an option of a session stands before it: `wsh -T ls` is the
 * instance of that name. */
static bool is_command(struct reader *reader, const char *word, bool plain)
{
    static const struct {
        const char *word;
        enum action action;
    } commands[] = {{"cp", ACTION_COPY}, {"logs", ACTION_LOGS}, {"ls", ACTION_LIST}};
    for (size_t i = 0; plain && i < ARRAY_LENGTH(commands); i++)
        if (!strcmp(word, commands[i].word)) {
            reader->options->action = commands[i].action;
            return true;
        }
    return false;
}

static int read_word(struct reader *reader, const char *word)
{
    struct options *options = reader->options;
    size_t place = reader->words++;
    if (options->action == ACTION_COPY && place < 2) {
        *(place ? &options->destination : &options->source) = word;
        return 0;
    }
    if (options->action != ACTION_COPY && options->action != ACTION_LIST && !place) {
        options->name = word;
        return 0;
    }
    if (options->action == ACTION_SESSION)
        return fail(reader->failure, 0, "%s: a command stands behind --, as in wsh %s -- %s", word, options->name,
                    word);
    return fail(reader->failure, 0, "%s: one word too many", word);
}

static int check_words(const struct reader *reader)
{
    const struct options *options = reader->options;
    if (options->action == ACTION_COPY && !options->destination)
        return fail(reader->failure, 0, "wsh cp needs a source and a destination");
    if ((options->action == ACTION_SESSION || options->action == ACTION_LOGS) && !options->name)
        return fail(reader->failure, 0, "the name of an instance is missing; wsh ls lists them, wsh --help explains");
    return 0;
}

static bool is_final(const struct options *options)
{
    return options->action == ACTION_HELP || options->action == ACTION_VERSION;
}

/* Reads one argument, and those that belong to it. */
static int read_argument(struct reader *reader, bool *plain)
{
    char *word = *reader->next++;
    if (word[0] != '-' || !word[1])
        return is_command(reader, word, *plain && !reader->words) ? 0 : read_word(reader, word);
    if (strncmp(word, "--run-dir", 9))
        *plain = false;
    return word[1] == '-' ? read_long(reader, word) : read_letters(reader, word);
}

int options_read(struct options *options, int count, char **arguments, struct failure *failure)
{
    struct reader reader = {options, failure, arguments + 1, arguments + count, 0, 0};
    const char *run_directory = getenv("BAILEY_RUN_DIR");
    bool plain = true;
    *options = (struct options){.run_directory = run_directory && *run_directory ? run_directory : RUN_DIRECTORY};
    while (reader.next < reader.end) {
        if (!strcmp(*reader.next, "--") && options->action == ACTION_SESSION) {
            options->command = ++reader.next;
            if (reader.next == reader.end)
                return fail(failure, 0, "the command behind -- is missing");
            break;
        }
        int result = read_argument(&reader, &plain);
        if (result < 0 || is_final(options))
            return result;
    }
    return check_words(&reader);
}
