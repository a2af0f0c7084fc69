"""Channels by meaning: the vendor's names or numbers to stains, by a small file.

A CSV (or TSV) with the columns ``channel`` and ``stain``, one line a name::

    channel,stain
    Hoechst 33342,DNA
    w2,ER
    3,RNA
    Brightfield,

- A channel is the vendor's token (``2`` of ``_w2`` or ``ch2``; ``w2``, ``ch2`` and ``C02`` name
  it too) or its label; case does not matter.
- The order of the stains is the order of the plate image's channel axis, on every plate.
- A stain may stand on several lines: its names on different plates. With a column ``plate`` a
  line holds for that plate only, and goes before the lines without.
- A channel without a stain is left out of the plate image.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex, keep_images, sort_images

_PREFIXED = re.compile(r"(?:w|c|d|ch|channel)[ _-]?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ChannelLine:
    """One line of the file: a vendor's name, the stain it means, and the plate it holds for."""

    channel: str
    stain: str
    plate: str = ""


def read_channels(path: str | Path) -> tuple[ChannelLine, ...]:
    """Read a file of channels and their stains.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column or has no line, or names a channel twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a CSV of channel and stain at {path}, found {error}: check the path"
        ) from error
    first = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=max(",\t;", key=first.count))
    names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    if not {"channel", "stain"} <= set(names):
        raise InputError(
            f"expected columns channel and stain in {path}, found {', '.join(names) or 'none'}: "
            "write these names in the first line"
        )
    rows.fieldnames = names
    lines = tuple(
        ChannelLine(*((row.get(name) or "").strip() for name in ("channel", "stain", "plate")))
        for row in rows
    )
    _check_lines(lines, path)
    return lines


def _check_lines(lines: Iterable[ChannelLine], path: Path) -> None:
    named = [(line.plate, line.channel.lower()) for line in lines]
    twice = sorted({name for name in named if named.count(name) > 1})
    if not named or twice or any(not channel for _, channel in named):
        found = f"{twice[0][1]} twice" if twice else "a line without one" if named else "no line"
        raise InputError(f"expected each channel once in {path}, found {found}: correct the file")


def name_channels(index: PlateIndex, lines: Iterable[ChannelLine]) -> PlateIndex:
    """Give a plate's channels the stains that the lines say, in the order of the stains.

    Returns
    -------
    PlateIndex
        With the stains as labels; images of channels that have no stain are ignored ones.

    Raises
    ------
    InputError
        If a channel stands on no line, if two channels get one stain, or if the plate has no
        channel for a stain.
    """
    own = [line for line in lines if line.plate in ("", index.plate)]
    found = {token: _find_stain(token, label, own) for token, label in index.channels.items()}
    stains = dict.fromkeys(line.stain for line in own if line.stain)
    _check_stains(index, found, stains)
    order = list(stains)
    kept = sorted((token for token in found if found[token]), key=lambda t: order.index(found[t]))
    smaller = keep_images(
        index, lambda i: bool(found[i.channel]), reason="its channel has no stain"
    )
    return replace(
        smaller,
        channels={token: found[token] for token in kept},
        images=sort_images(smaller.images, kept),
        absent=sort_images(smaller.absent, kept),
        illumination={t: path for t, path in index.illumination.items() if found[t]},
    )


def _find_stain(token: str, label: str, lines: Iterable[ChannelLine]) -> str:
    """Find a channel's stain: its plate's own line first, then token, label and prefixed token."""

    def rank(line: ChannelLine) -> tuple[bool, int] | None:
        match = _PREFIXED.fullmatch(line.channel)
        spelled = [line.channel.lower() == token.lower(), line.channel.lower() == label.lower()]
        spelled.append(match is not None and match[1] == (token.lstrip("0") or "0"))
        return (not line.plate, spelled.index(True)) if any(spelled) else None

    ranked = [(place, line) for line in lines if (place := rank(line)) is not None]
    if not ranked:
        raise InputError(
            f"expected a stain for channel {token} ({label}), found no line that names it: add "
            f'"{label},STAIN" to the file of channels, or "{label}," to leave it out'
        )
    return min(ranked, key=lambda found: found[0])[1].stain


def _check_stains(index: PlateIndex, found: Mapping[str, str], stains: Iterable[str]) -> None:
    tokens: dict[str, list[str]] = {}
    for token, stain in found.items():
        tokens.setdefault(stain, []).append(f"{token} ({index.channels[token]})")
    for stain in stains:
        own = tokens.get(stain, [])
        if len(own) != 1:
            every = ", ".join(f"{token} ({label})" for token, label in index.channels.items())
            raise InputError(
                f"expected one channel of {index.plate} for the stain {stain}, found "
                f"{' and '.join(own) or 'none'} (channels: {every}): correct the file of "
                'channels, by a line "channel,stain,plate" if just this plate differs'
            )
