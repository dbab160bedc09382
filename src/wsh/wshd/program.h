/* What shall be run and how: an EXEC frame, parsed once and checked. */

#ifndef WSHD_PROGRAM_H
#define WSHD_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "wire.h"

#define PROGRAM_RLIMITS 16 /* as many as the kernel knows */

struct program_rlimit {
    int resource;
    struct rlimit limit;
};

struct program {
    char **argv;      /* ends with NULL */
    char **variables; /* NAME=VALUE, ends with NULL; laid over the instance's own environment */
    const char *cwd;  /* NULL: where the instance's own program starts */
    bool has_umask, has_window, tty, kill_on_disconnect;
    mode_t umask;
    struct winsize window;
    size_t rlimit_count;
    struct program_rlimit rlimits[PROGRAM_RLIMITS];
    void *words; /* what program_free frees */
};

/* Reads an EXEC. The strings stay in the frame's payload, which is changed by it. Returns 0; or -EPROTO, with `why`
 * telling what is wrong with the frame; or -ENOMEM. */
int program_parse(struct program *program, const struct wire_frame *frame, const char **why);

void program_free(struct program *program);

#endif
