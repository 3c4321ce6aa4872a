"""A fitted pipeline as a file that is the same bytes whenever the pipeline is the same."""

import io
import re
from zipfile import ZipFile, ZipInfo

import skops.io

NAMES = re.compile(r'(?<="__id__": )\d+|(?<="file": ")\d+(?=\.np[yz]")')


def save(model, path):
    """Writes what skops writes, but for dates, and memory addresses as names: those are another each time."""
    with ZipFile(io.BytesIO(skops.io.dumps(model))) as written:
        parts = {name: written.read(name) for name in written.namelist()}
    numbers = {}
    schema = NAMES.sub(lambda found: str(numbers.setdefault(found[0], len(numbers))), parts.pop("schema.json").decode())
    with ZipFile(path, "w") as file:
        for name, content in [*parts.items(), ("schema.json", schema)]:
            stem, _, kind = name.partition(".")
            file.writestr(ZipInfo(f"{numbers.get(stem, stem)}.{kind}"), content)
