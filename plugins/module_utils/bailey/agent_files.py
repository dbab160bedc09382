"""Where the agent keeps what belongs to one instance, for those who must find it without asking the agent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .instance_state import state_file


@dataclass(frozen=True)
class AgentFiles:
    """The directories that the agent, its clients and the containers share on one host.

    `state_dir` survives a reboot, `run_dir` does not; `wsh_dir` holds the programs that every container has mounted.
    """

    state_dir: Path
    run_dir: Path
    wsh_dir: Path

    def boot_directory(self, name: str) -> Path:
        """Return the directory that an instance's container has mounted to boot from."""
        return self.state_dir / "boot" / name

    def boot_socket(self, name: str) -> Path:
        """Return the socket that wshd knocks at; it is there only while the gate is closed."""
        return self.boot_directory(name) / "gate"

    def control_socket(self, name: str) -> Path:
        """Return the socket that wsh connects to; only the host's root reaches it."""
        return self.run_dir / "ctl" / f"{name}.sock"

    def exec_file(self, name: str) -> Path:
        """Return the file that tells wsh how to reach the engine's own client."""
        return self.run_dir / "exec" / name

    def crash_directory(self, name: str) -> Path:
        """Return the directory of an instance's crash records."""
        return self.state_dir / "crashes" / name

    @property
    def findings_directory(self) -> Path:
        """Return the directory of what scans have found. It outlives the instances that it tells of."""
        return self.state_dir / "findings"

    def condemned_file(self, name: str) -> Path:
        """Return the file whose being there says that an instance may not run until it is deployed again, and why."""
        return self.state_dir / "condemned" / name

    def frozen_file(self, name: str) -> Path:
        """Return the file that says that an instance has been frozen for what a scan has found, and why."""
        return self.run_dir / "frozen" / name

    def make_boot_directory(self, name: str) -> Path:
        """Make the directory that a container boots from. A container that has it mounted keeps the very same one."""
        directory = self.boot_directory(name)
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        return directory

    def forget(self, name: str) -> None:
        """Remove all that is kept of an instance whose containers are gone."""
        paths = (self.control_socket(name), self.exec_file(name), state_file(self.run_dir, name))
        for path in (*paths, self.condemned_file(name), self.frozen_file(name)):
            path.unlink(missing_ok=True)
        for directory in (self.boot_directory(name), self.crash_directory(name)):
            shutil.rmtree(directory, ignore_errors=True)
