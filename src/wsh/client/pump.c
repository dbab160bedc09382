/* One direction of a session; see pump.h. */

#include "client/pump.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "text.h"

#define MOVE_AT_ONCE (1 << 20)
#define MOVES_IN_TURN 16
#define WIDEN_AFTER (1 << 20)
#define WIDE_PIPE (256 << 10)

/* A terminal of the operator's, opened anew to be non-blocking for us alone; the descriptor itself where that does
 * not work. */
static int open_again(int descriptor, int flags)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int again = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return again < 0 ? descriptor : again;
}

/* Finds out how the operator's descriptor is read or written. What is read from a file is copied: by splicing, the
 * page cache's own pages would lie in a pipe of the tenant's. */
static enum pump_way find_way(int *descriptor, int flags, bool *splices)
{
    struct stat status;
    mode_t kind = fstat(*descriptor, &status) < 0 ? 0 : status.st_mode & S_IFMT;
    *splices = *splices && (kind == S_IFIFO || (kind == S_IFREG && flags == O_WRONLY));
    if (kind == S_IFSOCK)
        return WAY_SOCKET;
    if (kind == S_IFIFO)
        return WAY_PIPE;
    if (kind == S_IFCHR && isatty(*descriptor))
        *descriptor = open_again(*descriptor, flags);
    return WAY_PLAIN;
}

/* The session's own end: its pipes take part in splicing, a terminal does not. */
static bool is_pipe(int descriptor)
{
    struct stat status;
    return !fstat(descriptor, &status) && S_ISFIFO(status.st_mode);
}

void pump_into(struct pump *pump, int from, int to)
{
    static char buffer[PUMP_BUFFER];
    *pump = (struct pump){.from = from, .to = to, .splices = is_pipe(to), .buffer = buffer};
    pump->from_way = find_way(&pump->from, O_RDONLY, &pump->splices);
}

void pump_out(struct pump *pump, int from, int to)
{
    static char buffers[2][PUMP_BUFFER];
    *pump = (struct pump){.from = from, .to = to, .splices = is_pipe(from), .keeps_to = true};
    pump->buffer = buffers[to == STDERR_FILENO];
    pump->to_way = find_way(&pump->to, O_WRONLY, &pump->splices);
}

bool pump_is_open(const struct pump *pump)
{
    return pump->from >= 0;
}

void pump_close(struct pump *pump)
{
    close_descriptor(&pump->from);
    if (!pump->keeps_to)
        close_descriptor(&pump->to);
    pump->at = pump->end = 0;
}

static void stop(struct pump *pump, int error)
{
    pump->error = error;
    pump_close(pump);
}

bool pump_is_held_up(const struct pump *pump)
{
    return pump_is_open(pump) && !pump->to_ready && (pump->from_ready || pump->at < pump->end);
}

size_t pump_wants(const struct pump *pump, struct pollfd *wants)
{
    if (!pump_is_open(pump))
        return 0;
    size_t count = 0;
    if (!pump->from_ready && pump->at == pump->end)
        wants[count++] = (struct pollfd){.fd = pump->from, .events = POLLIN};
    /* Without events, poll still tells that the reader has gone. */
    wants[count++] = (struct pollfd){.fd = pump->to, .events = pump->to_ready ? 0 : POLLOUT};
    return count;
}

void pump_note(struct pump *pump, const struct pollfd *wants, size_t count)
{
    for (size_t i = 0; i < count && pump_is_open(pump); i++) {
        if (wants[i].fd == pump->from && wants[i].events == POLLIN) {
            if (wants[i].revents)
                pump->from_ready = true;
        } else if (wants[i].revents & (POLLERR | POLLHUP | POLLNVAL)) {
            stop(pump, EPIPE);
        } else if (wants[i].revents) {
            pump->to_ready = true;
        }
    }
}

