/* Making files, links and directories by descriptors; see make.h. */

#include "copy/make.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy/receive.h"
#include "protocol.h"

#define MODE_BITS 01777 /* set-id bits never pass from one side to the other */
#define NAME_ATTEMPTS 8

/* The unfinished file, for a signal's handler. */
static struct making unfinished = {.directory = -1, .file = -1};
static volatile sig_atomic_t is_unfinished;

static void remove_unfinished(int number)
{
    if (is_unfinished)
        unlinkat(unfinished.directory, unfinished.name, 0);
    _exit(EXIT_SIGNAL_BASE + number);
}

void copy_receive_guard(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT};
    struct sigaction action = {.sa_handler = remove_unfinished};
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++)
        sigaction(numbers[i], &action, NULL);
}

/* Splits off a path's last component. Returns its start, and how long the path before it is. */
static const char *last_component(const char *path, size_t *length, size_t *before)
{
    size_t end = strlen(path);
    while (end && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && path[start - 1] != '/')
        start--;
    *length = end - start;
    *before = start;
    return path + start;
}

/* The destination is not a directory: the copy gets its name. */
static int find_parent(struct target *target, const char *destination)
{
    char parent[PATH_MAX];
    size_t length, before;
    const char *name = last_component(destination, &length, &before);
    if (!length || length > COPY_NAME_MAX || before >= sizeof parent)
        return length ? -ENAMETOOLONG : -ENOENT;
    snprintf(target->name, sizeof target->name, "%.*s", (int)length, name);
    snprintf(parent, sizeof parent, "%.*s", before ? (int)before : 1, before ? destination : ".");
    if (!copy_name_is_plain(target->name))
        return -ENOENT;
    target->must_be_directory = name[length] == '/';
    target->directory = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return target->directory < 0 ? -errno : 0;
}

int target_find(struct target *target, const char *destination, const char *name)
{
    *target = (struct target){.directory = open(destination, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (target->directory < 0)
        return errno == ENOENT || errno == ENOTDIR ? find_parent(target, destination) : -errno;
    target->inside = true;
    if (strlen(name) > COPY_NAME_MAX || (!copy_name_is_plain(name) && strcmp(name, "."))) {
        close_descriptor(&target->directory);
        return -EINVAL;
    }
    strcpy(target->name, name);
    return 0;
}

static void temporary_name(char name[40])
{
    unsigned long long number = 0;
    if (getrandom(&number, sizeof number, 0) < 0)
        number = (unsigned long long)now_ms() << 20 ^ (unsigned long long)getpid();
    snprintf(name, 40, ".wsh-copy.%016llx", number);
}

int making_begin(struct making *making, int directory)
{
    making->directory = directory;
    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        temporary_name(making->name);
        /* Noted first, so that no moment is left in which a signal would not remove it. */
        unfinished = *making;
        is_unfinished = 1;
        making->file = openat(directory, making->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (making->file >= 0)
            return 0;
        is_unfinished = 0;
        if (errno != EEXIST)
            break;
    }
    return -errno;
}

int making_write(struct making *making, const uint8_t *bytes, size_t length)
{
    while (length) {
        ssize_t written = TEMP_FAILURE_RETRY(write(making->file, bytes, length));
        if (written < 0)
            return -errno;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

void making_drop(struct making *making)
{
    unlinkat(making->directory, making->name, 0);
    is_unfinished = 0;
    close_descriptor(&making->file);
}

int making_finish(struct making *making, const char *name, const struct copy_attributes *attributes,
                  bool keep_owner)
{
    int result = set_attributes(making->file, attributes, keep_owner);
    if (!result && renameat(making->directory, making->name, making->directory, name) < 0)
        result = -errno;
    if (result < 0) {
        making_drop(making);
        return result;
    }
    is_unfinished = 0;
    if (close(making->file) < 0) /* a full quota may show only here */
        result = -errno;
    making->file = -1;
    return result;
}

static void times_of(const struct copy_attributes *attributes, struct timespec times[2])
{
    times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    times[1] = (struct timespec){.tv_sec = attributes->seconds, .tv_nsec = attributes->nanoseconds};
}

int make_link(int directory, const char *name, const struct copy_entry *entry, bool keep_owner)
{
    char temporary[40];
    struct timespec times[2];
    int attempt = 0;
    do
        temporary_name(temporary);
    while (symlinkat(entry->target, directory, temporary) < 0 && errno == EEXIST && ++attempt < NAME_ATTEMPTS);
    const struct copy_attributes *attributes = &entry->attributes;
    times_of(attributes, times);
    if ((keep_owner &&
         fchownat(directory, temporary, attributes->uid, attributes->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(directory, temporary, times, AT_SYMLINK_NOFOLLOW) < 0 ||
        renameat(directory, temporary, directory, name) < 0) {
        int error = errno;
        unlinkat(directory, temporary, 0);
        return -error;
    }
    return 0;
}

int make_directory(int directory, const char *name, bool *made)
{
    *made = mkdirat(directory, name, 0700) == 0;
    if (!*made && errno != EEXIST)
        return -errno;
    /* Attributes are only set on what was made here, and need a descriptor that was opened to be read. */
    int opened = openat(directory, name, (*made ? O_RDONLY : O_PATH) | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return opened < 0 ? -errno : opened;
}

int set_attributes(int descriptor, const struct copy_attributes *attributes, bool keep_owner)
{
    struct timespec times[2];
    times_of(attributes, times);
    if ((keep_owner && fchown(descriptor, attributes->uid, attributes->gid) < 0) ||
        fchmod(descriptor, attributes->mode & MODE_BITS) < 0 || futimens(descriptor, times) < 0)
        return -errno;
    return 0;
}
