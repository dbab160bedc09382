/* Signals of PID 1; see signals.h. */

#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "common.h"

int signals_open(void)
{
    sigset_t all;
    sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
        return -errno;
    for (int number = 1; number <= SIGRTMAX; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL); /* the C library keeps a few for itself and refuses: they are default already */
    int descriptor = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

bool signals_next(int descriptor, struct signalfd_siginfo *info)
{
    return TEMP_FAILURE_RETRY(read(descriptor, info, sizeof *info)) == sizeof *info;
}

bool signals_from_outside(const struct signalfd_siginfo *info)
{
    return info->ssi_code == SI_USER && info->ssi_pid == 0;
}

bool signals_terminates(int number)
{
    switch (number) {
    case SIGCHLD:
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
        return false;
    default:
        return true;
    }
}
