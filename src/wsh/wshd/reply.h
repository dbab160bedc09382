/* What wshd tells a client. A frame is sent whole at once or not at all: the socket's own buffer, which holds
 * hundreds of them, is the queue, and who does not read loses his connection. Each returns 0 or -errno. */

#ifndef WSHD_REPLY_H
#define WSHD_REPLY_H

#include <sys/types.h>

#include "protocol.h"
#include "streams.h"

/* `error` is an errno, and counts with ERROR_CANNOT_EXECUTE alone. */
int reply_error(int socket, enum error_code code, int error, const char *text);
int reply_pong(int socket, unsigned sessions);
int reply_exited(int socket, enum ended how, int value);

/* Tells that the program runs, and hands over the far ends of its streams. */
int reply_started(int socket, pid_t pid, const struct streams *streams);

#endif
