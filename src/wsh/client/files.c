/* Small files as a whole; see files.h. */

#include "client/files.h"

#include <fcntl.h>
#include <unistd.h>

#include "common.h"

ssize_t read_file(const char *path, char *text, size_t size)
{
    cleanup_close int file = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    size_t length = 0;
    for (;;) {
        ssize_t came = TEMP_FAILURE_RETRY(read(file, text + length, size - length));
        if (came < 0)
            return -errno;
        if (!came)
            return (ssize_t)length;
        length += (size_t)came;
        if (length == size)
            return -EFBIG;
    }
}
