/* Tests of copying: a tree there and back, and streams that want to do harm. */

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "copy/receive.h"
#include "copy/send.h"
#include "copy/stream.h"
#include "tests/check.h"

/* The directory of the tests, which is the working directory; what has been said; the stream. */
static char home[] = "/tmp/wsh-test-copy.XXXXXX";
static char said[16384];
static struct copy_writer writer;

static void hear(void)
{
    int heard = open("said", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(heard >= 0);
    fflush(stderr);
    CHECK(dup2(heard, STDERR_FILENO) >= 0);
    close(heard);
}

static void take_said(int real)
{
    ssize_t length = pread(STDERR_FILENO, said, sizeof said - 1, 0);
    CHECK(length >= 0);
    said[length] = 0;
    CHECK(dup2(real, STDERR_FILENO) >= 0);
    close(real);
}

static bool says(const char *text)
{
    return strstr(said, text) != NULL;
}

static bool exists(const char *path)
{
    struct stat status;
    return !lstat(path, &status);
}

static struct stat status_of(const char *path)
{
    struct stat status;
    CHECK(!lstat(path, &status));
    return status;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) && !fchmod(file, mode));
    close(file);
}

static const char *read_text(const char *path)
{
    static char text[256];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    ssize_t length = read(file, text, sizeof text - 1);
    CHECK(length >= 0);
    text[length] = 0;
    close(file);
    return text;
}

/* No unfinished file is left anywhere here. */
static void check_tidy(const char *path)
{
    DIR *directory = opendir(path);
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        CHECK(strncmp(entry->d_name, ".wsh-copy", 9));
    closedir(directory);
}

/* Owners are those that the stream names, but for whoever cannot give a file away. */
static int receive(int stream, const char *destination, const char *name)
{
    static struct id_maps owners;
    id_map_same(&owners.uids);
    id_map_same(&owners.gids);
    int real = dup(STDERR_FILENO);
    CHECK(lseek(stream, 0, SEEK_SET) == 0);
    hear();
    int result = copy_receive(stream, destination, name, geteuid() ? NULL : &owners);
    take_said(real);
    close(stream);
    return result;
}

static int send_to(int *stream, const char *path)
{
    int real = dup(STDERR_FILENO);
    *stream = memfd_create("stream", MFD_CLOEXEC);
    hear();
    int result = copy_send(*stream, path);
    take_said(real);
    return result;
}

static void begin(void)
{
    copy_writer_init(&writer, memfd_create("stream", MFD_CLOEXEC));
    copy_put_magic(&writer);
}

static void put(enum copy_type type, const char *name, uint32_t mode, const char *target)
{
    struct copy_entry entry = {.type = type, .attributes = {.mode = mode, .uid = geteuid(), .gid = getegid()}};
    strcpy(entry.name, name);
    strcpy(entry.target, target);
    CHECK(!copy_put_entry(&writer, &entry));
}

static void put_bytes(const void *bytes, size_t length)
{
    CHECK(!copy_flush(&writer) && write(writer.descriptor, bytes, length) == (ssize_t)length);
}

static void put_text_file(const char *name, uint32_t mode)
{
    put(COPY_FILE, name, mode, "");
    put_bytes("\4\0\0\0text\0\0\0\0", 12);
}

static int end(const char *name)
{
    CHECK(!copy_put_mark(&writer, COPY_END) && !copy_flush(&writer));
    return receive(writer.descriptor, "in", name);
}

static int cut(const char *name)
{
    CHECK(!copy_flush(&writer));
    return receive(writer.descriptor, "in", name);
}

