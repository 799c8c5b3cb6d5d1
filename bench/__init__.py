"""Benchmarks: python -m bench.NAME prints ratios and writes JSON."""
