/* The container runtime's own client, for what does not go through wshd. */

#ifndef WSH_CLIENT_RUNTIME_H
#define WSH_CLIENT_RUNTIME_H

#include "client/options.h"

/* Both become the runtime's client, and return -errno only where that does not work. */
int runtime_exec(const struct options *options, bool tty, struct failure *failure);
int runtime_logs(const struct options *options, struct failure *failure);

#endif
