/* What wshd, wsh and the host's agent say to each other: numbers and limits. docs/protocol.md tells it in words.
 *
 * A frame is a header of eight bytes (u32 payload length, u16 type, u16 version; all little-endian) and its
 * payload. Some payloads have a fixed size; the others are fields: u16 tag, u16 zero, u32 length, bytes. */

#ifndef WSH_PROTOCOL_H
#define WSH_PROTOCOL_H

#define WSH_BUILD "0.1.0" /* what PONG says, and --version */

#define WIRE_VERSION 1
#define WIRE_HEADER 8
#define WIRE_FIELD 8           /* the head of a field */
#define WIRE_EXEC_MAX (4 << 20) /* bytes of payload of EXEC */
#define WIRE_OTHER_MAX 4096    /* bytes of payload of every other frame */
#define WIRE_DESCRIPTORS_MAX 3 /* that travel with one frame */

/* Where wshd looks for its gate, as seen inside of a container. */
#define WSH_BOOT_PATH "/.bailey/boot/gate"

/* From the connection to the end of its first frame. */
#define WSH_FIRST_FRAME_MS 5000

enum frame_type {
    FRAME_BOOT = 1,     /* wshd to host: nothing; wshd knocks */
    FRAME_GO = 2,       /* host to wshd: nothing, with descriptors: the control socket, bound and not yet
                           listening; perhaps the file with the kernel's count of kills for memory */
    FRAME_REFUSE = 3,   /* host to wshd: the payload is the reason as text */
    FRAME_OPEN = 4,     /* wshd to host: nothing; it listens, and the tenant's program has been executed. Where that
                           could not be, ERROR comes instead */
    FRAME_EXEC = 16,    /* client to wshd: fields EXEC_* */
    FRAME_PING = 17,    /* client to wshd: nothing */
    FRAME_SIGNAL = 18,  /* client to wshd, after EXEC: u8 signal, u8 target, u16 zero */
    FRAME_STARTED = 32, /* wshd to client: u32 pid as inside; with three descriptors (the write end of stdin, the
                           read ends of stdout and stderr) or one (the master of the terminal) */
    FRAME_PONG = 33,    /* wshd to client: fields PONG_*; the connection's last frame */
    FRAME_EXITED = 34,  /* wshd to client: u8 enum ended, u8 code or signal, u16 zero; the last frame */
    FRAME_ERROR = 35,   /* wshd to client: fields ERROR_*; the last frame. It may come while the client still
                           writes: one whose write fails with EPIPE reads before it gives up */
};

/* Fields of EXEC. ARG, ENV and RLIMIT may be repeated; ARG is there at least once. No string holds a zero byte. */
enum exec_field {
    EXEC_ARG = 1,     /* a word of the command, in order */
    EXEC_ENV = 2,     /* NAME=VALUE, laid over the instance's own environment */
    EXEC_CWD = 3,     /* directory to start in */
    EXEC_UMASK = 4,   /* u32, at most 0777 */
    EXEC_RLIMIT = 5,  /* u32 resource, u32 zero, u64 soft, u64 hard; all ones: unlimited */
    EXEC_FLAGS = 6,   /* u32 of enum exec_flag */
    EXEC_WINSIZE = 7, /* u16 rows, u16 columns */
};

enum exec_flag {
    EXEC_TTY = 1,
    EXEC_KILL_ON_DISCONNECT = 2, /* SIGKILL for the whole session if the connection ends before its program */
};

/* A signal's target. */
enum signal_target {
    TARGET_PROGRAM = 0,
    TARGET_GROUP = 1, /* the program's process group */
};

enum ended {
    ENDED_CODE = 0,
    ENDED_SIGNAL = 1,
    ENDED_MEMORY = 2, /* the kernel killed it for memory; the value is the signal */
};

enum pong_field {
    PONG_BUILD = 1,    /* text */
    PONG_SESSIONS = 2, /* u32 */
};

enum error_field {
    ERROR_CODE = 1,   /* u32 of enum error_code */
    ERROR_TEXT = 2,   /* what a person needs to know */
    ERROR_NEWEST = 3, /* u32, with VERSION alone: the newest version that wshd speaks */
    ERROR_ERRNO = 4,  /* u32, with CANNOT_EXECUTE alone */
};

enum error_code {
    ERROR_VERSION = 1,
    ERROR_MALFORMED = 2,
    ERROR_TIMEOUT = 3,        /* no whole first frame within WSH_FIRST_FRAME_MS */
    ERROR_NO_PROCESS = 4,     /* fork failed: the container's or the user's limit of processes */
    ERROR_NO_RESOURCE = 5,    /* no descriptor, terminal or memory */
    ERROR_CANNOT_EXECUTE = 6, /* the program could not be started; it may follow STARTED instead of EXITED */
    ERROR_ENDING = 7,         /* the instance ends */
};

/* Exit codes of our own programs, as shells and the engine's client have them. */
enum exit_code {
    EXIT_SELF = 125,            /* wshd or wsh itself could not do its work */
    EXIT_CANNOT_EXECUTE = 126,  /* the program is there, but does not start */
    EXIT_NOT_FOUND = 127,       /* the program is not there */
    EXIT_SIGNAL_BASE = 128,     /* plus the signal that ended the program */
};

#endif
