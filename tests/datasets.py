"""A folder of data that no commit holds, and who fetches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from interlock.edges.blobs import LocalBlobs
from interlock.edges.data import Datasets, Fetched, Places
from interlock.edges.git import CommandGit
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.run.stage import StageRequest
from interlock.source.commit import Commit
from interlock.vocabulary import Digest


class World:
    """A folder of data and who fetches it. ``said`` is what the last fetch told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.blobs = LocalBlobs(folder / "artifacts")
        self.git = CommandGit(folder / "snapshots")
        self.places: Mapping[str, tuple[str, ...]] | None = None
        self.said: list[str] = []
        self.pause: Callable[[], None] = lambda: None

    @property
    def datasets(self) -> Datasets:
        return Datasets(self.git, self.blobs, self.folder / "places", Places(self.places))

    def request(
        self, sources: Mapping[str, str], commit: Commit | None = None, data_of: str | None = "small"
    ) -> StageRequest:
        nothing = Commit(repository="small", git_directory="", ref="", sha="", tree="", working_tree=str(self.folder))
        stage = StagePlan(name="fetch", kind="data", builtin="fetch", outs=tuple(sources), sources=dict(sources))
        return StageRequest(
            attempt="1/fetch/1", stage=stage, commit=commit or nothing, python=PythonPlan(), data_of=data_of
        )

    def fetch(self, sources: Mapping[str, str], commit: Commit | None = None, data_of: str | None = "small") -> Fetched:
        self.said = []
        return self.datasets.fetch(self.request(sources, commit, data_of), self.said.append, self.pause)

    def content(self, digest: Digest) -> dict[str, bytes]:
        return {name: self.blobs.read(one) for name, one in self.blobs.files(digest).items()}
