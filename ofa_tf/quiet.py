"""TensorFlow, without its chatter, which is kept away from the user unless something fails."""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from ofa_tf.allocator import keep_freed_memory
from ofa_tf.errors import MissingDependencyError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallows what Python and C++ code print to standard output and error in the meantime.

    If the block raises, the last of it is added to the error as a note.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    text = io.StringIO()
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(tempfile.TemporaryFile())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for descriptor in (1, 2):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)  # before anything can interrupt
            os.dup2(sink.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        try:
            yield
        except Exception as error:
            sink.seek(0)
            if said := sink.read().decode(errors="replace") + text.getvalue():
                error.add_note(said[-2000:])
            raise


def load_tensorflow(what: str = "This") -> None:
    """Imports TensorFlow without its chatter: seconds, so only where something is computed with it.

    Args:
        what: needs it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        keep_freed_memory()
    try:
        with quiet():
            import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise MissingDependencyError(
            f"{what} needs TensorFlow, which is not installed here: `pip install tensorflow`, or do it on a machine "
            "that has it."
        ) from None
