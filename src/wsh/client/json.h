/* A strict reader of JSON (RFC 8259) for small files of our own: no memory of its own, no recursion. */
#ifndef WSH_CLIENT_JSON_H
#define WSH_CLIENT_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_NODES = 256, JSON_DEPTH = 16 };

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* One value, or one key of an object: keys and values follow each other. */
struct json_node {
    enum json_type type;
    size_t start, end; /* its text; that of a string is without the quotes */
    size_t next;       /* the first node behind it and all that it holds */
};

struct json {
    const char *text;
    size_t count;
    struct json_node nodes[JSON_NODES];
};

/* Reads a whole document. False: it is not valid, or deeper or of more nodes than fit. */
bool json_parse(struct json *document, const char *text, size_t length);

/* The value of an object's key (the first of several), or NULL where `object` is NULL, no object, or has none. The
 * document's own value is nodes[0]. */
const struct json_node *json_member(const struct json *document, const struct json_node *object, const char *key);

/* Writes a string's value, decoded and cut to `size` with its NUL; NUL inside becomes '?'. False (and an empty
 * text) where `node` is NULL or no string. */
bool json_string(const struct json *document, const struct json_node *node, char *text, size_t size);

/* Gives a number's value; false where `node` is NULL or no number. */
bool json_number(const struct json *document, const struct json_node *node, double *value);

#endif
