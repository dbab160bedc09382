/* What every file here uses; see common.h. */

#include "common.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *program_name = "wsh";

int fail(struct failure *failure, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    if (error && length >= 0 && (size_t)length < sizeof failure->text)
        snprintf(failure->text + length, sizeof failure->text - (size_t)length, ": %s", strerror(error));
    failure->error = error;
    return error ? -error : -EPROTO;
}

void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

static void say_list(const char *format, va_list arguments) printf_like(1, 0);

static void say_list(const char *format, va_list arguments)
{
    char line[1024]; /* less than PIPE_BUF: it is written whole, or the pipe is full and nothing is */
    int head = snprintf(line, sizeof line, "%s: ", program_name);
    vsnprintf(line + head, sizeof line - (size_t)head - 1, format, arguments);
    make_printable(line);
    size_t length = strlen(line);
    line[length++] = '\n';
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ready, 1, 0) == 1 && ready.revents & POLLOUT) {
        ssize_t written = write(STDERR_FILENO, line, length);
        (void)written; /* there is nobody to tell */
    }
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
}

void die(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
    exit(status);
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void close_descriptor(int *descriptor)
{
    int error = errno;
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
    errno = error;
}

void cleanup_free_pointer(void *pointer)
{
    int error = errno;
    free(*(void **)pointer);
    errno = error;
}

void cleanup_close_descriptor(int *descriptor)
{
    close_descriptor(descriptor);
}
