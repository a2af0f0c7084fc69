"""Screens drawn at random, for the tests of alignments."""

import numpy as np


def draw_screen(*, n=300, d=6, seed=0):
    """Three batches, each shifted and stretched its own way; every second well is a control."""
    random = np.random.default_rng(seed)
    batch = np.arange(n) % 3
    mixing = random.normal(size=(3, d, d))
    x = np.einsum("ni,nij->nj", random.normal(size=(n, d)), mixing[batch])
    x += 10 * random.normal(size=(3, d))[batch] + 100
    return x, batch.astype(str), random.permutation(np.arange(n) % 2 == 0)


def cosines(x):
    """The cosine of each pair of rows."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T
