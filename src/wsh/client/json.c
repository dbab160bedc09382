/* A strict reader of JSON (RFC 8259) for small files of our own: no memory of its own, no recursion. */
#include "client/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* What may come next. */
enum expects { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COMMA_OR_END, NOTHING };

struct reader {
    struct json *document;
    const char *text;
    size_t at, length;
    size_t open[JSON_DEPTH]; /* the nodes that are not closed yet */
    size_t depth;
};

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static char peek(const struct reader *reader)
{
    return reader->at < reader->length ? reader->text[reader->at] : '\0';
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->length && strchr(" \t\r\n", reader->text[reader->at]) != NULL &&
           reader->text[reader->at] != '\0')
        reader->at++;
}

static struct json_node *add_node(struct reader *reader, enum json_type type)
{
    struct json *document = reader->document;
    if (document->count == JSON_NODES)
        return NULL;
    struct json_node *node = &document->nodes[document->count++];
    *node = (struct json_node){.type = type, .start = reader->at, .next = document->count};
    return node;
}

static int hex_digit(char byte)
{
    if (is_digit(byte))
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

/* The four digits of \uXXXX, or -1. */
static int32_t hex_unit(const char *text, size_t length)
{
    int32_t unit = 0;
    if (length < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* The length of the escape at `text`, which starts with a backslash, and its character. A half of a UTF-16 pair
 * without the other is the replacement character: Python writes such text, and it is no reason to refuse a file. */
static size_t read_escape(const char *text, size_t length, uint32_t *character)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (length < 2)
        return 0;
    const char *name = text[1] != '\0' ? strchr(names, text[1]) : NULL;
    if (name != NULL) {
        *character = (unsigned char)values[name - names];
        return 2;
    }
    int32_t unit = text[1] == 'u' ? hex_unit(text + 2, length - 2) : -1;
    if (unit < 0)
        return 0;
    *character = (uint32_t)unit;
    if (unit < 0xd800 || unit > 0xdfff)
        return 6;
    *character = 0xfffd;
    if (unit <= 0xdbff && length >= 12 && text[6] == '\\' && text[7] == 'u') {
        int32_t low = hex_unit(text + 8, length - 8);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *character = 0x10000 + (((uint32_t)unit - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
            return 12;
        }
    }
    return 6;
}

static bool read_string(struct reader *reader)
{
    reader->at++;
    struct json_node *node = add_node(reader, JSON_STRING);
    if (node == NULL)
        return false;
    while (reader->at < reader->length && reader->text[reader->at] != '"') {
        const char *here = reader->text + reader->at;
        size_t left = reader->length - reader->at, width;
        uint32_t character;
        if (*here == '\\')
            width = read_escape(here, left, &character);
        else
            width = (unsigned char)*here < 0x20 ? 0 : utf8_length((const unsigned char *)here, left);
        if (width == 0)
            return false;
        reader->at += width;
    }
    node->end = reader->at++;
    return node->end < reader->length;
}

static bool skip_digits(struct reader *reader)
{
    size_t start = reader->at;
    while (is_digit(peek(reader)))
        reader->at++;
    return reader->at > start;
}

static bool read_number(struct reader *reader)
{
    struct json_node *node = add_node(reader, JSON_NUMBER);
    if (node == NULL)
        return false;
    if (peek(reader) == '-')
        reader->at++;
    if (peek(reader) == '0')
        reader->at++;
    else if (!skip_digits(reader))
        return false;
    if (peek(reader) == '.') {
        reader->at++;
        if (!skip_digits(reader))
            return false;
    }
    if (peek(reader) == 'e' || peek(reader) == 'E') {
        reader->at++;
        if (peek(reader) == '+' || peek(reader) == '-')
            reader->at++;
        if (!skip_digits(reader))
            return false;
    }
    node->end = reader->at;
    return true;
}

static bool read_word(struct reader *reader, const char *word, enum json_type type)
{
    size_t length = strlen(word);
    if (reader->length - reader->at < length || memcmp(reader->text + reader->at, word, length) != 0)
        return false;
    struct json_node *node = add_node(reader, type);
    if (node == NULL)
        return false;
    reader->at += length;
    node->end = reader->at;
    return true;
}

static bool read_scalar(struct reader *reader)
{
    switch (peek(reader)) {
    case '"':
        return read_string(reader);
    case 'n':
        return read_word(reader, "null", JSON_NULL);
    case 't':
        return read_word(reader, "true", JSON_TRUE);
    case 'f':
        return read_word(reader, "false", JSON_FALSE);
    default:
        return read_number(reader);
    }
}

static bool open_container(struct reader *reader, enum json_type type)
{
    if (reader->depth == JSON_DEPTH)
        return false;
    reader->open[reader->depth++] = reader->document->count;
    return add_node(reader, type) != NULL && ++reader->at > 0;
}

static enum json_type innermost(const struct reader *reader)
{
    return reader->document->nodes[reader->open[reader->depth - 1]].type;
}

static void close_container(struct reader *reader)
{
    struct json_node *node = &reader->document->nodes[reader->open[--reader->depth]];
    node->end = ++reader->at;
    node->next = reader->document->count;
}

static bool read_value(struct reader *reader, enum expects *expects)
{
    char byte = peek(reader);
    if (byte == '{' || byte == '[') {
        *expects = byte == '{' ? KEY_OR_END : VALUE_OR_END;
        return open_container(reader, byte == '{' ? JSON_OBJECT : JSON_ARRAY);
    }
    *expects = reader->depth > 0 ? COMMA_OR_END : NOTHING;
    return read_scalar(reader);
}

static bool read_key(struct reader *reader)
{
    if (peek(reader) != '"' || !read_string(reader))
        return false;
    skip_space(reader);
    return peek(reader) == ':' && ++reader->at > 0;
}

static bool is_end(const struct reader *reader)
{
    return reader->depth > 0 && peek(reader) == (innermost(reader) == JSON_OBJECT ? '}' : ']');
}

static bool read_next(struct reader *reader, enum expects *expects)
{
    if ((*expects == KEY_OR_END || *expects == VALUE_OR_END || *expects == COMMA_OR_END) && is_end(reader)) {
        close_container(reader);
        *expects = reader->depth > 0 ? COMMA_OR_END : NOTHING;
        return true;
    }
    if (*expects == COMMA_OR_END) {
        *expects = innermost(reader) == JSON_OBJECT ? KEY : VALUE;
        return peek(reader) == ',' && ++reader->at > 0;
    }
    if (*expects == KEY || *expects == KEY_OR_END) {
        *expects = VALUE;
        return read_key(reader);
    }
    return read_value(reader, expects);
}

bool json_parse(struct json *document, const char *text, size_t length)
{
    struct reader reader = {.document = document, .text = text, .length = length};
    enum expects expects = VALUE;
    document->text = text;
    document->count = 0;
    for (;;) {
        skip_space(&reader);
        if (expects == NOTHING)
            return reader.at == length;
        if (!read_next(&reader, &expects))
            return false;
    }
}

const struct json_node *json_member(const struct json *document, const struct json_node *object, const char *key)
{
    if (object == NULL || object->type != JSON_OBJECT)
        return NULL;
    size_t length = strlen(key);
    for (size_t i = (size_t)(object - document->nodes) + 1; i < object->next;) {
        const struct json_node *name = &document->nodes[i];
        const struct json_node *value = &document->nodes[i + 1];
        if (name->end - name->start == length && memcmp(document->text + name->start, key, length) == 0)
            return value;
        i = value->next;
    }
    return NULL;
}

static size_t encode(uint32_t character, char bytes[4])
{
    if (character == 0)
        character = '?';
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    size_t length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    bytes[0] = (char)((0xf00u >> length & 0xf0u) | character);
    return length;
}

bool json_string(const struct json *document, const struct json_node *node, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    if (node == NULL || node->type != JSON_STRING)
        return false;
    for (size_t at = node->start; at < node->end;) {
        const char *here = document->text + at;
        char bytes[4];
        size_t width, length;
        if (*here == '\\') {
            uint32_t character = 0;
            width = read_escape(here, node->end - at, &character);
            length = encode(character, bytes);
        } else {
            length = width = utf8_length((const unsigned char *)here, node->end - at);
            memcpy(bytes, here, width);
        }
        if (used + length >= size)
            break;
        memcpy(text + used, bytes, length);
        used += length;
        at += width;
    }
    text[used] = '\0';
    return true;
}

bool json_number(const struct json *document, const struct json_node *node, double *value)
{
    char text[64];
    if (node == NULL || node->type != JSON_NUMBER || node->end - node->start >= sizeof(text))
        return false;
    memcpy(text, document->text + node->start, node->end - node->start);
    text[node->end - node->start] = '\0';
    *value = strtod(text, NULL);
    return true;
}
