/* A session that has started; see relay.h. */

#include "client/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/answer.h"
#include "client/forward.h"
#include "client/pump.h"
#include "client/terminal.h"

/* After the command's end: how long its output may pause, and how long in all somebody may hold its pipes open. The
 * time in which our own reader does not read is not counted. */
#define DRAIN_IDLE_MS 100
#define DRAIN_MS 2000

enum { IN, OUT, ERROR, PUMPS };

struct relay {
    struct dial *dial;
    struct pump pumps[PUMPS];
    bool tty;
    int master; /* of the session's terminal; -1: there is none, or it has hung up */
    bool ended; /* the session has told its result, or never will */
    int status;
    int64_t drained, idle; /* milliseconds since the end, and since the last byte after it */
    int64_t counted;       /* up to when, in now_ms's time */
    struct failure *failure;
};

static void give_up(struct relay *relay, const char *why)
{
    relay->ended = true;
    relay->status = EXIT_SELF;
    fail(relay->failure, 0, "%s: %s", relay->dial->name, why);
}

/* What has come on the control connection. */
static void take_frame(struct relay *relay)
{
    int result = dial_receive(relay->dial);
    if (!result)
        return;
    if (result > 0 && relay->dial->count) {
        give_up(relay, "wshd sends descriptors where none belong");
    } else if (result > 0) {
        relay->ended = true;
        relay->status = answer_status(&relay->dial->reader.frame, relay->dial->name, relay->failure);
    } else if (result == -ENODATA || result == -ECONNRESET) {
        give_up(relay, "the connection ended before the command did");
    } else {
        give_up(relay, "wshd says what is no frame of this protocol");
    }
    /* Nobody reads it any more. */
    pump_close(&relay->pumps[IN]);
}

static void resize(const struct relay *relay)
{
    struct winsize window;
    terminal_size(&window);
    ioctl(relay->master, TIOCSWINSZ, &window);
}

static void take_signals(struct relay *relay)
{
    int number;
    while ((number = forward_next())) {
        if (!relay->tty) {
            if (!relay->ended)
                dial_signal(relay->dial, number);
            continue;
        }
        if (number == SIGTSTP) {
            terminal_restore();
            forward_suspend();
        }
        if (number != SIGWINCH)
            terminal_make_raw();
        resize(relay);
    }
}

static void open_pumps(struct relay *relay, const struct ends *ends)
{
    int *descriptors = relay->dial->descriptors;
    relay->dial->count = 0;
    if (relay->tty) {
        /* Each direction closes its own. */
        pump_into(&relay->pumps[IN], ends->in, fcntl(relay->master, F_DUPFD_CLOEXEC, 0));
        relay->pumps[IN].types_end = true;
        pump_out(&relay->pumps[OUT], fcntl(relay->master, F_DUPFD_CLOEXEC, 0), ends->out);
        relay->pumps[ERROR] = (struct pump){.from = -1, .to = -1};
        return;
    }
    pump_into(&relay->pumps[IN], ends->in, descriptors[0]);
    pump_out(&relay->pumps[OUT], descriptors[1], ends->out);
    pump_out(&relay->pumps[ERROR], descriptors[2], ends->error);
    relay->pumps[ERROR].cleans = ends->cleans_error;
    relay->pumps[ERROR].splices = relay->pumps[ERROR].splices && !ends->cleans_error;
}

static bool has_output(const struct relay *relay)
{
    return pump_is_open(&relay->pumps[OUT]) || pump_is_open(&relay->pumps[ERROR]);
}

static bool is_held_up(const struct relay *relay)
{
    return pump_is_held_up(&relay->pumps[OUT]) || pump_is_held_up(&relay->pumps[ERROR]);
}

static bool is_finished(const struct relay *relay)
{
    return relay->ended && (!has_output(relay) || relay->idle >= DRAIN_IDLE_MS || relay->drained >= DRAIN_MS);
}

/* How long to wait at most, in milliseconds; -1: for ever. */
static int patience(const struct relay *relay)
{
    for (size_t i = 0; i < PUMPS; i++)
        if (pump_is_ready(&relay->pumps[i]))
            return 0;
    if (!relay->ended || is_held_up(relay))
        return -1;
    int64_t idle = DRAIN_IDLE_MS - relay->idle, drained = DRAIN_MS - relay->drained;
    return (int)(idle < drained ? idle : drained);
}

