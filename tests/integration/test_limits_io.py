"""Disk I/O: direct reads and writes run at the rates that were declared, in bytes and in operations.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import pytest

from tests.integration.fixtures.platform import DATA, Platform, in_parallel, tenant

pytest_plugins = ("tests.integration.fixtures.on_platform",)
pytestmark = pytest.mark.alone

MIB = 1 << 20
READ_BPS, WRITE_BPS = 4 * MIB, 2 * MIB
READ_IOPS, WRITE_IOPS = 120, 80
SECONDS = 4.0

# Reads or writes blocks of a size, over and over, past the page cache; prints blocks a second. The first
# second is not counted: what the kernel lets through at once there would distort a short measurement.
DIRECT = """
import mmap, os, sys, time
way, block, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
size = 4 << 20
path = "/data/measured"
if not os.path.exists(path):
    with open(path, "wb") as file:
        for _ in range(4):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
file = os.open(path, os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, block)
buffer.write(os.urandom(block))
def blocks_until(end):
    done = 0
    while time.monotonic() < end:
        offset = blocks_until.position
        (os.preadv if way == "read" else os.pwritev)(file, [buffer], offset)
        blocks_until.position = (offset + block) % size
        done += 1
    return done
blocks_until.position = 0
blocks_until(time.monotonic() + 1)
begun = time.monotonic()
done = blocks_until(begun + seconds)
print(done / (time.monotonic() - begun))
"""

# name: the declared rate, the way, the block, and blocks a second that it comes to
RATES = {
    "read-bytes": ({"device_read_bps": f"{READ_BPS // MIB}M"}, "read", 65536, READ_BPS / 65536),
    "write-bytes": ({"device_write_bps": f"{WRITE_BPS // MIB}M"}, "write", 65536, WRITE_BPS / 65536),
    "read-operations": ({"device_read_iops": READ_IOPS}, "read", 4096, READ_IOPS),
    "write-operations": ({"device_write_iops": WRITE_IOPS}, "write", 4096, WRITE_IOPS),
}


@pytest.fixture(scope="module")
def measured(platform: Platform) -> dict[str, float]:
    """Blocks a second of each limited tenant, all at the same time, and of one without limits after that."""
    declared = [
        tenant(name, disk_limit="64M", blkio_config=rate, io_scope="direct") for name, (rate, *_) in RATES.items()
    ]
    platform.converge(*declared, tenant("free", disk_limit="64M"))

    def measure(name: str, way: str, block: int, seconds: float) -> float:
        return float(platform.python(name, DIRECT, way, str(block), str(seconds)).out)

    names = list(RATES)
    jobs = [lambda name=name: measure(name, RATES[name][1], RATES[name][2], SECONDS) for name in names]
    return {
        **dict(zip(names, in_parallel(jobs), strict=True)),
        **{f"free {way} {block}": measure("free", way, block, 1) for _, way, block, _ in RATES.values()},
    }


@pytest.mark.parametrize("name", RATES)
def test_direct_io_runs_at_its_rate(measured: dict[str, float], name: str) -> None:
    assert measured[name] == pytest.approx(RATES[name][3], rel=0.2)


@pytest.mark.parametrize("name", RATES)
def test_without_a_limit_it_would_be_faster(measured: dict[str, float], name: str) -> None:
    _, way, block, rate = RATES[name]
    assert measured[f"free {way} {block}"] > 2 * rate


def test_a_limit_binds_in_every_volume(platform: Platform) -> None:
    platform.converge(
        tenant("second", volumes=[DATA, "/other"], blkio_config={"device_write_bps": "2M"}, io_scope="direct")
    )
    seconds = "import sys, time; print(time.monotonic())"
    begun = float(platform.python("second", seconds).out)
    done = platform.run("second", "dd", "if=/dev/zero", "of=/other/file", "bs=64K", "count=128", "oflag=direct")
    assert done.code == 0, done
    assert float(platform.python("second", seconds).out) - begun > 8 / 2 * 0.8
