/* What shall be run and how; see program.h. */

#include "program.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RLIMIT_BYTES 24
#define WINSIZE_BYTES 4
#define FLAGS_KNOWN (EXEC_TTY | EXEC_KILL_ON_DISCONNECT)

/* A variable has a name and an equals sign. */
static bool is_variable(const struct wire_field *field)
{
    return field->length > 1 && field->data[0] != '=' && memchr(field->data, '=', field->length);
}

static const char *check_number(struct program *program, const struct wire_field *field)
{
    uint32_t value;
    if (wire_u32(field, &value) < 0)
        return "a number has the wrong size";
    if (field->tag == EXEC_UMASK) {
        if (value > 0777)
            return "the umask is above 0777";
        program->has_umask = true;
        program->umask = (mode_t)value;
        return NULL;
    }
    if (value & ~(uint32_t)FLAGS_KNOWN)
        return "a flag is not known";
    program->tty = value & EXEC_TTY;
    program->kill_on_disconnect = value & EXEC_KILL_ON_DISCONNECT;
    return NULL;
}

static const char *check_rlimit(struct program *program, const struct wire_field *field)
{
    if (field->length != RLIMIT_BYTES || wire_get_u32(field->data + 4))
        return "a resource limit has the wrong form";
    if (program->rlimit_count == PROGRAM_RLIMITS)
        return "there are too many resource limits";
    program->rlimits[program->rlimit_count++] = (struct program_rlimit){
        .resource = (int)wire_get_u32(field->data),
        .limit = {.rlim_cur = wire_get_u64(field->data + 8), .rlim_max = wire_get_u64(field->data + 16)},
    };
    return NULL;
}

static const char *check_window(struct program *program, const struct wire_field *field)
{
    if (field->length != WINSIZE_BYTES)
        return "the window's size has the wrong form";
    program->has_window = true;
    program->window.ws_row = wire_get_u16(field->data);
    program->window.ws_col = wire_get_u16(field->data + 2);
    return NULL;
}

static const char *check_field(struct program *program, const struct wire_field *field)
{
    switch (field->tag) {
    case EXEC_ENV:
        if (!is_variable(field))
            return "a variable is not NAME=VALUE";
        /* fall through */
    case EXEC_ARG:
    case EXEC_CWD:
        return wire_is_text(field) ? NULL : "a string holds a zero byte";
    case EXEC_UMASK:
    case EXEC_FLAGS:
        return check_number(program, field);
    case EXEC_RLIMIT:
        return check_rlimit(program, field);
    case EXEC_WINSIZE:
        return check_window(program, field);
    default:
        return "a field is not known";
    }
}

/* How often each tag occurs. */
struct counts {
    size_t of[EXEC_WINSIZE + 1];
};

static const char *check(struct program *program, const struct wire_frame *frame, struct counts *counts)
{
    struct wire_cursor cursor = wire_fields(frame);
    struct wire_field field;
    int more;
    while ((more = wire_next(&cursor, &field)) > 0) {
        const char *why = check_field(program, &field);
        if (why)
            return why;
        if (counts->of[field.tag]++ && field.tag != EXEC_ARG && field.tag != EXEC_ENV && field.tag != EXEC_RLIMIT)
            return "a field is repeated that may not be";
    }
    if (more < 0)
        return "the payload ends inside a field";
    return counts->of[EXEC_ARG] ? NULL : "there is no program to run";
}

int program_parse(struct program *program, const struct wire_frame *frame, const char **why)
{
    *program = (struct program){0};
    struct counts counts = {0};
    *why = check(program, frame, &counts);
    if (*why)
        return -EPROTO;
    char **words = calloc(counts.of[EXEC_ARG] + counts.of[EXEC_ENV] + 2, sizeof *words);
    if (!words)
        return -ENOMEM;
    program->words = words;
    program->argv = words;
    program->variables = words + counts.of[EXEC_ARG] + 1;
    size_t arguments = 0, variables = 0;
    struct wire_cursor cursor = wire_fields(frame);
    struct wire_field field;
    while (wire_next(&cursor, &field) > 0) {
        if (field.tag == EXEC_ARG)
            program->argv[arguments++] = wire_text(&field);
        else if (field.tag == EXEC_ENV)
            program->variables[variables++] = wire_text(&field);
        else if (field.tag == EXEC_CWD)
            program->cwd = wire_text(&field);
    }
    return 0;
}

void program_free(struct program *program)
{
    free(program->words);
    *program = (struct program){0};
}
