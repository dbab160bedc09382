/* The container runtime's own client; see runtime.h. */

#include "client/runtime.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/files.h"
#include "client/instance.h"

#define PREFIX_MAX 4096
#define PREFIX_WORDS 32

/* An argument vector that has room for what the options can add. */
struct words {
    const char **words;
    size_t count;
};

static void add(struct words *words, const char *word)
{
    words->words[words->count++] = word;
}

static size_t length_of(const char *const *words)
{
    size_t length = 0;
    while (words && words[length])
        length++;
    return length;
}

/* Starts the vector with the words of RUN/exec/NAME, each of which ends with NUL. */
static int begin(struct words *words, const struct options *options, struct failure *failure)
{
    static char prefix[PREFIX_MAX];
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/exec/%s", options->run_directory, options->name);
    ssize_t length = read_file(path, prefix, sizeof prefix - 1);
    if (length == -ENOENT)
        return instance_explain(options->run_directory, options->name, ENOENT, failure);
    if (length < 0)
        return fail(failure, (int)-length, "%s", path);
    prefix[length] = 0;
    size_t most = PREFIX_WORDS + 16 + 2 * length_of(options->environment) +
                  length_of((const char *const *)options->command);
    words->words = calloc(most, sizeof *words->words);
    if (!words->words)
        return fail(failure, ENOMEM, "%s", options->name);
    for (const char *word = prefix; word < prefix + length && words->count < PREFIX_WORDS; word += strlen(word) + 1)
        add(words, word);
    if (!words->count || !words->words[0][0])
        return fail(failure, 0, "%s: it holds no command", path);
    return 0;
}

/* The runtime knows the container by its id; where that is not known, by the instance's name. */
static const char *container_of(const struct options *options)
{
    static struct instance instance;
    bool known = instance_read(&instance, options->run_directory, options->name) == 0 && instance.container[0];
    return known ? instance.container : options->name;
}

static int become(const struct words *words, struct failure *failure)
{
    signal(SIGPIPE, SIG_DFL);
    execvp(words->words[0], (char **)(uintptr_t)words->words);
    fail(failure, errno, "%s", words->words[0]);
    free(words->words);
    return -failure->error;
}

static int check_name(const struct options *options, struct failure *failure)
{
    return is_instance_name(options->name)
               ? 0
               : fail(failure, 0, "%s: no instance has such a name; wsh ls lists them", options->name);
}

int runtime_exec(const struct options *options, bool tty, struct failure *failure)
{
    struct words words = {0};
    if (options->has_umask || options->rlimit_count || options->kill_on_disconnect)
        return fail(failure, 0, "--umask, --rlimit and --kill-on-disconnect do not go through the runtime");
    int result = check_name(options, failure);
    if (!result)
        result = begin(&words, options, failure);
    if (result < 0)
        return result;
    add(&words, "exec");
    add(&words, "-i");
    if (tty)
        add(&words, "-t");
    if (options->user) {
        add(&words, "-u");
        add(&words, options->user);
    }
    for (const char **variable = options->environment; variable && *variable; variable++) {
        add(&words, "-e");
        add(&words, *variable);
    }
    if (options->directory) {
        add(&words, "-w");
        add(&words, options->directory);
    }
    add(&words, container_of(options));
    if (!options->command)
        add(&words, "/bin/sh");
    for (char **word = options->command; word && *word; word++)
        add(&words, *word);
    return become(&words, failure);
}

int runtime_logs(const struct options *options, struct failure *failure)
{
    struct words words = {0};
    int result = check_name(options, failure);
    if (!result)
        result = begin(&words, options, failure);
    if (result < 0)
        return result;
    add(&words, "logs");
    if (options->follow)
        add(&words, "-f");
    if (options->tail) {
        add(&words, "--tail");
        add(&words, options->tail);
    }
    add(&words, container_of(options));
    return become(&words, failure);
}
