/* Reads a tree of files and writes it as a stream. */

#include "copy/send.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "copy/path.h"
#include "copy/stream.h"

struct sender {
    struct copy_writer writer;
    struct copy_entry entry; /* the one at hand: too large for the stack of a function that calls itself */
    struct copy_path path; /* of what is being sent */
    unsigned depth;
    bool incomplete; /* something was left out, which was said */
};

/* Functions here return 0, also for what had to be left out, or -errno where the stream cannot be written. */
static int send_entry(struct sender *sender, int directory, const char *file, const char *name);

static int leave_out(struct sender *sender, int error, const char *reason)
{
    copy_say(sender->path.text, error, "%s", reason);
    sender->incomplete = true;
    return 0;
}

static void describe(struct copy_entry *entry, enum copy_type type, const struct stat *status, const char *name)
{
    entry->type = type;
    entry->attributes = (struct copy_attributes){.mode = status->st_mode & 07777,
                                                 .uid = status->st_uid,
                                                 .gid = status->st_gid,
                                                 .seconds = status->st_mtim.tv_sec,
                                                 .nanoseconds = (uint32_t)status->st_mtim.tv_nsec};
    strcpy(entry->name, name);
    entry->target[0] = 0;
}

static int send_file(struct sender *sender, int directory, const char *file, const char *name)
{
    struct stat status;
    /* What was a file a moment ago may be a FIFO now: its opening must not wait for a writer. */
    cleanup_close int content = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (content < 0 || fstat(content, &status) < 0)
        return leave_out(sender, errno, "cannot be read");
    if (!S_ISREG(status.st_mode))
        return leave_out(sender, 0, "has just become something else than a file");
    describe(&sender->entry, COPY_FILE, &status, name);
    bool whole = true;
    int result = copy_put_entry(&sender->writer, &sender->entry);
    if (!result)
        result = copy_put_content(&sender->writer, content, &whole);
    if (!result && !whole)
        return leave_out(sender, 0, "cannot be read to its end");
    return result;
}

static int send_link(struct sender *sender, int directory, const char *file, const struct stat *status,
                     const char *name)
{
    struct copy_entry *entry = &sender->entry;
    describe(entry, COPY_LINK, status, name);
    ssize_t length = readlinkat(directory, file, entry->target, sizeof entry->target);
    if (length < 0)
        return leave_out(sender, errno, "cannot be read");
    if (!length || (size_t)length == sizeof entry->target)
        return leave_out(sender, 0, "the link's target is too long");
    entry->target[length] = 0;
    return copy_put_entry(&sender->writer, entry);
}

static int send_children(struct sender *sender, DIR *stream)
{
    for (;;) {
        errno = 0;
        struct dirent *child = readdir(stream);
        if (!child)
            return errno ? leave_out(sender, errno, "cannot be listed to its end") : 0;
        if (!copy_name_is_plain(child->d_name))
            continue;
        size_t before = copy_path_enter(&sender->path, child->d_name);
        int result = send_entry(sender, dirfd(stream), child->d_name, child->d_name);
        copy_path_leave(&sender->path, before);
        if (result < 0)
            return result;
    }
}

static int send_directory(struct sender *sender, int directory, const char *file, const char *name)
{
    struct stat status;
    if (sender->depth == COPY_DEPTH_MAX)
        return leave_out(sender, 0, "lies too deep");
    int opened = openat(directory, file, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = opened < 0 ? NULL : fdopendir(opened);
    if (!stream) {
        int error = errno;
        close_descriptor(&opened);
        return leave_out(sender, error, "cannot be read");
    }
    int result = 0;
    sender->depth++;
    if (fstat(opened, &status) < 0) {
        leave_out(sender, errno, "cannot be read");
    } else {
        describe(&sender->entry, COPY_DIRECTORY, &status, name);
        result = copy_put_entry(&sender->writer, &sender->entry);
        if (!result)
            result = send_children(sender, stream);
        if (!result)
            result = copy_put_mark(&sender->writer, COPY_LEAVE);
    }
    sender->depth--;
    closedir(stream);
    return result;
}

/* Sends what is at `file` in `directory` under the given name. */
static int send_entry(struct sender *sender, int directory, const char *file, const char *name)
{
    struct stat status;
    if (fstatat(directory, file, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return leave_out(sender, errno, "cannot be read");
    switch (status.st_mode & S_IFMT) {
    case S_IFREG:
        return send_file(sender, directory, file, name);
    case S_IFDIR:
        return send_directory(sender, directory, file, name);
    case S_IFLNK:
        return send_link(sender, directory, file, &status, name);
    default:
        return leave_out(sender, 0, "is neither file, directory nor symbolic link, and is left out");
    }
}

enum copy_result copy_send(int descriptor, const char *path)
{
    static struct sender sender; /* too large for a stack */
    copy_writer_init(&sender.writer, descriptor);
    sender.incomplete = false;
    copy_path_leave(&sender.path, 0);
    copy_path_enter(&sender.path, path);
    int result = copy_put_magic(&sender.writer);
    size_t before = sender.writer.used;
    if (!result)
        result = send_entry(&sender, AT_FDCWD, path, "");
    /* Where the first entry itself had to be left out, nothing follows. */
    bool nothing = !result && sender.incomplete && sender.writer.used == before;
    if (!result)
        result = copy_put_mark(&sender.writer, nothing ? COPY_ABORT : COPY_END);
    if (!result)
        result = copy_flush(&sender.writer);
    /* A receiver that has gone has said why. */
    if (result < 0 && result != -EPIPE)
        copy_say(path, -result, "the copy cannot be handed over");
    return result < 0 || sender.incomplete ? COPY_INCOMPLETE : COPY_DONE;
}
