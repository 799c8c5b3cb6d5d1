"""Procedural renderer of paired VIS/NIR faces: people who never existed, for tests, demos and first steps."""
