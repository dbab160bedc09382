/* Small files as a whole. */

#ifndef WSH_CLIENT_FILES_H
#define WSH_CLIENT_FILES_H

#include <stddef.h>
#include <sys/types.h>

/* Reads a file into a buffer. Returns its length, -EFBIG where it does not fit, or -errno. */
ssize_t read_file(const char *path, char *text, size_t size);

#endif
