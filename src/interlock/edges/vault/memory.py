"""A vault that ends with its process: the fake."""

from __future__ import annotations

from interlock.errors import VaultFault


class MemoryVault:
    """The port ``Vault``: what is sealed stays here, and the sealed text only names it."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, str]] = {}

    def seal(self, value: str, bound_to: str) -> str:
        """A text that names the value."""
        sealed = f"memory.{id(self)}.{len(self._kept)}"
        self._kept[sealed] = (value, bound_to)
        return sealed

    def open(self, sealed: str, bound_to: str) -> str:
        """The value. VaultFault where this vault has not sealed it for that."""
        value, meant_for = self._kept.get(sealed, ("", None))
        if meant_for != bound_to:
            raise VaultFault(f"the secret {bound_to} was not sealed here for that: set it again")
        return value
