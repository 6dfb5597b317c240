from __future__ import annotations

import threading
import time
import weakref

import numpy as np
import pytest

from indexer import images, pipeline
from indexer.errors import ArgumentError
from indexer.pipeline import Job, in_order
from indexer.places import Folder


class Alive:
    """Counts the prepared arrays that anybody still holds."""

    def __init__(self):
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def watch(self, array):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        weakref.finalize(array, self.gone)
        return array

    def gone(self):
        with self.lock:
            self.now -= 1


class Store:
    def __init__(self):
        self.commits = []

    def __call__(self, hashes, vectors):
        self.commits.append((list(hashes), np.array(vectors)))

    @property
    def hashes(self):
        return [hash for hashes, _ in self.commits for hash in hashes]


@pytest.fixture
def jobs(tmp_path, photo):
    def make(count):
        paths = [photo(tmp_path / "a" / f"{number:03}.png", number) for number in range(count)]
        return [Job(images.identify(path.read_bytes()), [f"a/{path.name}"]) for path in paths]

    return make


@pytest.fixture
def run(tmp_path, model):
    def go(jobs, store, *, model=model, batch_size=4, workers=2, progress=lambda *_: None, memory="1.5GB"):
        return pipeline.run(
            jobs,
            model,
            store,
            source=Folder(tmp_path),
            batch_size=batch_size,
            max_pixels=10_000,
            memory=memory,
            workers=workers,
            progress=progress,
        )

    return go


def test_every_content_is_embedded_once_in_order(jobs, run, model, tmp_path):
    made, store = jobs(10), Store()

    assert run(made, store)[0] == []

    assert store.hashes == [job.hash for job in made]
    assert model.embedded == 10
    for job, vector in zip(made, np.concatenate([vectors for _, vectors in store.commits]), strict=True):
        image = images.decode((tmp_path / job.paths[0]).read_bytes(), path="x")
        assert vector.tolist() == pytest.approx(model.embed([model.prepare(image)])[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 2), (8, 3)])
def test_few_prepared_images_are_alive_at_once_however_many_there_are(jobs, run, model, batch_size, workers):
    alive, plain = Alive(), model.prepare
    model.prepare = lambda image: alive.watch(plain(image))

    run(jobs(60), Store(), batch_size=batch_size, workers=workers)

    assert alive.most <= workers + 3 * batch_size + 1
    assert alive.now == 0


def test_a_slow_model_makes_the_threads_wait(jobs, run, model):
    prepared, gaps, plain = [0], [], (model.prepare, model.embed)

    def prepare(image):
        prepared[0] += 1
        return plain[0](image)

    def embed(arrays):
        time.sleep(0.02)
        gaps.append(prepared[0] - model.embedded)
        return plain[1](arrays)

    model.prepare, model.embed = prepare, embed
    run(jobs(40), Store(), batch_size=4, workers=2)

    assert max(gaps) <= 2 + 3 * 4 + 1


def test_bad_files_are_listed_and_the_rest_goes_on(jobs, run, model, tmp_path):
    made, store = jobs(6), Store()
    (tmp_path / made[1].paths[0]).write_bytes(b"changed since")
    (tmp_path / made[3].paths[0]).unlink()
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    made.append(Job(images.identify((tmp_path / "a" / "bad.png").read_bytes()), ["a/bad.png"]))

    failed, _ = run(made, store)

    assert [failure.path for failure in failed] == ["a/001.png", "a/003.png", "a/bad.png"]
    assert "another content" in failed[0].reason
    assert store.hashes == [made[number].hash for number in (0, 2, 4, 5)]


def test_any_copy_of_a_content_will_do(jobs, run, tmp_path):
    (job,) = jobs(1)
    (tmp_path / "a" / "copy.png").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    (tmp_path / "a" / "000.png").unlink()
    store = Store()

    failed, _ = run([Job(job.hash, ["a/000.png", "a/copy.png"])], store)

    assert [failure.path for failure in failed] == ["a/000.png"]
    assert store.hashes == [job.hash]


def test_progress_begins_at_nought_and_ends_at_the_total(jobs, run):
    seen = []

    run(jobs(10), Store(), progress=lambda *step: seen.append(step))

    assert seen[0] == ("embedding", 0, 10)
    assert seen[-1] == ("embedding", 10, 10)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_embeddings_are_committed_as_it_goes(jobs, run, monkeypatch):
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", 0.0)
    by_time, by_rows = Store(), Store()

    run(jobs(10), by_time, batch_size=2)
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(pipeline, "COMMIT_ROWS", 4)
    run(jobs(10), by_rows, batch_size=2)

    assert [len(hashes) for hashes, _ in by_time.commits] == [2] * 5
    assert [len(hashes) for hashes, _ in by_rows.commits] == [4, 4, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("CUDA out of memory")])
def test_a_model_that_fails_stops_the_threads_and_keeps_what_was_embedded(jobs, run, model, error):
    plain, store = model.embed, Store()

    def embed(arrays):
        if model.embedded >= 8:
            raise error
        return plain(arrays)

    model.embed = embed
    made = jobs(40)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        run(made, store)

    assert store.hashes == [job.hash for job in made[:8]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("indexer")]


def test_what_was_only_waiting_is_not_read_after_a_failure(jobs, run, model):
    prepared, plain = [], model.prepare

    def prepare(image):
        time.sleep(0.005)
        prepared.append(1)
        return plain(image)

    def fail(arrays):
        raise KeyboardInterrupt

    model.prepare, model.embed = prepare, fail
    with pytest.raises(KeyboardInterrupt):
        run(jobs(60), Store(), batch_size=20, workers=1)

    assert len(prepared) < 20 + 15  # of the 21 that may be ahead


def test_an_error_in_a_thread_is_not_swallowed(jobs, run, model):
    def prepare(image):
        raise ZeroDivisionError

    model.prepare = prepare
    with pytest.raises(ZeroDivisionError):
        run(jobs(40), Store())

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("indexer")]


def test_a_model_that_makes_another_shape_is_refused(jobs, run, model):
    model.embed = lambda arrays: np.ones((len(arrays), 3))

    with pytest.raises(ArgumentError, match=r"shape \(4, 3\) from 4 images"):
        run(jobs(4), Store())


def test_work_done_in_threads_comes_back_in_order_and_not_too_early():
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.001 * (number % 3))
        return number * number

    for number, result in enumerate(in_order(work, range(50), workers=4, ahead=6)):
        assert result == number * number
        assert len(started) <= number + 1 + 6
    assert list(in_order(work, [], workers=4, ahead=6)) == []
