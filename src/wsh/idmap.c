/* Ids inside of a container and outside; see idmap.h. */

#include "idmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void id_map_same(struct id_map *map)
{
    map->count = 1;
    map->ranges[0] = (struct id_range){.count = UINT32_MAX}; /* the last number stands for nobody */
}

static int parse_number(const char **at, uint32_t *number)
{
    char *end;
    *at += strspn(*at, " \t");
    if (**at < '0' || **at > '9')
        return -EPROTO;
    unsigned long long value = strtoull(*at, &end, 10);
    if (value > UINT32_MAX)
        return -EPROTO;
    *number = (uint32_t)value;
    *at = end;
    return 0;
}

int id_map_parse(struct id_map *map, const char *text)
{
    map->count = 0;
    while (*text) {
        struct id_range range;
        if (map->count == ID_RANGES_MAX || parse_number(&text, &range.inside) < 0 ||
            parse_number(&text, &range.outside) < 0 || parse_number(&text, &range.count) < 0 || *text != '\n')
            return -EPROTO;
        map->ranges[map->count++] = range;
        text++;
    }
    return map->count ? 0 : -EPROTO;
}

/* An id that is in a range has the same place in the other one. */
static bool find(uint32_t id, uint32_t first, uint32_t count, uint32_t other, uint32_t *result)
{
    if (id < first || id - first >= count)
        return false;
    *result = other + (id - first);
    return true;
}

bool id_to_inside(const struct id_map *map, uint32_t outside, uint32_t *inside)
{
    for (const struct id_range *range = map->ranges; range < map->ranges + map->count; range++)
        if (find(outside, range->outside, range->count, range->inside, inside))
            return true;
    return false;
}

bool id_to_outside(const struct id_map *map, uint32_t inside, uint32_t *outside)
{
    for (const struct id_range *range = map->ranges; range < map->ranges + map->count; range++)
        if (find(inside, range->inside, range->count, range->outside, outside))
            return true;
    return false;
}
