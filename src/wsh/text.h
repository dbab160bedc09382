/* Text that comes from elsewhere, made fit for a terminal. */
#ifndef WSH_TEXT_H
#define WSH_TEXT_H

#include <stddef.h>

/* The length of the UTF-8 character at `text`, 1 to 4; 0 where the bytes are none. */
size_t utf8_length(const unsigned char *text, size_t length);

/* Replaces by '?' every control character, but for those in `kept`, and every byte that is not UTF-8. Nothing that
 * is left can move a cursor or change a terminal's state. */
void clean_text(char *text, size_t length, const char *kept);

#endif
