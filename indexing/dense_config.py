"""What a dense index is: the kind of search, what is stored for each vector, and where it is scanned."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["exact", "pq", "ivf", "hnsw"]
Storage = Literal["float32", "float16", "int8"]
Device = Literal["auto", "cpu", "cuda"]

SHALLOW_K = 100
DEEP_K = 1_000
"""An approximate kind has the same candidates for every k up to `SHALLOW_K`, and for every k from there to `DEEP_K`."""


class DenseConfig(BaseModel):
    """Saved with the index. Scores do not depend on it, except on `storage`: it decides which candidates are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", "exact", "pq", "ivf", "hnsw"] = "auto"
    """auto: exact below `exact_below` vectors, product quantisation below `pq_below`, inverted lists above."""
    exact_below: int = Field(default=20_000, ge=0)
    """Up to here a scan of everything takes 2 ms on one core, so nothing is gained by approximating."""
    pq_below: int = Field(default=500_000, ge=0)
    """Up to here scanning every 4-bit code costs less than choosing lists."""
    storage: Storage = "float32"
    """What is kept of a vector, and therefore what is scored: 4, 2 or 1 byte a dimension (int8: error at most .004)."""
    device: Device = "auto"
    """cuda scans the saved part exactly on the GPU, whatever the kind; auto does so where there is one."""
    depth: int = Field(default=300, ge=SHALLOW_K, le=100_000)
    """Candidates that get an exact score when up to 100 hits are wanted."""
    k_factor: float = Field(default=3.0, ge=1, le=100)
    """Candidates per hit when more than 100 are wanted."""
    nprobe: int = Field(default=32, ge=1)
    """Inverted lists visited when up to 100 hits are wanted; four times as many above."""
    hnsw_m: int = Field(default=16, ge=4, le=128)
    hnsw_ef_construction: int = Field(default=200, ge=8)
    hnsw_ef: int = Field(default=128, ge=SHALLOW_K)
    """Breadth of the walk when up to 100 hits are wanted."""
    seed: int = Field(default=0, ge=0)
    """Chooses the training sample and the initial centroids."""

    def resolve(self, n: int) -> Kind:
        """The kind that n vectors get."""
        if self.kind != "auto":
            # Below 16 vectors there are more centroids than vectors; a scan is exact and as fast.
            return "exact" if n < 16 else self.kind
        return "exact" if n < self.exact_below else "pq" if n < self.pq_below else "ivf"

    def candidates(self, k: int) -> int:
        """How many candidates are scored exactly for k hits; a step function, so that nearby k agree."""
        if k <= SHALLOW_K:
            return self.depth
        return max(self.depth, int(self.k_factor * max(k, DEEP_K)))
