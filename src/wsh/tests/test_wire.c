/* The frames: what is whole is read as it was written, and what is not is refused at the first byte that shows it. */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "tests/check.h"
#include "wire.h"

/* Gives bytes to a reader in pieces. Returns the state after the last one, or the first failure. */
static int feed(struct wire_reader *reader, const uint8_t *bytes, size_t length, size_t piece)
{
    int state = WIRE_MORE;
    while (length && state == WIRE_MORE) {
        uint8_t *at;
        size_t wanted;
        wire_want(reader, &at, &wanted);
        CHECK(wanted > 0);
        size_t now = wanted < piece ? wanted : piece;
        now = now < length ? now : length;
        memcpy(at, bytes, now);
        bytes += now;
        length -= now;
        state = wire_got(reader, now);
    }
    return state;
}

static void header(uint8_t bytes[WIRE_HEADER], uint32_t length, uint16_t type, uint16_t version)
{
    struct wire_writer writer;
    wire_writer_init(&writer, bytes, WIRE_HEADER);
    wire_raw_u32(&writer, length);
    wire_raw_u16(&writer, type);
    wire_raw_u16(&writer, version);
    CHECK(!writer.error);
}

static int header_state(uint32_t length, uint16_t type, uint16_t version)
{
    struct wire_budget budget = {.left = WIRE_EXEC_MAX};
    struct wire_reader reader;
    uint8_t bytes[WIRE_HEADER];
    header(bytes, length, type, version);
    wire_reader_init(&reader, 1, 2, &budget);
    int state = feed(&reader, bytes, sizeof bytes, sizeof bytes);
    wire_reader_reset(&reader);
    CHECK(budget.left == WIRE_EXEC_MAX);
    return state;
}

static void test_a_frame_in_pieces(void)
{
    for (size_t piece = 1; piece < 64; piece++) {
        cleanup_writer struct wire_writer writer;
        wire_writer_init(&writer, NULL, 0);
        wire_begin(&writer, FRAME_EXEC, 1);
        wire_put_text(&writer, EXEC_ARG, "sh");
        wire_put(&writer, EXEC_ARG, "", 0);
        wire_put_u32(&writer, EXEC_UMASK, 022);
        CHECK(wire_end(&writer) == 0);
        struct wire_reader reader;
        wire_reader_init(&reader, 1, 1, NULL);
        CHECK(feed(&reader, writer.data, writer.length, piece) == WIRE_WHOLE);
        CHECK(reader.frame.type == FRAME_EXEC && reader.frame.version == 1);
        struct wire_cursor cursor = wire_fields(&reader.frame);
        struct wire_field field;
        uint32_t value;
        CHECK(wire_next(&cursor, &field) == 1 && field.tag == EXEC_ARG);
        CHECK_TEXT(wire_text(&field), "sh");
        CHECK(wire_next(&cursor, &field) == 1 && field.length == 0);
        CHECK_TEXT(wire_text(&field), "");
        CHECK(wire_next(&cursor, &field) == 1 && wire_u32(&field, &value) == 0 && value == 022);
        CHECK(wire_next(&cursor, &field) == 0);
        wire_reader_reset(&reader);
        CHECK(reader.have == 0 && !reader.frame.payload);
    }
}

