"""The exception that stands for the user's mistake."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """A mistake the user can mend: one line that names the option, the file, and what would be right.

    Scripts turn it into that line on stderr and exit status 2, without a traceback.
    Anything else that escapes is a fault of ours and keeps its traceback (status 1).
    """


@contextlib.contextmanager
def option_named(option: str, place: object) -> Iterator[None]:
    """Puts the option, and where the message has it not the place, before a mistake that is told by what does not know
    whose pictures it reads."""
    try:
        yield
    except UserError as error:
        text = str(error)
        if text.startswith("--"):
            raise
        raise UserError(f"{option}: {text}" if str(place) in text else f"{option}: {place}: {text}") from error


class SharedUserError(UserError):
    """A mistake that all processes of a launcher (torchrun) meet alike: the first of them tells the user."""
