"""Checkpoints on disk: tensor files, LoRA adapters, fine-tunes and their run records."""
