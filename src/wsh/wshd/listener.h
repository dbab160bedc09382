/* The control socket: takes connections, and gets by when there is no descriptor left for one. */

#ifndef WSHD_LISTENER_H
#define WSHD_LISTENER_H

#include "loop.h"
#include "session.h"

struct listener {
    struct watch watch;
    struct loop *loop;
    struct sessions *sessions;
    int spare;         /* given up for a moment, to refuse a connection for which there is no other */
    int64_t paused_to; /* 0: not paused */
};

/* Waits for connections on a listening socket, which it takes over. Returns 0 or -errno. */
int listener_open(struct listener *listener, struct loop *loop, struct sessions *sessions, int socket);

/* Milliseconds until listener_resume has something to do; -1: nothing. */
int listener_timeout(const struct listener *listener);
void listener_resume(struct listener *listener);

#endif
