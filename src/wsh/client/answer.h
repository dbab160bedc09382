/* What the frames mean that wshd ends a session with. They come from inside of a container: nothing in them is
 * believed before it is checked, and their text is only shown. */

#ifndef WSH_CLIENT_ANSWER_H
#define WSH_CLIENT_ANSWER_H

#include "common.h"
#include "wire.h"

/* An ERROR frame. */
struct refusal {
    uint32_t code, newest, error;
    char text[FAILURE_TEXT];
};

/* Returns 0, or -EPROTO where the frame is not as it has to be. */
int answer_refusal(const struct wire_frame *frame, struct refusal *refusal);

/* The exit status that an ERROR frame means for wsh, and its text in `failure`. */
int answer_refusal_status(const struct refusal *refusal, const char *name, struct failure *failure);

/* Turns an EXITED or ERROR frame into wsh's own exit status, and says what there is to say in `failure`, whose text
 * is empty otherwise. */
int answer_status(const struct wire_frame *frame, const char *name, struct failure *failure);

#endif
