"""Everything the data allow about one pair of files: the sharpest interval, and why no sharper.

Which methods run is settled by what the files have, before any number is seen, so their δ's are
equal shares of one δ and all of them hold together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from estimators import Estimate, Sharpest, sharpest
from pacbayes_sft.choices import Duplicates, Features, View
from pacbayes_sft.data.contamination import Contamination, contamination
from pacbayes_sft.data.leaks import Leak, leaks
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.asked import Asked
from pacbayes_sft.shift.cautions import of_assumption, of_files, of_samples
from pacbayes_sft.shift.differs import Carrier, differs
from pacbayes_sft.shift.disjoint import disjoint_by, said_disjoint
from pacbayes_sft.shift.findings import (
    CONDITIONS,
    COPIES,
    UNSEEN_BY_BASE,
    Finding,
    by_classifier,
    by_columns,
    by_method,
    by_mixture,
)
from pacbayes_sft.shift.gamma import gamma_pair, gamma_record
from pacbayes_sft.shift.identical import laws_differ, nothing_differs, same_rows
from pacbayes_sft.shift.methods import (
    KNOWN,
    RESERVED,
    TRIVIAL,
    enough_units,
    laws_are_known,
    method_for,
)
from pacbayes_sft.shift.term import conditions_of_units, groups_of, refuse_shared_draws
from pacbayes_sft.views import featurise
from pacbayes_sft.views.features import Embed
from pacbayes_sft.views.text import common_columns

MOST_ROWS = 20_000  # of both files together, up to which near duplicates are looked for unasked


@dataclass(frozen=True)
class Survey:
    """What was found out about one pair of files.

    Attributes:
        train: The training rows.
        test: The test rows.
        delta: Probability with which all limits of the findings together may fail.
        best: The sharpest interval.
        findings: Every number, each at its share of δ.
        contamination: Rows that read alike, if they were looked for.
        leaks: What marks a row's side without any shift.
        disjoint: What does not overlap, in sentences.
        carriers: What differs.
        profile: (D⁺, TV) of the difficulty, for the bound against γ; None without one number a
            unit. Outside of what the findings share: see `gamma`.
        warnings: What is odd, and what it costs.
    """

    train: Table
    test: Table
    delta: float
    best: Sharpest
    findings: tuple[Finding, ...]
    contamination: Contamination | None
    leaks: tuple[Leak, ...]
    disjoint: tuple[str, ...]
    carriers: tuple[Carrier, ...]
    profile: tuple[Estimate, Estimate] | None
    warnings: tuple[str, ...]

    @property
    def view(self) -> str:
        """The view of the interval's own limits, upper first."""
        names = {_name(f): f.view for f in self.findings}
        chosen = self.best.upper_from or self.best.lower_from
        return names[chosen] if chosen in names else self.findings[0].view

    @property
    def leading(self) -> Finding:
        """The finding behind the interval, or the first."""
        chosen = self.best.upper_from or self.best.lower_from
        return next((f for f in self.findings if _name(f) == chosen), self.findings[0])

    @property
    def floor(self) -> tuple[float, float, float] | None:
        """What a two-sample test can see: see `Finding`; None without one."""
        found = [
            (*f.detection_floor, f.certificate_floor)
            for f in (self.leading, *self.findings)
            if f.detection_floor and f.certificate_floor is not None
        ]
        if not found:
            return None
        return found[0] if self.leading.detection_floor else min(found)

    @property
    def p_value(self) -> float | None:
        """P-value of "both sides have one law", all views paid for; None without a test.

        Exact if units are independent and `p_value_assumes` holds.
        """
        found = [f.p_value for f in self.findings if f.p_value is not None]
        return min(1.0, len(found) * min(found)) if found else None

    @property
    def p_value_assumes(self) -> tuple[str, ...]:
        """What the p-value rests on beside independent units; the lower limits do too."""
        sentences = (s for f in self.findings if f.p_value is not None for s in f.tv.assumptions)
        return tuple(dict.fromkeys(s for s in sentences if s in CONDITIONS))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        floor = self.floor
        return {
            "tv": self.best.tv.to_dict(),
            "view": self.view,
            "rows": self.leading.rows,
            "detection_floor": floor[0] if floor else None,
            "detection_floor_80": floor[1] if floor else None,
            "certificate_floor_80": floor[2] if floor else None,
            "p_value": self.p_value,
            "p_value_assumes": list(self.p_value_assumes),
            "reason": ". ".join(self.best.reasons),
            "refuted": self.best.refuted,
            "findings": [f.to_dict() for f in self.findings],
            "contamination": self.contamination.to_dict() if self.contamination else None,
            "leaks": [leak.sentence for leak in self.leaks],
            "disjoint": list(self.disjoint),
            "differs": [c.to_dict() for c in self.carriers],
            "against_gamma": gamma_record(self.profile, self.delta) if self.profile else None,
            "warnings": list(self.warnings),
        }


