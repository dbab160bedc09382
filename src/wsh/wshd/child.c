/* Starting a program; see child.h. */

#include "child.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define REPORT_FD 3

extern char **environ;

/* Puts descriptors 0 to 2 in place, the report at 3, and closes all others. What we have lies above 3: 0 to 2 are
 * open from the start, and 3 was made first and is not one of the streams (see wshd.c). */
static int place_descriptors(const struct program *program, const struct streams *streams, int *report,
                             struct failure *failure)
{
    if (program->tty && ioctl(streams->inside[0], TIOCSCTTY, 0) < 0)
        return fail(failure, errno, "taking the terminal");
    for (int i = 0; streams && i < 3; i++)
        if (dup2(streams->inside[program->tty ? 0 : i], i) < 0)
            return fail(failure, errno, "placing a stream");
    if (*report != REPORT_FD && dup3(*report, REPORT_FD, O_CLOEXEC) < 0)
        return fail(failure, errno, "placing the report");
    *report = REPORT_FD;
    if (syscall(SYS_close_range, REPORT_FD + 1, UINT_MAX, 0) < 0)
        return fail(failure, errno, "close_range");
    return 0;
}

static int apply_limits(const struct program *program, const struct inherited *inherited, struct failure *failure)
{
    if (setrlimit(RLIMIT_NOFILE, &inherited->descriptors) < 0)
        return fail(failure, errno, "restoring the limit of descriptors");
    for (size_t i = 0; i < program->rlimit_count; i++) {
        const struct program_rlimit *one = &program->rlimits[i];
        if (setrlimit(one->resource, &one->limit) < 0)
            return fail(failure, errno, "setting resource limit %d", one->resource);
    }
    return 0;
}

/* Lays the program's variables over the instance's environment, which stays in its order. */
static char **merge_environment(char **variables)
{
    size_t own = 0, added = 0;
    while (environ[own])
        own++;
    while (variables && variables[added])
        added++;
    char **merged = calloc(own + added + 1, sizeof *merged);
    if (!merged)
        return NULL;
    memcpy(merged, environ, own * sizeof *merged);
    size_t count = own;
    for (size_t i = 0; i < added; i++) {
        size_t name = (size_t)(strchr(variables[i], '=') - variables[i]) + 1, at = 0;
        while (at < own && strncmp(merged[at], variables[i], name))
            at++;
        merged[at < own ? at : count++] = variables[i];
    }
    return merged;
}

static const char *find_variable(char **variables, const char *name)
{
    size_t length = strlen(name);
    for (; *variables; variables++)
        if (!strncmp(*variables, name, length) && (*variables)[length] == '=')
            return *variables + length + 1;
    return NULL;
}

/* Executes `file` from the first directory of PATH that has it. Returns the errno to tell: a file that was there
 * and could not be executed counts more than those that were not there. */
static int execute_by_path(char *file, char **argv, char **variables)
{
    const char *path = find_variable(variables, "PATH");
    int error = ENOENT;
    if (!*file)
        return error;
    for (const char *at = path ? path : DEFAULT_PATH, *next; at; at = next) {
        char full[PATH_MAX];
        size_t length = strcspn(at, ":");
        next = at[length] ? at + length + 1 : NULL;
        if (length >= sizeof full ||
            snprintf(full, sizeof full, "%.*s%s%s", (int)length, at, length ? "/" : "", file) >= (int)sizeof full)
            continue;
        execve(full, argv, variables);
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            return errno;
        if (errno == EACCES)
            error = EACCES;
    }
    return error;
}

/* Becomes the program. Returns only where that fails. */
static int become(const struct program *program, const struct streams *streams, const struct inherited *inherited,
                  int *report, struct failure *failure)
{
    int result;
    if (setsid() < 0)
        return fail(failure, errno, "setsid");
    if ((result = place_descriptors(program, streams, report, failure)) < 0)
        return result;
    if ((result = apply_limits(program, inherited, failure)) < 0)
        return result;
    if (program->has_umask)
        umask(program->umask);
    if (program->cwd && chdir(program->cwd) < 0)
        return fail(failure, errno, "changing to the directory %.200s", program->cwd);
    char **variables = merge_environment(program->variables);
    if (!variables)
        return fail(failure, ENOMEM, "making the environment");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* what was sent since fork arrives now */
    char *file = program->argv[0];
    int error = 0;
    if (strchr(file, '/'))
        error = execve(file, program->argv, variables) < 0 ? errno : 0;
    else
        error = execute_by_path(file, program->argv, variables);
    return fail(failure, error, "executing %.200s", file);
}

pid_t child_start(const struct program *program, const struct streams *streams, const struct inherited *inherited,
                  int *report, struct failure *failure)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail(failure, errno, "making a pipe");
    oom_score_for_child(inherited);
    pid_t pid = fork();
    int error = errno;
    if (!pid) {
        struct failure told = {0};
        become(program, streams, inherited, &ends[1], &told);
        ssize_t written = write(ends[1], &told, sizeof told); /* less than PIPE_BUF: whole */
        (void)written;
        _exit(told.error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE);
    }
    oom_score_for_self(inherited);
    close_descriptor(&ends[1]);
    if (pid < 0) {
        close_descriptor(&ends[0]);
        if (error == EAGAIN)
            return fail(failure, error, "no new process: the limit of processes (pids.max, or RLIMIT_NPROC) is reached");
        return fail(failure, error, "no new process");
    }
    *report = ends[0];
    return pid;
}

enum child_state child_report(int report, struct failure *failure)
{
    ssize_t length = TEMP_FAILURE_RETRY(read(report, failure, sizeof *failure));
    if (length == sizeof *failure) {
        failure->text[sizeof failure->text - 1] = 0;
        return CHILD_FAILED;
    }
    return length < 0 && errno == EAGAIN ? CHILD_PENDING : CHILD_EXECUTED;
}

void child_signal(pid_t pid, int number, bool group)
{
    /* Before its setsid a child has no group of its own yet, and is alone. */
    if (!group || (kill(-pid, number) < 0 && errno == ESRCH))
        kill(pid, number);
}
