"""Draw docs/run.svg anew: the README's own commands, typed at a terminal, and the screen at their end.

    python -m tools.picture

What is drawn is what was printed, but for the name of the home folder. Nothing is fetched when it is shown: the
letters are those of the reader's computer, each text as wide as it was.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.e2e.terminal import Terminal, lines_of

PROJECT = Path(__file__).resolve().parent.parent
PICTURE = PROJECT / "docs" / "run.svg"
COLUMNS = 84
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}" role="img">
<title>A rehearsed run at its end: phases, steps, what each took and cost, and that its deliverables hold</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect fill="#292929" x="0" y="0" width="{terminal_width}" height="{terminal_height}" rx="8" />
<g transform="translate(8, 6)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def drawn(said: str) -> str:
    """The picture of what a terminal has shown, with its colours."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(said), "", sep="\n", soft_wrap=True)  # the last line has room below it
    return console.export_svg(title="", code_format=TEMPLATE, unique_id="run")


def main() -> int:
    """Type, wait and draw."""
    *first, last = lines_of((PROJECT / "README.md").read_text())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        env = {"GPUPLAN_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with Terminal.open(Path(folder) / "socket", Path(folder), env, columns=COLUMNS, rows=60) as terminal:
            for line in first:
                terminal.command(line)
            before = len(terminal.text())
            terminal.type(last)
            terminal.wait(r"\[y/N\]", after=before)
            terminal.type("y")
            terminal.wait(r": \w+\n\$\Z", 180, after=before)
            said = terminal.text(colours=True)
    shown = said[said.rindex("Run it?") :].rpartition("\n")[0]
    PICTURE.write_text(drawn(shown.replace(str(home), "~/.local/share/gpuplan")))
    print(PICTURE.relative_to(PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
