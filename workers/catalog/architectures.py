"""Architectures that a grid can name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ArchitectureEntry:
    name: str
    target: str  #: a function `layers(input_shape, classes) -> ...`; see workers/models/base.py
    input_shape: tuple[int, int, int]  #: height, width, channels that the paper uses
    min_size: int  #: smallest height and width that leave the last pool something to pool
    #: Conv and dense kernels at that shape and 10 classes, the residual projections left out.
    prunable_weights: int
    conv_weights: int  #: those of them in convolutions: what structured methods prune
    #: Multiply-adds of one forward pass of one image of that shape.
    forward_flops: int
    title: str
    #: What it was when results of its name were first made, and the sources that said so: see
    #: `workers/identity.py`, which also prints them. Without them the key has the configuration.
    configuration: str = ""
    sources: str = ""


ARCHITECTURES: Mapping[str, ArchitectureEntry] = {
    entry.name: entry
    for entry in (
        ArchitectureEntry(
            name="cnn5",
            target="prunegrid.workers.models.cnn5:build",
            input_shape=(28, 28, 1),
            min_size=12,
            prunable_weights=61_470,
            conv_weights=2_550,
            forward_flops=416_520,
            title="CNN5",
            configuration="09abd033607008d3feff",
            sources="fdfc8a1561b1",
        ),
        ArchitectureEntry(
            name="resnet8",
            target="prunegrid.workers.models.resnet:build_resnet8",
            input_shape=(32, 32, 3),
            min_size=1,
            prunable_weights=1_164_640,
            conv_weights=1_162_080,
            forward_flops=11_233_792,
            title="ResNet8",
            configuration="9d3b584de9c917ee690a",
            sources="0ca45e0a0833",
        ),
        ArchitectureEntry(
            name="vgg11",
            target="prunegrid.workers.models.vgg11:build",
            input_shape=(32, 32, 3),
            min_size=16,
            prunable_weights=11_325_120,
            conv_weights=9_217_728,
            forward_flops=607_856_640,
            title="VGG11",
            configuration="a32c80f04fe80f146c46",
            sources="6195eb8f267c",
        ),
        ArchitectureEntry(
            name="resnet18",
            target="prunegrid.workers.models.resnet:build_resnet18",
            input_shape=(224, 224, 3),
            min_size=1,
            prunable_weights=11_000_000,
            conv_weights=10_994_880,
            forward_flops=1_813_566_464,
            title="ResNet18",
            configuration="83094bfa90f05359d74a",
            sources="0ca45e0a0833",
        ),
    )
}
