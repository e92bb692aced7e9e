#!/bin/sh
# Work for a machine with a CUDA device that is there for minutes at a time, in three calls that each do one thing:
#
#     scripts/gpu_slice.sh tests    the tests that need a GPU, then the benchmark `fit`
#     scripts/gpu_slice.sh bench    the benchmarks `dm` and `dsa`
#     scripts/gpu_slice.sh run      `harness run cl --memory dm`, on from where an earlier call has left it
#
# A call ends within SECONDS (default 540). What has to outlast it lies in build/gpu: the package where it is not
# installed, images, and runs, which results/reference/gpu begins with. Images come in parts, where a call can carry only so
# much: whatever lies in build/parts is moved to build/gpu/data/cifar100 first.
#
# Results are written to OUT (default results/reference/gpu): tests.log, bench.jsonl, run.log, and the rows and units that
# are new, as runs.tar.00, .01 ... (15 MiB each at most), to be brought home by
#     cat "$OUT"/runs.tar.* | tar xf - -C results/reference/gpu
#
# HARNESS_DATA  images elsewhere    PYTHON   interpreter    DEVICE   cpu to rehearse
# TESTS  files of tests             BENCHES  names          BENCH    options of each benchmark
# RUN    a command of `harness`     JOBS     its workers
set -eu
cd "$(dirname "$0")/.."
step=${1:-}
ends=$(($(date +%s) + ${2:-540}))
kept=${KEPT:-build/gpu}
out=${OUT:-results/reference/gpu}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
status=0
export HARNESS_OFFLINE=1 PYTHONUNBUFFERED=1

left() { echo $((ends - $(date +%s))); }

# Run a command within the time that is left, less so many seconds: it is told to stop then, and killed 15 s later.
within() {
    less=$1
    shift
    timeout -k 15 $(($(left) - less > 1 ? $(left) - less : 1)) "$@"
}

# The new files of runs, in parts.
pack() {
    rm -f "$out"/runs.tar.*
    (cd "$kept/runs" && find . -type f -newer ../began ! -name '*.claim*' | tar cf - -T -) |
        split -d -b 15m - "$out/runs.tar."
}

case $step in
    tests) benches=${BENCHES-fit} ;;
    bench) benches=${BENCHES-dm dsa} ;;
    run) benches= ;;
    *) echo "usage: scripts/gpu_slice.sh tests|bench|run [SECONDS]" >&2; exit 2 ;;
esac
mkdir -p "$out" "$kept/data/cifar100"
if [ -d build/parts ]; then
    find build/parts -type f -exec mv {} "$kept/data/cifar100" \;
fi
if ! "$python" -c 'import importlib.metadata as m; m.version("condensation-harness")' 2> /dev/null; then
    if [ ! -d "$kept/site" ]; then
        rm -rf "$kept/source" && mkdir "$kept/source"
        cp -R pyproject.toml README.md LICENSE harness memory nas results scenarios "$kept/source"
        "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --target "$kept/site" "$kept/source" ||
            { echo "gpu_slice: the package is not installed; rows would not name its version" >&2; exit 2; }
    fi
    export PYTHONPATH="$PWD/$kept/site${PYTHONPATH:+:$PYTHONPATH}"
fi

if [ "$step" = tests ]; then  # half of the time at most
    # shellcheck disable=SC2086  # several files
    within $(($(left) / 2)) "$python" -m pytest -m gpu ${TESTS-tests/test_gpu.py} > "$out/tests.log" 2>&1 || status=$?
    tail -n 3 "$out/tests.log"
fi

count=$(echo "$benches" | wc -w)
for name in $benches; do
    # shellcheck disable=SC2086  # several options
    within $(($(left) * (count - 1) / count + 15)) "$python" -m harness.cli bench "$name" --json --device "$device" \
        ${BENCH---seconds 20} >> "$out/bench.jsonl" || { status=$?; echo "gpu_slice: bench $name: exit code $status" >&2; }
    count=$((count - 1))
done

if [ "$step" = run ]; then
    if [ ! -d "$kept/runs" ]; then
        mkdir "$kept/runs"
        [ ! -d results/reference/gpu ] || cp -R results/reference/gpu/. "$kept/runs"
    fi
    touch "$kept/began"
    limit=$(($(left) - 75)) # workers have 20 s to stop, then rows are written and packed
    # shellcheck disable=SC2086  # a command and its options
    within 25 "$python" -m harness.cli ${RUN-run cl --memory dm --orders 0 --nets 1} --out "$kept/runs" \
        --data "${HARNESS_DATA:-$kept/data}" --device "$device" --jobs "${JOBS:-1}" --time-limit "$((limit > 1 ? limit : 1))s" \
        >> "$out/run.log" 2>&1 || status=$?
    tail -n 5 "$out/run.log"
    pack
    [ "$status" != 3 ] || status=0  # units are left, which the next call does
fi
exit "$status"
