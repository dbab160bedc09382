/* The count of kills for memory, as both versions of cgroups write it. */

#include <fcntl.h>
#include <unistd.h>

#include "tests/check.h"
#include "wshd/memory.h"

static unsigned long long kills(const char *text)
{
    char path[] = "/tmp/test_memory.XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0);
    CHECK(write(file, text, strlen(text)) == (ssize_t)strlen(text));
    unsigned long long count = memory_kills(file);
    close(file);
    return count;
}

int main(void)
{
    CHECK(kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n") == 2);
    CHECK(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n") == 7);
    CHECK(kills("oom_kill 18446744073709551615") == 18446744073709551615ULL);
    CHECK(kills("oom_kill_disable 1\n") == 0);
    CHECK(kills("an oom_kill 5\n") == 0);
    CHECK(kills("\n\n") == 0);
    CHECK(kills("") == 0);
    CHECK(memory_kills(-1) == 0);
    return 0;
}
