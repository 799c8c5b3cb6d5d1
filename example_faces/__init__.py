"""A procedural renderer of paired VIS/NIR faces of people who do not exist."""
