/* The EXEC frame that a command line asks for. */

#ifndef WSH_CLIENT_REQUEST_H
#define WSH_CLIENT_REQUEST_H

#include <sys/ioctl.h>

#include "client/options.h"
#include "wire.h"

/* Writes it. `window` is the size of the terminal that the command gets; NULL: it gets none. Returns 0 or -errno, as
 * wire_end does. */
int request_write(struct wire_writer *writer, const struct options *options, const struct winsize *window,
                  uint16_t version);

#endif
