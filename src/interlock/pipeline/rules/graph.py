"""Which stage needs which: by the products that one makes and another depends on.

The rule for a stage without the key ``deps``: it depends on the products of every stage above it in the file, except
those that themselves wait for it. So a file that lists no ``deps`` runs from top to bottom.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from interlock.pipeline.spec import StageSpec


def is_within(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def products_of(stage: StageSpec) -> tuple[str, ...]:
    """Every path that the stage must leave behind, each once."""
    predictions = [stage.predictions] if stage.predictions else []
    return tuple(dict.fromkeys((*stage.outs, *stage.metrics, *predictions)))


class Makers(dict[str, str]):
    """The stage that makes each product, in the order of the file. Products are found by folder, not one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._inside: dict[str, list[str]] = {}

    def add(self, product: str, stage: str) -> None:
        """The stage makes this too; of two that make the same, the first counts."""
        if product not in self:
            self[product] = stage
            for folder in folders_around(product):
                self._inside.setdefault(folder, []).append(product)

    def behind(self, path: str) -> list[str]:
        """The products that a path names: itself, the folder around it, or those inside it."""
        around = [folder for folder in (*folders_around(path), path) if folder in self]
        return around + self._inside.get(path, [])


def makers_of(stages: Mapping[str, StageSpec]) -> Makers:
    """The makers of all products."""
    makers = Makers()
    for name, stage in stages.items():
        for product in products_of(stage):
            makers.add(product, name)
    return makers


def folders_around(path: str) -> list[str]:
    """Every folder that a path lies in, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def needs_of(stages: Mapping[str, StageSpec]) -> dict[str, tuple[str, ...]]:
    """The stages that each stage needs, in the order of the file. The only cycles are those of listed ``deps``."""
    makers = makers_of(stages)
    needs: dict[str, list[str]] = {
        name: list(dict.fromkeys(makers[product] for dep in stage.deps or () for product in makers.behind(dep)))
        for name, stage in stages.items()
    }
    waiting: dict[str, list[str]] = {name: [] for name in stages}
    for name, needed in needs.items():
        for need in needed:
            waiting[need].append(name)
    above: list[str] = []
    for name, stage in stages.items():
        if stage.deps is None:
            later = _all_behind(name, waiting)
            needs[name] = [need for need in above if need not in later]
            for need in needs[name]:
                waiting[need].append(name)
        above += [name] if products_of(stage) else []
    places = {name: place for place, name in enumerate(stages)}
    return {name: tuple(sorted(needed, key=places.__getitem__)) for name, needed in needs.items()}


def find_cycle(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """One cycle, its first stage again at the end; None if there is none."""
    done = set(_in_turn(needs))
    left = [name for name in needs if name not in done]
    if not left:
        return None
    way: dict[str, None] = {}
    name = left[0]
    while name not in way:
        way[name] = None
        name = next(need for need in needs[name] if need not in done)
    names = list(way)
    return (*names[names.index(name) :], name)


def in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The stages so that each comes after all it needs, otherwise as in the file. There must be no cycle."""
    return list(_in_turn(needs))


def _in_turn(needs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Each stage after all it needs, of several the first of the file; without those that wait for themselves."""
    names = list(needs)
    left = {name: len(set(needed)) for name, needed in needs.items()}
    behind: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        for need in set(needs[name]):
            behind.setdefault(need, []).append(place)
    ready = [place for place, name in enumerate(names) if not left[name]]
    while ready:
        name = names[heapq.heappop(ready)]
        yield name
        for place in behind.get(name, ()):
            left[names[place]] -= 1
            if not left[names[place]]:
                heapq.heappush(ready, place)


def _all_behind(name: str, waiting: Mapping[str, Sequence[str]]) -> set[str]:
    """The stages that come after this one, directly or through others, and itself."""
    found = {name}
    open_ends = [name]
    while open_ends:
        for other in waiting[open_ends.pop()]:
            if other not in found:
                found.add(other)
                open_ends.append(other)
    return found
