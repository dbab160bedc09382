/* wshd: PID 1 of every container.
 *
 * It waits at its gate, starts the tenant's program, reaps, passes signals on, ends as the program does, and
 * serves the sessions of wsh. It runs as the instance's ordinary user with no capability, and what it makes is born
 * inside the same confinement. Nothing that a peer or a child does ends or blocks it. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot.h"
#include "common.h"
#include "harden.h"
#include "pid1.h"
#include "protocol.h"
#include "signals.h"

struct options {
    const char *boot;
    char **argv;
};

static struct options read_options(char **argv)
{
    struct options options = {.boot = WSH_BOOT_PATH};
    for (argv++; *argv && **argv == '-'; argv++) {
        if (!strcmp(*argv, "--")) {
            argv++;
            break;
        }
        if (!strcmp(*argv, "--version")) {
            puts("wshd " WSH_BUILD);
            exit(0);
        }
        if (strcmp(*argv, "--boot") || !argv[1])
            die(EXIT_SELF, "usage: wshd [--boot PATH] -- PROGRAM [ARGUMENT...]");
        options.boot = *++argv;
    }
    if (!*argv)
        die(EXIT_SELF, "there is no program to start");
    options.argv = argv;
    return options;
}

/* The first three descriptors are there, so that none of ours is taken for a program's. */
static void open_standard_streams(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    close_descriptor(&descriptor);
}

int main(int argc, char **argv)
{
    (void)argc;
    program_name = "wshd";
    struct options options = read_options(argv);
    if (getpid() != 1)
        die(EXIT_SELF, "this is the first process of a container, and nothing else");
    struct inherited inherited;
    open_standard_streams();
    harden(&inherited);
    int signals = signals_open();
    if (signals < 0)
        die(EXIT_SELF, "signals: %s", strerror(-signals));
    struct passage passage = boot_wait(options.boot, signals);
    return pid1_run(options.argv, &passage, signals, &inherited);
}
