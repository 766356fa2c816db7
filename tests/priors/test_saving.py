"""Saving: one writer of a folder at a time, readers that meet the old prior or the new one, and nothing left behind."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

import priors
from priors import storage


def fitted(number):
    """A prior that tells its number by its marginals."""
    bits = np.zeros((64, 4), np.uint8)
    bits[: 8 * number] = 1
    prior = priors.create("bernoulli", dim=4)
    prior.fit(bits, valid=bits)
    return prior


def _save(number, barrier, failures):
    prior = fitted(number)
    barrier.wait()
    for _ in range(40):
        try:
            prior.save("prior", {"number": number})
            found = priors.load("prior")
            expected = fitted(found.metadata["number"])
            same = np.array_equal(
                found.log_prob(np.eye(4, dtype=np.uint8)), expected.log_prob(np.eye(4, dtype=np.uint8))
            )
            assert same, found.metadata
        except Exception as error:
            failures.put(repr(error))


def test_processes_that_save_into_one_folder_leave_one_readable_prior():
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(3), context.Queue()
    savers = [context.Process(target=_save, args=(n, barrier, failures)) for n in range(1, 4)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert failures.empty(), failures.get()
    assert priors.load("prior").metadata["number"] in (1, 2, 3)
    assert len(os.listdir("prior")) == 2


def test_what_killed_savers_left_is_swept():
    fitted(1).save("prior")
    Path("prior/.tmp").mkdir()
    for name in (".tmp/prior.json", ".lock", ".prior.json.abcdefgh.tmp", "prior-0123456789ab.safetensors"):
        Path("prior", name).write_text("half")
    storage.tidy(Path("prior"))
    assert len(os.listdir("prior")) == 2 and priors.load("prior").dim == 4


def test_the_digest_of_a_prior_is_that_of_its_tensors():
    import hashlib

    prior = fitted(1)
    assert prior.sha256 is None
    prior.save("prior")
    (file,) = Path("prior").glob("*.safetensors")
    assert prior.sha256 == priors.load("prior").sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_tensors_that_are_gone_are_named():
    fitted(1).save("prior")
    (file,) = Path("prior").glob("*.safetensors")
    file.unlink()
    with pytest.raises(priors.PriorError, match="does not exist"):
        priors.load("prior")
