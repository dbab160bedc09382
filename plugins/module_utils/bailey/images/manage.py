"""Bringing one repository of images to its declared state: plan first, then carry out, cleanly or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import BaileyError, EngineError
from .engine import Credentials, Engine, Image
from .reference import Repository, inputs_tag
from .retention import Use, container_uses, declared_uses, surplus, tags_of
from .source import BuildSource, MissingInputError, RootfsSource, Source, fingerprint


@dataclass(frozen=True)
class Desired:
    """The declared state of one repository of images."""

    repository: Repository
    tag: str
    source: Source
    push: bool = False
    keep: int | None = None
    credentials: Credentials | None = None
    specs: Path = Path("/var/lib/bailey/specs")


@dataclass
class Report:
    """What was done, or in check mode would be done."""

    differences: Differences = field(default_factory=Differences)
    warnings: list[str] = field(default_factory=list)
    inputs: str | None = None
    image_id: str | None = None
    built: bool = False
    pushed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass
class _Plan:
    """What was found, and what follows from it."""

    inputs: str
    found: dict[str, Image | None]  # what each of the two tags names now
    existing: Image | None  # the image of these inputs, where it was made before
    remote: dict[str, str | None] = field(default_factory=dict)  # the digest behind each tag in the registry

    def moves(self) -> list[str]:
        """Return the tags that do not name the image of these inputs yet."""
        wanted = self.existing.image_id if self.existing else None
        return [tag for tag, image in self.found.items() if image is None or image.image_id != wanted]

    def pushes(self) -> list[str]:
        """Return the tags behind which the registry has something else, or nothing."""
        known = {digest.rpartition("@")[2] for digest in self.existing.digests} if self.existing else set()
        return [tag for tag, digest in self.remote.items() if digest not in known]


def present(engine: Engine, desired: Desired, *, check_mode: bool) -> Report:
    """Make, tag, push and prune as declared."""
    report = Report()
    uses = _uses(engine, desired.specs) if desired.keep is not None else []
    try:
        plan = _plan(engine, desired, report.warnings if check_mode else None)
    except MissingInputError as error:
        if not check_mode:
            raise
        # An earlier task of the same run may be what makes it.
        report.warnings.append(f"{error}; its image is reported as changed")
        report.differences.add("inputs", None, "not known before its input is there")
        return report
    _record(plan, report)
    if not check_mode:
        _apply(engine, desired, plan, report)
    report.image_id = plan.existing.image_id if plan.existing else None
    if desired.keep is not None:
        _prune(engine, desired, plan, uses, report, check_mode=check_mode)
    return report


def _plan(engine: Engine, desired: Desired, warnings: list[str] | None) -> _Plan:
    """Find what there is; with `warnings` (in check mode) a registry that does not answer is only one of them."""
    repository = desired.repository
    inputs = fingerprint(desired.source.inputs(engine))
    found = {tag: engine.image(repository.tagged(tag)) for tag in (inputs_tag(inputs), desired.tag)}
    existing = next((image for image in found.values() if image is not None and image.inputs == inputs), None)
    plan = _Plan(inputs, found, existing)
    for tag in found if desired.push else ():
        try:
            plan.remote[tag] = engine.registry_digest(repository.tagged(tag), desired.credentials)
        except EngineError as error:
            if warnings is None:
                raise
            warnings.append(f"{error}; the tag is reported as one to push")
            plan.remote[tag] = None
    return plan


def _record(plan: _Plan, report: Report) -> None:
    report.inputs = plan.inputs
    report.built = plan.existing is None
    report.pushed = plan.pushes()
    name = inputs_tag(plan.inputs)
    for tag in plan.moves():
        report.differences.add(f"tags.{tag}", _name(plan.found[tag]), f"image of inputs {name}")
    for tag in report.pushed:
        report.differences.add(f"registry.{tag}", plan.remote[tag], f"image of inputs {name}")


def _name(image: Image | None) -> str | None:
    """Return what an image is called in a diff: by its inputs, or by its ID where it is not one of ours."""
    if image is None:
        return None
    return f"image of inputs {inputs_tag(image.inputs)}" if image.inputs else image.image_id


def _apply(engine: Engine, desired: Desired, plan: _Plan, report: Report) -> None:
    repository = str(desired.repository)
    moves = plan.moves()
    if plan.existing is None:
        made = _make(engine, desired.source, plan.inputs)
        try:
            _move_tags(engine, repository, plan.found, moves, made)
        except EngineError:
            # Untagging may have removed it already: the last tag takes the image along.
            if engine.image(made) is not None:
                engine.remove(made)
            raise
        plan.existing = engine.image(made)
    else:
        _move_tags(engine, repository, plan.found, moves, plan.existing.image_id)
    for number, tag in enumerate(report.pushed):
        try:
            engine.push(repository, tag, desired.credentials)
        except EngineError as error:
            done = ", ".join(report.pushed[:number]) or "none"
            raise BaileyError(
                f"{error}; the image stands complete on this host as {repository}:{desired.tag}; tags pushed: {done}"
            ) from error


def _move_tags(
    engine: Engine, repository: str, found: Mapping[str, Image | None], tags: Sequence[str], image_id: str
) -> None:
    """Set all tags or, where the engine refuses one, leave them as they were."""
    done: list[str] = []
    try:
        for tag in tags:
            engine.tag(image_id, repository, tag)
            done.append(tag)
    except EngineError:
        for tag in done:
            former = found[tag]
            if former is not None:
                engine.tag(former.image_id, repository, tag)
            else:
                engine.remove(f"{repository}:{tag}")
        raise


def _make(engine: Engine, source: Source, inputs: str) -> str:
    if isinstance(source, RootfsSource):
        return engine.import_rootfs(source.path, source.config.changes(), inputs)
    if isinstance(source, BuildSource):
        return engine.build(source, inputs)
    return engine.load(source.path, source.saved_tags(), inputs)


def _uses(engine: Engine, specs: Path) -> list[Use]:
    return [*container_uses(engine.containers()), *declared_uses(specs)]


def _prune(
    engine: Engine, desired: Desired, plan: _Plan, uses: Sequence[Use], report: Report, *, check_mode: bool
) -> None:
    keep = desired.keep or 1
    if check_mode and plan.existing is None:
        keep -= 1  # the image that would be made takes a place
    images = engine.repository(str(desired.repository))
    report.removed = surplus(desired.repository, images, keep, inputs_tag(plan.inputs), uses)
    for tag in report.removed:
        report.differences.add(f"tags.{tag}", tag, None)
        if not check_mode:
            engine.remove(desired.repository.tagged(tag))


def absent(engine: Engine, repository: Repository, specs: Path, *, check_mode: bool) -> Report:
    """Remove every tag of a repository, unless a container or a declared spec needs one of its images."""
    report = Report()
    images = engine.repository(str(repository))
    users = sorted({use.user for use in _uses(engine, specs) if any(use.needs(image) for image in images)})
    if users and images:
        raise BaileyError(f"{repository} cannot be absent: its images are needed by {', '.join(users)}")
    report.removed = sorted(tag for image in images for tag in tags_of(repository, image))
    for tag in report.removed:
        report.differences.add(f"tags.{tag}", tag, None)
        if not check_mode:
            engine.remove(repository.tagged(tag))
    return report
