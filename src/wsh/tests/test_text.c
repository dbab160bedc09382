/* Tests of what becomes of other people's text on a terminal. */

#include "text.h"

#include "tests/check.h"

static void check(const char *given, const char *wanted, const char *kept)
{
    char text[64];
    strcpy(text, given);
    clean_text(text, strlen(text), kept);
    CHECK_TEXT(text, wanted);
}

int main(void)
{
    check("plain text", "plain text", "");
    check("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", "");
    check("\033[2J\a\r\n\t\x7f", "?[2J?????", "");
    check("a\n\tb\r", "a\n\tb?", "\n\t");
    /* C1 controls, alone as bytes and as UTF-8: some terminals take both for escapes. */
    check("\x9b" "2J \xc2\x9b" "2J", "?2J ??2J", "");
    /* Marks that turn the direction of what follows. */
    check("x\xe2\x80\xae" "y\xe2\x81\xa6z", "x???y???z", "");
    /* Bytes that are no UTF-8: too long, halves of pairs, cut off, beyond the last character. */
    check("\xc0\xaf", "??", "");
    check("\xe0\x80\xaf", "???", "");
    check("\xed\xa0\x80", "???", "");
    check("\xf4\x90\x80\x80", "????", "");
    check("\xe2\x82", "??", "");
    check("\xff", "?", "");
    char zero[] = {'a', 0, 'b'};
    clean_text(zero, sizeof zero, "\n");
    CHECK(!memcmp(zero, "a?b", 3));
    CHECK(utf8_length((const unsigned char *)"", 0) == 0);
    return 0;
}
