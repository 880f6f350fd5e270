"""Job files: HCL, HCL's JSON form and Nomad's API JSON -> `core.model.job.Job`. Pure.

    parsed = parse_job(text, filename="web.nomad.hcl", variables={"image": "x"})
    parsed.job          # as the file says it: what it leaves out is None
    parsed.warnings     # list[Diagnostic]: known, but not carried out; file and line
    job = canonicalize(parsed.job, region="eu")     # Nomad's defaults filled in
    errors = validate(job)                          # [] when it may be registered
    diff = diff_jobs(old, job)                      # Nomad's JobDiff, as JSON shape
    body = parse_body(text, "agent.hcl")            # any HCL: see core.jobspec.hcl.body

No module here opens a file or knows a clock: the caller reads files, and hands in what
functions such as `file()` may use. `JobFileError.diagnostics` say file, line, column
and what was meant; `str(error)` is the text for a terminal.
"""

from core.jobspec.canonical import canonicalize
from core.jobspec.diagnostics import Diagnostic, JobFileError, Severity, SourceError
from core.jobspec.diff import diff_jobs
from core.jobspec.hcl.body import Attribute, Block, Body, parse_body
from core.jobspec.parse import FileReader, Parsed, parse_job
from core.jobspec.render import example_job
from core.jobspec.validate import error_text, validate, warnings_of

__all__ = [
    "Attribute",
    "Block",
    "Body",
    "Diagnostic",
    "FileReader",
    "JobFileError",
    "Parsed",
    "Severity",
    "SourceError",
    "canonicalize",
    "diff_jobs",
    "error_text",
    "example_job",
    "parse_body",
    "parse_job",
    "validate",
    "warnings_of",
]
