"""The recommenders of a collection: model folders beside its database, each name with numbered versions.

    recommenders/blend/000003/   a model folder; the highest number is the one in service

A version appears whole, by a rename, and is never changed. Fitting only reads the database, so it runs beside a
service, which takes up the new version with its next answer.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facetrail.indexing.collection import Collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommend_request import IMPRESSION
from facetrail.models.checkpoint import ModelManifest, read_manifest
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.recommend.interactions import Scorer

FOLDER = "recommenders"
BLEND = "blend"
"""The recommender of closed forms, whose parts are strategies as well."""
CLOSED_FORMS = ("ease", "markov")
_KEPT = 2  # the one in service and the one before it, for readers about to open it


def versions(collection: Path, name: str) -> list[Path]:
    """The versions of a recommender, oldest first."""
    parent = collection / FOLDER / name
    found = (path for path in parent.iterdir() if path.name.isdigit()) if parent.is_dir() else ()
    return sorted(found, key=lambda path: int(path.name))


def names(collection: Path) -> list[str]:
    """The recommenders that a collection has."""
    parent = collection / FOLDER
    return sorted(p.name for p in parent.iterdir() if versions(collection, p.name)) if parent.is_dir() else []


def newest(collection: Path, name: str) -> Path:
    """The version in service. Raises Conflict where nothing was fitted yet."""
    found = versions(collection, name)
    if not found:
        has = ", ".join(names(collection)) or "none"
        raise Conflict(
            f"the collection in {collection} has no recommender {name!r} yet (it has {has}); "
            f"fit it with `facetrail index fit {collection}`"
        )
    return found[-1]


def next_version(collection: Path, name: str) -> Path:
    """Where a new version is to be saved."""
    found = versions(collection, name)
    number = int(found[-1].name) + 1 if found else 1
    return collection / FOLDER / name / f"{number:06d}"


def prune(collection: Path, name: str) -> None:
    """Removes all versions but the newest two."""
    for path in versions(collection, name)[:-_KEPT]:
        shutil.rmtree(path)


def fit_closed_forms(
    collection: Collection, *, actions: Actions, scorers: Sequence[str] = CLOSED_FORMS, ridge: float = 200.0
) -> tuple[Path, ModelManifest]:
    """Fits EASE, Markov and recent popularity on the collection's events and puts them in service.

    Raises InvalidInput where no event counts, an action is not known, or EASE is asked for above its 20,000 items.
    """
    from facetrail.models.recommend.ease import Ease, EaseConfig
    from facetrail.models.recommend.markov import Markov
    from facetrail.models.recommend.popularity import RecentPopularity
    from facetrail.models.recommend.saved import save_recommender
    from facetrail.models.recommend.scored import ScoredRecommender

    events = Events(collection)
    actions.require_known(action for action in events.actions() if action != IMPRESSION)
    found = events.interactions(lambda event: event.action != IMPRESSION and actions.keeps(event))
    if not len(found.items):
        raise InvalidInput(
            f"none of the {events.count():,} events of {collection.folder} counts; add events with "
            "`facetrail index events DIR --events FILE`, or name other actions with --positive"
        )
    fits: dict[str, Callable[[], Scorer]] = {
        "ease": lambda: Ease.fit(found, EaseConfig(ridge=ridge)),
        "markov": lambda: Markov.fit(found),
    }
    recommender = ScoredRecommender(
        found.vocabulary, [fits[name]() for name in scorers], popular=RecentPopularity.fit(found)
    )
    trained_on: dict[str, Any] = {
        "events": len(found.items),
        "users": found.n_users,
        "items": found.n_items,
        "newest": int(found.times.max()),
        "actions": actions.model_dump(mode="json"),
    }
    folder = next_version(collection.folder, BLEND)
    folder.parent.mkdir(parents=True, exist_ok=True)
    manifest = save_recommender(folder, recommender, trained_on=trained_on)
    prune(collection.folder, BLEND)
    return folder, manifest


def actions_of(folder: Path) -> Actions:
    """What counted when a recommender was fitted; a folder that says nothing counts every event."""
    return Actions.model_validate(read_manifest(folder).trained_on.get("actions", {}))
