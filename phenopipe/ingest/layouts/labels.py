"""Unique labels of channels, from names that need not be."""

from collections import Counter
from collections.abc import Mapping


def label_channels(names: Mapping[str, str], *, prefix: str) -> dict[str, str]:
    """Label each channel token by its name; where names are not unique, with the token too.

    Parameters
    ----------
    names
        The vendor's name of each token; empty where there is none.
    prefix
        What stands before a token in the vendor's file names: ``w``, ``ch``.

    Returns
    -------
    dict
        Labels by token, unique; ``w1``, ``w2`` … where the tokens do not make them so.

    Examples
    --------
    >>> label_channels({"1": "DAPI", "2": "FITC", "3": "FITC", "4": ""}, prefix="w")
    {'1': 'DAPI', '2': 'FITC_w2', '3': 'FITC_w3', '4': 'w4'}
    """
    known = {token: name or f"{prefix}{token}" for token, name in names.items()}
    uses = Counter(known.values())
    labels = {
        token: f"{name}_{prefix}{token}" if uses[name] > 1 else name
        for token, name in known.items()
    }
    unique = len(set(labels.values())) == len(labels)
    return labels if unique else {token: f"{prefix}{token}" for token in names}
