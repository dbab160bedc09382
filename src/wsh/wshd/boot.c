/* The gate; see boot.h. */

#include "boot.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common.h"
#include "signals.h"
#include "wire.h"

#define BACK_OFF_FIRST_MS 1
#define BACK_OFF_LAST_MS 250
#define QUEUE 4096 /* of connections; the kernel lowers it to its own bound */

/* One connection to the host. */
struct knock {
    int socket;
    struct wire_reader reader;
    int descriptors[WIRE_DESCRIPTORS_MAX];
    size_t count;
};

static void end_knock(struct knock *knock)
{
    close_descriptor(&knock->socket);
    while (knock->count)
        close_descriptor(&knock->descriptors[--knock->count]);
    wire_reader_reset(&knock->reader);
}

/* Deals with what came while nothing else of ours runs. */
static void take_signals(int signals)
{
    struct signalfd_siginfo info;
    while (signals_next(signals, &info)) {
        if (signals_from_outside(&info) && signals_terminates((int)info.ssi_signo))
            exit(EXIT_SIGNAL_BASE + (int)info.ssi_signo);
        if (info.ssi_signo == SIGCHLD) /* an orphan of the engine's own exec, say */
            while (waitpid(-1, NULL, WNOHANG) > 0)
                continue;
    }
}

/* Waits until the socket (-1: none) can be read, and takes signals meanwhile. Returns whether it can. */
static bool wait_for(int socket, int signals, int timeout)
{
    struct pollfd all[] = {{.fd = signals, .events = POLLIN}, {.fd = socket, .events = POLLIN}};
    if (poll(all, ARRAY_LENGTH(all), timeout) <= 0)
        return false;
    if (all[0].revents)
        take_signals(signals);
    return all[1].revents;
}

/* Waits for a time, whatever signals come. */
static void pass_time(int signals, int milliseconds)
{
    int64_t end = now_ms() + milliseconds;
    for (int64_t left = milliseconds; left > 0; left = end - now_ms())
        wait_for(-1, signals, (int)left);
}

/* Only the host's process has no pid here. */
static int check_peer(int socket)
{
    static bool said;
    struct ucred peer = {.pid = -1};
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return -errno;
    if (peer.pid == 0)
        return 0;
    if (!said)
        say("whoever listens at the gate is not of the host; waiting for one who is");
    said = true;
    return -EPERM;
}

static int knock_at(struct knock *knock, const struct sockaddr_un *address)
{
    knock->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (knock->socket < 0)
        return -errno;
    if (connect(knock->socket, (const struct sockaddr *)address, sizeof *address) < 0)
        return -errno;
    int result = check_peer(knock->socket);
    if (result < 0)
        return result;
    uint8_t buffer[WIRE_HEADER];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_BOOT, WIRE_VERSION);
    wire_end(&writer);
    ssize_t sent = wire_send(knock->socket, writer.data, writer.length, NULL, 0);
    return sent == (ssize_t)writer.length ? 0 : -EPIPE;
}

/* Reads until a frame is whole. Returns 0, or -errno where the connection is of no use any more. */
static int read_answer(struct knock *knock, int signals)
{
    for (int state = WIRE_MORE; state != WIRE_WHOLE;) {
        while (!wait_for(knock->socket, signals, -1))
            continue;
        uint8_t *at;
        size_t length;
        wire_want(&knock->reader, &at, &length);
        ssize_t came = wire_recv(knock->socket, at, length, knock->descriptors, &knock->count);
        if (came == -EAGAIN)
            continue;
        if (came <= 0)
            return came ? (int)came : -ECONNRESET;
        state = wire_got(&knock->reader, (size_t)came);
        if (state < 0)
            return state;
    }
    return 0;
}

static _Noreturn void refused(const struct wire_frame *frame)
{
    die(EXIT_SELF, "the gate stays closed: %.*s", (int)frame->length,
        frame->payload ? (const char *)frame->payload : "");
}

static int option_of(int socket, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(socket, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

/* Checks what came with GO and listens; it is listen(), called here, that makes the kernel name us as the peer of
 * those who connect. */
static int pass(struct knock *knock, struct passage *passage)
{
    const struct wire_frame *frame = &knock->reader.frame;
    if (frame->type != FRAME_GO || frame->length || knock->count < 1 || knock->count > 2)
        return -EPROTO;
    int listener = knock->descriptors[0];
    if (option_of(listener, SO_DOMAIN) != AF_UNIX || option_of(listener, SO_TYPE) != SOCK_STREAM)
        return -EPROTO;
    int flags = fcntl(listener, F_GETFL);
    if (flags < 0 || fcntl(listener, F_SETFL, flags | O_NONBLOCK) < 0 || listen(listener, QUEUE) < 0)
        return -errno;
    *passage = (struct passage){
        .listener = listener,
        .memory_counter = knock->count > 1 ? knock->descriptors[1] : -1,
        .host = knock->socket,
    };
    knock->count = 0;
    knock->socket = -1;
    return 0;
}

void boot_opened(int host)
{
    uint8_t buffer[WIRE_HEADER];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_OPEN, WIRE_VERSION);
    wire_end(&writer);
    wire_send(host, writer.data, writer.length, NULL, 0);
}

struct passage boot_wait(const char *path, int signals)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        die(EXIT_SELF, "the gate's path is too long: %s", path);
    strcpy(address.sun_path, path);
    struct passage passage;
    for (int back_off = BACK_OFF_FIRST_MS;;) {
        struct knock knock = {.socket = -1};
        wire_reader_init(&knock.reader, WIRE_VERSION, WIRE_VERSION, NULL);
        int result = knock_at(&knock, &address);
        if (!result) {
            back_off = BACK_OFF_FIRST_MS;
            result = read_answer(&knock, signals);
        }
        if (!result && knock.reader.frame.type == FRAME_REFUSE)
            refused(&knock.reader.frame);
        if (!result)
            result = pass(&knock, &passage);
        end_knock(&knock);
        if (!result)
            return passage;
        pass_time(signals, back_off);
        back_off = back_off * 2 > BACK_OFF_LAST_MS ? BACK_OFF_LAST_MS : back_off * 2;
    }
}
