/* The EXEC frame that a command line asks for; see request.h. */

#include "client/request.h"

#include <stdlib.h>
#include <string.h>

#define SHELL "/bin/sh"

static bool sets_term(const struct options *options)
{
    for (const char **variable = options->environment; variable && *variable; variable++)
        if (!strncmp(*variable, "TERM=", 5))
            return true;
    return false;
}

/* Programs draw for the terminal that is in front of the operator. */
static void put_term(struct wire_writer *writer, const struct options *options)
{
    const char *term = getenv("TERM");
    char variable[80] = "TERM=";
    if (sets_term(options) || !term || !term[0] || strlen(term) >= sizeof variable - 5)
        return;
    strcat(variable, term);
    wire_put_text(writer, EXEC_ENV, variable);
}

static void put_head(struct wire_writer *writer, uint16_t tag, uint32_t length)
{
    wire_raw_u16(writer, tag);
    wire_raw_u16(writer, 0);
    wire_raw_u32(writer, length);
}

static void put_rlimit(struct wire_writer *writer, const struct rlimit_option *limit)
{
    put_head(writer, EXEC_RLIMIT, 24);
    wire_raw_u32(writer, limit->resource);
    wire_raw_u32(writer, 0);
    wire_raw_u64(writer, limit->soft);
    wire_raw_u64(writer, limit->hard);
}

static void put_window(struct wire_writer *writer, const struct winsize *window)
{
    put_head(writer, EXEC_WINSIZE, 4);
    wire_raw_u16(writer, window->ws_row);
    wire_raw_u16(writer, window->ws_col);
}

int request_write(struct wire_writer *writer, const struct options *options, const struct winsize *window,
                  uint16_t version)
{
    uint32_t flags = (window ? EXEC_TTY : 0) | (options->kill_on_disconnect ? EXEC_KILL_ON_DISCONNECT : 0);
    wire_begin(writer, FRAME_EXEC, version);
    if (!options->command)
        wire_put_text(writer, EXEC_ARG, SHELL);
    for (char **word = options->command; word && *word; word++)
        wire_put_text(writer, EXEC_ARG, *word);
    for (const char **variable = options->environment; variable && *variable; variable++)
        wire_put_text(writer, EXEC_ENV, *variable);
    if (window)
        put_term(writer, options);
    if (options->directory)
        wire_put_text(writer, EXEC_CWD, options->directory);
    if (options->has_umask)
        wire_put_u32(writer, EXEC_UMASK, options->umask);
    for (size_t i = 0; i < options->rlimit_count; i++)
        put_rlimit(writer, &options->rlimits[i]);
    if (flags)
        wire_put_u32(writer, EXEC_FLAGS, flags);
    if (window)
        put_window(writer, window);
    return wire_end(writer);
}
