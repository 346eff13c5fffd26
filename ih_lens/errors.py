"""Errors of this library: each says what was expected, what came, and what to do."""


class IHLensError(Exception):
    """Base of every error that `ih_lens` raises on purpose; the command line prints it without a traceback."""


class InputError(IHLensError, ValueError):
    """An argument has the wrong type, shape or range."""


class CapabilityError(IHLensError):
    """The model cannot do what the measurement needs; the message gives the reason."""


class NumericsError(InputError):
    """Weights hold NaN or infinity, or a forward pass gave them; the message says where, and what to do."""


class FingerprintError(InputError):
    """Results that were measured on different examples or models must not be combined."""


class DamagedFileError(IHLensError):
    """A file is truncated, altered, foreign, or of a version that this library does not read."""


class RunError(IHLensError):
    """A run folder cannot be used as asked: it holds another configuration, or is not finished."""


class StorageError(IHLensError, OSError):
    """A folder cannot be written: the disk is full, or it is read-only or somebody else's."""


class WorkerError(IHLensError):
    """Processes that worked on a task kept dying, most often for want of memory."""


class DownloadError(IHLensError):
    """Weights could not be had from the hub, although others of the same model may be; what was measured is kept."""
