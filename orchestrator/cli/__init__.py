"""The command line: `gpuplan = orchestrator.cli:main`. Only typer is imported before a command runs."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; on a system without POSIX's file locks say so, with exit code 2."""
    if find_spec("fcntl") is None:
        from orchestrator.report.console import say

        say("gpuplan: this Python has no fcntl: gpuplan needs Linux, WSL or macOS", err=True)
        say("  on Windows: wsl --install, then install and run gpuplan within it", err=True)
        sys.exit(2)
    from orchestrator.cli.app import main as run

    run()


__all__ = ["main"]
