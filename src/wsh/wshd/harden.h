/* What PID 1 does to itself before anything else, and what of that its children must not inherit. */

#ifndef WSHD_HARDEN_H
#define WSHD_HARDEN_H

#include <sys/resource.h>

/* How much sooner than PID 1 its children are taken when memory runs out. */
#define CHILD_OOM_SCORE 100

/* What PID 1 had before, for its children. */
struct inherited {
    struct rlimit descriptors; /* RLIMIT_NOFILE */
    int oom_score_file;        /* PID 1's own, or -1 */
    int oom_score;
};

/* Not dumpable: no process of the same user may trace PID 1, nor look into its memory or its descriptors.
 * No new privileges. As many descriptors as the hard limit allows. Exits where one of the first two fails. */
void harden(struct inherited *inherited);

/* Around fork: a child inherits PID 1's score. The child cannot raise it by itself: until its exec it is not
 * dumpable either, and its files in /proc are root's. */
void oom_score_for_child(const struct inherited *inherited);
void oom_score_for_self(const struct inherited *inherited);

#endif
