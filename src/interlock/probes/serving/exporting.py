"""The candidate as ONNX, where a program beside the model server proves that it gives the same answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

EXPORT_SECONDS = 600.0
"""A proof that takes longer is none."""


def export(settings: dict[str, Any]) -> dict[str, Any]:
    """What is to be served: ``path``, ``format``, ``digest``, ``python``; and ``report``, None if it was not tried.

    ``settings["export"]``: ``because`` no graph can be made, else ``python`` to make it and ``serving`` to serve it.
    In the folder ``out`` it leaves ``original``, and beside it ``model.onnx`` where the export succeeded.
    """
    model, asked = settings["model"], settings.get("export")
    as_it_is = {"path": model["path"], "format": model["format"], "digest": settings["digest"]}
    as_it_is |= {"python": settings["python"], "report": None}
    if asked is None:
        return as_it_is
    out = Path(asked["out"])
    because = asked["because"]
    report = {"is_exported": False, "because": because} if because else _prove(settings, out)
    if report["is_exported"]:
        served = {"path": str(out), "format": "onnx", "digest": report["digest"], "python": asked["serving"]}
        return {**served, "report": report}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    copy = shutil.copytree if Path(model["path"]).is_dir() else shutil.copyfile
    copy(model["path"], out / "original")
    return {**as_it_is, "report": report}


def _prove(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    model, python = settings["model"], settings["export"]["python"]
    with tempfile.TemporaryDirectory(prefix="interlock-export-") as folder:
        told = Path(folder) / "report.json"
        command = [python, "-m", "interlock.inference.export", "--model", model["path"], "--format", model["format"]]
        command += ["--digest", settings["digest"], "--golden", model["golden"], "--out", str(out)]
        command += ["--holdout", model["holdout"]] if model.get("holdout") else []
        package = Path(settings["inference_folder"]).resolve().parent.parent
        environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
        try:
            ended = subprocess.run(
                [*command, "--report", str(told)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=EXPORT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"is_exported": False, "because": f"no ONNX is made of it: no proof within {EXPORT_SECONDS:.0f} s"}
        if ended.returncode != 0 or not told.exists():
            last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
            return {"is_exported": False, "because": f"no ONNX is made of it: the export broke off: {last}"}
        report: dict[str, Any] = json.loads(told.read_bytes())
        return report
