"""
What stands where in a flat observation.

The observation is one float32 vector, so that ``MlpPolicy`` works as it is; the space carries its layout, so that a policy
that treats all assets alike can take it apart again.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class Block:
    """
    A run of columns of the observation.

    :param name: of the block
    :param columns: names of the columns; for a per-asset block those of one asset
    :param n_assets: number of assets that the columns repeat for; 0 for a block about the market or the portfolio
    :param n_exogenous: how many of the last columns are the user's own signals, whose range nobody knows
    :param limit: bound of the other columns
    :param signed: False where nothing lies below zero
    """

    name: str
    columns: tuple[str, ...]
    n_assets: int = 0
    n_exogenous: int = 0
    limit: float = 5.0
    signed: bool = True

    @property
    def size(self) -> int:
        return len(self.columns) * max(self.n_assets, 1)

    def high(self) -> np.ndarray:
        """Upper bounds (size,)."""
        bound = np.full(len(self.columns), self.limit, dtype=np.float32)
        bound[len(bound) - self.n_exogenous :] = np.inf
        return np.tile(bound, max(self.n_assets, 1))

    def low(self) -> np.ndarray:
        """Lower bounds (size,)."""
        return -self.high() if self.signed else np.zeros(self.size, dtype=np.float32)


@dataclass(frozen=True)
class ObservationLayout:
    """
    :param blocks: in the order in which they stand
    """

    blocks: tuple[Block, ...]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Columns of each block by its name."""
        stops = np.cumsum([block.size for block in self.blocks])
        return {block.name: slice(int(stop) - block.size, int(stop)) for block, stop in zip(self.blocks, stops, strict=True)}

    @cached_property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    @cached_property
    def schema(self) -> dict[str, tuple[str, ...]]:
        """What is observed, whatever the number of assets: names of the columns by block; a ``*`` marks those of one asset."""
        return {f"{block.name}{'*' if block.n_assets else ''}": block.columns for block in self.blocks}

    @cached_property
    def schema_hash(self) -> str:
        """Eight digits that differ where the schema does."""
        return sha256(repr(self.schema).encode()).hexdigest()[:8]

    @property
    def n_assets(self) -> int:
        return max((block.n_assets for block in self.blocks), default=0)


class PortfolioBox(spaces.Box):
    """
    A flat float32 ``Box`` that knows its layout.

    :param layout: what stands where
    """

    def __init__(self, layout: ObservationLayout):
        self.layout = layout
        super().__init__(
            np.concatenate([block.low() for block in layout.blocks]),
            np.concatenate([block.high() for block in layout.blocks]),
            dtype=np.float32,
        )

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.layout == getattr(other, "layout", self.layout)

    def __repr__(self) -> str:
        """Short, because SB3 shows spaces in its errors: blocks with their sizes instead of hundreds of bounds."""
        sizes = (f"{b.name} {f'{b.n_assets}x' if b.n_assets else ''}{len(b.columns)}" for b in self.layout.blocks)
        return f"PortfolioBox({', '.join(sizes)}; schema {self.layout.schema_hash})"
