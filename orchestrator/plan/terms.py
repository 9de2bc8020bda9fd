"""What a plan that somebody else may have written would do with what is the user's: shown, and agreed to, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from orchestrator.plan.resolve import PhaseRun
from orchestrator.words.model import Input, Plan
from orchestrator.words.publish import Publish
from orchestrator.words.store_url import read_place

# Apprise's schemes in which the host is one, and no token.
WITH_HOSTS = frozenset(
    {"json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "ntfys", "gotify", "gotifys"}
)


def is_foreign(plan: Plan) -> bool:
    """Whether anything of it was read from a folder, and so may be another's."""
    return bool(plan.folder or plan.read)


def terms(plan: Plan, phases: Sequence[PhaseRun], stores: Sequence[str]) -> list[str]:
    """Lines that say everything of it that matters to whoever runs it: commands in full, secrets and who gets them."""
    steps = [step for phase in phases for step in phase.steps]
    lines = [f"commands: {len(steps)}"]
    for step in steps:
        for kind, text in (("", step.step.run), (" on_oom", step.step.on_oom), (" builtin", step.step.builtin)):
            if text:
                lines += [f"  {step.id}{kind}:", *(f"    {line}" for line in text.splitlines())]
    lines += _secrets(phases, plan.settings.hub_url)
    fetched = [(s, one) for s in steps for one in s.inputs]
    lines += [f"{_reads(one)}: {one.source}, into {one.to} of {s.phase}" for s, one in fetched]
    lines += [f"sends to: {url}{_with_what(url)}" for url in stores]
    lines += [f"tells how it goes: {_masked(address)}" for address in plan.settings.notify]
    for phase in phases:
        if phase.phase.machine.image:
            lines.append(f"image of {phase.phase.name}: {phase.phase.machine.image}")
        if phase.phase.pull_to:
            lines.append(f"writes here: {phase.phase.pull_to} ({', '.join(phase.phase.artifacts)})")
        if stores:
            lines += [f"packs: {folder} of {phase.phase.name} as {folder}.tar" for folder in phase.phase.pack]
    lines += [f"image at {name}: {image}" for name, image in sorted(plan.settings.images.items())]
    lines += [f"image at {name}, without GPU: {image}" for name, image in sorted(plan.settings.cpu_images.items())]
    settings = plan.settings
    if settings.setup:
        lines += ["setup of every machine:", *(f"    {line}" for line in settings.setup.splitlines())]
    if settings.code:
        lines.append(f"code that goes to the machines: {settings.code}")
    lines += [f"packages from: {name}" for name in (*settings.requirements, *settings.requirements_gpu)]
    return lines + (_published(settings.publish) if settings.publish else [])


def _reads(one: Input) -> str:
    """How an input is fetched: what a store of the user's gives, or what anybody gets."""
    return "fetches" if one.source.startswith("https:") else "reads with your credentials"


def sent_to(url: str) -> str:
    """The line that is agreed to before anything is signed for a store that a plan brings the address of; "": none."""
    place = read_place(url)
    return f"signs with your credentials for: {place.endpoint_url}" if place.endpoint_url else ""


def _with_what(url: str) -> str:
    return ", where requests are signed with your AWS_ACCESS_KEY_ID" if sent_to(url) else ""


def digest(lines: Sequence[str]) -> str:
    """What stands for these very lines."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _masked(address: str) -> str:
    """An address of apprise's without what may be a token in it; its digest tells it from others."""
    scheme, there, rest = address.partition("://")
    if not there:
        return f"the address in {address}"
    host = urlsplit(address).hostname if scheme in WITH_HOSTS else ""
    return f"{scheme}://{host or '***'} ({digest([rest])[:8]})"


def _published(publish: Publish) -> list[str]:
    """What `gpuplan publish` would offer to strangers, were it asked to; nothing of it happens in a run."""
    what = ", ".join(file.artifact or f"code {file.code}" for file in publish.files)
    lines = [f"publish would offer: {what} as {publish.branch} to {publish.upstream}"]
    return lines + [f"publish would upload: {', '.join(one.artifacts)} to {one.repo}" for one in publish.models]


def _secrets(phases: Sequence[PhaseRun], hub: str) -> list[str]:
    users: dict[str, list[str]] = {}
    for phase in phases:
        for step in phase.steps:
            for name in step.secrets:
                users.setdefault(name, []).append(step.id)
    lines = [f"secret {name}: of your environment, for {', '.join(ids)}" for name, ids in sorted(users.items())]
    repos = sorted({step.step.hub.repo for phase in phases for step in phase.steps if step.step.hub})
    if repos:
        token = ", with HF_TOKEN" if "HF_TOKEN" in users else ""
        lines.append(f"asks {urlsplit(hub).netloc} for {', '.join(repos)}{token}")
    return lines or ["secrets: none"]
