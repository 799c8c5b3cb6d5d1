"""The paper's experiment as a list of command lines: its stages, what came out, and what that says of the claims."""
