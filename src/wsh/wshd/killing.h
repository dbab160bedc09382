/* Killing a whole session, whatever its processes have done to hide. */

#ifndef WSHD_KILLING_H
#define WSHD_KILLING_H

#include <sys/types.h>

/* Kills the session's process group, every process with its session id, and every descendant of them that can be
 * told from its parents: one that called setsid() as well. What escapes is a process that had both called
 * setsid() and lost its parent before: nothing ties it to the session any more, and it ends with the instance.
 * The session's leader must not have been reaped yet. */
void kill_session(pid_t leader);

#endif
