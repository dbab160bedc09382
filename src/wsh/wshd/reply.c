/* What wshd tells a client; see reply.h. */

#include "reply.h"

#include <errno.h>

#include "wire.h"

static int send_frame(int socket, struct wire_writer *writer, const int *descriptors, size_t count)
{
    int result = wire_end(writer);
    if (result < 0)
        return result;
    ssize_t sent = wire_send(socket, writer->data, writer->length, descriptors, count);
    if (sent < 0)
        return (int)sent;
    return (size_t)sent == writer->length ? 0 : -EAGAIN;
}

int reply_error(int socket, enum error_code code, int error, const char *text)
{
    uint8_t buffer[WIRE_HEADER + 3 * (WIRE_FIELD + 4) + FAILURE_TEXT];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_ERROR, WIRE_VERSION);
    wire_put_u32(&writer, ERROR_CODE, code);
    wire_put_text(&writer, ERROR_TEXT, text);
    if (code == ERROR_VERSION)
        wire_put_u32(&writer, ERROR_NEWEST, WIRE_VERSION);
    if (code == ERROR_CANNOT_EXECUTE)
        wire_put_u32(&writer, ERROR_ERRNO, (uint32_t)error);
    return send_frame(socket, &writer, NULL, 0);
}

int reply_pong(int socket, unsigned sessions)
{
    uint8_t buffer[64 + sizeof WSH_BUILD];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_PONG, WIRE_VERSION);
    wire_put_text(&writer, PONG_BUILD, WSH_BUILD);
    wire_put_u32(&writer, PONG_SESSIONS, sessions);
    return send_frame(socket, &writer, NULL, 0);
}

int reply_exited(int socket, enum ended how, int value)
{
    uint8_t buffer[WIRE_HEADER + 4];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_EXITED, WIRE_VERSION);
    wire_raw(&writer, (uint8_t[]){(uint8_t)how, (uint8_t)value, 0, 0}, 4);
    return send_frame(socket, &writer, NULL, 0);
}

int reply_started(int socket, pid_t pid, const struct streams *streams)
{
    uint8_t buffer[WIRE_HEADER + 4];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_STARTED, WIRE_VERSION);
    wire_raw_u32(&writer, (uint32_t)pid);
    return send_frame(socket, &writer, streams->outside, streams->count);
}
