#!/usr/bin/env bash
# docs/maintainer.md as one file, run in the project's folder after `make demo`: two personas more, as version 0.2.0, and what is refused.
# HUB set to a name of yours, hub:org/name, with HF_TOKEN or after `hf auth login`, publishes both versions to the Hub too.
set -euo pipefail
BUILD=${BUILD:-runs/demo/build}
DATA=${DATA:-runs/demo/published}
OUT=${OUT:-runs/maintainer}
RECIPE=${RECIPE:-demo}
HUB=${HUB:-hub:org/name}

persona build "$RECIPE" --set personas.count=14 --set personas.seen=9 --extend "$DATA" --out "$OUT/build" --dry-run
persona build "$RECIPE" --set personas.count=14 --set personas.seen=9 --extend "$DATA" --out "$OUT/build"
persona audit "$OUT/build"
persona census compare "$OUT/build"

persona publish "$OUT/build" --to "$OUT/v0.2.0" --version 0.1.1 --previous "$DATA" --dry-run || echo "exit code $?"
persona publish "$OUT/build" --to "$OUT/v0.2.0" --version 0.2.0 --previous "$DATA"
persona diff "$DATA" "$OUT/v0.2.0"

persona responses export "$OUT/build" "$OUT/responses.parquet"
persona responses import "$OUT/responses.parquet" "$OUT/again"
persona build "$RECIPE" --set personas.count=14 --set personas.seen=9 --extend "$DATA" --out "$OUT/again" --max-calls 0
persona census compare "$OUT/again"
persona publish "$OUT/again" --to "$OUT/again-v0.2.0" --version 0.2.0 --previous "$DATA"
diff -r "$OUT/v0.2.0" "$OUT/again-v0.2.0" && echo "the same files"

if [ "$HUB" != hub:org/name ]; then
    persona publish "$BUILD" --to "$HUB" --version 0.1.0
    persona publish "$OUT/build" --to "$HUB" --version 0.2.0 --dry-run
    persona publish "$OUT/build" --to "$HUB" --version 0.2.0
    persona diff "$HUB@v0.1.0" "$HUB@v0.2.0"
fi
