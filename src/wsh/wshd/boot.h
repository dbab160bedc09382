/* The gate: wshd waits here until the host says that every limit and rule of its container holds. */

#ifndef WSHD_BOOT_H
#define WSHD_BOOT_H

/* What comes through the gate with the word to go. */
struct passage {
    int listener;       /* the control socket, listening */
    int memory_counter; /* see memory.h; or -1 */
    int host;           /* the connection to the host, which waits to hear how the program's start went */
};

/* Knocks at the socket `path` for as long as it takes, reaps what other ways into the container leave behind, and
 * returns when the gate is open. It exits with EXIT_SELF and the host's reason where the gate stays closed, and
 * with 128 + n where somebody outside sends a signal that ends a process. `signals` is from signals_open. */
struct passage boot_wait(const char *path, int signals);

/* Tells the host that the program has been executed, and with it that nobody waits at the gate any more. If the host
 * does not hear this, it finds out by itself: somebody listens. */
void boot_opened(int host);

#endif
