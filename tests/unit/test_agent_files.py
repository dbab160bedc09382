"""Forgetting an instance removes each of its files and directories, and nobody else's."""

from __future__ import annotations

from pathlib import Path

from bailey.agent_files import AgentFiles
from bailey.instance_state import InstanceState, state_file, write_state


def lay_out(files: AgentFiles, name: str) -> None:
    files.make_boot_directory(name)
    write_state(files.run_dir, InstanceState(name))
    for path in (
        files.boot_socket(name),
        files.control_socket(name),
        files.exec_file(name),
        files.crash_directory(name) / "1.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_forgetting_takes_all_of_one_and_nothing_of_another(tmp_path: Path) -> None:
    files = AgentFiles(tmp_path / "state", tmp_path / "run", tmp_path / "wsh")
    lay_out(files, "web")
    before = sorted(tmp_path.rglob("*"))
    lay_out(files, "web-2")
    files.forget("web-2")
    assert sorted(tmp_path.rglob("*")) == before
    assert state_file(files.run_dir, "web").exists()
    files.forget("web-2")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_boot_directory_stays_the_same_one(tmp_path: Path) -> None:
    files = AgentFiles(tmp_path, tmp_path / "run", tmp_path / "wsh")
    made = files.make_boot_directory("web")
    inode = made.stat().st_ino
    assert files.make_boot_directory("web").stat().st_ino == inode
    assert made.stat().st_mode & 0o777 == 0o755
