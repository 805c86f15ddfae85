"""The methods of graph adaptation: what each has for a recipe, and what it adds to training on the source."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.adapted import AdaptedModel
from facetrail.models.graph.features import JointSvd
from facetrail.models.graph.graph_data import GraphData, check_pair
from facetrail.training.config import read_recipe
from facetrail.training.graph.adalign import AdalignRecipe, SpectralAlignment
from facetrail.training.graph.adapt import Fitted, fit
from facetrail.training.graph.alignment import AdversarialAlignment, Alignment, MmdAlignment
from facetrail.training.graph.diffgda import Evolution, evolve
from facetrail.training.graph.diffgda_networks import DiffgdaRecipe, evolution_name, networks_name
from facetrail.training.graph.recipe import AdaptRecipe, AdversarialRecipe, MmdRecipe
from facetrail.training.loop import Recorder

EVOLUTION_FOLDER = "evolution"
DEFAULTS = Path(__file__).with_name("adapt.toml")


@dataclass(frozen=True)
class Method:
    """One way to adapt."""

    recipe: type[AdaptRecipe]
    preset: tuple[str, ...] = ()
    """Where it departs from `adapt.toml`, as `key=value`."""
    align: Callable[[Any, str], Alignment] | None = None
    """(its recipe, device) → the alignment of one fit."""
    evolve: Callable[..., Evolution] | None = None
    """(source, target, its recipe, *, folder, resume, device) → another source to train on."""


METHODS = {
    "source-only": Method(AdaptRecipe),
    "gcn": Method(AdaptRecipe, ("k_source=1", "k_target=1")),
    "mmd": Method(MmdRecipe, align=lambda recipe, _: MmdAlignment(recipe)),
    "adversarial": Method(AdversarialRecipe, align=AdversarialAlignment),
    "adalign": Method(AdalignRecipe, align=SpectralAlignment),
    "diffgda": Method(DiffgdaRecipe, ("k_source=0",), align=lambda recipe, _: MmdAlignment(recipe), evolve=evolve),
}


def method_recipe(name: str, overrides: tuple[str, ...] = ()) -> AdaptRecipe:
    """The recipe of a method: `adapt.toml`, the method's preset, the overrides. Raises as `read_recipe`."""
    if name not in METHODS:
        raise InvalidInput(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    method = METHODS[name]
    return read_recipe(DEFAULTS, method.recipe, (f"method={name}", *method.preset, *overrides))


@dataclass(frozen=True, eq=False)
class Shared:
    """What fits on one pair of graphs have in common; for another pair or device, make another."""

    networks: Path
    """Folder of the networks of evolutions."""
    coordinates: dict[int, JointSvd] = field(default_factory=dict)
    """Width asked for → SVD of the pair."""
    evolutions: dict[str, Evolution] = field(default_factory=dict)
    """`evolution_name` → what became of the source."""

    def svd(self, source: GraphData, target: GraphData, dim: int) -> JointSvd:
        """Of the pair, made once."""
        if dim not in self.coordinates:
            self.coordinates[dim] = JointSvd.of(source, target, dim)
        return self.coordinates[dim]


class DomainAdapter:
    """Fits the classifier of a recipe: features first, then the method."""

    def __init__(self, recipe: AdaptRecipe) -> None:
        method = METHODS.get(recipe.method)
        if method is None or type(recipe) is not method.recipe:
            raise InvalidInput(
                f"{type(recipe).__name__} is not the recipe of the method {recipe.method!r}; make it with method_recipe"
            )
        self.recipe, self._method = recipe, method
        self._svd: JointSvd | None = None
        self.evolution: Evolution | None = None

    def fit(
        self,
        source: GraphData,
        target: GraphData,
        *,
        folder: Path | None = None,
        tracker: Recorder | None = None,
        resume: bool = False,
        device: str = "cpu",
        shared: Shared | None = None,
    ) -> AdaptedModel:
        """The classifier under the recipe's selection; the rest of the fit stands in `fitted` and `evolution`.

        shared: by fits on this pair of graphs; None: each makes its own. Otherwise as `adapt.fit`.
        """
        check_pair(source, target)
        if self.recipe.features == "svd":
            made = shared.svd if shared is not None else JointSvd.of
            self._svd = made(source, target, self.recipe.svd_dim)
            source, target = self._svd.apply(source), self._svd.apply(target)
        if self._method.evolve is not None:
            self.evolution = self._evolved(source, target, folder, resume, device, shared)
            source = self.evolution.evolved.graph
        align = self._method.align(self.recipe, device) if self._method.align is not None else None
        self.fitted: Fitted = fit(
            source, target, self.recipe, align=align, folder=folder, tracker=tracker, resume=resume, device=device
        )
        return self.fitted.model(svd=self._svd)

    def _evolved(
        self,
        source: GraphData,
        target: GraphData,
        folder: Path | None,
        resume: bool,
        device: str,
        shared: Shared | None,
    ) -> Evolution:
        assert self._method.evolve is not None
        assert isinstance(self.recipe, DiffgdaRecipe)
        if shared is None:
            place = folder / EVOLUTION_FOLDER if folder is not None else None
            return self._method.evolve(source, target, self.recipe, folder=place, resume=resume, device=device)
        name = evolution_name(self.recipe)
        if name not in shared.evolutions:
            place = shared.networks / networks_name(self.recipe)
            shared.evolutions[name] = self._method.evolve(
                source, target, self.recipe, folder=place, resume=True, device=device
            )
        return shared.evolutions[name]
