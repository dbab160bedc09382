/* The instance's life after the gate; see pid1.h. */

#include "pid1.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "child.h"
#include "listener.h"
#include "reply.h"
#include "session.h"
#include "signals.h"

/* How many dead are reaped, and signals read, before anything else has its turn. */
#define AT_ONCE 256
/* How long the end waits for what SIGKILL does not end at once. The kernel ends the rest with PID 1. */
#define END_MS 2000

struct pid1 {
    struct loop loop;
    struct watch signals;
    struct sessions sessions;
    struct listener listener;
    pid_t main;
    struct watch report; /* see child_report; closed once it is known whether the program was executed */
    int host;            /* see boot.h; open as long as that */
    int main_status;
    bool ended;     /* main_status counts */
    bool more_dead; /* not all were reaped */
};

/* Reaps up to AT_ONCE children; a reaped pid is forgotten at once, so that no signal goes to whoever has it next. */
static void reap(struct pid1 *pid1)
{
    pid1->more_dead = false;
    for (int i = 0; i < AT_ONCE; i++) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        if (pid == pid1->main) {
            pid1->main = 0;
            pid1->main_status = status;
            pid1->ended = true;
        } else {
            sessions_reaped(&pid1->sessions, pid, status);
        }
    }
    pid1->more_dead = true;
}

static void on_signal(struct watch *watch, uint32_t events)
{
    struct pid1 *pid1 = container_of(watch, struct pid1, signals);
    struct signalfd_siginfo info;
    (void)events;
    for (int i = 0; i < AT_ONCE && signals_next(watch->fd, &info); i++) {
        if (info.ssi_signo == SIGCHLD)
            reap(pid1);
        else if (pid1->main && signals_from_outside(&info))
            child_signal(pid1->main, (int)info.ssi_signo, true);
    }
}

/* The smaller of two waits, of which -1 is without end. */
static int sooner(int one, int other)
{
    if (one < 0 || other < 0)
        return one < 0 ? other : one;
    return one < other ? one : other;
}

static void serve(struct pid1 *pid1)
{
    while (!pid1->ended) {
        int timeout = sooner(sessions_timeout(&pid1->sessions), listener_timeout(&pid1->listener));
        loop_wait(&pid1->loop, pid1->more_dead ? 0 : timeout);
        if (pid1->more_dead)
            reap(pid1);
        sessions_expire(&pid1->sessions);
        listener_resume(&pid1->listener);
    }
}

/* The program has ended, and with it the instance: kills everything, reaps it, and tells the sessions. */
static void end(struct pid1 *pid1)
{
    reap(pid1); /* those that ended by themselves */
    sessions_ending(&pid1->sessions);
    kill(-1, SIGKILL);
    int64_t deadline = now_ms() + END_MS;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0)
            sessions_reaped(&pid1->sessions, pid, status);
        else if (pid < 0 || now_ms() >= deadline)
            break;
        else
            poll(NULL, 0, 1);
    }
    sessions_close(&pid1->sessions);
}

/* Tells the host, and the log, that the program could not even start: nothing of the tenant's has run. */
static void start_failed(struct pid1 *pid1, const struct failure *failure)
{
    reply_error(pid1->host, ERROR_CANNOT_EXECUTE, failure->error, failure->text);
    say("%s", failure->text);
}

/* Passes on what has become of the program's start, once that is known. */
static void hear_report(struct pid1 *pid1)
{
    struct failure failure;
    switch (child_report(pid1->report.fd, &failure)) {
    case CHILD_PENDING:
        return;
    case CHILD_EXECUTED:
        boot_opened(pid1->host);
        break;
    case CHILD_FAILED:
        start_failed(pid1, &failure);
        break;
    }
    loop_close(&pid1->loop, &pid1->report);
    close_descriptor(&pid1->host);
}

static void on_report(struct watch *watch, uint32_t events)
{
    (void)events;
    hear_report(container_of(watch, struct pid1, report));
}

/* Starts the tenant's program. Returns 0 or -errno. */
static int start(struct pid1 *pid1, char **argv, const struct inherited *inherited, struct failure *failure)
{
    struct program program = {.argv = argv};
    pid1->main = child_start(&program, NULL, inherited, &pid1->report.fd, failure);
    if (pid1->main < 0)
        return pid1->main;
    int result = loop_add(&pid1->loop, &pid1->report, EPOLLIN);
    return result < 0 ? fail(failure, -result, "watching the program's start") : 0;
}

int pid1_run(char **argv, const struct passage *passage, int signals, const struct inherited *inherited)
{
    struct pid1 pid1 = {
        .signals = {.fd = signals, .ready = on_signal},
        .report = {.fd = -1, .ready = on_report},
        .host = passage->host,
    };
    struct failure failure;
    int result = loop_open(&pid1.loop);
    if (!result)
        result = loop_add(&pid1.loop, &pid1.signals, EPOLLIN);
    sessions_init(&pid1.sessions, &pid1.loop, inherited, passage->memory_counter);
    if (!result)
        result = listener_open(&pid1.listener, &pid1.loop, &pid1.sessions, passage->listener);
    if (result < 0)
        die(EXIT_SELF, "the control socket: %s", strerror(-result));
    if (start(&pid1, argv, inherited, &failure) < 0) {
        start_failed(&pid1, &failure);
        return EXIT_SELF;
    }
    serve(&pid1);
    if (pid1.report.fd >= 0) /* it ended before that was heard */
        hear_report(&pid1);
    end(&pid1);
    int status = pid1.main_status;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL_BASE + WTERMSIG(status);
}
