"""A collection as the earlier schema versions wrote it, to hold later versions to reading it."""

import json
import sqlite3
from pathlib import Path

from facetrail.indexing.collection_schema import checksum


def as_third_schema(folder: Path) -> None:
    """Turns a closed collection into what the third schema version wrote, which knew no judgements."""
    _without(folder, "judgements", "3")
    (folder / "collection.seal").unlink()


def as_second_schema(folder: Path) -> None:
    """Turns a closed collection into what the second schema version wrote, which knew no events."""
    as_third_schema(folder)
    _without(folder, "events", "2")


def _without(folder: Path, table: str, version: str) -> None:
    with sqlite3.connect(folder / "collection.sqlite") as database:
        row = (version, checksum("schema", version))
        database.execute("UPDATE properties SET value = ?, checksum = ? WHERE name = 'schema'", row)
        database.execute("DELETE FROM properties WHERE name = ?", (table,))
        database.execute(f"DROP TABLE {table}")
        database.execute(f"PRAGMA user_version = {version}")
    database.close()


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
