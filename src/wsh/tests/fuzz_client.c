/* The client's fuzzer: damaged state files for the reader of JSON, damaged last frames, and hostile streams for the
 * receiver of copies, each input made from its number alone.
 *
 *   fuzz_client COUNT [SEED [FIRST]]    FIRST: begin with that input, to see one again */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/answer.h"
#include "client/json.h"
#include "copy/receive.h"
#include "copy/stream.h"
#include "text.h"

#define BYTES 4096
#define COPY_ONCE_IN 20 /* a stream makes files, which costs more than a parser does */

#define HOLDS(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            dprintf(real_stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            tell_input();                                                            \
            _Exit(1);                                                                \
        }                                                                            \
    } while (0)

void __sanitizer_set_death_callback(void (*callback)(void));
void __sanitizer_set_report_fd(void *descriptor);

static uint64_t state, seed;
static unsigned long current;
static int real_stderr;

static void tell_input(void)
{
    dprintf(real_stderr, "fuzz_client: input %lu of seed %llu\n", current, (unsigned long long)seed);
}

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint32_t below(uint32_t bound)
{
    return bound ? (uint32_t)(next_random() % bound) : 0;
}

static void damage(uint8_t *bytes, size_t *length)
{
    static const char odd[] = "{}[]\",:\\u0-+eE.\n\t\x7f\xc2\xe2\xed\xf4\xff";
    for (uint32_t times = below(4); times && *length; times--) {
        size_t at = below((uint32_t)*length);
        switch (below(5)) {
        case 0:
            bytes[at] ^= (uint8_t)(1 << below(8));
            break;
        case 1:
            bytes[at] = (uint8_t)odd[below(sizeof odd)];
            break;
        case 2:
            bytes[at] = (uint8_t)next_random();
            break;
        case 3:
            *length = at;
            break;
        default: /* something is there twice, or is missing */
            memmove(bytes + at, bytes + *length / 2, *length / 2 < *length - at ? *length / 2 : *length - at);
        }
    }
}

/* A copy of exactly that length: the sanitizer sees a read beyond it. */
static uint8_t *exactly(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + !length);
    memcpy(copy, bytes, length);
    return copy;
}

static void fuzz_json(void)
{
    static const char sample[] =
        "{\"version\":1,\"name\":\"web\",\"tenant\":\"a\\u00e9\\ud83d\\ude00\",\"status\":\"open\","
        "\"reason\":\"\\n\\\"x\","
        "\"gate_ms\":12.5e-1,\"opened_at\":null,\"list\":[1,[2,{\"a\":[]}],true,false],"
        "\"last_exit\":{\"code\":-1,\"at\":0}}";
    static const char *const keys[] = {"version", "name", "tenant", "status", "gate_ms", "last_exit", "", "list"};
    static struct json document;
    uint8_t bytes[BYTES];
    size_t length = sizeof sample - 1;
    memcpy(bytes, sample, length);
    damage(bytes, &length);
    uint8_t *text = exactly(bytes, length);
    if (json_parse(&document, (const char *)text, length)) {
        HOLDS(document.count > 0 && document.count <= JSON_NODES && document.nodes[0].next == document.count);
        for (size_t i = 0; i < document.count; i++) {
            const struct json_node *node = &document.nodes[i];
            char value[16];
            double number;
            HOLDS(node->start <= node->end && node->end <= length && node->next > i && node->next <= document.count);
            json_string(&document, node, value, 1 + below(sizeof value));
            clean_text(value, strlen(value), "");
            for (const char *at = value; *at; at++)
                HOLDS((unsigned char)*at >= ' ' && *at != 0x7f);
            json_number(&document, node, &number);
            json_member(&document, node, keys[below(8)]);
        }
    }
    free(text);
}

static void fuzz_answer(void)
{
    uint8_t bytes[BYTES];
    struct wire_writer writer;
    struct failure failure;
    static const uint16_t types[] = {FRAME_ERROR, FRAME_EXITED, FRAME_STARTED};
    wire_writer_init(&writer, bytes, sizeof bytes);
    wire_begin(&writer, FRAME_ERROR, 1);
    if (below(2)) {
        wire_raw(&writer, (uint8_t[]){(uint8_t)below(4), (uint8_t)below(70), 0, 0}, 4);
    } else {
        wire_put_u32(&writer, ERROR_CODE, 1 + below(7));
        wire_put_text(&writer, ERROR_TEXT, "why it is so");
        wire_put_u32(&writer, (uint16_t)below(6), below(100));
    }
    HOLDS(!wire_end(&writer));
    size_t length = writer.length - WIRE_HEADER;
    damage(bytes + WIRE_HEADER, &length);
    uint8_t *payload = exactly(bytes + WIRE_HEADER, length);
    struct wire_frame frame = {.type = types[below(3)], .version = 1, .length = length, .payload = payload};
    if (!length)
        frame.payload = NULL;
    int status = answer_status(&frame, "web", &failure);
    HOLDS(status >= 0 && status <= 255);
    free(payload);
}

static const char *some_name(void)
{
    static const char *const names[] = {"a", "b", "c", "link", "out", "..", ".", "", "a/b", "../kept/x", "set"};
    return names[below(below(3) ? 5 : 11)];
}

static void put_entry(struct copy_writer *writer, enum copy_type type, const char *name)
{
    static const char *const targets[] = {"../kept", "../../kept", "..", "/", "kept", "a", "../kept/file"};
    struct copy_entry entry = {.type = type};
    entry.attributes = (struct copy_attributes){.mode = below(010000), .uid = below(3), .gid = below(3)};
    strcpy(entry.name, name);
    if (type == COPY_LINK)
        strcpy(entry.target, targets[below(7)]);
    copy_put_entry(writer, &entry);
}

