/* The other end of the control socket: finding it, and making sure who it is. */

#ifndef WSH_CLIENT_PEER_H
#define WSH_CLIENT_PEER_H

#include <sys/types.h>

#include "common.h"
#include "idmap.h"

/* PID 1 of an instance's container. */
struct peer {
    uid_t uid; /* as its container calls them */
    gid_t gid;
    struct id_maps maps; /* of its container's ids to the host's */
};

/* Connects to RUN/ctl/NAME.sock and returns the non-blocking socket, or -errno. */
int peer_connect(const char *run_directory, const char *name, int64_t deadline, struct failure *failure);

/* The socket's listener has to be PID 1 of a pid namespace of its own: then it is a container's first process, and
 * not one that got hold of the socket. Says who it is. */
int peer_check(int socket, const char *name, struct peer *peer, struct failure *failure);

#endif
