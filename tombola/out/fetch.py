"""Image sets from the Hugging Face hub, as the parquet files it has or makes of them."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tombola.errors import CallError, WorkError, WorldError
from tombola.out.amounts import size
from tombola.out.datasets import KNOWN, survey
from tombola.world.data.folder import data_folder
from tombola.world.data.images import did_you_mean, folder_name
from tombola.world.data.importing import new_set
from tombola.world.data.layout import by_split
from tombola.world.data.parquet import image_column, opened

CONVERTED = "refs/convert/parquet"  # where the hub keeps parquet files of sets in other formats
NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", re.ASCII)

Tell = Callable[[str], None]  # called with a line on what is being done


@dataclass(frozen=True)
class Offer:
    """What the hub has of a set: files of one revision, each with its size and, where it is told,
    its SHA-256."""

    repo: str
    revision: str
    files: Sequence[tuple[str, int, str | None]]

    @property
    def bytes(self) -> int:
        return sum(size for _, size, _ in self.files)


def fetch(name: str, data: Path | None, tell: Tell) -> dict[str, Any]:
    """Fetch `mnist`, `cifar10`, or `org/name` of the hub into the folder of data sets, and open
    what came; the document that `tombola data fetch --json` prints.

    `org/name/part` is one of several configurations of a set. A set that is there already is only
    opened. The settings of huggingface_hub hold here: HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN.
    Nothing is left of a set that did not come whole.

    Raises:
        CallError: no name of a set.
        WorldError: no such set, a gated one, one without images, no room for it, or no network.
        WorkError: what came is not what the hub has.
    """
    final = data_folder(data) / folder_name(name)
    if final.exists():
        there = survey(final)
        if there is None:
            raise WorldError(f"{final} is there already, but holds no images. Remove it first.")
        return {"schema": 1, "fetched": False, "source": None, "revision": None, **there}
    offer = offered(name)
    check_room(offer, final.parent)
    with new_set(final) as folder:
        _download(offer, folder, tell)
    found = survey(final)
    assert found is not None  # its column of images was found
    return {"schema": 1, "fetched": True, "source": offer.repo, "revision": offer.revision, **found}


def offered(name: str) -> Offer:
    """The parquet files of a set: its own, else those that the hub made of it.

    Raises:
        CallError, WorldError: as `fetch` says.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    source = KNOWN.get(name, name)
    if not NAME.fullmatch(source):
        raise CallError(
            f"no set {name!r} to fetch.{did_you_mean(name, KNOWN)} There are {', '.join(KNOWN)}, "
            "and org/name for any image classification set of the Hugging Face hub."
        )
    organisation, title, *part = source.split("/")
    repo = f"{organisation}/{title}"
    for revision in (None, CONVERTED):
        with on_the_hub(repo):
            try:
                info = HfApi().dataset_info(repo, revision=revision, files_metadata=True)
            except RevisionNotFoundError:
                continue
        files = {
            PurePosixPath(file.rfilename): file
            for file in info.siblings or ()
            if file.rfilename.endswith(".parquet")
            and PurePosixPath(file.rfilename).is_relative_to(PurePosixPath(*part))
        }
        chosen = [path for paths in by_split(files, source).values() for path in paths]
        if chosen:
            found = [files[PurePosixPath(path)] for path in chosen]
            return Offer(
                repo,
                str(info.sha),
                [(f.rfilename, f.size or 0, f.lfs.sha256 if f.lfs else None) for f in found],
            )
    raise WorldError(
        f"{source} has no parquet files on the hub, and the hub has made none of it. Get its "
        "images in another way, and import them with `tombola data import PATH`."
    )


def check_room(offer: Offer, folder: Path) -> None:
    """Refuse a set that the disk has no room for.

    Raises:
        WorldError: it has not.
    """
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if offer.bytes > free:
        raise WorldError(
            f"{offer.repo} has {size(offer.bytes)}, and {there} has room for {size(free)}. Name "
            "another folder with --data."
        )


@contextmanager
def on_the_hub(repo: str) -> Iterator[None]:
    """What huggingface_hub raises, in our words.

    Raises:
        WorldError: no network, no such set, or a gated one.
        WorkError: the hub failed, or a file came with another length than it said.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )
    from huggingface_hub.errors import HTTPError as NoAnswerError  # type: ignore[attr-defined]

    hub = constants.ENDPOINT
    try:
        yield
    except GatedRepoError as error:
        raise WorldError(
            f"{repo} is gated: its owners want to know who takes it. Ask for it at "
            f"{hub}/datasets/{repo}, then log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise WorldError(
            f"{hub} has no data set {repo}, or shows it only to some. Look for its name there; if "
            "it is private, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise WorldError(
            f"{repo} is not here, and HF_HUB_OFFLINE forbids to fetch it. Unset it; or put the "
            "files here yourself, with `tombola data import PATH`."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise WorkError(f"{hub} answered {status} about {repo}. Try again later.") from error
    except (NoAnswerError, LocalEntryNotFoundError, ConnectionError) as error:
        reason = error.__cause__ or error
        raise WorldError(
            f"{hub} cannot be reached ({reason}). Check the network and HF_ENDPOINT; or put the "
            "files here yourself, with `tombola data import PATH`."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise  # of this machine
        raise WorkError(f"{repo} did not come whole ({error}). Fetch it again.") from error


def _download(offer: Offer, folder: Path, tell: Tell) -> None:
    from huggingface_hub import hf_hub_download

    for number, (name, length, sha256) in enumerate(offer.files, 1):
        tell(f"fetching {number} of {len(offer.files)}: {offer.repo}/{name}, {size(length)}")
        with on_the_hub(offer.repo):
            came = hf_hub_download(
                offer.repo, name, repo_type="dataset", revision=offer.revision, local_dir=folder
            )
        with open(came, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 not in (None, found):
            raise WorkError(
                f"{offer.repo}/{name} came with SHA-256 {found}; the hub says {sha256}. Fetch it "
                "again."
            )
        with opened(Path(came)) as file:
            image_column(file.schema_arrow, f"{offer.repo}/{name}")
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what huggingface_hub notes beside them
