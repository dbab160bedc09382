/* Making files, links and directories in a directory that somebody else may be changing: by descriptors, following
 * no link. All return 0 (or what they say) or -errno. */

#ifndef WSH_COPY_MAKE_H
#define WSH_COPY_MAKE_H

#include "common.h"
#include "copy/stream.h"

/* Where the first entry of a copy goes. */
struct target {
    int directory; /* an O_PATH descriptor */
    char name[COPY_NAME_MAX + 1];
    bool inside;            /* the destination is a directory, and the copy goes into it */
    bool must_be_directory; /* it is none, though it is written with a slash at its end */
};

/* Links in the destination's path are followed: it is the operator's own word. */
int target_find(struct target *target, const char *destination, const char *name);

/* A file that is not there yet: it gets its name when it is whole. */
struct making {
    int directory, file;
    char name[40];
};

int making_begin(struct making *making, int directory);
int making_write(struct making *making, const uint8_t *bytes, size_t length);
int making_finish(struct making *making, const char *name, const struct copy_attributes *attributes, bool keep_owner);
void making_drop(struct making *making);

int make_link(int directory, const char *name, const struct copy_entry *entry, bool keep_owner);

/* Opens the directory and returns its descriptor; makes it where it is not there, closed to everyone else until
 * set_attributes says otherwise. */
int make_directory(int directory, const char *name, bool *made);

/* Sets owner, mode (without set-id bits) and time. */
int set_attributes(int descriptor, const struct copy_attributes *attributes, bool keep_owner);

#endif
