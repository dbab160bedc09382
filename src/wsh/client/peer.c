/* The other end of the control socket; see peer.h. */

#include "client/peer.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client/files.h"
#include "client/instance.h"

/* A socket's address has no room for a long path: then the directory is opened, and named by its descriptor. */
static int make_address(struct sockaddr_un *address, const char *run_directory, const char *name, int *directory)
{
    char path[PATH_MAX];
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(path, sizeof path, "%s/ctl/%s.sock", run_directory, name);
    if (length < (int)sizeof address->sun_path) {
        strcpy(address->sun_path, path);
        return 0;
    }
    if (snprintf(path, sizeof path, "%s/ctl", run_directory) >= (int)sizeof path)
        return -ENAMETOOLONG;
    *directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*directory < 0)
        return -errno;
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s.sock", *directory, name);
    return 0;
}

/* A queue of connections that is full is waited for: connect does not say when there is place again. */
static int connect_until(int socket, const struct sockaddr_un *address, int64_t deadline)
{
    for (long pause = 1;; pause = pause < 64 ? 2 * pause : pause) {
        if (!connect(socket, (const struct sockaddr *)address, sizeof *address))
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (now_ms() >= deadline)
            return -ETIMEDOUT;
        nanosleep(&(struct timespec){.tv_nsec = pause * 1000000}, NULL);
    }
}

int peer_connect(const char *run_directory, const char *name, int64_t deadline, struct failure *failure)
{
    struct sockaddr_un address;
    cleanup_close int directory = -1;
    if (!is_instance_name(name))
        return fail(failure, 0, "%s: no instance has such a name; wsh ls lists them", name);
    int result = make_address(&address, run_directory, name, &directory);
    int control = result < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!result && control < 0)
        return fail(failure, errno, "socket");
    if (!result)
        result = connect_until(control, &address, deadline);
    if (!result)
        return control;
    close_descriptor(&control);
    return instance_explain(run_directory, name, -result, failure);
}

/* The numbers of a line of /proc/PID/status: the first, and the last. */
static int read_numbers(const char *status, const char *key, unsigned long *first, unsigned long *last)
{
    const char *line = strstr(status, key);
    int count = 0;
    if (!line)
        return 0;
    for (const char *at = line + strlen(key); *at == '\t' || *at == ' '; count++) {
        char *end;
        unsigned long number = strtoul(at, &end, 10);
        if (end == at)
            break;
        if (!count)
            *first = number;
        *last = number;
        at = end;
    }
    return count;
}

int peer_check(int socket, const char *name, uid_t *uid, gid_t *gid, struct failure *failure)
{
    struct ucred peer;
    char path[32], status[8192];
    unsigned long first = 0, last = 0;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer}) < 0)
        return fail(failure, errno, "%s: its control socket", name);
    if (peer.pid <= 0)
        return fail(failure, 0, "%s: its PID 1 is not visible from here; wsh runs on the host", name);
    snprintf(path, sizeof path, "/proc/%d/status", (int)peer.pid);
    ssize_t length = read_file(path, status, sizeof status - 1);
    if (length < 0)
        return fail(failure, 0, "%s: its PID 1 has just ended", name);
    status[length] = 0;
    if (read_numbers(status, "\nNSpid:", &first, &last) < 2 || last != 1)
        return fail(failure, 0, "%s: what listens at its control socket is not a container's PID 1", name);
    if (!read_numbers(status, "\nUid:", &first, &last))
        return fail(failure, 0, "%s: its user cannot be read", name);
    *uid = (uid_t)first;
    if (!read_numbers(status, "\nGid:", &first, &last))
        return fail(failure, 0, "%s: its group cannot be read", name);
    *gid = (gid_t)first;
    return 0;
}
