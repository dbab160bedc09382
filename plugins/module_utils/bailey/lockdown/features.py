"""Each feature of grsecurity and PaX beside what an upstream kernel has for it. docs/hardening.md shows this table.

Sources: grsecurity's own configuration help (the last public one, for Linux 4.9), and of the upstream kernel
Documentation/admin-guide/sysctl, Documentation/admin-guide/kernel-parameters.txt and the Kconfig files; the values
follow the Kernel Self-Protection Project's recommendations but where the platform or its tenants would stop working.
"""

from __future__ import annotations

from collections.abc import Iterator

from .features_build import BUILD
from .model import Fact, Feature, Parameter, Symbol, Sysctl

_CHROOT = (
    *("MOUNT", "DOUBLE", "PIVOT", "CHDIR", "CHMOD", "FCHDIR", "MKNOD", "SHMAT", "UNIX", "FINDTASK", "NICE", "SYSCTL"),
    *("RENAME", "CAPS"),
)

_LIVE: tuple[Feature, ...] = (
    Feature(
        "dmesg",
        ("GRKERNSEC_DMESG",),
        "the kernel's log is root's: it tells addresses and what others do",
        (Sysctl("kernel/dmesg_restrict", "1"),),
    ),
    Feature(
        "hidesym",
        ("GRKERNSEC_HIDESYM",),
        "addresses of the kernel are shown to nobody, root included",
        (Sysctl("kernel/kptr_restrict", "2"),),
    ),
    Feature(
        "bpf",
        ("GRKERNSEC_BPF_HARDEN", "GRKERNSEC_JIT_HARDEN"),
        "no BPF programs of ordinary users; constants in compiled ones are blinded",
        (
            # 2 can be taken back and 1 cannot; both refuse the call to whoever has no capability for it.
            Sysctl("kernel/unprivileged_bpf_disabled", "2", stronger=("1",)),
            Sysctl("net/core/bpf_jit_harden", "2"),
        ),
    ),
    Feature(
        "perf",
        ("GRKERNSEC_PERF_HARDEN",),
        "performance counters are root's",
        # Upstream knows no value above 2, by which a user may measure his own processes; 3 is the distributions' patch.
        (Sysctl("kernel/perf_event_paranoid", "3", stronger=("4",), needs="SECURITY_PERF_EVENTS_RESTRICT"),),
    ),
    Feature(
        "ptrace",
        ("GRKERNSEC_HARDEN_PTRACE",),
        "a process traces its own descendants only",
        (Sysctl("kernel/yama/ptrace_scope", "1", stronger=("2", "3")),),
    ),
    Feature(
        "links",
        ("GRKERNSEC_LINK", "GRKERNSEC_SYMLINKOWN"),
        "links in shared directories lead nobody to another's file",
        (Sysctl("fs/protected_symlinks", "1"), Sysctl("fs/protected_hardlinks", "1")),
    ),
    Feature(
        "fifo",
        ("GRKERNSEC_FIFO",),
        "nobody is made to write into another's pipe or file in a shared directory",
        (Sysctl("fs/protected_fifos", "2"), Sysctl("fs/protected_regular", "2")),
    ),
    Feature(
        "aslr",
        ("PAX_ASLR", "PAX_RANDUSTACK", "GRKERNSEC_RAND_THREADSTACK"),
        "a process's stack, heap and libraries lie elsewhere each time",
        (Sysctl("kernel/randomize_va_space", "2"),),
    ),
    Feature(
        "mmap_randomization",
        ("PAX_RANDMMAP",),
        "as many random bits as the processor has room for",
        # Programs built with a sanitizer of GCC before 14 or LLVM before 18 start only by luck then: turn it off there.
        (
            Sysctl("vm/mmap_rnd_bits", "32", ceiling="ARCH_MMAP_RND_BITS_MAX"),
            Sysctl("vm/mmap_rnd_compat_bits", "16", ceiling="ARCH_MMAP_RND_COMPAT_BITS_MAX"),
        ),
    ),
    Feature(
        "module_autoload",
        ("GRKERNSEC_MODHARDEN",),
        "an ordinary user has no module loaded that nobody needs: a list of modules is denied",
        denies_modules=True,
        instead="only the listed modules are denied; grsecurity denies all to whoever is not root",
    ),
    Feature(
        "module_loading",
        (),
        "nothing is loaded into the kernel any more",
        (Sysctl("kernel/modules_disabled", "1", lasting=True, live_only=True),),
        conflicts="the platform, whose engine and agent have the kernel load modules when they need them",
    ),
    Feature(
        "user_namespaces",
        (),
        "ordinary users become root of nothing, and reach no code of the kernel that root alone may call",
        (
            Sysctl("kernel/unprivileged_userns_clone", "0"),  # Debian's patch
            Sysctl("kernel/apparmor_restrict_unprivileged_userns", "1"),  # Ubuntu's patch
            Sysctl("user/max_user_namespaces", "0", keeps_from_remapping=True),  # upstream: root's too
        ),
        one_of=True,
        conflicts="user namespaces of ordinary users: rootless engines, gVisor without root, browsers' sandboxes",
        instead="upstream's setting is never made where the engine remaps ids (docker_userns_remap)",
    ),
    Feature(
        "io_uring",
        (),
        "no second way into the kernel beside system calls, which a filter does not see",
        (Sysctl("kernel/io_uring_disabled", "2"),),
    ),
    Feature(
        "userfaultfd",
        (),
        "ordinary users cannot hold the kernel up at a page of their choice",
        (Sysctl("vm/unprivileged_userfaultfd", "0"),),
    ),
    Feature(
        "terminals",
        (),
        "no typing into another's terminal, no line disciplines loaded on demand",
        (Sysctl("dev/tty/legacy_tiocsti", "0"), Sysctl("dev/tty/ldisc_autoload", "0")),
    ),
    Feature(
        "core_dumps",
        (),
        "a program that changed its user leaves no memory behind",
        (Sysctl("fs/suid_dumpable", "0"),),
    ),
    Feature(
        "sysrq",
        (),
        "the keyboard's and the serial line's way round everything is shut",
        (Sysctl("kernel/sysrq", "0"),),
    ),
    Feature(
        "kexec",
        (),
        "no other kernel is started from this one; kdump has to be loaded before",
        (Sysctl("kernel/kexec_load_disabled", "1", lasting=True),),
    ),
    Feature(
        "null_page",
        (),
        "a null pointer of the kernel's leads nowhere",
        (Sysctl("vm/mmap_min_addr", "65536"),),
    ),
    Feature(
        "network_lies",
        (),
        "no forged sources, no redirects, no source routes, no memory for half-open connections",
        (
            # Loose: a host with two lines answers by either. On the tenants' bridge the agent's tables are stricter.
            Sysctl("net/ipv4/conf/all/rp_filter", "2", stronger=("1",)),
            *(
                Sysctl(f"net/ipv4/conf/{link}/{name}", "0")
                for link in ("all", "default")
                for name in ("accept_redirects", "secure_redirects", "send_redirects", "accept_source_route")
            ),
            Sysctl("net/ipv4/tcp_syncookies", "1", stronger=("2",)),
        ),
    ),
    Feature(
        "forwarding",
        (),
        "the host is no router",
        (Sysctl("net/ipv4/ip_forward", "0"),),
        conflicts="the platform: without forwarding no tenant has a network",
    ),
    Feature(
        "kern_lockout",
        ("GRKERNSEC_KERN_LOCKOUT",),
        "whoever makes the kernel stumble gets no second try",
        (Sysctl("kernel/panic_on_oops", "1"),),
        conflicts="the other tenants, whom one tenant that finds a fault would take down with the host",
    ),
    Feature(
        "brute",
        ("GRKERNSEC_BRUTE",),
        "a program that crashes is not tried again at once",
        instead="the agent starts a crashed tenant again later each time; set-id programs gain nothing in a tenant",
    ),
    Feature(
        "lockdown",
        ("GRKERNSEC_IO",),
        "root too cannot change the running kernel: ports, memory, unsigned modules",
        (Parameter("lockdown=integrity", needs="SECURITY_LOCKDOWN_LSM"),),
        conflicts="modules that are not signed, which some kernels' are: the platform's among them",
    ),
    Feature(
        "kstack",
        ("PAX_RANDKSTACK",),
        "the kernel's stack lies elsewhere at each system call",
        (
            Parameter(
                "randomize_kstack_offset=on",
                default=("RANDOMIZE_KSTACK_OFFSET_DEFAULT",),
                needs="RANDOMIZE_KSTACK_OFFSET",
            ),
        ),
    ),
    Feature(
        "memory_sanitize",
        ("PAX_MEMORY_SANITIZE",),
        "memory is cleaned when it is freed, and when it is taken",
        (
            Parameter("init_on_free=1", default=("INIT_ON_FREE_DEFAULT_ON",)),
            Parameter("init_on_alloc=1", default=("INIT_ON_ALLOC_DEFAULT_ON",)),
        ),
    ),
    Feature(
        "heap_layout",
        (),
        "objects of the kernel's heap lie apart by kind, in an order that nobody knows",
        (
            Parameter("slab_nomerge", default=("!SLAB_MERGE_DEFAULT",)),
            Parameter("page_alloc.shuffle=1", needs="SHUFFLE_PAGE_ALLOCATOR"),
            Symbol(("SLAB_FREELIST_RANDOM",)),
            Symbol(("SLAB_FREELIST_HARDENED",)),
        ),
    ),
    Feature(
        "vsyscall",
        (),
        "no page at an address that everybody knows; programs of a C library before 2.14 crash",
        (Parameter("vsyscall=none", default=("LEGACY_VSYSCALL_NONE", "!X86_VSYSCALL_EMULATION")),),
    ),
    Feature(
        "sysfs",
        ("GRKERNSEC_SYSFS_RESTRICT",),
        "the kernel's debug files are gone",
        (Parameter("debugfs=off", default=("DEBUG_FS_ALLOW_NONE", "!DEBUG_FS")),),
        instead="/sys itself stays readable; in a tenant it is read-only and parts are masked",
    ),
)

