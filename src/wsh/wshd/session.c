/* The control socket's connections; see session.h. */

#include "session.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "killing.h"
#include "memory.h"
#include "reply.h"

struct session {
    struct sessions *all;
    struct watch client, report;
    struct wire_reader reader;
    int64_t deadline;   /* FIRST */
    pid_t pid;          /* RUNNING: not reaped yet; otherwise 0 */
    uint64_t kills;     /* RUNNING: the kernel's count when it started */
    bool kill_on_disconnect, killed_by_client;
    struct session *previous, *next; /* FIRST: by age; RUNNING: in the bucket of its pid */
};

void sessions_init(struct sessions *sessions, struct loop *loop, const struct inherited *inherited,
                   int memory_counter)
{
    *sessions = (struct sessions){.loop = loop,
                                  .inherited = inherited,
                                  .memory_counter = memory_counter,
                                  .budget = {.left = SESSIONS_PAYLOAD_MAX}};
}

static struct session **bucket(struct sessions *sessions, pid_t pid)
{
    return &sessions->by_pid[(unsigned)pid % SESSIONS_BUCKETS];
}

/* FIRST: the newest goes to the end. All have the same time, so the list is in the order of their deadlines. */
static void wait_for_first(struct session *session)
{
    struct sessions *all = session->all;
    session->deadline = now_ms() + WSH_FIRST_FRAME_MS;
    session->previous = all->last;
    *(all->last ? &all->last->next : &all->first) = session;
    all->last = session;
}

static void leave_first(struct session *session)
{
    struct sessions *all = session->all;
    *(session->previous ? &session->previous->next : &all->first) = session->next;
    *(session->next ? &session->next->previous : &all->last) = session->previous;
    session->previous = session->next = NULL;
}

static void enter_running(struct session *session, pid_t pid)
{
    struct session **head = bucket(session->all, pid);
    leave_first(session);
    session->pid = pid;
    session->next = *head;
    if (*head)
        (*head)->previous = session;
    *head = session;
    session->all->running++;
}

static void leave_running(struct session *session)
{
    *(session->previous ? &session->previous->next : bucket(session->all, session->pid)) = session->next;
    if (session->next)
        session->next->previous = session->previous;
    session->pid = 0;
    session->previous = session->next = NULL;
    session->all->running--;
}

/* Ends the connection and frees the session. Its program, if it still runs, is killed or left alone. */
static void drop(struct session *session)
{
    if (session->pid) {
        if (session->kill_on_disconnect)
            kill_session(session->pid);
        leave_running(session);
    } else {
        leave_first(session);
    }
    loop_close(session->all->loop, &session->report);
    /* A child that was stopped before its exec still has this socket: without it the client would not see the end. */
    shutdown(session->client.fd, SHUT_RDWR);
    loop_close(session->all->loop, &session->client);
    wire_reader_reset(&session->reader);
    free(session);
}

static void refuse(struct session *session, enum error_code code, const char *text)
{
    reply_error(session->client.fd, code, 0, text);
    drop(session);
}

static void answer_ping(struct session *session)
{
    reply_pong(session->client.fd, session->all->running);
    drop(session);
}

static void tell_exited(struct session *session, enum ended how, int value)
{
    reply_exited(session->client.fd, how, value);
    drop(session);
}

/* The pipe of the child is readable: its exec is done, or failed. Returns whether the session lives on. */
static bool read_report(struct session *session)
{
    struct failure failure;
    switch (child_report(session->report.fd, &failure)) {
    case CHILD_PENDING:
        return true;
    case CHILD_EXECUTED:
        loop_close(session->all->loop, &session->report);
        return true;
    case CHILD_FAILED:
    default:
        session->kill_on_disconnect = false; /* it is exiting */
        reply_error(session->client.fd, ERROR_CANNOT_EXECUTE, failure.error, failure.text);
        drop(session);
        return false;
    }
}

static void on_report(struct watch *watch, uint32_t events)
{
    (void)events;
    read_report(container_of(watch, struct session, report));
}

static enum error_code code_of(int error)
{
    return error == -EAGAIN ? ERROR_NO_PROCESS : ERROR_NO_RESOURCE;
}

static void run(struct session *session, const struct program *program)
{
    struct sessions *all = session->all;
    struct streams streams;
    struct failure failure;
    if (streams_open(&streams, program, &failure) < 0) {
        refuse(session, ERROR_NO_RESOURCE, failure.text);
        return;
    }
    session->kills = memory_kills(all->memory_counter);
    pid_t pid = child_start(program, &streams, all->inherited, &session->report.fd, &failure);
    streams_close_inside(&streams);
    if (pid < 0) {
        streams_close_outside(&streams);
        refuse(session, code_of(pid), failure.text);
        return;
    }
    enter_running(session, pid);
    session->kill_on_disconnect = true; /* until the client has its streams, nobody wants the program */
    wire_reader_reset(&session->reader);
    int result = loop_add(all->loop, &session->report, EPOLLIN);
    if (!result)
        result = reply_started(session->client.fd, pid, &streams);
    streams_close_outside(&streams);
    if (result < 0) {
        fail(&failure, -result, "handing over the streams");
        refuse(session, ERROR_NO_RESOURCE, failure.text);
        return;
    }
    session->kill_on_disconnect = program->kill_on_disconnect;
}

static void start(struct session *session)
{
    struct program program;
    const char *why = NULL;
    int result = program_parse(&program, &session->reader.frame, &why);
    if (result == -EPROTO)
        refuse(session, ERROR_MALFORMED, why);
    else if (result < 0)
        refuse(session, ERROR_NO_RESOURCE, "no memory for the request");
    else
        run(session, &program);
    program_free(&program);
}

