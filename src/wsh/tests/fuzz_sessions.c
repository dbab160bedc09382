/* Fuzzing the sessions: they, their loop and their sockets are real; programs, streams and the clock are made up.
 *
 * What must hold whatever the clients send and whatever happens meanwhile: each client gets at most one STARTED, with
 * its descriptors, and then at most one last frame and the end; no signal goes to a program that was reaped; and at
 * the end no memory, no descriptor and no session is left. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz.h"
#include "wshd/killing.h"
#include "wshd/memory.h"
#include "wshd/session.h"

#define CLIENTS 3
#define CHILDREN 16

struct client {
    int socket;
    uint8_t bytes[FUZZ_BYTES];
    size_t length, sent;
    struct wire_reader reader;
    int started, over; /* STARTED has come; the last frame has come */
};

struct fake {
    pid_t pid; /* 0: reaped, or killed and so good for nothing */
    int report; /* the sessions' descriptor, which they close */
    int writer; /* ours, of the same file */
    enum child_state state;
};

static struct client clients[CLIENTS];
static struct fake children[CHILDREN];
static size_t children_count;
static int64_t clock_ms;
static uint64_t kills;
static int null = -1;

int64_t __wrap_now_ms(void);
int64_t __wrap_now_ms(void)
{
    return clock_ms;
}

uint64_t memory_kills(int descriptor)
{
    (void)descriptor;
    return kills;
}

static struct fake *child_of(pid_t pid)
{
    for (size_t i = 0; i < children_count; i++)
        if (pid && children[i].pid == pid)
            return &children[i];
    return NULL;
}

pid_t child_start(const struct program *program, const struct streams *streams, const struct inherited *inherited,
                  int *report, struct failure *failure)
{
    static const int errors[] = {EAGAIN, ENOMEM, EMFILE};
    (void)inherited;
    HOLDS(program->argv[0] && streams->count);
    if (children_count == CHILDREN || fuzz_once_in(8))
        return fail(failure, errors[fuzz_below(3)], "no new process");
    struct fake *child = &children[children_count++];
    *report = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pid_t pid = (pid_t)(children_count * SESSIONS_BUCKETS); /* all in one bucket */
    *child = (struct fake){.pid = pid, .report = *report, .state = CHILD_PENDING};
    child->writer = fcntl(*report, F_DUPFD_CLOEXEC, 0);
    return pid;
}

enum child_state child_report(int report, struct failure *failure)
{
    for (size_t i = children_count; i--;)
        if (children[i].report == report) {
            if (children[i].state == CHILD_FAILED)
                fail(failure, ENOENT, "executing %s", "x");
            return children[i].state;
        }
    HOLDS(!"a report that nobody writes");
    return CHILD_PENDING;
}

void child_signal(pid_t pid, int signal, bool group)
{
    (void)group;
    HOLDS(child_of(pid) && signal >= 1 && signal <= 64);
}

void kill_session(pid_t leader)
{
    HOLDS(child_of(leader));
}

int streams_open(struct streams *streams, const struct program *program, struct failure *failure)
{
    *streams = (struct streams){.inside = {-1, -1, -1}, .outside = {-1, -1, -1}};
    if (fuzz_once_in(16))
        return fail(failure, EMFILE, "making a pipe");
    streams->count = program->tty ? 1 : 3;
    for (size_t i = 0; i < streams->count; i++)
        streams->outside[i] = fcntl(null, F_DUPFD_CLOEXEC, 0);
    return 0;
}

void streams_close_inside(struct streams *streams)
{
    (void)streams;
}

void streams_close_outside(struct streams *streams)
{
    for (size_t i = 0; i < 3; i++)
        close_descriptor(&streams->outside[i]);
}

static void connect_client(struct client *client, struct sessions *sessions)
{
    int ends[2];
    HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    *client = (struct client){.socket = ends[0]};
    client->length = fuzz_frames(client->bytes);
    wire_reader_init(&client->reader, WIRE_VERSION, WIRE_VERSION, NULL);
    sessions_accept(sessions, ends[1]);
}

static void send_some(struct client *client)
{
    size_t now = client->length - client->sent;
    if (fuzz_once_in(2))
        now = fuzz_below((uint32_t)now + 1);
    ssize_t sent = send(client->socket, client->bytes + client->sent, now, MSG_NOSIGNAL);
    if (sent > 0)
        client->sent += (size_t)sent;
}

