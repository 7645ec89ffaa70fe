"""Where a bundle lies, whatever the working directory, and where results may not lie."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .command_line import config_files, content_of, given_flags
from .errors import OptionError

__all__ = ["INSTALLED", "check_output", "root"]

INSTALLED = Path(__file__).parent / "bundles"
"""The bundles as the package carries them; in a source checkout a link to those beside it."""


def root(name: str | None = None) -> str:
    """The folder of a bundle, whatever the working directory.

    That of the config that is run on the command line (its parent, where that is called ``configs``): so a copy, such as an unpacked one, is its own root,
    and a file that several bundles share is the one of the bundle in whose folder it was named. Otherwise the folder beside the package in a source checkout,
    or the copy in the installed package, or else ``bundles/<name>`` in the working directory. Python names a copy itself:
    ``ConfigWorkflow(config_file, bundle_root=folder)``.

    Args:
        name: the bundle's folder name, such as ``"skipts"``; files that bundles share cannot give one.

    Raises:
        OptionError: no name, and no bundle's config is run on the command line.
    """
    run = _folder_that_is_run(name)
    if run is not None:
        return str(run)
    if name is None:
        raise OptionError(
            "A config that bundles share does not say which bundle it is of, and no bundle's config is run on the command line; expected the bundle's folder, "
            "such as bundle_root='bundles/skipts' among the arguments: name it."
        )
    beside_package = Path(__file__).parents[1] / "bundles"
    places = [place / name for place in (beside_package, INSTALLED, Path.cwd() / "bundles")]
    return str(next((place for place in places if place.is_dir()), places[-1]))


def _folder_that_is_run(name: str | None) -> Path | None:
    for config in config_files(given_flags(sys.argv).get("config_file", "")):
        folder = Path(config).absolute().parent  # as it was named: links are not followed, for behind them is what bundles share
        folder = folder.parent if folder.name == "configs" else folder
        # Scripts of the user's own may have such a flag too: the config has to be of a bundle, and of this one.
        if (folder / "metadata.json").is_file():
            told = re.fullmatch(r"\$mab\.root\((?:'(\w+)')?\)", str(content_of(config).get("bundle_root")))
            if told and (name is None or told[1] in (None, name)):
                return folder
    return None


def check_output(output_dir: str | Path) -> None:
    """Refuse to write results into the installed package, where the next update deletes them.

    Args:
        output_dir: where the run is about to write.

    Raises:
        OptionError: it lies there, as the default does for an installed bundle that was not laid out first.

    Example:
        >>> check_output("runs/first")
    """
    if Path(output_dir).absolute().is_relative_to(INSTALLED):
        raise OptionError(
            f"Results would go to {output_dir}, which is inside the installed package; expected a folder of yours: name it with --output_dir, or make a "
            "bundle that is yours: python -m monai_anomaly bundle NAME --to DIR."
        )
