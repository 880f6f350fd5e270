"""How a command fails: one clear line to stderr and an exit code."""


class CliError(Exception):
    """Ends the command. `message` says what is wrong and, where known, what to do."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
