"""`dllama chat`: answer messages in the model's own chat format."""

import argparse
import io
import sys

from dllama_glm.cli.session import Session, Unrunnable, open_session
from dllama_glm.cli.text import document, limits_of, print_json, sampler_of, write_text
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Run
from dllama_glm.runtime.machine import note

Message = dict[str, str]


def run(options: argparse.Namespace) -> None:
    """Answer --prompt, or hold a conversation with stdin."""
    if options.prompt is None and options.json:
        raise UsageError('With --json give one message: --prompt "...".')
    with open_session(options) as session:
        conversation = Conversation(session, options)
        if options.prompt is None:
            _converse(conversation)
            return
        text, generation = conversation.answer(options.prompt)
    if options.json:
        print_json(document(session, options.prompt, text, generation))


class Conversation:
    """Messages so far, and the tokens that the model's cache holds of them."""

    def __init__(self, session: Session, options: argparse.Namespace) -> None:
        self._session = session
        self._options = options
        self._sampler = sampler_of(options, session)
        self._messages: list[Message] = [{"role": "system", "content": options.system}] if options.system else []
        self._seen: list[int] = []

    def answer(self, text: str) -> tuple[str, Run]:
        """Answer one message of the user; what the cache holds of the conversation is not read again."""
        messages = [*self._messages, {"role": "user", "content": text}]
        ids: list[int] = self._session.runnable(self._session.tokenizer.chat_prompt(messages))
        start = min(_common(ids, self._seen), len(ids) - 1)
        limits = limits_of(self._options, self._session, len(ids))
        show = not self._options.json
        reply, run = write_text(self._session, self._sampler, ids, limits, show=show, start=start)
        self._messages = [*messages, {"role": "assistant", "content": reply}]
        self._seen = ids + run.ids[: run.passes]
        return reply, run


def _converse(conversation: Conversation) -> None:
    """Answer line after line; one that no tokens can be made of is refused, and the conversation goes on."""
    from dllama_glm.tokenizer.runtime import check_text

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        try:
            check_text(line)
        except TokenizerError as error:
            note(f"not read: {error}")
            continue
        if line.strip():
            try:
                conversation.answer(line.strip())
            except Unrunnable as error:
                note(f"not read: {error}")


def _common(first: list[int], second: list[int]) -> int:
    """Return how many items both lists begin with."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
