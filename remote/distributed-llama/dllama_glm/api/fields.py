"""The fields of a request, each checked before anything is done with it."""

from typing import Any

from dllama_glm.api.errors import wrong

MOST_STOPS = 16
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

# What OpenAI's API knows and this one does not do, with the values that ask for nothing.
_NOT_DONE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class Fields:
    """A request's JSON object; fields that nobody here knows are left alone, as clients send many."""

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise wrong("body", "is not a JSON object")
        self._body = body
        for name, harmless in _NOT_DONE.items():
            value = body.get(name)
            if value is not None and value not in harmless:
                raise wrong(name, "is not supported by this server", "unsupported_parameter")

    def get(self, name: str) -> Any:
        """Return a field as it is; None where it is missing."""
        return self._body.get(name)

    def flag(self, name: str, default: bool) -> bool:  # noqa: FBT001
        """Return true or false."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong(name, f"is {value!r}, not true or false")
        return default if value is None else value

    def whole(self, name: str, default: int | None, lowest: int, highest: int) -> int | None:
        """Return a whole number within bounds."""
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise wrong(name, f"is not a whole number from {lowest} to {highest}")
        return value

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        """Return a number within bounds."""
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            raise wrong(name, f"is not a number from {lowest:g} to {highest:g}")
        return float(value)

    def texts(self, name: str, default: list[str]) -> list[str]:
        """Return a text or a list of them as a list."""
        value = self._body.get(name)
        if value is None:
            return default
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise wrong(name, "is neither a text nor a list of texts")
        if len(texts) > MOST_STOPS:
            raise wrong(name, f"holds more than {MOST_STOPS} texts")
        return texts

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation: role and text of each message."""
        messages = self._body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise wrong("messages", "is not a list with at least one message")
        return [_message(message, f"messages[{at}]") for at, message in enumerate(messages)]

    def thinking(self) -> dict[str, bool]:
        """Return what `chat_template_kwargs` tells the template: enable_thinking, or nothing."""
        values = self._body.get("chat_template_kwargs") or {}
        if not isinstance(values, dict) or not values.keys() <= {"enable_thinking"}:
            raise wrong("chat_template_kwargs", "may hold enable_thinking only")
        if not all(isinstance(value, bool) for value in values.values()):
            raise wrong("chat_template_kwargs", "enable_thinking is not true or false")
        return values


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict) or str(message.get("role")) not in _ROLES:
        raise wrong(where, f"is no object with a role of {', '.join(_ROLES)}")
    if message.get("tool_calls"):
        raise wrong(where, "tool_calls are not supported by this server", "unsupported_parameter")
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise wrong(where, "its content is neither text nor a list of parts of type text")
    return {"role": _ROLES[message["role"]], "content": "".join(part["text"] for part in parts)}
