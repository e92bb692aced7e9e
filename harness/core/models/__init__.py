"""The papers' networks: any can be condensed with, trained or tested. Named on the command line, in any case.

    name   = "convnet" [depth] { "-" part } | "mlp" | "lenet" | ("alexnet" | "vgg11") [ "-" norm ]
           | "resnet18" { "-" norm | "-ap" }
    part   = "d" DEPTH | "w" WIDTH | norm | activation | pooling      each at most once, in any order
    norm   = instancenorm (in) | batchnorm (bn) | layernorm (ln) | groupnorm (gn) | nonorm (nn)
    activation = relu | sigmoid | leakyrelu | swish
    pooling    = avgpooling (avg) | maxpooling (max) | nopooling

`convnet3` is the papers' default: depth 3, width 128, instance norm, relu, average pooling;
`convnet-d3-w32-bn` changes two axes of it. `alexnet` has no norm, `vgg11` and `resnet18` have instance norm; each may
have batch norm instead (`alexnet-bn`). `resnet18-ap` halves its maps by average pooling rather than by strides.
"""

from harness.core.models.building import Spec, build, draw_weights, make, parse, scratch
from harness.core.models.convnet import ConvNet, ConvNetSpec
from harness.core.models.costs import bytes_per_image, count_outputs, forward_flop
from harness.core.models.network import AveragePool, Network, evaluating, has_batch_statistics
from harness.core.models.others import OtherSpec

__all__ = [
    "AveragePool",
    "ConvNet",
    "ConvNetSpec",
    "Network",
    "OtherSpec",
    "Spec",
    "build",
    "bytes_per_image",
    "count_outputs",
    "draw_weights",
    "evaluating",
    "forward_flop",
    "has_batch_statistics",
    "make",
    "parse",
    "scratch",
]
