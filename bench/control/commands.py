"""Commands and bytes: one command at a time, as many as eight clients can, and a stream through one of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from bench.errors import BenchError
from bench.samples import Results

from .figures import (
    COMMAND,
    DOCKER,
    PARALLEL,
    PIPE,
    RATE,
    RUNC,
    SSH,
    STREAM,
    STREAM_TO_NULL,
    WAYS,
)
from .scale import Scale
from .spawn import Harness
from .ways import Ways

_CLIENTS = 8
_PATIENCE = 600.0  # seconds for one pipeline
_TRIAL = 16 << 20  # bytes
# What is slow gets less to do; all have more than enough for their medians.
_SHORT = {DOCKER: 0.5, RUNC: 0.5, SSH: 0.5}
_FEWER_BYTES = {DOCKER: 1 / 4, SSH: 1 / 16}


def measure_commands(ways: Ways, harness: Harness, scale: Scale, results: Results) -> None:
    """Run `true` in the container, one at a time, in turns."""
    for _ in range(scale.rounds):
        for way in WAYS:
            results.add(COMMAND, way, harness.run(ways.command(way), count=scale.commands).seconds)


def measure_parallel(ways: Ways, harness: Harness, scale: Scale, results: Results) -> None:
    """Run `true` from eight clients at the same time, in turns."""
    for _ in range(scale.few_rounds):
        for way in WAYS:
            seconds = scale.seconds * _SHORT.get(way, 1)
            series = harness.run(ways.command(way), clients=_CLIENTS, seconds=seconds)
            results.add(PARALLEL, way, series.seconds)
            results.add(RATE, way, [len(series.seconds) / series.elapsed])


def measure_streams(ways: Ways, scale: Scale, results: Results) -> None:
    """Send zeros through `cat` in the container and back, in turns with a `cat` of this machine."""
    filters: Mapping[str, Sequence[str]] = {
        PIPE: ["cat"],
        **{way: [*words, "cat"] for way, words in ways.streams.items()},
    }
    for words in filters.values():
        received = _pipe(_TRIAL, words, "wc -c").strip()
        if received != str(_TRIAL):
            raise BenchError(f"{' '.join(words)}: {received} of {_TRIAL} bytes came through")
    for _ in range(scale.rounds):
        for way, words in filters.items():
            size = int(scale.bytes * _FEWER_BYTES.get(way, 1))
            for what, reader in ((STREAM, "cat >/dev/null"), (STREAM_TO_NULL, "")):
                begun = time.perf_counter()
                _pipe(size, words, reader)
                results.add(what, way, [size / (time.perf_counter() - begun)])


def _pipe(size: int, words: Sequence[str], reader: str) -> str:
    """Run `head | WORDS | READER`; without a reader the last output is thrown away."""
    line = f'head -c {size} /dev/zero | "$@" ' + (f"| {reader}" if reader else ">/dev/null")
    argv = ["bash", "-o", "pipefail", "-c", line, "bash", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode != 0:
        raise BenchError(f"{line} with {' '.join(words)}: exit status {done.returncode}: {done.stderr}")
    return done.stdout
