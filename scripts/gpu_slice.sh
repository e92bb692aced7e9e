#!/bin/sh
# A slice of work for a machine with a CUDA device that is there for a while only: the tests that need one, the
# benchmarks, then reproductions at the papers' size. It ends within its time; run it again to go on.
#
# usage: scripts/gpu_slice.sh [MINUTES]                    9 by default
#
# What is done and what is begun lies in results/reference/gpu as `harness run --out` leaves it, and is taken up there;
# so do bench.jsonl, tests.log and slice.log. With OUT set all this is written there instead, what is new of the runs as
# OUT/runs.tar.00, .01 ... (15 MiB each at most), to be brought home by
#     cat "$OUT"/runs.tar.* | tar xf - -C results/reference/gpu
#
# HARNESS_DATA  images                        PYTHON   interpreter; where the package is not installed, it is for now
# WORK          commands of `harness`, by ";"  BENCHES  names            TESTS  files of tests
# DEVICE        cpu to try this script out     BENCH    options of each benchmark but nas
set -eu
cd "$(dirname "$0")/.."
ends=$(($(date +%s) + 60 * ${1:-9}))
out=${OUT:-results/reference/gpu}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
tests=${TESTS-tests/test_gpu.py}
benches=${BENCHES-nas dm fit dsa dc dcc idc}
work=${WORK-reproduce nas-table;reproduce table1;reproduce cl-figure}
status=0

left() { echo $((ends - $(date +%s))); }

# Run a command for so many seconds at most: told to stop 15 s before, which is when it keeps what it has.
within() {
    seconds=$1
    shift
    if [ "$seconds" -le 20 ]; then
        echo "gpu_slice: no time for: $*" >&2
        return 124
    fi
    timeout -k 15 $((seconds - 15)) "$@"
}

# The new files in OUT, in parts; where OUT is not set they are in their place already.
pack() {
    [ -n "${OUT:-}" ] || return 0
    rm -f "$out"/runs.tar.*
    (cd "$runs" && find . -type f -newer "$scratch/began" ! -name '*.claim*' | tar cf - -T -) | split -d -b 15m - "$out/runs.tar."
}

mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
runs=$out
if [ -n "${OUT:-}" ]; then
    runs=$scratch/runs
    mkdir "$runs"
    [ ! -d results/reference/gpu ] || cp -R results/reference/gpu/. "$runs"
fi
touch "$scratch/began" "$out/bench.jsonl"
if ! "$python" -c 'import importlib.metadata as m; m.version("condensation-harness")' 2> "$scratch/why"; then
    mkdir "$scratch/source"
    cp -R pyproject.toml README.md LICENSE harness memory nas results scenarios "$scratch/source"
    "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --target "$scratch/site" "$scratch/source" ||
        { echo "gpu_slice: the package is not installed; rows would not name its version" >&2; exit 2; }
    export PYTHONPATH="$scratch/site${PYTHONPATH:+:$PYTHONPATH}"
fi

if [ -n "$tests" ]; then  # a third of the time at most
    # shellcheck disable=SC2086  # several files
    within $(($(left) / 3)) "$python" -m pytest -m gpu $tests > "$out/tests.log" 2>&1 || status=$?
    tail -n 3 "$out/tests.log"
fi

benches_end=$(($(date +%s) + $(left) / 2))
count=$(echo "$benches" | wc -w)
for name in $benches; do
    share=$(((benches_end - $(date +%s)) / count))
    # shellcheck disable=SC2086  # several options
    case $name in  # a search is timed once with each number of workers: it has a size, not seconds, and half of the time
        nas) share=$(((benches_end - $(date +%s)) / 2)) options="--preset quick" ;;
        *) options=${BENCH---seconds $((share / 10 + 1))} ;;
    esac
    # shellcheck disable=SC2086
    within "$share" "$python" -m harness.cli bench "$name" --json --device "$device" $options >> "$out/bench.jsonl" ||
        echo "gpu_slice: bench $name: exit code $?" >&2
    count=$((count - 1))
done
jobs=$("$python" -c 'import json, sys
found = [json.loads(line) for line in open(sys.argv[1])]
print(*[line["jobs"] for line in found if line["bench"] == "nas" and line["device"] == sys.argv[2]][-1:])' \
    "$out/bench.jsonl" "$device")

count=$(echo "$work" | tr ';' '\n' | grep -c .) || true
while [ -n "$work" ]; do
    command=${work%%;*}
    work=${work#"$command"}
    work=${work#;}
    share=$((($(left) - 10) / count)) # 10 s to pack
    limit=$((share > 75 ? share - 45 : (share - 15) / 2)) # workers have 20 s to stop, then rows are written
    echo "== harness $command --device $device --time-limit ${limit}s ${jobs:+--jobs $jobs}" | tee -a "$out/slice.log"
    # shellcheck disable=SC2086  # a command and its options
    within "$share" "$python" -m harness.cli $command --out "$runs" --device "$device" --time-limit "${limit}s" \
        ${jobs:+--jobs "$jobs"} >> "$out/slice.log" 2>&1 || code=$?
    tail -n 3 "$out/slice.log"
    case ${code:-0} in
        0 | 3 | 4) ;; # done, units left, a number below the published one
        124) echo "gpu_slice: $command: stopped by force, perhaps before it began" >&2 ;;
        *) status=1 && echo "gpu_slice: $command: exit code $code" >&2 ;;
    esac
    code=0
    count=$((count - 1))
    pack
done
exit "$status"
