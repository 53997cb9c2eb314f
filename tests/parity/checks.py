"""Counts what a comparison checks, and says what failed."""


class Checks:
    """What was checked, and what failed."""

    def __init__(self):
        self.done, self.failed = 0, []

    def that(self, right, what):
        self.done += 1
        if not right:
            self.failed.append(what)
            print("FAILED:", what)
