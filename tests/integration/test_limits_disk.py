"""Disk space: a writer stops at its limit wherever it may write, and others still write.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import DATA, Platform, in_parallel, tenant, wait_for

pytest_plugins = ("tests.integration.fixtures.on_platform",)

MIB = 1 << 20
DISK, TMPFS, SHM = 24 * MIB, 4 * MIB, 2 * MIB
LOG_SIZE, LOG_FILES = 64 << 10, 3
SECOND = "/var/second"

# Each prints how many bytes it could write below the directory in its first argument, and why it stopped.
WRITE = """
import errno, json, os, sys
written, reason, path = 0, None, sys.argv[1] + "/filled"
try:
    with open(path, "wb", buffering=0) as file:
        while written < 256 << 20:
            written += file.write(os.urandom(1 << 18))
            os.fsync(file)
except OSError as error:
    reason = errno.errorcode[error.errno]
print(json.dumps([written, reason]))
"""
ALLOCATE = """
import errno, json, os, sys
reserved, reason = 0, None
try:
    for number in range(256):
        with open(f"{sys.argv[1]}/reserved{number}", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 1 << 20)
        reserved += 1 << 20
except OSError as error:
    reason = errno.errorcode[error.errno]
print(json.dumps([reserved, reason]))
"""
SMALL_FILES = """
import errno, json, os, sys
written, reason = 0, None
try:
    for number in range(100_000):
        with open(f"{sys.argv[1]}/small{number}", "wb", buffering=0) as file:
            written += file.write(os.urandom(2000))
        if number % 2000 == 1999:
            os.sync()
except OSError as error:
    reason = errno.errorcode[error.errno]
print(json.dumps([written, reason]))
"""
OVER = {"EDQUOT", "ENOSPC"}

# ioctl requests of include/uapi/linux/btrfs.h and fs.h.
SUBVOLUME = """
import fcntl, os, struct, sys
directory, number = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), int(sys.argv[2], 16)
layout = "=qQQ32x4040s" if number & 0xff >= 0x17 else "=q4088s"
values = [directory, 0, 0, b"escape"] if number & 0xff >= 0x17 else [directory, b"escape"]
fcntl.ioctl(directory, number, bytearray(struct.pack(layout, *values)))
"""
SUBVOL_CREATE, SUBVOL_CREATE_V2 = "5000940e", "50009418"
SNAP_CREATE, SNAP_CREATE_V2 = "50009401", "50009417"
REFLINKS = """
import errno, fcntl, json, os, sys
def size(): return os.stat(copy).st_blocks * 512
original, copy = sys.argv[1] + "/original", sys.argv[1] + "/copy"
with open(original, "wb") as file:
    file.write(os.urandom(16 << 20))
    file.flush()
    os.fsync(file)
with open(original, "rb") as source, open(copy, "wb") as target:
    fcntl.ioctl(target, 0x40049409, source.fileno())
written, reason = 0, None
try:
    with open(copy, "r+b", buffering=0) as file:
        while written < 16 << 20:
            written += file.write(os.urandom(1 << 18))
            os.fsync(file)
except OSError as error:
    reason = errno.errorcode[error.errno]
print(json.dumps([written, reason]))
"""


@pytest.fixture(scope="module", autouse=True)
def _neighbour(platform: Platform) -> None:
    platform.converge(tenant("neighbour"))


@pytest.fixture
def writer(platform: Platform) -> Iterator[str]:
    """A tenant with two volumes, a tmpfs and a /dev/shm of known sizes, all empty."""
    platform.converge(
        tenant(
            "writer",
            disk_limit=f"{DISK // MIB}M",
            tmpfs=[f"/tmp:size={TMPFS // MIB}M"],
            shm_size=f"{SHM // MIB}M",
            volumes=[DATA, SECOND],
        )
    )
    yield "writer"
    platform.converge({"name": "writer", "state": "absent"}, remove_volumes=True)


def fill(platform: Platform, program: str, directory: str) -> tuple[int, str]:
    """Write until it stops; the neighbour can write all the while."""
    (written, reason), neighbour = in_parallel(
        [
            lambda: platform.python("writer", program, directory).json(),
            lambda: platform.run("neighbour", "dd", "if=/dev/zero", f"of={DATA}/own", "bs=1M", "count=4", "conv=fsync"),
        ]
    )
    assert neighbour.code == 0, neighbour
    return written, reason


def used(platform: Platform) -> int:
    """What the kernel counts on the writer's disk limit."""
    platform.engine.docker("exec", "writer", "sync")
    volume = platform.open().quota.volume("writer")
    assert volume is not None
    return volume.used


