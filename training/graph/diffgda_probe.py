"""How well an independent classifier tells an evolved part of a source graph from a target graph.

The classifier that guides the diffusion cannot judge it: what follows its gradient fools it. This one is of another
kind, and learns from subgraphs that neither side is judged on.
"""

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.diffgda_subgraphs import Nodes, draw_disjoint
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import normalised_adjacency

_N_TREES, _DEPTH = 100, 10


def probe_auc(before: GraphData, after: GraphData, nodes: Nodes, target: GraphData, rng: np.random.Generator) -> float:
    """AUC of a random forest on features, propagated features and degree; 0.5: it cannot tell them apart.

    It learns to tell the source as it was from the target, and is asked about other nodes: those evolved and others of
    the target. nodes: (b, m) of the source. Raises InvalidInput where they leave no subgraph to learn from.
    """
    from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    m = nodes.shape[1]
    others = draw_disjoint(before, m, nodes.size, rng, taken=nodes)
    if not len(others):
        raise InvalidInput(f"{nodes.size} of {len(before.ids)} nodes leave no subgraph to learn from; lower the share")
    learnt, judged = np.array_split(draw_disjoint(target, m, 2 * nodes.size, rng), 2)
    forest = RandomForestClassifier(
        _N_TREES, max_depth=_DEPTH, class_weight="balanced", random_state=int(rng.integers(2**31))
    )
    rows = [_rows(before, others), _rows(target, learnt)]
    forest.fit(np.concatenate(rows), _sides(rows))
    rows = [_rows(after, nodes), _rows(target, judged)]
    return float(roc_auc_score(_sides(rows), forest.predict_proba(np.concatenate(rows))[:, 1]))


def _sides(rows: list[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """True for the target's."""
    return np.repeat([False, True], [len(one) for one in rows])


def _rows(graph: GraphData, nodes: Nodes) -> NDArray[np.float32]:
    """(b m, 2 d + 1)."""
    degrees = np.diff(graph.adjacency.indptr)[:, None].astype(np.float32)
    whole = np.concatenate([graph.x, normalised_adjacency(graph.adjacency) @ graph.x, degrees], axis=1)
    chosen: NDArray[np.float32] = whole[nodes.ravel()]
    return chosen
