"""From YAML files to a checked plan. Every mistake is told with file, line, column and what to do about it."""

from orchestrator.config.load import load_file, load_plan, read_budget
from orchestrator.config.problems import ConfigErrors
from orchestrator.config.schema import schema
from orchestrator.config.sources import SHIPPED, find_plan, is_shipped

__all__ = ["SHIPPED", "ConfigErrors", "find_plan", "is_shipped", "load_file", "load_plan", "read_budget", "schema"]
