/* Signals that come to wsh: passed on to the session, or minded by wsh itself where the session has a terminal. */

#ifndef WSH_CLIENT_FORWARD_H
#define WSH_CLIENT_FORWARD_H

#include "common.h"

/* A second signal that ends programs ends wsh, where the session has shown no sign of life for that long since the
 * first. Some senders, timeout(1) for one, signal twice at once. */
#define FORWARD_PATIENCE_MS 1000

/* Starts to keep signals. Those that are ignored stay so: nohup and shells ask for that. */
void forward_start(bool tty);

/* Readable when a signal has come. */
int forward_descriptor(void);

/* Takes the next signal to be seen to; 0: there is none left. Called until then. With a terminal these are SIGWINCH,
 * SIGTSTP and SIGCONT, and the terminal is put back by the handlers of the others, which then end wsh; without, all are
 * for the session. */
int forward_next(void);

/* When the first signal came that the session has not answered; 0: there is none. */
int forward_asked(void);

/* The session has shown a sign of life since that was asked: what came in the meantime is still not answered. */
void forward_answered(int asked);

/* Stops wsh as SIGTSTP would have without a handler; returns when it goes on. */
void forward_suspend(void);

#endif
