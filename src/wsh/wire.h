/* Frames as bytes: reading and writing them, and descriptors that travel along.
 *
 * Nothing but wire_send and wire_recv makes a system call. A reader says where the next bytes belong and is told
 * how many came; whoever owns the socket decides when to read, how long to wait and what an error costs. */

#ifndef WSH_WIRE_H
#define WSH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

/* How many bytes of payload may be held at once, by all readers that share it. */
struct wire_budget {
    size_t left;
};

struct wire_frame {
    uint16_t type, version;
    size_t length;
    uint8_t *payload; /* NULL where length is 0 */
};

/* Puts one frame after another together. */
struct wire_reader {
    struct wire_frame frame;
    size_t have; /* bytes of header and payload */
    uint16_t oldest, newest;
    struct wire_budget *budget; /* or NULL */
    uint8_t header[WIRE_HEADER];
};

enum wire_state { WIRE_MORE = 0, WIRE_WHOLE = 1 };

/* Prepares a reader for frames of the versions from `oldest` to `newest`. */
void wire_reader_init(struct wire_reader *reader, uint16_t oldest, uint16_t newest, struct wire_budget *budget);

/* Where the next bytes go and how many of them belong to this frame: never 0 before the frame is whole. */
void wire_want(struct wire_reader *reader, uint8_t **at, size_t *length);

/* Takes note of `length` bytes, at most as many as were wanted. Returns WIRE_WHOLE when the frame is whole,
 * WIRE_MORE when it is not, or as soon as the header is there:
 *   -EPROTONOSUPPORT  a version outside of the reader's, which frame.version tells (an ERROR is never that: it is
 *                     of the same form in every version);
 *   -EMSGSIZE         a payload longer than its type allows;
 *   -ENOBUFS          a payload that the budget does not allow now;
 *   -ENOMEM           no memory for it.
 * After a failure, only wire_reader_reset makes sense. */
int wire_got(struct wire_reader *reader, size_t length);

/* Frees the frame; the reader is ready for the next one. */
void wire_reader_reset(struct wire_reader *reader);

/* How long the payload of a frame of that type may be. */
size_t wire_limit(uint16_t type);

/* One field. The byte before `data` is the cursor's own and already read: wire_text uses it. */
struct wire_field {
    uint16_t tag;
    uint32_t length;
    uint8_t *data;
};

/* What is left of a payload. */
struct wire_cursor {
    uint8_t *at;
    size_t left;
};

struct wire_cursor wire_fields(const struct wire_frame *frame);

/* Returns 1 and the next field, 0 at the end, -EPROTO where the rest is no field. */
int wire_next(struct wire_cursor *cursor, struct wire_field *field);

/* A number of four bytes; -EPROTO where the field has another size. */
int wire_u32(const struct wire_field *field, uint32_t *value);

/* Whether the field may become a string of C: it has no zero byte. */
bool wire_is_text(const struct wire_field *field);

/* Makes the field a string where it lies, by moving it over the last byte of its own head: afterwards the payload
 * cannot be read again from its start. The field must be text. */
char *wire_text(const struct wire_field *field);

uint16_t wire_get_u16(const uint8_t *at);
uint32_t wire_get_u32(const uint8_t *at);
uint64_t wire_get_u64(const uint8_t *at);

/* Writes one frame. The first failure is kept until wire_end, so that no call between needs a check. */
struct wire_writer {
    uint8_t *data; /* the frame */
    size_t length, capacity;
    bool grows; /* data is the writer's own */
    int error;
};

/* Writes into `buffer`; where that is NULL, into memory that grows as needed. */
void wire_writer_init(struct wire_writer *writer, void *buffer, size_t capacity);
void wire_begin(struct wire_writer *writer, uint16_t type, uint16_t version);
void wire_raw(struct wire_writer *writer, const void *bytes, size_t length);
void wire_put(struct wire_writer *writer, uint16_t tag, const void *bytes, size_t length);
void wire_put_text(struct wire_writer *writer, uint16_t tag, const char *text);
void wire_put_u32(struct wire_writer *writer, uint16_t tag, uint32_t value);
void wire_raw_u16(struct wire_writer *writer, uint16_t value);
void wire_raw_u32(struct wire_writer *writer, uint32_t value);
void wire_raw_u64(struct wire_writer *writer, uint64_t value);

/* Returns 0 when the frame in `data` is whole; -ENOBUFS where it does not fit the buffer, -EMSGSIZE where it is
 * longer than its type allows, or -ENOMEM. */
int wire_end(struct wire_writer *writer);

/* Frees what the writer has made. */
void wire_writer_free(struct wire_writer *writer);
void wire_writer_cleanup(struct wire_writer *writer);
#define cleanup_writer __attribute__((cleanup(wire_writer_cleanup)))

/* One sendmsg, without SIGPIPE, with up to WIRE_DESCRIPTORS_MAX descriptors. Returns the bytes sent or -errno;
 * whether it blocks is the socket's own setting. The descriptors have gone with the first byte. */
ssize_t wire_send(int socket, const void *bytes, size_t length, const int *descriptors, size_t count);

/* One recvmsg. Returns the bytes received, 0 at the end, or -errno; whether it blocks is the socket's own setting.
 * Descriptors that came along are close-on-exec, and are put at descriptors[*count], which is raised. There is
 * place for WIRE_DESCRIPTORS_MAX in all: where more come, all are closed, *count is 0 and -EPROTO is returned. */
ssize_t wire_recv(int socket, void *bytes, size_t length, int descriptors[WIRE_DESCRIPTORS_MAX], size_t *count);

#endif
