"""What a hub's refusal means, and what to do about it."""

import urllib.error

from dllama_glm.convert.errors import HubError

_WORDS = 200


def refusal(endpoint: str, address: str, error: urllib.error.HTTPError, token: str | None) -> HubError:
    """An error in words; the token never appears in it."""
    words = error.headers.get("X-Error-Message") or error.reason or ""
    if token:
        words = words.replace(token, "***")
    said = f"{endpoint}{address}: answered {error.code}: {words[:_WORDS]}"
    if error.headers.get("X-Error-Code") == "GatedRepo" or error.code == 403:
        if token:
            return HubError(f"{said}; the account behind HF_TOKEN has no access: ask for it on the model's page")
        return HubError(f"{said}; the model is gated: accept its terms on its page, then export HF_TOKEN")
    if error.code == 401 and token:
        return HubError(f"{said}; HF_TOKEN is not known there, or the model does not exist")
    if error.code == 401:
        return HubError(f"{said}; the model is private or does not exist: see its name, or export HF_TOKEN")
    if error.code == 404:
        return HubError(f"{said}; see whether name and revision are right: hf://OWNER/NAME@REVISION")
    return HubError(said)
