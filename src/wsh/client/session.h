/* One session from its start to its end. */

#ifndef WSH_CLIENT_SESSION_H
#define WSH_CLIENT_SESSION_H

#include "client/relay.h"

/* Runs the command that `options` name, on a terminal of its own or without one, and closes ends->in. Returns wsh's
 * exit status, with a message in `failure` whose text is empty where there is none. A user other than the instance's
 * own is the runtime's business: then this process becomes the runtime's client. */
int session_run(const struct options *options, const struct ends *ends, bool tty, struct failure *failure);

#endif
