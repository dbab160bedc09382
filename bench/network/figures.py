"""The figures of the third part, and whether the promises hold."""

from __future__ import annotations

from bench.figures import Verdict, ratio
from bench.samples import Results, added, scaled

# What was done. Samples are seconds, but for the rates.
JOIN, JOIN_FULL = "one container's network, few on the bridge", "one container's network, all on the bridge"
PUT, PUT_FULL = "one more policy, few there", "one more policy, all there"
GATE = "the gate"
STREAM, CONNECTIONS = "bits a second between two containers", "connections a second between two containers"
EXPOSURE, STILL = "exposure after a flush", "tenants stand still for a repair"

# In which way.
BAILEY, PROGRAMS = "Bailey", "tc and iptables-restore"
WITHOUT, WITH = "network_mode: none", "network_mode: bridge, with a policy"
NOTHING = "no firewall"
ALONE, MANY = "Bailey, these two alone", "Bailey, with all policies"
LINEAR, LINEAR_FIRST = "iptables, linear", "iptables, linear, established first"
PATHS = (NOTHING, ALONE, MANY, LINEAR_FIRST, LINEAR)


def judge(results: Results) -> list[Verdict]:
    """Hold the figures against the speeds that the project promises."""
    return [
        Verdict(
            "one container's network, read-back included: p50 at most 10 ms",
            _ms(results.median(JOIN, BAILEY)),
            10.0,
            "ms",
        ),
        Verdict("one more policy with all there: p50 at most 5 ms", _ms(results.median(PUT_FULL, BAILEY)), 5.0, "ms"),
        Verdict(
            "bits a second with all policies: at least 0.9 x those with none but the two's own",
            ratio(results.median(STREAM, MANY), results.median(STREAM, ALONE)),
            0.9,
            "x",
            at_least=True,
        ),
        Verdict("exposure after a flush: p99 under 250 ms", _ms(results.quantile(EXPOSURE, BAILEY, 0.99)), 250.0, "ms"),
    ]


def gate_difference(results: Results) -> float | None:
    """Return how many seconds more the gate takes with a network."""
    return added(results.median(GATE, WITH), results.median(GATE, WITHOUT))


def _ms(seconds: float | None) -> float | None:
    return scaled(seconds, 1000)
