from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.batches import Balanced
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recipes import Contrastive, Siamese
from engine.training import train
from engine.training_set import TrainingSet
from engine.transfer import Transfer, stages
from engine.weights import load_embedder
from indexer.errors import ArgumentError

FEW = Balanced(n_classes=4, n_images=3)


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.fixture
def teach(photos, weights, tmp_path):
    """Return what three steps with a ``Transfer`` make of the embedder: before, after."""

    def run(transfer, **how):
        out = tmp_path / "out.safetensors"
        train(
            TrainingSet(photos, sampler=FEW),
            out,
            weights=weights,
            transfer=transfer,
            steps=3,
            learning_rate=1e-2,
            device="cpu",
            **how,
        )
        return load_embedder(weights), load_embedder(out)

    return run


def test_a_frozen_backbone_stays_as_it_is_to_the_last_statistic_and_a_new_head_learns(teach):
    before, after = teach(Transfer(frozen=True), dim=8)

    assert changed(weights_of(before.backbone), after.backbone) == set()
    assert after.dim == 8
    assert after.projection.weight.shape == (8, before.dim)


def test_a_frozen_backbone_without_anything_to_learn_is_refused(teach):
    with pytest.raises(ArgumentError, match="new head"):
        teach(Transfer(frozen=True))


def test_a_frozen_backbone_is_enough_for_a_recipe_that_learns_a_score(teach):
    before, after = teach(Transfer(frozen=True), recipe="siamese")

    assert changed(weights_of(before), after) == set()


def test_frozen_norms_keep_their_statistics_while_their_weights_learn(teach):
    before, after = teach(Transfer(frozen_norms=True))

    moved = changed(weights_of(before.backbone), after.backbone)
    assert {"convolution.weight", "norm.weight"} <= moved
    assert not any("running" in name for name in moved)


def test_without_it_the_statistics_follow_the_images(teach):
    before, after = teach(Transfer())

    assert "norm.running_mean" in changed(weights_of(before.backbone), after.backbone)


def test_each_stage_learns_slower_than_the_one_above_and_the_head_at_its_own_rate():
    embedder = Embedder("resnet101-slim", dim=16, preprocessing=Preprocessing.whole(32), colours=4)
    recipe = Siamese(dim=20)

    groups = Transfer(layer_decay=0.5, head_learning_rate=1.0).groups(embedder, recipe, 0.16, 0.01)

    rate = {id(weights): group["peak"] for group in groups for weights in group["params"]}
    backbone = embedder.backbone
    parts = [backbone.conv1, backbone.bn1, backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    for part, expected in zip(parts, (0.01, 0.01, 0.02, 0.04, 0.08, 0.16), strict=True):
        assert {rate[id(weights)] for weights in part.parameters()} == {expected}
    head = embedder.projection, embedder.colours, recipe
    assert {rate[id(weights)] for part in head for weights in part.parameters()} == {1.0}


def test_every_weight_that_learns_is_in_one_group_and_norms_do_not_decay():
    embedder = Embedder("conv4", preprocessing=Preprocessing.whole(28))

    groups = Transfer().groups(embedder, Contrastive(), 0.1, 0.01)

    grouped = [id(weights) for group in groups for weights in group["params"]]
    assert sorted(grouped) == sorted(id(weights) for weights in embedder.parameters())
    for group in groups:
        assert all((weights.ndim > 1) == (group["weight_decay"] > 0) for weights in group["params"])


def test_stages_are_the_parts_with_weights_from_the_image_upwards():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2))

    assert [[type(part).__name__ for part in stage] for stage in stages(network)] == [
        ["Conv2d", "BatchNorm2d"],
        ["Linear"],
    ]


@pytest.mark.parametrize("wrong", [{"layer_decay": 0}, {"layer_decay": 1.5}, {"head_learning_rate": 0}])
def test_rates_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ArgumentError):
        Transfer(**wrong)


def test_an_embedder_adapted_to_another_size_keeps_its_backbone(embedder):
    adapted = embedder.adapted(dim=None, preprocessing=embedder.preprocessing.resized(48))

    assert adapted.preprocessing == Preprocessing.whole(48)
    assert changed(weights_of(embedder), adapted) == set()
    assert adapted.fingerprint != embedder.fingerprint


def test_a_head_that_does_not_fit_another_size_is_refused():
    embedder = Embedder("conv4", dim=16, preprocessing=Preprocessing.whole(32))

    with pytest.raises(ArgumentError, match="give it a new one"):
        embedder.adapted(dim=None, preprocessing=Preprocessing.whole(64))
    assert embedder.adapted(dim=8, preprocessing=Preprocessing.whole(64)).dim == 8
