"""Where tables of costs hold the channels that an arch chose."""

from math import prod

import numpy as np

from ofa_tf.space import SearchSpace


class ChannelIndex:
    """Turns the channels that codes choose into indices of the tables of `costs.ArchCosts`.

    Args:
        space: the space.

    Attributes:
        n: the most choices that any stream has.
        pair_sizes: the last axes of a table of blocks: `(n, n)`, the choices of the channels that a block reads and
            writes; `()` where no stream is elastic.
        end_sizes: the last axes of a table of the blocks that are not elastic: the number of choices of each of
            `end_streams`.
        end_streams: indices of the elastic streams that such blocks read or write.
    """

    def __init__(self, space: SearchSpace):
        sizes = [len(stream.channels) for stream in space.streams]
        first, last = space.first_stage_stream, space.first_stage_stream + space.n_stages - 1
        self.n = max(sizes)
        self.pair_sizes = (self.n, self.n) if self.n > 1 else ()
        self.end_streams = [i for i, size in enumerate(sizes) if size > 1 and not first <= i < last]
        self.end_sizes = tuple(sizes[stream] for stream in self.end_streams)
        self._read, self._written = np.array(space.block_streams).T
        self._space = space

    def pairs(self, codes: np.ndarray) -> np.ndarray:
        """Choices of the channels that each block reads and writes, as one index below `n * n`: (archs, blocks)."""
        choices = self._space.stream_choices(codes)
        return choices[:, self._read] * self.n + choices[:, self._written]

    def ends(self, codes: np.ndarray) -> np.ndarray:
        """Choices of `end_streams` as one index: shape (archs,)."""
        choices = self._space.stream_choices(codes)
        index = np.zeros(len(codes), np.int64)
        for stream, size in zip(self.end_streams, self.end_sizes, strict=True):
            index = index * size + choices[:, stream]
        return index

    @property
    def n_ends(self) -> int:
        """Number of the choices of all `end_streams` together."""
        return prod(self.end_sizes)

    def covering(self) -> np.ndarray:
        """Genes of the channels among which are all pairs of neighbours and all choices of the ends together.

        Returns:
            Shape (rows, channel genes); one row without genes where no stream is elastic.
        """
        n_streams = len(self._space.streams)
        odd = np.arange(n_streams) % 2 == 1
        rows = [np.where(odd, *np.array(pair)) for pair in np.ndindex(self.n, self.n)]
        for choices in np.ndindex(*self.end_sizes):
            rows.append(np.zeros(n_streams, int))
            rows[-1][self.end_streams] = choices
        elastic = [stream.elastic for stream in self._space.streams]
        sizes = np.array([len(stream.channels) for stream in self._space.streams])
        return np.unique(np.minimum(np.array(rows), sizes - 1)[:, elastic], axis=0)