/* Waits until something can be done; tells the pumps, and returns what else there is. */
static void wait_for_work(struct relay *relay, bool *frame, bool *signal)
{
    struct pollfd wants[2 + 2 * PUMPS];
    size_t counts[PUMPS], count = 2;
    wants[0] = (struct pollfd){.fd = relay->ended ? -1 : relay->dial->control, .events = POLLIN};
    wants[1] = (struct pollfd){.fd = forward_descriptor(), .events = POLLIN};
    for (size_t i = 0; i < PUMPS; i++)
        count += counts[i] = pump_wants(&relay->pumps[i], wants + count);
    if (poll(wants, count, patience(relay)) < 0) {
        if (errno != EINTR)
            die(EXIT_SELF, "poll: %s", strerror(errno));
        *frame = false;
        *signal = true;
        return;
    }
    *frame = wants[0].revents;
    *signal = wants[1].revents;
    for (size_t i = 0, at = 2; i < PUMPS; at += counts[i++])
        pump_note(&relay->pumps[i], wants + at, counts[i]);
}

/* Returns whether the session has shown a sign of life. */
static bool move_bytes(struct relay *relay)
{
    bool lives = false;
    for (size_t i = 0; i < PUMPS; i++) {
        struct pump *pump = &relay->pumps[i];
        uint64_t before = pump->moved;
        pump_move(pump);
        lives = lives || (i != IN && pump->moved != before);
    }
    return lives;
}

/* Where nobody reads what a terminal shows, it hangs up, as a terminal does. A pipe's end has told the command already
 * when its pump closed. */
static void hang_up(struct relay *relay)
{
    if (relay->master < 0 || relay->pumps[OUT].error != EPIPE)
        return;
    pump_close(&relay->pumps[IN]);
    close_descriptor(&relay->master);
}

/* Whether there is nobody left who could see what the command does. */
static bool is_unread(const struct relay *relay)
{
    return relay->pumps[OUT].error == EPIPE && (relay->tty || relay->pumps[ERROR].error == EPIPE);
}

/* Counts the time since the last call, unless our own reader was what was waited for. */
static void count_time(struct relay *relay, bool waited_for_reader, bool lives)
{
    int64_t now = now_ms(), passed = relay->counted && !waited_for_reader ? now - relay->counted : 0;
    relay->counted = now;
    relay->drained += passed;
    relay->idle = lives ? 0 : relay->idle + passed;
}

/* Output that got lost is a failure of wsh's, unless its reader did not want it. */
static void check_output(struct relay *relay)
{
    for (size_t i = OUT; i < PUMPS; i++) {
        int error = relay->pumps[i].error;
        if (!error || error == EPIPE || relay->failure->text[0])
            continue;
        fail(relay->failure, error, "the output cannot be written");
        relay->status = EXIT_SELF;
    }
}

int relay_run(struct dial *dial, const struct ends *ends, bool dies_unread, struct failure *failure)
{
    struct relay relay = {.dial = dial, .failure = failure, .tty = dial->count == 1, .master = -1};
    if (relay.tty)
        relay.master = dial->descriptors[0];
    failure->text[0] = 0;
    open_pumps(&relay, ends);
    while (!is_finished(&relay)) {
        bool frame, signal, waits_for_reader = is_held_up(&relay);
        wait_for_work(&relay, &frame, &signal);
        if (signal)
            take_signals(&relay);
        int asked = forward_asked();
        bool lives = move_bytes(&relay);
        if (lives)
            forward_answered(asked);
        hang_up(&relay);
        if (dies_unread && !relay.ended && is_unread(&relay)) {
            give_up(&relay, "nobody reads its output any more");
            pump_close(&relay.pumps[IN]);
            break;
        }
        if (relay.ended)
            count_time(&relay, waits_for_reader, lives);
        if (frame)
            take_frame(&relay);
    }
    for (size_t i = 0; i < PUMPS; i++)
        pump_close(&relay.pumps[i]);
    close_descriptor(&relay.master);
    check_output(&relay);
    return relay.status;
}
