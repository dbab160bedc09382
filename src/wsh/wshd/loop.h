/* Waiting for descriptors: epoll, one event at a time.
 *
 * One event per call costs a system call more than a batch would, and no handler can free what a later event of
 * the same batch points to. epoll gives ready descriptors in turn, so none starves another. */

#ifndef WSHD_LOOP_H
#define WSHD_LOOP_H

#include <stddef.h>
#include <stdint.h>

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct loop {
    int epoll;
};

/* One descriptor that is waited for. It is embedded in what it belongs to. */
struct watch {
    int fd;
    void (*ready)(struct watch *watch, uint32_t events);
};

int loop_open(struct loop *loop);

/* `events` are epoll's, level-triggered; errors and hang-ups come in any case. */
int loop_add(struct loop *loop, struct watch *watch, uint32_t events);
int loop_change(struct loop *loop, struct watch *watch, uint32_t events);

/* Ends the watch and closes its descriptor. The removal is explicit: epoll forgets a descriptor by itself only
 * when no process has its file open any more, and a child that was stopped before its exec still has. */
void loop_close(struct loop *loop, struct watch *watch);

/* Waits up to `timeout` milliseconds (-1: for ever) for one event and calls its handler. */
void loop_wait(struct loop *loop, int timeout);

#endif
