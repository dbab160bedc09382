/* Where in a tree a copy is, and its messages; see path.h. */

#include "copy/path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

size_t copy_path_enter(struct copy_path *path, const char *name)
{
    size_t before = path->length, left = sizeof path->text - path->length;
    bool separate = before && path->text[before - 1] != '/';
    int length = snprintf(path->text + before, left, "%s%s", separate ? "/" : "", name);
    path->length += length < 0 ? 0 : (size_t)length < left ? (size_t)length : left - 1;
    return before;
}

void copy_path_leave(struct copy_path *path, size_t length)
{
    path->length = length;
    path->text[length] = 0;
}

void copy_say(const char *path, int error, const char *format, ...)
{
    char line[COPY_PATH_MAX + 512];
    size_t size = sizeof line - 1; /* one is for the end of the line */
    int length = snprintf(line, size, "wsh cp: %s: ", path);
    size_t used = (size_t)length < size ? (size_t)length : size - 1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, size - used, format, arguments);
    va_end(arguments);
    used = strlen(line);
    if (error)
        snprintf(line + used, size - used, ": %s", strerror(error));
    used = strlen(line);
    clean_text(line, used, "");
    line[used++] = '\n';
    for (size_t at = 0; at < used;) {
        ssize_t written = TEMP_FAILURE_RETRY(write(STDERR_FILENO, line + at, used - at));
        if (written < 0)
            return;
        at += (size_t)written;
    }
}
