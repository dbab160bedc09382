"""A whole host's change: nothing before everything is valid, nothing lost where one instance fails.

On a host in memory; the same on real daemons: tests/integration/test_containers.py and test_bad_input.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from bailey import admission, carry, reconcile
from bailey.admission import Ground
from bailey.backends.base import Container
from bailey.carry import Host
from bailey.enforcement import Check
from bailey.errors import AdmissionError, BaileyError, EngineError, InvalidValueError
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IdMap
from bailey.planning import Action
from bailey.reconcile import ReconcileError, Report, Request, preview
from bailey.spec import Spec
from bailey.store import SpecStore

from tests.unit.memory_host import PID, Memory, MemoryAgent, MemoryEngine, MemoryQuota, files_below
from tests.unit.samples import REMAPPED

UIDS = range(2000, 2100)
Declaration = Mapping[str, object]


def declared(name: str, **fields: object) -> Declaration:
    return {
        "name": name,
        "tenant": "ada",
        "image": "web:1",
        "mem_limit": "64M",
        "cpus": 0.01,
        "pids_limit": 9,
        "disk_limit": "16M",
        "volumes": ["/data"],
        **fields,
    }


class OneHost:
    """A host in memory with its reconciler."""

    def __init__(self, root: Path) -> None:
        self.memory = Memory()
        self.engine = MemoryEngine(self.memory)
        self.quota = MemoryQuota(root / "volumes", self.memory)
        self.quota.root.mkdir()
        files = files_below(root)
        self.agent = MemoryAgent(self.memory, files.run_dir)
        self.host = Host(self.engine, self.quota, Hierarchy(2, {}), SpecStore(root), self.agent, files)

    def converge(self, *declarations: Declaration, check_mode: bool = False, **request: object) -> Report:
        self.memory.calls.clear()
        wanted = Request(declarations, {"small": {"mem_limit": "32M"}}, UIDS, workers=1, **{"lsm": "none", **request})  # type: ignore[arg-type] # by name
        return reconcile.reconcile(wanted, self.host, check_mode=check_mode)

    def names(self) -> list[str]:
        return sorted(item["name"] for item in self.engine.containers.values())


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneHost:
    made = OneHost(tmp_path)
    engine = made.engine

    def listed() -> list[Container]:
        made.memory.calls.append("list")
        return [
            Container(key, item["name"], item["name"], item["hash"], "web:1", item["running"], "", ())
            for key, item in engine.containers.items()
        ]

    monkeypatch.setattr(engine, "list", listed)
    reading = SimpleNamespace(init=SimpleNamespace(pid=PID))
    for module in (carry, reconcile):
        monkeypatch.setattr(module, "read_container", lambda *_arguments: reading)
    monkeypatch.setattr(reconcile, "checks", lambda *_arguments: [])
    monkeypatch.setattr(carry.os, "chown", lambda *_arguments: None)
    ground = Ground(2, made.quota, frozenset({0, 1}), 1 << 30)
    monkeypatch.setattr(Ground, "read", classmethod(lambda _class, *_arguments: ground))
    return made


def actions(report: Report) -> dict[str, Action]:
    return {name: plan.action for name, plan in report.plans.items()}


def test_a_host_that_needs_nothing_costs_one_list_call(one: OneHost) -> None:
    one.converge(declared("a"), declared("b"))
    report = one.converge(declared("a"), declared("b"))
    assert actions(report) == {"a": Action.NONE, "b": Action.NONE}
    assert one.memory.calls == ["list"]
    assert not report.differences


def test_check_mode_asks_and_changes_nothing(one: OneHost) -> None:
    report = one.converge(declared("a"), check_mode=True)
    assert actions(report) == {"a": Action.CREATE}
    assert one.memory.calls == ["list"]
    assert one.host.store.load() == {}
    assert one.converge(declared("a")).differences.as_diff() == report.differences.as_diff()


def test_one_that_fails_does_not_stop_the_others(one: OneHost) -> None:
    one.memory.failing = "start"
    with pytest.raises(ReconcileError) as failure:
        one.converge(declared("a"), declared("b"), declared("c"))
    assert failure.value.details == {
        "failures": {"a": "start fails"},
        "actions": {"b": "created", "c": "created"},
        "changed": True,
    }
    assert one.names() == ["b", "c"]
    assert set(one.host.store.load()) == {"b", "c"}


def test_removals_come_first_and_only_what_is_not_declared_is_purged(one: OneHost) -> None:
    one.converge(declared("a"), declared("b"))
    assert actions(one.converge(declared("c"))) == {"c": Action.CREATE}
    report = one.converge(declared("c"), declared("d"), purge=True)
    assert one.memory.calls.index("remove") < one.memory.calls.index("create")
    assert one.names() == ["c", "d"]
    assert sorted(report.kept_volumes) == [str(one.quota.root / name) for name in ("a", "b")]


def test_uids_stay_with_the_data(one: OneHost) -> None:
    one.converge(declared("a"), declared("b"))
    one.converge({"name": "a", "state": "absent"})
    one.host.store.delete("a")
    report = one.converge(declared("new"), declared("b"))
    assert {name: plan.spec.uid for name, plan in report.plans.items() if plan.spec} == {"new": 2002, "b": 2001}


NAMING = {"network": {"rules": [{"action": "allow", "app": "bob/site"}]}}
INVALID: Sequence[tuple[Sequence[Declaration], str]] = [
    ([declared("a", plan="huge")], "a.plan"),
    ([declared("a"), declared("a")], "containers[1].name"),
    ([declared("a"), {"name": "b", "colour": "red"}], "containers[1].colour"),
    ([declared("a"), declared("b", state="running")], "containers[1].state"),
    ([declared("a", ports=["8001:80"]), declared("b", ports=["8001:80"])], "b.ports"),
    ([declared("a", user=2000), declared("b", user=2000)], "b.user"),
    ([declared("a", cpus=3)], "a.cpus"),
    ([declared("a", network={"egress": "0kbit"})], "a.network.egress"),
    ([declared("a", **NAMING)], "a.network.rules[0].app"),
]


@pytest.mark.parametrize(("declarations", "field"), INVALID)
def test_nothing_changes_before_everything_is_valid(
    one: OneHost, declarations: Sequence[Declaration], field: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        one.converge(*declarations)
    assert refusal.value.details["field"] == field
    assert {"create", "quota.create"}.isdisjoint(one.memory.calls)
    assert one.host.store.load() == {}


def test_an_exception_is_the_hosts_to_make(one: OneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    grants: list[str] = []
    one.quota.mount = SimpleNamespace(options=frozenset())
    one.engine.ids = REMAPPED

    def granted(spec: Spec, _socket: Path, _options: frozenset[str], ids: IdMap) -> None:
        grants.append(f"{spec.name} with ids from {ids.base} on")

    monkeypatch.setattr(reconcile, "check_grants", granted)
    for policy in ({}, {"b": frozenset({"root"})}, {"a": frozenset({"engine-socket"})}):
        with pytest.raises(InvalidValueError, match=r"a\.user: 0 is not valid; .* names root for a or ada/web$"):
            one.converge(declared("a", app="web", user=0), policy=policy)
        with pytest.raises(InvalidValueError, match=r"a\.user"):
            preview(Request([declared("a", app="web", user=0)], {}, UIDS, policy=policy, lsm="none"))
    assert one.host.store.load() == {}
    assert grants == []
    report = one.converge(declared("a", app="web", user=0), declared("b"), policy={"ada/web": frozenset({"root"})})
    assert actions(report) == {"a": Action.CREATE, "b": Action.CREATE}
    stored = one.host.store.load()
    assert (stored["a"].uid, stored["a"].canonical["exceptions"]) == (0, ["root"])
    assert "exceptions" not in stored["b"].canonical
    assert grants == [f"a with ids from {REMAPPED.base} on"]
    with pytest.raises(InvalidValueError, match=r"a\.user: 2\d{3} is not valid; allowed: 0, whose the data"):
        one.converge(declared("a", app="web"), declared("b"))


def test_what_does_not_fit_beside_what_stays_is_refused(one: OneHost) -> None:
    one.converge(declared("a", mem_limit="600M"))
    with pytest.raises(AdmissionError, match="2 instances declare mem_limit 1200M together"):
        one.converge(declared("b", mem_limit="600M"))
    with pytest.raises(InvalidValueError, match="a port that"):
        one.converge(declared("a", mem_limit="600M", ports=["8001:80"]), declared("b", ports=["8001:81"]))
    assert one.names() == ["a"]


def test_a_rule_may_name_an_app_that_stays_and_not_one_that_goes_with_it(one: OneHost) -> None:
    one.converge(declared("site", tenant="bob"))
    one.converge(declared("a", **NAMING))
    one.converge({"name": "site", "state": "absent"})
    with pytest.raises(InvalidValueError, match=r"a\.network\.rules\[0\]\.app: 'bob/site' is not valid"):
        one.converge(declared("a", cpus=0.02, **NAMING))
    assert one.names() == ["a"]


def test_a_bridge_holds_those_that_stay_too(one: OneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BRIDGE_PORTS", 2)
    with pytest.raises(AdmissionError, match="3 containers are declared"):
        preview(Request([declared(name) for name in "abc"], {}, UIDS, lsm="none"))
    one.converge(declared("a"), declared("b"))
    one.converge(declared("alone", network_mode="none"))
    with pytest.raises(AdmissionError, match="3 containers are declared with network_mode: bridge"):
        one.converge(declared("c"))
    assert one.names() == ["a", "alone", "b"]


def test_a_changed_network_is_no_new_container(one: OneHost) -> None:
    one.converge(declared("a"))
    before = dict(one.engine.containers)
    report = one.converge(declared("a", network={"ingress": "1Mbit"}))
    assert actions(report) == {"a": Action.UPDATE}
    assert [item.path for item in report.differences] == ["a.network"]
    assert one.engine.containers.keys() == before.keys()
    assert actions(one.converge(declared("a", network={"ingress": "1000kbit"}))) == {"a": Action.NONE}


def test_a_network_that_the_agent_does_not_find_in_force_is_drift(one: OneHost) -> None:
    one.converge(declared("a"))
    one.agent.networks["a"] = [vars(Check("network.rules", "in force", "missing", holds=False))]
    report = one.converge(declared("a"))
    assert actions(report) == {"a": Action.UPDATE}
    assert [(item.path, item.before) for item in report.differences] == [("a.network.rules", "missing")]
    assert "apply" in one.memory.calls


def test_a_name_that_belongs_to_somebody_else_is_refused(one: OneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = Container("x", "a", None, "", "theirs:1", True, "Up", ())
    monkeypatch.setattr(one.engine, "list", lambda: [foreign])
    with pytest.raises(InvalidValueError, match="which Bailey did not make"):
        one.converge(declared("a"))


@pytest.mark.parametrize(("policy", "pulled"), [("missing", True), ("always", True)])
def test_images_are_there_before_the_first_container_changes(
    one: OneHost, monkeypatch: pytest.MonkeyPatch, policy: str, pulled: bool
) -> None:
    monkeypatch.setattr(one.engine, "has_image", lambda _reference: policy == "always")
    one.converge(declared("a", pull_policy=policy))
    assert ("pull" in one.memory.calls) is pulled
    assert one.memory.calls.index("pull") < one.memory.calls.index("quota.create")


def test_an_image_that_cannot_be_had_is_one_message(one: OneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one.engine, "has_image", lambda _reference: False)
    with pytest.raises(InvalidValueError, match="pull_policy is never"):
        one.converge(declared("a", pull_policy="never"))
    one.memory.failing = "pull"
    with pytest.raises(InvalidValueError, match="pull fails"):
        one.converge(declared("a"))
    assert one.host.store.load() == {}


def test_a_preview_needs_no_host() -> None:
    report = preview(Request([declared("a"), declared("b", plan="small")], {"small": {}}, UIDS, lsm="none"))
    assert actions(report) == {"a": Action.CREATE, "b": Action.CREATE}
    with pytest.raises(InvalidValueError, match="an app that is declared for this host: ada/a"):
        preview(Request([declared("a", **NAMING)], {}, UIDS, lsm="none"))
    with pytest.raises(BaileyError, match="mem_limit"):
        preview(Request([declared("a", mem_limit="64")], {}, UIDS, lsm="none"))


def test_a_failure_of_the_engine_before_anything_is_no_half_change(
    one: OneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise EngineError("no info")

    monkeypatch.setattr(one.engine, "capabilities", refuse)
    with pytest.raises(EngineError, match="no info"):
        one.converge(declared("a"))
    assert one.host.store.load() == {}
