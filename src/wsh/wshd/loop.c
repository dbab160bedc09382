/* Waiting for descriptors; see loop.h. */

#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>

#include "common.h"

int loop_open(struct loop *loop)
{
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll < 0 ? -errno : 0;
}

static int control(struct loop *loop, int operation, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(loop->epoll, operation, watch->fd, &event) < 0 ? -errno : 0;
}

int loop_add(struct loop *loop, struct watch *watch, uint32_t events)
{
    return control(loop, EPOLL_CTL_ADD, watch, events);
}

int loop_change(struct loop *loop, struct watch *watch, uint32_t events)
{
    return control(loop, EPOLL_CTL_MOD, watch, events);
}

void loop_close(struct loop *loop, struct watch *watch)
{
    if (watch->fd < 0)
        return;
    control(loop, EPOLL_CTL_DEL, watch, 0);
    close_descriptor(&watch->fd);
}

void loop_wait(struct loop *loop, int timeout)
{
    struct epoll_event event;
    if (epoll_wait(loop->epoll, &event, 1, timeout) == 1) {
        struct watch *watch = event.data.ptr;
        watch->ready(watch, event.events);
    }
}