_NONE: tuple[Feature, ...] = (
    Feature(
        "mprotect",
        ("PAX_MPROTECT", "PAX_EMUTRAMP", "PAX_ELFRELOCS"),
        "memory that was writable is never executed",
        instead="systemd's MemoryDenyWriteExecute for services; compilers at run time (Node.js, Java) need such memory",
    ),
    Feature(
        "size_overflow",
        ("PAX_SIZE_OVERFLOW",),
        "sums of sizes that overflow are caught",
        instead="compiled-in checks of single places alone",
    ),
    Feature(
        "constify",
        ("PAX_CONSTIFY_PLUGIN",),
        "tables of functions are read-only",
        instead="what the kernel's authors have marked so by hand",
    ),
    Feature(
        "tpe",
        ("GRKERNSEC_TPE",),
        "users execute only what root owns",
        instead="tenants run their own code on purpose; IMA, IPE and mounts with noexec do parts of it",
    ),
    Feature(
        "chroot",
        ("GRKERNSEC_CHROOT", *(f"GRKERNSEC_CHROOT_{name}" for name in _CHROOT)),
        "nobody breaks out of a chroot",
        instead="tenants are in namespaces with pivot_root, without capabilities, behind a filter of system calls",
    ),
    Feature(
        "proc",
        ("GRKERNSEC_PROC", "GRKERNSEC_PROC_USER", "GRKERNSEC_PROC_ADD", "GRKERNSEC_PROC_MEMMAP"),
        "a user sees no other's processes",
        instead="a pid namespace for each tenant; the mount option hidepid=2 breaks systemd's own services on the host",
    ),
    Feature(
        "setxid",
        ("GRKERNSEC_SETXID", "GRKERNSEC_PTRACE_READEXEC"),
        "all threads change their user together; what cannot be read cannot be traced",
        instead="the C library changes all threads",
    ),
    Feature(
        "audit",
        (
            *("GRKERNSEC_EXECLOG", "GRKERNSEC_AUDIT_MOUNT", "GRKERNSEC_AUDIT_PTRACE", "GRKERNSEC_CHROOT_EXECLOG"),
            *("GRKERNSEC_RESLOG", "GRKERNSEC_SIGNAL", "GRKERNSEC_FORKFAIL", "GRKERNSEC_TIME", "GRKERNSEC_RWXMAP_LOG"),
        ),
        "what was executed, mounted and denied is in the log",
        instead="auditd, by hardening_audit",
    ),
    Feature(
        "network_hiding",
        ("GRKERNSEC_BLACKHOLE", "GRKERNSEC_NO_SIMULT_CONNECT"),
        "closed ports do not answer",
        instead="the agent's tables, which drop what a tenant sends to the host",
    ),
    Feature(
        "socket_groups",
        ("GRKERNSEC_SOCKET", "GRKERNSEC_SOCKET_ALL", "GRKERNSEC_SOCKET_CLIENT", "GRKERNSEC_SOCKET_SERVER"),
        "some groups have no network",
        instead="each tenant's rules of its network",
    ),
    Feature(
        "deny_usb",
        ("GRKERNSEC_DENYUSB",),
        "devices that are plugged in later are not taken up",
        instead="usbcore.authorized_default=2 for who has somebody at the machine",
    ),
    Feature(
        "lock",
        ("GRKERNSEC_SYSCTL", "GRKERNSEC_SYSCTL_ON", "GRKERNSEC_CONFIG_AUTO"),
        "root cannot take the settings back",
        instead="whoever is root of the host is trusted",
    ),
)

