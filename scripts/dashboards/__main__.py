"""Writes the dashboards to packaging/monitoring/grafana, or checks that the files there are fresh.

python -m scripts.dashboards [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.dashboards import clients, relay, service, store

FOLDER = Path(__file__).parents[2] / "packaging" / "monitoring" / "grafana" / "dashboards"
PAGES = (service.PAGE, store.PAGE, relay.PAGE, clients.PAGE)


def main() -> None:
    """Writes the dashboards. With `--check`, ends with 1 if one of them is not fresh."""
    texts = {FOLDER / f"{page.name}.json": page.as_json() for page in PAGES}
    there = {path: path.read_text() for path in FOLDER.glob("*.json")}
    if "--check" in sys.argv[1:]:
        if there != texts:
            sys.exit("The dashboards are not what scripts/dashboards builds. Run: make dashboards")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in there.keys() - texts.keys():
        path.unlink()
    for path, text in texts.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
