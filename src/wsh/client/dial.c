/* Connecting to an instance's wshd, and starting a session in it; see dial.h. */

#include "client/dial.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/answer.h"

#define START_MS 10000

/* Waits for the connection. Signals that come meanwhile are kept for the session. */
static int await(const struct dial *dial, short events)
{
    struct pollfd ready = {.fd = dial->control, .events = events};
    for (;;) {
        int64_t left = dial->deadline - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        int result = poll(&ready, 1, (int)left);
        if (result > 0)
            return 0;
        if (result < 0 && errno != EINTR)
            return -errno;
    }
}

int dial_connect(struct dial *dial, const struct options *options, uint16_t version, struct failure *failure)
{
    *dial = (struct dial){.name = options->name, .version = version, .deadline = now_ms() + START_MS};
    wire_reader_init(&dial->reader, version, version, NULL);
    dial->control = peer_connect(options->run_directory, options->name, dial->deadline, failure);
    if (dial->control < 0)
        return dial->control;
    int result = peer_check(dial->control, options->name, &dial->peer, failure);
    if (result < 0)
        dial_close(dial);
    return result;
}

int dial_receive(struct dial *dial)
{
    for (;;) {
        uint8_t *at;
        size_t length;
        wire_want(&dial->reader, &at, &length);
        ssize_t came = wire_recv(dial->control, at, length, dial->descriptors, &dial->count);
        if (came == -EAGAIN)
            return 0;
        if (came <= 0)
            return came ? (int)came : -ENODATA;
        int result = wire_got(&dial->reader, (size_t)came);
        if (result != WIRE_MORE)
            return result;
    }
}

/* Sends the request. Where wshd does not read it to its end, it has answered: that is read next. */
static int send_request(struct dial *dial, const struct wire_writer *request)
{
    for (size_t at = 0; at < request->length;) {
        ssize_t sent = wire_send(dial->control, request->data + at, request->length - at, NULL, 0);
        int result = sent == -EAGAIN ? await(dial, POLLOUT) : 0;
        if (sent == -EPIPE || sent == -ECONNRESET)
            return 0;
        if (result < 0 || (sent < 0 && sent != -EAGAIN))
            return result < 0 ? result : (int)sent;
        at += sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

static bool is_pipe(int descriptor, int mode)
{
    struct stat status;
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == mode && !fstat(descriptor, &status) && S_ISFIFO(status.st_mode) &&
           fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0;
}

static bool is_terminal_master(int descriptor)
{
    unsigned number;
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && ioctl(descriptor, TIOCGPTN, &number) == 0 &&
           fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0;
}

static bool are_streams(const struct dial *dial, bool tty)
{
    const int *descriptors = dial->descriptors;
    if (tty)
        return dial->count == 1 && is_terminal_master(descriptors[0]);
    return dial->count == 3 && is_pipe(descriptors[0], O_WRONLY) && is_pipe(descriptors[1], O_RDONLY) &&
           is_pipe(descriptors[2], O_RDONLY);
}

/* Makes sense of the first frame. */
static int take_start(struct dial *dial, bool tty, int *status, struct failure *failure)
{
    const struct wire_frame *frame = &dial->reader.frame;
    struct refusal refusal;
    if (frame->type == FRAME_STARTED && frame->length == 4 && are_streams(dial, tty)) {
        wire_reader_reset(&dial->reader);
        return 0;
    }
    if (frame->type != FRAME_ERROR || answer_refusal(frame, &refusal) < 0)
        return fail(failure, 0, "%s: wshd answers with what is no session", dial->name);
    if (refusal.code == ERROR_VERSION && refusal.newest && refusal.newest < dial->version &&
        refusal.newest + 1 >= PROTOCOL_VERSION) {
        dial->version = (uint16_t)refusal.newest;
        return -EPROTONOSUPPORT;
    }
    if (refusal.code == ERROR_VERSION)
        fail(failure, 0, "%s: its wshd speaks version %u of the protocol, this wsh speaks %d", dial->name,
             refusal.newest, PROTOCOL_VERSION);
    else
        *status = answer_refusal_status(&refusal, dial->name, failure);
    return -ECANCELED;
}

static int no_answer(const struct dial *dial, int error, struct failure *failure)
{
    if (error == -ETIMEDOUT)
        return fail(failure, 0, "%s: its PID 1 does not answer; wsh --runtime %s goes through the container runtime",
                    dial->name, dial->name);
    if (error == -ENODATA || error == -ECONNRESET)
        return fail(failure, 0, "%s: its PID 1 has closed the connection", dial->name);
    if (error == -EPROTO || error == -EMSGSIZE || error == -EPROTONOSUPPORT)
        return fail(failure, 0, "%s: wshd answers with what is no frame of this protocol", dial->name);
    return fail(failure, -error, "%s: its control socket", dial->name);
}

int dial_start(struct dial *dial, const struct options *options, const struct winsize *window, int *status,
               struct failure *failure)
{
    cleanup_writer struct wire_writer request;
    wire_writer_init(&request, NULL, 0);
    *status = EXIT_SELF;
    int result = request_write(&request, options, window, dial->version);
    if (result == -EMSGSIZE)
        return fail(failure, 0, "the command and its environment are longer than 4 MiB");
    if (result < 0)
        return fail(failure, -result, "the command");
    result = send_request(dial, &request);
    while (result == 0 && (result = dial_receive(dial)) == 0)
        result = await(dial, POLLIN);
    return result < 0 ? no_answer(dial, result, failure) : take_start(dial, window != NULL, status, failure);
}

void dial_signal(const struct dial *dial, int number)
{
    uint8_t space[WIRE_HEADER + 4];
    struct wire_writer writer;
    wire_writer_init(&writer, space, sizeof space);
    wire_begin(&writer, FRAME_SIGNAL, dial->version);
    wire_raw(&writer, (uint8_t[]){(uint8_t)number, TARGET_GROUP, 0, 0}, 4);
    if (wire_end(&writer) == 0)
        wire_send(dial->control, space, writer.length, NULL, 0);
}

void dial_close(struct dial *dial)
{
    wire_reader_reset(&dial->reader);
    close_descriptor(&dial->control);
    while (dial->count)
        close_descriptor(&dial->descriptors[--dial->count]);
}
