/* Tests of ids inside and outside. */

#include <errno.h>

#include "idmap.h"
#include "tests/check.h"

static struct id_map map;

static void test_same(void)
{
    uint32_t id = 7;
    id_map_same(&map);
    CHECK(id_to_inside(&map, 200000, &id) && id == 200000);
    CHECK(id_to_outside(&map, UINT32_MAX - 1, &id) && id == UINT32_MAX - 1);
    CHECK(!id_to_outside(&map, UINT32_MAX, &id) && !id_to_inside(&map, UINT32_MAX, &id));
    CHECK(id == UINT32_MAX - 1);
}

static void test_host(void)
{
    uint32_t id;
    CHECK(!id_map_parse(&map, "         0          0 4294967295\n"));
    CHECK(id_to_inside(&map, 0, &id) && id == 0);
    CHECK(id_to_outside(&map, 200000, &id) && id == 200000);
}

static void test_remapped(void)
{
    uint32_t id;
    CHECK(!id_map_parse(&map, "         0 1879048192    1048576\n"));
    CHECK(id_to_inside(&map, 1879248192, &id) && id == 200000);
    CHECK(id_to_outside(&map, 200000, &id) && id == 1879248192);
    CHECK(id_to_outside(&map, 1048575, &id) && id == 1880096767);
    CHECK(!id_to_outside(&map, 1048576, &id));
    CHECK(!id_to_inside(&map, 200000, &id) && !id_to_inside(&map, 1879048191, &id));
    CHECK(!id_to_inside(&map, 1880096768, &id));
}

static void test_several_ranges(void)
{
    uint32_t id;
    CHECK(!id_map_parse(&map, "0 1000 1\n1 100000 65535\n4294967290 5 5\n"));
    CHECK(id_to_outside(&map, 0, &id) && id == 1000);
    CHECK(id_to_outside(&map, 1, &id) && id == 100000);
    CHECK(id_to_inside(&map, 9, &id) && id == 4294967294);
    CHECK(!id_to_inside(&map, 10, &id));
}

static void test_what_is_no_map(void)
{
    static const char *const texts[] = {"", "\n", "0 1\n", "0 1 2", "0 1 2 3\n", "a 1 2\n", "0 -1 2\n",
                                        "0 1 4294967296\n", "0 1 2\nx", "0 1 2\n\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(id_map_parse(&map, texts[i]) == -EPROTO);
}

static void test_too_many(void)
{
    static char text[(ID_RANGES_MAX + 1) * 6 + 1];
    for (size_t i = 0; i < ID_RANGES_MAX; i++)
        strcpy(text + 6 * i, "1 2 3\n");
    CHECK(!id_map_parse(&map, text) && map.count == ID_RANGES_MAX);
    strcpy(text + 6 * (size_t)ID_RANGES_MAX, "1 2 3\n");
    CHECK(id_map_parse(&map, text) == -EPROTO);
}

int main(void)
{
    test_same();
    test_host();
    test_remapped();
    test_several_ranges();
    test_what_is_no_map();
    test_too_many();
    return 0;
}
