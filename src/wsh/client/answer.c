/* What the frames mean that wshd ends a session with; see answer.h. */

#include "client/answer.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SIGNAL_MAX 64

static int take_field(struct refusal *refusal, const struct wire_field *field)
{
    switch (field->tag) {
    case ERROR_CODE:
        return wire_u32(field, &refusal->code);
    case ERROR_NEWEST:
        return wire_u32(field, &refusal->newest);
    case ERROR_ERRNO:
        return wire_u32(field, &refusal->error);
    case ERROR_TEXT:
        if (!wire_is_text(field))
            return -EPROTO;
        snprintf(refusal->text, sizeof refusal->text, "%s", wire_text(field));
        return 0;
    default: /* a newer wshd may say more */
        return 0;
    }
}

int answer_refusal(const struct wire_frame *frame, struct refusal *refusal)
{
    struct wire_cursor cursor = wire_fields(frame);
    struct wire_field field;
    int result;
    *refusal = (struct refusal){0};
    while ((result = wire_next(&cursor, &field)) > 0)
        if (take_field(refusal, &field) < 0)
            return -EPROTO;
    return result < 0 || !refusal->code ? -EPROTO : 0;
}

int answer_refusal_status(const struct refusal *refusal, const char *name, struct failure *failure)
{
    fail(failure, 0, "%s: %s", name, refusal->text[0] ? refusal->text : "wshd refuses, and does not say why");
    if (refusal->code != ERROR_CANNOT_EXECUTE)
        return EXIT_SELF;
    return refusal->error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}

static int nonsense(const char *name, struct failure *failure)
{
    fail(failure, 0, "%s: wshd's answer makes no sense", name);
    return EXIT_SELF;
}

static int exited_status(const struct wire_frame *frame, const char *name, struct failure *failure)
{
    if (frame->length != 4 || wire_get_u16(frame->payload + 2))
        return nonsense(name, failure);
    uint8_t kind = frame->payload[0], value = frame->payload[1];
    if (kind == ENDED_CODE)
        return value;
    if ((kind != ENDED_SIGNAL && kind != ENDED_MEMORY) || !value || value > SIGNAL_MAX)
        return nonsense(name, failure);
    if (kind == ENDED_MEMORY)
        fail(failure, 0, "%s: killed for memory", name);
    return EXIT_SIGNAL_BASE + value;
}

int answer_status(const struct wire_frame *frame, const char *name, struct failure *failure)
{
    struct refusal refusal;
    failure->text[0] = 0;
    if (frame->type == FRAME_EXITED)
        return exited_status(frame, name, failure);
    if (frame->type == FRAME_ERROR && !answer_refusal(frame, &refusal))
        return answer_refusal_status(&refusal, name, failure);
    return nonsense(name, failure);
}
