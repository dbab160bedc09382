"""A bridge's settings, on a tree laid out as the kernel does, and the address that it is told to keep."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from bailey.host import bridge
from bailey.host.bridge import FORWARDING, apply_settings, broken_settings, pin_address, settings_of, withdraw_settings
from bailey.host.netlink import attribute

from tests.unit.host.fake_netlink import FakeNetlink

PROXY, FORWARDS = "ipv4/conf/br0/proxy_arp_pvlan", "ipv4/conf/br0/forwarding"
TIMESTAMP = "netfilter/nf_conntrack_timestamp"
NEW_LINK, ADDRESS = 16, 1
MAC = "02:42:ac:11:00:01"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nothing is set."""
    for name in (PROXY, FORWARDS, FORWARDING, TIMESTAMP):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("0\n")
    return tmp_path


class TestSettings:
    def test_all_that_are_needed_come_to_hold(self, root: Path) -> None:
        wrong = [PROXY, FORWARDS, FORWARDING, TIMESTAMP]
        assert broken_settings("br0", root) == wrong
        assert apply_settings("br0", root) == wrong
        assert {name: (root / name).read_text() for name in wrong} == dict.fromkeys(wrong, "1")
        assert apply_settings("br0", root) == broken_settings("br0", root) == []

    def test_those_that_hold_are_not_written(self, root: Path) -> None:
        (root / FORWARDING).write_text("1\n")
        assert FORWARDING not in apply_settings("br0", root)
        assert (root / FORWARDING).read_text() == "1\n"

    @pytest.mark.parametrize(("name", "broken"), [(PROXY, [PROXY]), (TIMESTAMP, [])])
    def test_only_the_times_may_be_unknown_to_a_kernel(self, root: Path, name: str, broken: list[str]) -> None:
        apply_settings("br0", root)
        (root / name).unlink()
        assert broken_settings("br0", root) == broken

    def test_where_the_kernel_notes_no_times_the_rest_is_set(self, root: Path) -> None:
        (root / TIMESTAMP).unlink()
        assert apply_settings("br0", root) == [PROXY, FORWARDS, FORWARDING]
        assert not (root / TIMESTAMP).exists()

    def test_any_other_value_does_not_hold(self, root: Path) -> None:
        apply_settings("br0", root)
        (root / FORWARDING).write_text("2\n")
        assert apply_settings("br0", root) == [FORWARDING]

    def test_another_bridges_do_not_count(self, root: Path) -> None:
        apply_settings("br0", root)
        assert broken_settings("br1", root) == [name for name in settings_of("br1") if "br1" in name]

    def test_a_bridge_that_is_not_there_is_an_error(self, root: Path) -> None:
        with pytest.raises(FileNotFoundError):
            apply_settings("br1", root)


class TestWithdrawing:
    def test_what_is_the_bridges_own_goes_once_and_the_host_still_forwards(self, root: Path) -> None:
        apply_settings("br0", root)
        assert withdraw_settings("br0", root)
        assert broken_settings("br0", root) == [PROXY]
        assert not withdraw_settings("br0", root)

    def test_a_bridge_that_is_not_there_has_nothing_set(self, root: Path) -> None:
        assert not withdraw_settings("br1", root)


class TestAddress:
    @pytest.fixture
    def kernel(self, monkeypatch: pytest.MonkeyPatch) -> FakeNetlink:
        fake = FakeNetlink()
        monkeypatch.setattr(bridge, "Netlink", fake)
        monkeypatch.setattr(socket, "if_nametoindex", {"br0": 7}.__getitem__)
        return fake

    def links(self, root: Path, assigned: int) -> Path:
        (root / "br0").mkdir()
        (root / "br0/addr_assign_type").write_text(f"{assigned}\n")
        (root / "br0/address").write_text(f"{MAC}\n")
        return root

    @pytest.mark.parametrize("assigned", [0, 1, 2])
    def test_the_one_that_it_happens_to_have_is_set(self, tmp_path: Path, kernel: FakeNetlink, assigned: int) -> None:
        assert pin_address("br0", self.links(tmp_path, assigned))
        ((kind, body, _),) = kernel.asked
        header = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 7, 0, 0)
        assert (kind, body) == (NEW_LINK, header + attribute(ADDRESS, bytes.fromhex(MAC.replace(":", ""))))

    def test_one_that_is_set_is_left(self, tmp_path: Path, kernel: FakeNetlink) -> None:
        assert not pin_address("br0", self.links(tmp_path, 3))
        assert kernel.asked == []

    def test_a_bridge_that_is_not_there_is_an_error(self, tmp_path: Path, kernel: FakeNetlink) -> None:
        with pytest.raises(FileNotFoundError):
            pin_address("br0", tmp_path)
        assert kernel.asked == []
