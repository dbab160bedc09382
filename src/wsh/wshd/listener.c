/* The control socket; see listener.h. */

#include "listener.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "reply.h"

#define PAUSE_MS 100

/* A client inside of the container has a pid here; from outside it has none. None inside should reach this socket,
 * for its directory is not mounted: this is the second lock. */
static bool is_outside(int socket)
{
    struct ucred peer = {.pid = -1};
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == 0;
}

static int take(struct listener *listener)
{
    int socket = accept4(listener->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return socket < 0 ? -errno : socket;
}

static void pause_listening(struct listener *listener)
{
    loop_change(listener->loop, &listener->watch, 0);
    listener->paused_to = now_ms() + PAUSE_MS;
}

/* No descriptor is left: the spare one serves to say so. If even that was taken, by the rest of the machine, the
 * connections wait a moment in the queue; epoll would otherwise report them without end. */
static void refuse_one(struct listener *listener)
{
    close_descriptor(&listener->spare);
    cleanup_close int socket = take(listener);
    if (socket >= 0)
        reply_error(socket, ERROR_NO_RESOURCE, 0, "no descriptor left for a session");
    else if (socket != -EAGAIN)
        pause_listening(listener);
    close_descriptor(&socket);
    listener->spare = fcntl(listener->watch.fd, F_DUPFD_CLOEXEC, 0);
}

static void on_connection(struct watch *watch, uint32_t events)
{
    struct listener *listener = container_of(watch, struct listener, watch);
    (void)events;
    int socket = take(listener);
    if (socket == -EAGAIN || socket == -ECONNABORTED || socket == -EINTR)
        return;
    if (socket < 0)
        refuse_one(listener);
    else if (is_outside(socket))
        sessions_accept(listener->sessions, socket);
    else
        close_descriptor(&socket);
}

int listener_open(struct listener *listener, struct loop *loop, struct sessions *sessions, int socket)
{
    *listener = (struct listener){.watch = {.fd = socket, .ready = on_connection},
                                  .loop = loop,
                                  .sessions = sessions,
                                  .spare = fcntl(socket, F_DUPFD_CLOEXEC, 0)};
    return loop_add(loop, &listener->watch, EPOLLIN);
}

int listener_timeout(const struct listener *listener)
{
    if (!listener->paused_to)
        return -1;
    int64_t left = listener->paused_to - now_ms();
    return left < 0 ? 0 : (int)left;
}

void listener_resume(struct listener *listener)
{
    if (!listener->paused_to || listener->paused_to > now_ms())
        return;
    listener->paused_to = 0;
    loop_change(listener->loop, &listener->watch, EPOLLIN);
}
