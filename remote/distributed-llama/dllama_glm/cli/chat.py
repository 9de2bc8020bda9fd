"""`dllama chat`: answer messages in the model's own chat format."""

import argparse
import io
import sys
from typing import Any

from dllama_glm.cli.session import Session, open_session
from dllama_glm.cli.text import Writer, document, limits_of, print_json, prompt_of, publish_run, sampler_of, write_text
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Run, check_prompt
from dllama_glm.runtime.machine import note

Message = dict[str, str]

ROOM = 4  # one position in so many is kept free for the answer, as long as there are older turns to drop


def run(options: argparse.Namespace) -> None:
    """Answer one message, or hold a conversation with stdin."""
    prompt = prompt_of(options)
    if prompt is None and options.json:
        raise UsageError('With --json give one message: --prompt "...".')
    with open_session(options) as session:
        conversation = Conversation(session, options)
        if prompt is None:
            _converse(conversation)
            return
        text, generation = conversation.answer(prompt)
        publish_run(session, generation)
    if options.json:
        print_json(document(session, prompt, text, generation, conversation.sampler))


def template_variables(options: argparse.Namespace, session: Session) -> dict[str, Any]:
    """Return what the options tell the chat template; a template that does not listen to it gets a note."""
    if options.thinking is None:
        return {}
    if "enable_thinking" not in (session.tokenizer.chat_template or ""):
        note(f"--thinking {options.thinking} changes nothing: this model's chat template knows no enable_thinking")
    return {"enable_thinking": options.thinking == "on"}


class Conversation:
    """Messages so far; where they outgrow the context, the oldest turns are dropped."""

    def __init__(self, session: Session, options: argparse.Namespace) -> None:
        self._session = session
        self._options = options
        self._writer = Writer(session)
        self._variables = template_variables(options, session)
        self._system: list[Message] = [{"role": "system", "content": options.system}] if options.system else []
        self._turns: list[tuple[Message, Message]] = []
        self.sampler = sampler_of(options, session)

    def answer(self, text: str) -> tuple[str, Run]:
        """Answer one message of the user; what the cache holds of the conversation is not read again."""
        message = {"role": "user", "content": text}
        turns, ids = self._fitting(message)
        limits = limits_of(self._options, self._session, len(ids))
        show = not self._options.json
        reply, run = write_text(self._writer, self.sampler, ids, limits, self._options.stop, show=show)
        self._turns = [*turns, (message, {"role": "assistant", "content": reply})]
        return reply, run

    def _fitting(self, message: Message) -> tuple[list[tuple[Message, Message]], list[int]]:
        """Return the newest turns that leave room for an answer, and the ids of the conversation with them."""
        room = self._session.max_seq_len - self._session.max_seq_len // ROOM
        for dropped in range(len(self._turns) + 1):
            turns = self._turns[dropped:]
            ids = self._ids([*self._system, *(part for turn in turns for part in turn), message])
            if len(ids) <= room:
                break
        check_prompt(ids, 0, self._session.max_seq_len)
        if dropped:
            note(
                f"the conversation has outgrown the context of {self._session.max_seq_len} tokens: "
                f"the oldest {dropped} of its turns are forgotten"
            )
        return turns, ids

    def _ids(self, messages: list[Message]) -> list[int]:
        special = self._options.special_in_messages
        tokenizer = self._session.tokenizer
        return self._session.runnable(tokenizer.chat_prompt(messages, special_in_messages=special, **self._variables))


def _converse(conversation: Conversation) -> None:
    """Answer line after line; one that cannot be answered is refused, and the conversation goes on."""
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
            except UsageError as error:
                note(f"not read: {error}")
