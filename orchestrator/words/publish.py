"""What a plan says of publishing its results: to which repository of somebody else's, which files, which words."""

from __future__ import annotations

from pydantic import Field

from orchestrator.words.value import Value


class PublishedFile(Value):
    """A file of the branch, or several: exactly one of `artifact` and `code` is set."""

    artifact: str | None = None  # path in the workspace
    code: str | None = None  # glob
    to: str = ""  # path in the repository; of code a folder


class PublishedModel(Value):
    """A repository on the model hub, and what of the run is uploaded there."""

    artifacts: tuple[str, ...]  # paths in the workspace
    repo: str  # OWNER/NAME; NAME alone is one of whoever publishes
    card: str  # file beside the plan
    base_model: str
    license: str


class Publish(Value):
    """The section `publish` of gpuplan.yaml: nothing of it happens in a run, `gpuplan publish` asks first."""

    upstream: str
    base: str
    branch: str
    title: str = Field(max_length=200)
    files: tuple[PublishedFile, ...]
    pull_request: str  # file beside the plan
    announcement: str = ""  # file beside the plan; "": none
    models: tuple[PublishedModel, ...] = ()

    def texts(self) -> dict[str, str]:
        """The files of its texts, by the key that names each."""
        cards = {f"models.{number}.card": model.card for number, model in enumerate(self.models)}
        words = {"pull_request": self.pull_request, "announcement": self.announcement, **cards}
        return {key: file for key, file in words.items() if file}
