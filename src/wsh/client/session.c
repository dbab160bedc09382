/* One session from its start to its end; see session.h. */

#include "client/session.h"

#include <stdlib.h>

#include "client/forward.h"
#include "client/runtime.h"
#include "client/terminal.h"

/* Whether -u names the user that every session has anyway: UID or UID:GID. */
static bool is_own_user(const char *user, const struct dial *dial)
{
    char *end;
    if (user[0] < '0' || user[0] > '9' || strtoul(user, &end, 10) != dial->peer.uid)
        return false;
    if (*end != ':')
        return !*end;
    const char *group = end + 1;
    return group[0] >= '0' && group[0] <= '9' && strtoul(group, &end, 10) == dial->peer.gid && !*end;
}

/* A newer client speaks the version of an older wshd. */
static int start(struct dial *dial, const struct options *options, const struct winsize *window, int *status,
                 struct failure *failure)
{
    int result = dial_start(dial, options, window, status, failure);
    if (result != -EPROTONOSUPPORT)
        return result;
    uint16_t version = dial->version;
    dial_close(dial);
    result = dial_connect(dial, options, version, failure);
    return result < 0 ? result : dial_start(dial, options, window, status, failure);
}

/* Connects and runs the session; a negative result has not touched the ends. */
static int connect_and_run(const struct options *options, const struct ends *ends, bool tty, struct failure *failure)
{
    struct dial dial;
    struct winsize window;
    int status = EXIT_SELF;
    if (dial_connect(&dial, options, PROTOCOL_VERSION, failure) < 0)
        return -EXIT_SELF;
    if (options->user && !is_own_user(options->user, &dial)) {
        dial_close(&dial);
        say("%s: %s is not its own user: the session goes through the container runtime, past the gate",
            options->name, options->user);
        runtime_exec(options, tty, failure);
        return -EXIT_SELF;
    }
    /* Before the session starts, so that no signal and no new size of the window gets lost. */
    forward_start(tty);
    if (tty)
        terminal_size(&window);
    if (start(&dial, options, tty ? &window : NULL, &status, failure) < 0) {
        dial_close(&dial);
        return -status;
    }
    if (tty)
        terminal_make_raw();
    status = relay_run(&dial, ends, options->kill_on_disconnect, failure);
    terminal_restore();
    dial_close(&dial);
    return status;
}

int session_run(const struct options *options, const struct ends *ends, bool tty, struct failure *failure)
{
    int status = connect_and_run(options, ends, tty, failure), in = ends->in;
    if (status >= 0)
        return status;
    close_descriptor(&in);
    return -status;
}
