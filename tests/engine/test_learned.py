"""The learned score of a checkpoint: how it is loaded, and what it changes in an answer. The oracle is the recipe."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from engine.embedder import Embedder
from engine.learned import learned_score, load_recipe, load_score
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES, Contrastive, Recipe
from engine.recognizer import Recognizer
from engine.weights import read_checkpoint, save_checkpoint
from indexer.errors import EmbedderMismatch, WeightsError

DIM = 216  # of the tiny backbone
LEARNED = [name for name, recipe in RECIPES.items() if recipe.learned_score]


class Wayward(Recipe):
    """A score that is far from the cosine, and of which each seed has learned another one."""

    learned_score = True

    def __init__(self, *, dim: int, gain: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.gain = gain
        self.place = nn.Linear(dim, 3)
        nn.init.normal_(self.place.weight, generator=torch.Generator().manual_seed(seed))
        nn.init.constant_(self.place.bias, 0.25)

    def score(self, queries, support):
        return -self.gain * (self.place(queries)[:, None] + self.place(support)[None]).square().sum(2)


@pytest.fixture(autouse=True)
def wayward(monkeypatch):
    monkeypatch.setitem(RECIPES, "wayward", Wayward)


@pytest.fixture
def taught(embedder, tmp_path):
    """Write a checkpoint of the same embedder, with a score of its own."""

    def write(name="taught.safetensors", **options):
        card = {"recipe": "wayward", "training": {"options": options}}
        save_checkpoint(tmp_path / name, embedder, Wayward(dim=DIM, **options), card)
        return tmp_path / name

    return write


@pytest.fixture
def recognizer(photos, taught, tmp_path):
    with Recognizer.create(tmp_path / "g.gallery", weights=taught(gain=0.5), device="cpu") as made:
        made.index(photos)
        yield made


def units(n, seed=0):
    return nn.functional.normalize(torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def paths(photos):
    return [str(path) for path in sorted(photos.glob("*/*.png"))]


def prototypes(recognizer, photos):
    known = {folder.name: recognizer.embedder.embed(sorted(folder.iterdir())) for folder in sorted(photos.iterdir())}
    return {name: v.mean(0) / np.linalg.norm(v.mean(0)) for name, v in known.items()}


# -- loading -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_its_recipe_with_its_options_to_half_precision(taught):
    recipe = load_recipe(taught(gain=2.0, seed=3), dim=DIM)

    assert recipe.gain == 2.0
    expected = Wayward(dim=DIM, gain=2.0, seed=3).score(units(4), units(5, 1))
    torch.testing.assert_close(recipe.score(units(4), units(5, 1)), expected, atol=0.05, rtol=5e-3)
    assert not recipe.training
    assert not any(parameter.requires_grad for parameter in recipe.parameters())


def test_weights_that_tell_of_no_recipe_have_none_and_only_a_learned_one_has_a_score(embedder, weights, tmp_path):
    save_checkpoint(tmp_path / "bare.safetensors", embedder, nn.Module(), {})

    assert load_recipe("imagenet", dim=2048) is None
    assert load_recipe(tmp_path / "bare.safetensors", dim=DIM) is None
    assert isinstance(load_recipe(weights, dim=DIM), Contrastive)
    assert load_score("imagenet", dim=2048) is None
    assert load_score(weights, dim=DIM) is None


def test_the_embedders_tensors_are_not_read_for_the_recipe(taught):
    _, state = read_checkpoint(taught(), prefix="recipe.")

    assert sorted(state) == ["recipe.place.bias", "recipe.place.weight"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda card, state: card.update(recipe="alchemy"),
        lambda card, state: card.update(recipe=["wayward"]),
        lambda card, state: card.update(training=[]),
        lambda card, state: card["training"].update(options=[1]),
        lambda card, state: card["training"].update(options={"colour": "red"}),
        lambda card, state: state.pop("recipe.place.bias"),
        lambda card, state: state.update({"recipe.more": torch.zeros(1)}),
        lambda card, state: state.update({"recipe.place.weight": torch.zeros(3, 5)}),
        lambda card, state: state["recipe.place.weight"].view(-1)[7:8].fill_(float("nan")),
    ],
)
def test_a_recipe_that_cannot_be_what_the_checkpoint_says_is_refused_in_one_line(taught, tmp_path, spoil):
    path = taught()
    card, state = read_checkpoint(path)
    spoil(card, state)
    save_file(state, path, metadata={"firstsight": json.dumps(card)})

    with pytest.raises(WeightsError, match="taught") as refused:
        Recognizer.create(tmp_path / "none.gallery", weights=path, device="cpu")

    assert "\n" not in str(refused.value)
    assert not (tmp_path / "none.gallery").exists()


# -- the score -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[*LEARNED, "wayward"])
def recipe(request):
    torch.manual_seed(0)
    return RECIPES[request.param](dim=DIM)


def test_the_score_for_a_gallery_is_the_recipes_and_leaves_it_as_it_is(recipe):
    before = {name: tensor.clone() for name, tensor in recipe.state_dict().items()}
    queries, support = units(3), units(50, 1)

    score = learned_score(recipe)
    found = np.stack([score(query, support.numpy()) for query in queries.numpy()])

    np.testing.assert_allclose(found, recipe.eval().score(queries, support).detach(), atol=1e-4, rtol=1e-4)
    for name, tensor in recipe.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_equal_prototypes_get_equal_scores_wherever_they_stand(recipe):
    (query,), (prototype,), others = units(1).numpy(), units(1, 1).numpy(), units(97, 2).numpy()
    score = learned_score(recipe)

    for places in ([0, 40, 97], [1, 2, 3], range(98)):
        rows = others[np.arange(98) % 97].copy()
        rows[list(places)] = prototype
        assert len(set(score(query, rows)[list(places)].tolist())) == 1


# -- the answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_answers_are_ordered_by_the_learned_score_over_all_prototypes(recognizer, photos, taught, metric):
    recipe = load_recipe(taught(gain=0.5), dim=DIM)
    known = prototypes(recognizer, photos)
    overturned = 0

    for path in paths(photos):
        query = recognizer.embedder.embed(path)
        scores = recipe.score(torch.from_numpy(query), torch.from_numpy(np.stack(list(known.values()))))[0]
        learned = dict(zip(known, scores.tolist(), strict=True))
        shares = dict(zip(known, scores.softmax(0).tolist(), strict=True))
        answer = recognizer.recognize(path, k=3, metric=metric)

        assert [match.name for match in answer.matches] == sorted(learned, key=learned.get, reverse=True)[:3]
        for match in answer.matches:
            cosine = float(query[0] @ known[match.name])
            distance = 1 - cosine if metric == "cosine" else np.sqrt(2 - 2 * cosine)
            assert match.score == pytest.approx(learned[match.name], abs=1e-4)
            assert match.probability == pytest.approx(shares[match.name], abs=1e-4)
            assert match.distance == pytest.approx(distance, abs=1e-4)
        distances = [match.distance for match in answer.matches]
        overturned += distances != sorted(distances)
    assert overturned  # else this would not tell the learned score from the cosine


def test_the_nearest_references_are_those_of_the_cosine_whatever_was_learnt(recognizer, photos):
    hits = recognizer.search(paths(photos)[5], k=12)

    assert hits[0].reference == paths(photos)[5]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_asking_for_more_classes_than_there_are_gives_them_all_and_an_empty_gallery_gives_none(
    recognizer, photos, taught, tmp_path
):
    shares = [match.probability for match in recognizer.recognize(paths(photos)[0], k=1000).matches]

    assert len(shares) == 4
    assert sum(shares) == pytest.approx(1)
    with Recognizer.create(tmp_path / "empty.gallery", weights=taught(), device="cpu") as empty:
        assert empty.recognize(paths(photos)[0]).matches == []


def test_classes_that_score_alike_come_in_the_order_in_which_they_came(taught, tmp_path):
    image = Image.new("RGB", (40, 40), (200, 30, 90))
    with Recognizer.create(tmp_path / "same.gallery", weights=taught(), device="cpu") as same:
        for number in range(130):
            same.learn(f"class {number}", image)
        answer = same.recognize(image, k=110)

    assert [match.name for match in answer.matches] == [f"class {number}" for number in range(110)]


def test_a_gallery_takes_another_score_of_the_same_embedder_and_no_other_embedder(recognizer, photos, taught, tmp_path):
    recognizer.close()
    torch.manual_seed(9)
    stranger = Embedder("tiny", preprocessing=Preprocessing.whole(32)).eval()
    save_checkpoint(tmp_path / "stranger.safetensors", stranger, Wayward(dim=DIM), {"recipe": "wayward"})

    def scores(weights):
        with Recognizer.open(tmp_path / "g.gallery", weights=weights, device="cpu") as opened:
            return [match.score for match in opened.recognize(paths(photos)[0]).matches]

    assert scores(None) == scores(taught("again.safetensors", gain=0.5))
    assert scores(None) != scores(taught("other.safetensors", gain=0.5, seed=8))
    with pytest.raises(EmbedderMismatch):
        scores(tmp_path / "stranger.safetensors")


@pytest.mark.parametrize("checkpoint", ["taught.safetensors", "tiny.safetensors"])
def test_a_query_is_embedded_once_looked_up_once_and_scored_once_if_there_is_a_learned_score(
    recognizer, photos, weights, monkeypatch, checkpoint
):
    recognizer.close()
    with Recognizer.open(recognizer.gallery.path, weights=weights.with_name(checkpoint), device="cpu") as one:
        counts = {"embed": 0, "look up": 0, "score": 0}

        def counting(what, method):
            def counted(*args, **kwargs):
                counts[what] += 1
                return method(*args, **kwargs)

            return counted

        monkeypatch.setattr(Embedder, "forward", counting("embed", Embedder.forward))
        monkeypatch.setattr(one.gallery, "search_classes", counting("look up", one.gallery.search_classes))
        monkeypatch.setattr(Wayward, "score", counting("score", Wayward.score))
        monkeypatch.setattr(Contrastive, "score", counting("score", Recipe.score))
        one.recognize(paths(photos)[:3])

    assert counts == {"embed": 1, "look up": 1, "score": 3 if checkpoint == "taught.safetensors" else 0}
