"""What every vault promises, and the one whose key is a file of this machine."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.edges.vault import LocalVault, MemoryVault
from interlock.errors import Refused, VaultFault
from interlock.ports import Vault

KEY = "demo//API_TOKEN"


@pytest.fixture(params=["local", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Vault]:
    """Makes a vault that has a key of its own."""
    return lambda name: LocalVault(tmp_path / name) if request.param == "local" else MemoryVault()


@pytest.mark.parametrize("value", ["x" * 8, "ünïcode \n two lines\n", "", "'\"\\$`", "x" * 100_000])
def test_what_was_sealed_is_opened(make: Callable[[str], Vault], value: str) -> None:
    vault = make("one")
    sealed = vault.seal(value, KEY)
    assert vault.open(sealed, KEY) == value
    assert value == "" or value not in sealed


def test_sealing_twice_gives_two_texts_and_both_open(make: Callable[[str], Vault]) -> None:
    vault = make("one")
    one, two = vault.seal("the value", KEY), vault.seal("the value", KEY)
    assert one != two
    assert vault.open(one, KEY) == vault.open(two, KEY) == "the value"


def test_a_sealed_text_moved_elsewhere_does_not_open(make: Callable[[str], Vault]) -> None:
    vault = make("one")
    sealed = vault.seal("the value", KEY)
    for elsewhere in ("demo//OTHER", "other//API_TOKEN", "", "demo/flights/production/API_TOKEN"):
        with pytest.raises(VaultFault):
            vault.open(sealed, elsewhere)


def test_another_vault_does_not_open_it(make: Callable[[str], Vault]) -> None:
    sealed = make("one").seal("the value", KEY)
    with pytest.raises(VaultFault):
        make("two").open(sealed, KEY)


@pytest.mark.parametrize("changed", ["", "x", "v1.00000000.AAAA", "v1.a.b.c", "v2.x.y", "é.é.é"])
def test_what_is_no_sealed_text_is_told(make: Callable[[str], Vault], changed: str) -> None:
    with pytest.raises(VaultFault, match=r"set it again|set the secret again"):
        make("one").open(changed, KEY)


# --- the local one ---


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    sealed = LocalVault(folder).seal("the value", KEY)
    key = folder / "vault-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert LocalVault(folder).open(sealed, KEY) == "the value"
    assert key.read_bytes().decode() not in sealed


def test_several_that_begin_at_once_have_the_same_key(tmp_path: Path) -> None:
    sealed: list[str] = []
    vaults = [LocalVault(tmp_path / "keys") for _ in range(8)]
    threads = [threading.Thread(target=lambda one=one: sealed.append(one.seal("the value", KEY))) for one in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {LocalVault(tmp_path / "keys").open(one, KEY) for one in sealed} == {"the value"}
    assert len(sealed) == 8


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    vault = LocalVault(tmp_path)
    sealed = vault.seal("the value", KEY)
    head, content = sealed.rsplit(".", 1)
    for at in range(len(content.rstrip("=")) - 1):
        other = "A" if content[at] != "A" else "B"
        with pytest.raises(VaultFault, match="was changed"):
            vault.open(f"{head}.{content[:at]}{other}{content[at + 1 :]}", KEY)


def test_a_lost_key_is_told_with_both_fingerprints(tmp_path: Path) -> None:
    sealed = LocalVault(tmp_path).seal("the value", KEY)
    (tmp_path / "vault-key").unlink()
    with pytest.raises(VaultFault, match=rf"another key \({sealed.split('.')[1]}\).*restore that key's file"):
        LocalVault(tmp_path).open(sealed, KEY)


@pytest.mark.parametrize("content", [b"", b"c2hvcnQ=\n", b"\xff" * 44, b"x"])
def test_a_file_that_holds_no_key_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vault-key").write_bytes(content)
    (tmp_path / "vault-key").chmod(0o600)
    with pytest.raises(VaultFault, match="vault-key"):
        LocalVault(tmp_path).seal("the value", KEY)
    assert (tmp_path / "vault-key").read_bytes() == content


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    vault = LocalVault(tmp_path)
    sealed = vault.seal("the value", KEY)
    (tmp_path / "vault-key").chmod(0o640)
    for use in (lambda: vault.seal("another", KEY), lambda: vault.open(sealed, KEY)):
        with pytest.raises(Refused, match=r"mode 640.*chmod 600"):
            use()
