"""Command line: the files with image networks that metrics look with.

python -m metrics.detectors list
python -m metrics.detectors fetch inception|vgg16|lpips|all
"""

from __future__ import annotations

import click

from dnnlib import console
from dnnlib.cli import Group
from dnnlib.errors import UserError
from metrics.public_files import FILES, is_sound, kept, kept_at

ALL = "all"


@click.group(cls=Group)
def main() -> None:
    """Files with image networks for metrics, kept between runs."""


@main.command("list")
def list_files() -> None:
    """Print which files there are, which metrics look with them, and whether they are here."""
    for name, file in FILES.items():
        path = kept(name)
        state = "not here" if path is None else "here" if is_sound(path, name) else "damaged: fetch it again"
        text = f"{name:10} {file.serves:18} {state}: {kept_at(name)}\n{'':10} {file.url}, {file.licence}"
        console.result({"name": name, **file._asdict(), "state": state, "path": str(kept_at(name))}, text)


@main.command()
@click.argument("name", type=click.Choice([*FILES, ALL]))
def fetch(name: str) -> None:
    """Fetch a file, or all, into the cache, and check what came by its SHA-256."""
    from dnnlib.download import download

    failed = []
    for one in FILES if name == ALL else [name]:
        path, file = kept_at(one), FILES[one]
        if path.is_file() and is_sound(path, one):
            console.result({"name": one, "path": str(path)}, f"{one}: is at {path} already")
            continue
        try:
            download(file.url, path, file.sha256, file.most)
            console.result({"name": one, "path": str(path)}, f"{one}: {path}")
        except UserError as error:
            failed.append(str(error))
    if failed:
        raise UserError("; ".join(failed))


if __name__ == "__main__":
    main()