def survey(train: Table, test: Table, delta: float = 0.05, asked: Asked | None = None) -> Survey:
    """Find out what the data allow about TV(D_test, D_train).

    Args:
        train: Training rows.
        test: Test rows.
        delta: Probability with which all limits together may fail.
        asked: What to look at; see `Asked`.

    Raises:
        InputError: If something that was asked for by name cannot be had.
    """
    asked = asked or Asked()
    found_leaks = leaks(train, test)
    named = {leak.where for leak in found_leaks if leak.column}
    columns = asked.columns
    if columns is None:
        columns = tuple(c for c in common_columns(train, test) if c not in named)
    _refuse_missing(train, test, columns)
    for column in asked.attributes or ():
        _check_attribute(train, test, column)
    looked_at = {*columns, *(asked.attributes or ())}
    same = (
        asked.foreign is None
        and same_rows(train, test, sorted(looked_at))
        and not laws_differ(train, test)
    )
    alike = None if same else _alike(train, test, asked)
    warnings = [leak.sentence for leak in found_leaks]
    warnings += list(alike.effects.values()) if alike else []
    warnings += of_files(train, test)
    if same:
        findings, best = nothing_differs(train, test, delta)
    else:
        refuse_shared_draws(train, test)
        findings = _findings(train, test, columns, alike, delta, asked)
        conditional = [_name(f) for f in findings if {*CONDITIONS} & {*f.tv.assumptions}]
        best = sharpest({_name(f): f.tv for f in findings}, conditional)
        warnings += of_samples(train, test, best.tv)
        warnings += of_assumption(findings, best.tv, asked=asked.attributes is not None)
    profile = None
    if best.refuted is None and _rests_on_difficulty(train, test, asked):
        try:
            profile = gamma_pair(train, test, delta)
        except InputError as error:
            warnings.append(f"no bound against γ is drawn: {error}")
    if alike is None and not same and asked.duplicates is not Duplicates.OFF:
        warnings.append(
            f"near duplicates were not looked for among more than {MOST_ROWS:,} rows; "
            "--duplicates group looks for them and keeps each cluster whole"
        )
    return Survey(
        train,
        test,
        delta,
        best,
        tuple(findings),
        alike,
        tuple(found_leaks),
        tuple(said_disjoint([] if same else disjoint_by(train, test, columns, delta), findings)),
        tuple(differs(train, test, columns)),
        profile,
        tuple(warnings),
    )


def _findings(
    train: Table,
    test: Table,
    columns: tuple[str, ...],
    alike: Contamination | None,
    delta: float,
    asked: Asked,
) -> list[Finding]:
    """Run what there is; each that spends δ gets an equal share."""
    known = laws_are_known(train, test) and asked.attributes is None and asked.views is None
    work: list[Callable[[float], Finding]] = []
    if columns_named := _attribute_columns(train, test, asked, known):
        work.append(partial(by_columns, train, test, columns_named))
    if asked.foreign is not None:
        work.append(partial(by_mixture, test, asked.foreign))
    if not known or asked.texts_too:
        work += _views(train, test, columns, alike, asked)
    found = [by_method(train, test, KNOWN, delta)] if known else []
    found += [run(delta / len(work)) for run in work]
    return found or [by_method(train, test, TRIVIAL, delta)]


