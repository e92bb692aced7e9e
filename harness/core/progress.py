"""What a long computation tells its caller, and where it picks up after a kill."""

from collections.abc import Callable

from torch import Tensor

State = dict[str, Tensor]


class Progress:
    """Nothing is reported, kept or stopped: the default for whoever calls a long function directly."""

    def resume(self) -> State | None:
        """The state last kept by an earlier, interrupted call of the same work; None to start afresh."""
        return None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        """Say that `done` of `total` rounds are finished.

        Called every round, so it must cost next to nothing; `state` is called only when a checkpoint is due and
        returns all that the remaining rounds depend on. May raise to stop the work, after keeping its state.
        """

    def cache(self, name: str, make: Callable[[], State]) -> State:
        """Return `make()`, or what it returned in an earlier, interrupted call of the same work.

        For parts of the work that later rounds need but do not change, such as trained networks: each is kept once,
        and not again with every checkpoint.

        Args:
            name: of the part, unique within the work, such as "network-3".
        """
        return make()


SILENT = Progress()


class Along(Progress):
    """A progress that keeps more than the work it is handed to knows of: `more` is put beside its state."""

    def __init__(self, progress: Progress, more: Callable[[], State], restore: Callable[[State], None]) -> None:
        self.progress, self.more, self.restore = progress, more, restore

    def resume(self) -> State | None:
        state = self.progress.resume()
        if state is not None:
            self.restore(state)
        return state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.progress.tick(done, total, lambda: state() | self.more())

    def cache(self, name: str, make: Callable[[], State]) -> State:
        return self.progress.cache(name, make)
