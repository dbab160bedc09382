/* What the agent's state files say about instances. */

#ifndef WSH_CLIENT_INSTANCE_H
#define WSH_CLIENT_INSTANCE_H

#include <stddef.h>

#include "common.h"

#define NAME_LENGTH_MAX 63

/* One state file. Texts are fit for a terminal; those that are not known are empty. */
struct instance {
    char name[NAME_LENGTH_MAX + 1];
    char tenant[NAME_LENGTH_MAX + 1], status[16], health[16], container[65], reason[256];
    double gate_ms; /* negative: not known */
    double since;   /* seconds since 1970 of opening or of ending; negative: not known */
    long restarts;
};

/* Whether a text may be an instance's name: a DNS label. No such name leads out of a directory. */
bool is_instance_name(const char *name);

/* Reads RUN/state/NAME.json. -ENOENT: there is none; -EPROTO: it cannot be understood. */
int instance_read(struct instance *instance, const char *run_directory, const char *name);

/* Reads all of them, by name; what cannot be understood has an empty status. The caller frees them. */
int instance_read_all(struct instance **instances, size_t *count, const char *run_directory, struct failure *failure);

/* Fills `failure` with why the instance's control socket could not be connected to. */
int instance_explain(const char *run_directory, const char *name, int error, struct failure *failure);

#endif
