"""Tools that know nothing of faces: ops, image trees, feature files, random streams, devices, statistics."""
