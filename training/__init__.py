"""The dual-branch generator, its discriminators, and how they are trained."""
