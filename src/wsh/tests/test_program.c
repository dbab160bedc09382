/* EXEC: what may be in it, and what may not. */

#include <errno.h>

#include "tests/check.h"
#include "wshd/program.h"

/* One EXEC in the making. */
static struct wire_writer writer;

static void begin(void)
{
    wire_begin(&writer, FRAME_EXEC, WIRE_VERSION);
}

static void rlimit(uint32_t resource, uint32_t zero, uint64_t soft, uint64_t hard)
{
    wire_raw_u16(&writer, EXEC_RLIMIT);
    wire_raw_u16(&writer, 0);
    wire_raw_u32(&writer, 24);
    wire_raw_u32(&writer, resource);
    wire_raw_u32(&writer, zero);
    wire_raw_u64(&writer, soft);
    wire_raw_u64(&writer, hard);
}

/* Parses what was written. Returns why it is refused, NULL where it is not. The strings live until the next call. */
static const char *parse(struct program *program)
{
    static uint8_t *payload;
    const char *why;
    CHECK(wire_end(&writer) == 0);
    size_t length = writer.length - WIRE_HEADER;
    free(payload);
    payload = malloc(length ? length : 1);
    memcpy(payload, writer.data + WIRE_HEADER, length);
    struct wire_frame frame = {.type = FRAME_EXEC, .version = 1, .length = length, .payload = payload};
    int result = program_parse(program, &frame, &why);
    CHECK(result == (why ? -EPROTO : 0));
    return why;
}

static void refused(const char *reason)
{
    struct program program;
    const char *why = parse(&program);
    CHECK(why);
    CHECK_TEXT(why, reason);
    program_free(&program);
}

static void test_everything(void)
{
    struct program program;
    begin();
    wire_put_text(&writer, EXEC_ARG, "sh");
    wire_put_text(&writer, EXEC_ENV, "A=b=c");
    wire_put_text(&writer, EXEC_ARG, "");
    wire_put_text(&writer, EXEC_CWD, "/tmp");
    wire_put_u32(&writer, EXEC_UMASK, 0777);
    rlimit(7, 0, 1, UINT64_MAX);
    rlimit(0, 0, 2, 3);
    wire_put_u32(&writer, EXEC_FLAGS, EXEC_TTY | EXEC_KILL_ON_DISCONNECT);
    wire_put(&writer, EXEC_WINSIZE, (uint8_t[]){24, 0, 0, 1}, 4);
    wire_put_text(&writer, EXEC_ENV, "EMPTY=");
    CHECK(!parse(&program));
    CHECK_TEXT(program.argv[0], "sh");
    CHECK_TEXT(program.argv[1], "");
    CHECK(!program.argv[2]);
    CHECK_TEXT(program.variables[0], "A=b=c");
    CHECK_TEXT(program.variables[1], "EMPTY=");
    CHECK(!program.variables[2]);
    CHECK_TEXT(program.cwd, "/tmp");
    CHECK(program.has_umask && program.umask == 0777);
    CHECK(program.rlimit_count == 2 && program.rlimits[0].resource == 7 && program.rlimits[0].limit.rlim_cur == 1 &&
          program.rlimits[0].limit.rlim_max == RLIM_INFINITY);
    CHECK(program.tty && program.kill_on_disconnect);
    CHECK(program.has_window && program.window.ws_row == 24 && program.window.ws_col == 256);
    program_free(&program);
}

static void test_the_least(void)
{
    struct program program;
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    CHECK(!parse(&program));
    CHECK(!program.variables[0] && !program.cwd && !program.has_umask && !program.has_window && !program.tty &&
          !program.kill_on_disconnect && !program.rlimit_count);
    program_free(&program);
}

/* A field that is not allowed, after a good one. */
static void test_bad_field(uint16_t tag, const void *bytes, size_t length, const char *reason)
{
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    wire_put(&writer, tag, bytes, length);
    refused(reason);
}

static void test_refusals(void)
{
    begin();
    refused("there is no program to run");
    begin();
    wire_put_text(&writer, EXEC_ENV, "A=b");
    refused("there is no program to run");
    test_bad_field(EXEC_ARG, "a\0b", 3, "a string holds a zero byte");
    test_bad_field(EXEC_CWD, "", 1, "a string holds a zero byte");
    test_bad_field(EXEC_ENV, "A=\0", 3, "a string holds a zero byte");
    test_bad_field(EXEC_ENV, "", 0, "a variable is not NAME=VALUE");
    test_bad_field(EXEC_ENV, "A", 1, "a variable is not NAME=VALUE");
    test_bad_field(EXEC_ENV, "=A", 2, "a variable is not NAME=VALUE");
    test_bad_field(EXEC_UMASK, "abc", 3, "a number has the wrong size");
    test_bad_field(EXEC_UMASK, "\0\2\0\0", 4, "the umask is above 0777");
    test_bad_field(EXEC_FLAGS, "\4\0\0\0", 4, "a flag is not known");
    test_bad_field(EXEC_FLAGS, "\0\0\0\x80", 4, "a flag is not known");
    test_bad_field(EXEC_WINSIZE, "abc", 3, "the window's size has the wrong form");
    test_bad_field(EXEC_RLIMIT, "abc", 3, "a resource limit has the wrong form");
    test_bad_field(0, "", 0, "a field is not known");
    test_bad_field(8, "", 0, "a field is not known");
    test_bad_field(UINT16_MAX, "", 0, "a field is not known");
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    rlimit(0, 1, 0, 0);
    refused("a resource limit has the wrong form");
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    for (int i = 0; i <= PROGRAM_RLIMITS; i++)
        rlimit(0, 0, 1, 1);
    refused("there are too many resource limits");
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    wire_put_text(&writer, EXEC_CWD, "/");
    wire_put_text(&writer, EXEC_CWD, "/");
    refused("a field is repeated that may not be");
    begin();
    wire_put_text(&writer, EXEC_ARG, "x");
    wire_raw(&writer, "abc", 3);
    refused("the payload ends inside a field");
}

int main(void)
{
    wire_writer_init(&writer, NULL, 0);
    test_everything();
    test_the_least();
    test_refusals();
    wire_writer_free(&writer);
    return 0;
}
