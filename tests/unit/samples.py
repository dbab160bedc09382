"""Declarations for the tests of the core: one that is always valid, any valid one, and junk."""

from __future__ import annotations

import ipaddress

from bailey import capabilities, rlimits
from bailey.host.idmap import IdMap
from bailey.host.subids import SIZE
from bailey.spec import Spec, parse_spec
from hypothesis import strategies as st

# What the engine maps its containers' ids to with docker_userns_remap.
REMAPPED = IdMap(0x70000000, SIZE)


def declaration(name: str = "ada-web-1", **changes: object) -> dict[str, object]:
    """Return a valid declaration with changes; a field that is changed to None is left out."""
    declared: dict[str, object] = {
        "name": name,
        "tenant": "ada",
        "image": "registry.example:5000/web:1",
        "mem_limit": "64M",
        "cpus": 0.1,
        "pids_limit": 16,
        **changes,
    }
    return {key: value for key, value in declared.items() if value is not None}


def spec(name: str = "ada-web-1", **changes: object) -> Spec:
    """Return that declaration, read; with a uid, as every spec has that reconcile works on."""
    return parse_spec(declaration(name, **{"user": 200_000, **changes}))


NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\Z")
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
PATHS = st.lists(
    st.text(st.characters(categories=["L", "N"], include_characters="._- %"), min_size=1, max_size=8).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map(lambda parts: "/srv/" + "/".join(parts))
PAGES = st.integers(min_value=1, max_value=1 << 30)


def _written(pages: int) -> str:
    return f"{pages * 4}K"


@st.composite
def rlimit_declarations(draw: st.DrawFn) -> dict[str, object]:
    values = st.integers(min_value=0, max_value=1 << 40)
    declared: dict[str, object] = {}
    for name in draw(st.sets(st.sampled_from(sorted(rlimits.KINDS)))):
        soft, hard = sorted((draw(values), draw(values)))
        forms = st.sampled_from(
            (hard, str(hard), "unlimited", {"hard": -1, "soft": soft}, {"hard": hard, "soft": soft})
        )
        declared[name] = draw(forms)
    return declared


@st.composite
def limit_declarations(draw: st.DrawFn, *, writable_root: bool, has_volumes: bool) -> dict[str, object]:
    tmpfs = draw(st.lists(st.tuples(PATHS, PAGES, st.integers(0, 0o1777), st.booleans()), max_size=3))
    shm = draw(PAGES)
    memory = shm + sum(item[1] for item in tmpfs) + draw(st.integers(0, 1 << 20))
    declared: dict[str, object] = {
        "mem_limit": _written(memory),
        "cpus": draw(st.integers(1000, 409_600_000).map(lambda steps: f"{steps // 100_000}.{steps % 100_000:05}")),
        "pids_limit": draw(st.integers(1, 4_194_304)),
        "shm_size": _written(shm),
        "tmpfs": [
            # Below a directory of its own: one file system inside another is not valid.
            f"/t{number}{path}:size={_written(size)},mode={mode:o}{',exec' if executable else ''}"
            for number, (path, size, mode, executable) in enumerate(tmpfs)
        ],
        "ulimits": draw(rlimit_declarations()),
    }
    rates = st.sampled_from(("4K", "1M", "1.5G"))
    names = ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")
    optional: dict[str, st.SearchStrategy[object]] = {
        "memswap_limit": st.integers(memory, 1 << 40).map(_written),
        "mem_reservation": st.integers(1, memory).map(_written),
        "cpu_shares": st.integers(2, 262_144),
        "cpuset": st.sampled_from(("0", "1-3", "0,2", 1)),
        "disk_limit": st.integers(256, 1 << 30).map(_written) | st.just("unlimited"),
        "io_scope": st.sampled_from(("all", "direct")),
        "logging": st.fixed_dictionaries(
            {}, optional={"options": st.fixed_dictionaries({"max-size": rates}, optional={"max-file": st.just("3")})}
        ),
        "blkio_config": st.fixed_dictionaries(
            {}, optional={name: rates if name.endswith("bps") else st.integers(1, 9999) for name in names}
        ),
    }
    needed = ({"storage_opt"} if writable_root else set()) | ({"disk_limit"} if has_volumes else set())
    if writable_root:
        optional["storage_opt"] = st.fixed_dictionaries({"size": st.sampled_from(("1M", "1048577B", "3G"))})
    chosen = needed | draw(st.sets(st.sampled_from(sorted(optional))))
    return declared | {key: draw(optional[key]) for key in sorted(chosen)}


@st.composite
def ports(draw: st.DrawFn) -> object:
    address = draw(st.ip_addresses())
    published, target = draw(st.tuples(st.integers(1, 65535), st.integers(1, 65535)))
    protocol = draw(st.sampled_from(("tcp", "udp")))
    shown = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    return draw(
        st.sampled_from(
            (
                f"{published}:{target}",
                f"{shown}:{published}:{target}/{protocol}",
                {"host_ip": str(address), "published": published, "target": str(target), "protocol": protocol},
            )
        )
    )


@st.composite
def _rules(draw: st.DrawFn) -> dict[str, object]:
    declared: dict[str, object] = {"action": draw(st.sampled_from(("allow", "deny")))}
    bits = draw(st.integers(0, 32))
    network = ipaddress.ip_network((draw(st.integers(0, (1 << bits) - 1)) << (32 - bits), bits))
    sides: list[dict[str, object]] = [{"app": "web"}, {"app": "bob/api"}, {"host": True}]
    if not network.network_address.is_link_local:
        sides += [{"cidr": str(network)}, {"cidr": str(network.network_address)}]
    declared |= draw(st.sampled_from(sides))
    if "host" not in declared:
        declared["direction"] = draw(st.sampled_from(("egress", "ingress")))
    declared["protocol"] = draw(st.sampled_from(("any", "tcp", "udp", "icmp")))
    if declared["protocol"] in ("tcp", "udp"):
        port, width = st.integers(1, 65535), draw(st.integers(0, 99))
        written = port | port.map(str) | port.map(lambda first: f"{first}-{min(first + width, 65535)}")
        declared["ports"] = draw(st.lists(written, min_size=1, max_size=4))
    return declared


@st.composite
def network_declarations(draw: st.DrawFn) -> dict[str, object]:
    """Make any valid declaration of a network."""
    rate = st.integers(1000, 12_500_000_000).map(lambda size: f"{size * 8 // 1000}.{size * 8 % 1000:03}kbit")
    count = st.integers(1, 1_000_000)
    optional: dict[str, st.SearchStrategy[object]] = {
        "ingress": rate | st.sampled_from(("unlimited", "20Mbit")),
        "egress": rate | st.sampled_from(("1.5 gbit", "100Gbit")),
        "new_connections": count | count.map(str),
        "connections": count,
        "same_tenant": st.booleans(),
        "rules": st.lists(_rules(), max_size=4),
    }
    return {key: draw(optional[key]) for key in sorted(draw(st.sets(st.sampled_from(sorted(optional)))))}


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, object]:
    """Make any valid declaration: every field, in every form that it may be written in."""
    read_only, network_mode = draw(st.booleans()), draw(st.sampled_from(("bridge", "none")))
    targets = draw(st.lists(PATHS, max_size=2, unique=True))
    volumes = [
        draw(
            st.sampled_from((f"/v{n}{path}", {"target": f"/v{n}{path}", "read_only": True}, {"target": f"/v{n}{path}"}))
        )
        for n, path in enumerate(targets)
    ]
    has_volumes = any(not isinstance(item, dict) or not item.get("read_only") for item in volumes)
    limits = draw(limit_declarations(writable_root=not read_only, has_volumes=has_volumes))
    required: dict[str, object] = {
        "name": draw(NAMES),
        "tenant": draw(NAMES),
        "image": draw(st.sampled_from(("web", "registry.example:5000/bailey/web:1", "web@sha256:" + "0a" * 32))),
        "read_only": read_only,
        "network_mode": network_mode,
        "volumes": volumes,
        **limits,
    }
    granted = sorted({"NET_BIND_SERVICE", "CHOWN", "KILL", "SETUID"} & set(capabilities.NAMES))
    optional: dict[str, st.SearchStrategy[object]] = {
        "app": NAMES,
        "pull_policy": st.sampled_from(("missing", "always", "never")),
        "command": st.lists(PRINTABLE | st.integers(), max_size=3),
        "entrypoint": st.lists(PRINTABLE, max_size=3),
        "environment": st.dictionaries(
            st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]*\Z"),
            PRINTABLE | st.integers() | st.floats() | st.booleans(),
            max_size=3,
        ),
        "working_dir": PRINTABLE.map(lambda text: f"/{text}"),
        "hostname": NAMES,
        "user": st.integers(1000, 4_294_967_293),
        "devices": st.lists(st.sampled_from(["/dev/kvm", "/dev/ttyUSB0", "/dev/dri/renderD128:/dev/dri/renderD128"])),
        "privileged": st.just(False),
        "ipc": st.just("private"),
        "security_opt": st.just(["no-new-privileges:true"]),
        "cap_add": st.lists(st.sampled_from([*granted, "cap_chown", "CAP_KILL"]), max_size=3),
        "apparmor_profile": st.sampled_from(("bailey-tenant", "bailey-static", "none", "own.profile")),
        "restart": st.sampled_from(("no", "always", "unless-stopped", "on-failure", "on-failure:3")),
        "runtime": st.sampled_from(("runc", "crun")),
        "stop_signal": st.sampled_from(("SIGTERM", "SIGRTMIN+3")),
        "stop_grace_period": st.sampled_from(("0s", "1500ms", "0.1s200ms", "1m30s", "10m")),
        "healthcheck": st.sampled_from(
            (
                {"test": "true"},
                {"test": ["CMD", "true"], "interval": "1m", "action": "report"},
                {"tcp": "80", "start_period": "1500ms", "retries": 1},
                {"http": {"port": 80, "path": "/x", "status": 204}, "timeout": "500ms"},
            )
        ),
    }
    if network_mode == "bridge":
        optional["ports"] = st.lists(ports(), max_size=2)
        optional["network"] = network_declarations()
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return required | {key: draw(optional[key]) for key in sorted(chosen)}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**30, max_value=10**40)
    | st.floats()
    | st.text()
    | st.text("0123456789./:,-=[]%KMGTBsize modexSIGCAP_@\n")
    | st.sampled_from(("", " ", "\0", "9" * 5000, "-1", "/", "/../x", "/tmp:size=1M", "[fe80::1%eth0]:1:1", "\ud800"))
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(("size", "target", "published", "soft", "hard", "options")), inner
        )
    ),
    max_leaves=6,
)
