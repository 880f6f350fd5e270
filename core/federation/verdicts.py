"""What datacenters said of a job, as rows of an answer."""

from typing import Any

import msgspec

from core.federation.choice import Candidate
from core.model.query import Answer


def with_verdicts(
    answer: Answer,
    candidates: list[Candidate],
    home: str,
    reasons: dict[str, str] | None = None,
) -> Answer:
    """Return the answer with `SeraiVerdicts` added: one row per datacenter.

    `DigestAgeMS` is how old the data behind the verdict is; our own is live, hence 0.
    """
    if answer.is_error or not isinstance(answer.body, dict | msgspec.Struct):
        return answer
    body = answer.body if isinstance(answer.body, dict) else msgspec.to_builtins(answer.body)
    rows = []
    for candidate in candidates:
        digest = candidate.site.digest
        refused = (reasons or {}).get(digest.datacenter_id)
        rows.append(
            {
                "Region": digest.region,
                "Datacenter": digest.datacenter,
                "DatacenterID": digest.datacenter_id,
                "Verdict": "refused" if refused else candidate.judgement.verdict.value,
                "Reason": refused or candidate.judgement.reason,
                "Score": candidate.judgement.score,
                "DigestAgeMS": (candidate.site.age_us or 0) // 1000,
                "Chosen": digest.datacenter_id == home,
            }
        )
    return msgspec.structs.replace(answer, body={**body, "SeraiVerdicts": rows})


def as_answer(body: Any) -> Answer:
    """Return the answer that another datacenter sent; what is none becomes an error."""
    if isinstance(body, Answer):
        return body
    try:
        return msgspec.convert(body, Answer)
    except msgspec.ValidationError as error:
        return Answer(status=500, error=f"the other datacenter's answer is not one: {error}")
