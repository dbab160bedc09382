"""ulogd, the kernel's log of packets made lines of JSON: its configuration, and the process as our child."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import HostError
from ..host.files import write_atomic

PROGRAM = "/usr/sbin/ulogd"
_DIRECTORIES = ("/usr/lib/*/ulogd", "/usr/lib/ulogd", "/usr/lib64/ulogd")
_PLUGINS = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "filter_HWHDR", "output_JSON")
_PACKAGES = "ulogd2 and ulogd2-json"
_READY = "entering main loop"
_PIPE_SIZE = 1 << 20
_ERROR = 7  # ulogd's own levels: 5 is a notice, 7 an error, 8 fatal
_SAID = re.compile(r".*? <(?P<level>\d)> \S+:\d+ (?P<words>.*)")


def find_plugins(root: Path = Path("/")) -> list[Path]:
    """Return the plugins that are needed. Raises HostError where one is missing."""
    directories = [found for pattern in _DIRECTORIES for found in sorted(root.glob(pattern.lstrip("/")))]
    for directory in directories:
        plugins = [directory / f"ulogd_{name}.so" for name in _PLUGINS]
        if all(plugin.exists() for plugin in plugins):
            return plugins
    looked = ", ".join(map(str, directories)) or " and ".join(_DIRECTORIES)
    raise HostError(f"ulogd's plugins are not complete in {looked}; the packages {_PACKAGES} have them")


def configuration(group: int, plugins: Iterable[Path]) -> str:
    """Return the configuration: packets of a group, numbered by the kernel, as lines of JSON to standard output.

    The kernel hands over 64 packets at a time, or what has come in 50 ms. What ulogd has not read yet takes 8 MiB of
    the kernel's memory at most (it doubles the number); beyond it the kernel drops, and the numbers have a gap.
    """
    listed = "\n".join(f'plugin="{plugin}"' for plugin in plugins)
    return f"""[global]
logfile="/dev/null"
loglevel=3
{listed}
stack=packets:NFLOG,base:BASE,interfaces:IFINDEX,addresses:IP2STR,hardware:HWHDR,json:JSON
[packets]
group={group}
seq_local=1
netlink_qthreshold=64
netlink_qtimeout=5
netlink_socket_buffer_size=4194304
netlink_socket_buffer_maxsize=4194304
[json]
file="/proc/self/fd/1"
sync=1
"""


class Ulogd:
    """The child. It ends with this process, however that ends: a second one could not have the group."""

    def __init__(self, config: Path, group: int) -> None:
        config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(config, configuration(group, find_plugins()).encode())
        argv = ["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, "--verbose", "--configfile", str(config)]
        self.output, output = os.pipe()
        self.messages, messages = os.pipe()
        try:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=messages)
        except FileNotFoundError as error:
            raise HostError(f"{error.filename}: no such program on this host") from error
        finally:
            os.close(output)
            os.close(messages)
        fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.is_ready = False
        self._said: deque[str] = deque(maxlen=5)
        self._partial = ""

    def hear(self) -> Iterator[str]:
        """Read what ulogd says once, and yield what of it an operator should see."""
        text = self._partial + os.read(self.messages, 1 << 16).decode(errors="replace")
        *whole, self._partial = text.split("\n")
        for line in whole:
            said = _SAID.fullmatch(line)
            words = said["words"] if said else line
            if said is None or int(said["level"]) >= _ERROR:
                self._said.append(words)
            elif _READY in words:
                self.is_ready = True
            elif self.is_ready:
                yield words

    def end(self) -> None:
        """Have it end; what it has written can still be read."""
        self.is_ready = False  # what it says from now on is no news
        self._process.terminate()

    def last_words(self, seconds: float = 5.0) -> str:
        """Return how it ended and what it said of that; it is killed if it does not end in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        list(self.hear())
        return f"ulogd ended with status {self._process.returncode}: {'; '.join(self._said) or 'it said nothing'}"
