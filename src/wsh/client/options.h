/* The command line of wsh as values. */

#ifndef WSH_CLIENT_OPTIONS_H
#define WSH_CLIENT_OPTIONS_H

#include "common.h"

#define RLIMITS_MAX 16
#define RUN_DIRECTORY "/run/bailey"

enum action { ACTION_SESSION, ACTION_COPY, ACTION_LOGS, ACTION_LIST, ACTION_HELP, ACTION_VERSION };
enum tty { TTY_AUTO, TTY_ALWAYS, TTY_NEVER };

struct rlimit_option {
    uint32_t resource;
    uint64_t soft, hard; /* all ones: unlimited */
};

/* All strings are those of main's arguments. */
struct options {
    enum action action;
    const char *run_directory;
    const char *name; /* of the instance */
    const char *user, *directory;
    const char **environment; /* K=V, up to NULL */
    char **command;           /* words up to NULL; NULL for a shell */
    enum tty tty;
    bool has_umask, kill_on_disconnect, runtime;
    uint32_t umask;
    size_t rlimit_count;
    struct rlimit_option rlimits[RLIMITS_MAX];
    bool follow;
    const char *tail;                 /* of logs */
    const char *source, *destination; /* of cp */
};

/* Reads the arguments; BAILEY_RUN_DIR is the default of --run-dir. */
int options_read(struct options *options, int count, char **arguments, struct failure *failure);

extern const char options_help[];

#endif
