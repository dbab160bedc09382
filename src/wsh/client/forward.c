/* Signals that come to wsh; see forward.h. */

#include "client/forward.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol.h"
#include "client/terminal.h"

static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM, SIGXCPU, SIGXFSZ};
static const int harmless[] = {SIGUSR1, SIGUSR2};
static const int of_terminals[] = {SIGWINCH, SIGTSTP, SIGCONT};

static int wake = -1;
static volatile sig_atomic_t pending[NSIG];
/* When the first signal came that the session has not answered yet; 0: there is none. */
static volatile sig_atomic_t unanswered;

/* Milliseconds, never 0, that fit what a handler may share with the rest. They begin anew every 24 days. */
static int clock_ms(void)
{
    return (int)(now_ms() & INT_MAX) | 1;
}

static bool is_one_of(int number, const int *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

static void tell(int number)
{
    uint64_t one = 1;
    pending[number] = 1;
    ssize_t written = write(wake, &one, sizeof one);
    (void)written; /* a counter that is full wakes too */
}

static void keep(int number)
{
    int error = errno;
    if (is_one_of(number, ending, ARRAY_LENGTH(ending))) {
        int now = clock_ms();
        if (unanswered && ((now - unanswered) & INT_MAX) >= FORWARD_PATIENCE_MS)
            _exit(EXIT_SIGNAL_BASE + number);
        if (!unanswered)
            unanswered = now;
    }
    tell(number);
    errno = error;
}

static void keep_for_terminal(int number)
{
    int error = errno;
    tell(number);
    errno = error;
}

/* The signal's action is the default again by now, and it is delivered on return. */
static void restore_and_end(int number)
{
    terminal_restore();
    raise(number);
}

static void handle(const int *numbers, size_t count, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    for (size_t i = 0; i < count; i++)
        if (sigaction(numbers[i], &action, &old) == 0 && old.sa_handler == SIG_IGN)
            sigaction(numbers[i], &old, NULL);
}

void forward_start(bool tty)
{
    wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake < 0)
        die(EXIT_SELF, "eventfd: %s", strerror(errno));
    if (!tty) {
        handle(ending, ARRAY_LENGTH(ending), keep, 0);
        handle(harmless, ARRAY_LENGTH(harmless), keep, 0);
        return;
    }
    handle(ending, ARRAY_LENGTH(ending), restore_and_end, SA_RESETHAND);
    handle(faults, ARRAY_LENGTH(faults), restore_and_end, SA_RESETHAND);
    handle(harmless, ARRAY_LENGTH(harmless), restore_and_end, SA_RESETHAND);
    handle(of_terminals, ARRAY_LENGTH(of_terminals), keep_for_terminal, 0);
}

int forward_descriptor(void)
{
    return wake;
}

int forward_next(void)
{
    uint64_t count;
    ssize_t came = read(wake, &count, sizeof count);
    (void)came; /* what has come stands in `pending` */
    for (int number = 1; number < NSIG; number++)
        if (pending[number]) {
            pending[number] = 0;
            return number;
        }
    return 0;
}

int forward_asked(void)
{
    return unanswered;
}

void forward_answered(int asked)
{
    if (unanswered == asked)
        unanswered = 0;
}

void forward_suspend(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL}, old;
    sigaction(SIGTSTP, &action, &old);
    raise(SIGTSTP);
    sigaction(SIGTSTP, &old, NULL);
}
