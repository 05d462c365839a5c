"""Rebuilds the committed artefacts and the measurements that the cards quote: `python -m demo.build [name ...]`."""

import json
import sys
from pathlib import Path

from demo.build import add, digits, sentiment, tumour

CATALOGUE = Path(__file__).parent.parent / "catalogue"
BUILDERS = {"add": add.build, "digits": digits.build, "sentiment": sentiment.build, "tumour": tumour.build}

for name in sys.argv[1:] or BUILDERS:
    print(f"{name}: building", flush=True)
    measured = BUILDERS[name](CATALOGUE / name)
    if measured:
        (CATALOGUE / name / "measurements.json").write_text(json.dumps(measured, indent=2) + "\n")
        print(f"{name}: {measured}", flush=True)
