"""``python -m interlock.probes NAME SETTINGS.json REPORT.json``, run in the project's folder.

SETTINGS.json holds the probe's settings, an object. REPORT.json is written, once, with this shape::

    {"passed": bool,
     "because": "one line",
     "problems": [{"message": str, "path": str | null, "line": int | null, "is_warning": bool}],
     "report": anything JSON can say}

Exit code 0 means that it could measure, whatever it found; anything else is our own failure, never the user's.
Only the probe that is asked for is imported: those that look at code run in the user's environment, where nothing but
the standard library is certain.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

PROBES = {
    "syntax": ("code", "check_syntax"),
    "imports": ("code", "check_imports"),
    "data": ("data", "measure"),
    "measurements": ("measurements", "measure"),
    "served": ("served", "measure"),
}
"""Name of the probe: the module beside this one, and its function from settings to report."""


def main(arguments: list[str]) -> int:
    """Runs one probe; answers the exit code."""
    if len(arguments) != 3 or arguments[0] not in PROBES:
        sys.stderr.write(f"usage: python -m interlock.probes {{{','.join(PROBES)}}} SETTINGS.json REPORT.json\n")
        return 2
    name, settings, report = arguments
    module, function = PROBES[name]
    probe = getattr(importlib.import_module(f".{module}", __package__), function)
    found = probe(json.loads(Path(settings).read_text(encoding="utf-8")))
    Path(report).write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
