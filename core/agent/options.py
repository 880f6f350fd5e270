"""What `serai agent` is told beside its configuration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    is_dev: bool = False  # server and client in a temporary folder, gone afterwards
    is_insecure: bool = False  # `-insecure`: start although check_safety objects
    record_path: str = ""  # `-record FILE`
    config_paths: tuple[str, ...] = ()  # read again at SIGHUP
    flags: dict[str, object] | None = None  # which went on top of them
