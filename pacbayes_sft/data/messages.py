"""Conversational rows: messages up to the one assistant turn that is trained on and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


def conversation(record: dict[str, Any], where: str) -> tuple[Message, ...] | None:
    """Take the conversation out of a record; None if the record is not conversational.

    Either ``messages``, or ``prompt`` and ``completion`` as lists of messages (TRL's convention).

    Raises:
        InputError: If it is no conversation that ends in its one assistant turn.
    """
    if "messages" in record:
        messages = record.pop("messages")
        if "prompt" in record or "completion" in record:
            raise InputError(f"{where}: holds 'messages' and 'prompt' or 'completion'; keep one")
    elif isinstance(record.get("prompt"), list) and isinstance(record.get("completion"), list):
        messages = record.pop("prompt") + record.pop("completion")
    else:
        return None
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise InputError(
            f"{where}: the conversation must be a list of {{'role': ..., 'content': ...}} with "
            "strings in both"
        )
    turns = [m["role"] for m in messages].count("assistant")
    if turns != 1 or messages[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: {turns} assistant turns; a row must end in its only one, the one that is "
            "judged (split the conversation into a row a turn and give them one 'unit')"
        )
    return tuple({"role": m["role"], "content": m["content"]} for m in messages)


def as_text(messages: tuple[Message, ...]) -> str:
    """Render messages without any tokenizer, for hashes, views and the eye."""
    return "".join(f"{m['role']}: {m['content']}\n" for m in messages)


def template_ids(
    messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, *, ask: bool
) -> list[int]:
    """Return token ids through the tokenizer's chat template, as TRL's `SFTTrainer` makes them.

    Args:
        messages: The conversation, or its part before the assistant's turn.
        tokenizer: The base's tokenizer.
        ask: Whether to end in the template's generation prompt.

    Raises:
        InputError: If the tokenizer has no chat template, or its template refuses the roles.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the rows are conversations, but this tokenizer has no chat "
            "template; use the instruction-tuned base, or rows with prompt and completion strings"
        )
    try:
        made: Any = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=ask, tokenize=True, return_dict=True
        )
    except Exception as error:
        raise InputError(
            f"{tokenizer.name_or_path}: its chat template refuses a row ({error})"
        ) from None
    return list(made["input_ids"])


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )
