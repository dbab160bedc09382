/* The stream by which `wsh cp` and wsh-copy hand a tree of files over: entries, written and read by buffers.
 *
 *   "BLYCOPY1", then entries: u8 type, u8 zero, u16 length of the name, u32 mode, u32 uid, u32 gid, i64 seconds,
 *   u32 nanoseconds, u32 length of the target; name; target (of a symbolic link). All little-endian.
 *
 * A file's entry is followed by its content: chunks of u32 length and as many bytes, then 0 for "that was all" or
 * COPY_CHUNK_FAILED for "it could not be read to its end". A directory's entry is followed by what it holds, then
 * LEAVE. The first entry has no name: the receiver chooses it. Every other name is one component. After the first
 * entry, and all that it holds, stands END. The peer may be hostile: what is read here is checked here. */

#ifndef WSH_COPY_STREAM_H
#define WSH_COPY_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COPY_MAGIC "BLYCOPY1"
#define COPY_MAGIC_LENGTH 8
#define COPY_HEAD 32
#define COPY_NAME_MAX 255
#define COPY_TARGET_MAX 4095
#define COPY_CHUNK_MAX (64 << 10)
#define COPY_CHUNK_FAILED UINT32_MAX
#define COPY_DEPTH_MAX 512 /* directories in each other */

enum copy_type {
    COPY_DIRECTORY = 'D',
    COPY_FILE = 'F',
    COPY_LINK = 'L',
    COPY_LEAVE = 'U',
    COPY_END = 'E',
    COPY_ABORT = 'A', /* the sender gives up and has said why */
};

struct copy_attributes {
    uint32_t mode, uid, gid, nanoseconds;
    int64_t seconds; /* with nanoseconds: when it was last modified */
};

struct copy_entry {
    enum copy_type type;
    struct copy_attributes attributes;
    char name[COPY_NAME_MAX + 1];
    char target[COPY_TARGET_MAX + 1];
};

struct copy_writer {
    int descriptor;
    size_t used;
    uint8_t buffer[COPY_CHUNK_MAX + 64];
};

struct copy_reader {
    int descriptor;
    size_t at, end;
    uint32_t left; /* bytes of the chunk that is being read */
    bool started;  /* something has come */
    uint8_t buffer[COPY_CHUNK_MAX];
};

void copy_writer_init(struct copy_writer *writer, int descriptor);
void copy_reader_init(struct copy_reader *reader, int descriptor);

/* All return -errno where writing fails. */
int copy_put_magic(struct copy_writer *writer);
int copy_put_entry(struct copy_writer *writer, const struct copy_entry *entry);
int copy_put_mark(struct copy_writer *writer, enum copy_type type); /* an entry that is its type alone */
int copy_put_content(struct copy_writer *writer, int file, bool *whole);
int copy_flush(struct copy_writer *writer);

/* All return -EPROTO where what comes is no such stream, -ENODATA where it ends early, or -errno. */
int copy_get_magic(struct copy_reader *reader);
int copy_get_entry(struct copy_reader *reader, struct copy_entry *entry);

/* Gives some bytes of a file's content, which lie in the reader until its next call. Returns how many; 0 at the
 * content's end; -ECANCELED where the sender could not read on. */
int copy_get_content(struct copy_reader *reader, const uint8_t **bytes);

/* Whether a name is one component that stays where it is: not empty, not "." or "..", without '/'. */
bool copy_name_is_plain(const char *name);

#endif
