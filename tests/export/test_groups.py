"""Which channels stand and fall together."""

from __future__ import annotations

import pytest

from tests.export.networks import pruned

pytestmark = pytest.mark.tf


def test_a_residual_stream_is_one_group_and_the_inside_of_a_block_another():
    from prunegrid.workers.export.groups import channel_groups

    model, _ = pruned("resnet18", "random-local-filter", 1)
    group_of = {name: group for group in channel_groups(model) for name in group.layers}
    stream = group_of["conv1"]
    assert {"pool1", "block1_conv2", "block1_add", "block2_conv2", "block2_add"} <= {*stream.layers}
    assert set(stream.consumers) == {
        "block1_conv1",
        "block2_conv1",
        "block3_conv1",
        "block3_project",
    }
    inside = group_of["block1_conv1"]
    assert inside.layers == ("block1_conv1", "block1_norm2", "block1_relu2")
    assert (inside.consumers, inside.channels, inside.fixed) == (("block1_conv2",), 64, False)
    assert set(group_of["block8_add"].consumers) == {"block8_conv1", "logits"}


@pytest.mark.parametrize("architecture", ["cnn5", "resnet8", "vgg11", "resnet18"])
def test_the_image_and_the_logits_stay_and_every_layer_has_one_group(architecture):
    from prunegrid.workers.export.groups import channel_groups

    model, _ = pruned(architecture, "random-local-filter", 1)
    groups = channel_groups(model)
    assert [group.layers for group in groups if group.fixed] == [("image",), ("logits",)]
    members = [name for group in groups for name in group.layers]
    assert sorted(members) == sorted(layer.name for layer in model.layers)


def test_a_dense_network_keeps_everything():
    from prunegrid.workers.export.groups import plan_shrink

    model, _ = pruned("resnet8", "random-local-filter", 1)
    todo = plan_shrink(model)
    assert all(keep.all() for keep in todo.kept.values())
    assert todo.carriers == {}
