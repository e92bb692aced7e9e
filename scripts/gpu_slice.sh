#!/bin/sh
# A slice of work for a machine with a CUDA device that is there for a while only: the tests that need one, the
# benchmarks, then reproductions at the papers' size until the time is up. Run it again to go on: finished units lie
# in OUT/units, and are merged into results/reference by `harness merge`.
#
# usage: scripts/gpu_slice.sh OUT [MINUTES]      images in HARNESS_DATA; PYTHON for another interpreter
set -eu
cd "$(dirname "$0")/.."
out=$1
minutes=${2:-8}
python=${PYTHON:-python3}
ends=$(($(date +%s) + 60 * minutes))
mkdir -p "$out"

"$python" -m pytest -m gpu tests

for name in nas dm dsa dc dcc idc fit; do
    if [ "$(date +%s)" -lt $((ends - 120)) ]; then
        "$python" -m harness.cli bench $name --seconds 5 --json --device cuda >> "$out/bench.jsonl"
    fi
done

for name in nas-table table1 cl-figure; do
    left=$((ends - $(date +%s)))
    if [ "$left" -gt 20 ]; then
        "$python" -m harness.cli reproduce $name --out "$out" --device cuda --time-limit "${left}s" || [ $? -ne 2 ]
    fi
done
