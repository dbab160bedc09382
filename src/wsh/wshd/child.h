/* Starting a program: fork, and all that happens between fork and exec.
 *
 * fork and never vfork: a tenant's process may stop the child before its exec, and PID 1 would stop with it. For
 * the same reason nobody waits for the child: what fails in it is told through a pipe that is read when it can be. */

#ifndef WSHD_CHILD_H
#define WSHD_CHILD_H

#include <sys/types.h>

#include "common.h"
#include "harden.h"
#include "program.h"
#include "streams.h"

/* Starts a program in a session and process group of its own, with `streams`, or with PID 1's own where that is
 * NULL. Returns its pid and, in *report, a non-blocking descriptor for child_report. Fails with -errno: -EAGAIN at
 * a limit of processes. */
pid_t child_start(const struct program *program, const struct streams *streams, const struct inherited *inherited,
                  int *report, struct failure *failure);

enum child_state { CHILD_PENDING, CHILD_EXECUTED, CHILD_FAILED };

/* What has become of the exec: not yet known, done, or failed, and then why. Never blocks. */
enum child_state child_report(int report, struct failure *failure);

/* Sends a signal to a child that has not been reaped, or to its process group. */
void child_signal(pid_t pid, int signal, bool group);

#endif
