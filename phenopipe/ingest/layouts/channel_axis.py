"""Channels that are places on an axis of each image, with a name here and there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from phenopipe.errors import InputError


def name_channels(
    labels: Mapping[str, Sequence[str]], folder: Path
) -> tuple[dict[str, Sequence[str]], dict[str, str]]:
    """Give the channel tokens of each image, and the name of each token.

    Where each place on the axis has one name on the whole plate, its number from 0 is the token;
    where images differ in this, the name is.

    Parameters
    ----------
    labels
        The names of an image's channels in their order, by the image; empty where there is none.
    folder
        The plate's folder, for the message.

    Raises
    ------
    InputError
        If images differ, and the channels of one have no names of their own.

    Examples
    --------
    >>> name_channels({"a": ["DAPI", "GFP"], "b": ["DAPI"]}, Path("P1"))
    ({'a': ['0', '1'], 'b': ['0']}, {'0': 'DAPI', '1': 'GFP'})
    >>> name_channels({"a": ["DAPI", "GFP"], "b": ["GFP"]}, Path("P1"))
    ({'a': ['DAPI', 'GFP'], 'b': ['GFP']}, {'DAPI': 'DAPI', 'GFP': 'GFP'})
    """
    names: dict[str, str] = {}
    alike = True
    for number, label in (pair for own in labels.values() for pair in enumerate(own)):
        known = names.get(str(number), "")
        alike = alike and (not label or known in ("", label))
        names[str(number)] = known or label
    if alike:
        return {path: [str(n) for n in range(len(own))] for path, own in labels.items()}, names
    for path, own in labels.items():
        if "" in own or len(set(own)) < len(own):
            raise InputError(
                f"expected one order of channels in all images of {folder}, or a name of its own "
                f"for each channel, found {list(own)} in {path}: name its channels"
            )
    ordered = dict.fromkeys(label for own in labels.values() for label in own)
    return dict(labels), {label: label for label in ordered}