@pytest.mark.usefixtures("writer")
class TestVolumes:
    @pytest.mark.parametrize(
        ("program", "directory"),
        [(WRITE, DATA), (WRITE, SECOND), (ALLOCATE, DATA), (SMALL_FILES, DATA)],
        ids=["written", "written to the second", "reserved", "small files"],
    )
    def test_a_writer_stops_at_its_disk_size(self, platform: Platform, program: str, directory: str) -> None:
        written, reason = fill(platform, program, directory)
        assert reason in OVER
        assert DISK // 4 < written <= DISK  # what small files take besides their content counts too
        assert used(platform) <= DISK

    def test_two_volumes_share_one_limit(self, platform: Platform) -> None:
        (first, _), (second, reason) = fill(platform, WRITE, DATA), fill(platform, WRITE, SECOND)
        assert reason in OVER
        assert 0.8 * DISK < first + second <= DISK
        assert second < 0.1 * DISK

    def test_what_is_freed_can_be_written_again(self, platform: Platform, writer: str) -> None:
        fill(platform, WRITE, DATA)
        platform.run(writer, "sh", "-c", f"rm {DATA}/filled && sync {DATA}")
        time.sleep(1)
        assert fill(platform, WRITE, SECOND)[0] > 0.5 * DISK

    def test_a_copy_that_shares_its_data_is_no_way_out(self, platform: Platform) -> None:
        written, reason = fill(platform, REFLINKS, DATA)
        assert reason in OVER
        assert written <= DISK - (16 << 20)
        assert used(platform) <= DISK


@pytest.mark.usefixtures("writer")
class TestMemoryFileSystems:
    @pytest.mark.parametrize(("directory", "size"), [("/tmp", TMPFS), ("/dev/shm", SHM)])
    def test_a_writer_stops_at_its_size(self, platform: Platform, directory: str, size: int) -> None:
        written, reason = fill(platform, WRITE, directory)
        assert (written, reason) == (size, "ENOSPC")

    def test_both_full_are_within_the_memory(self, platform: Platform, writer: str) -> None:
        fill(platform, WRITE, "/tmp")
        fill(platform, WRITE, "/dev/shm")
        usage = platform.instance(writer).as_result()["usage"]
        assert usage["memory_bytes"] >= TMPFS + SHM
        assert usage["oom_kills"] == 0


