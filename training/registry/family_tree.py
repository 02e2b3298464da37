"""The family of a data set's rankers: who was trained, or grew, from whom, and what each costs."""

import dataclasses
from collections.abc import Container, Sequence

from features.places import Place
from features.schema import Schema
from training.artifact.manifest import MANIFEST, read_manifest
from training.checkpoint.catalog import CONTROL, IMMATURE, Checkpoint, Checkpoints
from training.config.recipe import recipe_from_dict
from training.model.flops import Cost, cost_of
from training.model.inputs import inputs_of
from training.registry.aliases import CHALLENGER, CHAMPION
from training.registry.mlflow_registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One ranker of the family, from its checkpoint, or else its artifact."""

    name: str
    """Folder name of its checkpoint."""
    parent: str | None = None
    """Nearest ancestor of which something is left; None: there is none."""
    generations_gone: int = 0
    """Ancestors after that one, of which nothing is left."""
    recipe: str
    day: str
    trained_through: str
    examples: int | None
    """That its run trained on; None: grown, or only its artifact is left."""
    role: str
    """In a trial ``grown`` or ``control``; ``immature``; else empty."""
    grown: tuple[str, ...]
    """What grew between its parent and it; empty: it was trained."""
    dense_parameters: int | None = None
    dense_training_flops: int | None = None
    """Of one training example; both None where it read another schema."""
    log_loss: float | None
    """On the holdout of its own run."""
    versions: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    decision: str = ""
    """The gate's last decision on its newest version; empty where it has not been judged."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class _Trace:
    """A member as its manifest has it, and what places it in the family."""

    member: Member
    ancestors: list[str]
    recipe: dict[str, object]
    schema_fingerprint: str


def family(
    schema: Schema, registry: Registry, *, checkpoints: Place, artifacts: Place
) -> list[Member]:
    """Every ranker of a data set of which a checkpoint or an artifact is left, parents first."""
    traces = [_of_artifact(path) for path in (artifacts / schema.name).glob(f"[0-9]*/{MANIFEST}")]
    traces += [_of_checkpoint(found) for found in Checkpoints(checkpoints, schema).all()]
    by_name = {trace.member.name: trace for trace in traces}
    versions = registry.all()
    aliases = {name: registry.alias(name) for name in (CHAMPION, CHALLENGER)}
    costs = _costs(schema, traces)
    members = []
    for trace in sorted(
        by_name.values(), key=lambda t: (len(t.ancestors), t.member.day, t.member.name)
    ):
        name, cost = trace.member.name, costs.get(trace.member.name)
        parent, generations_gone = _nearest(trace.ancestors, by_name)
        its = [version for version in versions if version.checkpoint == name]
        names = tuple(version.version for version in its)
        member = dataclasses.replace(
            trace.member,
            parent=parent,
            generations_gone=generations_gone,
            dense_parameters=cost.dense_parameters if cost else None,
            dense_training_flops=cost.training_flops if cost else None,
            versions=names,
            aliases=tuple(alias for alias, version in aliases.items() if version in names),
            decision=its[-1].decision if its else "",
        )
        members.append(member)
    return members


def lanes(members: Sequence[Member]) -> dict[str, tuple[int, int]]:
    """Where a drawing has each member: generation to the right, lane downwards.

    A member stays in its parent's lane unless it grew, is a control, has learnt immature rows, or a
    sibling is there already.
    """
    positions: dict[str, tuple[int, int]] = {}
    taken: set[str] = set()
    num_lanes = 0
    for member in members:
        column, lane = positions.get(member.parent or "", (-1, -1))
        is_aside = bool(member.grown) or member.role in (CONTROL, IMMATURE)
        branches = is_aside or member.parent in taken
        if member.parent is None or branches:
            lane, num_lanes = num_lanes, num_lanes + 1
        else:
            taken.add(member.parent)
        positions[member.name] = (column + 1, lane)
    return positions


def _of_checkpoint(checkpoint: Checkpoint) -> _Trace:
    manifest = checkpoint.manifest
    member = Member(
        name=checkpoint.name,
        recipe=checkpoint.recipe_name,
        day=manifest.run_day,
        trained_through=manifest.trained_through,
        examples=None if manifest.growth else manifest.examples,
        role=manifest.role,
        grown=tuple(manifest.growth["changes"]) if manifest.growth else (),
        log_loss=manifest.metrics.get("log_loss"),
    )
    return _Trace(member, manifest.family, manifest.recipe, manifest.schema_fingerprint)


def _of_artifact(path: Place) -> _Trace:
    manifest = read_manifest(path.parent)
    member = Member(
        name=manifest.checkpoint or manifest.day,
        recipe=str(manifest.config["name"]),
        day=manifest.day,
        trained_through=manifest.trained_through,
        examples=None,
        role=manifest.role,
        grown=(),
        log_loss=manifest.metrics.get("log_loss"),
    )
    return _Trace(member, manifest.parents, manifest.config, manifest.schema_fingerprint)


def _nearest(ancestors: Sequence[str], known: Container[str]) -> tuple[str | None, int]:
    """The youngest ancestor that is known, and how many after it are not."""
    for gone, name in enumerate(reversed(ancestors)):
        if name in known:
            return name, gone
    return None, len(ancestors)


def _costs(schema: Schema, traces: Sequence[_Trace]) -> dict[str, Cost]:
    """The cost of each ranker that reads the schema; equal models are counted once."""
    inputs = inputs_of(schema)
    by_model: dict[str, Cost] = {}
    costs = {}
    for trace in traces:
        if trace.schema_fingerprint != schema.fingerprint():
            continue
        recipe = recipe_from_dict(trace.recipe)
        model = recipe.model_fingerprint()
        if model not in by_model:
            by_model[model] = cost_of(inputs, recipe.model)
        costs[trace.member.name] = by_model[model]
    return costs
