"""A collection as the first schema version wrote it, to hold later versions to reading it."""

import json
import sqlite3
from pathlib import Path

from facetrail.indexing.collection_schema import checksum


def as_first_schema(folder: Path) -> None:
    """Turns a closed collection without facets into what the first schema version wrote."""
    with sqlite3.connect(folder / "collection.sqlite") as database:
        (settings,) = database.execute("SELECT value FROM properties WHERE name = 'settings'").fetchone()
        kept = json.dumps({k: v for k, v in json.loads(settings).items() if not k.startswith("facet")})
        for name, value in (("schema", "1"), ("settings", kept)):
            row = (value, checksum(name, value), name)
            database.execute("UPDATE properties SET value = ?, checksum = ? WHERE name = ?", row)
        database.execute("DROP TABLE facets")
        database.execute("PRAGMA user_version = 1")
    database.close()
    (folder / "collection.seal").unlink()
