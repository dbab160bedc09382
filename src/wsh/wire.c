/* Frames as bytes; see wire.h. */

#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common.h"

uint16_t wire_get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

uint32_t wire_get_u32(const uint8_t *at)
{
    return wire_get_u16(at) | (uint32_t)wire_get_u16(at + 2) << 16;
}

uint64_t wire_get_u64(const uint8_t *at)
{
    return wire_get_u32(at) | (uint64_t)wire_get_u32(at + 4) << 32;
}

size_t wire_limit(uint16_t type)
{
    return type == FRAME_EXEC ? WIRE_EXEC_MAX : WIRE_OTHER_MAX;
}

void wire_reader_init(struct wire_reader *reader, uint16_t oldest, uint16_t newest, struct wire_budget *budget)
{
    *reader = (struct wire_reader){.oldest = oldest, .newest = newest, .budget = budget};
}

void wire_want(struct wire_reader *reader, uint8_t **at, size_t *length)
{
    if (reader->have < WIRE_HEADER) {
        *at = reader->header + reader->have;
        *length = WIRE_HEADER - reader->have;
        return;
    }
    size_t done = reader->have - WIRE_HEADER;
    *at = reader->frame.payload ? reader->frame.payload + done : NULL;
    *length = reader->frame.length - done;
}

/* The header is whole: check it and make room for what it announces. */
static int open_frame(struct wire_reader *reader)
{
    struct wire_frame *frame = &reader->frame;
    size_t length = wire_get_u32(reader->header);
    frame->type = wire_get_u16(reader->header + 4);
    frame->version = wire_get_u16(reader->header + 6);
    if ((frame->version < reader->oldest || frame->version > reader->newest) && frame->type != FRAME_ERROR)
        return -EPROTONOSUPPORT;
    if (length > wire_limit(frame->type))
        return -EMSGSIZE;
    if (!length)
        return 0;
    if (reader->budget && length > reader->budget->left)
        return -ENOBUFS;
    frame->payload = malloc(length);
    if (!frame->payload)
        return -ENOMEM;
    frame->length = length;
    if (reader->budget)
        reader->budget->left -= length;
    return 0;
}

int wire_got(struct wire_reader *reader, size_t length)
{
    bool had_header = reader->have >= WIRE_HEADER;
    reader->have += length;
    if (reader->have < WIRE_HEADER)
        return WIRE_MORE;
    if (!had_header) {
        int result = open_frame(reader);
        if (result < 0)
            return result;
    }
    return reader->have - WIRE_HEADER == reader->frame.length ? WIRE_WHOLE : WIRE_MORE;
}

void wire_reader_reset(struct wire_reader *reader)
{
    if (reader->budget)
        reader->budget->left += reader->frame.length;
    free(reader->frame.payload);
    wire_reader_init(reader, reader->oldest, reader->newest, reader->budget);
}

struct wire_cursor wire_fields(const struct wire_frame *frame)
{
    return (struct wire_cursor){.at = frame->payload, .left = frame->length};
}

int wire_next(struct wire_cursor *cursor, struct wire_field *field)
{
    if (!cursor->left)
        return 0;
    if (cursor->left < WIRE_FIELD)
        return -EPROTO;
    field->tag = wire_get_u16(cursor->at);
    field->length = wire_get_u32(cursor->at + 4);
    field->data = cursor->at + WIRE_FIELD;
    if (wire_get_u16(cursor->at + 2) || field->length > cursor->left - WIRE_FIELD)
        return -EPROTO;
    cursor->at += WIRE_FIELD + field->length;
    cursor->left -= WIRE_FIELD + field->length;
    return 1;
}

int wire_u32(const struct wire_field *field, uint32_t *value)
{
    if (field->length != 4)
        return -EPROTO;
    *value = wire_get_u32(field->data);
    return 0;
}

bool wire_is_text(const struct wire_field *field)
{
    return !field->length || !memchr(field->data, 0, field->length);
}

char *wire_text(const struct wire_field *field)
{
    char *text = (char *)field->data - 1;
    memmove(text, field->data, field->length);
    text[field->length] = 0;
    return text;
}

void wire_writer_init(struct wire_writer *writer, void *buffer, size_t capacity)
{
    *writer = (struct wire_writer){.data = buffer, .capacity = buffer ? capacity : 0, .grows = !buffer};
}

