/* Killing a whole session; see killing.h. */

#include "killing.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"
#include "child.h"

/* A tenant may fork while we look. Each round stops what it finds, so that few rounds find all. */
#define ROUNDS 5
#define FOUND_MAX 65536

struct process {
    pid_t pid, parent, session;
    unsigned long long started; /* a number that is used again belongs to another start */
    bool ours;
};

struct processes {
    struct process *all;
    size_t count, capacity;
};

/* Reads /proc/PID/stat. The name in it may hold anything; what follows its last bracket may not. */
static bool read_process(pid_t pid, struct process *process)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = 0;
    const char *rest = strrchr(text, ')');
    int parent, session;
    *process = (struct process){.pid = pid};
    if (!rest || sscanf(rest + 1,
                        " %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &parent,
                        &session, &process->started) != 3)
        return false;
    process->parent = parent;
    process->session = session;
    return true;
}

static void add(struct processes *found, const struct process *process)
{
    if (found->count == found->capacity) {
        size_t capacity = found->capacity ? 2 * found->capacity : 64;
        struct process *all = capacity > FOUND_MAX ? NULL : realloc(found->all, capacity * sizeof *all);
        if (!all)
            return;
        found->all = all;
        found->capacity = capacity;
    }
    found->all[found->count++] = *process;
}

static void look(struct processes *found)
{
    found->count = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        struct process process;
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 1 && read_process(pid, &process))
            add(found, &process);
    }
    if (proc)
        closedir(proc);
}

/* /proc lists its processes by number, so a half of them can be left out at a time. */
static bool is_ours(const struct processes *found, pid_t pid)
{
    size_t low = 0, high = found->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (found->all[middle].pid == pid)
            return found->all[middle].ours;
        if (found->all[middle].pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Marks the session's processes and their descendants. Most parents come before their children, and then the second
 * pass finds nothing. Returns how many there are. */
static size_t mark(struct processes *found, pid_t leader)
{
    size_t marked = 0;
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < found->count; i++) {
            struct process *one = &found->all[i];
            if (one->ours || (one->session != leader && one->pid != leader && !is_ours(found, one->parent)))
                continue;
            one->ours = more = true;
            marked++;
        }
    }
    return marked;
}

/* Sends the signal to exactly that process: never to another that got its number since. */
static void signal_process(const struct process *process, int number)
{
    struct process now;
    cleanup_close int descriptor = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (descriptor >= 0 && read_process(process->pid, &now) && now.started == process->started)
        syscall(SYS_pidfd_send_signal, descriptor, number, NULL, 0);
}

static void signal_marked(const struct processes *found, int number)
{
    for (size_t i = 0; i < found->count; i++)
        if (found->all[i].ours)
            signal_process(&found->all[i], number);
}

void kill_session(pid_t leader)
{
    struct processes found = {0};
    size_t before = 0;
    child_signal(leader, SIGSTOP, true);
    for (int round = 0; round < ROUNDS; round++) {
        look(&found);
        size_t marked = mark(&found, leader);
        if (round && marked == before)
            break;
        before = marked;
        signal_marked(&found, SIGSTOP);
    }
    signal_marked(&found, SIGKILL);
    child_signal(leader, SIGKILL, true);
    free(found.all);
}
