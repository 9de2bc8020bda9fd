"""The command that takes an owner to another computer: owner export, owner import."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Json, print_json
from orchestrator.report.console import say


class Way(StrEnum):
    """Which way it goes."""

    EXPORT = "export"
    IMPORT = "import"


def owner(
    way: Annotated[Way, typer.Argument(metavar="export|import", help="Write the file, or be who it says.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="It holds the private key of your machines.")],
    *,
    json: Json = False,
) -> None:
    """Take this owner, with the SSH key of its machines, to another computer: a file that nobody else may read."""
    from orchestrator.transport import owners
    from orchestrator.world.home import Home

    home = Home.find()
    home.make()
    if way is Way.EXPORT:
        name = home.owner()
        owners.write(file, home.path, name)
        said = f"{file} holds the owner {name} and its private key: whoever has it opens your machines"
    else:
        name = owners.read(file, home.path)
        said = f"this GPUPLAN_HOME is of the owner {name} now; delete {file} where it is needed no more"
    if json:
        print_json({"owner": name, "file": str(file)})
        return
    say(said)