/* Returns where `length` more bytes go, or NULL. */
static uint8_t *make_room(struct wire_writer *writer, size_t length)
{
    if (writer->error)
        return NULL;
    if (length > WIRE_HEADER + (size_t)WIRE_EXEC_MAX) {
        writer->error = -EMSGSIZE;
        return NULL;
    }
    if (length > writer->capacity - writer->length) {
        if (!writer->grows) {
            writer->error = -ENOBUFS;
            return NULL;
        }
        size_t capacity = writer->capacity + (length > writer->capacity ? length : writer->capacity) + 256;
        uint8_t *data = realloc(writer->data, capacity);
        if (!data) {
            writer->error = -ENOMEM;
            return NULL;
        }
        writer->data = data;
        writer->capacity = capacity;
    }
    writer->length += length;
    return writer->data + writer->length - length;
}

static void put_little(struct wire_writer *writer, uint64_t value, size_t bytes)
{
    uint8_t *at = make_room(writer, bytes);
    for (size_t i = 0; at && i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

void wire_raw_u16(struct wire_writer *writer, uint16_t value)
{
    put_little(writer, value, 2);
}

void wire_raw_u32(struct wire_writer *writer, uint32_t value)
{
    put_little(writer, value, 4);
}

void wire_raw_u64(struct wire_writer *writer, uint64_t value)
{
    put_little(writer, value, 8);
}

void wire_raw(struct wire_writer *writer, const void *bytes, size_t length)
{
    uint8_t *at = make_room(writer, length);
    if (at && length)
        memcpy(at, bytes, length);
}

void wire_begin(struct wire_writer *writer, uint16_t type, uint16_t version)
{
    writer->length = 0;
    writer->error = 0;
    wire_raw_u32(writer, 0); /* the length, which wire_end knows */
    wire_raw_u16(writer, type);
    wire_raw_u16(writer, version);
}

void wire_put(struct wire_writer *writer, uint16_t tag, const void *bytes, size_t length)
{
    wire_raw_u16(writer, tag);
    wire_raw_u16(writer, 0);
    wire_raw_u32(writer, (uint32_t)length);
    wire_raw(writer, bytes, length);
}

void wire_put_text(struct wire_writer *writer, uint16_t tag, const char *text)
{
    wire_put(writer, tag, text, strlen(text));
}

void wire_put_u32(struct wire_writer *writer, uint16_t tag, uint32_t value)
{
    wire_raw_u16(writer, tag);
    wire_raw_u16(writer, 0);
    wire_raw_u32(writer, 4);
    wire_raw_u32(writer, value);
}

int wire_end(struct wire_writer *writer)
{
    if (writer->error)
        return writer->error;
    size_t length = writer->length - WIRE_HEADER;
    if (length > wire_limit(wire_get_u16(writer->data + 4)))
        return writer->error = -EMSGSIZE;
    for (size_t i = 0; i < 4; i++)
        writer->data[i] = (uint8_t)(length >> 8 * i);
    return 0;
}

void wire_writer_free(struct wire_writer *writer)
{
    if (writer->grows)
        free(writer->data);
    wire_writer_init(writer, NULL, 0);
}

void wire_writer_cleanup(struct wire_writer *writer)
{
    wire_writer_free(writer);
}

ssize_t wire_send(int socket, const void *bytes, size_t length, const int *descriptors, size_t count)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(WIRE_DESCRIPTORS_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > WIRE_DESCRIPTORS_MAX)
        return -EINVAL;
    if (count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), descriptors, count * sizeof(int));
    }
    ssize_t sent = TEMP_FAILURE_RETRY(sendmsg(socket, &message, MSG_NOSIGNAL));
    return sent < 0 ? -errno : sent;
}

/* Takes the descriptors of one control message over; false where there is no place for one. */
static bool take_descriptors(const struct cmsghdr *head, int *descriptors, size_t *count)
{
    size_t came = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool fits = true;
    for (size_t i = 0; i < came; i++) {
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(head) + i * sizeof(int), sizeof descriptor);
        if (*count < WIRE_DESCRIPTORS_MAX) {
            descriptors[(*count)++] = descriptor;
        } else {
            close_descriptor(&descriptor);
            fits = false;
        }
    }
    return fits;
}

ssize_t wire_recv(int socket, void *bytes, size_t length, int descriptors[WIRE_DESCRIPTORS_MAX], size_t *count)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(WIRE_DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t came = TEMP_FAILURE_RETRY(recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
    if (came < 0)
        return -errno;
    bool fits = !(message.msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head))
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
            fits = take_descriptors(head, descriptors, count) && fits;
    if (fits)
        return came;
    while (*count)
        close_descriptor(&descriptors[--*count]);
    return -EPROTO;
}
