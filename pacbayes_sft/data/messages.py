"""Conversational rows: messages up to the one assistant turn that is trained on and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

# TRL would hand these to the template; left out, the tokens judged were not those trained on.
_TEMPLATE_INPUTS = ("tools", "chat_template_kwargs")


def conversation(record: dict[str, Any], where: str) -> tuple[Message, ...] | None:
    """Take the conversation out of a record; None if the record is not conversational.

    Either ``messages`` with one assistant turn, at the end, or ``prompt`` and ``completion`` as
    lists of messages (TRL's convention), where the prompt may hold earlier assistant turns.

    Raises:
        InputError: If it does not end in the one assistant turn that is to be judged, or holds
            what a template could render and this would leave out.
    """
    for column in ("messages", "prompt", "completion"):
        if hasattr(record.get(column), "tolist"):  # Parquet gives arrays
            record[column] = record[column].tolist()
    messages = record.pop("messages", None)
    prompt, completion = record.get("prompt"), record.get("completion")
    if messages is not None:
        if prompt is not None or completion is not None:
            raise InputError(f"{where}: holds 'messages' and 'prompt' or 'completion'; keep one")
        prompt, completion = _split(_checked(messages, where), where)
    elif isinstance(prompt, list) and isinstance(completion, list):
        prompt, completion = _checked(prompt, where), _checked(completion, where)
    elif isinstance(prompt, list) or isinstance(completion, list):
        raise InputError(
            f"{where}: 'prompt' and 'completion' must both be strings or both be lists of messages"
        )
    else:
        return None
    if [m["role"] for m in completion] != ["assistant"]:
        raise InputError(f"{where}: the completion must be one message, the assistant's")
    if not prompt:
        raise InputError(f"{where}: no message comes before the assistant's; there is no prompt")
    for column in _TEMPLATE_INPUTS:
        if record.get(column) is not None:
            raise InputError(
                f"{where}: the column {column!r} would change what the chat template renders, and "
                "cannot be used yet; leave such rows out, or render them into strings"
            )
    record.pop("prompt", None)
    record.pop("completion", None)
    return (*prompt, *completion)


def as_text(messages: tuple[Message, ...]) -> str:
    """Render messages without any tokenizer, for hashes, views and the eye."""
    return "".join(f"{m['role']}: {m['content']}\n" for m in messages)


def template_ids(
    messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, *, ask: bool, where: str
) -> list[int]:
    """Return token ids through the tokenizer's chat template, as TRL's `SFTTrainer` makes them.

    Args:
        messages: The conversation, or its part before the assistant's turn.
        tokenizer: The base's tokenizer.
        ask: Whether to end in the template's generation prompt.
        where: File and row, to blame.

    Raises:
        InputError: If the tokenizer has no chat template, or its template refuses the roles.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{where}: a conversation, but the tokenizer of {tokenizer.name_or_path} has no chat "
            "template; use the instruction-tuned base, or rows with prompt and completion strings"
        )
    try:
        made: Any = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=ask, tokenize=True, return_dict=True
        )
    except Exception as error:
        raise InputError(
            f"{where}: the chat template of {tokenizer.name_or_path} refuses it "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); mend its "
            "roles, or leave the row out"
        ) from None
    return list(made["input_ids"])


def _split(messages: list[Message], where: str) -> tuple[list[Message], list[Message]]:
    turns = [m["role"] for m in messages].count("assistant")
    if turns != 1 or messages[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: {turns} assistant turn{'s' * (turns != 1)}; 'messages' must end in its only "
            "one. Split the conversation so that each row ends in the one that is to be judged: "
            "'prompt' the messages before it, 'completion' that turn, one 'unit' for them all"
        )
    return messages[:-1], messages[-1:]


def _checked(messages: Any, where: str) -> list[Message]:
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise InputError(
            f"{where}: the conversation must be a list of {{'role': ..., 'content': ...}} with "
            "strings in both"
        )
    for message in messages:
        for key, value in message.items():
            if key not in ("role", "content") and value is not None:
                raise InputError(
                    f"{where}: a message holds {key!r}, which a chat template may render and this "
                    "cannot use yet; leave such rows out, or render them into strings"
                )
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )
