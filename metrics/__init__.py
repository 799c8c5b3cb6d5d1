"""Figures of merit: pure functions from images, features or scores to numbers. Nothing here knows a network class."""
