"""What is made of ulogd's output: every packet is a line or is counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bailey.access_log.bounds import Counts, TokenBucket, read_counts, write_counts
from bailey.access_log.service import Writer
from bailey.access_log.settings import Settings, parse_settings
from bailey.access_log.ulogd import configuration, find_plugins
from bailey.errors import HostError, InvalidValueError
from bailey.leases import LeaseWriter

from tests.unit.access_log.samples import TCP, told


class Bench:
    """A writer with a journal in which both ends of the sample are known."""

    def __init__(self, root: Path, **bounds: int) -> None:
        self.settings = Settings(root, root / "access.json", **{"max_size": 1 << 20, **bounds})
        (root / "access-log").mkdir(exist_ok=True)
        self.leases = LeaseWriter(root)
        self.writer = Writer(self.settings)

    def known(self) -> Bench:
        entry = {"at": 1.0, "address": "172.17.0.2", "name": "a-web-1", "tenant": "a", "app": "web"}
        (self.settings.run_dir / "leases.jsonl").write_text(json.dumps(entry) + "\n")
        return self

    def send(self, *sequences: int, more: bytes = b"") -> None:
        self.writer.take(b"".join(told(TCP, oob__seq__local=n) + b"\n" for n in sequences) + more, time.time())

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.settings.log.read_text().splitlines()]

    def dropped(self) -> Counter[tuple[str, str | None]]:
        found: Counter[tuple[str, str | None]] = Counter()
        for entry in self.entries:
            if entry.get("event") == "dropped":
                found[entry["reason"], entry["instance"]] += entry["count"]
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path).known()


class TestWriter:
    def test_there_is_a_log_from_the_start(self, bench: Bench) -> None:
        assert bench.entries == []

    def test_each_packet_is_a_line(self, bench: Bench) -> None:
        bench.send(0, 1, 2)
        assert [entry["instance"] for entry in bench.entries] == ["a-web-1"] * 3
        assert bench.writer.counts.written == 3

    def test_a_line_may_come_in_pieces(self, bench: Bench) -> None:
        line = told(TCP) + b"\n"
        for start in range(0, len(line), 100):
            bench.writer.take(line[start : start + 100], time.time())
        assert len(bench.entries) == 1

    def test_gaps_in_the_kernels_numbers_are_counted(self, bench: Bench) -> None:
        bench.send(2, 3, 10)
        bench.writer.tell(time.time())
        assert bench.dropped() == {("sequence", None): 8}

    def test_the_kernels_numbers_start_again_after_the_last(self, bench: Bench) -> None:
        bench.writer._next = 2**32 - 1
        bench.send(2**32 - 1, 0, 1)
        assert bench.writer.counts.dropped == {}

    def test_a_line_that_cannot_be_read_is_counted_with_the_next(self, bench: Bench) -> None:
        bench.send(0, more=b'{"oob.prefix": \n')
        bench.send(2)
        assert bench.writer.counts.dropped == {"sequence": 1}
        assert len(bench.entries) == 2

    def test_what_is_over_the_rate_is_counted(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, rate=10).known()
        bench.send(*range(500))
        bench.writer.tell(time.time())
        lines = [entry for entry in bench.entries if "event" not in entry]
        assert 10 <= len(lines) < 30
        assert bench.dropped() == {("rate", None): 500 - len(lines)}
        assert bench.writer.counts.written == len(lines)

    def test_a_cause_is_told_once_and_not_again(self, bench: Bench) -> None:
        bench.send(5)
        bench.writer.tell(time.time())
        bench.writer.tell(time.time())
        assert len(bench.entries) == 2

    def test_what_the_kernel_counted_is_told_of_its_instance(self, bench: Bench) -> None:
        bench.leases.count_unlogged("172.17.0.2", 40)
        bench.leases.count_unlogged("172.17.0.2", 2)
        bench.leases.count_unlogged("172.17.0.9", 3)
        bench.writer.tell(time.time())
        assert bench.dropped() == {("rate", "a-web-1"): 42, ("rate", None): 3}

    def test_with_a_full_disk_it_lives_and_tells_later(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(bench.writer._files, "write", lambda _: 0)
            bench.send(0, 1, 2)
            bench.writer.tell(time.time())
        bench.send(3)
        bench.writer.tell(time.time())
        assert bench.dropped() == {("size", None): 3}
        assert bench.writer.counts.written == 1

    def test_the_next_run_goes_on_with_the_counts(self, bench: Bench) -> None:
        bench.leases.count_unlogged("172.17.0.2", 40)
        bench.send(3)
        bench.writer.close()
        again = Bench(bench.settings.run_dir)
        assert again.writer.counts.written == 1
        assert again.writer.counts.dropped == {"rate": 40, "sequence": 3}
        again.writer.close()
        assert again.dropped() == {("rate", "a-web-1"): 40, ("sequence", None): 3}


class TestBounds:
    def test_a_bucket_gives_its_rate_and_no_more(self) -> None:
        now = [0.0]
        bucket = TokenBucket(10, lambda: now[0])
        assert [bucket.take(8), bucket.take(8)] == [8, 2]
        now[0] = 0.5
        assert bucket.take(8) == 5
        now[0] = 1000.0
        assert [bucket.take(100), bucket.take(1)] == [10, 0]

    @pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"written": "many"}', '{"dropped": [1]}'])
    def test_counts_that_cannot_be_read_start_again(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "counts").write_text(text)
        assert read_counts(tmp_path / "counts") == Counts()

    def test_counts_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        counts = Counts(7, Counter(rate=3), 12.5)
        write_counts(tmp_path / "counts", counts)
        assert read_counts(tmp_path / "counts") == counts
        assert str(counts) == "7 lines written, 3 dropped (3 rate)"


class TestSettings:
    def test_they_are_read(self) -> None:
        given = ["--run-dir=/r", "--log=/l", "--group=7", "--max-size=5M", "--files=3", "--rate=9"]
        assert parse_settings(given) == Settings(Path("/r"), Path("/l"), 7, 5 << 20, 3, 9)
        assert parse_settings([]) == Settings()

    @pytest.mark.parametrize("option", ["--group=65536", "--max-size=1K", "--max-size=50", "--files=0", "--rate=0"])
    def test_what_is_not_valid_is_refused(self, option: str) -> None:
        with pytest.raises(InvalidValueError, match=option.partition("=")[0]):
            parse_settings([option])


class TestUlogd:
    NAMES = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "filter_HWHDR", "output_JSON")

    @pytest.mark.parametrize("directory", ["usr/lib/x86_64-linux-gnu/ulogd", "usr/lib/ulogd", "usr/lib64/ulogd"])
    def test_plugins_are_found_where_a_distribution_has_them(self, tmp_path: Path, directory: str) -> None:
        (tmp_path / directory).mkdir(parents=True)
        for name in self.NAMES:
            (tmp_path / directory / f"ulogd_{name}.so").touch()
        assert [path.name for path in find_plugins(tmp_path)] == [f"ulogd_{name}.so" for name in self.NAMES]

    def test_a_missing_plugin_is_told_with_its_package(self, tmp_path: Path) -> None:
        directory = tmp_path / "usr/lib/x86_64-linux-gnu/ulogd"
        directory.mkdir(parents=True)
        for name in self.NAMES[:-1]:
            (directory / f"ulogd_{name}.so").touch()
        with pytest.raises(HostError, match="ulogd2-json"):
            find_plugins(tmp_path)

    def test_its_configuration_names_the_group_and_the_plugins(self) -> None:
        text = configuration(77, [Path("/x/a.so"), Path("/x/b.so")])
        assert "\ngroup=77\n" in text
        assert 'plugin="/x/a.so"\nplugin="/x/b.so"\n' in text
