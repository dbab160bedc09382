/* Reads a stream and makes the tree of files in it; see receive.h. */

#include "copy/receive.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "copy/make.h"
#include "copy/path.h"
#include "copy/stream.h"

/* A directory that is being filled. */
struct level {
    int directory;
    bool made; /* by us: it gets its attributes when it is left; what was there before keeps its own */
    size_t path_before;
    struct copy_attributes attributes;
};

struct receiver {
    struct copy_reader reader;
    struct copy_entry entry; /* the one at hand */
    struct copy_path path;
    const struct id_maps *owners; /* NULL: it is ours */
    bool must_be_directory; /* the destination was written with a slash at its end */
    bool incomplete;
    size_t depth;
    struct level levels[COPY_DEPTH_MAX];
};

/* Functions here return 0 or -errno; what went wrong with a path has been said then, with a stream not yet. */
static int refuse(const struct receiver *receiver, int error, const char *what)
{
    copy_say(receiver->path.text, error, "%s", what);
    return -ECANCELED;
}

static int receive_file(struct receiver *receiver, int directory, const char *name)
{
    struct making making;
    int result = making_begin(&making, directory);
    if (result < 0)
        return refuse(receiver, -result, "cannot be made here");
    const uint8_t *bytes;
    int length;
    while ((length = copy_get_content(&receiver->reader, &bytes)) > 0) {
        result = making_write(&making, bytes, (size_t)length);
        if (result < 0) {
            making_drop(&making);
            return refuse(receiver, -result, "cannot be written");
        }
    }
    if (length == -ECANCELED) { /* the sender has said why */
        making_drop(&making);
        receiver->incomplete = true;
        return 0;
    }
    if (length < 0) {
        making_drop(&making);
        return length;
    }
    result = making_finish(&making, name, &receiver->entry.attributes, receiver->owners != NULL);
    return result < 0 ? refuse(receiver, -result, "cannot be put in place") : 0;
}

static int receive_link(struct receiver *receiver, int directory, const char *name)
{
    int result = make_link(directory, name, &receiver->entry, receiver->owners != NULL);
    return result < 0 ? refuse(receiver, -result, "the link cannot be made") : 0;
}

static int enter_directory(struct receiver *receiver, int directory, const char *name, size_t path_before)
{
    if (receiver->depth == COPY_DEPTH_MAX)
        return refuse(receiver, 0, "lies too deep");
    struct level *level = &receiver->levels[receiver->depth];
    int result = make_directory(directory, name, &level->made);
    if (result < 0)
        return refuse(receiver, -result, "the directory cannot be made");
    level->directory = result;
    level->path_before = path_before;
    level->attributes = receiver->entry.attributes;
    receiver->depth++;
    return 0;
}

static int leave_directory(struct receiver *receiver)
{
    struct level *level = &receiver->levels[--receiver->depth];
    int result = level->made ? set_attributes(level->directory, &level->attributes, receiver->owners != NULL) : 0;
    if (result < 0)
        return refuse(receiver, -result, "the directory's attributes cannot be set");
    close_descriptor(&level->directory);
    copy_path_leave(&receiver->path, level->path_before);
    return 0;
}

/* Makes one entry; a directory stays open, and its name stays part of the path, until it is left. */
static int receive_entry(struct receiver *receiver, int directory, const char *name, size_t path_before)
{
    if (receiver->entry.type == COPY_DIRECTORY)
        return enter_directory(receiver, directory, name, path_before);
    int result = receiver->entry.type == COPY_FILE ? receive_file(receiver, directory, name)
                                                   : receive_link(receiver, directory, name);
    if (!result)
        copy_path_leave(&receiver->path, path_before);
    return result;
}

static bool is_mark(const struct copy_entry *entry)
{
    return entry->type == COPY_LEAVE || entry->type == COPY_END || entry->type == COPY_ABORT;
}

