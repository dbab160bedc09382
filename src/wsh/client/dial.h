/* Connecting to an instance's wshd, and starting a session in it.
 *
 * wshd may be hostile: a tenant has the same uid inside as it. So everything that comes is checked, nothing is
 * waited for without a limit of time, and a descriptor that comes has to be what it should be. */

#ifndef WSH_CLIENT_DIAL_H
#define WSH_CLIENT_DIAL_H

#include <sys/types.h>

#include "client/peer.h"
#include "client/request.h"

/* The newest version that this client speaks; it speaks the one before too. */
#ifndef PROTOCOL_VERSION
#define PROTOCOL_VERSION WIRE_VERSION
#endif

struct dial {
    const char *name; /* of the instance */
    int control;      /* the connection, non-blocking */
    int64_t deadline; /* for the session's start, in now_ms's time */
    struct peer peer; /* wshd */
    uint16_t version;
    struct wire_reader reader;
    size_t count; /* of descriptors: 1, the terminal's master; or 3, ends of the command's stdin, stdout, stderr */
    int descriptors[WIRE_DESCRIPTORS_MAX]; /* non-blocking */
};

/* Connects, and makes sure that the other end is the PID 1 of a container. */
int dial_connect(struct dial *dial, const struct options *options, uint16_t version, struct failure *failure);

/* Asks for the session and waits for its start. Returns 0, or -errno with *status the exit status that this means
 * for wsh. -EPROTONOSUPPORT: wshd speaks the older version that is now in dial->version. */
int dial_start(struct dial *dial, const struct options *options, const struct winsize *window, int *status,
               struct failure *failure);

/* Reads what has come. Returns 1 when dial->reader.frame is whole, 0 when it is not, -ENODATA at the connection's
 * end, or -errno. Descriptors are only taken before the session has started. */
int dial_receive(struct dial *dial);

/* Sends a signal to the session's process group; one that does not fit the connection's buffer is lost. */
void dial_signal(const struct dial *dial, int number);

void dial_close(struct dial *dial);

#endif