static void check_frame(struct client *client, size_t descriptors)
{
    uint16_t type = client->reader.frame.type;
    HOLDS(!client->over);
    if (type == FRAME_STARTED) {
        HOLDS(!client->started && client->reader.frame.length == 4 && (descriptors == 1 || descriptors == 3));
        client->started = 1;
        return;
    }
    HOLDS(!descriptors);
    HOLDS(type == FRAME_ERROR || (type == FRAME_EXITED && client->started) || (type == FRAME_PONG && !client->started));
    client->over = 1;
}

static void read_all(struct client *client)
{
    int descriptors[WIRE_DESCRIPTORS_MAX];
    size_t count = 0, length;
    uint8_t *at;
    for (;;) {
        wire_want(&client->reader, &at, &length);
        ssize_t came = wire_recv(client->socket, at, length, descriptors, &count);
        HOLDS(came != -EPROTO);
        if (came <= 0)
            return;
        int result = wire_got(&client->reader, (size_t)came);
        HOLDS(result >= 0);
        if (result == WIRE_MORE)
            continue;
        check_frame(client, count);
        wire_reader_reset(&client->reader);
        while (count)
            close_descriptor(&descriptors[--count]);
    }
}

static void close_client(struct client *client)
{
    if (client->socket < 0)
        return;
    read_all(client);
    wire_reader_reset(&client->reader);
    close_descriptor(&client->socket);
}

static int random_status(void)
{
    return fuzz_once_in(2) ? (int)fuzz_below(256) << 8 : 1 + (int)fuzz_below(31);
}

/* Something happens to a program. */
static void change_child(struct sessions *sessions)
{
    struct fake *child = &children[fuzz_below((uint32_t)children_count)];
    pid_t pid = child->pid;
    if (!pid)
        return;
    if (child->state == CHILD_PENDING && fuzz_once_in(2)) {
        child->state = fuzz_once_in(2) ? CHILD_EXECUTED : CHILD_FAILED;
        HOLDS(eventfd_write(child->writer, 1) == 0);
        return;
    }
    child->pid = 0; /* as in PID 1: forgotten before its session hears of it */
    sessions_reaped(sessions, pid, random_status());
}

static void happen(struct sessions *sessions)
{
    struct client *client = &clients[fuzz_below(CLIENTS)];
    switch (fuzz_below(12)) {
    case 0:
        close_client(client);
        break;
    case 1:
        clock_ms += fuzz_below(WSH_FIRST_FRAME_MS);
        sessions_expire(sessions);
        break;
    case 2:
        kills += fuzz_below(2);
        sessions_reaped(sessions, (pid_t)(CHILDREN + 1 + fuzz_below(200)) * SESSIONS_BUCKETS, random_status()); /* somebody's orphan */
        break;
    case 3:
    case 4:
    case 5:
        if (children_count)
            change_child(sessions);
        break;
    case 6:
        if (client->socket >= 0)
            fuzz_once_in(4) ? (void)shutdown(client->socket, SHUT_WR) : read_all(client);
        break;
    default:
        if (client->socket < 0)
            connect_client(client, sessions);
        send_some(client);
    }
    int timeout = sessions_timeout(sessions);
    HOLDS(sessions->first ? timeout >= 0 && timeout <= WSH_FIRST_FRAME_MS : timeout == -1);
    for (uint32_t events = fuzz_below(5); events; events--)
        loop_wait(sessions->loop, 0);
}

void fuzz_sessions(void)
{
    static struct loop loop = {.epoll = -1};
    static const struct inherited inherited = {.oom_score_file = -1};
    struct sessions sessions;
    if (null < 0) {
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        HOLDS(null >= 0 && loop_open(&loop) == 0);
    }
    int before = fcntl(null, F_DUPFD_CLOEXEC, 0);
    close(before);
    children_count = 0;
    sessions_init(&sessions, &loop, &inherited, -1);
    size_t budget = sessions.budget.left = fuzz_once_in(4) ? fuzz_below(64) : sessions.budget.left;
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i].socket = -1;
    for (uint32_t steps = 4 + fuzz_below(24); steps; steps--)
        happen(&sessions);
    if (fuzz_once_in(2))
        sessions_ending(&sessions);
    for (size_t i = 0; i < children_count; i++) {
        pid_t pid = children[i].pid;
        children[i].pid = 0;
        if (pid && fuzz_once_in(2))
            sessions_reaped(&sessions, pid, random_status());
    }
    sessions_close(&sessions);
    for (size_t i = 0; i < children_count; i++)
        close_descriptor(&children[i].writer);
    for (size_t i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    HOLDS(!sessions.running && !sessions.first && !sessions.last && sessions.budget.left == budget);
    int after = fcntl(null, F_DUPFD_CLOEXEC, 0);
    close(after);
    HOLDS(before == after);
}
