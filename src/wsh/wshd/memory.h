/* The kernel's count of processes of this container that it killed for memory. */

#ifndef WSHD_MEMORY_H
#define WSHD_MEMORY_H

#include <stdint.h>

/* Reads the line "oom_kill N" of the cgroup's file: memory.events, or memory.oom_control of cgroup v1. Where there
 * is no descriptor or no such line the count is always 0. */
uint64_t memory_kills(int descriptor);

#endif
