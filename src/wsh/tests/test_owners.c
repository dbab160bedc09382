/* Tests of whose a copy is that comes out of a container whose ids are others outside; needs root. */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "copy/receive.h"
#include "copy/stream.h"
#include "tests/check.h"

static struct id_maps owners;
static struct copy_writer writer;

static void put(enum copy_type type, const char *name, uint32_t uid, uint32_t gid)
{
    struct copy_entry entry = {.type = type, .attributes = {.mode = 0700, .uid = uid, .gid = gid}};
    strcpy(entry.name, name);
    strcpy(entry.target, type == COPY_LINK ? "a" : "");
    CHECK(!copy_put_entry(&writer, &entry));
}

/* Receives a directory of 7's and 8's with one thing of somebody's in it. */
static int receive(const char *name, enum copy_type type, uint32_t uid, uint32_t gid)
{
    copy_writer_init(&writer, memfd_create("stream", MFD_CLOEXEC));
    CHECK(!copy_put_magic(&writer));
    put(COPY_DIRECTORY, "", 7, 8);
    put(type, "a", uid, gid);
    if (type == COPY_FILE)
        CHECK(!copy_flush(&writer) && write(writer.descriptor, "\4\0\0\0text\0\0\0\0", 12) == 12);
    CHECK(!copy_put_mark(&writer, COPY_LEAVE) && !copy_put_mark(&writer, COPY_END) && !copy_flush(&writer));
    CHECK(lseek(writer.descriptor, 0, SEEK_SET) == 0);
    int result = copy_receive(writer.descriptor, ".", name, &owners);
    close(writer.descriptor);
    return result;
}

static bool belongs_to(const char *path, uid_t uid, gid_t gid)
{
    struct stat status;
    CHECK(!lstat(path, &status));
    return status.st_uid == uid && status.st_gid == gid;
}

static void test_owners(void)
{
    CHECK(receive("file", COPY_FILE, 200000, 200001) == COPY_DONE);
    CHECK(belongs_to("file", 1879048199, 5008) && belongs_to("file/a", 1879248192, 205001));
    CHECK(receive("link", COPY_LINK, 0, 0) == COPY_DONE && belongs_to("link/a", 1879048192, 5000));
    CHECK(receive("directory", COPY_DIRECTORY, 1, 2) == COPY_INCOMPLETE); /* it is not left */
    CHECK(unlink("file/a") == 0 && unlink("link/a") == 0);
}

static void test_owners_that_nobody_has(void)
{
    CHECK(receive("uid", COPY_FILE, 1048576, 0) == COPY_INCOMPLETE && access("uid/a", F_OK));
    CHECK(receive("gid", COPY_LINK, 0, 300000) == COPY_INCOMPLETE && access("gid/a", F_OK));
}

/* What the receiver says goes nowhere; a check that fails is still heard. */
static void hush(void)
{
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    stderr = fdopen(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), "w");
    CHECK(stderr && nothing >= 0 && dup2(nothing, STDERR_FILENO) >= 0);
    close(nothing);
}

int main(void)
{
    static const char *const made[] = {"file", "link", "directory/a", "directory", "uid", "gid"};
    char home[] = "/tmp/wsh-test-owners.XXXXXX";
    if (geteuid())
        return 0; /* nobody else can give a file away */
    CHECK(!id_map_parse(&owners.uids, "0 1879048192 1048576\n") && !id_map_parse(&owners.gids, "0 5000 300000\n"));
    CHECK(mkdtemp(home) && !chdir(home));
    hush();
    test_owners();
    test_owners_that_nobody_has();
    for (size_t i = 0; i < ARRAY_LENGTH(made); i++)
        CHECK(!rmdir(made[i]));
    CHECK(!rmdir(home));
    return 0;
}
