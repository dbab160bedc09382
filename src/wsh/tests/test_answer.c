/* Tests of what a session's last frame means, honest or not. */

#include "client/answer.h"

#include "tests/check.h"

static struct failure failure;

static int status_of(uint16_t type, const void *payload, size_t length)
{
    uint8_t *copy = malloc(length + !length);
    memcpy(copy, payload, length);
    struct wire_frame frame = {.type = type, .version = 1, .length = length, .payload = length ? copy : NULL};
    int status = answer_status(&frame, "web", &failure);
    free(copy);
    return status;
}

static int exited(uint8_t kind, uint8_t value)
{
    return status_of(FRAME_EXITED, (uint8_t[]){kind, value, 0, 0}, 4);
}

static int refused(uint32_t code, uint32_t error, const char *text)
{
    uint8_t space[WIRE_OTHER_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, space, sizeof space);
    wire_begin(&writer, FRAME_ERROR, 1);
    wire_put_u32(&writer, ERROR_CODE, code);
    wire_put_u32(&writer, 77, 1); /* of a newer wshd */
    if (text)
        wire_put_text(&writer, ERROR_TEXT, text);
    if (error)
        wire_put_u32(&writer, ERROR_ERRNO, error);
    CHECK(!wire_end(&writer));
    return status_of(FRAME_ERROR, space + WIRE_HEADER, writer.length - WIRE_HEADER);
}

static void test_exits(void)
{
    CHECK(exited(ENDED_CODE, 0) == 0 && !failure.text[0]);
    CHECK(exited(ENDED_CODE, 255) == 255 && !failure.text[0]);
    CHECK(exited(ENDED_SIGNAL, 15) == 143 && !failure.text[0]);
    CHECK(exited(ENDED_MEMORY, 9) == 137);
    CHECK_TEXT(failure.text, "web: killed for memory");
}

static void test_refusals(void)
{
    CHECK(refused(ERROR_NO_PROCESS, 0, "no more processes") == EXIT_SELF);
    CHECK_TEXT(failure.text, "web: no more processes");
    CHECK(refused(ERROR_CANNOT_EXECUTE, ENOENT, "x") == EXIT_NOT_FOUND);
    CHECK(refused(ERROR_CANNOT_EXECUTE, EACCES, "x") == EXIT_CANNOT_EXECUTE);
    CHECK(refused(ERROR_CANNOT_EXECUTE, 0, "x") == EXIT_CANNOT_EXECUTE);
    CHECK(refused(999, 0, NULL) == EXIT_SELF);
    CHECK(strstr(failure.text, "does not say why"));
}

static void is_nonsense(int status)
{
    CHECK(status == EXIT_SELF);
    CHECK_TEXT(failure.text, "web: wshd's answer makes no sense");
}

static void test_nonsense(void)
{
    is_nonsense(exited(ENDED_SIGNAL, 0));
    is_nonsense(exited(ENDED_SIGNAL, 65));
    is_nonsense(exited(ENDED_MEMORY, 255));
    is_nonsense(exited(3, 1));
    is_nonsense(status_of(FRAME_EXITED, "\0\0\0\1", 4));
    is_nonsense(status_of(FRAME_EXITED, "\0\0\0", 3));
    is_nonsense(status_of(FRAME_EXITED, "", 0));
    is_nonsense(status_of(FRAME_STARTED, "\1\0\0\0", 4));
    is_nonsense(status_of(FRAME_PONG, "", 0));
    is_nonsense(status_of(999, "abc", 3));
    is_nonsense(status_of(FRAME_ERROR, "", 0));
    is_nonsense(status_of(FRAME_ERROR, "\1\0\0\0\5\0\0\0\1\0\0\0\0", 13));
    is_nonsense(status_of(FRAME_ERROR, "\2\0\0\0\3\0\0\0a\0b", 11));
    is_nonsense(status_of(FRAME_ERROR, "\2\0\0\0\377\377\377\377a", 9));
}

int main(void)
{
    test_exits();
    test_refusals();
    test_nonsense();
    return 0;
}