static void test_headers(void)
{
    CHECK(header_state(0, FRAME_PING, 1) == WIRE_WHOLE);
    CHECK(header_state(0, FRAME_PING, 2) == WIRE_WHOLE);
    CHECK(header_state(0, FRAME_PING, 0) == -EPROTONOSUPPORT);
    CHECK(header_state(0, FRAME_PING, 3) == -EPROTONOSUPPORT);
    CHECK(header_state(UINT32_MAX, FRAME_EXEC, 3) == -EPROTONOSUPPORT); /* the version counts first */
    CHECK(header_state(4, FRAME_ERROR, 9) == WIRE_MORE);
    CHECK(header_state(WIRE_OTHER_MAX, FRAME_PING, 1) == WIRE_MORE);
    CHECK(header_state(WIRE_OTHER_MAX + 1, FRAME_PING, 1) == -EMSGSIZE);
    CHECK(header_state(WIRE_OTHER_MAX + 1, 999, 1) == -EMSGSIZE);
    CHECK(header_state(WIRE_EXEC_MAX, FRAME_EXEC, 1) == WIRE_MORE);
    CHECK(header_state(WIRE_EXEC_MAX + 1, FRAME_EXEC, 1) == -EMSGSIZE);
    CHECK(header_state(UINT32_MAX, FRAME_EXEC, 1) == -EMSGSIZE);
}

static void test_readers_share_a_budget(void)
{
    struct wire_budget budget = {.left = 10};
    struct wire_reader one, other;
    uint8_t bytes[WIRE_HEADER];
    header(bytes, 6, FRAME_EXEC, 1);
    wire_reader_init(&one, 1, 1, &budget);
    wire_reader_init(&other, 1, 1, &budget);
    CHECK(feed(&one, bytes, sizeof bytes, 8) == WIRE_MORE);
    CHECK(feed(&other, bytes, sizeof bytes, 8) == -ENOBUFS);
    wire_reader_reset(&other);
    wire_reader_reset(&one);
    CHECK(feed(&other, bytes, sizeof bytes, 8) == WIRE_MORE);
    wire_reader_reset(&other);
    CHECK(budget.left == 10);
}

static int walk(const uint8_t *payload, size_t length)
{
    uint8_t *copy = malloc(length); /* exactly as large: a read beyond it is found */
    memcpy(copy, payload, length);
    struct wire_frame frame = {.payload = copy, .length = length};
    struct wire_cursor cursor = wire_fields(&frame);
    struct wire_field field;
    int more;
    while ((more = wire_next(&cursor, &field)) > 0)
        continue;
    free(copy);
    return more;
}

static void test_fields(void)
{
    static const uint8_t good[] = {1, 0, 0, 0, 2, 0, 0, 0, 'a', 'b', 2, 0, 0, 0, 0, 0, 0, 0};
    for (size_t length = 0; length < sizeof good; length++)
        CHECK(walk(good, length) == (length == 0 || length == 10 ? 0 : -EPROTO));
    CHECK(walk(good, sizeof good) == 0);
    static const uint8_t not_zero[] = {1, 0, 1, 0, 0, 0, 0, 0};
    CHECK(walk(not_zero, sizeof not_zero) == -EPROTO);
    static const uint8_t huge[] = {1, 0, 0, 0, 255, 255, 255, 255, 'a'};
    CHECK(walk(huge, sizeof huge) == -EPROTO);
    uint8_t data[] = "a\0b";
    uint32_t value;
    struct wire_field field = {.data = data, .length = 3};
    CHECK(!wire_is_text(&field));
    CHECK(wire_u32(&field, &value) == -EPROTO);
    field.length = 1;
    CHECK(wire_is_text(&field));
}

static void test_a_writer_keeps_its_bounds(void)
{
    uint8_t buffer[WIRE_HEADER + WIRE_FIELD + 4];
    struct wire_writer writer;
    wire_writer_init(&writer, buffer, sizeof buffer);
    wire_begin(&writer, FRAME_ERROR, 1);
    wire_put_u32(&writer, 1, 1);
    CHECK(wire_end(&writer) == 0);
    wire_raw(&writer, "x", 1);
    CHECK(wire_end(&writer) == -ENOBUFS);
    wire_begin(&writer, FRAME_PING, 1); /* a new frame is a new chance */
    CHECK(wire_end(&writer) == 0 && writer.length == WIRE_HEADER);

    cleanup_writer struct wire_writer grows;
    char *large = calloc(1, WIRE_EXEC_MAX);
    wire_writer_init(&grows, NULL, 0);
    wire_begin(&grows, FRAME_EXEC, 1);
    wire_put(&grows, EXEC_ARG, large, WIRE_EXEC_MAX - WIRE_FIELD);
    CHECK(wire_end(&grows) == 0);
    wire_raw(&grows, "x", 1);
    CHECK(wire_end(&grows) == -EMSGSIZE);
    wire_begin(&grows, FRAME_PONG, 1);
    wire_put(&grows, PONG_BUILD, large, WIRE_OTHER_MAX);
    CHECK(wire_end(&grows) == -EMSGSIZE);
    wire_begin(&grows, FRAME_EXEC, 1);
    wire_put(&grows, EXEC_ARG, large, SIZE_MAX);
    CHECK(wire_end(&grows) == -EMSGSIZE);
    free(large);
}

