"""The records that lie in a scan's directory, of one configuration."""

from __future__ import annotations

import json
from pathlib import Path

from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.jobs import list_jobs
from pacbayes_sft.scan.measure import Record
from pacbayes_sft.scan.shape import check_drawn
from pacbayes_sft.scan.store import Store


def read_records(directory: Path, config: Path | None = None) -> list[Record]:
    """Return the records that lie in a scan's directory.

    Args:
        directory: Of the scan.
        config: Those of this configuration alone.

    Raises:
        InputError: If they are of several configurations and none is named: a mean over two records
            of one cell would be of neither; if no cell of the named one is there; or if a record
            lacks a field.
    """
    store = Store(directory)
    if config is not None:
        jobs = list_jobs(read_config(config))
        if not any(job.cell and store.has(job.key) for job in jobs):
            raise InputError(f"{config}: none of its cells is measured in {directory}")
        found = [job.of(store.get(job.key)) for job in jobs if store.has(job.key)]
        for record in found:
            check_drawn(record, f"{store.records / record['key']}.json")
        return found
    records, seen = list(store.all()), dict[str, str]()
    for record in records:
        check_drawn(record, f"{store.records / record['key']}.json")
    _refuse_mixed(records, directory)
    for record in records:
        if "cell" not in record:
            continue
        name = json.dumps(record["cell"], sort_keys=True)
        if seen.setdefault(name, record["key"]) != record["key"]:
            raise InputError(
                f"{directory}: {seen[name]} and {record['key']} are records of one cell by "
                "different configurations; name the one that is meant with --config"
            )
    return records


def _refuse_mixed(records: list[Record], directory: Path) -> None:
    """Refuse records of different configurations, even where no two are of one cell."""
    first: Record | None = None
    bases: dict[str, Record] = {}
    for record in records:
        if "cell" not in record:
            other = bases.setdefault(record["base"], record)
            told = "shared" in other and "shared" in record
            if other is not record and not told and not _alike(other, record):
                raise _mixed(directory, other, record)
        if "shared" in record:
            first = first or record
            if record["shared"] != first["shared"]:
                raise _mixed(directory, first, record)
    for record in records:  # those of old do not tell what they share, but all see one test set
        if {*record["measured"]["slices"]} != {*records[0]["measured"]["slices"]}:
            raise _mixed(directory, records[0], record)


def _mixed(directory: Path, one: Record, other: Record) -> InputError:
    differ = [
        f"{name} {one[name]} and {other[name]}"
        for name in ("loss", "delta")
        if name in one and name in other and one[name] != other[name]
    ]
    return InputError(
        f"{directory}: {one['key']} and {other['key']} are records of different configurations"
        f"{' (' + ', '.join(differ) + ')' if differ else ''}; name the one that is meant with "
        "--config"
    )


def _alike(one: Record, other: Record) -> bool:
    """Whether two records of a base can be of one configuration, on two devices say."""
    a, b = one["measured"]["slices"], other["measured"]["slices"]
    return {*a} == {*b} and all(
        abs(a[label]["value"] - b[label]["value"])
        <= ((a[label].get("upper") or 0.0) - (a[label].get("lower") or 0.0)) / 2
        for label in a
    )
