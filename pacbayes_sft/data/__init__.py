"""Rows of prompts and completions: reading, their recorded law, tokenisation."""
