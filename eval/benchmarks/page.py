"""How soon the page can be used: from the navigation to a working search box, and from Enter to the hits.

    python -m facetrail.eval.benchmarks.page [--rounds 7]

The service and headless Chromium share the machine; the built-in sample is served. Each round has an empty cache. The
page is interactive when the box has the focus and the examples are drawn, which the page does once its script has run
and the collection has answered. The first round, in which the service loads its encoder, is not counted.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from facetrail.eval.benchmarks.service import build_sample, free_port, running
from facetrail.eval.evidence import write_result
from facetrail.models.errors import Unavailable

INTERACTIVE, HITS = "ms to interactive", "ms from Enter to the hits"
AT_MOST = 1_000.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
READY = "() => document.activeElement?.id === 'q' && document.querySelector('#examples:not([hidden]) li') !== null"
QUESTION = "what helps when labels are scarce?"


def measured(address: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Unavailable("the browser is driven by playwright; pip install playwright") from error
    browser_file = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_file is None:
        raise Unavailable(f"none of {', '.join(BROWSERS)} is on the path; install Chromium")
    found: dict[str, list[float]] = {INTERACTIVE: [], HITS: []}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_file, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(rounds + 1):
            context = browser.new_context()  # nothing cached
            page = context.new_page()
            page.goto(address, wait_until="commit")
            page.wait_for_function(READY, polling="raf")
            found[INTERACTIVE].append(page.evaluate("() => performance.now()"))
            page.locator("#q").fill(QUESTION)
            started = page.evaluate("() => performance.now()")
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelector('article.hit') !== null", polling="raf")
            found[HITS].append(page.evaluate("() => performance.now()") - started)
            context.close()
        browser.close()
    return {measure: values[1:] for measure, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes eval/results/page.json; exit code 1 where the demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.page", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="facetrail-") as scratch:
        folder, port = build_sample(Path(scratch)), free_port()
        serve = [sys.executable, "-m", "facetrail.app.cli", "serve", str(folder), "--port", str(port)]
        with running(serve, port):
            found = measured(f"http://127.0.0.1:{port}/", options.rounds)
    measures = {measure: round(median(values), 1) for measure, values in found.items()}
    met = measures[INTERACTIVE] <= AT_MOST
    demand = f"at most {AT_MOST:,.0f} ms"
    path = write_result(
        "page",
        claim="The page can be used within a second.",
        data=[{"name": "built-in sample", "sha256": ""}],
        arms={"page": {"description": "an empty cache, headless Chromium", "measures": measures}},
        comparisons=[{"a": "page", "measure": INTERACTIVE, "demand": demand, "met": met}],
        seeds=[0],
        meter={"name": "rounds", "equal_within": 0.0},
        command=" ".join(["python -m facetrail.eval.benchmarks.page", *(arguments or sys.argv[1:])]),
        notes=f"Medians of {options.rounds} rounds; service and browser on the same machine.",
        shown=[INTERACTIVE, HITS],
        folder=options.out,
    )
    print(f"{'met ' if met else 'MISS'} page: {INTERACTIVE} {demand} ({measures[INTERACTIVE]:.0f})")
    print(path)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
