"""Disk space that is kept back: on a disk that is full otherwise a rollback is saved and reaches the proxy's files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.test_serving import revision

from interlock.app.operating.reserve import RESERVED, Reserve
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.serving import Installed, LocalReplicas
from interlock.edges.store import SqlStore
from interlock.errors import ProxyFault, ServingFault, StoreFault
from interlock.vocabulary import Kind, Write

STABLE, CANDIDATE = "flights.production.r1", "flights.production.r2"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def save(store: SqlStore, key: str) -> None:
    store.save(
        Write(kind=Kind.ROLLOUT, key=key, expected=0, phase="rolled_back", state={"x": "y" * 10_000}, because="b")
    )


def save_until_full(store: SqlStore) -> None:
    for number in range(10_000):
        save(store, f"filler {number}")


def test_on_a_full_disk_a_rollback_is_saved_and_applied(small_disk: Path) -> None:
    reserve = Reserve(small_disk)
    reserve.keep()
    assert (small_disk / "reserve").stat().st_blocks * 512 == RESERVED
    assert not reserve.give_up()  # there is room
    store = SqlStore(f"sqlite:///{small_disk / 'rows.db'}")
    proxy = EnvoyProxy(small_disk / "data", {"production": "127.0.0.1:1"})
    (small_disk / "data" / "envoy").mkdir(parents=True)
    for key in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(key, [f"{key}.0"], (), 1)
    proxy.ensure_weights("flights/production", {STABLE: 50, CANDIDATE: 50}, 1)

    fill(small_disk / "filler")
    with pytest.raises(StoreFault):
        save_until_full(store)
    with pytest.raises(ProxyFault, match="No space left"):
        proxy.ensure_weights("flights/production", {STABLE: 100}, 2)
    assert proxy.observe("flights/production").weights == {STABLE: 50, CANDIDATE: 50}

    assert reserve.give_up()
    assert not reserve.give_up()
    save(store, "the rollback")
    proxy.ensure_weights("flights/production", {STABLE: 100}, 2)
    assert proxy.observe("flights/production").weights == {STABLE: 100}
    reserve.keep()
    assert not (small_disk / "reserve").exists()  # others need the room more
    os.remove(small_disk / "filler")  # noqa: PTH107 - the same
    reserve.keep()
    assert (small_disk / "reserve").exists()
    store.close()


def test_replicas_that_cannot_be_written_down_are_a_fault_to_be_tried_again(small_disk: Path) -> None:
    data = small_disk / "data"
    data.mkdir()
    installed, key = Installed("/nowhere", None), small_disk / "key"
    replicas = LocalReplicas(data, None, lambda *_: None, lambda _: installed, data, key)  # type: ignore[arg-type]
    fill(small_disk / "filler")
    with pytest.raises(ServingFault, match="No space left"):
        replicas.ensure(revision(), 1)
