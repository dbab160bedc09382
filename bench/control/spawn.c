/* Runs one command again and again, each time as a new process, from one or several clients at the same time.
 *
 * usage: spawn CLIENTS COUNT SECONDS COMMAND...
 *
 * Each client stops after COUNT runs or after SECONDS, whichever comes first; 0 is no bound. The first line of the
 * output is the time of all together, each further one that of a run, from before its spawn until its end was seen;
 * all in nanoseconds. A run that does not exit with 0 ends its client, and makes the exit status 1. It is in C so that
 * little of what is measured is its own; how much, a run of /bin/true tells. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define RUNS_MAX (1 << 18) /* of one client */

struct client {
    size_t runs;
    uint64_t nanoseconds[RUNS_MAX];
};

struct bounds {
    size_t runs;
    uint64_t end; /* on the monotonic clock */
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* vfork and exec alone cost about three quarters of what posix_spawn costs. */
static bool run(char **command)
{
    int status;
    pid_t pid = vfork();
    if (!pid) {
        execvp(command[0], command);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        perror(command[0]);
        return false;
    }
    if (status)
        fprintf(stderr, "%s: wait status %#x\n", command[0], (unsigned)status);
    return !status;
}

/* The body of one client's process. */
static int work(struct client *client, struct bounds bounds, char **command)
{
    for (uint64_t begun = now(); client->runs < bounds.runs && begun < bounds.end; begun = now()) {
        if (!run(command))
            return 1;
        client->nanoseconds[client->runs++] = now() - begun;
    }
    return 0;
}

/* Commands read nothing, and what they print is nobody's; what they complain of stays visible. Our own output is
 * kept aside. */
static FILE *silence(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || kept < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return NULL;
    return fdopen(kept, "w");
}

static int run_clients(struct client *clients, size_t count, struct bounds bounds, char **command)
{
    int status, failed = 0;
    for (size_t i = 0; i < count; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(work(&clients[i], bounds, command));
        failed |= pid < 0;
    }
    while (wait(&status) > 0)
        failed |= !!status;
    return failed;
}

int main(int argc, char **argv)
{
    size_t count = argc > 4 ? strtoul(argv[1], NULL, 10) : 0;
    if (!count || count > CLIENTS_MAX) {
        fprintf(stderr, "usage: spawn CLIENTS COUNT SECONDS COMMAND...\n");
        return 2;
    }
    size_t runs = strtoul(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    FILE *output = silence();
    struct client *clients = mmap(NULL, count * sizeof *clients, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!output || clients == MAP_FAILED) {
        perror("spawn");
        return 1;
    }
    uint64_t begun = now();
    struct bounds bounds = {
        .runs = runs && runs < RUNS_MAX ? runs : RUNS_MAX,
        .end = seconds > 0 ? begun + (uint64_t)(seconds * 1e9) : UINT64_MAX,
    };
    int failed = run_clients(clients, count, bounds, argv + 4);
    fprintf(output, "%" PRIu64 "\n", now() - begun);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < clients[i].runs; k++)
            fprintf(output, "%" PRIu64 "\n", clients[i].nanoseconds[k]);
    return fclose(output) || failed;
}
