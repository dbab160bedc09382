/* The operator's terminal while a session has one of its own; see terminal.h. */

#include "client/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* A descriptor of its own: stdin may be closed by the time that the terminal is put back. */
static int terminal = -1;
static struct termios before;
static volatile sig_atomic_t is_raw;

void terminal_size(struct winsize *size)
{
    for (int descriptor = 0; descriptor <= STDERR_FILENO; descriptor++)
        if (ioctl(descriptor, TIOCGWINSZ, size) == 0)
            return;
    *size = (struct winsize){.ws_row = 24, .ws_col = 80};
}

void terminal_restore(void)
{
    int error = errno;
    if (is_raw)
        tcsetattr(terminal, TCSANOW, &before);
    is_raw = 0;
    errno = error;
}

void terminal_make_raw(void)
{
    if (terminal < 0) {
        if (tcgetattr(STDIN_FILENO, &before) < 0)
            return;
        terminal = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (terminal < 0)
            return;
        atexit(terminal_restore);
    }
    struct termios raw = before;
    cfmakeraw(&raw);
    /* Noted first: a signal between the two puts back what has not changed, which does no harm. */
    is_raw = 1;
    tcsetattr(terminal, TCSANOW, &raw);
}
