/* Text that comes from elsewhere, made fit for a terminal. */
#include "text.h"

#include <stdbool.h>
#include <string.h>

static bool continues(const unsigned char *text, size_t count)
{
    for (size_t i = 1; i <= count; i++)
        if ((text[i] & 0xc0) != 0x80)
            return false;
    return true;
}

size_t utf8_length(const unsigned char *text, size_t length)
{
    if (length == 0)
        return 0;
    if (text[0] < 0x80)
        return 1;
    if (text[0] >= 0xc2 && text[0] <= 0xdf)
        return length >= 2 && continues(text, 1) ? 2 : 0;
    if (text[0] >= 0xe0 && text[0] <= 0xef) {
        if (length < 3 || !continues(text, 2))
            return 0;
        /* Neither longer than needed nor half of a UTF-16 pair. */
        return (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ? 0 : 3;
    }
    if (text[0] >= 0xf0 && text[0] <= 0xf4) {
        if (length < 4 || !continues(text, 3))
            return 0;
        return (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f) ? 0 : 4;
    }
    return 0;
}

static bool is_control(const unsigned char *text, size_t length)
{
    if (length == 1)
        return text[0] < 0x20 || text[0] == 0x7f;
    /* C1 controls, and the marks that turn the direction of writing: both make a line lie about its content. */
    if (length == 2)
        return text[0] == 0xc2 && text[1] < 0xa0;
    return length == 3 && text[0] == 0xe2 &&
           ((text[1] == 0x80 && text[2] >= 0xa8 && text[2] <= 0xae) ||
            (text[1] == 0x81 && text[2] >= 0xa6 && text[2] <= 0xa9));
}

void clean_text(char *text, size_t length, const char *kept)
{
    unsigned char *bytes = (unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t width = utf8_length(bytes + i, length - i);
        bool bad = width == 0 || is_control(bytes + i, width);
        if (width == 0)
            width = 1;
        if (bad && (bytes[i] == 0 || strchr(kept, bytes[i]) == NULL))
            memset(bytes + i, '?', width);
        i += width;
    }
}
