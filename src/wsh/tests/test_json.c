/* Tests of the reader of JSON. */

#include "client/json.h"

#include "tests/check.h"

static struct json document;

static bool parses(const char *text)
{
    /* A copy of exactly this length: the sanitizer sees a read beyond it. */
    size_t length = strlen(text);
    static char *copy;
    free(copy);
    copy = malloc(length + !length);
    memcpy(copy, text, length);
    return json_parse(&document, copy, length);
}

static const struct json_node *member(const char *key)
{
    return json_member(&document, &document.nodes[0], key);
}

static void test_what_is_valid(void)
{
    static const char *const valid[] = {
        "0", "-0", "1.5e+10", "-12E-3", "\"\"", "[]", "{}", "null", " true ", "\t[1 , 2]\r\n", "{\"a\":[{},[]]}",
        "\"\\u00e9\\n\\\\ \xc3\xa9\"", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        CHECK(parses(valid[i]));
}

static void test_what_is_not(void)
{
    static const char *const invalid[] = {
        "", " ", "{", "[", "]", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",
        "{1:2}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "01", "+1", ".5", "1.", "1e", "1e+", "-", "--1", "0x1", "NaN",
        "Infinity", "nul", "nullx", "True", "'a'", "\"", "\"a", "\"\\\"", "\"\\x41\"", "\"\\u12\"", "\"\\u12g4\"",
        "\"a\nb\"", "\"\t\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "1 2", "{} x", "[1]]", "{\"a\":1}}",
        "/* */ 1", "1//", "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", "\xef\xbb\xbf{}", "[1}", "{\"a\":1]",
    };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        if (parses(invalid[i])) {
            fprintf(stderr, "taken for JSON: %s\n", invalid[i]);
            exit(1);
        }
    CHECK(!json_parse(&document, "1\0", 2));
}

static void test_members(void)
{
    char text[16];
    double number = 0;
    CHECK(parses("{\"a\": 1.5, \"b\": \"x\", "
                 "\"c\": {\"b\": 2, \"d\": [1, {\"e\": 3}]}, \"f\": null, \"b\": \"twice\"}"));
    CHECK(json_number(&document, member("a"), &number) && number == 1.5);
    CHECK(json_string(&document, member("b"), text, sizeof text));
    CHECK_TEXT(text, "x");
    CHECK(json_number(&document, json_member(&document, member("c"), "b"), &number) && number == 2);
    CHECK(member("f")->type == JSON_NULL);
    CHECK(!member("d") && !member("e") && !member("") && !member("ab"));
    CHECK(!json_member(&document, member("a"), "a") && !json_member(&document, NULL, "a"));
    CHECK(!json_number(&document, member("b"), &number) && !json_number(&document, NULL, &number));
    CHECK(!json_string(&document, member("a"), text, sizeof text) && !text[0]);
}

static void check_string(const char *json, const char *wanted, size_t size)
{
    char text[64];
    CHECK(parses(json));
    CHECK(json_string(&document, &document.nodes[0], text, size));
    CHECK_TEXT(text, wanted);
}

static void test_strings(void)
{
    check_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 64);
    check_string("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 64);
    check_string("\"a\\u0000b\"", "a?b", 64);
    /* Halves of pairs, which Python writes for bytes of file names that are no UTF-8. */
    check_string("\"\\ud83dx\\ude00\"", "\xef\xbf\xbdx\xef\xbf\xbd", 64);
    check_string("\"\\ud83d\\u0041\"", "\xef\xbf\xbd" "A", 64);
    /* Cut to the buffer, but never inside of a character. */
    check_string("\"abcdef\"", "abc", 4);
    check_string("\"ab\\u20ac\"", "ab", 4);
    check_string("\"\"", "", 1);
    check_string("\"a\"", "", 1);
}

static void test_limits(void)
{
    static char many[4 * JSON_NODES];
    char *at = many;
    at += sprintf(at, "[0");
    for (int i = 2; i < JSON_NODES; i++)
        at += sprintf(at, ",0");
    strcpy(at, "]");
    CHECK(parses(many) && document.count == JSON_NODES);
    strcpy(at, ",0]");
    CHECK(!parses(many));
    double number;
    CHECK(parses("10000000000000000000000000000000000000000000000000000000000000000000000000"));
    CHECK(!json_number(&document, &document.nodes[0], &number));
}

int main(void)
{
    test_what_is_valid();
    test_what_is_not();
    test_members();
    test_strings();
    test_limits();
    parses("0");
    return 0;
}
