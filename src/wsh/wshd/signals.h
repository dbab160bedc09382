/* Signals of PID 1: all are blocked and read from a descriptor, and only those from outside mean anything.
 *
 * A blocked signal is queued even for PID 1, so what a tenant sends shows up here; kill() from inside carries the
 * sender's pid as seen from inside, from outside it carries 0. */

#ifndef WSHD_SIGNALS_H
#define WSHD_SIGNALS_H

#include <stdbool.h>
#include <sys/signalfd.h>

/* Blocks all signals, gives each its default disposition (children inherit both, and unblock before exec), and
 * returns a non-blocking descriptor to read them from, or -errno. */
int signals_open(void);

/* Reads one signal. Returns whether there was one. */
bool signals_next(int descriptor, struct signalfd_siginfo *info);

/* Whether a process outside of the container has sent it.
 *
 * A tenant can make one that looks so: when its user's queue of signals is full, sigqueue() of a standard signal
 * arrives stripped of its sender. So such a signal is never allowed to do more than the tenant can do itself: it
 * is passed on to the tenant's own program. Before the gate has opened there is no tenant.
 *
 * What the kernel itself sends (SI_KERNEL) is left out: the only such signals that can reach a PID 1 without
 * terminal are SIGIO, SIGURG and those of its resource limits, all of them a tenant's doing. */
bool signals_from_outside(const struct signalfd_siginfo *info);

/* Whether the signal ends a process that has made no arrangements for it. */
bool signals_terminates(int signal);

#endif
