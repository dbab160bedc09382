/* Reads a tree of files and writes it as a stream. */

#ifndef WSH_COPY_SEND_H
#define WSH_COPY_SEND_H

/* How a copy went: the exit status of the program that did it. */
enum copy_result { COPY_DONE = 0, COPY_INCOMPLETE = 1 };

/* Sends the file, directory or symbolic link at `path` to `descriptor`. No link is followed, but for those in the
 * path before its last component. What cannot be sent is named on stderr. */
enum copy_result copy_send(int descriptor, const char *path);

#endif