static void set_time(const char *path, time_t seconds, long nanoseconds)
{
    struct timespec time = {.tv_sec = seconds, .tv_nsec = nanoseconds}, times[2] = {time, time};
    CHECK(!utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static void make_tree(void)
{
    CHECK(!mkdir("tree", 0750) && !mkdir("tree/closed", 0700) && !mkdir("tree/empty", 0755));
    write_file("tree/closed/inner", "inner", 0600);
    write_file("tree/with space\nand line", "odd", 0640);
    write_file("tree/.hidden", "", 0444);
    write_file("tree/set-id", "x", 04755);
    CHECK(!symlink("/etc/passwd", "tree/absolute") && !symlink("no such thing", "tree/dangling"));
    set_time("tree/with space\nand line", 1000000000, 123456789);
    set_time("tree/absolute", 1100000000, 5);
    CHECK(!chmod("tree/closed", 0500));
    set_time("tree/closed", 1200000000, 0);
    set_time("tree", 1300000000, 999999999);
}

static void check_tree(const char *root)
{
    char path[256];
#define AT(name) (snprintf(path, sizeof path, "%s%s", root, name), path)
    struct stat status = status_of(AT("/with space\nand line"));
    CHECK((status.st_mode & 07777) == 0640);
    CHECK(status.st_mtim.tv_sec == 1000000000 && status.st_mtim.tv_nsec == 123456789);
    CHECK_TEXT(read_text(AT("/closed/inner")), "inner");
    CHECK((status_of(AT("/closed")).st_mode & 07777) == 0500 && status_of(AT("/closed")).st_mtim.tv_sec == 1200000000);
    CHECK((status_of(AT("/.hidden")).st_mode & 07777) == 0444 && status_of(AT("/.hidden")).st_size == 0);
    CHECK((status_of(AT("/set-id")).st_mode & 07777) == 0755);
    CHECK(S_ISDIR(status_of(AT("/empty")).st_mode));
    ssize_t length = readlink(AT("/absolute"), said, sizeof said);
    CHECK(length == 11 && !memcmp(said, "/etc/passwd", 11) && status_of(AT("/absolute")).st_mtim.tv_sec == 1100000000);
    CHECK(S_ISLNK(status_of(AT("/dangling")).st_mode));
    status = status_of(AT(""));
    CHECK((status.st_mode & 07777) == 0750);
    CHECK(status.st_mtim.tv_sec == 1300000000 && status.st_mtim.tv_nsec == 999999999);
#undef AT
}

static void test_there_and_back(void)
{
    int stream;
    CHECK(send_to(&stream, "tree") == COPY_DONE && !said[0]);
    CHECK(receive(stream, "in", "tree") == COPY_DONE && !said[0]); /* into a directory that is there */
    check_tree("in/tree");
    CHECK(send_to(&stream, "tree/") == COPY_DONE && receive(stream, "named", "tree") == COPY_DONE);
    check_tree("named");
    CHECK(send_to(&stream, "tree/.") == COPY_DONE && receive(stream, "merged/", ".") == COPY_DONE);
    check_tree("merged");
    /* Again, over itself: what was there as a directory stays, what was a file is replaced. */
    CHECK(!chmod("merged/closed", 0700) && !chmod("merged", 0711));
    write_file("merged/.hidden", "other", 0600);
    CHECK(send_to(&stream, "tree/.") == COPY_DONE && receive(stream, "merged", ".") == COPY_DONE);
    CHECK((status_of("merged").st_mode & 07777) == 0711);
    CHECK((status_of("merged/.hidden").st_mode & 07777) == 0444 && status_of("merged/.hidden").st_size == 0);
    check_tidy("merged");
}

static void test_single_files_and_links(void)
{
    int stream;
    CHECK(send_to(&stream, "tree/.hidden") == COPY_DONE && receive(stream, "in/alone", ".hidden") == COPY_DONE);
    CHECK(status_of("in/alone").st_size == 0);
    CHECK(send_to(&stream, "tree/absolute") == COPY_DONE && receive(stream, "in", "absolute") == COPY_DONE);
    CHECK(S_ISLNK(status_of("in/absolute").st_mode));
    /* A link at the destination is replaced, not written through. */
    write_file("victim", "kept", 0600);
    CHECK(!symlink("../victim", "in/link"));
    CHECK(send_to(&stream, "tree/set-id") == COPY_DONE && receive(stream, "in/link", "set-id") == COPY_DONE);
    CHECK(S_ISREG(status_of("in/link").st_mode));
    CHECK_TEXT(read_text("victim"), "kept");
    CHECK(send_to(&stream, "victim") == COPY_DONE && receive(stream, "in/none/", "victim") == COPY_INCOMPLETE);
    CHECK(says("in/none/: there is no such directory") && !exists("in/none"));
    CHECK(send_to(&stream, "victim") == COPY_DONE && receive(stream, "no/such/place", "victim") == COPY_INCOMPLETE);
    CHECK(says("no/such/place: cannot be copied to: No such file or directory"));
    CHECK(send_to(&stream, "tree") == COPY_DONE && receive(stream, "victim", "tree") == COPY_INCOMPLETE);
    CHECK(says("victim: the directory cannot be made: Not a directory"));
    CHECK(send_to(&stream, "tree/.hidden") == COPY_DONE && receive(stream, "in", "tree") == COPY_INCOMPLETE);
    CHECK(says("in/tree: cannot be put in place: Is a directory"));
    check_tidy("in");
}

static void test_what_cannot_be_sent(void)
{
    int stream;
    CHECK(send_to(&stream, "missing") == COPY_INCOMPLETE && says("missing: cannot be read: No such file"));
    CHECK(receive(stream, "in", "missing") == COPY_INCOMPLETE && !said[0] && !exists("in/missing"));
    CHECK(!mkdir("special", 0755) && !mkfifo("special/pipe\033[2J", 0600));
    write_file("special/zfile", "z", 0600);
    CHECK(send_to(&stream, "special") == COPY_INCOMPLETE);
    CHECK(says("special/pipe?[2J: is neither file, directory nor symbolic link, and is left out"));
    CHECK(receive(stream, "in", "special") == COPY_DONE);
    CHECK(exists("in/special/zfile") && !exists("in/special/pipe\033[2J"));
    CHECK(send_to(&stream, "special/pipe\033[2J") == COPY_INCOMPLETE);
    close(stream);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int real = dup(STDERR_FILENO);
    hear();
    CHECK(copy_send(full, "tree") == COPY_INCOMPLETE);
    take_said(real);
    close(full);
    CHECK(says("tree: the copy cannot be handed over: No space left"));
}

static void test_names_that_lead_elsewhere(void)
{
    static const char *const names[] = {"..", ".", "../victim", "a/b", "/victim", "", "a/"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        begin();
        put(COPY_DIRECTORY, "", 0755, "");
        put_text_file(names[i], 0644);
        put(COPY_LEAVE, "", 0, "");
        CHECK(end("names") == COPY_INCOMPLETE && says("is not a copy"));
    }
    CHECK_TEXT(read_text("victim"), "kept");
    begin(); /* a name with a zero byte in it */
    put(COPY_DIRECTORY, "", 0755, "");
    put_bytes("F\0\3\0\244\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0a\0b", 35);
    CHECK(cut("names") == COPY_INCOMPLETE && says("is not a copy"));
    begin(); /* the first entry's name is the receiver's choice */
    put_text_file("other", 0644);
    CHECK(end("first") == COPY_INCOMPLETE && says("is not a copy") && !exists("in/other") && !exists("in/first"));
}

static void test_links_that_lead_elsewhere(void)
{
    CHECK(!mkdir("outside", 0755));
    for (int kind = 0; kind < 3; kind++) {
        begin();
        put(COPY_DIRECTORY, "", 0755, "");
        put(COPY_LINK, "way", 0777, kind == 1 ? "../../victim" : "../../outside");
        if (kind == 1) { /* writing through the link to a file */
            put_text_file("way", 0644);
        } else { /* going through the link to a directory */
            put(COPY_DIRECTORY, "way", 0777, "");
            put_text_file("planted", 04755);
            put(COPY_LEAVE, "", 0, "");
        }
        put(COPY_LEAVE, "", 0, "");
        char name[16];
        snprintf(name, sizeof name, "links%d", kind);
        CHECK(end(name) == (kind == 1 ? COPY_DONE : COPY_INCOMPLETE));
        CHECK(kind == 1 || says("/way: the directory cannot be made: Not a directory"));
    }
    CHECK_TEXT(read_text("victim"), "kept");
    CHECK(rmdir("outside") == 0); /* nothing is in it */
    CHECK(S_ISREG(status_of("in/links1/way").st_mode));
}

static void test_set_id_bits(void)
{
    begin();
    put(COPY_DIRECTORY, "", 07777, "");
    put_text_file("program", 06755);
    put(COPY_LEAVE, "", 0, "");
    CHECK(end("set-id") == COPY_DONE);
    CHECK((status_of("in/set-id").st_mode & 07777) == 01777);
    CHECK((status_of("in/set-id/program").st_mode & 07777) == 0755);
}

static void test_streams_that_are_cut_off(void)
{
    begin();
    CHECK(cut("cut") == COPY_INCOMPLETE && says("ends too early"));
    begin();
    put(COPY_DIRECTORY, "", 0755, "");
    put_text_file("whole", 0644);
    put(COPY_FILE, "half", 0644, "");
    put_bytes("\10\0\0\0text", 8);
    CHECK(cut("cut") == COPY_INCOMPLETE && says("in/cut/half: the copy ends too early: it is not whole"));
    CHECK(exists("in/cut/whole") && !exists("in/cut/half"));
    check_tidy("in/cut");
    begin();
    put(COPY_DIRECTORY, "", 0755, "");
    put(COPY_LEAVE, "", 0, "");
    CHECK(cut("cut") == COPY_INCOMPLETE && says("ends too early"));
    /* Nothing at all: the other side has said why. */
    CHECK(receive(memfd_create("stream", MFD_CLOEXEC), "in", "cut") == COPY_INCOMPLETE && !said[0]);
    begin(); /* a file that the sender could not read on */
    put(COPY_DIRECTORY, "", 0755, "");
    put(COPY_FILE, "half", 0644, "");
    put_bytes("\4\0\0\0text\377\377\377\377", 12);
    put(COPY_LEAVE, "", 0, "");
    CHECK(end("cut") == COPY_INCOMPLETE && !said[0] && !exists("in/cut/half"));
}

static void test_nonsense(void)
{
    static const struct {
        const char *bytes;
        size_t length;
    } nonsense[] = {
        {"X\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32}, /* no such type */
        {"D\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},
        {"D\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0x", 33},    /* a directory with a target */
        {"L\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},      /* a link without */
        {"L\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\20\0\0", 32},     /* too long a target */
        {"D\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},      /* too long a name */
        {"D\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377\0\0\0\0", 32}, /* nanoseconds */
        {"U\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},      /* leaves what it is not in */
        {"E\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},      /* ends before it begins */
        {"F\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0", 36}, /* too long a chunk */
    };
    for (size_t i = 0; i < ARRAY_LENGTH(nonsense); i++) {
        begin();
        put_bytes(nonsense[i].bytes, nonsense[i].length);
        CHECK(cut("nonsense") == COPY_INCOMPLETE && says("is not a copy") && !exists("in/nonsense"));
    }
    begin(); /* more than one first entry */
    put_text_file("", 0644);
    put_text_file("", 0644);
    CHECK(end("twice") == COPY_INCOMPLETE && says("is not a copy"));
    begin(); /* a file where the content of a directory was asked for */
    put_text_file("", 0644);
    CHECK(end(".") == COPY_INCOMPLETE && says("what comes is no directory"));
    int stream = memfd_create("stream", MFD_CLOEXEC);
    CHECK(write(stream, "something else", 14) == 14);
    CHECK(receive(stream, "in", "x") == COPY_INCOMPLETE && says("is not a copy"));
    check_tidy("in");
}

static void test_depth(void)
{
    begin();
    put(COPY_DIRECTORY, "", 0755, "");
    for (int depth = 1; depth <= COPY_DEPTH_MAX; depth++)
        put(COPY_DIRECTORY, "d", 0755, "");
    CHECK(end("deep") == COPY_INCOMPLETE && says("lies too deep"));
    int stream;
    CHECK(send_to(&stream, "in/deep") == COPY_DONE && receive(stream, "deep", "deep") == COPY_DONE);
}

int main(void)
{
    CHECK(mkdtemp(home) && !chdir(home) && !mkdir("in", 0755));
    umask(0);
    make_tree();
    umask(077); /* modes do not depend on it */
    test_there_and_back();
    test_single_files_and_links();
    test_what_cannot_be_sent();
    test_names_that_lead_elsewhere();
    test_links_that_lead_elsewhere();
    test_set_id_bits();
    test_streams_that_are_cut_off();
    test_nonsense();
    test_depth();
    char command[128];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", home, home);
    CHECK(!chdir("/") && system(command) == 0);
    return 0;
}
