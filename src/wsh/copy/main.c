/* wsh-copy: the end of `wsh cp` that runs inside of a container, as the instance's user.
 *
 *   wsh-copy send PATH              writes what is there to stdout
 *   wsh-copy receive PATH NAME      makes what comes from stdin: in PATH under NAME, or as PATH */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "copy/receive.h"
#include "copy/send.h"
#include "protocol.h"

int main(int count, char **arguments)
{
    program_name = "wsh-copy";
    signal(SIGPIPE, SIG_IGN);
    if (count == 3 && !strcmp(arguments[1], "send"))
        return copy_send(STDOUT_FILENO, arguments[2]);
    if (count == 4 && !strcmp(arguments[1], "receive")) {
        copy_receive_guard();
        return copy_receive(STDIN_FILENO, arguments[2], arguments[3], NULL);
    }
    die(EXIT_SELF, "usage: wsh-copy send PATH | receive PATH NAME");
}
