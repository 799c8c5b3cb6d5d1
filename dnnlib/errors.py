"""The exception that stands for the user's mistake."""


class UserError(Exception):
    """A mistake the user can mend: one line that names the option, the file, and what would be right.

    Scripts turn it into that line on stderr and exit status 2, without a traceback.
    Anything else that escapes is a fault of ours and keeps its traceback (status 1).
    """


class SharedUserError(UserError):
    """A mistake that all processes of a launcher (torchrun) meet alike: the first of them tells the user."""
