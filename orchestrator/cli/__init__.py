"""The command line: `gpuplan = orchestrator.cli:main`. Only typer is imported before a command runs."""

from orchestrator.cli.app import main

__all__ = ["main"]
