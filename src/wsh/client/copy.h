/* wsh cp: this side of a copy. */

#ifndef WSH_CLIENT_COPY_H
#define WSH_CLIENT_COPY_H

#include "client/options.h"

/* Copies, and returns wsh's exit status, as session_run does. */
int copy_run(const struct options *options, struct failure *failure);

#endif
