/* A session that has started: bytes and signals between the operator and the command, up to its end. */

#ifndef WSH_CLIENT_RELAY_H
#define WSH_CLIENT_RELAY_H

#include "client/dial.h"

/* Where the bytes come from and go to. */
struct ends {
    int in, out, error;
    bool cleans_error; /* what the command says on stderr is shown without control characters */
};

/* Runs it and takes the session's descriptors over. `dies_unread` says that it is to end when nobody reads any of its
 * output any more, as behind a connection that was cut. Returns the exit status for wsh, with a message for the operator
 * in `failure` (an empty text: there is none). */
int relay_run(struct dial *dial, const struct ends *ends, bool dies_unread, struct failure *failure);

#endif
