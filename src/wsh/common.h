/* What every file here uses: the error contract, clean-up by scope, retry, and saying something on stderr.
 *
 * The error contract: a function that can fail returns an int (or ssize_t) that is 0 or more for success and
 * -errno for failure, and errno itself means nothing to its caller. What fails for a reason that a person needs
 * to read fills a `struct failure` as well. */

#ifndef WSH_COMMON_H
#define WSH_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
#define cleanup_close __attribute__((cleanup(cleanup_close_descriptor)))
#define printf_like(text, first) __attribute__((format(printf, text, first)))

/* Repeats a system call that a signal interrupted. Its value is that of the call. */
#ifndef TEMP_FAILURE_RETRY
#define TEMP_FAILURE_RETRY(call)                  \
    (__extension__({                              \
        __typeof__(call) result_;                 \
        do                                        \
            result_ = (call);                     \
        while (result_ == -1 && errno == EINTR);  \
        result_;                                  \
    }))
#endif

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define FAILURE_TEXT 512

/* Why something did not work: the number for a program, the text for a person. */
struct failure {
    int error; /* an errno, 0 where there is none */
    char text[FAILURE_TEXT];
};

/* Fills `failure` and returns -error: `return fail(failure, errno, "chdir %s", path);` reads
 * "chdir /x: No such file or directory". With an error of 0 only the text is said, and -EPROTO is returned. */
int fail(struct failure *failure, int error, const char *format, ...) printf_like(3, 4);

/* The name that stands before all that is said on stderr: "wshd". */
extern const char *program_name;

/* Says one line on stderr. It never blocks: where the far end does not read, the line is lost. Control
 * characters are shown as '?'. */
void say(const char *format, ...) printf_like(1, 2);

/* Says one line and exits. */
_Noreturn void die(int status, const char *format, ...) printf_like(2, 3);

/* Replaces control characters in text that somebody else wrote and that will be shown on a terminal. */
void make_printable(char *text);

/* Milliseconds of a clock that nobody sets. */
int64_t now_ms(void);

/* Closes *descriptor unless it is negative, and makes it -1. errno stays. */
void close_descriptor(int *descriptor);

void cleanup_free_pointer(void *pointer);
void cleanup_close_descriptor(int *descriptor);

#endif
