/* Reads a stream and makes the tree of files in it. */

#ifndef WSH_COPY_RECEIVE_H
#define WSH_COPY_RECEIVE_H

#include <stdbool.h>

#include "copy/send.h"

/* Makes what comes from `descriptor`: in `destination` under `name` where that is a directory, otherwise as
 * `destination`. The name "." means the content of the directory that comes, not itself. With `keep_owner` what is
 * made gets the owners that the stream names.
 *
 * The stream may be hostile: nothing is made elsewhere than below the destination, no link is followed there, and
 * no set-id bit is set. A file appears whole or not at all. */
enum copy_result copy_receive(int descriptor, const char *destination, const char *name, bool keep_owner);

/* Lets the signals that end a program remove the unfinished file first. */
void copy_receive_guard(void);

#endif
