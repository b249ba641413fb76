"""What the two-sample tests suppose, in the words that their estimates carry."""

from __future__ import annotations

FROZEN = "classifier, features and threshold were frozen before the held-out rows were looked at"
INDEPENDENT = "the units on each side are independent draws from its law"
