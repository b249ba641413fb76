"""What a user asks of a survey of the shift term."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pacbayes_sft.choices import Duplicates, Features, View
from pacbayes_sft.views.features import Embed


@dataclass(frozen=True)
class Asked:
    """What a user asks of a survey; left alone, everything that the files allow.

    Attributes:
        views: Views of the text; None: prompt, full row, and attributes where there are some.
            Recorded laws are used only where neither views nor attributes are named.
        features: As what a text is seen; a function stands for an embedding.
        attributes: Columns through which, together, alone train and test are said to differ
            (assumption i): several give TV of their joint law, for each by itself ask again. None:
            ``difficulty`` where both files have it.
        columns: The columns of the view ``attributes``; None: all that both files have.
        foreign: Column of the test rows that says which come from elsewhere.
        duplicates: What is done about rows that read alike.
        prequential: Whether each two-sample test bets too.
        texts_too: Whether texts are looked at even where laws are known.
        base: Model whose hidden states are features.
        cache: Folder for them.
        device: Device of that model.
        batch_size: Texts a forward pass.
        seed: Root of all randomness.
    """

    views: tuple[View, ...] | None = None
    features: tuple[Features | Embed, ...] = (Features.DEFAULT,)
    attributes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    foreign: str | None = None
    duplicates: Duplicates = Duplicates.COUNT
    prequential: bool = False
    texts_too: bool = False
    base: str | None = None
    cache: Path | None = None
    device: str = "cpu"
    batch_size: int = 64
    seed: int = 0
