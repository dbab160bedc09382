"""Telling systemd how the agent is, sd_notify(3); without NOTIFY_SOCKET there is nobody to tell."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

READY, STOPPING, _ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


def notify(message: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send a message; say whether somebody was there to take it."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(message.encode())
    except OSError:
        return False
    return True


def watchdog_interval(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return how often the watchdog is to be told, in seconds: twice in the time that it allows."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdigit() and int(text) else None


async def keep_watchdog() -> None:
    """Tell the watchdog for as long as the loop turns."""
    interval = watchdog_interval()
    while interval is not None:
        notify(_ALIVE)
        await asyncio.sleep(interval)
