"""From a request to what is to be generated."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dllama_glm.api.errors import ApiError, wrong
from dllama_glm.api.fields import Fields
from dllama_glm.cli.session import Session
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Limits, Run
from dllama_glm.runtime.sampler import Sampler

_MOST = (1 << 31) - 1


@dataclass(frozen=True)
class Ask:
    """One generation that a client asks for. `usage`: whether a stream ends with what was used."""

    ids: list[int]
    sampler: Sampler
    limits: Limits
    stops: list[str]
    stream: bool
    usage: bool
    run: Run = field(default_factory=lambda: Run(prompt_tokens=0))


class Asks:
    """Reads requests; what one does not say is as the server's command line has it."""

    def __init__(self, session: Session, options: argparse.Namespace, variables: Mapping[str, Any]) -> None:
        self._session = session
        self._options = options
        self._variables = variables

    def chat(self, body: Any) -> Ask:
        """Read a request for `/v1/chat/completions`. Raises ApiError."""
        fields = Fields(body)
        messages = fields.messages()
        variables = {**self._variables, **fields.thinking()}
        special = self._options.special_in_messages
        try:
            ids = self._session.tokenizer.chat_prompt(messages, special_in_messages=special, **variables)
        except TokenizerError as error:
            raise wrong("messages", str(error)) from None
        return self._ask(fields, ids, "messages")

    def completion(self, body: Any) -> Ask:
        """Read a request for `/v1/completions`: a raw prompt, as `dllama inference` takes it. Raises ApiError."""
        fields = Fields(body)
        prompt = fields.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, list) and prompt and all(type(token_id) is int and token_id >= 0 for token_id in prompt):
            return self._ask(fields, prompt, "prompt")
        if not isinstance(prompt, str):
            raise wrong("prompt", "is neither one text nor one list of token ids")
        try:
            return self._ask(fields, self._session.tokenizer.prompt_ids(prompt), "prompt")
        except TokenizerError as error:
            raise wrong("prompt", str(error)) from None

    def _ask(self, fields: Fields, ids: list[int], param: str) -> Ask:
        session, options = self._session, self._options
        try:
            session.runnable(ids)
        except UsageError as error:
            raise wrong(param, str(error)) from None
        room = session.max_seq_len - len(ids) + 1
        if not ids or room < 1:
            many = f"has {len(ids)} tokens, and the context has room for {session.max_seq_len}"
            raise wrong(param, many if ids else "has no tokens", "context_length_exceeded" if ids else None)
        stream_options = fields.get("stream_options") or {}
        if not isinstance(stream_options, dict):
            raise wrong("stream_options", "is not an object")
        return Ask(
            ids=ids,
            sampler=self._sampler(fields),
            limits=Limits(
                min(self._max_tokens(fields), options.max_tokens or room, room),
                session.max_seq_len,
                frozenset(session.tokenizer.eos_ids),
            ),
            stops=fields.texts("stop", options.stop),
            stream=fields.flag("stream", default=False),
            usage=Fields(stream_options).flag("include_usage", default=False),
        )

    @staticmethod
    def _max_tokens(fields: Fields) -> int:
        older = fields.whole("max_tokens", _MOST, 1, _MOST)
        return fields.whole("max_completion_tokens", older, 1, _MOST) or _MOST

    def _sampler(self, fields: Fields) -> Sampler:
        options = self._options
        topp = fields.number("top_p", options.topp, 0, 1)
        if topp == 0:  # what some clients send for "the best token only"
            raise wrong("top_p", "is 0: for the best token only ask for temperature 0")
        return Sampler(
            self._session.n_tokens,
            fields.number("temperature", options.temperature, 0, 100),
            topp,
            fields.whole("seed", options.seed, 0, (1 << 64) - 1),
            topk=fields.whole("top_k", options.top_k, 0, _MOST) or 0,
            minp=fields.number("min_p", options.min_p, 0, 1),
            never=self._session.tokenizer.holes,
        )


def busy(seconds: int) -> ApiError:
    """Return the error of a server that has enough to do; `seconds` is when to try again."""
    return ApiError(
        429,
        f"The server has as many requests as it takes at once: try again in {seconds} s.",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(seconds)},
    )
