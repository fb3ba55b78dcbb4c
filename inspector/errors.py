"""The tree of errors. Everything this product raises on purpose descends from `InspectorError`.

    InspectorError
    ├── ConfigError              the YAML is wrong: file, line, key, value, reason
    ├── MissingExtraError        an optional part is not installed: names the extra
    ├── InputError               something handed to us is unusable; nothing of ours is broken
    │   ├── ImageError           one image; the subclasses say what is wrong with it
    │   │   ├── ImageTruncatedError
    │   │   ├── ImageTooLargeError
    │   │   ├── ImageUnsupportedError
    │   │   ├── ImageSizeError
    │   │   └── ImageVanishedError
    │   ├── DatasetError         a folder of images that is not a data set
    │   └── CommandError         an MQTT command that is not acceptable (RefusedCommandError says why)
    ├── RecipeError              a recipe cannot be used
    │   ├── RecipeNotFoundError
    │   ├── RecipeNotReleasedError
    │   ├── RecipeTamperedError
    │   └── RecipeMismatchError  made for another camera
    ├── FitError                 nothing can be learned from these images
    ├── WeightsError             weights of the generator: missing, truncated, foreign, changed, or too new
    ├── CameraError              a source of frames failed
    │   ├── CameraUnavailableError   try again later
    │   └── CameraStalledError       it was there and went silent
    ├── StoreError               the database or the data directory
    │   ├── DiskFullError        wait for space; nothing accepted is lost
    │   ├── DataDirReadOnlyError
    │   ├── DataDirLockedError   a second service on the same data directory
    │   ├── SchemaVersionError   the database belongs to a newer program
    │   └── ChainBrokenError     a row of the audit chain was changed
    ├── BrokerError              MQTT
    │   ├── BrokerUnreachableError   retried with back-off (NoAnswerError: it accepts and stays silent)
    │   └── BrokerRefusedError       credentials or rights: retried slowly, shown in `status`
    │                                (ProtocolVersionError: it speaks only the other MQTT version)
    └── CloudError               a question to a cloud model: kept, and asked again where that helps
        └── QuestionHinderedError    this one question cannot be asked; the others can

A caller that can wait catches the retryable leaves (`CameraUnavailableError`, `CameraStalledError`,
`DiskFullError`, `BrokerUnreachableError`, `BrokerRefusedError`); a caller that serves a person
catches `InspectorError` and prints it.
"""


class InspectorError(Exception):
    """Base of all errors raised on purpose. The message says what is wrong, where, and what to do."""


class ConfigError(InspectorError):
    """The configuration is not valid. The message lists every problem, one a line."""


class MissingExtraError(InspectorError):
    """An optional part is needed but not installed."""


class InputError(InspectorError):
    """Something handed to the product is unusable."""


class ImageError(InputError):
    """One image cannot be used."""


class ImageTruncatedError(ImageError):
    """The bytes end before the image does, or are not an image at all."""


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than the configured limits."""


class ImageUnsupportedError(ImageError):
    """A format, colour space or animation that no inspection camera should send."""


class ImageSizeError(ImageError):
    """Not the width and height that the camera or the recipe declares."""


class ImageVanishedError(ImageError):
    """The file was removed while it was being read."""


class DatasetError(InputError):
    """A folder does not follow the data set convention or holds no usable image."""


class CommandError(InputError):
    """An MQTT command is malformed, too large, or not for this station."""


class RecipeError(InspectorError):
    """A recipe cannot be used."""


class RecipeNotFoundError(RecipeError):
    """No recipe of this name or version in the data directory."""


class RecipeNotReleasedError(RecipeError):
    """The version exists but was never released for production."""


class RecipeTamperedError(RecipeError):
    """A file of the recipe does not match the hash in its manifest."""


class RecipeMismatchError(RecipeError):
    """The recipe was fitted on frames of another size."""


class FitError(InspectorError):
    """Nothing can be learned from the given good images."""


class WeightsError(InspectorError):
    """Weights of the generator cannot be used; the service runs without it."""


class CameraError(InspectorError):
    """A source of frames failed."""


class CameraUnavailableError(CameraError):
    """The source cannot be opened now; try again later."""


class CameraStalledError(CameraError):
    """The source was open and delivers no frames any more."""


class StoreError(InspectorError):
    """The database or the data directory cannot be used."""


class DiskFullError(StoreError):
    """No space left. Callers keep what they hold and wait; nothing accepted is lost."""


class DataDirReadOnlyError(StoreError):
    """The data directory cannot be written."""


class DataDirLockedError(StoreError):
    """Another service runs on the same data directory."""


class SchemaVersionError(StoreError):
    """The database was made by a newer version of this program."""


class ChainBrokenError(StoreError):
    """A row of the audit chain does not match its hash."""


class BrokerError(InspectorError):
    """The MQTT broker cannot be used."""


class BrokerUnreachableError(BrokerError):
    """No connection to the broker."""


class BrokerRefusedError(BrokerError):
    """The broker answered and refused: credentials or rights."""


class CloudError(InspectorError):
    """A question to a cloud model could not be asked or was not answered."""


class QuestionHinderedError(CloudError):
    """One question cannot be asked: its frame, its recipe or a picture of it. No other question suffers for it."""