def _rests_on_difficulty(train: Table, test: Table, asked: Asked) -> bool:
    """Whether it may be said, as asked or unasked, that only the difficulty shifts."""
    if asked.attributes is not None:
        return asked.attributes == ("difficulty",)
    if asked.views or asked.foreign is not None:
        return False
    return laws_are_known(train, test, "difficulty") or not laws_are_known(train, test)


def _attribute_columns(train: Table, test: Table, asked: Asked, known: bool) -> tuple[str, ...]:
    if asked.attributes is not None:
        return asked.attributes
    if known or asked.foreign is not None:
        return ()
    return ("difficulty",) if train.has("difficulty") and test.has("difficulty") else ()


def _check_attribute(train: Table, test: Table, column: str) -> None:
    if column in RESERVED:
        raise InputError(f"--attribute {column}: a word of --shift, not a column")
    method_for(train, test, column)  # refuses what is no column of both


def _views(
    train: Table,
    test: Table,
    columns: tuple[str, ...],
    alike: Contamination | None,
    asked: Asked,
) -> list[Callable[[float], Finding]]:
    views = asked.views
    if views is None:
        if not enough_units(train, test):
            return []
        views = (View.PROMPT, View.FULL, *((View.ATTRIBUTES,) if columns else ()))
    grouped = alike is not None and asked.duplicates is Duplicates.GROUP
    groups: Sequence[str]
    if grouped and alike is not None:
        groups = [*alike.train_groups, *alike.test_groups]
    else:
        groups = [*groups_of(train, "train"), *groups_of(test, "test")]
    hidden = _hidden(asked)
    pairs: list[tuple[View, Features | Embed]]
    pairs = [(v, f) for v in views if v is not View.ATTRIBUTES for f in asked.features]
    pairs += [(v, Features.DEFAULT) for v in views if v is View.ATTRIBUTES]
    assumes = (*((COPIES,) if grouped else ()), *conditions_of_units(train, test))
    return [
        partial(
            _classify,
            partial(
                featurise, train.rows, test.rows, view, features,
                columns=columns, hidden=hidden, seed=asked.seed,
            ),
            groups=groups,
            assumes=(*assumes, UNSEEN_BY_BASE) if features is Features.HIDDEN else assumes,
            asked=asked,
            where=f"{train.source}, {test.source}",
        )
        for view, features in pairs
    ]  # fmt: skip


def _classify(
    make: Callable[[], Any],
    share: float,
    *,
    groups: Sequence[str],
    assumes: Sequence[str],
    asked: Asked,
    where: str,
) -> Finding:
    return by_classifier(
        make, share, groups, assumes=assumes, prequential=asked.prequential, seed=asked.seed,
        where=where,
    )  # fmt: skip


def _hidden(asked: Asked) -> Embed | None:
    if Features.HIDDEN not in asked.features:
        return None
    if asked.base is None:
        raise InputError("--features hidden needs --base, the model whose hidden states they are")
    from pacbayes_sft.views.hidden import hidden_embedding

    return hidden_embedding(
        asked.base, cache=asked.cache, device=asked.device, batch_size=asked.batch_size
    )


def _alike(train: Table, test: Table, asked: Asked) -> Contamination | None:
    many = len(train.rows) + len(test.rows) > MOST_ROWS
    if asked.duplicates is Duplicates.OFF or (many and asked.duplicates is Duplicates.COUNT):
        return None
    return contamination(train, test)


def _refuse_missing(train: Table, test: Table, columns: Sequence[str]) -> None:
    for table in (train, test):
        for column in columns:
            if not table.has(column):
                there = ", ".join(common_columns(train, test)) or "none"
                raise InputError(
                    f"{table.source}: not every row has a value in the column {column!r}; columns "
                    f"that both files have: {there}"
                )


def _name(finding: Finding) -> str:
    return f"{finding.view}: {finding.method}"
