/* wsh cp: this side of a copy.
 *
 * A process of its own reads or makes this side's files, at one end of a pipe; at the other end is an ordinary session
 * that runs wsh-copy inside of the instance. */

#include "client/copy.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/instance.h"
#include "client/peer.h"
#include "client/session.h"
#include "copy/receive.h"
#include "copy/send.h"

#define CONNECT_MS 10000
#define WSH_COPY_PATH "/.bailey/wsh-copy"

struct plan {
    bool comes_out; /* of the instance */
    char instance[NAME_LENGTH_MAX + 1];
    const char *inside, *here; /* the paths */
    char name[256];            /* what the copy is called where the destination is a directory */
};

/* NAME:PATH. A path of this side that looks like it is written ./NAME:PATH. */
static const char *split_remote(const char *word, char name[NAME_LENGTH_MAX + 1])
{
    size_t length = strcspn(word, ":/");
    if (word[length] != ':' || length > NAME_LENGTH_MAX)
        return NULL;
    memcpy(name, word, length);
    name[length] = 0;
    return word + length + 1;
}

/* The source's last component; "." where it has no name of its own: then its content is what is copied. */
static int name_source(struct plan *plan, const char *source, struct failure *failure)
{
    size_t end = strlen(source);
    while (end && source[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && source[start - 1] != '/')
        start--;
    if (end - start >= sizeof plan->name)
        return fail(failure, ENAMETOOLONG, "%s", source);
    snprintf(plan->name, sizeof plan->name, "%.*s", (int)(end - start), source + start);
    if (!plan->name[0] || !strcmp(plan->name, ".."))
        strcpy(plan->name, ".");
    return 0;
}

static int make_plan(struct plan *plan, const struct options *options, struct failure *failure)
{
    char other[NAME_LENGTH_MAX + 1];
    const char *source = split_remote(options->source, plan->instance);
    const char *destination = split_remote(options->destination, source ? other : plan->instance);
    if (!source == !destination)
        return fail(failure, 0, "one of the source and the destination is written NAME:PATH, the other is a path here");
    plan->comes_out = source != NULL;
    plan->inside = source ? source : destination;
    plan->here = source ? options->destination : options->source;
    if (!plan->inside[0] || !plan->here[0])
        return fail(failure, 0, "wsh cp: a path is empty");
    return name_source(plan, source ? source : options->source, failure);
}

/* What comes out belongs to the same users as inside: to those of the host that stand for them there. An owner can only
 * be given by root. */
static int find_owners(const struct plan *plan, const struct options *options, struct id_maps *owners,
                       struct failure *failure)
{
    struct peer peer;
    cleanup_close int control = -1;
    if (!plan->comes_out || geteuid())
        return 0;
    control = peer_connect(options->run_directory, plan->instance, now_ms() + CONNECT_MS, failure);
    int result = control < 0 ? control : peer_check(control, plan->instance, &peer, failure);
    if (result < 0)
        return result;
    *owners = peer.maps;
    return 0;
}

/* The process for this side's files. It ends when the pipe does. */
static pid_t start_this_side(const struct plan *plan, const struct id_maps *owners, int ends[2],
                             struct failure *failure)
{
    pid_t pid = fork();
    if (pid < 0)
        return fail(failure, errno, "fork");
    if (pid) {
        close_descriptor(&ends[plan->comes_out ? 0 : 1]);
        return pid;
    }
    close_descriptor(&ends[plan->comes_out ? 1 : 0]);
    if (!plan->comes_out)
        _exit(copy_send(ends[1], plan->here));
    copy_receive_guard();
    _exit(copy_receive(ends[0], plan->here, plan->name, geteuid() ? NULL : owners));
}

static int wait_for(pid_t pid)
{
    int status;
    if (TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0)
        return EXIT_SELF;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL_BASE + WTERMSIG(status);
}

static int run_inside(const struct plan *plan, const struct options *options, int ends[2], struct failure *failure)
{
    char *send[] = {WSH_COPY_PATH, "send", (char *)(uintptr_t)plan->inside, NULL};
    char *receive[] = {WSH_COPY_PATH, "receive", (char *)(uintptr_t)plan->inside, (char *)(uintptr_t)plan->name, NULL};
    struct options session = *options;
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    session.name = plan->instance;
    session.command = plan->comes_out ? send : receive;
    struct ends streams = {.in = plan->comes_out ? nothing : ends[0],
                           .out = plan->comes_out ? ends[1] : nothing,
                           .error = STDERR_FILENO,
                           .cleans_error = true};
    return session_run(&session, &streams, false, failure);
}

int copy_run(const struct options *options, struct failure *failure)
{
    static struct id_maps owners;
    struct plan plan;
    int ends[2];
    if (make_plan(&plan, options, failure) < 0 || find_owners(&plan, options, &owners, failure) < 0)
        return EXIT_SELF;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        fail(failure, errno, "pipe");
        return EXIT_SELF;
    }
    pid_t pid = start_this_side(&plan, &owners, ends, failure);
    if (pid < 0)
        return EXIT_SELF;
    int status = run_inside(&plan, options, ends, failure);
    if (plan.comes_out) /* the session closes its stdin only */
        close_descriptor(&ends[1]);
    int here = wait_for(pid);
    /* This side may have waited for the other to say what is wrong. */
    if (plan.comes_out && !status && here && !failure->text[0])
        fail(failure, 0, "%s was not copied as a whole", options->source);
    return status ? status : here;
}
