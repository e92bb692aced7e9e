"""Machine lore: the constants of the library that were chosen by how fast some hardware is, and how each was measured.

Rows of benchmarks lie in results/reference/bench.jsonl (a processor with AMX) and bench-without-avx512.jsonl (Zen 3);
`harness bench` measures them anew. What nobody has measured says UNMEASURED here, and nowhere else.
"""

# --- images at a time ------------------------------------------------------------------------------------------------

# Images that a CPU pushes through a network at a time: with their first feature maps they fit a core's second-level
# cache. Benches dm and dm-mnist.
CPU_CHUNK = 64

# Images times filters that a CPU pushes forward and backward at a time: fewer images than forward alone, since the
# backward pass comes back to the feature maps. At widths 32 and 128, forward and backward in bfloat16: 7,600 and 1,330
# images a second in chunks of 64 and 32, 6,100 and 850 the other way round. Benches dc, dsa and dcc.
CPU_GRADIENT_MAPS = 4096

# Synthetic images in one graph of a second derivative on a CPU: some 2 GiB for a ConvNet of width 128. Bench dsa.
CPU_GRAPH = 256

# Floating-point operations of the forward passes of synthetic images from which a method's second derivatives are
# compiled, by kind of device. A graph takes 20 to 35 s of a core to compile the first time on a machine and some 3 s in
# each later process. On one core of a Zen 3, 1e11 take 15 s eagerly at width 128 and 32 s at width 32, with all that
# follows forward, and 0.6 to 0.75 of that compiled (beside other work). Whole updates gain 1.2x at width 32, with
# quartiles that overlap, and nothing at width 128 (five pairs each). Bench dsa. CUDA: UNMEASURED.
SECOND_ORDER_FROM = {"cpu": 1e11, "cuda": 1e13}

# Synthetic images of a class from which a compiled second derivative takes each class alone; fewer are batched by vmap,
# whose grouped convolutions are slow for many images. ConvNet-D3 of width 32, one core of a Zen 3, ten classes in one
# graph and in ten: 19 and 34 ms of 1 image each, 76 and 74 ms of 4, 184 and 170 ms of 10. No bench of its own.
OWN_GRAPH = 4

# Images in one graph on CUDA, halved where they do not fit. UNMEASURED.
CUDA_GRADIENT_CHUNK = 1000

# One in so many parts of a GPU's memory is for feature maps, so that a few workers fit beside each other. UNMEASURED.
CUDA_SHARE = 8

# Images tested or embedded at a time, whose outputs lie side by side: whole chunks of a CPU's.
EVALUATED = 8000

# --- compiling -------------------------------------------------------------------------------------------------------

# Images to train on, by kind of device, under which a candidate of a search stays eager. On a CPU, compiling its graphs
# takes 2 to 17 s of a core and saves 0.03 to 0.12 ms an image at width 32 (bench nas). On CUDA it is UNMEASURED: with
# this value the proxies of the papers' sizes are eager, and the truth of 100 epochs is compiled.
COMPILE_FROM = {"cpu": 150_000, "cuda": 2_000_000}


def gains_from_compiling(norm: str, pooling: str) -> bool:
    """Whether a ConvNet of this norm and pooling trains faster on a CPU when it is compiled.

    Forward and backward in bfloat16 against the fastest eager form (width 32, depths 1 to 4, one core): 1.3 to 2.2
    times as fast under instance norm, and with average pooling under BatchNorm or none; 0.2 to 1.25 times elsewhere.
    """
    return norm == "instancenorm" or (pooling == "avgpooling" and norm in ("batchnorm", "nonorm"))


def gains_from_float32(norm: str, pooling: str) -> bool:
    """Whether an eager ConvNet trains faster on a CPU in float32 than in bfloat16: where it does, 1.0 to 1.4 times."""
    return pooling == "maxpooling" and norm in ("instancenorm", "groupnorm")


# --- memory and workers ----------------------------------------------------------------------------------------------

# Bytes of freed memory that a process keeps for its next batch, where glibc allocates. Else every freed batch goes back
# to the system, which zeroes its pages anew for the next. On two cores of an AMD EPYC a ConvNet trains 1.4 times as
# fast so eagerly, at widths 32 and 128, and 1.0 to 1.3 times compiled. Both forms of a benchmark run without it.
KEPT_BYTES = 2**30

# Workers that share a GPU unless --jobs says otherwise. UNMEASURED: `harness bench nas` says what is best on a GPU.
WORKERS_PER_GPU = 1


# --- layout of feature maps ------------------------------------------------------------------------------------------


def gains_from_channels_last(norm: str, pools: bool, max_pools: bool, dtype: str, compiled: bool) -> bool:
    """Whether a network trains faster on a CPU with its filters in channels last; the results stay the same.

    Measured against the default layout, eager, forward and backward, depth 2, width 32, one core: 1.2 to 2.1 times as
    fast with pooling under BatchNorm or no norm; 1.0 to 1.5 times with max pooling under group norms in float32. In
    bfloat16, networks with group norms take 1.0 to 6 times as long; so do most networks without pooling, and networks
    with layer norms always. Compiled networks gain 5 % at most.
    """
    if norm == "layernorm":
        return False
    if compiled:
        return True
    return max_pools and dtype == "float32" if norm == "groupnorm" else pools
