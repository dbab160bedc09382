/* The operator's terminal while a session has one of its own: raw, and put back whatever happens. */

#ifndef WSH_CLIENT_TERMINAL_H
#define WSH_CLIENT_TERMINAL_H

#include <sys/ioctl.h>

#include "common.h"

/* The size of the terminal that is stdin, stdout or stderr; 24 by 80 where none is. */
void terminal_size(struct winsize *size);

/* Makes stdin raw where it is a terminal; from then on exit() puts it back. May be called again to make it raw once
 * more. */
void terminal_make_raw(void);

/* Puts it back as it was. Fit for a signal's handler. */
void terminal_restore(void);

#endif
