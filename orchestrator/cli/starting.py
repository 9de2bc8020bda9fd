"""The command that writes a plan to begin with: init."""

from __future__ import annotations

import json as documents
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Json, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

SCHEMA = "# yaml-language-server: $schema={path}.schema.json\n"

SETTINGS = """\
# What every phase shares, and what is not the plan's: `gpuplan schema settings` lists all keys.
plan: {name}
budget_usd: 5 # a run is ended when it has cost this much
code: app # this folder is laid on every machine; steps find it in $GPUPLAN_CODE
# requirements: [requirements.txt] # a file of the code: pip installs it on every machine
# stores: [s3://my-bucket/{name}] # where artifacts go; a rehearsal has a store of its own
step_seconds: 5 # estimate of a step that says nothing of itself
defaults:
  volume: {{name: data, size_gb: 10}} # outlives the machines; steps see it as $WORKSPACE
  env: {{SAMPLES: 1000}}
"""

PHASES = {
    "1-data.yaml": """\
# What needs no GPU comes first, on its own: it is done once, and later phases find it on the volume.
name: data
title: Make the data
machine: {gpu: [RTX-4090], count: 1}
timeout: 30m
steps:
  - name: make
    run: python "$GPUPLAN_CODE/make_data.py" "$SAMPLES" data/samples.csv
    uses: [make_data.py] # when this file changes, the step is done again
    gpu: false # a machine without GPU does it, where one is sold
    creates: [data/samples.csv] # below the volume; how gpuplan knows that it is done
deliverables:
  - {name: samples are there, file: data/samples.csv, min_bytes: 1000}
""",
    "2-train.yaml": """\
# One step becomes one for each value of its matrix; they run side by side.
name: train
title: Fit a line, at three learning rates
machine: {gpu: [RTX-4090], count: 1}
timeout: 1h
steps:
  - name: train
    matrix: {rate: [0.3, 0.1, 0.01]}
    run: python "$GPUPLAN_CODE/train.py" data/samples.csv ${{ matrix.rate }} models/${{ matrix.rate }}.json
    needs: [data/make]
    uses: [train.py]
    retries: 1
    creates: ["models/${{ matrix.rate }}.json"]
deliverables:
  - {name: trained, step: train, stdout: loss}
""",
    "3-report.yaml": """\
# Picks the best model, measures it, and brings the results home.
name: report
title: Choose and measure
machine: {gpu: [RTX-4090], count: 1, reuse: train} # goes on with the machine of `train`
timeout: 30m
steps:
  - name: choose
    run: python "$GPUPLAN_CODE/report.py" models results/best.json
    needs: [train/train]
    uses: [report.py]
    creates: [results/best.json]
deliverables:
  - {name: good enough, metric: loss, step: choose, max: 0.1}
  - {name: at home, pulled: "results/*.json"}
artifacts: [results/*.json] # uploaded to the stores ...
pull_to: local # ... and fetched here
""",
}

CODE = {
    "make_data.py": '''\
"""Writes points near the line y = 2x + 1: COUNT FILE."""

import random
import sys
from pathlib import Path

count, target = int(sys.argv[1]), Path(sys.argv[2])
random.seed(1)
target.parent.mkdir(parents=True, exist_ok=True)
with target.open("w") as out:
    for _ in range(count):
        x = random.random()
        out.write(f"{x},{2 * x + 1 + random.gauss(0, 0.1)}\\n")
print(f"{count} samples in {target}")
''',
    "train.py": '''\
"""Fits a line by gradient descent: SAMPLES RATE MODEL. Your own training goes here; $CUDA_VISIBLE_DEVICES is set."""

import json
import os
import sys
from pathlib import Path

samples, rate, target = Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
points = [tuple(map(float, line.split(","))) for line in samples.read_text().splitlines()]
slope = offset = 0.0
rounds = 200
for number in range(1, rounds + 1):
    errors = [(slope * x + offset - y, x) for x, y in points]
    slope -= rate * sum(error * x for error, x in errors) / len(points)
    offset -= rate * sum(error for error, _ in errors) / len(points)
    if progress := os.environ.get("GPUPLAN_PROGRESS"):  # shown beside the step while it runs
        Path(progress + ".new").write_text(json.dumps({"done": number, "total": rounds, "unit": "rounds"}))
        os.replace(progress + ".new", progress)
loss = sum(error * error for error, _ in errors) / len(points)
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(json.dumps({"rate": rate, "slope": slope, "offset": offset, "loss": loss}))
print(f"rate {rate}: loss {loss:.4f}")
''',
    "report.py": '''\
"""Copies the model with the least loss and publishes its loss as a figure: MODELS TARGET."""

import json
import os
import sys
from pathlib import Path

models = [json.loads(file.read_text()) for file in sorted(Path(sys.argv[1]).glob("*.json"))]
best, target = min(models, key=lambda model: model["loss"]), Path(sys.argv[2])
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(json.dumps(best))
if figures := os.environ.get("GPUPLAN_METRICS"):  # what a deliverable with `metric:` asks for
    with open(figures, "a") as out:
        figure = {"name": "loss", "value": best["loss"], "measured_on": "this machine's CPU", "device": "cpu"}
        out.write(json.dumps(figure) + "\\n")
print(f"best of {len(models)}: rate {best['rate']}, loss {best['loss']:.4f}")
''',
}

IGNORED = "/local/\n/.gpuplan/\n"


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A folder; left out: this one.")] = Path(),
    *,
    json: Json = False,
) -> None:
    """Write a small working plan to begin with: three phases, code, and schemas for your editor."""
    written = write(folder)
    where = "" if folder == Path() else f"cd {folder}\n  "
    say(f"written: {', '.join(written)}", err=json)
    say(f"next:\n  {where}gpuplan validate\n  gpuplan run all --dry-run", err=json)
    if json:
        print_json({"folder": str(folder.resolve()), "written": written})


def write(folder: Path) -> list[str]:
    """Write the plan into a folder, and return the names of its files. UsageError: something of it is there."""
    from orchestrator.config import schema
    from orchestrator.words.spec import plain

    name = plain(folder.resolve().name)[:40] or "plan"
    files = {"gpuplan.yaml": SCHEMA.format(path=".gpuplan/settings") + SETTINGS.format(name=name)}
    files |= {f"phases/{file}": SCHEMA.format(path="../.gpuplan/phase") + text for file, text in PHASES.items()}
    files |= {f"app/{file}": text for file, text in CODE.items()}
    if not (folder / ".gitignore").exists():
        files[".gitignore"] = IGNORED
    if there := [file for file in [*files, "phases"] if (folder / file).exists()]:
        raise UsageError(f"{folder / there[0]} is there already", remedy="gpuplan init DIR writes into another folder")
    files |= {
        f".gpuplan/{kind}.schema.json": f"{documents.dumps(schema(kind), indent=1)}\n" for kind in ("phase", "settings")
    }
    try:
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", remedy="name another folder") from error
    return list(files)
