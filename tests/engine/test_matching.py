from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Batch
from engine.recipes import Matching
from indexer.errors import ArgumentError

DIM = 5


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def batch(labels):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), DIM, generator=generator), torch.tensor(labels))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    return [x / math.hypot(*a) for x in a]


def add(*vectors):
    return [sum(numbers) for numbers in zip(*vectors, strict=True)]


def shares(query, support, labels, scale):
    """The attention that each label receives from ``query``."""
    weights = [math.exp(scale * dot(query, vector)) for vector in support]
    return {
        label: sum(w for w, other in zip(weights, labels, strict=True) if other == label) / sum(weights)
        for label in labels
    }


@pytest.mark.parametrize("k_shot", [1, 2])
@pytest.mark.parametrize("labels", [[3, 3, 7, 7, 7, 100], [2, 9, 2, 9, 2, 4, 4, 4, 4, 4], [5, -1, 5, -1, 5, 5]])
def test_the_loss_equals_the_sum_written_out(labels, k_shot):
    given, scale = batch(labels), 7.0
    vectors = Given()(given.images).tolist()
    known = [i for i, label in enumerate(labels) if labels[:i].count(label) < k_shot]
    terms = []
    for i in set(range(len(labels))) - set(known):
        share = shares(vectors[i], [vectors[j] for j in known], [labels[j] for j in known], scale)
        terms.append(-math.log(share[labels[i]]))

    loss = Matching(scale=scale, k_shot=k_shot).loss(Given(), given)

    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_the_scores_of_an_episode_give_the_attention_by_a_softmax():
    labels = [0, 1, 1, 1, 2, 2]
    vectors = Given()(batch(labels).images)

    scores = Matching(scale=4.0).episode_scores(vectors, vectors, torch.tensor(labels), 3)

    expected = [
        [shares(query, vectors.tolist(), labels, 4.0)[label] for label in range(3)] for query in vectors.tolist()
    ]
    torch.testing.assert_close(scores.softmax(1), torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_a_hopeless_class_has_a_finite_score_and_slope():
    queries = torch.eye(2, requires_grad=True)
    support = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])

    scores = Matching(scale=1000.0).episode_scores(queries, support, torch.tensor([0, 1]), 2)
    torch.nn.functional.cross_entropy(scores, torch.tensor([1, 0])).backward()

    assert torch.isfinite(scores).all()
    assert torch.isfinite(queries.grad).all()


def cell_written_out(inputs, hidden, cell, weights):
    """One step of an LSTM: (hidden, cell)."""
    of_input, of_hidden, input_bias, hidden_bias = (weight.tolist() for weight in weights)
    gates = [
        dot(row, inputs) + dot(other, hidden) + a + b
        for row, other, a, b in zip(of_input, of_hidden, input_bias, hidden_bias, strict=True)
    ]

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    enter, keep, new, show = (gates[part * DIM : (part + 1) * DIM] for part in range(4))
    cell = [sigmoid(k) * c + sigmoid(e) * math.tanh(n) for k, c, e, n in zip(keep, cell, enter, new, strict=True)]
    return [sigmoid(s) * math.tanh(c) for s, c in zip(show, cell, strict=True)], cell


def walk(vectors, weights):
    hidden = cell = [0.0] * DIM
    seen = []
    for vector in vectors:
        hidden, cell = cell_written_out(vector, hidden, cell, weights)
        seen.append(hidden)
    return seen


def test_full_context_equals_the_equations_of_the_paper_written_out():
    torch.manual_seed(0)
    recipe = Matching(dim=DIM, full_context=True, reads=3, scale=4.0)
    labels = [0, 1, 1, 2]
    vectors = Given()(batch([0] * 7).images)
    queries, support = vectors[:3].tolist(), vectors[3:].tolist()
    lstm = recipe.context.along_support
    forward = walk(support, [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0])
    backward = walk(
        support[::-1],
        [lstm.weight_ih_l0_reverse, lstm.weight_hh_l0_reverse, lstm.bias_ih_l0_reverse, lstm.bias_hh_l0_reverse],
    )[::-1]
    seen = [add(*three) for three in zip(support, forward, backward, strict=True)]
    reader = recipe.context.reader
    expected = []
    for query in queries:
        hidden, read, cell = query, [0.0] * DIM, [0.0] * DIM
        for _ in range(3):
            change, cell = cell_written_out(
                query + read, hidden, cell, [reader.weight_ih, reader.weight_hh, reader.bias_ih, reader.bias_hh]
            )
            hidden = add(change, query)
            weights = [math.exp(dot(hidden, vector)) for vector in seen]
            read = add(*([w / sum(weights) * x for x in v] for w, v in zip(weights, seen, strict=True)))
        share = shares(unit(hidden), [unit(vector) for vector in seen], labels, 4.0)
        expected.append([share[label] for label in range(3)])

    scores = recipe.episode_scores(vectors[:3], vectors[3:], torch.tensor(labels), 3)

    torch.testing.assert_close(scores.softmax(1), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_full_context_learns_and_its_score_does_without():
    torch.manual_seed(0)
    recipe = Matching(dim=DIM, full_context=True)
    given = batch([4, 4, 9, 9, 9, 1, 1])
    vectors = Given()(given.images)

    recipe.loss(Given(), given).backward()

    assert all(parameter.grad.abs().sum() > 0 for parameter in recipe.parameters())
    assert torch.equal(recipe.score(vectors, vectors), Matching().score(vectors, vectors))


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"reads": 0}, {"full_context": True}, {"k_shot": 0}])
def test_a_senseless_option_is_refused(wrong):
    with pytest.raises(ArgumentError):
        Matching(**wrong)
