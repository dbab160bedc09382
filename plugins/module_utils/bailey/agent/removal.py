"""Taking away what the agent has made of a host's network, once no tenant runs there any more."""

from __future__ import annotations

from ..firewall.owner import remove_tables
from ..host.bridge import withdraw_settings
from ..host.tc import leftovers, release
from ..leases import journal
from ..network_settings import read_network_settings
from .guard import note_of
from .settings import Settings


def remove_network(settings: Settings) -> bool:
    """Remove tables, devices and files; say whether there were any. What is not there is no error."""
    if settings.network_config is None or not settings.network_config.exists():
        return False
    network = read_network_settings(settings.network_config)
    removed = remove_tables(network.table)
    for port in leftovers(set()):
        release(port)
        removed = True
    for path in (journal(settings.run_dir), note_of(settings.run_dir)):
        removed |= path.exists()
        path.unlink(missing_ok=True)
    return withdraw_settings(network.bridge) or removed
