/* What PID 1 does to itself; see harden.h. */

#include "harden.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common.h"
#include "protocol.h"

/* Opened while /proc/self is still our own; reading and writing it later is not checked again. */
static void open_oom_score(struct inherited *inherited)
{
    char text[16];
    inherited->oom_score_file = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    ssize_t length = pread(inherited->oom_score_file, text, sizeof text - 1, 0);
    if (length <= 0) {
        close_descriptor(&inherited->oom_score_file);
        return;
    }
    text[length] = 0;
    inherited->oom_score = atoi(text);
}

void harden(struct inherited *inherited)
{
    open_oom_score(inherited);
    if (prctl(PR_SET_DUMPABLE, 0) < 0)
        die(EXIT_SELF, "PR_SET_DUMPABLE: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die(EXIT_SELF, "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
    getrlimit(RLIMIT_NOFILE, &inherited->descriptors);
    struct rlimit all = {.rlim_cur = inherited->descriptors.rlim_max, .rlim_max = inherited->descriptors.rlim_max};
    setrlimit(RLIMIT_NOFILE, &all); /* fewer descriptors are fewer sessions, no more */
}

static void write_oom_score(const struct inherited *inherited, int score)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d", score > 1000 ? 1000 : score);
    if (inherited->oom_score_file >= 0) {
        ssize_t written = pwrite(inherited->oom_score_file, text, (size_t)length, 0);
        (void)written; /* without it, the kernel may take PID 1 as soon as a child of its size */
    }
}

void oom_score_for_child(const struct inherited *inherited)
{
    write_oom_score(inherited, inherited->oom_score + CHILD_OOM_SCORE);
}

void oom_score_for_self(const struct inherited *inherited)
{
    write_oom_score(inherited, inherited->oom_score);
}
