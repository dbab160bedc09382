"""The alerts that are shipped speak of metrics, and of labels' values, that the agent has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from bailey.agent.guard import Repairs
from bailey.agent.ledger import Record
from bailey.agent.metrics import Overview, render
from bailey.agent.sweep import Findings, Look, Process
from bailey.host.cgroup import Usage
from bailey.instance_state import HEALTHY, OPEN, InstanceState

from tests.unit.house import ROOT
from tests.unit.samples import spec

PATH = ROOT / "docs/alerts.yml"
_METRIC = re.compile(r"\bbailey_\w+")
_MATCHER = re.compile(r'(bailey_\w+)\{(\w+)="([^"]*)"\}')
_DURATION = re.compile(r"[1-9][0-9]*[smhd]")


def rules(text: str = PATH.read_text()) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def page() -> str:
    """Return the metrics of a host on which there is something of everything."""
    declared = spec(disk_limit="8M", volumes=["/data"])
    findings = Findings({"one": Look(Usage(1, 2, 3, 4), 5, declared.limits)}, Process(7, 8), Process(9, 10))
    state = InstanceState("one", "ada", "web", "c0ffee", OPEN, gate_ms=4.25, pid=1, health=HEALTHY)
    overview = Overview("1", engine_up=True, draining=False, repairs=Repairs(1, 1.0))
    return render(overview, [Record("one", state)], findings)


def unknown(rule: dict[str, Any], text: str) -> Iterator[str]:
    """Yield what a rule's expression names and the page does not have."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for metric in _METRIC.findall(rule["expr"]):
        if not re.search(rf"^{metric}[ {{]", text, re.MULTILINE):
            yield metric
        counted = re.search(rf"increase\({metric}\[", rule["expr"]) is not None
        if counted != (kinds.get(metric) == "counter"):
            yield f"{metric} is a {kinds.get(metric)}"
    for metric, label, value in _MATCHER.findall(rule["expr"]):
        if not re.search(rf'^{metric}\{{.*{label}="{value}".*\}} ', text, re.MULTILINE):
            yield f"{metric}{{{label}={value}}}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_names_what_there_is(rule: dict[str, Any]) -> None:
    assert list(unknown(rule, page())) == []
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]
    assert _DURATION.fullmatch(rule.get("for", "1s"))


def test_each_rule_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10


def test_what_must_never_pass_unseen_has_a_rule() -> None:
    named = {metric for rule in rules() for metric in _METRIC.findall(rule["expr"])}
    assert named >= {
        *("bailey_engine_up", "bailey_engine_threads", "bailey_engine_threads_over", "bailey_engine_restarts_total"),
        *("bailey_instance_limits_hold", "bailey_instance_status", "bailey_firewall_repairs_total"),
    }


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("bailey_engine_thread > 1", "bailey_engine_thread"),
        ('bailey_instance_status{status="shut"} == 1', "bailey_instance_status{status=shut}"),
        ("bailey_engine_restarts_total > 0", "bailey_engine_restarts_total is a counter"),
        ("increase(bailey_draining[5m]) > 0", "bailey_draining is a gauge"),
    ],
)
def test_what_there_is_not_is_found(expression: str, found: str) -> None:
    assert found in list(unknown({"expr": expression}, page()))
