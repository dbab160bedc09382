/* Reads a stream and makes the tree of files in it. */

#ifndef WSH_COPY_RECEIVE_H
#define WSH_COPY_RECEIVE_H

#include "copy/send.h"
#include "idmap.h"

/* Makes what comes from `descriptor`: in `destination` under `name` where that is a directory, otherwise as
 * `destination`. The name "." means the content of the directory that comes, not itself. With `owners` what is made
 * belongs to those that the stream names, by the numbers that they have outside; an owner that has none is refused.
 *
 * The stream may be hostile: nothing is made elsewhere than below the destination, no link is followed there, and
 * no set-id bit is set. A file appears whole or not at all. */
enum copy_result copy_receive(int descriptor, const char *destination, const char *name,
                              const struct id_maps *owners);

/* Lets the signals that end a program remove the unfinished file first. */
void copy_receive_guard(void);

#endif
