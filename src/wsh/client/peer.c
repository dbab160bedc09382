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

/* Where a process's user namespace is our own, each id is its own number, whatever the files of maps say: the kernel
 * shows the numbers of the namespace above in them. */
static bool shares_ids(int pid)
{
    char path[32], its[64], ours[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    ssize_t length = readlink(path, its, sizeof its);
    return length > 0 && readlink("/proc/self/ns/user", ours, sizeof ours) == length &&
           !memcmp(its, ours, (size_t)length);
}

static int read_map(int pid, const char *kind, struct id_map *map)
{
    static char text[ID_MAP_TEXT];
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, kind);
    ssize_t length = read_file(path, text, sizeof text - 1);
    if (length < 0)
        return (int)length;
    text[length] = 0;
    return id_map_parse(map, text);
}

static int read_maps(int pid, struct id_maps *maps)
{
    if (shares_ids(pid) || access("/proc/self/uid_map", F_OK)) { /* or this kernel has no user namespaces */
        id_map_same(&maps->uids);
        id_map_same(&maps->gids);
        return 0;
    }
    int result = read_map(pid, "uid_map", &maps->uids);
    return result < 0 ? result : read_map(pid, "gid_map", &maps->gids);
}

/* The user and the group of a process, of which the host's numbers stand in its status. */
static int read_user(const char *status, struct peer *peer)
{
    unsigned long uid = 0, gid = 0, last;
    if (!read_numbers(status, "\nUid:", &uid, &last) || !read_numbers(status, "\nGid:", &gid, &last))
        return -EPROTO;
    bool known = id_to_inside(&peer->maps.uids, (uint32_t)uid, &peer->uid) &&
                 id_to_inside(&peer->maps.gids, (uint32_t)gid, &peer->gid);
    return known ? 0 : -EPROTO;
}

int peer_check(int socket, const char *name, struct peer *peer, struct failure *failure)
{
    struct ucred ends;
    char path[32], status[8192];
    unsigned long first = 0, last = 0;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &ends, &(socklen_t){sizeof ends}) < 0)
        return fail(failure, errno, "%s: its control socket", name);
    if (ends.pid <= 0)
        return fail(failure, 0, "%s: its PID 1 is not visible from here; wsh runs on the host", name);
    snprintf(path, sizeof path, "/proc/%d/status", (int)ends.pid);
    ssize_t length = read_file(path, status, sizeof status - 1);
    if (length < 0)
        return fail(failure, 0, "%s: its PID 1 has just ended", name);
    status[length] = 0;
    if (read_numbers(status, "\nNSpid:", &first, &last) < 2 || last != 1)
        return fail(failure, 0, "%s: what listens at its control socket is not a container's PID 1", name);
    if (read_maps((int)ends.pid, &peer->maps) < 0 || read_user(status, peer) < 0)
        return fail(failure, 0, "%s: its user cannot be read", name);
    return 0;
}