static void put_content(struct copy_writer *writer)
{
    static const uint8_t contents[][12] = {"\4\0\0\0text\0\0\0\0", "\1\0\0\0x\377\377\377\377", "\0\0\0\0", "\1\0\2\0"};
    static const size_t lengths[] = {12, 9, 4, 4};
    uint32_t which = below(below(4) ? 1 : 4);
    copy_flush(writer);
    if (write(writer->descriptor, contents[which], lengths[which]) < 0)
        abort();
}

/* A stream with entries in any order, most of which make sense. */
static void put_stream(struct copy_writer *writer)
{
    static const enum copy_type types[] = {COPY_FILE, COPY_LINK, COPY_DIRECTORY, COPY_LEAVE, COPY_DIRECTORY, COPY_END};
    copy_put_magic(writer);
    put_entry(writer, below(8) ? COPY_DIRECTORY : types[below(5)], "");
    for (uint32_t entries = below(12); entries; entries--) {
        enum copy_type type = types[below(below(8) ? 5 : 6)];
        if (type == COPY_LEAVE || type == COPY_END) {
            copy_put_mark(writer, type);
            continue;
        }
        put_entry(writer, type, some_name());
        if (type == COPY_FILE)
            put_content(writer);
    }
    for (uint32_t leaves = below(4); leaves; leaves--)
        copy_put_mark(writer, COPY_LEAVE);
    copy_put_mark(writer, COPY_END);
    copy_flush(writer);
}

static void damage_stream(int stream)
{
    uint8_t bytes[BYTES];
    ssize_t came = pread(stream, bytes, sizeof bytes, 0);
    size_t length = came > 0 ? (size_t)came : 0;
    damage(bytes, &length);
    if (ftruncate(stream, (off_t)length) < 0 || pwrite(stream, bytes, length, 0) < 0)
        abort();
}

/* Removes what a stream has made, and checks it: nothing set-id, nothing unfinished. */
static void check_and_clear(int parent, const char *name)
{
    fchmodat(parent, name, 0700, 0);
    int opened = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    HOLDS(opened >= 0);
    DIR *directory = fdopendir(opened);
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat status;
        if (!copy_name_is_plain(entry->d_name))
            continue;
        HOLDS(strncmp(entry->d_name, ".wsh-copy", 9));
        HOLDS(!fstatat(opened, entry->d_name, &status, AT_SYMLINK_NOFOLLOW));
        HOLDS(S_ISLNK(status.st_mode) || !(status.st_mode & 06000));
        if (S_ISDIR(status.st_mode))
            check_and_clear(opened, entry->d_name);
        HOLDS(!unlinkat(opened, entry->d_name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0));
    }
    closedir(directory);
}

/* Nothing outside of the destination has changed. */
static void check_outside(void)
{
    struct stat status;
    char text[8] = "";
    int entries = 0, file = open("kept/file", O_RDONLY | O_CLOEXEC);
    HOLDS(file >= 0 && read(file, text, sizeof text) == 4 && !strcmp(text, "kept"));
    HOLDS(!fstat(file, &status) && (status.st_mode & 07777) == 0600);
    close(file);
    HOLDS(!lstat("kept", &status) && status.st_nlink == 2 && (status.st_mode & 07777) == 0700);
    for (int i = 0; i < 2; i++) {
        DIR *directory = opendir(i ? "." : "kept");
        while (readdir(directory))
            entries++;
        closedir(directory);
    }
    HOLDS(entries == 3 + 4); /* file; kept and in; and "." and ".." of both */
}

static void fuzz_copy(void)
{
    static struct id_maps owners;
    id_map_same(&owners.uids);
    id_map_same(&owners.gids);
    static struct copy_writer writer;
    copy_writer_init(&writer, memfd_create("stream", MFD_CLOEXEC));
    put_stream(&writer);
    if (below(2))
        damage_stream(writer.descriptor);
    lseek(writer.descriptor, 0, SEEK_SET);
    int result = copy_receive(writer.descriptor, "in", below(4) ? "copy" : ".", geteuid() ? NULL : &owners);
    HOLDS(result == COPY_DONE || result == COPY_INCOMPLETE);
    close(writer.descriptor);
    check_and_clear(AT_FDCWD, "in");
    check_outside();
}

/* Goes to a directory of its own, and lets what the receiver says go nowhere. */
static void make_home(char *home)
{
    int file;
    if (!mkdtemp(home) || chdir(home) || mkdir("in", 0700) || mkdir("kept", 0700) ||
        (file = open("kept/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0 || write(file, "kept", 4) != 4)
        abort();
    close(file);
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (dup2(nothing, STDERR_FILENO) < 0)
        abort();
    close(nothing);
}

int main(int argc, char **argv)
{
    char home[] = "/tmp/wsh-fuzz.XXXXXX";
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 50000;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    current = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    __sanitizer_set_report_fd((void *)(intptr_t)real_stderr);
    __sanitizer_set_death_callback(tell_input);
    make_home(home);
    time_t start = time(NULL);
    for (unsigned long end = current + count; current < end; current++) {
        state = seed * 0x2545f4914f6cdd1d ^ current;
        next_random();
        if (!below(COPY_ONCE_IN))
            fuzz_copy();
        else if (below(2))
            fuzz_json();
        else
            fuzz_answer();
    }
    HOLDS(!unlink("kept/file") && !rmdir("kept") && !rmdir("in") && !chdir("/") && !rmdir(home));
    printf("fuzz_client: %lu inputs of seed %llu in %ld s, none did harm\n", count, (unsigned long long)seed,
           (long)(time(NULL) - start));
    return 0;
}
