"""The map: many fine-tunes over training size × difficulty, each bounded and measured."""
