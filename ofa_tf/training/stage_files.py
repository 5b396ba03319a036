"""Where the stages of a training keep what they make."""

from pathlib import Path

from ofa_tf.training.ledger import Ledger


class StageFiles:
    """The ledger, checkpoints and logs of a training, all in one folder.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.logs = self.path / "logs"

    def __str__(self) -> str:
        return str(self.path)

    def ledger(self) -> Ledger:
        """Its ledger."""
        return Ledger(self.path / "ledger.json")

    def checkpoints(self, stage: str) -> Path:
        """Folder of a stage's checkpoints."""
        return self.path / "checkpoints" / stage
