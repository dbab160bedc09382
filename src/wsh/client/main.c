/* wsh: the operator's client of wshd. It says what it has to say on stderr, in one line, and exits as the command
 * did. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "client/copy.h"
#include "client/dial.h"
#include "client/runtime.h"
#include "client/session.h"
#include "client/table.h"

/* A descriptor that is closed would be given to the first file that is opened, and be written to by mistake. */
static void fill_standard_descriptors(void)
{
    for (int descriptor = 0; descriptor <= STDERR_FILENO; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            _exit(EXIT_SELF);
}

static int run_session(const struct options *options, struct failure *failure)
{
    static const struct ends ends = {.in = STDIN_FILENO, .out = STDOUT_FILENO, .error = STDERR_FILENO};
    bool tty = options->tty == TTY_ALWAYS || (options->tty == TTY_AUTO && !options->command && isatty(STDIN_FILENO));
    if (!options->runtime)
        return session_run(options, &ends, tty, failure);
    runtime_exec(options, tty, failure);
    return EXIT_SELF;
}

static int run(const struct options *options, struct failure *failure)
{
    switch (options->action) {
    case ACTION_SESSION:
        return run_session(options, failure);
    case ACTION_COPY:
        return copy_run(options, failure);
    case ACTION_LOGS:
        runtime_logs(options, failure);
        return EXIT_SELF;
    case ACTION_LIST:
        return table_print(options->run_directory, failure) < 0 ? EXIT_SELF : 0;
    case ACTION_HELP:
        fputs(options_help, stdout);
        return 0;
    case ACTION_VERSION:
        printf("wsh %s, protocol %d\n", WSH_BUILD, PROTOCOL_VERSION);
        return 0;
    }
    return EXIT_SELF;
}

int main(int count, char **arguments)
{
    struct options options;
    struct failure failure = {0};
    fill_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    if (options_read(&options, count, arguments, &failure) < 0)
        die(EXIT_SELF, "%s", failure.text);
    int status = run(&options, &failure);
    if (failure.text[0])
        say("%s", failure.text);
    return status;
}
