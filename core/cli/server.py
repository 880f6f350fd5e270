"""The `server`, `region` and `namespace` commands, and what else asks one agent."""


def version_text() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"Serai v{version('serai')}"
    except PackageNotFoundError:
        return "Serai (not installed)"
