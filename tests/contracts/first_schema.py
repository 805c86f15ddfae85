"""A collection as the earlier schema versions wrote it, to hold later versions to reading it."""

import json
import sqlite3
from pathlib import Path

from facetrail.indexing.collection_schema import checksum


def as_second_schema(folder: Path) -> None:
    """Turns a closed collection into what the second schema version wrote, which knew no events."""
    with sqlite3.connect(folder / "collection.sqlite") as database:
        row = ("2", checksum("schema", "2"))
        database.execute("UPDATE properties SET value = ?, checksum = ? WHERE name = 'schema'", row)
        database.execute("DELETE FROM properties WHERE name = 'events'")
        database.execute("DROP TABLE events")
        database.execute("PRAGMA user_version = 2")
    database.close()
    (folder / "collection.seal").unlink()


def as_first_schema(folder: Path) -> None:
    """Turns a closed collection without facets into what the first schema version wrote."""
    as_second_schema(folder)
    with sqlite3.connect(folder / "collection.sqlite") as database:
        (settings,) = database.execute("SELECT value FROM properties WHERE name = 'settings'").fetchone()
        kept = json.dumps({k: v for k, v in json.loads(settings).items() if not k.startswith("facet")})
        for name, value in (("schema", "1"), ("settings", kept)):
            row = (value, checksum(name, value), name)
            database.execute("UPDATE properties SET value = ?, checksum = ? WHERE name = ?", row)
        database.execute("DROP TABLE facets")
        database.execute("PRAGMA user_version = 1")
    database.close()
