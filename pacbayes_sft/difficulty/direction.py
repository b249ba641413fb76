"""Which way a column of difficulty points: a high number means a hard row."""

from pacbayes_sft.errors import InputError

HIGH_IS_EASY = "pass_rate"  # however it is called further: pass_rate_72b_tir


def refuse_high_is_easy(column: str) -> None:
    """Refuse a column by whose name high numbers mean easy rows: windows would be named in reverse.

    Raises:
        InputError: Saying what to give instead.
    """
    if column.startswith(HIGH_IS_EASY):
        raise InputError(
            f"column {column}: a pass rate is high where rows are easy, and a difficulty is high "
            f"where they are hard; give 1 - {column} (`difficulty --metric fail_rate` measures it)"
        )
