"""Pairs of texts that belong together, and everything training needs to know about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.indexing.lexical import LexicalConfig

Kind = Literal["dd", "qd"]
"""Document to document, question to document."""
UNTITLED = "#text"
"""Ends the id of a document whose title was removed; up to it the id names the document."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together. left: a question or a document, as the encoder gets it; right: a document."""

    kind: Kind
    left: str
    right: str
    """Without the title or sentence that the pair asks with."""
    left_id: str
    """`folder:id` of a document; a question has an id of its own that starts with `question:`."""
    right_id: str
    source: str
    """citation, cocitation, shared_keywords, tldr, title, keywords, sentence, role or expert."""
    weight: float = 1.0
    facet: str | None = None
    """The facet a question is known to ask for."""
    negatives: tuple[str, ...] = ()
    """Ids of hard negatives; their texts stand in `TrainingData.texts`."""


@dataclass(frozen=True)
class TrainingData:
    """What one training run sees."""

    train: list[Pair]
    dev_pairs: list[Pair]
    """Held back: SciTLDR's 200 rows, and CACM's links from a development document to a train document."""
    texts: dict[str, str]
    """Whole texts, title on the first line, of every document id that pairs and negatives name."""
    neighbours: dict[str, frozenset[str]]
    """Ids that are no negatives of an id: one link away in the training graph, or another form of the document."""
    hashes: dict[str, str]
    """sha256 of the files that were read, by their path in the data folder."""
    counts: Mapping[str, int]
    """Training pairs by source."""


class PairConfig(BaseModel):
    """How many pairs of each source are drawn at most, and how their negatives are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_citation: int = Field(default=1_700, ge=0)
    """Direct links of CACM."""
    n_cocitation: int = Field(default=1_500, ge=0)
    """Pairs of CACM cited together or citing the same."""
    cocitation_weight: float = Field(default=0.5, gt=0, le=1)
    """Of such a pair in the loss: weaker evidence than a citation."""
    n_shared_keywords: int = Field(default=2_500, ge=0)
    n_tldr: int = Field(default=1_800, ge=0)
    n_title: int = Field(default=2_500, ge=0)
    n_keywords: int = Field(default=1_200, ge=0)
    n_sentence: int = Field(default=1_200, ge=0)
    n_role: int = Field(default=1_000, ge=0)
    n_expert: int = Field(default=500, ge=0)
    removal_rate: float = Field(default=0.9, ge=0, le=1)
    """How often a sentence that asks is taken out of its document; left in otherwise, for exact matches matter too."""
    min_role_confidence: float = Field(default=0.6, ge=0, le=1)
    """Annotators' confidence below which a sentence does not ask for its role."""
    max_keyword_df: int = Field(default=20, ge=2)
    """Documents a keyword may stand in and still count as rare."""
    max_keyword_rank: int = Field(default=50, ge=1)
    """BM25 rank of one document for the other's title, beyond which a shared keyword is chance."""
    negative_ranks: tuple[int, int] = (10, 100)
    """First and last BM25 rank a hard negative comes from; better ranks are too often relevant."""
    n_negatives: int = Field(default=1, ge=0, le=4)
    """Hard negatives a pair."""
    lexical: LexicalConfig = LexicalConfig()
    """BM25 for negatives and for keyword pairs."""
