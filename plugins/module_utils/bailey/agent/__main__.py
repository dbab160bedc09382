"""python3 -m bailey.agent: see --help."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from ..errors import BaileyError
from .daemon import prepare, serve
from .removal import remove_network
from .settings import parse_settings


class OneLine(logging.Formatter):
    """One line a message, whatever is in it: what others say of themselves may hold line ends and worse."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = super().format(record)
        return "".join(char if char.isprintable() else " " if char in "\n\t" else "?" for char in text)


def main() -> int:
    """Run the agent and return its exit status."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        settings = parse_settings(sys.argv[1:])
        if settings.remove_network:
            sys.stdout.write("removed\n" if remove_network(settings) else "nothing to remove\n")
            return 0
        prepare(settings)
        asyncio.run(serve(settings))
    except (BaileyError, OSError) as error:
        logging.getLogger("baileyd").critical("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # A thread may still be waiting for an engine that hangs; the interpreter would wait for it.
    os._exit(status)
