/* The count of kills for memory; see memory.h. */

#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t memory_kills(int descriptor)
{
    static const char word[] = "oom_kill ";
    char text[512];
    if (descriptor < 0)
        return 0;
    ssize_t length = pread(descriptor, text, sizeof text - 1, 0);
    if (length <= 0)
        return 0;
    text[length] = 0;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, word, sizeof word - 1))
            return strtoull(line + sizeof word - 1, NULL, 10);
    }
    return 0;
}
