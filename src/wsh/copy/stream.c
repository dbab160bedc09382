/* The stream of a tree of files; see stream.h. */

#include "copy/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "wire.h"

void copy_writer_init(struct copy_writer *writer, int descriptor)
{
    writer->descriptor = descriptor;
    writer->used = 0;
}

void copy_reader_init(struct copy_reader *reader, int descriptor)
{
    reader->descriptor = descriptor;
    reader->at = reader->end = 0;
    reader->left = 0;
    reader->started = false;
}

static int write_all(int descriptor, const uint8_t *bytes, size_t length)
{
    while (length) {
        ssize_t written = TEMP_FAILURE_RETRY(write(descriptor, bytes, length));
        if (written < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = descriptor, .events = POLLOUT};
            poll(&ready, 1, -1);
            continue;
        }
        if (written < 0)
            return -errno;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

int copy_flush(struct copy_writer *writer)
{
    int result = write_all(writer->descriptor, writer->buffer, writer->used);
    writer->used = 0;
    return result;
}

static int make_room(struct copy_writer *writer, size_t length)
{
    return sizeof writer->buffer - writer->used < length ? copy_flush(writer) : 0;
}

static int put(struct copy_writer *writer, const void *bytes, size_t length)
{
    int result = make_room(writer, length);
    if (result < 0)
        return result;
    memcpy(writer->buffer + writer->used, bytes, length);
    writer->used += length;
    return 0;
}

static void set_little(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

int copy_put_magic(struct copy_writer *writer)
{
    return put(writer, COPY_MAGIC, COPY_MAGIC_LENGTH);
}

int copy_put_entry(struct copy_writer *writer, const struct copy_entry *entry)
{
    uint8_t head[COPY_HEAD] = {(uint8_t)entry->type};
    size_t name = strlen(entry->name), target = strlen(entry->target);
    set_little(head + 2, name, 2);
    set_little(head + 4, entry->attributes.mode, 4);
    set_little(head + 8, entry->attributes.uid, 4);
    set_little(head + 12, entry->attributes.gid, 4);
    set_little(head + 16, (uint64_t)entry->attributes.seconds, 8);
    set_little(head + 24, entry->attributes.nanoseconds, 4);
    set_little(head + 28, target, 4);
    int result = put(writer, head, sizeof head);
    if (!result)
        result = put(writer, entry->name, name);
    return result ? result : put(writer, entry->target, target);
}

int copy_put_mark(struct copy_writer *writer, enum copy_type type)
{
    uint8_t head[COPY_HEAD] = {(uint8_t)type};
    return put(writer, head, sizeof head);
}

static int put_number(struct copy_writer *writer, uint32_t number)
{
    uint8_t bytes[4];
    set_little(bytes, number, sizeof bytes);
    return put(writer, bytes, sizeof bytes);
}

int copy_put_content(struct copy_writer *writer, int file, bool *whole)
{
    ssize_t length;
    do {
        /* The content is read to where it is sent from, behind the place for its length. */
        int result = make_room(writer, 4 + COPY_CHUNK_MAX);
        if (result < 0)
            return result;
        uint8_t *chunk = writer->buffer + writer->used;
        length = TEMP_FAILURE_RETRY(read(file, chunk + 4, COPY_CHUNK_MAX));
        if (length > 0) {
            set_little(chunk, (uint64_t)length, 4);
            writer->used += 4 + (size_t)length;
        }
    } while (length > 0);
    *whole = !length;
    return put_number(writer, length ? COPY_CHUNK_FAILED : 0);
}

/* Makes at least one byte readable in the buffer. */
static int fill(struct copy_reader *reader)
{
    while (reader->at == reader->end) {
        ssize_t came = TEMP_FAILURE_RETRY(read(reader->descriptor, reader->buffer, sizeof reader->buffer));
        if (came < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = reader->descriptor, .events = POLLIN};
            poll(&ready, 1, -1);
            continue;
        }
        if (came <= 0)
            return came ? -errno : -ENODATA;
        reader->started = true;
        reader->at = 0;
        reader->end = (size_t)came;
    }
    return 0;
}

static int get(struct copy_reader *reader, void *bytes, size_t length)
{
    uint8_t *to = bytes;
    while (length) {
        int result = fill(reader);
        if (result < 0)
            return result;
        size_t part = reader->end - reader->at < length ? reader->end - reader->at : length;
        memcpy(to, reader->buffer + reader->at, part);
        reader->at += part;
        to += part;
        length -= part;
    }
    return 0;
}

/* Reads a string of a length that its bytes have to keep to. */
static int get_text(struct copy_reader *reader, char *text, size_t length, size_t most)
{
    text[0] = 0;
    if (length > most)
        return -EPROTO;
    int result = get(reader, text, length);
    text[result < 0 ? 0 : length] = 0;
    if (result < 0)
        return result;
    return strlen(text) == length ? 0 : -EPROTO;
}

int copy_get_magic(struct copy_reader *reader)
{
    char magic[COPY_MAGIC_LENGTH];
    int result = get(reader, magic, sizeof magic);
    if (result < 0)
        return result;
    return memcmp(magic, COPY_MAGIC, sizeof magic) ? -EPROTO : 0;
}

bool copy_name_is_plain(const char *name)
{
    return name[0] && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static bool is_known(uint8_t type)
{
    return type == COPY_DIRECTORY || type == COPY_FILE || type == COPY_LINK || type == COPY_LEAVE ||
           type == COPY_END || type == COPY_ABORT;
}

/* A link has a target and nothing else has one; a mark is its type alone. */
static bool is_sound(const struct copy_entry *entry)
{
    bool is_mark = entry->type == COPY_LEAVE || entry->type == COPY_END || entry->type == COPY_ABORT;
    if (!entry->target[0] != (entry->type != COPY_LINK) || entry->attributes.nanoseconds > 999999999)
        return false;
    return !entry->name[0] || (!is_mark && copy_name_is_plain(entry->name));
}

int copy_get_entry(struct copy_reader *reader, struct copy_entry *entry)
{
    uint8_t head[COPY_HEAD];
    int result = get(reader, head, sizeof head);
    if (result < 0)
        return result;
    if (!is_known(head[0]) || head[1])
        return -EPROTO;
    entry->type = (enum copy_type)head[0];
    entry->attributes.mode = wire_get_u32(head + 4);
    entry->attributes.uid = wire_get_u32(head + 8);
    entry->attributes.gid = wire_get_u32(head + 12);
    entry->attributes.seconds = (int64_t)wire_get_u64(head + 16);
    entry->attributes.nanoseconds = wire_get_u32(head + 24);
    result = get_text(reader, entry->name, wire_get_u16(head + 2), COPY_NAME_MAX);
    if (!result)
        result = get_text(reader, entry->target, wire_get_u32(head + 28), COPY_TARGET_MAX);
    if (result < 0)
        return result;
    return is_sound(entry) ? 0 : -EPROTO;
}

int copy_get_content(struct copy_reader *reader, const uint8_t **bytes)
{
    if (!reader->left) {
        uint8_t number[4];
        int result = get(reader, number, sizeof number);
        if (result < 0)
            return result;
        uint32_t length = wire_get_u32(number);
        if (!length || length == COPY_CHUNK_FAILED)
            return length ? -ECANCELED : 0;
        if (length > COPY_CHUNK_MAX)
            return -EPROTO;
        reader->left = length;
    }
    int result = fill(reader);
    if (result < 0)
        return result;
    size_t part = reader->end - reader->at;
    if (part > reader->left)
        part = reader->left;
    *bytes = reader->buffer + reader->at;
    reader->at += part;
    reader->left -= (uint32_t)part;
    return (int)part;
}
