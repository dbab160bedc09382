/* Whose numbers the ids of a container are outside of it, user_namespaces(7).
 *
 * Where the engine remaps ids, a user has one number inside and another one on the host. Where it does not, the map has
 * one range, from 0 on to 0 on. */

#ifndef WSH_IDMAP_H
#define WSH_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UID_GID_MAP_MAX_EXTENTS in the kernel, include/linux/user_namespace.h. */
#define ID_RANGES_MAX 340
/* Each line of the file has three numbers of at most ten digits, padded to that, and as many separators. */
#define ID_MAP_TEXT (ID_RANGES_MAX * 36)

struct id_range {
    uint32_t inside, outside, count;
};

struct id_map {
    size_t count;
    struct id_range ranges[ID_RANGES_MAX];
};

struct id_maps {
    struct id_map uids, gids;
};

/* Makes a map by which each id is its own number. */
void id_map_same(struct id_map *map);

/* Reads what the kernel shows in /proc/PID/uid_map and gid_map. Returns 0, or -EPROTO where it is nothing like that. */
int id_map_parse(struct id_map *map, const char *text);

/* Give an id's other number. False where it has none. */
bool id_to_inside(const struct id_map *map, uint32_t outside, uint32_t *inside);
bool id_to_outside(const struct id_map *map, uint32_t inside, uint32_t *outside);

#endif
