"""Risks by slice: every row is in one of them."""

import numpy as np

from pacbayes_sft.risk import slice_risks


def test_labels_that_read_alike_are_one_slice_and_no_row_is_lost():
    labels = [1, "1", True, 10, 1.0, 2.5, [3], None, 1]
    losses = np.array([1.0, 1, 0, 0, 1, 0, 1, 0, 0])
    units = [str(i) for i in range(9)]
    found = slice_risks(losses, units, labels, 0.05, population="p")
    counts = {name: int(e.method.split()[3]) for name, e in found.items()}
    assert counts == {"1": 4, "True": 1, "2.5": 1, "10": 1, "[3]": 1, "null": 1}
    assert [name for name in found if name != "True"] == ["1", "2.5", "10", "[3]", "null"]
    assert found["1"].value == 0.75 and found["True"].value == 0
