"""Measures of pictures and identities, as pure functions of arrays."""
