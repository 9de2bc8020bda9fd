"""What a plan says of publishing its results: to which repository of somebody else's, which files, which words."""

from __future__ import annotations

from pydantic import Field

from orchestrator.words.value import Value


class PublishedFile(Value):
    """A file of the branch, or several: exactly one of `artifact` and `code` is set."""

    artifact: str | None = Field(
        default=None, description="an artifact of the run, by its path in the workspace; it must have been pulled"
    )
    code: str | None = Field(default=None, description="glob of the run's code files; ** is all of them")
    to: str = Field(
        default="",
        description="path in the repository; left out: of an artifact its own name. For code, the folder that the "
        "files are laid into; left out: the top",
    )


class PublishedModel(Value):
    """A repository on the model hub, and what of the run is uploaded there."""

    artifacts: tuple[str, ...] = Field(
        description="artifacts of the run, by their paths in the workspace; on the hub by their last names"
    )
    repo: str = Field(description="OWNER/NAME on the hub; NAME alone is one of whoever publishes")
    card: str = Field(description="file beside the plan: the model card's text, with placeholders")
    base_model: str = Field(description="OWNER/NAME of the model that it was made from")
    license: str = Field(description="licence of what is uploaded, as the hub names it")


class Publish(Value):
    """The section `publish` of gpuplan.yaml: nothing of it happens in a run, `gpuplan publish` asks first."""

    upstream: str = Field(description="https://github.com/OWNER/REPO that the pull request goes to")
    base: str = Field(description="branch, tag or commit of upstream that the branch begins at")
    branch: str = Field(description="name of the branch")
    title: str = Field(max_length=200, description="of the commit and of the pull request")
    files: tuple[PublishedFile, ...] = Field(description="what the branch has beside upstream's files")
    pull_request: str = Field(description="file beside the plan: the pull request's text, with placeholders")
    announcement: str = Field(
        default="", description="file beside the plan: a text to post by hand, with placeholders; none: nothing"
    )
    models: tuple[PublishedModel, ...] = Field(default=(), description="what is uploaded to the model hub")

    def texts(self) -> dict[str, str]:
        """The files of its texts, by the key that names each."""
        cards = {f"models.{number}.card": model.card for number, model in enumerate(self.models)}
        words = {"pull_request": self.pull_request, "announcement": self.announcement, **cards}
        return {key: file for key, file in words.items() if file}
