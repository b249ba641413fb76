"""Is the guarantee kept? Simulated problems, certificates on them, and how often these are wrong.

Shared by ``tests/estimators/test_coverage.py`` (fast) and ``benchmarks/coverage.py`` (whole).
"""
