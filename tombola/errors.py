"""What can go wrong, one class per kind of mistake; an experiment's outcome is never an error.

Every message names the thing, shows what came and what was wanted, and says what to do.
`exit_status` is what the command line returns: 2 for a wrong call, 1 for work that failed on
the way.
"""

from typing import ClassVar


class TombolaError(Exception):
    """The root of every error raised on purpose."""

    exit_status: ClassVar[int] = 2


class CallError(TombolaError):
    """An argument of a command or of a public function is wrong."""


class RecipeError(TombolaError):
    """A recipe, or a piece of one, cannot mean what it says, or cannot be applied here."""


class WorldError(TombolaError):
    """The model, the data or a setting of a world cannot be used."""


class MaskError(TombolaError):
    """A mask does not fit the tensors it is for."""


class TicketError(TombolaError):
    """A ticket file is damaged, foreign, newer, or does not fit the network."""


class StoreError(TombolaError):
    """The store cannot be opened: not writable, foreign, newer, or damaged at its root."""


class VerdictError(TombolaError):
    """A rule cannot be applied to the trials at hand."""


class ShipError(TombolaError):
    """A model cannot be exported, or the exported file does not hold what it should."""


class WorkError(TombolaError):
    """Work that had started could not go on; what was finished is kept."""

    exit_status: ClassVar[int] = 1


class CheckError(WorkError):
    """A run found that it does not do what it claims. Its results must not be used."""


class StoreFullError(WorkError):
    """The store could not take another object: the disk is full, or was taken away."""


class DamagedObjectError(WorkError):
    """A stored object does not have the digest it is named by; it has been set aside."""

    def __init__(self, digest: str, message: str) -> None:
        super().__init__(digest, message)  # both, so that it survives a pipe between processes
        self.digest = digest

    def __str__(self) -> str:
        return str(self.args[1])