static size_t open_descriptors(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 64; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_descriptors_travel(void)
{
    int ends[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), came[WIRE_DESCRIPTORS_MAX];
    int sent[] = {null, null, null};
    size_t count = 0;
    char byte;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(wire_send(ends[0], "x", 1, sent, 4) == -EINVAL);
    CHECK(wire_send(ends[0], "x", 1, sent, 3) == 1);
    CHECK(wire_recv(ends[1], &byte, 1, came, &count) == 1 && count == 3);
    for (size_t i = 0; i < 3; i++)
        CHECK(fcntl(came[i], F_GETFD) == FD_CLOEXEC);

    size_t before = open_descriptors(); /* three have come and there is no place for a fourth */
    CHECK(wire_send(ends[0], "x", 1, sent, 1) == 1);
    CHECK(wire_recv(ends[1], &byte, 1, came, &count) == -EPROTO && count == 0);
    CHECK(open_descriptors() == before - 3);

    close(ends[1]);
    CHECK(wire_send(ends[0], "x", 1, NULL, 0) == -EPIPE);
    close(ends[0]);
    close(null);
}

/* One control message may hold more descriptors than there is place for. */
static void test_too_many_descriptors_are_closed(void)
{
    int ends[2], came[WIRE_DESCRIPTORS_MAX];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(9 * sizeof(int))];
    } control = {0};
    size_t count = 0, before = open_descriptors();
    char byte = 'x';
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(9 * sizeof(int))};
    for (size_t i = 0; i < 9; i++)
        memcpy(CMSG_DATA(head) + i * sizeof(int), (int[]){0}, sizeof(int));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(sendmsg(ends[0], &message, 0) == 1);
    CHECK(wire_recv(ends[1], &byte, 1, came, &count) == -EPROTO && count == 0);
    close(ends[0]);
    close(ends[1]);
    CHECK(open_descriptors() == before);
}

static void test_failures_say_what_was_tried(void)
{
    struct failure failure;
    CHECK(fail(&failure, ENOENT, "chdir %s", "/x") == -ENOENT);
    CHECK_TEXT(failure.text, "chdir /x: No such file or directory");
    CHECK(fail(&failure, 0, "no") == -EPROTO && failure.error == 0);
    CHECK_TEXT(failure.text, "no");
    char *long_name = malloc(2 * FAILURE_TEXT);
    memset(long_name, 'x', 2 * FAILURE_TEXT - 1);
    long_name[2 * FAILURE_TEXT - 1] = 0;
    CHECK(fail(&failure, EPERM, "%s", long_name) == -EPERM && strlen(failure.text) == FAILURE_TEXT - 1);
    free(long_name);
    char text[] = "a\x1b[0m\n\x7f";
    make_printable(text);
    CHECK_TEXT(text, "a?[0m??");
}

int main(void)
{
    test_a_frame_in_pieces();
    test_headers();
    test_readers_share_a_budget();
    test_fields();
    test_a_writer_keeps_its_bounds();
    test_descriptors_travel();
    test_too_many_descriptors_are_closed();
    test_failures_say_what_was_tried();
    return 0;
}
