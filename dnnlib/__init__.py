"""Tools that know nothing of this field: errors, command lines, files, logging, progress, downloads."""
