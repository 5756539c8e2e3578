"""The rows of the table `judgements`: every single call of a judge on the chosen and the rejected text of a published pair.

Two kinds of calls are left out, since they bear on texts that no pair holds: those that choose among several candidates, and those of the
judge check on a first revision that was not kept. So are all calls on pairs that the matching of lengths dropped.
"""

from typing import Any

from builder.judge.judge import Judge, Judgement, Verdict, published_verdict

Row = dict[str, Any]


def judgement_rows(judge: Judge, pair_id: str, verdict: Verdict, condition: str = "true") -> list[Row]:
    """One row a call of `verdict`, which is about (chosen, rejected) of the pair in this order.

    condition: whose profile the judge read: `true` (the pair's persona), `none` or `wrong`. `order` AB: the chosen text was shown first;
    BA: the rejected one; both: one score for the two. `probability` is that of the chosen text.
    """
    calls = verdict.judgements or (Judgement("both", verdict.verdict, None, verdict.reason),)
    return [
        {
            "pair_id": pair_id,
            "judge": judge.label,
            "condition": condition,
            "order": call.order,
            "verdict": published_verdict(call),
            "probability": call.probability,
            "reason": call.reason,
        }
        for call in calls
    ]
