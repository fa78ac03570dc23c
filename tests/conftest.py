"""One thread for all tests, and the data sets that only some machines have."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist_data() -> Path:
    """The folder of data sets with MNIST in it."""
    return data_with("mnist/train-images-idx3-ubyte.gz", "MNIST")


@pytest.fixture(scope="session")
def cifar_data() -> Path:
    """The folder of data sets with CIFAR-10 in it, as parquet files with images in JPEG."""
    return data_with("cifar10/cifar10-train.parquet", "CIFAR-10")


def data_with(file: str, what: str) -> Path:
    """The folder of data sets, if it has that file. Where there is none the test is skipped, unless
    data was promised: then a missing file must not look like a passed test."""
    named = os.environ.get("TOMBOLA_DATA", "")
    promised = os.environ.get("TOMBOLA_REQUIRE_DATA") == "1"
    promised |= os.environ.get("CI") == "true" and bool(named)
    reason = "$TOMBOLA_DATA is not set"
    if named:
        if (Path(named) / file).is_file():
            return Path(named)
        reason = f"$TOMBOLA_DATA={named} has no {file}"
    if promised:
        pytest.fail(f"{reason}, but data was promised here")
    pytest.skip(f"{reason}; the real {what} was not read")
