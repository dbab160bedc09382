/* Tests of wsh's command line. */

#include "client/options.h"

#include <sys/resource.h>

#include "tests/check.h"

static struct options options;
static struct failure failure;

/* Reads a line of words. The words live until the next call. */
static int reads(const char *line)
{
    static char copy[512], *words[64];
    int count = 1;
    free((void *)options.environment);
    words[0] = "wsh";
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;
    failure.text[0] = 0;
    return options_read(&options, count, words, &failure);
}

static void refuses(const char *line, const char *why)
{
    CHECK(reads(line) < 0);
    if (!strstr(failure.text, why)) {
        fprintf(stderr, "%s: \"%s\" does not say \"%s\"\n", line, failure.text, why);
        exit(1);
    }
}

static void test_sessions(void)
{
    CHECK(!reads("web"));
    CHECK(options.action == ACTION_SESSION && !options.command && options.tty == TTY_AUTO);
    CHECK_TEXT(options.name, "web");
    CHECK_TEXT(options.run_directory, RUN_DIRECTORY);
    CHECK(!reads("-e A=1 web --env=B= -eC=x=y -w /tmp -u 7 -t --umask 027 --kill-on-disconnect -- ls -l -- x"));
    CHECK_TEXT(options.name, "web");
    CHECK_TEXT(options.environment[0], "A=1");
    CHECK_TEXT(options.environment[1], "B=");
    CHECK_TEXT(options.environment[2], "C=x=y");
    CHECK(!options.environment[3]);
    CHECK_TEXT(options.directory, "/tmp");
    CHECK_TEXT(options.user, "7");
    CHECK(options.tty == TTY_ALWAYS && options.has_umask && options.umask == 027 && options.kill_on_disconnect);
    CHECK_TEXT(options.command[0], "ls");
    CHECK_TEXT(options.command[2], "--");
    CHECK(!options.command[4]);
    CHECK(!reads("--runtime web -Tu0 --run-dir /x -- true"));
    CHECK(options.runtime && options.tty == TTY_NEVER);
    CHECK_TEXT(options.user, "0");
    CHECK_TEXT(options.run_directory, "/x");
    /* Behind --, nothing is wsh's. */
    CHECK(!reads("web -- --version"));
    CHECK(options.action == ACTION_SESSION);
}

static void test_commands(void)
{
    CHECK(!reads("ls") && options.action == ACTION_LIST);
    CHECK(!reads("--run-dir=/x ls") && options.action == ACTION_LIST);
    CHECK(!reads("cp -r a web:b") && options.action == ACTION_COPY);
    CHECK_TEXT(options.source, "a");
    CHECK_TEXT(options.destination, "web:b");
    CHECK(!reads("logs web -f --tail 5") && options.action == ACTION_LOGS && options.follow);
    CHECK_TEXT(options.tail, "5");
    CHECK(!reads("logs -n all web"));
    /* An instance that is named like a command. */
    CHECK(!reads("-T ls") && options.action == ACTION_SESSION);
    CHECK_TEXT(options.name, "ls");
    CHECK(!reads("--version") && options.action == ACTION_VERSION);
    CHECK(!reads("web --help") && options.action == ACTION_HELP);
}

static void test_refusals(void)
{
    refuses("", "name of an instance is missing");
    refuses("web ls", "behind --");
    refuses("web --", "is missing");
    refuses("web -e A", "NAME=VALUE");
    refuses("web -e =A", "NAME=VALUE");
    refuses("web -e", "needs a value");
    refuses("web -u", "needs a value");
    refuses("web --user=", "needs a user");
    refuses("--run-dir= web", "needs a directory");
    refuses("web --tty=1", "takes no value");
    refuses("web --umask 8", "octal");
    refuses("web --umask 1000", "octal");
    refuses("web --umask 07x", "octal");
    refuses("web --umask -1", "octal");
    refuses("web -x", "no option -x");
    refuses("web --nothing", "no option --nothing");
    refuses("web -tx", "no option -tx");
    refuses("ls web", "one word too many");
    refuses("ls -t", "no option -t");
    refuses("web -f", "no option -f");
    refuses("logs", "name of an instance is missing");
    refuses("logs web --tail -5", "--tail");
    refuses("cp a", "a source and a destination");
    refuses("cp a b c", "one word too many");
}

static void check_rlimit(const char *text, uint32_t resource, uint64_t soft, uint64_t hard)
{
    char line[128];
    snprintf(line, sizeof line, "web --rlimit %s -- true", text);
    CHECK(!reads(line));
    CHECK(options.rlimit_count == 1 && options.rlimits[0].resource == resource);
    CHECK(options.rlimits[0].soft == soft && options.rlimits[0].hard == hard);
}

static void test_rlimits(void)
{
    check_rlimit("nofile=64", RLIMIT_NOFILE, 64, 64);
    check_rlimit("nofile=64:128", RLIMIT_NOFILE, 64, 128);
    check_rlimit("core=0:unlimited", RLIMIT_CORE, 0, UINT64_MAX);
    check_rlimit("fsize=64M", RLIMIT_FSIZE, 64 << 20, 64 << 20);
    check_rlimit("stack=4k:1G", RLIMIT_STACK, 4096, 1 << 30);
    refuses("web --rlimit nofile", "NAME=SOFT");
    refuses("web --rlimit nofiles=1", "NAME=SOFT");
    refuses("web --rlimit =1", "NAME=SOFT");
    refuses("web --rlimit nofile=", "whole numbers");
    refuses("web --rlimit nofile=1K", "whole numbers");
    refuses("web --rlimit fsize=1KB", "sizes such as");
    refuses("web --rlimit fsize=8388608T", "sizes such as");
    refuses("web --rlimit fsize=99999999999999999999", "sizes such as");
    refuses("web --rlimit nofile=-1", "whole numbers");
    refuses("web --rlimit nofile=2:1", "above the hard one");
    refuses("web --rlimit nofile=unlimited:1", "above the hard one");
    char line[512] = "web";
    for (int i = 0; i < RLIMITS_MAX + 1; i++)
        strcat(line, " --rlimit nproc=1");
    refuses(line, "at most");
}

static void test_environment(void)
{
    setenv("BAILEY_RUN_DIR", "/elsewhere", 1);
    CHECK(!reads("ls"));
    CHECK_TEXT(options.run_directory, "/elsewhere");
    CHECK(!reads("--run-dir /here ls"));
    CHECK_TEXT(options.run_directory, "/here");
}

int main(void)
{
    unsetenv("BAILEY_RUN_DIR");
    test_sessions();
    test_commands();
    test_refusals();
    test_rlimits();
    test_environment();
    free((void *)options.environment);
    return 0;
}