/* Gives pipes more room when much goes through them: fewer turns for the same bytes. What is no pipe stays as it is. */
static void widen(struct pump *pump)
{
    pump->is_wide = true;
    fcntl(pump->from, F_SETPIPE_SZ, WIDE_PIPE);
    fcntl(pump->to, F_SETPIPE_SZ, WIDE_PIPE);
}

/* Returns whether there may be more to move. */
static bool move_by_kernel(struct pump *pump)
{
    ssize_t moved = splice(pump->from, NULL, pump->to, NULL, MOVE_AT_ONCE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (moved > 0) {
        pump->moved += (uint64_t)moved;
        if (pump->moved >= WIDEN_AFTER && !pump->is_wide)
            widen(pump);
        return true;
    }
    if (moved < 0 && errno == EINVAL) { /* a file opened to append, for one */
        pump->splices = false;
        return true;
    }
    if (!moved)
        pump_close(pump);
    else if (errno == EAGAIN) /* which of the two it is, poll will say */
        pump->from_ready = pump->to_ready = false;
    else if (errno != EINTR)
        stop(pump, errno);
    return false;
}

static bool write_out(struct pump *pump)
{
    size_t length = pump->end - pump->at;
    ssize_t written;
    if (pump->to_way == WAY_PIPE && length > PIPE_BUF)
        length = PIPE_BUF;
    if (pump->to_way == WAY_SOCKET)
        written = send(pump->to, pump->buffer + pump->at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        written = write(pump->to, pump->buffer + pump->at, length);
    if (written >= 0) {
        pump->at += (size_t)written;
        pump->moved += (uint64_t)written;
        if (pump->to_way == WAY_PIPE) /* one such write for each answer of poll */
            pump->to_ready = false;
        return true;
    }
    if (errno == EAGAIN)
        pump->to_ready = false;
    else if (errno != EINTR)
        stop(pump, errno);
    return false;
}

/* Puts the key that ends a terminal's input into the buffer. Where a line has been begun, the first such key only
 * ends that. Returns false where the terminal knows no such key now. */
static bool type_end(struct pump *pump)
{
    struct termios settings;
    pump->types_end = false;
    if (tcgetattr(pump->to, &settings) < 0 || !(settings.c_lflag & ICANON))
        return false;
    memset(pump->buffer, settings.c_cc[VEOF], 2);
    pump->end = pump->moved && pump->last != '\n' && pump->last != '\r' ? 2 : 1;
    return true;
}

static bool read_in(struct pump *pump)
{
    ssize_t came;
    pump->at = pump->end = 0;
    if (pump->from_way == WAY_SOCKET)
        came = recv(pump->from, pump->buffer, PUMP_BUFFER, MSG_DONTWAIT);
    else
        came = read(pump->from, pump->buffer, PUMP_BUFFER);
    if (pump->from_way == WAY_PIPE)
        pump->from_ready = false;
    if (came > 0) {
        pump->end = (size_t)came;
        pump->last = (unsigned char)pump->buffer[came - 1];
        if (pump->cleans)
            clean_text(pump->buffer, pump->end, "\n\t");
        return true;
    }
    if (came < 0 && (errno == EAGAIN || errno == EINTR))
        pump->from_ready = false;
    else if (pump->types_end && type_end(pump))
        return true;
    else /* the end; a terminal whose other end is closed says EIO */
        pump_close(pump);
    return false;
}

static bool move_by_buffer(struct pump *pump)
{
    return pump->at < pump->end ? write_out(pump) : read_in(pump);
}

bool pump_is_ready(const struct pump *pump)
{
    if (!pump_is_open(pump))
        return false;
    if (pump->splices)
        return pump->from_ready && pump->to_ready;
    return pump->at < pump->end ? pump->to_ready : pump->from_ready;
}

void pump_move(struct pump *pump)
{
    for (int turn = 0; turn < MOVES_IN_TURN && pump_is_ready(pump); turn++)
        if (!(pump->splices ? move_by_kernel(pump) : move_by_buffer(pump)))
            return;
}
