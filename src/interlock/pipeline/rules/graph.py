"""Which stage needs which: by the products that one makes and another depends on.

The rule for a stage without the key ``deps``: it depends on the products of every stage above it in the file, except
those that themselves wait for it. So a file that lists no ``deps`` runs from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.pipeline.spec import StageSpec


def is_within(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def products_of(stage: StageSpec) -> tuple[str, ...]:
    """Every path that the stage must leave behind, each once."""
    predictions = [stage.predictions] if stage.predictions else []
    return tuple(dict.fromkeys((*stage.outs, *stage.metrics, *predictions)))


def makers_of(stages: Mapping[str, StageSpec]) -> dict[str, str]:
    """The stage that makes each product; of two that make the same, the first."""
    makers: dict[str, str] = {}
    for name, stage in stages.items():
        for product in products_of(stage):
            makers.setdefault(product, name)
    return makers


def products_behind(path: str, makers: Mapping[str, str]) -> list[str]:
    """The products that a path names: itself, the folder around it, or those inside it."""
    return [product for product in makers if is_within(path, product) or is_within(product, path)]


def needs_of(stages: Mapping[str, StageSpec]) -> dict[str, tuple[str, ...]]:
    """The stages that each stage needs, in the order of the file. The only cycles are those of listed ``deps``."""
    makers = makers_of(stages)
    needs: dict[str, list[str]] = {
        name: list(
            dict.fromkeys(makers[product] for dep in stage.deps or () for product in products_behind(dep, makers))
        )
        for name, stage in stages.items()
    }
    names = list(stages)
    for position, name in enumerate(names):
        if stages[name].deps is None:
            needs[name] = [
                above for above in names[:position] if products_of(stages[above]) and not _waits_for(above, name, needs)
            ]
    return {name: tuple(sorted(needed, key=names.index)) for name, needed in needs.items()}


def find_cycle(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """One cycle, its first stage again at the end; None if there is none."""
    left = dict(needs)
    while free := [name for name in left if not any(need in left for need in left[name])]:
        left = {name: left[name] for name in left if name not in free}
    if not left:
        return None
    way: list[str] = []
    name = next(iter(left))
    while name not in way:
        way.append(name)
        name = next(need for need in left[name] if need in left)
    return (*way[way.index(name) :], name)


def in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The stages so that each comes after all it needs, otherwise as in the file. There must be no cycle."""
    ordered: dict[str, None] = {}
    while len(ordered) < len(needs):
        ready = next(name for name in needs if name not in ordered and all(need in ordered for need in needs[name]))
        ordered[ready] = None
    return list(ordered)


def _waits_for(name: str, other: str, needs: Mapping[str, Sequence[str]]) -> bool:
    """Whether ``name`` comes after ``other``, directly or through others."""
    seen: set[str] = set()
    open_ends = [name]
    while open_ends:
        for needed in needs[open_ends.pop()]:
            if needed == other:
                return True
            if needed not in seen:
                seen.add(needed)
                open_ends.append(needed)
    return False