_SECURITY: tuple[Feature, ...] = (
    Feature(
        "rbac",
        ("GRKERNSEC_RBAC",),
        "a policy above the users, which root obeys too",
        (Fact("module", "apparmor"),),
        instead="profiles for tenants by bailey_apparmor",
    ),
)

FEATURES: dict[str, Feature] = {feature.name: feature for feature in (*_LIVE, *BUILD, *_SECURITY, *_NONE)}

_HEAD = ("feature", "grsecurity, PaX", "sysctl", "boot parameter", "Kconfig, machine", "conflicts with, or instead")


def document() -> str:
    """Return the table of all features as Markdown, as docs/hardening.md has it."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(tuple(_cells(feature)) for feature in FEATURES.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _cells(feature: Feature) -> Iterator[str]:
    yield f"`{feature.name}`: {feature.what}"
    yield "<br>".join(feature.grsecurity) or "(none)"
    between = " or<br>" if feature.one_of else "<br>"
    yield between.join(f"`{item.name}={item.value}`" for item in feature.sysctls())
    yield "<br>".join(f"`{item.text}`" for item in feature.parameters())
    yield "<br>".join(_built(feature))
    yield "; ".join(_remarks(feature))


def _built(feature: Feature) -> Iterator[str]:
    for item in feature.means:
        if isinstance(item, Symbol):
            since = ", always since {}.{}".format(*item.always_since) if item.always_since else ""
            yield " or ".join(_symbol(name) for name in item.names) + since
        elif isinstance(item, Parameter) and item.default:
            yield " or ".join(_symbol(name) for name in item.default) + " instead"
        elif isinstance(item, Fact):
            yield f"{item.kind}: `{item.name}`"


def _symbol(name: str) -> str:
    return f"no `{name[1:]}`" if name.startswith("!") else f"`{name}`"


def _remarks(feature: Feature) -> Iterator[str]:
    if feature.conflicts:
        yield f"conflicts with {feature.conflicts}"
    if not feature.has_equivalent:
        yield "no equivalent"
    if feature.instead:
        yield feature.instead
