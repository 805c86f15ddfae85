"""One temperature for a graph classifier, from source nodes that its loss did not see (Guo et al., ICML 2017)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.encoder import GraphEncoder
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import graph_tensors
from facetrail.training.graph.alignment import own_generator
from facetrail.training.graph.recipe import AdaptRecipe

SHARE = 0.1


def held_out(labelled: Tensor, recipe: AdaptRecipe) -> Tensor:
    """A tenth of the labelled nodes' numbers, in order; none where the recipe does not calibrate."""
    if recipe.calibrate is None:
        return labelled[:0]
    n = round(SHARE * len(labelled))
    if n == 0:
        raise InvalidInput(f"{len(labelled)} labelled nodes are too few to hold out a tenth; leave calibrate out")
    order = torch.randperm(len(labelled), generator=own_generator(recipe.seed))
    return labelled[order[:n].sort().values]


def fit_temperature(encoder: GraphEncoder, graph: GraphData, k: int, rows: Tensor) -> float:
    """The temperature of least cross-entropy on the rows, within [1/20, 20]; the encoder is in evaluation mode."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    if graph.y is None or graph.y.ndim == 2:
        raise InvalidInput("calibration divides logits of single labels; leave calibrate out for several labels")
    with torch.no_grad():
        logits = encoder(graph_tensors(graph), k)[0][rows].double()
    y = torch.from_numpy(graph.y)[rows]
    found = minimize_scalar(
        lambda log_t: float(cross_entropy(logits / torch.tensor(log_t).exp(), y)), bounds=(-3, 3), method="bounded"
    )
    return float(torch.tensor(found.x).exp())
