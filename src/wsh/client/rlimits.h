/* Resource limits as an operator writes them. */

#ifndef WSH_CLIENT_RLIMITS_H
#define WSH_CLIENT_RLIMITS_H

#include "client/options.h"

/* Reads NAME=SOFT[:HARD], by the names and units of the platform's `ulimits`. */
int rlimit_read(struct rlimit_option *limit, const char *text, struct failure *failure);

#endif
