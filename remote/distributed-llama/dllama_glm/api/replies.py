"""What a client gets: the documents of OpenAI's API, whole or in chunks."""

import time
import uuid
from typing import Any

from dllama_glm.runtime.generate import Run


class Reply:
    """The reply to one request for `/v1/completions`."""

    _object = "text_completion"
    _chunk = "text_completion"
    _prefix = "cmpl-"

    def __init__(self, model: str) -> None:
        self._head = {"id": self._prefix + uuid.uuid4().hex, "created": int(time.time()), "model": model}

    def whole(self, text: str, run: Run) -> dict[str, Any]:
        """Return the reply as one document."""
        choice = {"index": 0, **self._text(text), "logprobs": None, "finish_reason": _finish(run)}
        return {**self._head, "object": self._object, "choices": [choice], "usage": _usage(run)}

    def opening(self) -> list[dict[str, Any]]:
        """Return the chunks in front of the first text."""
        return []

    def piece(self, text: str) -> dict[str, Any]:
        """Return the chunk with a piece of the text."""
        return self._of(self._delta(text), None)

    def closing(self, run: Run, *, usage: bool) -> list[dict[str, Any]]:
        """Return the chunks behind the last text."""
        ends = [self._of(self._delta(""), _finish(run))]
        if usage:
            ends.append({**self._head, "object": self._chunk, "choices": [], "usage": _usage(run)})
        return ends

    def _of(self, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, **delta, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": self._chunk, "choices": [choice]}

    def _text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"text": text}


class ChatReply(Reply):
    """The reply to one request for `/v1/chat/completions`."""

    _object = "chat.completion"
    _chunk = "chat.completion.chunk"
    _prefix = "chatcmpl-"

    def opening(self) -> list[dict[str, Any]]:
        """Return the chunk that says who speaks."""
        return [self._of({"delta": {"role": "assistant", "content": ""}}, None)]

    def _text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


def model_document(name: str, created: int) -> dict[str, Any]:
    """Return what `/v1/models` says of a model."""
    return {"id": name, "object": "model", "created": created, "owned_by": "dllama"}


def _finish(run: Run) -> str:
    return "length" if run.stop_id is None and run.stop_text is None else "stop"


def _usage(run: Run) -> dict[str, Any]:
    prompt = run.cached_tokens + run.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": len(run.ids),
        "total_tokens": prompt + len(run.ids),
        "prompt_tokens_details": {"cached_tokens": run.cached_tokens},
    }
