"""What --help looks like: commands and options in groups, whole sentences at 80 columns, and examples to copy."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTIONS = "Options"
GROUPS = {  # heading -> the commands below it, as a user meets them
    "Run": ("run", "resume", "down"),
    "Look": ("ls", "status", "logs", "cost", "report", "dashboard"),
    "Plan": ("init", "plan", "validate", "schema", "offers", "doctor"),
    "Reach": ("ssh", "open", "pull", "publish"),
    "Share": ("worker", "owner"),
    "Keep tidy": ("reap", "prune", "rm", "completion"),
}

EXAMPLES = {
    "run": (
        "gpuplan run all --dry-run              # rehearse the plan of this folder",
        "gpuplan run day4-5 --plan shipped --spot",
        "gpuplan run all --yes --detach --max-usd 60",
    ),
    "resume": ("gpuplan resume", "gpuplan resume 1128-jmeg --max-usd 80"),
    "down": ("gpuplan down", "gpuplan down 1128-jmeg --volumes", "gpuplan down --all"),
    "ls": ("gpuplan ls", "gpuplan ls --tag nightly --json"),
    "status": ("gpuplan status --watch", "gpuplan status 1128-jmeg --json"),
    "logs": (
        "gpuplan logs -f",
        "gpuplan logs 1128-jmeg --step train --tail 50",
        "gpuplan logs --since 10m --grep 'error|warn'",
    ),
    "cost": ("gpuplan cost", "gpuplan cost 1128-jmeg --json"),
    "report": ("gpuplan report", "gpuplan report 1128-jmeg --md > pull-request.md"),
    "dashboard": ("gpuplan dashboard", "gpuplan dashboard --port 8642"),
    "init": ("gpuplan init", "gpuplan init my-job"),
    "plan": ("gpuplan plan", "gpuplan plan day4-5 --plan shipped --notes"),
    "validate": ("gpuplan validate", "gpuplan validate phases/train.yaml"),
    "schema": ("gpuplan schema > phase.schema.json", "gpuplan schema settings"),
    "offers": ("gpuplan offers day4-5 --plan shipped", "gpuplan offers all --dry-run --json"),
    "doctor": (
        "gpuplan doctor",
        "gpuplan doctor --plan shipped --store s3://bucket/prefix --json",
        "gpuplan doctor --notify",
    ),
    "ssh": ("gpuplan ssh", "gpuplan ssh -c nvidia-smi", "gpuplan ssh -L 8080:localhost:8080"),
    "open": ("gpuplan open", "gpuplan open 1128-jmeg --console"),
    "pull": (
        "gpuplan pull --to results",
        "gpuplan pull 1128-jmeg --phase day2-3 --only '*.m' --only 'glm_results/**'",
    ),
    "publish": (
        "gpuplan publish --dry-run              # rehearse it: nobody is reached",
        "gpuplan publish 1128-jmeg --out offer",
        "gpuplan publish 1128-jmeg --agree 0c1f5a77e2b4",
    ),
    "reap": ("gpuplan reap", "gpuplan reap --watch --every 10m", "gpuplan reap --install"),
    "prune": ("gpuplan prune", "gpuplan prune --keep 0 --yes"),
    "rm": ("gpuplan rm 1128-jmeg",),
    "worker": ("gpuplan worker", "gpuplan worker --once"),
    "owner": ("gpuplan owner export me.json", "gpuplan owner import me.json"),
    "completion": ("source <(gpuplan completion bash)", "gpuplan completion fish | source"),
}


class Commands(TyperGroup):
    """The application: its commands in groups."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help."""
        del ctx
        return [name for group in GROUPS.values() for name in group if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with the first sentence of its help, folded and not cut."""
        for heading, names in GROUPS.items():
            rows = [(name, _first(self.commands[name].help)) for name in names if name in self.commands]
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=12)
        super().format_epilog(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """It stands below the commands already."""


class Command(TyperCommand):
    """A command: options below their headings, then examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Those without a heading come last."""
        records = [(_panel(one), found) for one in self.get_params(ctx) if (found := _record(one, ctx))]
        headings = dict.fromkeys(panel for panel, _ in records if panel != OPTIONS)
        for heading in [*headings, OPTIONS]:
            with formatter.section(heading):
                formatter.write_dl([record for panel, record in records if panel == heading], col_max=26)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Lines to copy, as they are."""
        super().format_epilog(ctx, formatter)
        if lines := EXAMPLES.get(self.name or "", ()):
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _panel(param: Any) -> str:
    named = getattr(param, "rich_help_panel", None)
    return str(named) if named else ("Arguments" if param.param_type_name == "argument" else OPTIONS)


def _record(param: Any, ctx: Any) -> tuple[str, str] | None:
    """What is written of a parameter; an argument without the type that typer would name."""
    found: tuple[str, str] | None = param.get_help_record(ctx)
    return (param.metavar, found[1]) if found and param.param_type_name == "argument" and param.metavar else found


def _first(text: str | None) -> str:
    """The first paragraph, on one line."""
    lines: Iterable[str] = (text or "").splitlines()
    return " ".join(line.strip() for line in itertools.takewhile(str.strip, lines))