static void forward_signal(struct session *session)
{
    const struct wire_frame *frame = &session->reader.frame;
    const uint8_t *payload = frame->payload;
    if (frame->length != 4 || payload[0] < 1 || payload[0] > 64 || payload[1] > TARGET_GROUP ||
        wire_get_u16(payload + 2)) {
        refuse(session, ERROR_MALFORMED, "SIGNAL has the wrong form");
        return;
    }
    session->killed_by_client |= payload[0] == SIGKILL;
    child_signal(session->pid, payload[0], payload[1] == TARGET_GROUP);
    wire_reader_reset(&session->reader);
}

/* A frame is whole. The session may be gone afterwards. */
static void take_frame(struct session *session)
{
    uint16_t type = session->reader.frame.type;
    if (session->pid && type == FRAME_SIGNAL)
        forward_signal(session);
    else if (session->pid)
        refuse(session, ERROR_MALFORMED, "only SIGNAL may follow EXEC");
    else if (type == FRAME_EXEC)
        start(session);
    else if (type == FRAME_PING && !session->reader.frame.length)
        answer_ping(session);
    else
        refuse(session, ERROR_MALFORMED, "the first frame is neither EXEC nor PING");
}

static void refuse_frame(struct session *session, int error)
{
    switch (error) {
    case -EPROTONOSUPPORT:
        refuse(session, ERROR_VERSION, "this version of the protocol is not spoken here");
        break;
    case -EMSGSIZE:
        refuse(session, ERROR_MALFORMED, "the frame is longer than its type allows");
        break;
    default:
        refuse(session, ERROR_NO_RESOURCE, "no memory for the frame");
    }
}

/* Reads what belongs to the current frame. Plain recv: the kernel discards descriptors that come along. Returns
 * whether there may be more of that frame. */
static bool read_some(struct session *session)
{
    uint8_t *at;
    size_t length;
    wire_want(&session->reader, &at, &length);
    ssize_t came = TEMP_FAILURE_RETRY(recv(session->client.fd, at, length, 0));
    if (came < 0 && errno == EAGAIN)
        return false;
    if (came <= 0) {
        drop(session);
        return false;
    }
    int result = wire_got(&session->reader, (size_t)came);
    if (result == WIRE_MORE)
        return true;
    if (result == WIRE_WHOLE)
        take_frame(session);
    else
        refuse_frame(session, result);
    return false;
}

static void on_client(struct watch *watch, uint32_t events)
{
    struct session *session = container_of(watch, struct session, client);
    (void)events;
    for (int reads = 0; reads < 64 && read_some(session); reads++)
        continue;
}

void sessions_accept(struct sessions *sessions, int socket)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session) {
        reply_error(socket, ERROR_NO_RESOURCE, 0, "no memory for a session");
        close_descriptor(&socket);
        return;
    }
    session->all = sessions;
    session->client = (struct watch){.fd = socket, .ready = on_client};
    session->report = (struct watch){.fd = -1, .ready = on_report};
    wire_reader_init(&session->reader, WIRE_VERSION, WIRE_VERSION, &sessions->budget);
    wait_for_first(session);
    if (loop_add(sessions->loop, &session->client, EPOLLIN) < 0)
        refuse(session, ERROR_NO_RESOURCE, "no memory for a session");
}

int sessions_timeout(const struct sessions *sessions)
{
    if (!sessions->first)
        return -1;
    int64_t left = sessions->first->deadline - now_ms();
    return left < 0 ? 0 : (int)left;
}

void sessions_expire(struct sessions *sessions)
{
    while (sessions->first && sessions->first->deadline <= now_ms())
        refuse(sessions->first, ERROR_TIMEOUT, "the first frame took too long");
}

/* Whether a program that died by SIGKILL was killed for memory: the kernel counts before it kills. Another process
 * of the container may have been meant, so a kill that the client asked for is not taken for it. */
static bool killed_for_memory(const struct session *session)
{
    return !session->killed_by_client && memory_kills(session->all->memory_counter) > session->kills;
}

static void tell_end(struct session *session, int status)
{
    if (WIFEXITED(status))
        tell_exited(session, ENDED_CODE, WEXITSTATUS(status));
    else if (WTERMSIG(status) != SIGKILL)
        tell_exited(session, ENDED_SIGNAL, WTERMSIG(status));
    else if (session->all->ending)
        refuse(session, ERROR_ENDING, "the instance ends");
    else
        tell_exited(session, killed_for_memory(session) ? ENDED_MEMORY : ENDED_SIGNAL, SIGKILL);
}

void sessions_reaped(struct sessions *sessions, pid_t pid, int status)
{
    struct session *session = *bucket(sessions, pid);
    while (session && session->pid != pid)
        session = session->next;
    if (!session)
        return;
    session->kill_on_disconnect = false; /* its pid means nothing any more */
    if (session->report.fd < 0 || read_report(session))
        tell_end(session, status);
}

void sessions_ending(struct sessions *sessions)
{
    sessions->ending = true;
}

void sessions_close(struct sessions *sessions)
{
    while (sessions->first)
        refuse(sessions->first, ERROR_ENDING, "the instance ends");
    for (size_t i = 0; i < SESSIONS_BUCKETS; i++)
        while (sessions->by_pid[i]) {
            sessions->by_pid[i]->kill_on_disconnect = false; /* all is killed already */
            refuse(sessions->by_pid[i], ERROR_ENDING, "the instance ends");
        }
}
