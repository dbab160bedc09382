/* The instance's life after the gate: its own program, the sessions, and the end of all. */

#ifndef WSHD_PID1_H
#define WSHD_PID1_H

#include "boot.h"
#include "harden.h"

/* Starts the program and serves sessions until it ends; kills and reaps what is left. Returns the code to exit
 * with: the program's own, or 128 + the signal that ended it. */
int pid1_run(char **argv, const struct passage *passage, int signals, const struct inherited *inherited);

#endif