class TestSubvolumes:
    """A subvolume inside a volume would have a quota group of its own, without a limit."""

    @pytest.mark.parametrize("request_number", [SUBVOL_CREATE, SUBVOL_CREATE_V2, SNAP_CREATE, SNAP_CREATE_V2])
    def test_a_tenant_cannot_make_one(self, platform: Platform, writer: str, request_number: str) -> None:
        answer = platform.python(writer, SUBVOLUME, DATA, request_number)
        assert "PermissionError: [Errno 1]" in answer.err
        assert not (platform.volume(writer) / "escape").exists()

    def test_upper_bits_of_the_request_are_no_way_round(self, platform: Platform, writer: str) -> None:
        # The kernel takes 32 bits of ioctl's request; a filter that compared all 64 could be passed.
        source = (
            "import ctypes, os, struct, sys\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)\n"
            "buffer = ctypes.create_string_buffer(struct.pack('=q4088s', directory, b'escape'))\n"
            f"request = ctypes.c_ulong(1 << 32 | 0x{SUBVOL_CREATE})\n"
            "print(libc.syscall(16, ctypes.c_long(directory), request, buffer), ctypes.get_errno())\n"
        )
        assert platform.python(writer, source, DATA).out.split() == ["-1", "1"]
        assert not (platform.volume(writer) / "escape").exists()

    def test_without_the_filter_it_would_work(self, platform: Platform, writer: str) -> None:
        uid = platform.instance(writer).stored.uid
        # This shows that the tests above can fail: the same program, user and directory.
        confinement = ("--user", f"{uid}:{uid}", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
        platform.engine.docker(
            "run", "--rm", *confinement, "--security-opt=seccomp=unconfined",
            "--volume", f"{platform.volume(writer)}:{DATA}", BASE.image,
            "python3", "-c", SUBVOLUME, DATA, SUBVOL_CREATE,
        )  # fmt: skip
        escape = platform.volume(writer) / "escape"
        assert escape.stat().st_ino == 256  # the inode number of every btrfs subvolume's root


class TestLog:
    def test_the_log_of_a_chatty_program_stays_in_its_bounds(self, platform: Platform) -> None:
        line = "x" * 1000
        talk = f"import time\nfor _ in range(2000): print('{line}')\nprint('said', flush=True)\ntime.sleep(600)"
        platform.converge(
            tenant(
                "chatty",
                command=["python3", "-c", talk],
                logging={"options": {"max-size": f"{LOG_SIZE}B", "max-file": LOG_FILES}},
            )
        )
        wait_for(lambda: "said" in platform.engine.docker("logs", "--tail", "1", "chatty"), "the end of the talk")
        log = Path(platform.inspect("chatty")["LogPath"])
        files = sorted(log.parent.glob(f"{log.name}*"))
        entry = len(json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "0000-00-00T00:00:00.000000000Z"})) + 1
        assert len(files) == LOG_FILES
        assert sum(path.stat().st_size for path in files) <= LOG_SIZE * LOG_FILES + entry
        assert all(path.stat().st_size > LOG_SIZE // 2 for path in files[1:])


class TestElsewhere:
    """What is not a volume, a tmpfs or /dev/shm cannot be written."""

    # /dev/mqueue holds messages, which rlimit msgqueue bounds, and no files.
    WRITABLE = frozenset((DATA, SECOND, "/tmp", "/dev/shm", "/dev/mqueue"))
    TRY = """
import errno, json, os
made = []
for directory, directories, _ in os.walk("/"):
    if directory == "/proc":
        directories[:] = [name for name in directories if not name.isdigit()] + [str(os.getpid())]
    path = directory + "/written-by-a-test"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        continue
    os.unlink(path)
    made.append(directory)
print(json.dumps(made))
"""
    CHANGE = """
import json, os, stat
opened = []
for directory, directories, names in os.walk("/"):
    if directory == "/proc":
        directories[:] = ["sys", "acpi", "bus", "fs", "irq", "scsi"]
    for name in names:
        path = os.path.join(directory, name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                os.close(os.open(path, os.O_WRONLY))
                opened.append(path)
        except OSError:
            continue
print(json.dumps(opened))
"""

    def test_only_what_is_declared_is_writable(self, platform: Platform, writer: str) -> None:
        assert set(platform.python(writer, self.TRY).json()) == self.WRITABLE

    def test_no_file_elsewhere_can_be_changed(self, platform: Platform, writer: str) -> None:
        platform.run(writer, "sh", "-c", f"echo own > {DATA}/own; echo own > {SECOND}/own")
        assert set(platform.python(writer, self.CHANGE).json()) == {f"{DATA}/own", f"{SECOND}/own"}

    def test_a_volume_declared_read_only_is_read_only(self, platform: Platform) -> None:
        platform.converge(tenant("reader", volumes=[DATA, {"target": SECOND, "read_only": True}]))
        assert set(platform.python("reader", self.TRY).json()) == self.WRITABLE - {SECOND}

    def test_a_volume_belongs_to_its_instance_alone(self, platform: Platform, writer: str) -> None:
        platform.run(writer, "sh", "-c", f"echo secret > {DATA}/own")
        uid = platform.instance("neighbour").stored.uid
        path = platform.volume(writer)
        answer = platform.engine.docker(
            "run", "--rm", "--user", f"{uid}:{uid}", "--volume", f"{path.parent}:/mnt", "--network=none",
            BASE.image, "sh", "-c", f"ls /mnt/{path.name}; ls /mnt; cat /mnt/{path.name}/own; echo end",
        )  # fmt: skip
        assert answer == "end\n"
