"""Benchmarks: `python -m bench.NAME [--json FILE]`; each measures in one run and prints ratios, medians and spreads."""
