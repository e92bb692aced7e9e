"""How a long computation reports its progress, and resumes after an interruption."""

from collections.abc import Callable

from torch import Tensor

State = dict[str, Tensor]


class Progress:
    """Reports and saves nothing, and never stops the work: the default when a long function is called directly."""

    def resume(self) -> State | None:
        """The last saved state of an earlier, interrupted call of the same work; None to start from the beginning."""
        return None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        """Report that `done` of `total` rounds are finished.

        It is called in every round, so it must be cheap. `state` returns all that the remaining rounds depend on, and
        is called only when a checkpoint is due. May raise to stop the work, after saving its state.
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


class ExtendedProgress(Progress):
    """A progress that saves further tensors with the state of the work.

    Args:
        progress: the progress to report to.
        more: returns the further tensors, under names that the work does not use.
        restore: is called with the whole saved state when the work resumes.
    """

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