/* Reads the next entry. Its owner is named as inside, and gets its number outside. */
static int next_entry(struct receiver *receiver)
{
    const struct id_maps *owners = receiver->owners;
    struct copy_attributes *attributes = &receiver->entry.attributes;
    int result = copy_get_entry(&receiver->reader, &receiver->entry);
    if (result < 0 || !owners || is_mark(&receiver->entry))
        return result;
    bool known = id_to_outside(&owners->uids, attributes->uid, &attributes->uid) &&
                 id_to_outside(&owners->gids, attributes->gid, &attributes->gid);
    return known ? 0 : -EPROTO;
}

static int receive_children(struct receiver *receiver)
{
    while (receiver->depth) {
        int result = next_entry(receiver);
        if (result < 0)
            return result;
        if (receiver->entry.type == COPY_LEAVE) {
            result = leave_directory(receiver);
        } else if (is_mark(&receiver->entry) || !receiver->entry.name[0]) {
            return -EPROTO;
        } else {
            size_t before = copy_path_enter(&receiver->path, receiver->entry.name);
            int directory = receiver->levels[receiver->depth - 1].directory;
            result = receive_entry(receiver, directory, receiver->entry.name, before);
        }
        if (result < 0)
            return result;
    }
    return 0;
}

/* The first entry goes where the target says; the stream does not choose its name. */
static int receive_first(struct receiver *receiver, const struct target *target)
{
    const struct copy_entry *entry = &receiver->entry;
    if (is_mark(entry) || entry->name[0])
        return -EPROTO;
    if (entry->type == COPY_DIRECTORY)
        return enter_directory(receiver, target->directory, target->name, receiver->path.length);
    if (!strcmp(target->name, "."))
        return refuse(receiver, 0, "what comes is no directory");
    if (receiver->must_be_directory)
        return refuse(receiver, 0, "there is no such directory");
    return receive_entry(receiver, target->directory, target->name, receiver->path.length);
}

static int receive_all(struct receiver *receiver, const struct target *target)
{
    int result = copy_get_magic(&receiver->reader);
    if (!result)
        result = next_entry(receiver);
    if (!result && receiver->entry.type == COPY_ABORT)
        return -ECANCELED;
    if (!result)
        result = receive_first(receiver, target);
    if (!result)
        result = receive_children(receiver);
    if (!result)
        result = copy_get_entry(&receiver->reader, &receiver->entry);
    return result ? result : receiver->entry.type == COPY_END ? 0 : -EPROTO;
}

static void say_stream_failure(const struct receiver *receiver, int error)
{
    if (error == -ECANCELED || (error == -ENODATA && !receiver->reader.started))
        return; /* said already; or the other side did not even start, which it has said itself */
    if (error == -ENODATA)
        copy_say(receiver->path.text, 0, "the copy ends too early: it is not whole");
    else if (error == -EPROTO)
        copy_say(receiver->path.text, 0, "what comes from the other side is not a copy");
    else
        copy_say(receiver->path.text, -error, "the copy cannot be read");
}

enum copy_result copy_receive(int descriptor, const char *destination, const char *name, const struct id_maps *owners)
{
    static struct receiver receiver; /* too large for a stack */
    struct target target;
    copy_reader_init(&receiver.reader, descriptor);
    receiver.owners = owners;
    receiver.incomplete = false;
    copy_path_leave(&receiver.path, 0);
    copy_path_enter(&receiver.path, destination);
    int result = target_find(&target, destination, name);
    if (result < 0) {
        copy_say(destination, -result, "cannot be copied to");
        return COPY_INCOMPLETE;
    }
    receiver.must_be_directory = target.must_be_directory;
    if (target.inside && strcmp(target.name, "."))
        copy_path_enter(&receiver.path, target.name);
    result = receive_all(&receiver, &target);
    if (result < 0)
        say_stream_failure(&receiver, result);
    while (receiver.depth)
        close_descriptor(&receiver.levels[--receiver.depth].directory);
    close_descriptor(&target.directory);
    return result < 0 || receiver.incomplete ? COPY_INCOMPLETE : COPY_DONE;
}
