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
    skipped: dict[str, str] | None = None,
) -> Answer:
    """Return the answer with `SeraiVerdicts` added: one row per datacenter.

    Args:
        home: Datacenter that was chosen.
        reasons: Of those that refused.
        skipped: Why others were not asked.

    `DigestAgeMS` is how old the data behind the verdict is; None is our own, which is live.
    `Takes` says of each group how many instances fit there now, each group alone.
    """
    if answer.is_error or not isinstance(answer.body, dict | msgspec.Struct):
        return answer
    body = answer.body if isinstance(answer.body, dict) else msgspec.to_builtins(answer.body)
    rows = []
    for candidate in candidates:
        digest, age_us = candidate.site.digest, candidate.site.age_us
        refused = (reasons or {}).get(digest.datacenter_id)
        rows.append(
            {
                "Region": digest.region,
                "Datacenter": digest.datacenter,
                "DatacenterID": digest.datacenter_id,
                "Verdict": "refused" if refused else candidate.judgement.verdict.value,
                "Reason": refused
                or (skipped or {}).get(digest.datacenter_id)
                or candidate.judgement.reason,
                "Score": candidate.judgement.score,
                "DigestAgeMS": None if age_us is None else age_us // 1000,
                "Takes": {
                    group: {"AtLeast": one.at_least, "AtMost": one.at_most}
                    for group, one in candidate.judgement.takes.items()
                },
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
