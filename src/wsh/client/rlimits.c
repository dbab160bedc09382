/* Resource limits as an operator writes them; see rlimits.h. */

#include "client/rlimits.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define UNLIMITED UINT64_MAX

static const struct kind {
    const char *name;
    uint32_t resource;
    bool in_bytes;
} kinds[] = {
    {"as", RLIMIT_AS, true},
    {"core", RLIMIT_CORE, true},
    {"cpu", RLIMIT_CPU, false},
    {"data", RLIMIT_DATA, true},
    {"fsize", RLIMIT_FSIZE, true},
    {"locks", RLIMIT_LOCKS, false},
    {"memlock", RLIMIT_MEMLOCK, true},
    {"msgqueue", RLIMIT_MSGQUEUE, true},
    {"nice", RLIMIT_NICE, false},
    {"nofile", RLIMIT_NOFILE, false},
    {"nproc", RLIMIT_NPROC, false},
    {"rss", RLIMIT_RSS, true},
    {"rtprio", RLIMIT_RTPRIO, false},
    {"rttime", RLIMIT_RTTIME, false},
    {"sigpending", RLIMIT_SIGPENDING, false},
    {"stack", RLIMIT_STACK, true},
};

static const struct kind *find_kind(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
        if (strlen(kinds[i].name) == length && !memcmp(kinds[i].name, name, length))
            return &kinds[i];
    return NULL;
}

/* The shift of a size's unit, or -1. */
static int unit_shift(const char *unit)
{
    static const char units[] = "KMGT";
    if (!unit[0])
        return 0;
    const char *found = memchr(units, unit[0] & ~0x20, strlen(units));
    return found && !unit[1] ? 10 * (int)(found - units + 1) : -1;
}

static bool read_value(uint64_t *value, const char *text, size_t length, bool in_bytes)
{
    char copy[32], *end;
    if (length == strlen("unlimited") && !memcmp(text, "unlimited", length)) {
        *value = UNLIMITED;
        return true;
    }
    if (!length || length >= sizeof copy || text[0] < '0' || text[0] > '9')
        return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    errno = 0;
    unsigned long long number = strtoull(copy, &end, 10);
    int shift = in_bytes ? unit_shift(end) : *end ? -1 : 0;
    if (errno || shift < 0 || number > (uint64_t)INT64_MAX >> shift)
        return false;
    *value = number << shift;
    return true;
}

int rlimit_read(struct rlimit_option *limit, const char *text, struct failure *failure)
{
    size_t name = strcspn(text, "=");
    const struct kind *kind = find_kind(text, name);
    if (!kind || !text[name])
        return fail(failure, 0, "--rlimit %s: it is written NAME=SOFT[:HARD], with a name such as nofile", text);
    const char *soft = text + name + 1;
    size_t length = strcspn(soft, ":");
    limit->resource = kind->resource;
    bool valid = read_value(&limit->soft, soft, length, kind->in_bytes);
    limit->hard = limit->soft;
    if (valid && soft[length])
        valid = read_value(&limit->hard, soft + length + 1, strlen(soft + length + 1), kind->in_bytes);
    if (!valid)
        return fail(failure, 0, "--rlimit %s: allowed are whole numbers%s, and unlimited", text,
                    kind->in_bytes ? ", sizes such as 64M" : "");
    if (limit->soft > limit->hard)
        return fail(failure, 0, "--rlimit %s: the soft limit is above the hard one", text);
    return 0;
}
